"""Telling of what others cause, without letting them fill a log."""

import time
from collections.abc import Callable, Iterator, Mapping

__all__ = ["RateLimit", "overdue", "with_left_out"]


class RateLimit:
    """Lets so many lines of one kind through in a second, and counts those that it holds back."""

    def __init__(self, a_second: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._a_second = a_second
        self._clock = clock
        self._began = float("-inf")
        self._passed = 0
        self._left_out = 0

    def passes(self) -> bool:
        """Whether one more may be told now."""
        now = self._clock()
        if now - self._began >= 1.0:
            self._began = now
            self._passed = 0
        if self._passed >= self._a_second:
            self._left_out += 1
            return False
        self._passed += 1
        return True

    def take_left_out(self) -> int:
        """How many have been held back since this was last asked."""
        left_out, self._left_out = self._left_out, 0
        return left_out

    def take_overdue(self) -> int:
        """As `take_left_out`, once the second in which they were held back is over; 0 before."""
        return self.take_left_out() if self._clock() - self._began >= 1.0 else 0


def with_left_out(text: str, left_out: int) -> str:
    """`text`, and how many like it were held back."""
    return f"{text} ({left_out} more like this left out)" if left_out else text


def overdue(limits: Mapping[str, RateLimit], *, at_end: bool) -> Iterator[str]:
    """A line for each kind of which some were held back, and none has come since that told so.

    Args:
        limits: By what they are of, in words.
        at_end: Nothing more will come: what this very second has held back is told, too.
    """
    for kind, limit in limits.items():
        if left_out := limit.take_left_out() if at_end else limit.take_overdue():
            yield f"{kind}: {left_out} more left out"
