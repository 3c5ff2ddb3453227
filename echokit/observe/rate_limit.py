"""Telling of what others cause, without letting them fill a log."""

import time
from collections.abc import Callable

__all__ = ["RateLimit", "with_left_out"]


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


def with_left_out(text: str, left_out: int) -> str:
    """`text`, and how many like it were held back."""
    return f"{text} ({left_out} more like this left out)" if left_out else text
