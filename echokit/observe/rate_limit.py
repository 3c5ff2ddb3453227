"""Telling of what others cause, without letting them fill a log."""

import time
from collections.abc import Callable, Iterator

__all__ = ["RateLimits", "with_left_out"]


class _RateLimit:
    """Lets so many lines of one kind through in a second, and counts those that it holds back."""

    def __init__(self, a_second: int) -> None:
        self._a_second = a_second
        self.began = float("-inf")
        self._passed = 0
        self._left_out = 0

    def passes(self, now: float) -> bool:
        """Whether one more may be told now."""
        if now - self.began >= 1.0:
            self.began = now
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


class RateLimits:
    """Says what may be told, kind by kind: so much of each in a second.

    Args:
        a_second: How much of one kind is told in a second.
        clock: Seconds.
    """

    def __init__(self, a_second: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._a_second = a_second
        self._clock = clock
        self._kinds: dict[str, _RateLimit] = {}

    def ask(self, kind: str) -> int | None:
        """None: say nothing now. Else how much of this kind was held back since the last."""
        limit = self._kinds.setdefault(kind, _RateLimit(self._a_second))
        return limit.take_left_out() if limit.passes(self._clock()) else None

    def overdue(self, *, at_end: bool) -> Iterator[str]:
        """A line for each kind of which some were held back, and none has come since to tell so.

        Args:
            at_end: Nothing more will come: what this very second has held back is told, too.
        """
        now = self._clock()
        for kind, limit in self._kinds.items():
            over = at_end or now - limit.began >= 1.0
            if over and (left_out := limit.take_left_out()):
                yield f"{kind}: {left_out} more left out"


def with_left_out(text: str, left_out: int) -> str:
    """`text`, and how many like it were held back."""
    return f"{text} ({left_out} more like this left out)" if left_out else text
