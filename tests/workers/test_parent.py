"""What the parent of the workers does by itself: sharing, dividing, starting what cannot start."""

import errno
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator

import pytest

from echokit import worker as in_worker
from echokit.config.limits import Limits
from echokit.errors import ListenError, WorkerError
from echokit.framing.length_prefixed import LengthPrefixed
from echokit.net.admission import Refusal
from echokit.net.handler import Ending
from echokit.net.listen import SocketOptions, bind_listeners, share
from echokit.observe.counters import Counters
from echokit.server import EchoServer
from echokit.workers import Workers, worker_count
from tests.cli.peers import client, receive
from tests.cli.processes import DEADLINE
from tests.workers.proc import descriptors

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are Linux's")


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGCHLD)
    yield
    signal.signal(signal.SIGCHLD, before)


def test_as_many_sockets_as_workers_share_each_address() -> None:
    listeners = bind_listeners("*", 0)
    shared = share(listeners, 3, backlog=10, options=SocketOptions())
    try:
        assert shared[0] is listeners
        assert [each.addresses for each in shared] == [listeners.addresses] * 3
        for each in shared:
            for sock in each.sockets:
                assert not sock.getblocking()
                assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                if sock.family == socket.AF_INET6:
                    assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    finally:
        for each in shared:
            each.close()


def test_sockets_that_cannot_be_shared_are_all_given_back(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listeners = bind_listeners(host, 0)
    before = len(descriptors(os.getpid()))
    binds = iter([None, None, OSError(errno.ENOBUFS, "No buffer space available")])

    class Socket(socket.socket):
        def bind(self, address: object) -> None:
            error = next(binds)
            if error is not None:
                raise error
            super().bind(address)  # type: ignore[arg-type]  # what bind() takes, by its family

    monkeypatch.setattr("socket.socket", Socket)
    with pytest.raises(ListenError, match=r"cannot listen on .*: no buffer space available"):
        share(listeners, 5, backlog=10, options=SocketOptions())
    assert len(descriptors(os.getpid())) == before - len(listeners.sockets)


@pytest.mark.parametrize(
    ("asked", "most", "count"), [(1, 0, 1), (4, 0, 4), (4, 3, 3), (4, 100, 4), (0, 1, 1)]
)
def test_how_many_workers_there_are(asked: int, most: int, count: int) -> None:
    assert worker_count(asked, most) == count


def test_as_many_as_this_process_may_use_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 2, 5})
    assert worker_count(0) == 3


def test_where_the_system_does_not_spread_connections_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert worker_count(4) == worker_count(0) == 1


@pytest.mark.parametrize(
    ("most", "parts"), [(8, [2, 2, 2, 2]), (10, [3, 3, 2, 2]), (4, [1, 1, 1, 1]), (0, [0] * 4)]
)
def test_the_parts_of_max_connections_make_up_the_whole(most: int, parts: list[int]) -> None:
    workers = Workers(4, _never, "127.0.0.1", 0, limits=Limits(max_connections=most))
    try:
        limits = [workers._limits_of(worker) for worker in workers._workers]
        assert [each.max_connections for each in limits] == parts
        assert all(each.idle_timeout == 600 for each in limits)
    finally:
        workers.close()


def _never(*_: object) -> EchoServer:
    raise AssertionError("no worker was to be started")


def test_a_system_without_room_for_a_process_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    before = descriptors(os.getpid())
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    workers = Workers(2, _never, "127.0.0.1", 0)

    def fork() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    with pytest.raises(WorkerError, match="cannot start worker 1: resource temporarily unavail"):
        workers.serve()
    assert descriptors(os.getpid()) == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == blocked


def test_counters_come_whole_through_what_they_are_told_as() -> None:
    counters = Counters(accepted=9, open=2, messages=3, bytes_in=5, bytes_out=6)
    counters.ended[Ending.CLEAN] = 6
    counters.ended[Ending.RESET] = 1
    counters.refused[Refusal.DENIED] = 8
    counters.pauses, counters.accept_failures = 10, 11
    assert Counters.from_dict(counters.as_dict()) == counters
    assert Counters.from_dict(Counters().as_dict()) == Counters()


def test_of_a_worker_that_is_gone_what_was_open_was_cut() -> None:
    counters = Counters(accepted=9, open=2)
    counters.ended[Ending.CUT] = 1
    counters.ended[Ending.CLEAN] = 6
    left = counters.with_open_cut()
    assert (left.accepted, left.open, left.ended.total()) == (9, 0, 9)
    assert left.ended[Ending.CUT] == 3
    # What it was made from is as it was.
    assert (counters.open, counters.ended[Ending.CUT]) == (2, 1)


def test_a_worker_that_begins_to_finish_says_what_it_holds(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Long before it would say so anyway.
    monkeypatch.setattr(in_worker, "BEAT", 60.0)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(DEADLINE)
    with ours, theirs:
        server = EchoServer(host, 0, framing=LengthPrefixed(), limits=Limits(drain_timeout=0.1))
        worker = in_worker._Worker(server, theirs)
        assert json.loads(ours.recv(4096))["counters"]["open"] == 0
        with server, client(host, server.port) as sock:
            # An echo, so that it has been accepted, and the beginning of another message.
            sock.sendall(b"\0\0\0\1x\0\0\0\2")
            assert receive(sock, 5) == b"\0\0\0\1x"
            worker.drain()
            assert json.loads(ours.recv(4096))["counters"]["open"] == 1
