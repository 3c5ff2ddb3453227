"""Comparing two runs: what changed, and what only varies."""

import statistics
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

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


def test_a_change_within_the_spread_of_the_first_run_is_none() -> None:
    restless = [[time] * 50 for time in (60, 100, 140, 100, 180)]
    changes = compare(_run(restless), _run(STEADY), 0.05)
    found = _find(changes, "response mean")
    assert found.change == pytest.approx(-16 / 116)
    assert found.spread is not None
    assert found.spread > 0.3
    assert found.verdict == "same"


@pytest.mark.parametrize("well", [5, 9], ids=["half", "a tenth"])
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_an_outage_of_the_second_run_is_no_excuse_for_it(well: int, noise: float) -> None:
    random = Random(1)  # noqa: S311 - for noise, not for secrets
    before, after = ([round(1000 * random.gauss(1, noise)) for _ in range(10)] for _ in range(2))
    slices = [
        [100] * count if number < well else [100] * 40 + [20_000] * 10
        for number, count in enumerate(after)
    ]
    changes = compare(_run([[100] * count for count in before]), _run(slices), 0.05)
    assert _find(changes, "requests/s").verdict == "regression"
    assert _find(changes, "response mean").verdict == "regression"


@pytest.mark.parametrize("slices", [3, 5, 10, 40])
def test_two_runs_of_one_noisy_target_are_hardly_ever_a_regression(slices: int) -> None:
    random = Random(2)  # noqa: S311 - for noise, not for secrets

    whole = _run([[100]])
    family = whole.families["ipv4"]
    (one,) = family.slices

    def noisy() -> Result:
        rates = [random.gauss(1000, 200) for _ in range(slices)]
        parts = [one.model_copy(update={"requests_per_s": rate}) for rate in rates]
        drawn = {"slices": parts, "requests_per_s": statistics.fmean(rates)}
        return whole.model_copy(update={"families": {"ipv4": family.model_copy(update=drawn)}})

    pairs = 300
    cries = sum(
        _find(compare(noisy(), noisy(), 0.0), "requests/s").verdict == "regression"
        for _ in range(pairs)
    )
    # Half of the 1% that chance takes beyond the spread is for the worse.
    assert cries <= pairs * 0.015


def test_with_few_slices_the_spread_is_unknown_and_the_tolerance_decides() -> None:
    found = _find(compare(_run(STEADY[:2]), _run([[120] * 50] * 2), 0.05), "response p50")
    assert (found.spread, found.verdict) == (None, "regression")


def test_errors_where_there_were_none_are_a_regression() -> None:
    found = _find(compare(_run(STEADY), _run(STEADY, failed=1), 10.0), "errors")
    assert (found.change, found.verdict) == (None, "regression")
    assert found.after == pytest.approx(100 / 51)


def test_what_makes_runs_hard_to_compare_is_told() -> None:
    example = load_result(Path(__file__).with_name("example.json"))
    settings = example.settings
    assert settings is not None
    assert example.self_audit is not None
    audit = example.self_audit.model_copy(update={"trustworthy": True})
    example = example.model_copy(update={"self_audit": audit})
    assert differences(example, example) == []
    other = example.model_copy(
        update={
            "status": "interrupted",
            "families": {"ipv4": example.families["ipv4"]},
            "self_audit": audit.model_copy(
                update={"trustworthy": False, "verdict": "the generator was saturated: 99% CPU"}
            ),
            "settings": settings.model_copy(update={"connections": 99, "turn_s": 9.0}),
        }
    )
    assert differences(example, other) == [
        "B tells of more than its target: the generator was saturated: 99% CPU",
        "B was interrupted: its figures are those until then",
        "IPv6 was measured by A alone",
        f"they were asked for otherwise: connections {settings.connections} and 99",
    ]


@pytest.mark.parametrize(
    ("skipped", "lost"),
    [
        ({}, True),
        ({"ipv6": "the name target has no IPv6 address"}, True),
        ({"ipv6": "only IPv4 was asked for"}, False),
    ],
)
def test_a_family_that_the_second_run_lacks_is_a_regression(
    skipped: dict[FamilyName, str], lost: bool
) -> None:
    one, six = _run(STEADY), _run(STEADY, family="ipv6")
    both = one.model_copy(update={"families": one.families | six.families})
    one = one.model_copy(update={"skipped": skipped})
    found = [change for change in compare(both, one, 10.0) if change.family == "ipv6"]
    rate = six.families["ipv6"].requests_per_s
    expected = Change("ipv6", "requests/s", "1/s", rate, 0.0, -1.0, None, "regression")
    assert found == ([expected] if lost else [])
    why = "".join(f": {each}" for each in skipped.values())
    assert differences(both, one) == [
        "A was failed: its figures are those until then",
        "B was failed: its figures are those until then",
        f"IPv6 was measured by A alone{why}",
    ]
    # That it has more is none.
    assert {change.verdict for change in compare(one, both, 0.0)} == {"same"}


def test_settings_are_told_as_people_write_them() -> None:
    example = load_result(Path(__file__).with_name("example.json"))
    assert example.settings is not None
    asked: dict[str, Any] = {
        "rate_per_s": None, "churn": True, "warmup_s": 0.25, "timeout_s": 1234567.0,
        "framing": {"type": "length-prefixed", "width": 4, "delimiter": None},
    }  # fmt: skip
    other = example.model_copy(update={"settings": example.settings.model_copy(update=asked)})
    assert differences(example, other)[-1] == (
        "they were asked for otherwise: rate_per_s 2000 and none, framing raw and length-prefixed"
        " width=4 delimiter=none, churn no and yes, warmup_s 0.5 and 0.25, timeout_s 5 and 1234567"
    )


def test_runs_without_a_common_family_cannot_be_compared() -> None:
    with pytest.raises(ConfigError, match="no family was measured by both"):
        compare(_run(STEADY), _run(STEADY, family="ipv6"), 0.05)


RUNS = st.lists(
    st.lists(st.integers(1, 10**7), min_size=1, max_size=5), min_size=1, max_size=6
).map(_run)


@settings(deadline=None)
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
