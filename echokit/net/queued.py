"""What the system still holds of what a socket was given to send."""

import array
import socket
from collections.abc import Callable

__all__ = ["queued"]


def _asker() -> Callable[[int], int]:
    """How many bytes that is for a descriptor; 0 where the system does not tell."""
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


def queued(sock: socket.socket) -> int:
    """The bytes that were sent on `sock` and not acknowledged yet (SIOCOUTQ of tcp(7)).

    A peer whose window is full acknowledges as it reads. So this moves with every byte that it
    reads, long before the system asks for more to send: Linux does that only once a third of what
    it holds, which can be megabytes, has gone. 0 where the system does not tell.
    """
    try:
        return _ask(sock.fileno())
    except OSError:
        return 0
