"""Merging runs: the sum of the parts, and nothing lost."""

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echokit import ConfigError
from echokit.cli.load_table import table
from echokit.loadgen.account import MOST_SLICES, Account
from echokit.loadgen.compare import compare
from echokit.loadgen.histogram import Histogram
from echokit.loadgen.merge import check_histograms, merge
from echokit.loadgen.objectives import parse_objectives
from echokit.loadgen.records import Tally
from echokit.loadgen.report import html_page
from echokit.loadgen.result import Result, load_result, save_result
from echokit.loadgen.surroundings import unstarted

EXAMPLE = load_result(Path(__file__).with_name("example.json"))


def _run(turns: list[list[int]], at: float = 0.0, **given: object) -> Result:
    """A run that began at a time, with turns of a second that have these response times."""
    account = Account()
    for number, times in enumerate(turns):
        counts = Counter(times)
        tally = Tally(
            seconds=1.0, sending_seconds=1.0, requests=len(times), outcomes=Counter(ok=len(times)),
            service=counts, response=counts, connect=Counter({5: 1}), rtt=Counter({20: 1}),
            rttvar_sum_us=3,
        )  # fmt: skip
        account.add(float(number), tally)
    started = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=at)
    update = {
        "families": {"ipv4": account.result(["127.0.0.1:7"], None)},
        "started_at": started.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "duration_s": float(len(turns)),
        "status": "complete",
        "error": None,
    }
    return unstarted("", 0).model_copy(update=update | given)


_RATES = st.floats(0, 1e15)
_SECONDS = st.floats(0, 1e9)
# What is in a document, and anything that it may be.
_NUMBERS: dict[str, st.SearchStrategy[Any]] = {
    "started_at": st.datetimes(datetime(1000, 1, 1), datetime(2999, 12, 31)).map(  # noqa: DTZ001
        lambda moment: moment.isoformat(timespec="microseconds") + "Z"
    ),
    "duration_s": _SECONDS,
    "measured_s": _SECONDS,
    "start_s": _SECONDS,
    "requests_per_s": _RATES,
    "actual_rate_per_s": _RATES,
    "requested_rate_per_s": _RATES | st.none(),
    "bytes_sent": st.integers(0, 2**64 - 1),
    "unsent": st.integers(0, 2**64 - 1),
}

TURNS = st.lists(st.lists(st.integers(1, 10**7), min_size=1, max_size=5), min_size=1, max_size=70)


@settings(deadline=None)
@given(st.lists(st.tuples(TURNS, st.floats(0, 100)), min_size=1, max_size=4))
def test_merged_equals_unmerged(parts: list[tuple[list[list[int]], float]]) -> None:
    merged = merge([_run(turns, at) for turns, at in parts])
    every = [time for turns, _ in parts for times in turns for time in times]
    whole = Histogram()
    whole.add(Counter(every))
    family = merged.families["ipv4"]
    assert family.response == family.service == whole.figure()
    assert family.requests == family.outcomes.ok == len(every)
    assert family.tcp_info is not None
    assert family.tcp_info.rtt.count == sum(len(turns) for turns, _ in parts)
    assert family.tcp_info.rttvar_mean_us == pytest.approx(3)
    assert len(family.slices) <= MOST_SLICES
    assert sum(slice_.requests for slice_ in family.slices) == len(every)
    joined = Histogram()
    for slice_ in family.slices:
        joined.merge(Histogram.of(slice_.response))
    assert joined.figure() == whole.figure()
    assert [source.requests for source in merged.merged_from] == [
        sum(map(len, turns)) for turns, _ in sorted(parts, key=lambda part: round(part[1], 6))
    ]


def test_rates_of_runs_side_by_side_are_added() -> None:
    family = merge([_run([[1] * 10] * 4), _run([[1] * 30] * 4, at=1.0)]).families["ipv4"]
    assert (family.requests_per_s, family.measured_s) == (40.0, 4.0)
    # Where both ran, a slice has the rate of both.
    assert max(slice_.requests_per_s for slice_ in family.slices) == 40.0


def test_slices_keep_the_rates_that_they_had() -> None:
    # Two slices of an open loop, whose rate is not by all of their time, beside one.
    one, other = _run([[1] * 10]), _run([[1] * 10] * 2)
    family = other.families["ipv4"]
    halves = [
        slice_.model_copy(update={"start_s": number / 2, "duration_s": 0.5, "requests_per_s": 25.0})
        for number, slice_ in enumerate(family.slices)
    ]
    families = {"ipv4": family.model_copy(update={"slices": halves})}
    merged = merge([one, other.model_copy(update={"families": families})])
    assert [s.requests_per_s for s in merged.families["ipv4"].slices] == [35.0]


def test_rates_of_runs_one_after_the_other_are_averaged() -> None:
    family = merge([_run([[1] * 10] * 4), _run([[1] * 40] * 2, at=10.0)]).families["ipv4"]
    assert (family.requests_per_s, family.measured_s) == (20.0, 6.0)
    assert [slice_.start_s for slice_ in family.slices] == [0, 1, 2, 3, 10, 11]


def test_runs_that_overlap_a_little_are_averaged_over_the_time_in_which_any_ran() -> None:
    # 0 to 4 s, 3 to 7 s, 6 to 8 s: at no time did all of them run, and somebody did for 8 s.
    runs = [_run([[1] * 10] * 4), _run([[1] * 30] * 4, at=3.0), _run([[1] * 20] * 2, at=6.0)]
    family = merge(runs).families["ipv4"]
    assert family.measured_s == pytest.approx(8.0)
    assert family.requests_per_s == pytest.approx(200 / 8)


def _asking(rate: float | None, seconds: int, at: float) -> Result:
    run = _run([[1]] * seconds, at)
    family = run.families["ipv4"].model_copy(update={"requested_rate_per_s": rate})
    return run.model_copy(update={"families": {"ipv4": family}})


@pytest.mark.parametrize(
    ("runs", "asked"),
    [
        # Several machines that drive one target together.
        ([(1000.0, 4, 0.0), (500.0, 4, 0.5)], 1500.0),
        # One after the other: as much as was asked for on the average.
        ([(1000.0, 4, 0.0), (500.0, 2, 10.0)], 5000 / 6),
        ([(1000.0, 4, 0.0), (1000.0, 2, 10.0)], 1000.0),
        # A closed loop asks for nothing that could be added.
        ([(1000.0, 4, 0.0), (None, 4, 0.0)], None),
    ],
)
def test_the_rate_asked_for_is_merged_as_the_rate_reached_is(
    runs: list[tuple[float | None, int, float]], asked: float | None
) -> None:
    family = merge([_asking(*run) for run in runs]).families["ipv4"]
    assert family.requested_rate_per_s == (None if asked is None else pytest.approx(asked))
    again = merge([merge([_asking(*run)]) for run in runs]).families["ipv4"]
    assert again.requested_rate_per_s == family.requested_rate_per_s


def test_what_the_runs_do_not_agree_on_is_left_open() -> None:
    labels = [{"run": "1", "site": "a"}, {"run": "2", "site": "a"}]
    merged = merge([_run([[1]], labels=label, seed=n) for n, label in enumerate(labels)])
    assert merged.labels == {"site": "a"}
    assert merged.seed is None
    assert merged.target is None


def test_slices_of_a_family_that_the_first_run_lacks_stand_where_they_were_measured() -> None:
    first, second = _run([[1]]), _run([[2], [3]], at=90.0)
    (family,) = second.families.values()
    merged = merge([first, second.model_copy(update={"families": {"ipv6": family}})])
    assert [each.start_s for each in merged.families["ipv4"].slices] == [0.0]
    assert [each.start_s for each in merged.families["ipv6"].slices] == [90.0, 91.0]


def test_merged_labels_keep_the_order_of_the_first_run() -> None:
    labels = {name: name.upper() for name in "hgfedcba"}
    runs = [_run([[1]], labels=labels), _run([[1]], at=1.0, labels=dict(sorted(labels.items())))]
    assert list(merge(runs).labels) == list(labels)


def test_objectives_are_judged_anew() -> None:
    (objective,) = parse_objectives("p50<100us")
    runs = []
    for time in (10, 1000):
        run = _run([[time] * 10])
        verdict = objective.judge("ipv4", run.families["ipv4"])
        runs.append(run.model_copy(update={"objectives": [verdict]}))
    assert [run.objectives[0].met for run in runs] == [True, False]
    # Ten of ten, and ten of a thousand times as long: the median is the lower.
    merged = merge(runs)
    assert merged.objectives == [objective.judge("ipv4", merged.families["ipv4"])]
    assert merged.exit_code == (0 if merged.objectives[0].met else 4)


def test_a_run_in_which_nothing_came_back_in_the_end_fails_them_all() -> None:
    runs = [_run([[1]], at=number) for number in range(3)]
    for run, silent_s in zip(runs, (0.0, 0.3, 0.2), strict=True):
        (name,) = run.families
        run.families[name] = run.families[name].model_copy(update={"silent_s": silent_s})
    merged = merge(runs)
    assert [family.silent_s for family in merged.families.values()] == [0.3]
    assert merged.exit_code == 1
    assert merge(runs[:1]).exit_code == 0


def test_one_failed_run_fails_them_all() -> None:
    runs = [_run([[1]]), _run([[1]], status="interrupted"), _run([[1]], status="failed", error="x")]
    assert merge(runs[:2]).status == "interrupted"
    assert (merge(runs).status, merge(runs).error) == ("failed", "x")


def test_one_run_is_told_as_one_and_two_as_two() -> None:
    runs = [_run([[1]], at=number) for number in range(2)]
    assert "127.0.0.1:7: 1 run merged" in table(merge(runs[:1]))
    assert "127.0.0.1:7: 2 runs merged" in table(merge(runs))


@pytest.mark.parametrize(
    ("ends", "status", "error", "code"),
    [
        ([("complete", None, 0), ("failed", "nobody", 3)], "failed", "nobody", 3),
        ([("interrupted", "interrupted", 130), ("failed", "x", 1)], "failed", "x", 1),
        ([("complete", None, 0), ("interrupted", None, 143)], "interrupted", None, 143),
        ([("interrupted", None, 130), ("interrupted", "y", 143)], "interrupted", None, 130),
        # What merged results once said of failed runs.
        ([("complete", None, 0), ("failed", "nobody", 0)], "failed", "nobody", 1),
    ],
)
def test_a_run_that_was_cut_short_says_how_it_ended_for_all(
    ends: list[tuple[str, str | None, int]], status: str, error: str | None, code: int
) -> None:
    runs = [
        _run([[1]], at=number, status=status, error=error, exit_code=code)
        for number, (status, error, code) in enumerate(ends)
    ]
    for merged in (merge(runs), merge([merge(runs[:1]), merge(runs[1:])])):
        assert (merged.status, merged.error, merged.exit_code) == (status, error, code)


def test_a_merged_document_can_be_saved_and_merged_again(tmp_path: Path) -> None:
    merged = merge([EXAMPLE, EXAMPLE])
    save_result(merged, tmp_path / "merged.json")
    again = merge([load_result(tmp_path / "merged.json"), EXAMPLE])
    assert len(again.merged_from) == 3
    for name, family in again.families.items():
        assert family.requests == 3 * EXAMPLE.families[name].requests


@pytest.mark.parametrize(
    "place",
    [
        "families.ipv6.service",
        "families.ipv4.connect",
        "families.ipv4.slices.1.response",
        "families.ipv6.tcp_info.rtt",
        "self_audit.lateness",
        "self_audit.calibration.service",
    ],
)
def test_a_broken_histogram_is_named_by_file_and_place(place: str) -> None:
    document = EXAMPLE.model_dump()
    at: Any = document
    for part in place.split("."):
        at = at[int(part) if part.isdecimal() else part]
    at["histogram"] = "broken"
    with pytest.raises(ConfigError, match=rf"^run\.json: {re.escape(place)}: a histogram"):
        check_histograms(Result.model_validate(document), Path("run.json"))


def test_what_no_result_can_hold_is_told() -> None:
    family = EXAMPLE.families["ipv4"].model_copy(update={"bytes_sent": 2**64 - 1})
    full = EXAMPLE.model_copy(update={"families": {"ipv4": family}})
    early, late = (
        EXAMPLE.model_copy(update={"started_at": f"{year}-01-01T00:00:00.000000Z"})
        for year in (1000, 2999)
    )
    for runs, place in (([full, full], "bytes_sent"), ([early, late], "duration_s")):
        with pytest.raises(ConfigError, match=f"^the runs cannot be merged: .* {place}: "):
            merge(runs)


@pytest.mark.slow
@settings(deadline=None)
@given(st.data())
def test_whatever_numbers_fit_the_schema_runs_are_merged_or_it_is_told(data: st.DataObject) -> None:
    documents = [EXAMPLE.model_dump(), EXAMPLE.model_dump()]
    for document in documents:
        for at in (
            document,
            document["families"]["ipv4"],
            document["families"]["ipv4"]["slices"][0],
        ):
            for name in data.draw(st.lists(st.sampled_from([k for k in at if k in _NUMBERS]))):
                at[name] = data.draw(_NUMBERS[name], label=name)
    runs = [Result.model_validate(document) for document in documents]
    try:
        merged = merge(runs)
    except ConfigError:
        return
    assert table(merged)
    assert html_page(merged)
    assert compare(runs[0], runs[1], 0.05)
