"""What a figure's histogram looks like: latency by percentile, and how latencies are spread."""

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from hdrh.histogram import HdrHistogram

from echokit.loadgen.figures import Figure
from echokit.loadgen.histogram import Histogram

__all__ = ["at_percentiles", "percentile_curve", "spread"]

_CURVE_POINTS = 20
_BINS = 30
# Values are rounded to whole microseconds: each stands for half of one to either side. Where 0
# begins on a logarithmic axis is ours to say.
_HALF = 0.5
_LEAST = 0.25


def percentile_curve(figure: Figure) -> list[tuple[float, int]]:
    """The latency below which all but one in x values lie, for x from 1 to the count.

    Returns:
        (x, microseconds), rising in both, 20 points for each decade of x; the last is (count,
        maximum). On a logarithmic axis of x, 90%, 99% and 99.9% stand evenly apart, as HDR
        histograms are commonly plotted. Empty where nothing was counted.
    """
    if figure.max_us is None:
        return []
    steps = math.ceil(_CURVE_POINTS * math.log10(figure.count))
    places = [10 ** (step / _CURVE_POINTS) for step in range(steps)]
    ranks = [figure.count - math.floor(figure.count / place) for place in places]
    values = Histogram.of(figure).at_ranks(ranks)
    return [*zip(places, values, strict=True), (float(figure.count), figure.max_us)]


def at_percentiles(figure: Figure, percentiles: list[float]) -> list[int]:
    """The latency in microseconds at each of `percentiles`, which rise, as the figure's own are.

    `figure` must have counted something.
    """
    return Histogram.of(figure).at_percentiles(percentiles)


def spread(figure: Figure) -> list[tuple[float, float, float]]:
    """How the values are spread over bins of equal width on a logarithmic axis, 30 a decade.

    Returns:
        (from, to, share) in microseconds, and of 1; rising, without empty bins. A value counts for
        all the microsecond (or more, where the histogram is coarser) that it stands for, so that
        bins narrower than that are no comb.
    """
    shares: defaultdict[int, float] = defaultdict(float)
    for low, high, count in _buckets(figure):
        first, last = (math.floor(_BINS * math.log10(edge)) for edge in (low, high))
        for number in range(first, last + 1):
            covered = min(high, _edge(number + 1)) - max(low, _edge(number))
            if covered > 0:
                shares[number] += count * covered / (high - low) / figure.count
    return [(_edge(number), _edge(number + 1), shares[number]) for number in sorted(shares)]


def _edge(number: int) -> float:
    edge: float = 10 ** (number / _BINS)
    return edge


def _buckets(figure: Figure) -> Iterator[tuple[float, float, int]]:
    """Each bucket that holds something: from, to, and how many."""
    if figure.histogram is None:
        return
    decoded: Any = HdrHistogram.decode(figure.histogram)
    for index in range(decoded.counts_len):
        if count := decoded.get_count_at_index(index):
            value = decoded.get_value_from_index(index)
            high = decoded.get_highest_equivalent_value(value) + _HALF
            low = decoded.get_lowest_equivalent_value(value) - _HALF
            yield max(low, _LEAST), high, count
