"""Timers that are due to the microsecond."""

import contextlib
import os
import resource
import select
import socket
import statistics
import time

import pytest

from echokit.net.precise import precise_poller
from echokit.net.reactor import READ, Reactor

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="it is built on epoll")


def test_a_timer_is_not_rounded_to_the_next_millisecond() -> None:
    late: dict[str, list[float]] = {"precise": [], "rounded": []}
    with Reactor(poller=precise_poller()) as precise, Reactor(poller=select.epoll()) as rounded:
        for number in range(40):
            # In turn, so that both find the machine as busy.
            for name, reactor in (("precise", precise), ("rounded", rounded)):
                due = reactor.clock() + 0.0003 + number * 0.0001
                reactor.call_later(due - reactor.clock(), reactor.stop)
                reactor.run()
                late[name].append(reactor.clock() - due)
    assert all(by >= 0 for by in late["precise"])
    # epoll's own timeouts come half a millisecond late in the median.
    assert statistics.median(late["precise"]) < statistics.median(late["rounded"])


@pytest.mark.parametrize("wait", [0.0005, 0.0015, 0.05, None])
def test_what_is_ready_ends_any_wait(wait: float | None) -> None:
    ours, theirs = socket.socketpair()
    poller = precise_poller()
    assert poller is not None
    with ours, theirs:
        poller.register(ours.fileno(), READ)
        theirs.send(b"x")
        began = time.monotonic()
        assert poller.poll(wait) == [(ours.fileno(), READ)]
        assert time.monotonic() - began < 0.04
        poller.unregister(ours.fileno())
        assert poller.poll(0) == []
    poller.close()


def test_where_a_thousand_files_were_open_before_it_waits_all_the_same() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip("this process may not have so many files open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, hard))
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1024):
            stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        reactor = stack.enter_context(Reactor(poller=precise_poller()))
        due = reactor.clock() + 0.0005
        reactor.call_later(0.0005, reactor.stop)
        reactor.run()
        assert reactor.clock() >= due
