"""What happens to workers, and to their parent: killed, stopped, stuck, never well started."""

import contextlib
import os
import signal
import socket
import sys
import time

import pytest

from tests.cli.peers import client, receive
from tests.conftest import AVAILABLE
from tests.workers.exchange import Clients, Seen
from tests.workers.group import Group
from tests.workers.proc import eventually, sockets, state, who_serves

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


# A worker is killed.


def test_a_killed_worker_costs_what_it_held_and_another_takes_its_place(host: str) -> None:
    with Group(host, 3) as group, contextlib.ExitStack() as stack:
        held = [stack.enter_context(_served(host, group.port)) for _ in range(60)]
        at = {sock: who_serves(sock, group.workers) for sock in held}
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


def test_a_worker_is_killed_in_a_storm_of_connections(host: str) -> None:
    # 200 in the queue and 100 that exchange, each of them a few messages, and others after it.
    with (
        Group(host, 4, "--chunk-size", "64k", quiet=True) as group,
        contextlib.ExitStack() as stack,
    ):
        eventually(lambda: group.counted()["accepted"] == 0)
        clients = Clients([(host, group.port)], 100, size=4000, lives=3)
        killed = group.workers[2]
        held: list[int] = []
        moments: list[float] = []

        def storm(seen: Seen) -> bool:
            if not moments and seen.connections >= 300:
                os.kill(killed, signal.SIGSTOP)
                eventually(lambda: state(killed) == "T")
                queued.extend(stack.enter_context(client(host, group.port)) for _ in range(200))
                base = len(group.listening) + 3
                held.append(len(sockets(killed)) - base)
                os.kill(killed, signal.SIGKILL)
                moments.append(time.monotonic())
                moments.append(eventually(lambda: killed not in group.workers, within=1.0))
            return bool(moments) and seen.connections >= 1000

        queued: list[socket.socket] = []
        seen = clients.run(storm)
        assert seen.wrong == 0
        assert sum(seen.faults.values()) <= held[0]
        for sock in queued:
            sock.sendall(b"in the end")
            assert receive(sock, 10) == b"in the end"
        group.complete(without=[killed], within=1.0)
        done, _ = group.end(signal.SIGTERM)
    assert done.code == 0
    assert [line for line in done.told if "was ended by SIGKILL" in line] == [done.told[0]]
