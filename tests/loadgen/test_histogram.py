"""Histograms: nothing is lost when they are merged, and no percentile is above the maximum."""

import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echokit import ConfigError
from echokit.loadgen.figures import PERCENTILES, Figure
from echokit.loadgen.histogram import HIGHEST_US, Histogram

TIMES = st.lists(st.integers(0, HIGHEST_US), max_size=200)


def _of(times: list[int]) -> Histogram:
    histogram = Histogram()
    histogram.add(Counter(times))
    return histogram


@settings(deadline=None)
@given(st.lists(TIMES, min_size=1, max_size=6))
def test_merged_equals_unmerged(parts: list[list[int]]) -> None:
    merged = Histogram()
    for part in parts:
        merged.merge(_of(part))
    assert merged.figure() == _of([time for part in parts for time in part]).figure()


@settings(deadline=None)
@given(TIMES.filter(bool))
def test_a_figure_is_exact_where_it_says_so_and_good_to_three_digits_elsewhere(
    times: list[int],
) -> None:
    figure = _of(times).figure()
    ordered = sorted(times)
    assert (figure.count, figure.sum_us) == (len(times), sum(times))
    assert (figure.min_us, figure.max_us) == (ordered[0], ordered[-1])
    assert figure.mean_us == sum(times) / len(times)
    for name, percentile in PERCENTILES.items():
        value = getattr(figure, name)
        # So many percent are no greater, which a rank rounded to the nearest would not hold.
        exact = ordered[math.ceil(Fraction(str(percentile)) * len(times) / 100) - 1]
        assert exact <= value <= min(exact * 1.001 + 1, ordered[-1])


@pytest.mark.parametrize(
    ("count", "name"), [(6, "p90_us"), (60, "p99_us"), (700, "p99_9_us"), (9000, "p99_99_us")]
)
def test_one_slow_value_too_many_is_not_rounded_away(count: int, name: str) -> None:
    histogram = Histogram()
    histogram.add({100: count - 1, 1_000_000: 1})
    assert getattr(histogram.figure(), name) == 1_000_000


def test_a_rank_that_is_a_whole_number_is_not_rounded_up() -> None:
    histogram = Histogram()
    histogram.add({100: 161, 1_000_000: 839})
    # Of floats, 16.1 * 1000 / 100 is a hair more than 161.
    assert histogram.at_percentiles([16.1, 16.11]) == [100, 1_000_000]


@settings(deadline=None)
@given(TIMES.filter(bool), st.lists(st.integers(0, 10_000)).map(sorted))
def test_any_percentile_is_that_of_the_sorted_values(
    times: list[int], hundredths: list[int]
) -> None:
    ordered = sorted(times)
    found = _of(times).at_percentiles([each / 100 for each in hundredths])
    for each, value in zip(hundredths, found, strict=True):
        exact = ordered[max(0, math.ceil(Fraction(each, 10_000) * len(times)) - 1)]
        assert exact <= value <= min(exact * 1.001 + 1, ordered[-1])


@settings(deadline=None)
@given(TIMES)
def test_a_figure_gives_its_histogram_back(times: list[int]) -> None:
    figure = _of(times).figure()
    assert Histogram.of(figure).figure() == figure


def test_what_takes_longer_than_an_hour_counts_as_an_hour_in_the_percentiles() -> None:
    figure = _of([HIGHEST_US * 2]).figure()
    assert figure.max_us == HIGHEST_US * 2
    assert figure.p50_us == HIGHEST_US * 2


def test_nothing_counted_has_no_numbers() -> None:
    figure = _of([]).figure()
    assert figure.count == figure.sum_us == 0
    assert (figure.p50_us, figure.max_us, figure.mean_us, figure.histogram) == (None,) * 4


WHOLE = _of([5, 10, 20]).figure()


@pytest.mark.parametrize(
    "text",
    ["", "x", "é", "HISTF", "!" * 40, str(WHOLE.histogram)[:-6], str(WHOLE.histogram)[::-1]],
)
def test_what_is_no_histogram_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="a histogram cannot be decoded"):
        Histogram.of(WHOLE.model_copy(update={"histogram": text}))


@settings(deadline=None)
@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda data: data.hex()))
def test_any_text_at_all_is_a_histogram_or_an_error(text: str) -> None:
    try:
        Histogram.of(WHOLE.model_copy(update={"histogram": text}))
    except ConfigError:
        pass
    else:
        assert text == WHOLE.histogram


def test_a_histogram_of_another_figure_is_told() -> None:
    with pytest.raises(ConfigError, match="holds 3 values, and its figure counts 4"):
        Histogram.of(WHOLE.model_copy(update={"count": 4}))


@pytest.mark.parametrize(
    "wrong",
    [{"p50_us": 21}, {"min_us": 11}, {"max_us": None}, {"histogram": None}, {"count": 0}],
    ids=str,
)
def test_a_figure_whose_numbers_contradict_each_other_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"a figure has|not fall"):
        Figure.model_validate(WHOLE.model_dump() | wrong)
