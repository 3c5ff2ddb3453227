"""When lanes send: each as soon as its last has come back, or all by a schedule.

Closed loop: a lane sends its next message when one has come back. Open loop: messages are due at
times of their own, evenly spaced, whatever has come back; one that finds every lane busy is sent
as soon as one is free, in the same turn or in the next, and its response time counts from when it
was due. So a target that stalls cannot hide it by slowing its clients down (Gil Tene's "coordinated
omission"), and one that cannot keep the rate falls behind until the run ends.
"""

from collections import deque
from collections.abc import Callable
from time import monotonic_ns

from echokit.loadgen.lane import NOW, Lane
from echokit.loadgen.plan import Plan
from echokit.loadgen.probe import Probe
from echokit.loadgen.records import Records
from echokit.loadgen.schedule import NEVER, Schedule
from echokit.net.reactor import Reactor, Timer

__all__ = ["OVERTIME_NS", "ClosedLoop", "OpenLoop"]

# In what steps a turn goes on beyond its time.
OVERTIME_NS = 1_000_000


class ClosedLoop:
    """Every lane sends when it has room.

    Args:
        plan: What is to be done.
        records: Where it is written down.
        reactor: Its loop.
        exhausted: Is called when no exchange may begin any more.
    """

    def __init__(
        self, plan: Plan, records: Records, reactor: Reactor, exhausted: Callable[[], None]
    ) -> None:
        self._in_flight = plan.in_flight
        self._records = records
        self._probe = Probe(reactor, records.lateness)
        self._exhausted = exhausted
        # How many exchanges may have begun, in all that is written down.
        self._most = NEVER

    def begin(
        self, _lanes: list[Lane], _seconds: float, count: int, _last: bool, _longest: float
    ) -> None:
        """A turn begins, of at most `count` exchanges."""
        self._most = self._records.requests + count
        self._probe.start()

    def use(self, lane: Lane) -> None:
        """Let `lane` send as many as it has room for; it is connected, or will be for one."""
        if not lane.connected:
            self.pass_over()
            lane.begin(NOW)
            return
        records = self._records
        count = self._in_flight - len(lane.waiting)
        begun = records.requests + count
        if begun >= self._most:
            count -= begun - self._most
            begun = self._most
            self._exhausted()
        records.requests = begun
        lane.transmit(count, NOW)

    def pass_over(self) -> bool:
        """One exchange counts as begun, as it found no connection or gets one of its own."""
        if self._records.requests + 1 >= self._most:
            self._exhausted()
        return True

    def goes_on(self, _lanes: list[Lane]) -> bool:
        """Nobody waits for what a closed loop does not send."""
        return False

    def asks(self) -> bool:
        """Whether something should begin: here, always."""
        return True

    def seconds(self) -> float | None:
        """There is no schedule."""
        return None

    def cut(self) -> None:
        """Nothing falls due."""

    def wait(self, _owed: int) -> None:
        """Nothing is due that would wait, too."""

    def give_up(self) -> int:
        """Leave out what is due; how many exchanges that is."""
        return 0

    def stop(self) -> None:
        """The turn has ended."""
        self._probe.stop()


class OpenLoop:
    """Lanes that have room wait in a queue for what is due; it takes what `ClosedLoop` takes."""

    def __init__(
        self, plan: Plan, records: Records, reactor: Reactor, exhausted: Callable[[], None]
    ) -> None:
        self._churn = plan.churn
        self._in_flight = plan.in_flight
        # How many exchanges may be under way at a time.
        self._places = plan.connections * plan.in_flight
        self._records = records
        self._reactor = reactor
        self._exhausted = exhausted
        self._left = NEVER
        self._last_turn = False
        # When the turn's time was up, in nanoseconds, 0 before that; and whether nothing falls due
        # in it any more.
        self._up = 0
        self._over = False
        # How many lanes, from the first on, have nothing under way any more that began before that.
        self._past = 0
        self._patience = int(plan.timeout * 1e9)
        # How many exchanges are waited for at the turn's end, and since when.
        self._owed = self._owed_since = 0
        self._free: deque[Lane] = deque()
        self._schedule = Schedule(plan.rate or 1.0, plan.phase, plan.workers)
        self._tick: Timer | None = None

    def begin(
        self, lanes: list[Lane], seconds: float, count: int, last: bool, longest: float
    ) -> None:
        """A turn of so many seconds begins, of at most `count` exchanges.

        Args:
            lanes: All that there are.
            seconds: For how long exchanges fall due.
            count: How many may begin.
            last: Whether there is no other turn for what this one leaves.
            longest: For how long exchanges may fall due, at most, where those in flight have the
                turn go on.
        """
        self._left = count
        self._last_turn = last
        self._up, self._over, self._past, self._owed = 0, False, 0, 0
        # It has waited for a lane, in an earlier turn.
        waited = self._schedule.left > 0
        # All at once: what is due finds every lane that is free.
        self._free = deque(filter(self._usable, lanes))
        for lane in lanes:
            lane.listed = self._usable(lane)
        self._schedule.begin(monotonic_ns(), seconds, count, longest)
        self._dispatch(waited=waited)

    def use(self, lane: Lane) -> None:
        """`lane` has room; it is connected, or will be for each exchange."""
        # What is due goes to those first that were free all along: only for want of them it waits.
        self._dispatch(waited=False)
        self._list(lane)
        self._dispatch(waited=True)

    def _usable(self, lane: Lane) -> bool:
        return lane.connected or (self._churn and lane.idle)

    def _list(self, lane: Lane) -> None:
        if not lane.listed:
            lane.listed = True
            self._free.append(lane)

    def pass_over(self) -> bool:
        """What is due counts as begun, as it found no connection; whether something was."""
        # It did find one where another lane is free.
        self._dispatch(waited=False)
        due = self._schedule.next_due <= monotonic_ns()
        if due:
            self._advance()
        return due

    def goes_on(self, lanes: list[Lane]) -> bool:
        """The turn's time is up: whether more begin, as what was in flight then still is.

        A target that stalls as a turn ends would else hold up the schedule itself, and most of
        what it would have kept waiting would never be sent, nor counted.
        """
        extended = self._up != 0
        if not extended:
            # What was due in time is late only for want of ours.
            self._dispatch(waited=False)
        now = monotonic_ns()
        self._up = self._up or now
        in_time = now - self._up < self._patience
        if not self._over and in_time and self._straggles(lanes):
            # Beyond the next look, so that nothing is late for it.
            self._schedule.reach(now + 2 * OVERTIME_NS)
            self._dispatch(waited=False)
            if not self._schedule.complete(now):
                return True
            # There is no time for another turn.
            self._last_turn = True
        elif extended and not self._over:
            self._schedule.reach(now)
        self._over = True
        self._dispatch(waited=False)
        # What waits for a place just now would in any other turn have had one a moment later.
        return self._last_turn and in_time and 0 < self._schedule.left <= self._places

    def _straggles(self, lanes: list[Lane]) -> bool:
        """Whether an exchange is under way that began before the turn's time was up."""
        # What a lane begins from now on is later: none needs to be looked at again.
        while self._past < len(lanes):
            since = lanes[self._past].since
            if since is not None and since <= self._up:
                return True
            self._past += 1
        return False

    def asks(self) -> bool:
        """Whether something is due that has not begun."""
        return self._schedule.next_due <= monotonic_ns()

    def seconds(self) -> float | None:
        """How long exchanges have fallen due in this turn, the interval of the last included."""
        return self._schedule.seconds

    def cut(self) -> None:
        """Nothing falls due from now on, and there is no other turn."""
        if not self._over:
            self._over = True
            self._schedule.reach(monotonic_ns())
            self._dispatch(waited=False)
        self._last_turn = True

    def wait(self, owed: int) -> None:
        """No exchange begins any more in this turn, and so many are still under way.

        Where something is due, it waits for them, and the schedule goes on, by as much as they keep
        of the places for exchanges. Else a target would seem to do them in no time.
        """
        if self._last_turn or not self._schedule.left:
            return
        now = monotonic_ns()
        kept = (now - self._owed_since) * self._owed / self._places
        self._owed, self._owed_since = owed, now
        self._schedule.extend(kept)

    def give_up(self) -> int:
        """Leave out what is due; how many exchanges that is. No turn runs."""
        return self._schedule.give_up()

    def stop(self) -> None:
        """The turn has ended."""
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None

    def _dispatch(self, *, waited: bool) -> None:
        """Send what is due, as far as lanes are free; `waited`: it is due since a lane was not."""
        free, schedule = self._free, self._schedule
        lateness = self._records.lateness
        while free and (now := monotonic_ns()) >= schedule.next_due:
            lane = free.popleft()
            lane.listed = False
            if not self._usable(lane):
                continue
            due = schedule.next_due
            self._advance()
            if not waited:
                lateness.append(now - due)
            lane.begin(due)
            if lane.connected and len(lane.waiting) < self._in_flight:
                self._list(lane)
        if free and schedule.next_due != NEVER and self._tick is None:
            wait = max(0.0, (schedule.next_due - monotonic_ns()) / 1e9)
            self._tick = self._reactor.call_later(wait, self._on_tick)

    def _on_tick(self) -> None:
        self._tick = None
        self._dispatch(waited=False)

    def _advance(self) -> None:
        """One more exchange of the schedule has begun."""
        self._schedule.advance()
        self._left -= 1
        if not self._left:
            self._schedule.finish(monotonic_ns())
            self._exhausted()
