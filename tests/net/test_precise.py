"""Timers that are due to the microsecond."""

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
