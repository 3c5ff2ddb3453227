"""The load on one address: its lanes, from their first connect to their last close.

It runs in turns, between which nothing is in flight and what was written down is folded. When lanes
send is the affair of `pacing`.
"""

import math
import time
from collections.abc import Callable
from time import monotonic_ns

from echokit.loadgen.hearing import Hearing
from echokit.loadgen.lane import Lane
from echokit.loadgen.pacing import OVERTIME_NS, ClosedLoop, OpenLoop
from echokit.loadgen.payloads import Payloads
from echokit.loadgen.plan import Plan
from echokit.loadgen.records import Records, Tally
from echokit.loadgen.schedule import NEVER
from echokit.net.precise import precise_poller
from echokit.net.reactor import Reactor, Timer
from echokit.net.stream import SMALL

__all__ = ["Generator"]

# How much is joined, in bytes: what is in flight is else no copy, but the pool's own messages.
_BATCH = 256 << 10
# The pause before a lane tries again to connect; doubled with each failure, up to the longest.
_RETRY_AFTER = 0.01
_RETRY_LONGEST = 1.0
# How long what is in flight may still come back when a run is ended early, in seconds.
_GRACE = 0.25


class Generator:
    """The lanes to one address, in a reactor of their own.

    Attributes:
        batch: How many messages a lane joins, at most, to write them at once.
        first_ask: How much the first reads of a lane ask for.
        last_error: Why the last connect that failed did so.
    """

    def __init__(self, plan: Plan, payloads: Payloads) -> None:
        self.plan = plan
        self.payloads = payloads
        longest = payloads.longest
        self.batch = max(1, _BATCH // longest)
        small = longest * plan.in_flight <= SMALL
        self.first_ask = min(SMALL if small else plan.chunk_size, plan.chunk_size)
        self.own_response = plan.churn or plan.rate is not None
        self.records = Records(own_response=self.own_response)
        self.reactor = Reactor(poller=precise_poller())
        self.last_error: OSError | None = None
        self._churn = plan.churn
        loop = ClosedLoop if plan.rate is None else OpenLoop
        self._loop = loop(plan, self.records, self.reactor, self._stop_sending)
        self._lanes = [Lane(self, plan.first_lane + n) for n in range(plan.connections)]
        # By what each is for, so that a turn can end with none left.
        self._timers: dict[object, Timer] = {}
        # Whether the turn has begun, and whether exchanges may begin.
        self._begun = False
        self._sending = False
        self._opening = False
        # How many lanes, from the first on, have connected or failed by now, in `open`. They stay
        # idle up to the first turn, so that none is looked at again for each that follows.
        self._decided = 0
        self._interrupted = False
        # How long exchanges may begin, in the turn that runs: until then.
        self._sending_ended = 0.0
        # How quiet it is.
        self._hearing = Hearing(self.records)

    # Its life.

    def open(self) -> None:
        """Connect every lane, and wait until each has connected or failed."""
        if self._churn or self._interrupted:
            return
        self._opening = True
        for lane in self._lanes:
            lane.open()
        self._sweep()
        if not all(lane.idle for lane in self._lanes):
            self.reactor.run()
        self._opening = False
        self._cancel_timers()

    @property
    def connected(self) -> int:
        """How many lanes are connected."""
        return sum(lane.connected for lane in self._lanes)

    def turn(
        self,
        seconds: float,
        count: int | None = None,
        *,
        last: bool = False,
        longest: float = math.inf,
    ) -> Tally:
        """Send for `seconds`, or until `count` exchanges have begun; wait until all have ended.

        Args:
            seconds: How long exchanges begin.
            count: How many may begin; None for no bound.
            last: Whether there is no other turn for what is due and could not be sent: it counts as
                unsent.
            longest: For how long exchanges may fall due where those in flight have it go on.
        """
        if self._interrupted:
            return self.records.fold()
        began, cpu = time.monotonic(), time.process_time()
        self._sending_ended = began
        # What found no connection in `open` is the first of them.
        most = NEVER if count is None else count - self.records.limit(count)
        if not most:
            return self.records.fold()
        # A round of events first: connections that ended meanwhile are seen before they are used.
        self._later("turn", 0, lambda: self._start(seconds, most, last, longest))
        self.reactor.run()
        sending_seconds = self._sending_seconds(began)
        self._begun = False
        self._cancel_timers()
        for lane in self._lanes:
            # What churns has used its connection: the next exchange is to have one of its own.
            if self._churn or not lane.connected:
                lane.close()
        silent = self._hearing.silent_seconds(asked=self._loop.asks())
        if last or self._interrupted:
            self._give_up()
        return self.records.fold(
            seconds=time.monotonic() - began,
            sending_seconds=sending_seconds,
            cpu_seconds=time.process_time() - cpu,
            silent_seconds=silent,
        )

    def _sending_seconds(self, began: float) -> float:
        scheduled = self._loop.seconds() if self._begun else None
        return self._sending_ended - began if scheduled is None else scheduled

    def interrupt(self) -> None:
        """End the turn that runs; what does not come back soon is given up. From any thread."""
        self.reactor.call_soon(self._end_early)

    def close(self) -> Tally:
        """Close every connection; what the kernel says of them, and what was never sent."""
        for lane in self._lanes:
            lane.close()
        self.reactor.close()
        # What found no connection in `open`, and had no turn that it could be of.
        self.records.limit(0)
        self._give_up()
        return self.records.fold()

    def _end_early(self) -> None:
        self._interrupted = True
        if self._sending:
            self._loop.cut()
        self._stop_sending()
        if not self._begun or not self.records.owed:
            self._abandon()
        else:
            self._later("grace", _GRACE, self._abandon)

    def _abandon(self) -> None:
        for lane in self._lanes:
            lane.abandon()
        self.reactor.stop()

    def _later(self, key: object, delay: float, callback: Callable[[], None]) -> None:
        self._timers[key] = self.reactor.call_later(delay, callback)

    def _cancel_timers(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._loop.stop()

    # A turn.

    def _start(self, seconds: float, most: int, last: bool, longest: float) -> None:
        if self._interrupted:
            return
        self._begun = self._sending = True
        self._hearing.begin()
        self._later("turn", seconds, self._time_is_up)
        self._sweep()
        self._loop.begin(self._lanes, seconds, most, last, longest)
        for lane in self._lanes:
            self._revive(lane)

    def _revive(self, lane: Lane) -> None:
        """Put a lane to use that has nothing under way."""
        if not self._sending or not lane.idle:
            return
        if lane.connected or self._churn:
            self._loop.use(lane)
        else:
            lane.open()

    def _time_is_up(self) -> None:
        if self._sending and self._loop.goes_on(self._lanes):
            self._later("turn", OVERTIME_NS / 1e9, self._time_is_up)
        else:
            self._stop_sending()
            self._settle()

    def _stop_sending(self) -> None:
        if self._sending:
            self._sending = False
            self._hearing.listen(asked=self._loop.asks())
            self._hearing.sending_ended()
            self._sending_ended = time.monotonic()

    def _give_up(self) -> None:
        self.records.unsent += self._loop.give_up()

    def _settle(self) -> None:
        """End the turn once nothing may begin and nothing is owed."""
        if self._opening:
            lanes = self._lanes
            while self._decided < len(lanes) and lanes[self._decided].idle:
                self._decided += 1
            if self._decided == len(lanes):
                self.reactor.stop()
        elif self._begun and not self._sending:
            owed = self.records.owed
            self._loop.wait(owed)
            if not owed:
                self.reactor.stop()

    # What lanes tell.

    def has_room(self, lane: Lane) -> None:
        """`lane` has connected, or something has come back on it."""
        if not self._sending:
            self._settle()
            return
        if self._churn:
            lane.close()
        self._loop.use(lane)

    def connection_ended(self, lane: Lane) -> None:
        """`lane` has lost its connection."""
        if not self._sending:
            self._settle()
        elif lane.failures_in_a_row:
            self._revive_later(lane)
        else:
            self._revive(lane)

    def passes_over(self) -> bool:
        """A lane could not connect: whether an exchange counts as begun, as it found none."""
        return (self._opening or self._sending) and self._loop.pass_over()

    def connect_failed(self, lane: Lane, error: OSError) -> None:
        """`lane` could not connect."""
        self.last_error = error
        if not self._sending:
            self._settle()
            return
        self._revive_later(lane)

    def _revive_later(self, lane: Lane) -> None:
        doublings = min(lane.failures_in_a_row - 1, 10)
        pause = min(_RETRY_AFTER * 2**doublings, _RETRY_LONGEST)
        self._later(lane, pause, lambda: self._revive(lane))

    # Watching.

    def _sweep(self) -> None:
        """Now and then: fail what takes too long."""
        now = monotonic_ns()
        oldest = now - int(self.plan.timeout * 1e9)
        oldest_connect = now - int(self.plan.connect_timeout * 1e9)
        for lane in self._lanes:
            lane.expire(oldest, oldest_connect)
        self._hearing.listen(asked=self._loop.asks())
        patience = min(self.plan.timeout, self.plan.connect_timeout)
        self._later("sweep", min(0.1, max(0.005, patience / 8)), self._sweep)
