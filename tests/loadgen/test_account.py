"""Accounts: all turns add up, and the slices stay few."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echokit.loadgen.account import MOST_SLICES, Account
from echokit.loadgen.histogram import Histogram
from echokit.loadgen.records import Tally


def _tally(times: list[int], failed: int) -> Tally:
    return Tally(
        seconds=0.5,
        sending_seconds=0.5,
        requests=len(times) + failed,
        outcomes=Counter(ok=len(times), reset=failed),
        service=Counter(times),
        response=Counter(times),
    )


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(1, 10**6), max_size=4), st.integers(0, 3)), max_size=150
    )
)
def test_turns_add_up_without_loss_in_bounded_slices(turns: list[tuple[list[int], int]]) -> None:
    account = Account()
    whole = Histogram()
    for number, (times, failed) in enumerate(turns):
        account.add(number * 0.5, _tally(times, failed))
        whole.add(Counter(times))
    result = account.result(["[::1]:7"], None)
    assert result.response == whole.figure()
    assert result.outcomes.reset == sum(failed for _, failed in turns)
    slices = result.slices
    assert len(slices) <= MOST_SLICES
    assert sum(slice_.requests for slice_ in slices) == result.requests
    assert sum(slice_.response.count for slice_ in slices) == result.response.count
    assert [s.start_s for s in slices] == sorted(s.start_s for s in slices)
    assert sum(s.duration_s for s in slices) == result.measured_s
    joined = Histogram()
    for slice_ in slices:
        joined.merge(Histogram.of(slice_.response))
    assert joined.figure() == whole.figure()


def test_the_rate_of_an_open_loop_is_by_the_time_in_which_exchanges_could_begin() -> None:
    turn = _tally([300_000] * 50, 0)
    # Half a second of sending, and the wait for the last.
    turn.seconds = 0.8
    open_loop, closed_loop = Account(open_loop=True), Account()
    for number in range(3 * MOST_SLICES):
        for account in (open_loop, closed_loop):
            account.add(number * 0.8, turn)
    for account, rate in ((open_loop, 100.0), (closed_loop, 62.5)):
        result = account.result(["[::1]:7"], None)
        assert result.requests_per_s == account.requests_per_s == pytest.approx(rate)
        assert {round(slice_.requests_per_s, 6) for slice_ in result.slices} == {rate}
        assert result.measured_s == pytest.approx(sum(s.duration_s for s in result.slices))


def test_the_times_of_a_turn_are_not_kept() -> None:
    account = Account()
    for number in range(10):
        account.add(number, _tally(list(range(1, 2000)), 0))
    assert not account.total.service
    assert not account.total.response


def _quiet(times: list[int], silent: float) -> Tally:
    return replace(_tally(times, 2), silent_seconds=silent)


def test_silence_is_counted_until_something_comes_back() -> None:
    account = Account()
    account.add(0.0, _quiet([], 0.5))
    # Nothing is due in this one.
    account.add(0.0, _quiet([], 0.0))
    assert account.silent_seconds == 0.5
    account.add(0.0, _quiet([], 0.5))
    assert account.silent_seconds == 1.0
    account.add(0.0, _quiet([5], 0.0))
    assert account.silent_seconds == 0.0
    account.add(0.0, _quiet([], 0.0))
    assert account.silent_seconds == 0.0
    # It begins within a turn.
    account.add(0.0, _quiet([5], 0.25))
    account.add(0.0, _quiet([], 0.5))
    assert account.silent_seconds == 0.75


def test_silence_tells_from_two_turns_and_a_tenth_of_the_time_on() -> None:
    account = Account()
    for silent in (0.0,) * 8 + (0.2,):
        account.add(0.0, _quiet([5], silent))
    account.add(0.0, _quiet([], 0.5))
    assert account.silence(0.5) == 0.0
    assert account.silence(0.35) == account.result([], None, 0.35).silent_s == pytest.approx(0.7)
    for _ in range(10):
        account.add(0.0, _quiet([5], 0.7))
    assert account.silence(0.1) == 0.0


def test_a_death_is_known_at_a_low_rate_too() -> None:
    account = Account()
    for times in ([5], []):
        for _ in range(5):
            account.add(0.0, _quiet(times, 0.0 if times else 0.5))
            # Nothing is due in these.
            for _ in range(9):
                account.add(0.0, replace(_tally([], 0), silent_seconds=0.0))
    assert account.silence(0.5) == 2.5
