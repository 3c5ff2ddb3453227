"""A connection on real sockets, in a reactor that runs only when it is told to."""

import contextlib
import os
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

import pytest

from echokit.framing.base import Framing
from echokit.framing.raw import Raw
from echokit.net import connection as connections
from echokit.net import straight as straights
from echokit.net import stream
from echokit.net.connection import Connection
from echokit.net.handler import End
from echokit.net.reactor import Poller, Reactor
from echokit.net.segmented import open_connection
from echokit.net.straight import Straight
from echokit.net.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Echo", "Stage", "noise"]


class Echo:
    """Echoes what comes, finishes when the peer does, and notes what it is told."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.sent_all = 0
        self.eofs = 0
        self.ends: list[End] = []
        self.on_message: Callable[[Connection, bytes], None] = Connection.send
        self.on_eof: Callable[[Stream], None] = Stream.finish

    def message_received(self, connection: Connection, message: bytes) -> None:
        """Note it, and do with it what is wanted."""
        self.messages.append(message)
        self.on_message(connection, message)

    def all_sent(self, connection: Stream) -> None:
        """Count it."""
        assert not connection.sending
        self.sent_all += 1

    def eof_received(self, connection: Stream) -> None:
        """Count it, and do what is wanted."""
        self.eofs += 1
        self.on_eof(connection)

    def connection_ended(self, connection: Stream) -> None:
        """Note how."""
        assert connection.closed
        assert connection.end.ending is connection.ending
        self.ends.append(connection.end)


class Stage:
    """A connection in a reactor that runs only when it is told to, and its peer."""

    def __init__(
        self, family: socket.AddressFamily, host: str, poller: Poller | None = None
    ) -> None:
        self.reactor = Reactor(poller=poller)
        self.handler = Echo()
        with socket.socket(family) as listener:
            listener.bind((host, 0))
            listener.listen()
            self.peer = socket.socket(family)
            # Held small, so that little makes the other side wait.
            self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
            self.peer.connect(listener.getsockname())
            accepted, sockaddr = listener.accept()
        self.peer.setblocking(False)
        accepted.setblocking(False)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 << 10)
        self.fd = accepted.detach()
        self._sockaddr = sockaddr
        self._connection: Stream | None = None
        # How often something is sent, and how much each read asks for.
        self.sends = 0
        self.reads: set[int] = set()
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(connections, "write", self._write)
        self._patch.setattr(stream, "write", self._write)
        self._patch.setattr(straights, "write", self._write)
        self._patch.setattr(connections, "read", self._read)

    def _write(self, fd: int, data: bytes) -> int:
        self.sends += 1
        return os.write(fd, data)

    def _read(self, fd: int, size: int) -> bytes:
        self.reads.add(size)
        return os.read(fd, size)

    def connection(
        self, framing: Framing | None = None, chunk_size: int = 65536, **options: Any
    ) -> Connection:
        """Begin; to be called once."""
        self._connection = connection = open_connection(
            self.reactor,
            self.fd,
            self._sockaddr,
            framing or Raw(),
            chunk_size,
            self.handler,
            **options,
        )
        return connection

    def straight(self, chunk_size: int = 65536) -> Straight:
        """Begin with one whose chunks go straight back; to be called once."""
        self._connection = connection = Straight(
            self.reactor, self.fd, self._sockaddr, chunk_size, self.handler
        )
        return connection

    def echo(self, framing: Framing, chunk_size: int) -> Stream:
        """Begin with what a server echoes with where nobody is told of messages."""
        if framing.transparent:
            return self.straight(chunk_size)
        return self.connection(framing, chunk_size, echo=True)

    def turn(self, rounds: int = 4, wait: float = 0.0) -> None:
        """Let the reactor handle what is ready, or is within `wait`, and no more."""
        for _ in range(rounds):
            self.reactor.call_later(wait, self.reactor.stop)
            self.reactor.run()

    def read_to_end(self) -> bytes:
        """All that the peer gets, up to the FIN."""
        got = bytearray()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                data = self.peer.recv(65536)
            except BlockingIOError:
                self.turn(1, wait=0.001)
                continue
            if not data:
                return bytes(got)
            got += data
        pytest.fail(f"no end after {len(got)} bytes")

    def read_available(self) -> bytes:
        """What the peer has got so far."""
        got = bytearray()
        with contextlib.suppress(BlockingIOError):
            while data := self.peer.recv(65536):
                got += data
        return bytes(got)

    def reset(self) -> None:
        """Let the peer end with a RST."""
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.peer.close()

    @property
    def end(self) -> End:
        """How it ended: told once."""
        self.turn()
        [end] = self.handler.ends
        return end

    def close(self) -> None:
        """Give everything back."""
        self._patch.undo()
        if self._connection is None:
            os.close(self.fd)
        elif not self._connection.closed:
            self._connection.close()
        self.peer.close()
        self.reactor.close()


def noise(size: int) -> bytes:
    """`size` bytes of which no two places look alike, and none is a newline."""
    block = bytes(number for number in range(256) if number != 10)
    return (block * (size // len(block) + 1))[:size]
