"""The load on one address: its lanes, and the loop that decides when each sends.

Closed loop: a lane sends its next message when one has come back. Open loop: messages are due at
times of their own, evenly spaced, whatever has come back; one that finds every lane busy is sent
as soon as one is free, and its response time counts from when it was due. So a target that stalls
cannot hide it by slowing its clients down (Gil Tene's "coordinated omission").

It runs in turns, between which nothing is in flight and what was written down is folded.
"""

import time
from collections import deque
from collections.abc import Callable
from time import monotonic_ns

from echokit.loadgen.lane import NOW, Lane
from echokit.loadgen.payloads import Payloads
from echokit.loadgen.plan import Plan
from echokit.loadgen.probe import Probe
from echokit.loadgen.records import Records, Tally
from echokit.loadgen.schedule import NEVER, Schedule
from echokit.net.precise import precise_poller
from echokit.net.reactor import Reactor, Timer

__all__ = ["Generator"]

# The pause before a lane tries again to connect; doubled with each failure, up to the longest.
_RETRY_AFTER = 0.01
_RETRY_LONGEST = 1.0


class Generator:
    """The lanes to one address, in a reactor of their own.

    Attributes:
        last_error: Why the last connect that failed did so.
    """

    def __init__(self, plan: Plan, payloads: Payloads) -> None:
        self.plan = plan
        self.payloads = payloads
        self.own_response = plan.churn or plan.rate is not None
        self.records = Records(own_response=self.own_response)
        self.reactor = Reactor(poller=precise_poller())
        self.last_error: OSError | None = None
        self._probe = Probe(self.reactor, self.records.lateness)
        self._closed_loop = plan.rate is None
        self._churn = plan.churn
        self._in_flight = plan.in_flight
        self._lanes = [Lane(self, plan.first_lane + n) for n in range(plan.connections)]
        # By what each is for, so that a turn can end with none left.
        self._timers: dict[object, Timer] = {}
        # Whether the turn has begun; whether exchanges may begin, and how many still.
        self._begun = False
        self._sending = False
        self._catching_up = False
        self._left = NEVER
        self._opening = False
        self._interrupted = False
        # Open loop: the lanes with room, and when what is due.
        self._free: deque[Lane] = deque()
        self._schedule = Schedule(plan.rate or 1.0, plan.phase)
        # How long exchanges may begin, in the turn that runs: until then.
        self._sending_ended = 0.0
        self._tick_armed = False

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

    def turn(self, seconds: float, count: int | None = None) -> Tally:
        """Send for `seconds`, or until `count` exchanges have begun; wait until all have ended.

        Args:
            seconds: How long exchanges begin.
            count: How many may begin; None for no bound.
        """
        if self._interrupted:
            return self.records.fold()
        began, cpu = time.monotonic(), time.process_time()
        self._left = NEVER if count is None else count
        # A round of events first: connections that ended meanwhile are seen before they are used.
        self._later("turn", 0, lambda: self._start(seconds))
        self.reactor.run()
        self._begun = False
        self._cancel_timers()
        for lane in self._lanes:
            if not lane.connected:
                lane.close()
        return self.records.fold(
            seconds=time.monotonic() - began,
            sending_seconds=self._sending_ended - began,
            cpu_seconds=time.process_time() - cpu,
        )

    def interrupt(self) -> None:
        """End the turn that runs, and give up what is in flight. From any thread."""
        self.reactor.call_soon(self._abandon)

    def close(self) -> Tally:
        """Close every connection; what the kernel says of them."""
        for lane in self._lanes:
            lane.close()
        self.reactor.close()
        return self.records.fold()

    def _abandon(self) -> None:
        self._interrupted = True
        self._schedule.give_up()
        self._stop_sending()
        for lane in self._lanes:
            lane.abandon()
        self.reactor.stop()

    def _later(self, key: object, delay: float, callback: Callable[[], None]) -> None:
        self._timers[key] = self.reactor.call_later(delay, callback)

    def _cancel_timers(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._probe.stop()
        self._timers.clear()
        self._tick_armed = False

    # A turn.

    def _start(self, seconds: float) -> None:
        self._begun = self._sending = True
        self._catching_up = False
        self._free.clear()
        for lane in self._lanes:
            lane.listed = False
        self._later("turn", seconds, lambda: self._time_is_up(seconds))
        self._sweep()
        if self._closed_loop:
            self._probe.start()
        else:
            self._schedule.begin(monotonic_ns(), seconds, self._left)
        for lane in self._lanes:
            self._revive(lane)

    def _revive(self, lane: Lane) -> None:
        """Put a lane to use that has nothing under way."""
        if not self._sending or not lane.idle:
            return
        if lane.connected or self._churn:
            self._use(lane)
        else:
            lane.open()

    def _time_is_up(self, seconds: float) -> None:
        if self._schedule.next_due <= monotonic_ns():
            # What was due by now is still sent, for as long as the turn was, at most.
            self._catching_up = True
            self._later("turn", seconds, self._give_up)
        else:
            self._give_up()

    def _give_up(self) -> None:
        self.records.unsent += self._schedule.give_up()
        self._stop_sending()
        self._settle()

    def _stop_sending(self) -> None:
        if self._sending:
            self._sending = False
            self._sending_ended = time.monotonic()

    def _settle(self) -> None:
        """End the turn once nothing may begin and nothing is owed."""
        if self._opening:
            if all(lane.idle for lane in self._lanes):
                self.reactor.stop()
        elif self._begun and not self._sending and not self.records.owed:
            self.reactor.stop()

    # What lanes tell.

    def has_room(self, lane: Lane) -> None:
        """`lane` has connected, or something has come back on it."""
        if not self._sending:
            self._settle()
            return
        if self._churn:
            lane.close()
        elif self._closed_loop:
            self._fill(lane)
            return
        self._use(lane)

    def connection_ended(self, lane: Lane) -> None:
        """`lane` has lost its connection."""
        if self._sending:
            self._revive(lane)
        else:
            self._settle()

    def connect_failed(self, lane: Lane, error: OSError, *, extra: bool) -> None:
        """`lane` could not connect; an `extra` exchange counts for it."""
        self.last_error = error
        if not self._sending:
            self._settle()
            return
        if extra and self._closed_loop:
            self._left -= 1
            if self._left <= 0:
                self._stop_sending()
                self._settle()
                return
        elif extra and self._schedule.next_due <= monotonic_ns():
            self._advance()
        doublings = min(lane.failures_in_a_row - 1, 10)
        pause = min(_RETRY_AFTER * 2**doublings, _RETRY_LONGEST)
        self._later(lane, pause, lambda: self._revive(lane))

    # Sending.

    def _fill(self, lane: Lane) -> None:
        """Closed loop: send as many as `lane`, which is connected, has room for."""
        count = self._in_flight - len(lane.waiting)
        if count >= self._left:
            count = self._left
            self._stop_sending()
        self._left -= count
        self.records.requests += count
        lane.transmit(count, NOW)

    def _use(self, lane: Lane) -> None:
        """Let a lane send that has room, be it connected or to be connected for each exchange."""
        if self._closed_loop:
            if lane.connected:
                self._fill(lane)
                return
            self._left -= 1
            if not self._left:
                self._stop_sending()
            lane.begin(NOW)
            return
        if not lane.listed:
            lane.listed = True
            self._free.append(lane)
        self._dispatch(waited=True)

    def _dispatch(self, *, waited: bool) -> None:
        """Send what is due, as far as lanes are free; `waited`: it is due since a lane was not."""
        free, schedule = self._free, self._schedule
        lateness = self.records.lateness
        while free and (now := monotonic_ns()) >= schedule.next_due:
            lane = free.popleft()
            lane.listed = False
            if not lane.connected and not (self._churn and lane.idle):
                continue
            due = schedule.next_due
            self._advance()
            if not waited:
                lateness.append(now - due)
            lane.begin(due)
            if lane.connected and len(lane.waiting) < self._in_flight and not lane.listed:
                lane.listed = True
                free.append(lane)
        if free and schedule.next_due != NEVER and not self._tick_armed:
            self._tick_armed = True
            wait = max(0.0, (schedule.next_due - monotonic_ns()) / 1e9)
            self._later("tick", wait, self._tick)

    def _tick(self) -> None:
        self._tick_armed = False
        self._dispatch(waited=False)

    def _advance(self) -> None:
        """One more exchange of the schedule has begun."""
        self._schedule.advance()
        self._left -= 1
        # Within its time a turn may have none just now; when it is out of time or count, it ends.
        if not self._left or (self._catching_up and self._schedule.next_due == NEVER):
            self._stop_sending()

    # Watching.

    def _sweep(self) -> None:
        """Now and then: fail what takes too long."""
        now = monotonic_ns()
        oldest = now - int(self.plan.timeout * 1e9)
        oldest_connect = now - int(self.plan.connect_timeout * 1e9)
        for lane in self._lanes:
            lane.expire(oldest, oldest_connect)
        patience = min(self.plan.timeout, self.plan.connect_timeout)
        self._later("sweep", min(0.1, max(0.005, patience / 8)), self._sweep)
