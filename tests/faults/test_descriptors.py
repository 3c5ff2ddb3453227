"""A server that may have no more than 64 descriptors meets 150 clients."""

import contextlib
import itertools
import select
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import pytest

from tests.cli.peers import receive
from tests.cli.processes import DEADLINE
from tests.faults.serving import Serving, cpu_seconds, descriptors, few_descriptors

# Each waits for seconds to pass.
pytestmark = pytest.mark.slow

CLIENTS = 150
FEW = few_descriptors(64)


@contextlib.contextmanager
def _crowd(server: Serving) -> Iterator[list[socket.socket]]:
    """Clients that have each sent a byte, more than the server can have at once."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(server.connect()) for _ in range(CLIENTS)]
        for sock in socks:
            sock.sendall(b"x")
        yield socks


def _answered(socks: Sequence[socket.socket], least: int, seconds: float) -> list[socket.socket]:
    """Those that get their byte back: `least` of them, or as many as do in the time."""
    got: list[socket.socket] = []
    deadline = time.monotonic() + seconds
    while len(got) < least and (left := deadline - time.monotonic()) > 0:
        for sock in select.select([sock for sock in socks if sock not in got], [], [], left)[0]:
            assert sock.recv(1) == b"x"
            got.append(sock)
    return got


def _others(socks: Sequence[socket.socket], some: Sequence[socket.socket]) -> list[socket.socket]:
    return [sock for sock in socks if sock not in some]


def _leave(socks: Sequence[socket.socket]) -> None:
    for sock in socks:
        sock.close()


def _echoes(sock: socket.socket) -> bool:
    sock.sendall(b"still there?")
    return receive(sock, 12) == b"still there?"


def test_by_default_it_pauses_before_it_is_out_of_descriptors(host: str) -> None:
    with Serving(host, under=FEW) as server, _crowd(server) as socks:
        # Of 64, half are kept back.
        served = _answered(socks, CLIENTS, 1.0)
        assert len(served) == 32
        assert descriptors(server.process.pid) < 64
        assert all(_echoes(sock) for sock in served)
        _leave(served[:30])
        later = _answered(_others(socks, served), 30, 1.0)
        assert len(later) == 30
        counters = server.counters()
        assert counters["accept_failures"] == 0
        assert counters["pauses"] >= 1
        assert (counters["accepted"], counters["open"]) == (62, 32)
        assert server.warnings[0] == "32 connections are open, as many as may be: others wait"
        _leave(socks)
        # Nobody in the queue was lost: each is served, though it has left by now.
        deadline = time.monotonic() + DEADLINE
        while (counters := server.counters())["accepted"] < CLIENTS or counters["open"]:
            assert time.monotonic() < deadline
        assert counters["accept_failures"] == 0
        done = server.end(signal.SIGTERM)
    assert (done.code, done.err) == (0, b"")


def test_out_of_descriptors_it_serves_those_it_has_and_the_rest_as_they_leave(host: str) -> None:
    began = time.monotonic()
    with (
        Serving(host, "--max-connections", "1000", under=FEW) as server,
        _crowd(server) as socks,
    ):
        warning = server.next("warning")
        assert warning["message"] == (
            "max_connections 1000 is more than this process may have descriptors for:"
            " room is for 32"
        )
        served = _answered(socks, CLIENTS, 1.0)
        assert 32 < len(served) < 64
        assert descriptors(server.process.pid) == 64
        # It does not spin.
        pid = server.process.pid
        wall, cpu = time.monotonic(), cpu_seconds(pid)
        time.sleep(2)
        assert cpu_seconds(pid) - cpu < 0.05 * (time.monotonic() - wall)
        assert all(_echoes(sock) for sock in served)
        _leave(served[:30])
        assert len(_answered(_others(socks, served), 30, 1.0)) == 30
        assert all(_echoes(sock) for sock in served[30:])
        _leave(socks)
        while (counters := server.counters())["accepted"] < CLIENTS or counters["open"]:
            assert time.monotonic() < began + DEADLINE
        assert counters["accept_failures"] >= 10
        assert counters["ended"]["clean"] + counters["ended"]["reset"] == CLIENTS
        # One line a second at most, with the system's own words.
        told = [text for text in server.warnings if "cannot accept" in text]
        assert all("too many open files, with " in text for text in told)
        assert 2 <= len(told) <= time.monotonic() - began + 1
        done = server.end(signal.SIGTERM)
    assert (done.code, done.err) == (0, b"")


def test_lines_about_the_shortage_are_a_second_apart(host: str) -> None:
    with (
        Serving(host, "--max-connections", "1000", under=FEW) as server,
        _crowd(server),
    ):
        lines: list[dict[str, Any]] = []
        while len(lines) < 3:
            line = server.next("warning")
            if "cannot accept" in line["message"]:
                lines.append(line)
        times = [datetime.fromisoformat(line["time"]).timestamp() for line in lines]
        # A line is written a little after it is let through, on a busy machine.
        assert all(later - earlier > 0.8 for earlier, later in itertools.pairwise(times))
        assert all(" more like this left out)" in line["message"] for line in lines[1:])


@pytest.mark.parametrize("limit", [(), ("--max-connections", "1000")], ids=["paused", "short"])
def test_sigterm_while_it_has_no_descriptor_left_ends_it_in_time(
    host: str, limit: tuple[str, ...]
) -> None:
    options = (*limit, "--drain-timeout", "3s")
    with Serving(host, *options, under=FEW) as server, _crowd(server) as socks:
        assert len(_answered(socks, 32, DEADLINE)) >= 32
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        done = server.end()
        assert time.monotonic() - began < 3.5
    assert (done.code, done.err) == (0, b"")
    assert b"Invalid file descriptor" not in done.out
