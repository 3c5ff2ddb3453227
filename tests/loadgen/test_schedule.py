"""The schedule of an open loop: evenly spaced, whatever the turns."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echokit.loadgen.schedule import NEVER, Schedule

SECOND = 1_000_000_000


def _dues(schedule: Schedule) -> list[int]:
    """Every time of the turn that has begun."""
    dues = []
    while schedule.next_due != NEVER:
        dues.append(schedule.next_due)
        schedule.advance()
    return dues


def test_a_turn_has_its_exchanges_evenly_from_its_beginning() -> None:
    schedule = Schedule(4, 0.0)
    schedule.begin(SECOND, 1.0, NEVER)
    assert _dues(schedule) == [SECOND + n * SECOND // 4 for n in range(4)]


@settings(deadline=None)
@given(
    st.floats(0.5, 5000),
    st.lists(st.floats(0.001, 0.5), min_size=1, max_size=20),
    st.sampled_from([0.0, 0.25, 0.5]),
)
def test_over_all_turns_the_rate_is_right_and_the_spacing_even(
    rate: float, turns: list[float], phase: float
) -> None:
    schedule = Schedule(rate, phase)
    interval = SECOND / rate
    elapsed = 0.0
    due = []
    for number, seconds in enumerate(turns):
        # The pauses between turns are of any length.
        began = int(elapsed * SECOND) + number * 17 * SECOND
        schedule.begin(began, seconds, NEVER)
        due += [at - number * 17 * SECOND for at in _dues(schedule)]
        elapsed += seconds
    assert abs(len(due) + phase - elapsed * rate) <= 1.001
    assert all(abs(b - a - interval) < 1000 for a, b in itertools.pairwise(due))


@settings(deadline=None)
@given(st.floats(1, 5000), st.floats(0.0, 0.5), st.floats(0.0, 0.5))
def test_a_turn_that_goes_on_has_as_many_as_a_longer_one(
    rate: float, more: float, fewer: float
) -> None:
    schedule, whole = Schedule(rate, 0.0), Schedule(rate, 0.0)
    schedule.begin(SECOND, 0.5, NEVER)
    due = _dues(schedule)
    end = int((1.5 + more) * SECOND)
    # Farther than it comes to, and back.
    schedule.reach(end + int(fewer * SECOND))
    schedule.reach(end - SECOND // 100)
    schedule.extend(SECOND // 100)
    due += _dues(schedule)
    whole.begin(SECOND, (end - SECOND) / SECOND, NEVER)
    assert due == _dues(whole)
    # And the next turn goes on from there.
    schedule.begin(9 * SECOND, 1.0, NEVER)
    whole.begin(9 * SECOND, 1.0, NEVER)
    assert _dues(schedule) == _dues(whole)


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(1, 100), st.integers(1, 1000))
def test_a_count_takes_a_whole_interval_for_each(workers: int, count: int, rate: int) -> None:
    seconds = []
    for number in range(workers):
        schedule = Schedule(rate / workers, number / workers, workers)
        each = count // workers + (number < count % workers)
        if each:
            schedule.begin(0, 1e6, each)
            schedule.finish(_dues(schedule)[-1])
            seconds.append(schedule.seconds)
    assert max(seconds) == pytest.approx(count / rate)


def test_a_turn_goes_on_for_as_long_as_it_may_and_no_longer() -> None:
    schedule = Schedule(10, 0.0)
    schedule.begin(0, 0.5, NEVER, 1.0)
    schedule.reach(SECOND * 3 // 4)
    assert (schedule.left, schedule.complete(SECOND * 3 // 4)) == (8, False)
    schedule.reach(9 * SECOND)
    assert (schedule.left, schedule.complete(9 * SECOND)) == (10, True)
    schedule.extend(SECOND)
    assert (schedule.left, schedule.seconds) == (10, 1.0)
    # That is the first one's alone.
    schedule.begin(20 * SECOND, 1.0, NEVER)
    assert schedule.left == 20


@settings(deadline=None)
@given(st.integers(1, 50))
def test_a_count_ends_the_turn(count: int) -> None:
    schedule = Schedule(10, 0.0)
    schedule.begin(0, 2.0, count)
    assert len(_dues(schedule)) == min(count, 20)


@settings(deadline=None)
@given(st.floats(1, 5000), st.lists(st.integers(0, 200), min_size=1, max_size=10))
def test_what_a_turn_leaves_stays_due_and_waits_while_turns_run(
    rate: float, sent: list[int]
) -> None:
    schedule = Schedule(rate, 0.0)
    begun = 0
    for number, most in enumerate(sent):
        # Half a second each, and 17 between them, in which nothing waits.
        schedule.begin(number * 17 * SECOND, 0.5, NEVER)
        for _ in range(min(most, schedule.left)):
            in_turns = schedule.next_due - number * (17 * SECOND - SECOND // 2)
            assert abs(in_turns - begun * SECOND / rate) < 1000
            schedule.advance()
            begun += 1
    assert schedule.left == pytest.approx(len(sent) / 2 * rate - begun, abs=1.001)


def test_what_is_given_up_is_told_and_does_not_come_again() -> None:
    schedule = Schedule(10, 0.0)
    schedule.begin(0, 1.0, NEVER)
    for _ in range(3):
        schedule.advance()
    assert schedule.give_up() == 7
    assert (schedule.next_due, schedule.give_up()) == (NEVER, 0)
    schedule.begin(SECOND, 1.0, NEVER)
    assert _dues(schedule)[0] == SECOND


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(1, 100))
def test_the_schedules_of_workers_interleave(workers: int, rate: int) -> None:
    dues = []
    for number in range(workers):
        schedule = Schedule(rate / workers, number / workers)
        schedule.begin(0, 10.0, NEVER)
        dues += _dues(schedule)
    dues.sort()
    assert all(abs(b - a - SECOND / rate) < 1000 for a, b in itertools.pairwise(dues))


@pytest.mark.parametrize("turns", [[0.1] * 10, [0.3] * 10, [0.7, 0.3, 0.1, 0.9]])
def test_turns_that_add_up_to_whole_intervals_have_no_exchange_more(turns: list[float]) -> None:
    # In floats some of these sums are more than they would be.
    schedule = Schedule(1.0, 0.0)
    due = 0
    for seconds in turns:
        schedule.begin(SECOND, seconds, NEVER)
        schedule.extend(0.0001)
        due += len(_dues(schedule))
    assert due == round(sum(turns))
