"""Deadlines, to the moment: under a clock that passes only while the reactor waits."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from echokit.net.deadlines import MESSAGE_RATE, Deadlines
from echokit.net.handler import Ending
from echokit.net.reactor import Reactor, SelectorPoller
from tests.net.clocks import Clock, Skipping


class _Connection:
    """What deadlines see of a connection; the test says what moves."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.closed = False
        self.finished = False
        self.sending = False
        self.unfinished = 0
        self.messages = 0
        self.bytes_in = 0
        self._seen: tuple[int, int] | None = None
        self._moved_at = 0.0
        self.out = 0
        # What has been done to it, and when.
        self.end: tuple[str, Ending, float] | None = None
        self.error: Exception | None = None

    def quiet_since(self, now: float) -> float:
        moved = (self.bytes_in, self.out)
        if moved != self._seen:
            self._seen, self._moved_at = moved, now
        return self._moved_at

    def receive(self, size: int, *, whole: bool = True) -> None:
        """So much comes; the end of a message with it, or not."""
        self.bytes_in += size
        self.unfinished = 0 if whole else self.unfinished + size
        self.messages += whole

    def _end(self, how: str, ending: Ending, error: Exception | None) -> None:
        assert self.end is None, "ended twice"
        self.end = (how, ending, self._clock.now)
        self.error = error
        self.closed = True

    def finish(self, ending: Ending, error: Exception | None = None) -> None:
        self._end("finish", ending, error)

    def abort(self, ending: Ending, error: Exception | None = None) -> None:
        self._end("abort", ending, error)


class _World:
    """Connections in a reactor without real time."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.reactor = Reactor(poller=Skipping(SelectorPoller(), self.clock), clock=self.clock)
        self.connections: list[Any] = []
        self.began = self.clock.now

    def connection(self) -> _Connection:
        made = _Connection(self.clock)
        self.connections.append(made)
        return made

    def watch(self, **times: float) -> None:
        Deadlines(self.reactor, self.connections, **times)

    def every(self, seconds: float, call: Callable[[], object], until: float = 1e9) -> None:
        """`call` again and again, up to `until` seconds from the beginning."""

        def again() -> None:
            if self.clock.now - self.began < until:
                call()
                self.reactor.call_later(seconds, again)

        self.reactor.call_later(seconds, again)

    def run(self, seconds: float) -> None:
        self.reactor.call_later(seconds, self.reactor.stop)
        self.reactor.run()

    def at(self, connection: _Connection) -> tuple[str, Ending, float] | None:
        """What was done to it, and how long after the beginning."""
        if connection.end is None:
            return None
        how, ending, when = connection.end
        return how, ending, round(when - self.began, 6)


@pytest.fixture
def world() -> Iterator[_World]:
    made = _World()
    with made.reactor:
        yield made


def _ended(
    world: _World, connection: _Connection, how: str, ending: Ending, least: float, most: float
) -> None:
    """It was ended so, in the time from `least` to `most`."""
    end = world.at(connection)
    assert end is not None
    assert end[:2] == (how, ending)
    assert least <= end[2] <= most


@pytest.mark.parametrize("idle", [0.05, 1, 10, 600])
def test_idle_ends_at_its_time_with_the_grain_of_the_sweep(world: _World, idle: float) -> None:
    grain = min(max(idle / 10, 0.02), 1)
    quiet = world.connection()
    world.watch(idle=idle)
    world.run(2 * idle)
    # It is first seen at the first sweep, and ended at the first that finds it overdue.
    _ended(world, quiet, "finish", Ending.IDLE, idle, idle + 2 * grain + 1e-6)
    assert str(quiet.error) == f"was idle for {idle:g}s"


def test_what_moves_in_either_direction_is_not_idle(world: _World) -> None:
    receiving, sending, stopping = (world.connection() for _ in range(3))
    world.every(8, lambda: receiving.receive(1))
    world.every(8, lambda: setattr(sending, "out", sending.out + 1))
    world.every(8, lambda: stopping.receive(1), until=50)
    world.watch(idle=10)
    world.run(200)
    assert world.at(receiving) is world.at(sending) is None
    _ended(world, stopping, "finish", Ending.IDLE, 48 + 10, 48 + 13)


def test_one_that_is_owed_something_is_not_idle_but_given_its_time_to_read(world: _World) -> None:
    owed = world.connection()
    owed.sending = True
    world.watch(idle=10, send=60)
    world.run(100)
    _ended(world, owed, "abort", Ending.SEND_TIMEOUT, 60, 62)
    assert str(owed.error) == "has not read for 60s"


def test_one_that_reads_now_and_then_is_not_ended_for_not_reading(world: _World) -> None:
    slow = world.connection()
    slow.sending = True
    world.every(50, lambda: setattr(slow, "out", slow.out + 1))
    world.watch(send=60)
    world.run(2000)
    assert world.at(slow) is None


def test_one_that_is_finishing_must_still_read_what_it_is_owed(world: _World) -> None:
    finishing, done = world.connection(), world.connection()
    finishing.sending = True
    done.finished = True
    world.watch(idle=5, send=20, message=5, lifetime=10)
    finishing.finish = lambda *_: None  # type: ignore[method-assign]  # it is already
    world.run(100)
    _ended(world, finishing, "abort", Ending.SEND_TIMEOUT, 20, 22)
    # All has been said: its end is its own affair.
    assert world.at(done) is None


def test_a_message_that_trickles_is_ended_at_its_time_though_never_idle(world: _World) -> None:
    slow = world.connection()
    world.every(1, lambda: slow.receive(1, whole=False))
    world.watch(idle=600, message=30)
    world.run(100)
    _ended(world, slow, "finish", Ending.MESSAGE_TIMEOUT, 30, 33)
    assert str(slow.error) == "did not end a message that it had begun for 30s"


@pytest.mark.parametrize(
    ("rate", "ends"),
    [(MESSAGE_RATE + 64, False), (MESSAGE_RATE * 100, False), (MESSAGE_RATE - 64, True)],
)
def test_a_long_message_may_go_on_while_it_comes_at_the_rate(
    world: _World, rate: int, ends: bool
) -> None:
    long = world.connection()
    world.every(0.5, lambda: long.receive(rate // 2, whole=False))
    world.watch(message=30)
    world.run(1000)
    assert (world.at(long) is not None) is ends


def test_a_message_that_ends_in_time_gives_the_next_its_whole_time(world: _World) -> None:
    one_after_the_other = world.connection()
    part = 0

    def come() -> None:
        nonlocal part
        part = (part + 1) % 4
        one_after_the_other.receive(1, whole=not part)

    # Each takes 24 of its 30 seconds.
    world.every(6, come)
    world.watch(message=30)
    world.run(1000)
    assert world.at(one_after_the_other) is None
    assert one_after_the_other.messages > 20


def test_between_messages_there_is_no_message_timeout(world: _World) -> None:
    quiet = world.connection()
    quiet.receive(5)
    world.watch(message=1)
    world.run(1000)
    assert world.at(quiet) is None


def test_while_it_is_not_read_from_its_message_has_time(world: _World) -> None:
    # It does not read, so it is not read from: that its message does not end is no slowloris.
    owed = world.connection()
    owed.receive(5, whole=False)
    owed.sending = True
    world.watch(message=10, send=100)
    world.reactor.call_later(50, lambda: setattr(owed, "sending", False))
    world.reactor.call_later(55, lambda: owed.receive(5))
    world.run(200)
    assert world.at(owed) is None


def test_a_life_ends_at_its_time_however_much_moves(world: _World) -> None:
    first = world.connection()
    world.every(0.1, lambda: first.receive(1))
    later: list[_Connection] = []
    world.reactor.call_later(30, lambda: later.append(world.connection()))
    world.watch(idle=600, lifetime=60)
    world.run(200)
    _ended(world, first, "finish", Ending.LIFETIME, 60, 62)
    _ended(world, later[0], "finish", Ending.LIFETIME, 90, 92)
    assert str(first.error) == "was open for 60s"


def test_where_nothing_is_limited_nothing_is_looked_at(world: _World) -> None:
    quiet = world.connection()
    world.watch()
    assert not world.reactor._timers
    world.run(1e6)
    assert world.at(quiet) is None


@pytest.mark.parametrize("number", [999, 1000, 1001, 2500])
def test_more_than_a_batch_are_all_looked_at(world: _World, number: int) -> None:
    quiet = [world.connection() for _ in range(number)]
    world.watch(idle=10)
    world.run(15)
    assert all(world.at(connection) is not None for connection in quiet)


@pytest.mark.parametrize(("send", "grace"), [(20.0, 20.0), (0.0, 30.0)])
def test_one_that_reads_a_little_now_and_then_does_not_outlive_its_life_by_more_than_the_grace(
    world: _World, send: float, grace: float
) -> None:
    slow = world.connection()
    slow.sending = True
    finished: list[Ending] = []
    slow.finish = lambda *end: finished.append(end[0])  # type: ignore[method-assign]  # seen only
    world.every(3, lambda: setattr(slow, "out", slow.out + 1))
    world.watch(send=send, lifetime=60)
    world.run(200)
    # First it is given the time to read what it is owed.
    assert set(finished) == {Ending.LIFETIME}
    _ended(world, slow, "abort", Ending.LIFETIME, 60 + grace, 62 + grace)


def test_where_there_is_no_send_timeout_one_that_never_reads_is_idle(world: _World) -> None:
    owed, slow = world.connection(), world.connection()
    owed.sending = slow.sending = True
    world.every(8, lambda: setattr(slow, "out", slow.out + 1))
    world.watch(idle=10, send=0)
    world.run(100)
    _ended(world, owed, "abort", Ending.IDLE, 10, 12)
    assert str(owed.error) == "was idle for 10s"
    assert world.at(slow) is None


def test_those_that_have_ended_are_forgotten(world: _World) -> None:
    passing = world.connection()
    passing.receive(1, whole=False)
    deadlines = Deadlines(world.reactor, world.connections, message=1000, lifetime=1000)
    world.run(5)
    assert deadlines._begun
    assert deadlines._born
    world.connections.clear()
    world.run(5)
    assert not deadlines._begun
    assert not deadlines._born


@pytest.mark.parametrize("held_up", [15.0, 1000.0])
def test_time_in_which_the_loop_was_held_up_counts_for_nobody(
    world: _World, held_up: float
) -> None:
    quiet, trickling = world.connection(), world.connection()
    world.every(1, lambda: trickling.receive(1, whole=False))
    world.watch(idle=10, message=10)
    # A process that was stopped: at once it is much later.
    world.reactor.call_later(5, lambda: setattr(world.clock, "now", world.clock.now + held_up))
    world.run(held_up + 50)
    _ended(world, quiet, "finish", Ending.IDLE, held_up + 9, held_up + 13)
    _ended(world, trickling, "finish", Ending.MESSAGE_TIMEOUT, held_up + 9, held_up + 14)
