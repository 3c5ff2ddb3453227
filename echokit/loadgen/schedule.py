"""When the exchanges of an open loop are due: evenly spaced, whatever has come back."""

import math
import sys

__all__ = ["NEVER", "Schedule"]

NEVER = sys.maxsize
# What is due at the very end of a turn is the next one's. How much of an interval the sum of turns
# may be too long by rounding.
_ROUNDING = 1e-6


class Schedule:
    """The times at which exchanges are due, in nanoseconds of the monotonic clock.

    It goes on from turn to turn as if there was nothing between them, so that the rate is right
    also where a turn has less than one exchange. What a turn has left stays due, and has waited in
    the next one for as long as turns were since: a target that cannot keep the rate is as far
    behind as in one long turn.

    Args:
        rate: Exchanges a second.
        phase: By how much of an interval it is shifted, 0 to 1.
        workers: How many such schedules interleave.

    Attributes:
        next_due: When the next exchange is due; `NEVER` where the turn has none any more. One that
            was left is due before the turn began.
    """

    __slots__ = (
        "_before", "_began", "_interval", "_last", "_longest", "_most", "_number", "_own", "_turns",
        "next_due",
    )  # fmt: skip

    def __init__(self, rate: float, phase: float, workers: int = 1) -> None:
        self._interval = 1e9 / rate
        # What of it is each exchange's own, until the next one of another worker.
        self._own = self._interval / workers
        # How long the turns were until now.
        self._turns = self._before = -phase * self._interval
        self._number = self._last = self._most = 0
        self._began = 0.0
        # How long they may become.
        self._longest = math.inf
        self.next_due = NEVER

    def begin(self, now: int, seconds: float, count: int, longest: float = math.inf) -> None:
        """Begin a turn of so many seconds, `longest` at most, and of at most `count` exchanges."""
        self._before = self._turns
        self._longest = self._turns + longest * 1e9
        self._began = now - self._turns
        self._most = self._number + count
        self._reach(self._turns + seconds * 1e9)

    def reach(self, now: int) -> None:
        """Let the turn be as long as until `now`."""
        self._reach(now - self._began)

    def finish(self, now: int) -> None:
        """End the turn with the exchange that has just begun.

        It has all of its interval: without that of the last, a few seem to be faster than asked.
        """
        self._reach(max(now - self._began, (self._number - 1) * self._interval + self._own))

    def extend(self, nanoseconds: float) -> None:
        """Let the turn be so much longer, as far as it may."""
        self._reach(self._turns + nanoseconds)

    @property
    def seconds(self) -> float:
        """How long the turn is."""
        return (self._turns - self._before) / 1e9

    def complete(self, now: int) -> bool:
        """Whether the turn has been as long as it may be."""
        return now - self._began >= self._longest

    def _reach(self, turns: float) -> None:
        self._turns = turns = min(turns, self._longest)
        last = min(math.ceil(turns / self._interval - _ROUNDING), self._most)
        self._last = max(self._number, last)
        self._look()

    def advance(self) -> None:
        """The next exchange has begun: to the one after it."""
        self._number += 1
        self._look()

    def _look(self) -> None:
        within = self._number < self._last
        self.next_due = int(self._began + self._number * self._interval) if within else NEVER

    @property
    def left(self) -> int:
        """How many exchanges the turn has that have not begun."""
        return self._last - self._number

    def give_up(self) -> int:
        """Leave out what is left of the turn; how many exchanges that is."""
        left = self.left
        self._number = self._last
        self.next_due = NEVER
        return left
