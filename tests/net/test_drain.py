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

    def __init__(self, *, unseen: bool = False) -> None:
        self.bytes_in = 0
        self.bytes_out = 0
        self.unacknowledged = 0
        self.unfinished = 0
        self.sending = False
        self.finished = False
        # It is amid a message that only its decoder knows of.
        self._unseen = unseen
        self.drains = 0
        self.closed: Ending | None = None

    def drain(self) -> bool:
        self.drains += 1
        return not (self._unseen and self.drains == 1)

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


@pytest.mark.parametrize("counter", ["bytes_in", "bytes_out", "unacknowledged"])
def test_one_on_which_something_moves_goes_on_until_it_is_quiet(
    reactor: Reactor, counter: str
) -> None:
    busy = _Connection()
    busy.unacknowledged = 1000

    def move(left: int) -> None:
        step = -1 if counter == "unacknowledged" else 1
        setattr(busy, counter, getattr(busy, counter) + step)
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


def test_one_whose_peer_takes_nothing_of_what_was_sent_is_ended(reactor: Reactor) -> None:
    stuck = _Connection()
    stuck.unacknowledged = 1000
    drain = _drain(reactor, stuck)
    drain.end_quiet_ones(0.5)
    # The system goes on to send it, and has all.
    _run(reactor, 0.6)
    assert stuck.drains > 0


def test_one_amid_a_message_is_waited_for_until_it_is_cut(reactor: Reactor) -> None:
    comes, stays = _Connection(), _Connection()
    comes.unfinished = stays.unfinished = 9
    drain = _drain(reactor, comes, stays)
    drain.end_quiet_ones(0.5)
    _run(reactor, 10)
    assert (comes.drains, stays.drains) == (0, 0)
    # The rest comes, and goes back.
    comes.bytes_in = comes.bytes_out = 20
    comes.unfinished = 0
    _run(reactor, 1.1)
    assert (comes.drains > 0, stays.drains) == (True, 0)
    comes.finished = True
    drain.cut_all()
    assert (drain.cut, stays.closed) == (1, Ending.CUT)


def test_one_that_is_found_to_be_amid_a_message_counts_as_cut(reactor: Reactor) -> None:
    drain = _drain(reactor, _Connection(unseen=True), _Connection())
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
