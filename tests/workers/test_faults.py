"""What happens to workers, and to their parent: killed, stopped, stuck, never well started."""

import contextlib
import os
import re
import resource
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from tests.cli.peers import client, receive
from tests.cli.processes import Running, start
from tests.conftest import AVAILABLE
from tests.workers.exchange import Clients, Seen
from tests.workers.group import Group, install_framing
from tests.workers.proc import descriptors, eventually, is_gone, sockets, state, who_serves

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are Linux's")

HOST = next(iter(AVAILABLE.values()))
# Of a worker that ends by itself a plugin is the likeliest reason: this one does what a message
# says.
ODD = """\
import os, socket, subprocess, sys, time
from typing import Literal
from echokit.framing.base import Framing
from echokit.framing.delimited import Delimited

def channel():
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            with socket.socket(fileno=os.dup(fd)) as sock:
                if sock.type == socket.SOCK_SEQPACKET:
                    return fd
        except OSError:
            pass

class Odd(Delimited):
    type: Literal["odd"] = "odd"

    def encode(self, message):
        if message == b"exit":
            os._exit(7)
        if message == b"leave":
            raise SystemExit(7)
        if message == b"hang up":
            # The channel is closed, and the process lives.
            os.close(channel())
            time.sleep(60)
        if message == b"leave a child":
            # One that has all descriptors of the worker, and outlives it.
            if not os.fork():
                time.sleep(3)
                os._exit(0)
            os._exit(7)
        if message == b"block":
            time.sleep(8)
        return super().encode(message)
"""


def _served(host: str, port: int, data: bytes = b"x") -> socket.socket:
    sock = client(host, port)
    sock.sendall(data)
    assert receive(sock, len(data)) == data
    return sock


def _lose(sock: socket.socket) -> None:
    """See the connection end, by a reset or by the system's FIN."""
    with sock, contextlib.suppress(ConnectionResetError):
        assert sock.recv(1) == b""


def _let_pass(seconds: float) -> None:
    """Where what is claimed is that nothing happens for so long."""
    began = time.monotonic()
    eventually(lambda: time.monotonic() - began > seconds)


# A worker is killed.


@pytest.mark.slow
def test_a_killed_worker_costs_what_it_held_and_another_takes_its_place(host: str) -> None:
    with Group(host, 3) as group, contextlib.ExitStack() as stack:
        held = [stack.enter_context(_served(host, group.port)) for _ in range(60)]
        at = who_serves(held, group.workers)
        killed = group.workers[1]
        lost = [sock for sock in held if at[sock] == killed]
        assert 0 < len(lost) < 60
        # What the parent was told last is what it can tell of it.
        assert group.counters()["open"] == 60
        others = [pid for pid in group.workers if pid != killed]
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: len(group.workers) == 3 and killed not in group.workers, within=1.0)
        some = "1 connection" if len(lost) == 1 else f"{len(lost)} connections"
        assert group.event("warning")["message"] == (
            f"worker 2 (pid {killed}) was ended by SIGKILL; it last told of {some};"
            " another takes its place"
        )
        for sock in held:
            if sock in lost:
                _lose(sock)
            else:
                sock.sendall(b"still here")
                assert receive(sock, 10) == b"still here"
        assert set(others) < set(group.complete(without=[killed]))
        done, events = group.end(signal.SIGTERM)
    # Logged once. The counters are sums still, and know of those that were lost.
    assert (done.code, [event for event in events if event["event"] == "warning"]) == (0, [])
    assert events[-1]["accepted"] == 60
    assert events[-1]["ended"]["cut"] == len(lost)


@pytest.mark.slow
def test_connections_that_wait_while_a_worker_dies_are_served_by_the_next(host: str) -> None:
    with Group(host, 2, quiet=True) as group, contextlib.ExitStack() as stack:
        # Stopped, they accept nothing: everything waits in their queues.
        workers = group.workers
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        eventually(lambda: [state(pid) for pid in workers] == ["T", "T"])
        queued = [stack.enter_context(client(host, group.port)) for _ in range(200)]
        for number, sock in enumerate(queued):
            sock.sendall(b"%06d" % number)
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        # Not one of them was reset.
        for number, sock in enumerate(queued):
            assert receive(sock, 6) == b"%06d" % number
        assert set(group.complete()).isdisjoint(workers)
        assert group.end(signal.SIGTERM)[0].code == 0


@pytest.mark.slow
def test_a_worker_is_killed_in_a_storm_of_connections(host: str) -> None:
    with (
        Group(host, 4, "--chunk-size", "64k", quiet=True) as group,
        contextlib.ExitStack() as stack,
    ):
        killed = group.workers[2]
        base = len(sockets(killed))
        held = 0
        queued: list[socket.socket] = []
        # A hundred at once, each for a few messages, and then another.
        clients = Clients([(host, group.port)], 100, size=4000, lives=3)

        def storm(seen: Seen) -> bool:
            nonlocal held
            if not queued and seen.connections >= 300:
                # Stopped, it holds what it holds, and its queue fills.
                os.kill(killed, signal.SIGSTOP)
                eventually(lambda: state(killed) == "T")
                queued.extend(stack.enter_context(client(host, group.port)) for _ in range(200))
                held = len(sockets(killed)) - base
                os.kill(killed, signal.SIGKILL)
                eventually(
                    lambda: len(group.workers) == 4 and killed not in group.workers, within=1.0
                )
            return bool(queued) and seen.connections >= 1000

        seen = clients.run(storm)
        assert seen.wrong == 0
        assert 0 < sum(seen.faults.values()) <= held
        for sock in queued:
            sock.sendall(b"in the end")
            assert receive(sock, 10) == b"in the end"
        done, _ = group.end(signal.SIGTERM)
    assert done.code == 0
    assert len([line for line in done.told if f"(pid {killed}) was ended by SIGKILL" in line]) == 1


def test_a_signal_without_a_name_is_told_by_its_number() -> None:
    with Group(HOST, 2) as group:
        killed = group.workers[0]
        os.kill(killed, signal.SIGRTMIN + 5)
        warning = group.event("warning")["message"]
        assert f"worker 1 (pid {killed}) was ended by signal {signal.SIGRTMIN + 5};" in warning
        group.complete(without=[killed])
        assert group.end(signal.SIGTERM)[0].code == 0


def test_a_parent_that_was_told_to_ignore_its_children_hears_of_them_all_the_same() -> None:
    ignoring = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN);"
    under = (sys.executable, "-c", f"{ignoring} os.execv(sys.argv[1], sys.argv[1:])")
    with Group(HOST, 2, under=under) as group:
        killed = group.workers[0]
        os.kill(killed, signal.SIGKILL)
        assert "was ended by SIGKILL" in group.event("warning")["message"]
        group.complete(without=[killed])
        assert group.end(signal.SIGTERM)[0].code == 0


@pytest.mark.slow
def test_a_worker_that_cannot_be_started_is_tried_again() -> None:
    with Group(HOST, 2) as group:
        killed = group.workers[0]
        before = resource.prlimit(group.pid, resource.RLIMIT_NOFILE)
        # The channel that it gives back, and not one more: a new one has two ends.
        few = max(descriptors(group.pid)) + 1
        resource.prlimit(group.pid, resource.RLIMIT_NOFILE, (few, before[1]))
        os.kill(killed, signal.SIGKILL)
        assert "was ended by SIGKILL" in group.event("warning")["message"]
        for _ in range(2):
            assert group.event("warning")["message"] == (
                "cannot start worker 1: too many open files;"
                " what comes to it waits, and it is tried again"
            )
        resource.prlimit(group.pid, resource.RLIMIT_NOFILE, before)
        group.complete(without=[killed])
        assert group.end(signal.SIGTERM)[0].code == 0


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_device_under_stderr_keeps_no_worker_from_being_replaced() -> None:
    # As it begins on every address it says so, which its stderr keeps to be written.
    under = ("sh", "-c", 'exec "$@" 2>/dev/full', "sh")
    with Group("*", 2, quiet=True, under=under) as group:
        for killed in group.workers:
            os.kill(killed, signal.SIGKILL)
            group.complete(without=[killed])
        assert group.end(signal.SIGTERM)[0].code == 0


# A worker ends by itself.


@pytest.mark.parametrize(
    ("message", "how"),
    [
        (b"exit", "ended with code 7"),
        pytest.param(b"leave", "ended with code 1", marks=pytest.mark.slow),
        pytest.param(b"hang up", "was ended by SIGKILL", marks=pytest.mark.slow),
        pytest.param(b"leave a child", "ended with code 7", marks=pytest.mark.slow),
    ],
)
def test_a_worker_that_a_plugin_ends_is_replaced(message: bytes, how: str, tmp_path: Path) -> None:
    env = install_framing(tmp_path, ODD)
    with Group(HOST, 2, env=env) as group:
        with client(HOST, group.port) as sock:
            before = group.workers
            sock.sendall(b"well\n")
            assert receive(sock, 5) == b"well\n"
            worker = who_serves([sock], before)[sock]
            sock.sendall(message + b"\n")
            assert f"(pid {worker}) {how}; " in group.event("warning")["message"]
            group.complete(without=[worker])
        _served(HOST, group.port, b"and on\n").close()
        done, _ = group.end(signal.SIGTERM)
    assert done.code == 0


# They end as soon as they have started.

_AT_THE_START = """\
import os, signal
from typing import Literal
from echokit.framing.delimited import Delimited

PARENT = os.getpid()

class Odd(Delimited):
    type: Literal["odd"] = "odd"

    def limited(self, limit):
        if os.getpid() != PARENT:
            {what}
        return self
"""


# A busy machine may take longer than the second after which a worker has started well.
_SOON_IS_A_MINUTE = (
    *(sys.executable, "-W", "error", "-c"),
    "import echokit.cli, echokit.workers; echokit.workers.AT_ONCE = 60.0; echokit.cli.main()",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "how"),
    [
        ("raise RuntimeError('no such\\x1b device: ' + 90_000 * 'x')",
         r"failed: RuntimeError: no such\\x1b device: x{360,370}"),
        ("os._exit(9)", "ended with code 9"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was ended by SIGSEGV"),
    ],
    ids=["error", "exit", "signal"],
)  # fmt: skip
def test_workers_that_cannot_start_end_the_server_with_the_cause(
    what: str, how: str, tmp_path: Path
) -> None:
    env = install_framing(tmp_path, _AT_THE_START.format(what=what))
    config = tmp_path / "limited.yaml"
    config.write_text("server: {limits: {max_message: 100}}\n")
    args = ("serve", "--config", str(config), "--host", HOST, "--port", "0", "--workers", "2")
    # By itself, before `start` loses its patience.
    done = start(*args, "--output", "quiet", env=env, command=_SOON_IS_A_MINUTE)
    assert done.code == 3
    *before, last = done.told
    assert re.fullmatch(
        rf"worker [12] \(pid \d+\) {how} as soon as it had started, like those before it:"
        " the server ends",
        last,
    ), last
    assert len(before) == 3
    assert all(
        re.fullmatch(rf"worker [12] \(pid \d+\) {how}; it last told of 0 connections; .*", line)
        for line in before
    )


@pytest.mark.slow
def test_workers_that_were_killed_young_long_ago_do_not_count() -> None:
    with Group(HOST, 2, quiet=True) as group:
        # Four times two would be too many, were there not a while in between.
        for _ in range(2):
            for _ in range(2):
                killed = group.workers[0]
                os.kill(killed, signal.SIGKILL)
                group.complete(without=[killed])
            _let_pass(2.2)
        done, _ = group.end(signal.SIGTERM)
    assert done.code == 0
    assert len([line for line in done.told if "SIGKILL" in line]) == 4


# A worker is stopped, or stuck.


@pytest.mark.slow
def test_a_stopped_worker_is_replaced_and_the_others_serve(host: str) -> None:
    with Group(host, 2, quiet=True) as group, contextlib.ExitStack() as stack:
        held = [stack.enter_context(_served(host, group.port)) for _ in range(20)]
        stopped, well = group.workers
        at = who_serves(held, group.workers)
        os.kill(stopped, signal.SIGSTOP)
        began = time.monotonic()
        # New ones come to it, too, and wait.
        waiting = [stack.enter_context(client(host, group.port)) for _ in range(20)]
        for sock in waiting:
            sock.sendall(b"waited")
        while stopped in group.workers:
            for sock in held:
                if at[sock] == well:
                    sock.sendall(b"on")
                    assert receive(sock, 2) == b"on"
        assert 4 < time.monotonic() - began < 8
        for sock in waiting:
            assert receive(sock, 6) == b"waited"
        group.complete(without=[stopped])
        done, _ = group.end(signal.SIGTERM)
    assert done.code == 0
    first, second = [line for line in done.told if f"(pid {stopped})" in line]
    assert first == f"worker 1 (pid {stopped}) has not answered for 5s: it is ended"
    assert second.startswith(f"worker 1 (pid {stopped}) was ended by SIGKILL; ")


@pytest.mark.slow
def test_a_worker_that_a_plugin_blocks_is_replaced_and_the_others_serve(tmp_path: Path) -> None:
    env = install_framing(tmp_path, ODD)
    with Group(HOST, 2, env=env) as group, client(HOST, group.port) as sock:
        sock.sendall(b"well\n")
        assert receive(sock, 5) == b"well\n"
        worker = who_serves([sock], group.workers)[sock]
        sock.sendall(b"block\n")
        assert "has not answered for 5s: it is ended" in group.event("warning")["message"]
        _lose(sock)
        group.complete(without=[worker])
        assert group.end(signal.SIGTERM)[0].code == 0


@pytest.mark.slow
def test_processes_that_were_stopped_together_go_on_together() -> None:
    # Ctrl-Z and fg, a debugger, a frozen container.
    with Group(HOST, 2, quiet=True, under=("setsid",)) as group, contextlib.ExitStack() as stack:
        held = [stack.enter_context(_served(HOST, group.port)) for _ in range(10)]
        workers = group.workers
        os.killpg(group.pid, signal.SIGSTOP)
        _let_pass(7)
        os.killpg(group.pid, signal.SIGCONT)
        # Through the next looks of the parent, too.
        _let_pass(2.5)
        for sock in held:
            sock.sendall(b"on")
            assert receive(sock, 2) == b"on"
        assert group.workers == workers
        done, _ = group.end(signal.SIGTERM)
    assert done.code == 0
    # Each server tells by itself that it was held up; none was ended.
    told = [line for line in done.told if not line.startswith("stopping: ")]
    assert all(line.startswith("nobody was served for ") for line in told)


# The parent is killed.


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed_and_the_port_is_free(host: str) -> None:
    with Group(host, 2, quiet=True) as group, contextlib.ExitStack() as stack:
        held = [stack.enter_context(_served(host, group.port)) for _ in range(10)]
        # One that does not read what it is owed must not keep them.
        owed = stack.enter_context(client(host, group.port))
        owed.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            owed.sendall(bytes(64 << 20))
        workers = group.workers
        group.running.process.kill()
        group.running.process.wait()
        took = eventually(lambda: all(map(is_gone, workers)), within=2.0)
        assert took < 2
        for sock in held:
            _lose(sock)
        with Running("serve", "--host", host, "--port", str(group.port)) as again:
            assert again.port() == group.port
            assert again.end(signal.SIGTERM).code == 0


def test_workers_end_when_their_parent_is_killed_while_they_start() -> None:
    with Running("serve", "--host", HOST, "--port", "0", "--workers", "8") as server:
        port = server.port()
        server.process.kill()
        server.process.wait()

        def free() -> bool:
            with contextlib.suppress(OSError), socket.create_server((HOST, port)):
                return True
            return False

        eventually(free, within=2.0)
