"""So many lines in a second, and how many were left out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echokit.observe.rate_limit import RateLimits, with_left_out


class _Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def _passes(limits: RateLimits, kind: str = "lost") -> bool:
    return limits.ask(kind) is not None


def test_one_a_second_passes_and_the_others_are_counted() -> None:
    clock = _Clock()
    limits = RateLimits(clock=clock)
    assert [limits.ask("lost") for _ in range(5)] == [0, None, None, None, None]
    clock.now += 0.999
    assert limits.ask("lost") is None
    clock.now += 0.001
    assert limits.ask("lost") == 5
    clock.now += 1
    assert limits.ask("lost") == 0


def test_the_first_passes_whenever_it_comes() -> None:
    clock = _Clock()
    clock.now = 0.0
    assert RateLimits(clock=clock).ask("lost") == 0


def test_several_a_second_may_pass_and_each_kind_has_its_own_second() -> None:
    clock = _Clock()
    limits = RateLimits(3, clock)
    assert [_passes(limits) for _ in range(4)] == [True, True, True, False]
    assert [_passes(limits, "refused") for _ in range(4)] == [True, True, True, False]
    clock.now += 1
    assert [limits.ask("lost") for _ in range(4)] == [1, 0, 0, None]


@given(st.integers(1, 5), st.lists(st.floats(0, 3), max_size=50))
def test_nothing_is_lost_between_what_passes_and_what_is_left_out(
    a_second: int, pauses: list[float]
) -> None:
    clock = _Clock()
    limits = RateLimits(a_second, clock)
    told: list[float] = []
    left_out = 0
    for pause in pauses:
        clock.now += pause
        if (found := limits.ask("lost")) is not None:
            told.append(clock.now)
            left_out += found
    for line in limits.overdue(at_end=True):
        left_out += int(line.split()[1])
    assert len(told) + left_out == len(pauses)
    # Two windows can meet in any second, and no more.
    assert all(sum(at <= other < at + 1 for other in told) <= 2 * a_second for at in told)


@pytest.mark.parametrize(
    ("left_out", "text"), [(0, "lost"), (1, "lost (1 more like this left out)")]
)
def test_what_was_left_out_is_told(left_out: int, text: str) -> None:
    assert with_left_out("lost", left_out) == text


def test_what_was_left_out_is_told_by_itself_when_its_second_is_over_and_once() -> None:
    clock = _Clock()
    limits = RateLimits(2, clock)
    assert [_passes(limits) for _ in range(5)].count(False) == 3
    assert _passes(limits, "quiet")
    clock.now += 0.999
    assert list(limits.overdue(at_end=False)) == []
    clock.now += 0.001
    assert list(limits.overdue(at_end=False)) == ["lost: 3 more left out"]
    assert list(limits.overdue(at_end=True)) == []


def test_at_the_end_nothing_waits_for_its_second_to_be_over() -> None:
    limits = RateLimits(clock=_Clock())
    assert [_passes(limits) for _ in range(2)] == [True, False]
    assert list(limits.overdue(at_end=True)) == ["lost: 1 more left out"]
