"""trio's own suites for streams, run through the echo server.

What goes into the sending half of a connection comes out of its receiving half by way of the
server: so the two halves are a one-way stream, and two connections, crossed, a two-way one.
"""

import contextlib
import fcntl
import socket
import struct
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
from trio.testing import check_half_closeable_stream, check_one_way_stream

from echokit.net.handler import Ending
from echokit.testing import RunningServer
from tests.conformance.programs import DEADLINE

# From linux/sockios.h: how many bytes a socket holds that the peer has not acknowledged, and how
# many of them have not left. Where struct tcp_info has the peer's window.
_SIOCOUTQ, _SIOCOUTQNSD = 0x5411, 0x894B
_SEND_WINDOW = 228
# What trio.SocketStream sets.
_NOTSENT_LOWAT = 16384

on_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="whether a stream is clogged is seen by what Linux tells of it"
)
# Small chunks: once it cannot send, the server reads at most one more.
small_chunks = pytest.mark.echokit(chunk_size="4k")
in_pieces = pytest.mark.echokit(chunk_size="4k", segment="random", seed=7)


class _SendingHalf(trio.abc.SendStream):
    """What is sent to the server. Closing it is a half-close."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._stream = trio.SocketStream(sock)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        # Closing the descriptor would tell the server nothing while the other half has one, too.
        with contextlib.suppress(OSError):
            self._stream.socket.shutdown(socket.SHUT_WR)
        await self._stream.aclose()


class _ReceivingHalf(trio.abc.ReceiveStream):
    """What comes back from the server."""

    def __init__(self, sock: trio.socket.SocketType) -> None:
        self._stream = trio.SocketStream(sock)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        # TCP cannot say that one direction alone is read no more. With both ended, whoever still
        # sends is told at once, and the server by the reset that its next bytes meet.
        with contextlib.suppress(OSError):
            self._stream.socket.shutdown(socket.SHUT_RDWR)
        await self._stream.aclose()


_Streams = trio.StapledStream[_SendingHalf, _ReceivingHalf]


async def _halves(
    server: RunningServer, *, clogged: bool = False
) -> tuple[_SendingHalf, _ReceivingHalf]:
    """The halves of a connection."""
    with contextlib.ExitStack() as undo:
        family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
        sock = undo.enter_context(socket.socket(family))
        if clogged:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.connect((server.host, server.port))
        if clogged:
            _clog(sock, server)
        undo.pop_all()
    receiving = trio.socket.from_stdlib_socket(sock)
    return _SendingHalf(receiving.dup()), _ReceivingHalf(receiving)


async def _streams(server: RunningServer, *, clogged: bool = False) -> tuple[_Streams, _Streams]:
    """The ends of a two-way stream, whose directions are a connection each."""
    there, here = await _halves(server, clogged=clogged), await _halves(server, clogged=clogged)
    return trio.StapledStream(there[0], here[1]), trio.StapledStream(here[0], there[1])


def _clog(sock: socket.socket, server: RunningServer) -> None:
    """Send, and read nothing, until the server reads no more and the socket takes no more."""
    sock.setblocking(False)
    deadline = time.monotonic() + DEADLINE
    with socket.create_connection((server.host, server.port), timeout=DEADLINE) as other:
        reads = -1
        while not (_stuck(sock) and reads == _reads(sock, server)):
            assert time.monotonic() < deadline, "the server reads on although nobody reads from it"
            reads = _reads(sock, server)
            # In small segments, each of which is closed to what follows, so that the window is
            # used up and what is left waits in full.
            with contextlib.suppress(BlockingIOError):
                for _ in range(4096):
                    sock.send(bytes(2048), socket.MSG_EOR)
            # The server is one thread: when it has echoed this twice, it has met the other
            # connection, too, and read from it if it was going to.
            for _ in range(2):
                other.sendall(b"?")
                assert other.recv(1) == b"?"


def _reads(sock: socket.socket, server: RunningServer) -> int:
    """How often the server has read from this connection."""
    ours = sock.getsockname()
    return sum(len(end.messages) for end in server.connections if end.peer.sockaddr == ours)


def _stuck(sock: socket.socket) -> bool:
    """Whether the socket takes no more, and cannot before the server has read."""
    held, unsent = (
        struct.unpack("i", fcntl.ioctl(sock, what, bytes(4)))[0]
        for what in (_SIOCOUTQ, _SIOCOUTQNSD)
    )
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SEND_WINDOW + 4)
    window = struct.unpack_from("I", info, _SEND_WINDOW)[0]
    # Nothing is on its way whose arrival would make room; and with what little the window still
    # takes gone, more waits than trio's sockets let wait (TCP_NOTSENT_LOWAT).
    return bool(held == unsent > window + _NOTSENT_LOWAT)


def _passes(
    check: Callable[..., Awaitable[None]],
    make: Callable[..., object],
    server: RunningServer,
    *,
    clogged: bool = False,
) -> None:
    """Run one of trio's suites, if `clogged` with what it has for clogged streams, too.

    Afterwards every connection ends without anybody's help: cleanly, or by the client's reset.
    """
    maker = partial(make, server)

    async def checked() -> None:
        with trio.fail_after(2 * DEADLINE):
            await check(maker, partial(maker, clogged=True) if clogged else None)

    trio.run(checked)
    deadline = time.monotonic() + DEADLINE
    while any(record.end is None for record in server.connections):
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)
    endings = {record.end.ending for record in server.connections if record.end is not None}
    assert endings
    assert endings <= {Ending.CLEAN, Ending.RESET}


@small_chunks
def test_two_connections_are_a_half_closeable_stream(echokit_server: RunningServer) -> None:
    # It sends a mebibyte each way at once, and compares.
    _passes(check_half_closeable_stream, _streams, echokit_server)


@in_pieces
def test_the_halves_of_one_are_a_one_way_stream(echokit_server: RunningServer) -> None:
    _passes(check_one_way_stream, _halves, echokit_server)


@pytest.mark.slow
@in_pieces
def test_two_connections_are_a_half_closeable_stream_also_in_pieces(
    echokit_server: RunningServer,
) -> None:
    _passes(check_half_closeable_stream, _streams, echokit_server)


@pytest.mark.slow
@on_linux
@small_chunks
def test_what_is_clogged_waits_and_nothing_else_does(echokit_server: RunningServer) -> None:
    _passes(check_one_way_stream, _halves, echokit_server, clogged=True)


@pytest.mark.slow
@on_linux
@small_chunks
def test_what_is_clogged_both_ways_waits_and_nothing_else_does(
    echokit_server: RunningServer,
) -> None:
    _passes(check_half_closeable_stream, _streams, echokit_server, clogged=True)
