"""HDR histograms: every value from 1 us to 1 h with three significant digits, in constant memory.

Gil Tene's High Dynamic Range histogram, by the `hdrhistogram` package. Beside its buckets the exact
least, greatest and sum are kept, which the encoding would round.
"""

import binascii
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

from echokit.errors import ConfigError
from echokit.loadgen.figures import PERCENTILES, Figure

try:
    from hdrh.codec import HdrCookieException, HdrLengthException
    from hdrh.histogram import HdrHistogram
except ImportError as error:
    raise ConfigError(
        "echokit load, compare and merge need hdrhistogram: install echokit from its checkout"
        " with the extra 'load', as in pip install -e '.[load]'"
    ) from error

__all__ = ["HIGHEST_US", "Histogram"]

# One hour. What takes longer counts as that.
HIGHEST_US = 3_600_000_000
_DIGITS = 3


class Histogram:
    """How often each value was seen, in whole microseconds."""

    def __init__(self) -> None:
        self._buckets: Any = HdrHistogram(1, HIGHEST_US, _DIGITS)
        self.count = 0
        self.sum_us = 0
        self.min_us: int | None = None
        self.max_us: int | None = None

    def add(self, counts: Mapping[int, int]) -> None:
        """Count values: microseconds, not negative, to how often each was seen."""
        for value, count in counts.items():
            self._buckets.record_value(min(value, HIGHEST_US), count)
            self.sum_us += value * count
        if counts:
            self._widen(sum(counts.values()), min(counts), max(counts))

    def merge(self, other: "Histogram") -> None:
        """Count all that `other` has counted, without any loss."""
        if other.min_us is not None and other.max_us is not None:
            self._buckets.add(other._buckets)  # noqa: SLF001 - of the same class
            self.sum_us += other.sum_us
            self._widen(other.count, other.min_us, other.max_us)

    def _widen(self, count: int, least: int, greatest: int) -> None:
        self.count += count
        self.min_us = least if self.min_us is None else min(self.min_us, least)
        self.max_us = greatest if self.max_us is None else max(self.max_us, greatest)

    def figure(self) -> Figure:
        """What was counted, as the result document has it."""
        least, greatest = self.min_us, self.max_us
        if least is None or greatest is None:
            names = ("min_us", "mean_us", *PERCENTILES, "max_us", "histogram")
            return Figure(count=0, sum_us=0, **dict.fromkeys(names))
        percentiles = dict(
            zip(PERCENTILES, self.at_percentiles(list(PERCENTILES.values())), strict=True)
        )
        return Figure(
            count=self.count,
            min_us=least,
            mean_us=self.sum_us / self.count,
            max_us=greatest,
            sum_us=self.sum_us,
            histogram=self._buckets.encode().decode("ascii"),
            **percentiles,
        )

    def at_percentiles(self, percentiles: Sequence[float]) -> list[int]:
        """The value at each of `percentiles`: the least that so many percent are no greater than.

        They rise, and are exact to a hundredth of a percent.
        """
        # In whole numbers: of floats, 16.1% of 1000 are a hair more than 161, and the rank 162.
        return self.at_ranks([-(-round(100 * each) * self.count // 10_000) for each in percentiles])

    def at_ranks(self, ranks: Sequence[int]) -> list[int]:
        """The values at `ranks` among all in order, from 1, the least, to `count`; 0 is as 1.

        Ranks rise; values are good to three digits, and none lies beyond the least and greatest.
        """
        buckets, least, greatest = self._buckets, self.min_us or 0, self.max_us or 0
        values = []
        seen = index = 0
        for rank in ranks:
            while seen < rank and index < buckets.counts_len:
                seen += buckets.get_count_at_index(index)
                index += 1
            # What takes longer than an hour is known exactly of the greatest alone.
            if rank <= 1 or rank >= self.count:
                values.append(least if rank <= 1 else greatest)
                continue
            edge = buckets.get_highest_equivalent_value(buckets.get_value_from_index(index - 1))
            # A bucket's upper edge can lie beyond the greatest value that is in it.
            values.append(max(least, min(edge, greatest)))
        return values

    @classmethod
    def of(cls, figure: Figure) -> Self:
        """The histogram that `figure` has.

        Raises:
            ConfigError: It cannot be decoded, or is not what the figure's own numbers say.
        """
        found = cls()
        if figure.histogram is None:
            return found
        try:
            decoded = HdrHistogram.decode(figure.histogram)
            found._buckets.add(decoded)
        except (
            binascii.Error,
            zlib.error,
            HdrCookieException,
            HdrLengthException,
            IndexError,
            MemoryError,
            TypeError,
            ValueError,
        ) as error:
            raise ConfigError(
                f"a histogram cannot be decoded: {str(error) or type(error).__name__}"
            ) from error
        if found._buckets.get_total_count() != figure.count:
            raise ConfigError(
                f"a histogram holds {found._buckets.get_total_count()} values, and its figure"
                f" counts {figure.count}"
            )
        found.count, found.sum_us = figure.count, figure.sum_us
        found.min_us, found.max_us = figure.min_us, figure.max_us
        return found
