"""Many peers that do not behave, beside one that does; and whether all is as before after them."""

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Self

import pytest

from tests.cli.peers import client, receive
from tests.cli.processes import DEADLINE, Running
from tests.faults.serving import descriptors, memory, quietly, until

pytestmark = pytest.mark.slow


class _Bystander:
    """A client that asks for an echo again and again, and notes how long each took.

    Attributes:
        took: Seconds, one a round.
    """

    def __init__(self, host: str, port: int, wire: bytes) -> None:
        self.took: list[float] = []
        self._wire = wire
        self._sock = client(host, port)
        self._over = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            while not self._over.wait(0.005):
                began = time.monotonic()
                self._sock.sendall(self._wire)
                assert receive(self._sock, len(self._wire)) == self._wire
                self.took.append(time.monotonic() - began)
        except Exception as error:  # noqa: BLE001 - raised where the block ends
            self._failure = error

    def p99(self) -> float:
        """As `p99_so_far`, of the next 300 rounds, however long a busy machine takes for them."""
        self.took.clear()
        until(lambda: len(self.took) >= 300 or self._failure is not None, 3 * DEADLINE)
        return self.p99_so_far()

    def p99_so_far(self) -> float:
        """What 99 of 100 rounds took at most, in most of the hundreds.

        What other processes of a busy machine hold up is in some of them; what the server does to
        everybody would be in all.
        """
        took = list(self.took)
        hundreds = [took[at : at + 100] for at in range(0, len(took) - 99, 100)]
        assert hundreds, f"only {len(took)} rounds"
        return median(sorted(hundred)[98] for hundred in hundreds)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        self._thread.join()
        self._sock.close()
        if self._failure is not None:
            raise self._failure


@contextlib.contextmanager
def _peers(host: str, port: int, number: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(client(host, port)) for _ in range(number)]


def _fill(socks: list[socket.socket]) -> None:
    """Send on each, until nothing more has gone on any for a while."""
    for sock in socks:
        sock.setblocking(False)
    data = bytes(256 << 10)
    last = time.monotonic()
    while time.monotonic() - last < 0.5:
        for sock in socks:
            with contextlib.suppress(BlockingIOError):
                while True:
                    sock.send(data)
                    last = time.monotonic()
        time.sleep(0.02)


def _line(server: Running, part: str) -> str:
    """The next line of its stderr that has this in it."""
    while part not in (line := server.err.line()):
        pass
    return line


def _counted(server: Running, wanted: Callable[[list[str]], bool]) -> list[str]:
    """What it says that it has counted, once that is as wanted."""
    deadline = time.monotonic() + 2 * DEADLINE
    while True:
        server.signal(signal.SIGUSR1)
        # Between them, and before, it may tell of single connections.
        lines = [_line(server, " accepted, "), _line(server, "echokit: ended: ")]
        if wanted(lines):
            return lines
        assert time.monotonic() < deadline, lines
        time.sleep(0.02)


@pytest.mark.parametrize("chunk_size", ["4k", "16k"])
def test_a_hundred_that_never_read_cost_little_memory_and_others_little_time(
    host: str, chunk_size: str
) -> None:
    options = ("--chunk-size", chunk_size, "--send-timeout", "5s")
    # A second server has none of them: what a busy machine does, it does to the clients of both.
    with quietly(host, *options) as (server, port), quietly(host, *options) as (_, other_port):
        with (
            _Bystander(host, port, bytes(64)) as other,
            _Bystander(host, other_port, bytes(64)) as elsewhere,
        ):
            before = memory(server.process.pid)
            with _peers(host, port, 100) as peers:
                began = time.monotonic()
                _fill(peers)
                grown = memory(server.process.pid) - before
                other.took.clear()
                alone = elsewhere.p99()
                beside = other.p99_so_far()
                later = memory(server.process.pid) - before
                lines = _counted(server, lambda lines: "100 send-timeout" in lines[1])
                took = time.monotonic() - began
        assert server.end(signal.SIGTERM).code == 0
    assert grown < 100 * (64 << 10)
    assert later < 100 * (64 << 10)
    # Nothing was owed to any before; that it is not much more is for `_counted` to see.
    assert took >= 5
    assert " 102 connections accepted, 1 open;" in lines[0]
    # Where it is a millisecond, a busy machine does fifty to one of the two now and then.
    assert beside < max(5 * alone, 0.05)


def test_five_hundred_that_trickle_are_gone_at_their_deadline_and_nobody_else(host: str) -> None:
    options = ("--framing", "length-prefixed", "--message-timeout", "2s", "--idle-timeout", "4s")
    wire = b"\0\0\0\4echo"
    with quietly(host, *options) as (server, port):
        with _Bystander(host, port, wire) as other:
            alone = other.p99()
            # 450 send a byte of a prefix now and then, 50 say nothing at all.
            with _peers(host, port, 500) as peers:
                began = time.monotonic()
                trickling, silent = peers[:450], peers[450:]
                other.took.clear()
                for at in (0.0, 0.7, 1.4):
                    time.sleep(max(0.0, began + at - time.monotonic()))
                    for sock in trickling:
                        sock.sendall(b"\0")
                for sock in trickling:
                    assert sock.recv(1) == b""
                assert 1.9 < time.monotonic() - began < 3
                for sock in silent:
                    assert sock.recv(1) == b""
                assert 3.9 < time.monotonic() - began < 5.5
                beside = other.p99_so_far()
            lines = _counted(server, lambda lines: " 1 open;" in lines[0])
        assert server.end(signal.SIGTERM).code == 0
    assert lines[1] == "echokit: ended: 450 message-timeout, 50 idle, 1 clean"
    assert beside < max(5 * alone, 0.05)


@pytest.mark.parametrize("framing", ["raw", "length-prefixed"])
def test_after_many_connections_memory_and_descriptors_are_where_they_began(
    host: str, framing: str
) -> None:
    wire = b"\0\0\0\4echo"
    options = ("--framing", framing, "--max-connections-per-peer", "1000")
    with quietly(host, *options) as (server, port):

        def rounds(number: int) -> None:
            for _ in range(number):
                with _peers(host, port, 100) as peers:
                    for sock in peers:
                        sock.sendall(wire)
                    assert all(receive(sock, 8) == wire for sock in peers)
            _counted(server, lambda lines: " 0 open;" in lines[0])

        # What it makes once, it has made then.
        rounds(5)
        base, before = descriptors(server.process.pid), memory(server.process.pid)
        rounds(30)
        until(lambda: descriptors(server.process.pid) == base)
        assert memory(server.process.pid) - before < 1 << 20
        lines = _counted(server, lambda _lines: True)
        assert server.end(signal.SIGTERM).code == 0
    assert " 3501 connections accepted, 0 open;" in lines[0]
    assert lines[1] == "echokit: ended: 3501 clean"
