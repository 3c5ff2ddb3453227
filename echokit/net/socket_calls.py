"""Calls on a connected socket that is known by its descriptor, as far as `os` has none that do."""

import array
import contextlib
import os
import socket
import struct
from collections.abc import Callable, Iterator

__all__ = ["close", "queued", "reset_at_close", "shut_down"]

# struct linger of socket(7): on, and for no time.
_NO_TIME = struct.pack("ii", 1, 0)


def _asker() -> Callable[[int], int]:
    """How many bytes are queued on a descriptor; 0 where the system does not tell."""
    try:
        import fcntl  # noqa: PLC0415 - not on every system
        import termios  # noqa: PLC0415 - the same
    except ImportError:
        return lambda _fd: 0
    request = getattr(termios, "TIOCOUTQ", None)
    if request is None:
        return lambda _fd: 0

    def ask(fd: int) -> int:
        found = array.array("i", [0])
        fcntl.ioctl(fd, request, found)
        return found[0]

    return ask


_ask = _asker()


def queued(fd: int) -> int:
    """The bytes that were sent and not acknowledged yet (SIOCOUTQ of tcp(7)).

    A peer whose window is full acknowledges as it reads. So this moves with every byte that it
    reads, long before the system asks for more to send: Linux does that only once a third of what
    it holds, which can be megabytes, has gone. 0 where the system does not tell.
    """
    try:
        return _ask(fd)
    except OSError:
        return 0


def close(fd: int) -> None:
    """Give the socket back."""
    try:  # noqa: SIM105 - suppress() would cost more than the call
        os.close(fd)
    except ConnectionResetError:
        # So say the BSDs where the peer has reset it. It is closed.
        pass


def shut_down(fd: int) -> None:
    """Send FIN: nothing more will be sent.

    Raises:
        OSError: The connection has been lost.
    """
    with _as_socket(fd) as sock:
        sock.shutdown(socket.SHUT_WR)


def reset_at_close(fd: int) -> None:
    """Let the close send RST, and drop what has not been acknowledged."""
    with _as_socket(fd) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_TIME)


@contextlib.contextmanager
def _as_socket(fd: int) -> Iterator[socket.socket]:
    """The socket as an object for a while; it stays open."""
    sock = socket.socket(fileno=fd)
    try:
        yield sock
    finally:
        sock.detach()
