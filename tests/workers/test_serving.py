"""Several processes that serve one port: who serves whom, what they count, what they hold."""

import contextlib
import json
import os
import signal
import socket
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.cli.peers import client, receive, reset
from tests.cli.processes import COMMAND, Running, run
from tests.conftest import AVAILABLE
from tests.workers.group import Group
from tests.workers.proc import (
    children,
    descriptors,
    eventually,
    listening_port,
    sockets,
    state,
    who_serves,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are Linux's")

HOST = next(iter(AVAILABLE.values()))


def _echo(sock: socket.socket, data: bytes = b"hello") -> None:
    sock.sendall(data)
    assert receive(sock, len(data)) == data


def _held(host: str, port: int, count: int, stack: contextlib.ExitStack) -> list[socket.socket]:
    """So many connections, each of which is served."""
    held = [stack.enter_context(client(host, port)) for _ in range(count)]
    for sock in held:
        _echo(sock)
    return held


def test_connections_are_spread_over_the_workers(host: str) -> None:
    with Group(host, 4, quiet=True) as group, contextlib.ExitStack() as stack:
        before = {pid: len(sockets(pid)) for pid in group.workers}
        _held(host, group.port, 1000, stack)
        served = [len(sockets(pid)) - before[pid] for pid in group.workers]
        assert sum(served) == 1000
        assert max(served) <= 1.5 * 250


def test_both_families_are_spread_together() -> None:
    if len(AVAILABLE) == 1:
        pytest.skip("this host has one family")
    with Group("*", 2, quiet=True) as group, contextlib.ExitStack() as stack:
        for host in AVAILABLE.values():
            before = {pid: len(sockets(pid)) for pid in group.workers}
            _held(host, group.port, 200, stack)
            served = [len(sockets(pid)) - before[pid] for pid in group.workers]
            assert sum(served) == 200
            assert max(served) <= 1.5 * 100


def test_the_counters_are_sums(host: str) -> None:
    with Group(host, 2) as group, contextlib.ExitStack() as stack:
        held = _held(host, group.port, 40, stack)
        assert {*who_serves(held, group.workers).values()} == {*group.workers}
        counters = group.counters()
        assert (counters["accepted"], counters["open"]) == (40, 40)
        assert (counters["messages"], counters["bytes_in"], counters["bytes_out"]) == (
            40, 200, 200,
        )  # fmt: skip
        reset(held.pop())
        _echo(held[0], b"more")
        eventually(lambda: group.counters()["ended"]["reset"] == 1)
        assert group.counters()["bytes_out"] == 204
        for sock in held:
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(1) == b""
        done, events = group.end(signal.SIGTERM)
    assert (done.code, done.err) == (0, b"")
    ended = events[-1]["ended"]
    assert (events[-1]["accepted"], ended["clean"], ended["reset"]) == (40, 39, 1)


def test_each_that_asks_for_the_counters_is_told() -> None:
    with Group(HOST, 2) as group:
        for number in range(1, 30):
            with client(HOST, group.port) as sock:
                _echo(sock)
                # Sums as they are now, not as they were when somebody last asked.
                assert group.counters()["messages"] == number
        assert group.end(signal.SIGTERM)[0].code == 0


def test_the_transcript_begins_as_ever_and_its_end_has_the_sums(host: str) -> None:
    args = ("--host", host, "--port", "0", "--workers", "2", "--chunk-size", "16")
    with Running("serve", *args) as server:
        port = server.port()
        assert server.line() == "waiting for a connection"
        for _ in range(3):
            with client(host, port) as sock:
                name = sock.getsockname()[:2]
                _echo(sock, b"This is the message.  It will be repeated.")
                assert server.lines(7) == [
                    f"connection from {name}",
                    'received "This is the mess"',
                    "sending data back to the client",
                    'received "age.  It will be"',
                    "sending data back to the client",
                    'received " repeated."',
                    "sending data back to the client",
                ]
            assert server.lines(2) == ['received ""', f"no more data from {name}"]
        done = server.end(signal.SIGINT)
    assert (done.code, done.told, done.lines) == (0, [], [])
    assert done.counted == [
        "3 connections accepted, 0 open; 9 messages, 126 bytes in, 126 bytes out",
        "ended: 3 clean",
    ]


@pytest.mark.slow
def test_a_worker_holds_nothing_of_its_brothers(host: str) -> None:
    with Group(host, 3) as group:
        # One that answers has done what belongs to a start.
        group.counters()
        base = len(descriptors(group.pid))

        def apart() -> bool:
            mine = sockets(group.pid)
            held = [sockets(pid) for pid in group.workers]
            kinds = [list(descriptors(pid).values()) for pid in group.workers]
            return (
                # A worker's listener; what else it has, its parent has not: not even the other
                # end of its channel. And none has what another has.
                [len(found & mine) for found in held] == [1, 1, 1]
                and len(set().union(*held)) == sum(map(len, held))
                and [kind.count("anon_inode:[eventpoll]") for kind in kinds] == [1, 1, 1]
            )

        # One that has just begun has still all that its parent has.
        eventually(apart)
        for _ in range(2):
            # The same of one that came later.
            killed = group.workers[1]
            os.kill(killed, signal.SIGKILL)
            group.complete(without=[killed])
            group.event("warning")
            eventually(apart)
        eventually(lambda: len(descriptors(group.pid)) == base)
        assert [state(pid) for pid in group.workers].count("Z") == 0


def test_descriptors_are_given_back(host: str) -> None:
    with Group(host, 2) as group:
        pids = [group.pid, *group.workers]
        with client(host, group.port) as sock:
            _echo(sock)
        eventually(lambda: group.counters()["open"] == 0)
        base = [len(descriptors(pid)) for pid in pids]
        with contextlib.ExitStack() as stack:
            _held(host, group.port, 100, stack)
        eventually(lambda: group.counters()["open"] == 0)
        assert [len(descriptors(pid)) for pid in pids] == base


def test_0_is_as_many_as_cores() -> None:
    cores = len(os.sched_getaffinity(0))
    with Running("serve", "--host", HOST, "--port", "0", "--workers", "0") as server:
        server.line()
        expected = cores if cores > 1 else 0
        eventually(lambda: len(children(server.process.pid)) == expected)
        assert server.end(signal.SIGTERM).code == 0


def test_one_worker_is_the_server_itself() -> None:
    with Group(HOST, 1) as group, client(HOST, group.port) as sock:
        _echo(sock)
        assert children(group.pid) == []


def test_max_connections_is_divided(host: str) -> None:
    with Group(host, 2, "--max-connections", "5") as group, contextlib.ExitStack() as stack:
        before = {pid: len(sockets(pid)) for pid in group.workers}

        def served() -> list[int]:
            return sorted(len(sockets(pid)) - before[pid] for pid in before)

        # So many that each has more than its share wait for it.
        waiting = [stack.enter_context(client(host, group.port)) for _ in range(40)]
        eventually(lambda: served() == [2, 3])
        inside = list(who_serves(waiting, group.workers))
        assert len(inside) == 5
        # Those that wait come in as others leave.
        for sock in inside:
            _echo(sock)
            waiting.remove(sock)
            sock.close()
        eventually(lambda: group.counters()["accepted"] == 10)
        assert served() == [2, 3]


def test_there_are_no_more_workers_than_connections() -> None:
    args = ("--host", HOST, "--port", "0", "--workers", "4", "--max-connections", "1")
    with Running("serve", *args, "--output", "json") as server:
        port = json.loads(server.line())["port"]
        with client(HOST, port) as sock, client(HOST, port) as other:
            _echo(sock)
            assert children(server.process.pid) == []
            other.sendall(b"x")
            other.settimeout(0.1)
            with pytest.raises(TimeoutError):
                other.recv(1)


@pytest.mark.slow
def test_limits_hold_in_each_worker(host: str) -> None:
    limits = ("--idle-timeout", "200ms", "--framing", "length-prefixed")
    with Group(host, 2, *limits) as group, contextlib.ExitStack() as stack:
        idle = [stack.enter_context(client(host, group.port)) for _ in range(20)]
        for sock in idle:
            assert sock.recv(1) == b""
        large = [stack.enter_context(client(host, group.port)) for _ in range(20)]
        for sock in large:
            sock.sendall(b"\xff\xff\xff\xff")
        for sock in large:
            assert sock.recv(1) == b""
        done, events = group.end(signal.SIGTERM)
    assert (done.code, done.err) == (0, b"")
    assert (events[-1]["ended"]["idle"], events[-1]["ended"]["too-large"]) == (20, 20)


def test_refusals_are_summed(host: str) -> None:
    with Group(host, 2, "--deny", host) as group, contextlib.ExitStack() as stack:
        for _ in range(20):
            sock = stack.enter_context(client(host, group.port))
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(1) == b""
        assert group.end(signal.SIGTERM)[1][-1]["refused"]["denied"] == 20


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("-1", "greater than or equal to 0"),
        ("1025", "less than or equal to 1024"),
        ("many", "whole number"),
        ("1.5", "whole number"),
    ],
)
def test_a_number_of_workers_that_cannot_be_is_told(value: str, found: str) -> None:
    done = run("serve", "--port", "0", f"--workers={value}")
    assert (done.code, done.out) == (2, b"")
    assert done.complaint.startswith("--workers: ")
    assert found in done.complaint


def test_when_nobody_reads_its_stdout_any_more_it_ends_without_a_word() -> None:
    with Running("serve", "--host", HOST, "--port", "0", "--workers", "2") as server:
        port = server.port()
        assert server.line() == "waiting for a connection"
        eventually(lambda: len(children(server.process.pid)) == 2)
        workers = children(server.process.pid)
        server.out.pipe.close()
        with client(HOST, port) as sock:
            assert sock.recv(1) == b""
        done = server.process.wait(10)
        assert done == 141
        assert server.err.pipe.read() == b""
    eventually(lambda: not any(state(pid) for pid in workers))
    assert Counter(state(pid) for pid in workers) == {"": 2}


def _read_until_quiet(sock: socket.socket, seconds: float) -> None:
    """Read until nothing has come for so long, which is a TimeoutError."""
    sock.settimeout(seconds)
    while sock.recv(65536):
        pass


@pytest.mark.slow
def test_a_stdout_that_is_read_later_costs_nobody_anything() -> None:
    # Longer than a worker may be silent, and more than a pipe holds.
    pause, much = 8.0, bytes(40_000)
    with Group(HOST, 2, "--chunk-size", "16") as group, client(HOST, group.port) as sock:
        workers = group.workers
        sock.sendall(much)
        # The worker waits amid its words, and nothing happens to its client.
        with pytest.raises(TimeoutError):
            _read_until_quiet(sock, pause)
        assert group.workers == workers
        done, events = group.end(signal.SIGTERM)
    assert done.code == 0
    assert events[-1]["bytes_out"] == len(much)


def test_when_its_stdout_takes_no_more_it_is_one_line_and_the_end() -> None:
    # As with one process: another worker could not tell, either.
    shell = ("sh", "-c", 'exec "$@" >/dev/full', "sh", *COMMAND)
    with Running("serve", "--host", HOST, "--port", "0", "--workers", "2", command=shell) as server:
        done = server.end()
    assert (done.code, done.complaint) == (1, "cannot write to stdout: no space left on device")


def test_when_its_stdout_takes_no_more_later_it_is_one_line_and_the_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    shell = ("sh", "-c", 'ulimit -f 1; exec "$@" >>"$0"', str(log), *COMMAND)
    with Running("serve", "--host", HOST, "--port", "0", "--workers", "2", command=shell) as server:
        eventually(lambda: log.exists() and b"waiting" in log.read_bytes())
        # It may end before it has read all of this.
        port = listening_port(server.process.pid)
        with client(HOST, port) as sock, contextlib.suppress(ConnectionResetError):
            sock.sendall(bytes(4096))
            while sock.recv(4096):
                pass
        done = server.end()
    assert (done.code, done.complaint) == (1, "cannot write to stdout: file too large")
