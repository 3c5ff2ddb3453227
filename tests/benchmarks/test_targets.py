"""The targets: each looks at something that is measured, and is met or not by the samples alone."""

import json

import pytest

from benchmarks.cases import Case
from benchmarks.catalogue import EVERY
from benchmarks.columns import columns
from benchmarks.load_checks import ONE, SOCKPERF, C
from benchmarks.machine import busy
from benchmarks.measure import Results, Sample
from benchmarks.peers import PEERS
from benchmarks.report import as_json, as_markdown, as_text
from benchmarks.startup import STARTUPS, StartUp
from benchmarks.targets import TARGETS, cautions, judged, target_table
from benchmarks.variants import Variants

ABOUT = {"machine": {"cores": "2"}}


def _names(case: object) -> set[str]:
    """The servers or commands that `case` is measured of."""
    if isinstance(case, StartUp):
        return {case.ours, case.bare}
    if isinstance(case, Variants):
        return {peer.name for peer in case.peers}
    if isinstance(case, Case):
        return {peer.name for peer in PEERS if case.load.framing in peer.framings}
    return {C, ONE, SOCKPERF}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.what)
def test_a_target_names_a_case_its_servers_and_a_figure_of_its_table(target: object) -> None:
    [found] = (one for one in TARGETS if one is target)
    [case] = (case for case in EVERY if case.name == found.case)
    assert found.figure in {column.figure for column in columns(case)}
    assert found.peer in _names(case)
    assert found.against is None or found.against in _names(case) - {found.peer}


def _results(peer: str, *ratios: float, case: str = "64B-50", family: str = "IPv4") -> Results:
    """Rounds in which `echokit` took so many times the CPU time of `peer`."""
    results = Results()
    for number, ratio in enumerate(ratios):
        base = 5.0 + number
        for name, value in ((peer, base), ("echokit", base * ratio)):
            figures = {"cpu_us": value, "requests_per_s": 1e6 / value}
            results.samples.append(Sample(case, family, name, number, figures))
    return results


def _row(results: Results, what: str) -> list[str]:
    table = target_table(results, every=True)
    assert table is not None
    [row] = (row for row in table.rows if row[0] == what)
    return row


CPU = "CPU of a 64 B request, 50 connections"


@pytest.mark.parametrize(
    ("peer", "what", "ratios", "measured", "met"),
    [
        ("c", f"{CPU} : C", (1.1, 1.14, 1.3), "1.14 [1.12-1.22]", "yes"),
        ("c", f"{CPU} : C", (1.1, 1.16, 1.3), "1.16 [1.13-1.23]", "no"),
        ("uvloop", f"{CPU} : uvloop", (0.9, 0.95, 0.99), "0.95 [0.92-0.97]", "yes"),
        ("uvloop", f"{CPU} : uvloop", (1.0, 1.0, 1.0), "1.00 [1.00-1.00]", "no"),
    ],
)
def test_a_target_is_met_by_the_median_of_the_ratios_within_a_round(
    peer: str, what: str, ratios: tuple[float, ...], measured: str, met: str
) -> None:
    row = _row(_results(peer, *ratios), what)
    assert row[2:] == [measured, "-", met]


def test_one_family_that_misses_it_is_enough() -> None:
    results = _results("c", 1.0, 1.0)
    results.samples += _results("c", 1.5, 1.5, family="IPv6").samples
    assert _row(results, f"{CPU} : C")[2:] == ["1.00 [1.00-1.00]", "1.50 [1.50-1.50]", "no"]


def test_what_is_near_one_may_lie_on_either_side() -> None:
    def results(ours: float) -> Results:
        samples = [
            Sample("load-sockperf", "IPv4", SOCKPERF, 0, {"p50_us": 20.0}),
            Sample("load-sockperf", "IPv4", ONE, 0, {"p50_us": ours}),
        ]
        return Results(samples=samples)

    what = "p50 of `echokit load -c 1` : sockperf's"
    assert _row(results(20.0), what)[1] == "0.90 to 1.10"
    met = {ours: _row(results(ours), what)[-1] for ours in (17.0, 19.0, 21.0, 23.0)}
    assert met == {17.0: "no", 19.0: "yes", 21.0: "yes", 23.0: "no"}


def test_a_figure_that_is_a_ratio_itself_has_its_quartiles_too() -> None:
    samples = [
        Sample("64B-1000", "IPv6", "echokit", number, {"cpu_ratio": ratio})
        for number, ratio in enumerate((1.0, 1.1, 1.4))
    ]
    what = "CPU of a 64 B request, 1000 connections : 50"
    assert _row(Results(samples=samples), what)[2:] == ["-", "1.10 [1.05-1.25]", "yes"]


def test_a_server_that_failed_has_missed_it() -> None:
    results = _results("c", 1.0, 1.0)
    results.samples.append(Sample("64B-50", "IPv4", "echokit", 2, failure="wrong bytes"))
    assert _row(results, f"{CPU} : C")[2:] == ["FAILED", "-", "no"]


def test_what_was_not_measured_is_said_to_be_in_markdown_and_left_out_on_a_terminal() -> None:
    results = _results("c", 1.0, 1.0)
    assert _row(results, f"{CPU} : Go")[2:] == ["-", "-", "not measured"]
    assert _row(results, "bytes for each idle connection")[2:] == ["-", "-", "not measured"]
    text = as_text(results, ABOUT)
    assert f"{CPU} : C" in text
    assert "idle connection" not in text
    assert "Targets" not in as_text(Results(), ABOUT)
    markdown = as_markdown(results, ABOUT, "command")
    assert f"| {CPU} : C | <= 1.15 | 1.00 [1.00-1.00] | - | yes |" in markdown
    assert "| bytes for each idle connection | <= 600 | - | - | not measured |" in markdown


def test_one_round_has_no_quartiles() -> None:
    assert _row(_results("c", 1.0), f"{CPU} : C")[2:] == ["1.00", "-", "yes"]


def test_what_has_no_family_looks_like_neither() -> None:
    case = STARTUPS[0]
    samples = [
        Sample(case.name, "", name, 0, {"wall_ms": took})
        for name, took in ((case.bare, 100.0), (case.ours, 120.0))
    ]
    [target] = (target for target in TARGETS if target.case == case.name)
    assert _row(Results(samples=samples), target.what)[2:] == ["1.20", "1.20", "yes"]
    [found] = (one for one in judged(Results(samples=samples)) if one["case"] == case.name)
    assert list(found["measured"]) == [""]
    table = target_table(Results(samples=samples), every=False)
    assert table is not None
    assert "has no family: its figure stands under both" in table.note


def test_verdicts_of_few_rounds_or_on_a_busy_machine_say_so() -> None:
    def told(results: Results) -> str:
        table = target_table(results, every=True)
        assert table is not None
        assert json.loads(as_json(results, ABOUT))["cautions"] == cautions(results)
        return table.note.partition(" Take the verdicts with care: ")[2]

    many, few = _results("c", *[1.0] * 10), _results("c", *[1.0] * 3)
    assert told(many) == ""
    assert told(few) == "few rounds (3; by default 10)."
    many.busy = few.busy = busy(1.5, 2)
    assert told(many) == "the machine was busy: load average 1.50 on 2 cores."
    assert told(few) == f"few rounds (3; by default 10); {told(many)}"
    assert busy(1.0, 2) == ""


def test_what_is_never_measured_in_many_rounds_needs_no_more() -> None:
    def idle(rounds: int) -> Results:
        figures = {"bytes_10000": 500.0}
        return Results([Sample("idle", "IPv4", "echokit", n, figures) for n in range(rounds)])

    assert cautions(idle(3)) == []
    assert cautions(idle(2)) == ["few rounds (2; by default 10)"]


def test_the_targets_are_the_first_table_of_the_results() -> None:
    markdown = as_markdown(_results("c", 1.0, 1.0), ABOUT, "command")
    first = next(line for line in markdown.splitlines() if line.startswith("|"))
    assert first == "| what | target | IPv4 | IPv6 | met |"
    headings = [line for line in markdown.splitlines() if line.startswith("#")]
    assert headings[:3] == ["# Results", "### Targets", "### Machine, versions, settings"]


def test_the_document_has_every_target_and_what_came_of_it() -> None:
    document = json.loads(as_json(_results("c", 1.0, 1.2), ABOUT))
    assert len(document["targets"]) == len(TARGETS)
    [found] = (one for one in document["targets"] if one["what"] == f"{CPU} : C")
    assert (found["bound"], found["limit"]) == ("<=", 1.15)
    assert found["measured"]["IPv4"]["median"] == pytest.approx(1.1)
    assert found["measured"]["IPv4"]["met"] is True
    assert "IPv6" not in found["measured"]
