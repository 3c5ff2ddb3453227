"""What charts are drawn of: the curve of percentiles and the spread, against the plain values."""

import itertools
import math
import random
from collections import Counter

import pytest

from echokit.loadgen.curves import at_percentiles, percentile_curve, spread
from echokit.loadgen.figures import Figure
from echokit.loadgen.histogram import Histogram


def _figure(values: list[int]) -> Figure:
    histogram = Histogram()
    histogram.add(Counter(values))
    return histogram.figure()


def _values(count: int) -> list[int]:
    random_ = random.Random(7)  # noqa: S311 - for values, not for secrets
    return sorted(int(random_.lognormvariate(6, 1.5)) for _ in range(count))


@pytest.mark.parametrize("count", [1, 2, 3, 10, 999, 5000])
def test_the_curve_is_that_of_the_sorted_values(count: int) -> None:
    values = _values(count)
    curve = percentile_curve(_figure(values))
    *before, last = curve
    assert last == (float(count), values[-1])
    for place, latency in before:
        # All but one in `place` are no greater, to three digits.
        exact = values[max(1, count - math.floor(count / place)) - 1]
        assert exact <= latency <= exact * 1.001 + 1
    assert curve == sorted(curve)
    assert [latency for _, latency in curve] == sorted(latency for _, latency in curve)


def test_the_curve_has_twenty_points_a_decade() -> None:
    places = [place for place, _ in percentile_curve(_figure(_values(1000)))]
    assert len(places) == 61
    assert places[20] == pytest.approx(10)
    assert places[40] == pytest.approx(100)


def test_no_percentile_lies_beyond_the_least_and_the_greatest() -> None:
    figure = _figure([12345, 99999])
    assert at_percentiles(figure, [0.0, 99.99, 100.0]) == [12345, 99999, 99999]


@pytest.mark.parametrize("count", [1, 5000])
def test_every_value_is_in_a_bin_and_in_one_only(count: int) -> None:
    bins = spread(_figure(_values(count)))
    assert sum(share for _, _, share in bins) == pytest.approx(1)
    assert all(low < high and share > 0 for low, high, share in bins)
    assert all(before[1] <= after[0] * 1.000001 for before, after in itertools.pairwise(bins))


def test_a_bins_share_is_that_of_the_values_in_it() -> None:
    values = _values(5000)
    for low, high, share in spread(_figure(values)):
        # A microsecond on each side may be cut by a bin's edge, and the histogram has three digits.
        inner = sum(low * 1.002 + 1 <= value <= high * 0.998 - 1 for value in values) / 5000
        outer = sum(low * 0.998 - 1 <= value <= high * 1.002 + 1 for value in values) / 5000
        assert inner <= share + 1e-9
        assert share <= outer + 1e-9


def test_bins_narrower_than_a_microsecond_share_its_values_evenly() -> None:
    bins = spread(_figure([3] * 10 + [4] * 10))
    # Rounded, they stand for what is from 2.5 to 4.5.
    densities = [share / (min(high, 4.5) - max(low, 2.5)) for low, high, share in bins]
    assert bins[0][0] <= 2.5
    assert bins[-1][1] >= 4.5
    assert densities == pytest.approx([0.5] * len(bins))


def test_less_than_a_microsecond_is_something_too() -> None:
    bins = spread(_figure([0, 0, 0]))
    assert sum(share for _, _, share in bins) == pytest.approx(1)
    # On a logarithmic axis from a quarter on, up to the half that is rounded down.
    assert bins[0][0] == pytest.approx(0.25, rel=0.1)
    assert bins[-1][1] == pytest.approx(0.5, rel=0.1)
    assert math.isfinite(bins[0][0])


def test_where_nothing_was_counted_there_is_nothing() -> None:
    nothing = Histogram().figure()
    assert percentile_curve(nothing) == []
    assert spread(nothing) == []
