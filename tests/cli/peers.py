"""What stands at the other end of a command: servers that misbehave, and a plain client."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

from echokit import Address
from tests.cli.processes import DEADLINE

__all__ = ["client", "name_of", "receive", "reserved_port", "reset", "serving_once"]


def receive(sock: socket.socket, size: int) -> bytes:
    """The next `size` bytes, or fewer where the stream ends."""
    data = b""
    while len(data) < size and (more := sock.recv(size - len(data))):
        data += more
    return data


def reset(sock: socket.socket) -> None:
    """Close so that the peer gets a reset and no FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@contextlib.contextmanager
def serving_once(host: str, answer: Callable[[socket.socket], object]) -> Iterator[int]:
    """A server on a free port that gives its one connection to `answer`; yields the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        listener.settimeout(DEADLINE)

        def serve() -> None:
            with contextlib.suppress(OSError):
                sock, _ = listener.accept()
                with sock:
                    sock.settimeout(DEADLINE)
                    answer(sock)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join()


@contextlib.contextmanager
def reserved_port(host: str) -> Iterator[int]:
    """A port on which nobody listens, and which nobody else is given meanwhile."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as sock:
        # A server that sets it too, as ours does, may still listen there.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, 0))
        yield sock.getsockname()[1]


def client(host: str, port: int) -> socket.socket:
    """A connected socket that does not wait for ever."""
    return socket.create_connection((host, port), timeout=DEADLINE)


def name_of(sock: socket.socket) -> str:
    """How its peer names `sock`."""
    return str(Address(sock.family, sock.getsockname()))
