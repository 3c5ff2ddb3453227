"""Comparing two runs: what changed, and what only varies."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echokit import ConfigError
from echokit.loadgen.account import Account
from echokit.loadgen.compare import Change, compare, differences
from echokit.loadgen.measured import FamilyName
from echokit.loadgen.records import Tally
from echokit.loadgen.result import Result, load_result
from echokit.loadgen.surroundings import unstarted


def _run(slices: list[list[int]], failed: int = 0, family: FamilyName = "ipv4") -> Result:
    """A run whose slices have these response times."""
    account = Account()
    for number, times in enumerate(slices):
        tally = Tally(
            seconds=1.0,
            sending_seconds=1.0,
            requests=len(times) + failed,
            outcomes=Counter(ok=len(times), timeout=failed),
            service=Counter(times),
            response=Counter(times),
        )
        account.add(float(number), tally)
    family_result = account.result(["127.0.0.1:7"], None)
    return unstarted("", 0).model_copy(update={"families": {family: family_result}})


def _find(changes: list[Change], figure: str) -> Change:
    return next(change for change in changes if change.figure == figure)


STEADY = [[100] * 50] * 5


def test_a_run_compared_with_itself_is_the_same() -> None:
    changes = compare(_run(STEADY), _run(STEADY), 0.0)
    assert {change.verdict for change in changes} == {"same"}
    assert {change.change for change in changes} == {0.0}


@pytest.mark.parametrize(
    ("time", "verdict"), [(90, "better"), (100, "same"), (103, "worse"), (120, "regression")]
)
def test_a_change_is_held_against_the_tolerance(time: int, verdict: str) -> None:
    changes = compare(_run(STEADY), _run([[time] * 50] * 5), 0.05)
    found = _find(changes, "response p50")
    assert (found.verdict, found.spread) == (verdict, 0.0)
    assert found.change == pytest.approx(time / 100 - 1)


@pytest.mark.parametrize(("count", "verdict"), [(60, "better"), (49, "worse"), (40, "regression")])
def test_of_a_rate_more_is_better(count: int, verdict: str) -> None:
    changes = compare(_run(STEADY), _run([[100] * count] * 5), 0.05)
    assert _find(changes, "requests/s").verdict == verdict


def test_a_change_within_the_spread_of_either_run_is_none() -> None:
    restless = [[time] * 50 for time in (60, 100, 140, 100, 180)]
    changes = compare(_run(STEADY), _run(restless), 0.05)
    found = _find(changes, "response mean")
    assert found.change == pytest.approx(0.16)
    assert found.spread is not None
    assert found.spread > 0.3
    assert found.verdict == "same"


def test_with_few_slices_the_spread_is_unknown_and_the_tolerance_decides() -> None:
    found = _find(compare(_run(STEADY[:2]), _run([[120] * 50] * 2), 0.05), "response p50")
    assert (found.spread, found.verdict) == (None, "regression")


def test_errors_where_there_were_none_are_a_regression() -> None:
    found = _find(compare(_run(STEADY), _run(STEADY, failed=1), 10.0), "errors")
    assert (found.change, found.verdict) == (None, "regression")
    assert found.after == pytest.approx(100 / 51)


def test_what_makes_runs_hard_to_compare_is_told() -> None:
    example = load_result(Path(__file__).with_name("example.json"))
    assert example.settings is not None
    assert differences(example, example) == []
    other = example.model_copy(
        update={
            "status": "interrupted",
            "families": {"ipv4": example.families["ipv4"]},
            "settings": example.settings.model_copy(update={"connections": 99, "turn_s": 9.0}),
        }
    )
    assert differences(example, other) == [
        "B was interrupted: its figures are those until then",
        "IPv6 was measured by A alone",
        f"they were asked for otherwise: connections {example.settings.connections} and 99",
    ]


def test_runs_without_a_common_family_cannot_be_compared() -> None:
    with pytest.raises(ConfigError, match="no family was measured by both"):
        compare(_run(STEADY), _run(STEADY, family="ipv6"), 0.05)


RUNS = st.lists(
    st.lists(st.integers(1, 10**7), min_size=1, max_size=5), min_size=1, max_size=6
).map(_run)


@settings(max_examples=40, deadline=None)
@given(RUNS, RUNS, st.floats(0, 2))
def test_no_two_runs_are_each_a_regression_of_the_other_in_the_same_figure(
    one: Result, other: Result, tolerance: float
) -> None:
    for there, back in zip(
        compare(one, other, tolerance), compare(other, one, tolerance), strict=True
    ):
        assert there.figure == back.figure
        assert not (there.verdict == back.verdict == "regression")
        assert (there.before, there.after) == (back.after, back.before)
