"""Letting connections finish, under a clock that passes only while the reactor waits."""

from collections.abc import Iterator
from typing import Any

import pytest

from echokit.net.drain import Drain
from echokit.net.handler import Ending
from echokit.net.reactor import Reactor, SelectorPoller
from tests.net.clocks import Clock, Skipping


class _Connection:
    """What a drain sees of a connection; the test says what moves."""

    def __init__(self, *, amid: bool = False) -> None:
        self.bytes_in = 0
        self.bytes_out = 0
        self.sending = False
        self.finished = False
        self._amid = amid
        self.drains = 0
        self.closed: Ending | None = None

    def drain(self) -> bool:
        self.drains += 1
        return not (self._amid and self.drains == 1)

    def close(self, ending: Ending) -> None:
        self.closed = ending


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    clock = Clock()
    with Reactor(poller=Skipping(SelectorPoller(), clock), clock=clock) as made:
        yield made


def _run(reactor: Reactor, seconds: float) -> None:
    reactor.call_later(seconds, reactor.stop)
    reactor.run()


def _drain(reactor: Reactor, *connections: _Connection) -> Drain:
    some: Any = list(connections)
    return Drain(reactor, some)


def test_a_quiet_connection_is_ended_at_the_second_look(reactor: Reactor) -> None:
    quiet = _Connection()
    drain = _drain(reactor, quiet)
    drain.end_quiet_ones(0.5)
    # What is on its way may not have come yet.
    _run(reactor, 0.4)
    assert quiet.drains == 0
    _run(reactor, 0.2)
    assert quiet.drains > 0
    assert drain.cut == 0


@pytest.mark.parametrize("counter", ["bytes_in", "bytes_out"])
def test_one_on_which_something_moves_goes_on_until_it_is_quiet(
    reactor: Reactor, counter: str
) -> None:
    busy = _Connection()

    def move(left: int) -> None:
        setattr(busy, counter, getattr(busy, counter) + 1)
        if left:
            reactor.call_later(0.4, lambda: move(left - 1))

    drain = _drain(reactor, busy)
    drain.end_quiet_ones(0.5)
    move(10)
    _run(reactor, 4)
    assert busy.drains == 0
    _run(reactor, 1.1)
    assert busy.drains > 0
    assert drain.cut == 0


def test_one_that_is_owed_something_is_waited_for(reactor: Reactor) -> None:
    owed = _Connection()
    owed.sending = True
    drain = _drain(reactor, owed)
    drain.end_quiet_ones(0.5)
    _run(reactor, 10)
    assert owed.drains == 0
    owed.sending = False
    _run(reactor, 0.6)
    assert owed.drains > 0


def test_one_amid_a_message_is_ended_and_counts_as_cut(reactor: Reactor) -> None:
    drain = _drain(reactor, _Connection(amid=True), _Connection())
    drain.end_quiet_ones(0.5)
    # It is looked at again until it has gone, and counts once.
    _run(reactor, 3)
    assert drain.cut == 1


def test_cutting_counts_those_that_lose_something(reactor: Reactor) -> None:
    had_all, owed, amid = _Connection(), _Connection(), _Connection()
    had_all.finished = True
    owed.sending = True
    drain = _drain(reactor, had_all, owed, amid)
    drain.cut_all()
    assert drain.cut == 2
    assert [had_all.closed, owed.closed, amid.closed] == [Ending.DRAINED, Ending.CUT, Ending.CUT]
