"""When lanes send: each as soon as its last has come back, or all by a schedule.

Closed loop: a lane sends its next message when one has come back. Open loop: messages are due at
times of their own, evenly spaced, whatever has come back; one that finds every lane busy is sent
as soon as one is free, and its response time counts from when it was due. So a target that stalls
cannot hide it by slowing its clients down (Gil Tene's "coordinated omission").
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

    # No exchange waits for its turn: there is nothing to catch up with.
    behind = False

    def __init__(
        self, plan: Plan, records: Records, reactor: Reactor, exhausted: Callable[[], None]
    ) -> None:
        self._in_flight = plan.in_flight
        self._records = records
        self._probe = Probe(reactor, records.lateness)
        self._exhausted = exhausted
        self._left = NEVER

    def begin(self, _lanes: list[Lane], _seconds: float, count: int) -> None:
        """A turn begins, of at most `count` exchanges."""
        self._left = count
        self._probe.start()

    def use(self, lane: Lane) -> None:
        """Let `lane` send as many as it has room for; it is connected, or will be for one."""
        if not lane.connected:
            self.pass_over()
            lane.begin(NOW)
            return
        count = self._in_flight - len(lane.waiting)
        if count >= self._left:
            count = self._left
            self._exhausted()
        self._left -= count
        self._records.requests += count
        lane.transmit(count, NOW)

    def pass_over(self) -> bool:
        """One exchange counts as begun, as it found no connection or gets one of its own."""
        self._left -= 1
        if self._left <= 0:
            self._exhausted()
        return True

    def goes_on(self, _lanes: list[Lane]) -> bool:
        """Nobody waits for what a closed loop does not send."""
        return False

    def catch_up(self) -> None:
        """There is nothing to catch up with."""

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
        self._records = records
        self._reactor = reactor
        self._exhausted = exhausted
        self._left = NEVER
        # When the turn's time was up, in nanoseconds; 0 before that.
        self._up = 0
        self._patience = int(plan.timeout * 1e9)
        self._catching_up = False
        self._free: deque[Lane] = deque()
        self._schedule = Schedule(plan.rate or 1.0, plan.phase)
        self._tick: Timer | None = None

    def begin(self, lanes: list[Lane], seconds: float, count: int) -> None:
        """A turn of so many seconds begins, of at most `count` exchanges."""
        self._left = count
        self._catching_up = False
        self._up = 0
        # All at once: what is due finds every lane that is free.
        self._free = deque(filter(self._usable, lanes))
        for lane in lanes:
            lane.listed = self._usable(lane)
        self._schedule.begin(monotonic_ns(), seconds, count)
        self._dispatch(waited=False)

    @property
    def behind(self) -> bool:
        """Whether something is due and has not been sent."""
        return self._schedule.next_due <= monotonic_ns()

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
        due = self.behind
        if due:
            self._advance()
        return due

    def goes_on(self, lanes: list[Lane]) -> bool:
        """The turn's time is up: whether more falls due, as what was in flight then still is.

        A target that stalls as a turn ends would else hold up the schedule itself, and most of
        what it would have kept waiting would never be sent, nor counted.
        """
        now = monotonic_ns()
        extended = self._up != 0
        self._up = self._up or now
        begun = (lane.since for lane in lanes)
        if now - self._up < self._patience and any(at and at <= self._up for at in begun):
            # Beyond the next look, so that nothing is late for it.
            self._schedule.reach(now + 2 * OVERTIME_NS)
            self._dispatch(waited=False)
            return True
        if extended:
            self._schedule.reach(now)
        return False

    def catch_up(self) -> None:
        """The turn's time is up: only what was due by now is still sent."""
        self._catching_up = True

    def give_up(self) -> int:
        """Leave out what is due; how many exchanges that is."""
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
        # Within its time a turn may have none just now; when it is out of time or count, it ends.
        if not self._left or (self._catching_up and self._schedule.next_due == NEVER):
            self._exhausted()
