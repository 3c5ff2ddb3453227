"""How a server of several processes ends: by signals, by a terminal, late, twice, and orphaned."""

import contextlib
import os
import pty
import signal
import socket
import sys
import time

import pytest

from tests.cli.peers import client, receive
from tests.cli.processes import Running
from tests.conftest import AVAILABLE
from tests.workers.exchange import Clients, Seen
from tests.workers.group import Group
from tests.workers.proc import eventually, who_serves

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are Linux's")

HOSTS = list(AVAILABLE.values())
HOST = HOSTS[0]
BULK = ("--chunk-size", "64k", "--drain-timeout", "8s")
both_signals = pytest.mark.parametrize(
    ("number", "host"), [(signal.SIGINT, HOSTS[0]), (signal.SIGTERM, HOSTS[-1])], ids=str
)
# A new session whose terminal is the stdin, and what follows in it.
_IN_TERMINAL = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    " os.execv(sys.argv[1], sys.argv[1:])"
)


def _served(host: str, port: int) -> socket.socket:
    """A client that has been echoed to."""
    sock = client(host, port)
    sock.sendall(b"x")
    assert receive(sock, 1) == b"x"
    return sock


def _owed(host: str, port: int) -> socket.socket:
    """A client that does not read, to whom as much is owed as the buffers of both sides take."""
    sock = client(host, port)
    sock.settimeout(0.3)
    with contextlib.suppress(TimeoutError):
        sock.sendall(bytes(256 << 20))
    return sock


@both_signals
def test_a_signal_lets_a_hundred_clients_finish(number: signal.Signals, host: str) -> None:
    size = 1 << 20
    with Group(host, 2, *BULK, quiet=True) as group:
        clients = Clients([(host, group.port)], 100, size=size)

        def half_way(seen: Seen) -> bool:
            if seen.bytes < 50 * size:
                return False
            os.kill(group.pid, number)
            return True

        seen = clients.run(half_way)
        assert (seen.wrong, dict(seen.faults)) == (0, {})
        assert seen.messages >= 100
        with pytest.raises(ConnectionRefusedError):
            client(host, group.port)
        done, _ = group.end()
    assert done.code == 0
    said = [line for line in done.told if not line.startswith("stopping: finishing ")]
    assert said == []


@pytest.mark.slow
@both_signals
def test_an_idle_client_is_ended_and_the_exit_code_is_0(number: signal.Signals, host: str) -> None:
    with Group(host, 2) as group, contextlib.ExitStack() as stack:
        held = [stack.enter_context(_served(host, group.port)) for _ in range(10)]
        os.kill(group.pid, number)
        for sock in held:
            assert sock.recv(1) == b""
            sock.close()
        done, events = group.end()
    assert (done.code, done.err) == (0, b"")
    assert events[-1]["ended"]["drained"] + events[-1]["ended"]["clean"] == 10


@pytest.mark.slow
@both_signals
def test_a_stuck_client_is_cut_at_the_deadline(number: signal.Signals, host: str) -> None:
    options = ("--chunk-size", "64k", "--drain-timeout", "400ms")
    with Group(host, 2, *options, quiet=True) as group, _owed(host, group.port) as sock:
        group.complete()
        began = time.monotonic()
        done, _ = group.end(number)
        took = time.monotonic() - began
        name = sock.getsockname()[1]
    assert done.code == 1
    assert 0.4 <= took < 1.4
    assert f":{name} cut: it had not ended when the server did" in done.told[-1]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_a_second_signal_cuts(number: signal.Signals, code: int) -> None:
    options = ("--chunk-size", "64k", "--drain-timeout", "1m")
    with Group(HOST, 2, *options, quiet=True) as group, _owed(HOST, group.port):
        os.kill(group.pid, number)
        assert group.running.err.line().startswith("echokit: stopping: finishing 1 connection")
        began = time.monotonic()
        done, _ = group.end(number)
        took = time.monotonic() - began
    assert done.code == code
    assert took < 1.0
    assert "cut: it had not ended when the server did" in done.complaint


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_a_signal_to_every_process_at_once_lets_clients_finish(number: signal.Signals) -> None:
    # What ends a group of processes, a container or a service, is sent to the workers, too.
    with Group(HOST, 2, *BULK, quiet=True, under=("setsid",)) as group:
        clients = Clients([(HOST, group.port)], 50, size=1 << 20)

        def half_way(seen: Seen) -> bool:
            if seen.bytes < 25 << 20:
                return False
            assert os.getpgid(group.pid) == group.pid
            os.killpg(group.pid, number)
            return True

        seen = clients.run(half_way)
        assert (seen.wrong, dict(seen.faults)) == (0, {})
        assert group.end()[0].code == 0


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_lets_clients_finish_and_the_second_one_cuts() -> None:
    options = ("--chunk-size", "64k", "--drain-timeout", "1m")
    keyboard, terminal = pty.openpty()
    try:
        under = (sys.executable, "-c", _IN_TERMINAL)
        with (
            Group(HOST, 2, *options, quiet=True, under=under, stdin=terminal) as group,
            _owed(HOST, group.port) as sock,
            _served(HOST, group.port) as idle,
        ):
            os.write(keyboard, b"\x03")
            assert group.running.err.line().startswith("echokit: stopping: finishing ")
            assert idle.recv(1) == b""
            # What is owed is not cut, though every process has got the signal: it comes.
            sock.settimeout(10)
            assert receive(sock, 4 << 20) == bytes(4 << 20)
            assert group.running.process.poll() is None
            os.write(keyboard, b"\x03")
            done, _ = group.end()
    finally:
        os.close(keyboard)
        os.close(terminal)
    assert done.code == 130
    assert "cut: it had not ended when the server did" in done.told[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_a_signal_while_the_workers_start_ends_it_well(number: signal.Signals) -> None:
    with Running("serve", "--host", HOST, "--port", "0", "--workers", "8") as server:
        server.line()
        done = server.end(number)
    assert (done.code, done.told) == (0, [])
    assert done.lines in ([], ["waiting for a connection"])


@pytest.mark.slow
def test_a_worker_that_is_told_to_end_by_itself_lets_its_clients_finish() -> None:
    with Group(HOST, 2) as group, _served(HOST, group.port) as sock:
        worker = who_serves([sock], group.workers)[sock]
        os.kill(worker, signal.SIGTERM)
        # Twice, even: only its parent cuts.
        os.kill(worker, signal.SIGTERM)
        assert sock.recv(1) == b""
        sock.close()
        warning = group.event("warning")["message"]
        assert f"(pid {worker}) ended with code 0; it last told of 0 connections" in warning
        group.complete(without=[worker])
        assert group.end(signal.SIGTERM)[0].code == 0


def test_a_worker_that_dies_while_it_finishes_costs_its_clients_only() -> None:
    options = ("--chunk-size", "64k", "--drain-timeout", "1m")
    with Group(HOST, 2, *options, quiet=True) as group, _owed(HOST, group.port) as sock:
        worker = who_serves([sock], group.workers)[sock]
        # Its parent knows of what it holds by now.
        os.kill(group.pid, signal.SIGUSR1)
        assert "1 open" in group.running.err.line()
        os.kill(group.pid, signal.SIGTERM)
        assert group.running.err.line().startswith("echokit: stopping: finishing 1 connection")
        os.kill(worker, signal.SIGKILL)
        done, _ = group.end()
    # No other is started, nothing is waited for, and what was lost is not passed over.
    assert (done.code, done.told) == (1, [])


def test_who_waits_for_the_successor_of_a_dead_worker_is_served_before_the_end() -> None:
    with Group(HOST, 2) as group, contextlib.ExitStack() as stack:
        first = group.workers[0]
        os.kill(first, signal.SIGKILL)
        second = group.complete(without=[first])[-1]
        # The second that dies so young is not replaced for half a second.
        os.kill(second, signal.SIGKILL)
        eventually(lambda: second not in group.workers)
        waiting = [stack.enter_context(client(HOST, group.port)) for _ in range(40)]
        for sock in waiting:
            sock.sendall(b"waited")
        os.kill(group.pid, signal.SIGTERM)
        assert [receive(sock, 6) for sock in waiting] == [b"waited"] * 40
        stack.close()
        done, _ = group.end()
    assert done.code == 0


@pytest.mark.slow
def test_a_worker_that_does_not_stop_is_ended_and_the_others_finish() -> None:
    with Group(HOST, 2, "--drain-timeout", "200ms") as group, _served(HOST, group.port) as sock:
        worker = who_serves([sock], group.workers)[sock]
        assert group.counters()["open"] == 1
        os.kill(worker, signal.SIGSTOP)
        began = time.monotonic()
        done, events = group.end(signal.SIGTERM)
        took = time.monotonic() - began
    assert done.code == 1
    assert took < 0.2 + 2 + 1
    assert events[-1]["ended"]["cut"] == 1
