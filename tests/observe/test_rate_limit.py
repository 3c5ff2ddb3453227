"""So many lines in a second, and how many were left out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echokit.observe.rate_limit import RateLimit, overdue, with_left_out


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_one_a_second_passes_and_the_others_are_counted() -> None:
    clock = _Clock()
    limit = RateLimit(clock=clock)
    assert [limit.passes() for _ in range(5)] == [True, False, False, False, False]
    clock.now += 0.999
    assert not limit.passes()
    clock.now += 0.001
    assert limit.passes()
    assert limit.take_left_out() == 5
    assert limit.take_left_out() == 0


def test_the_first_passes_whenever_it_comes() -> None:
    clock = _Clock()
    clock.now = 0.0
    assert RateLimit(clock=clock).passes()


def test_several_a_second_may_pass() -> None:
    clock = _Clock()
    limit = RateLimit(3, clock)
    assert [limit.passes() for _ in range(4)] == [True, True, True, False]
    clock.now += 1
    assert [limit.passes() for _ in range(4)] == [True, True, True, False]


@given(st.integers(1, 5), st.lists(st.floats(0, 3), max_size=50))
def test_nothing_is_lost_between_what_passes_and_what_is_left_out(
    a_second: int, pauses: list[float]
) -> None:
    clock = _Clock()
    limit = RateLimit(a_second, clock)
    told: list[float] = []
    left_out = 0
    for pause in pauses:
        clock.now += pause
        if limit.passes():
            told.append(clock.now)
            left_out += limit.take_left_out()
    assert len(told) + left_out + limit.take_left_out() == len(pauses)
    # Two windows can meet in any second, and no more.
    assert all(sum(at <= other < at + 1 for other in told) <= 2 * a_second for at in told)


@pytest.mark.parametrize(
    ("left_out", "text"), [(0, "lost"), (1, "lost (1 more like this left out)")]
)
def test_what_was_left_out_is_told(left_out: int, text: str) -> None:
    assert with_left_out("lost", left_out) == text


def test_what_was_left_out_is_told_by_itself_when_its_second_is_over_and_once() -> None:
    clock = _Clock()
    limits = {"lost": RateLimit(2, clock), "quiet": RateLimit(2, clock)}
    assert [limits["lost"].passes() for _ in range(5)].count(False) == 3
    assert limits["quiet"].passes()
    clock.now += 0.999
    assert list(overdue(limits, at_end=False)) == []
    clock.now += 0.001
    assert list(overdue(limits, at_end=False)) == ["lost: 3 more left out"]
    assert list(overdue(limits, at_end=True)) == []


def test_at_the_end_nothing_waits_for_its_second_to_be_over() -> None:
    limits = {"lost": RateLimit(clock=_Clock())}
    assert [limits["lost"].passes() for _ in range(2)] == [True, False]
    assert list(overdue(limits, at_end=True)) == ["lost: 1 more left out"]
