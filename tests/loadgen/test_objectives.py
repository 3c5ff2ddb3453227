"""Objectives: what parses, where it points when it does not, and how figures are judged."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echokit import ConfigError
from echokit.loadgen.compare import compare
from echokit.loadgen.junit import junit_xml
from echokit.loadgen.measured import FamilyName, FamilyResult
from echokit.loadgen.objectives import Objective, judge, parse_objectives
from echokit.loadgen.report_words import remarks
from echokit.loadgen.result import load_result
from echokit.loadgen.session import exit_code

EXAMPLE = load_result(Path(__file__).with_name("example.json"))
FAMILY = EXAMPLE.families["ipv4"]
STATISTICS = ["min", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"]
TIMES = {"5ms": 5000, "250us": 250, "1s": 1e6, "1m30s": 9e7, "0.5ms": 500}


def test_a_list_of_terms_is_read_in_order() -> None:
    found = parse_objectives("p99<5ms, connect.max <= 1s,errors<0.1%,errors<3,rate>1000.5")
    assert found == [
        Objective("p99<5ms", "p99", "<", 5000, "us"),
        Objective("connect.max <= 1s", "connect.max", "<=", 1e6, "us"),
        Objective("errors<0.1%", "errors", "<", 0.1, "%"),
        Objective("errors<3", "errors", "<", 3, "1"),
        Objective("rate>1000.5", "rate", ">", 1000.5, "1/s"),
    ]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "connect.", "service.", "response."]),
            st.sampled_from(STATISTICS),
            st.sampled_from(["<", "<=", ">", ">="]),
            st.sampled_from(list(TIMES)),
            st.sampled_from(["", " ", "  "]),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_every_figure_operator_and_time_goes_together(
    terms: list[tuple[str, str, str, str, str]],
) -> None:
    text = ",".join(f"{gap}{a}{b}{gap}{c}{gap}{d}{gap}" for a, b, c, d, gap in terms)
    found = parse_objectives(text)
    assert [(o.figure, o.operator) for o in found] == [(a + b, c) for a, b, c, _, _ in terms]
    assert [o.limit for o in found] == [pytest.approx(TIMES[d]) for _, _, _, d, _ in terms]
    assert all(objective.measured(FAMILY) is not None for objective in found)


@pytest.mark.parametrize(
    ("text", "at", "what"),
    [
        ("", 0, "a figure"),
        ("p98<5ms", 0, "a figure"),
        ("p99<5ms,", 8, "a figure"),
        ("p99<5ms,,", 8, "a figure"),
        ("total.p99<5ms", 0, "a figure"),
        ("p99=5ms", 3, "<, <=, > or >="),
        ("p99", 3, "<, <=, > or >="),
        ("p99<", 4, "a time like 5ms"),
        ("p99<5", 4, "a time like 5ms"),
        ("p99<5zs,errors<1%", 4, "a time like 5ms"),
        ("p99<5ms errors<1%", 8, "',' or the end"),
        ("errors<1%,rate>1k", 15, "a number of exchanges a second"),
        ("errors<5ms", 7, "a percentage like 0.1%"),
        ("errors<-1%", 7, "a percentage like 0.1%"),
    ],
)
def test_an_error_points_at_its_place(text: str, at: int, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_objectives(text)
    reason, shown, mark = caught.value.problems
    assert what in reason
    assert reason.startswith("--objective: expected ")
    assert shown == f"  {text}"
    assert mark == f"  {' ' * at}^"


@settings(deadline=None)
@given(st.text("p950.,<>= cusmereonatx%1", max_size=30))
def test_any_text_is_terms_or_an_error_that_points_into_it(text: str) -> None:
    problems: tuple[str, ...] = ()
    found: list[Objective] = []
    try:
        found = parse_objectives(text)
    except ConfigError as error:
        problems = error.problems
    assert found or len(problems) == 3
    assert all(objective.term in text for objective in found)
    assert not problems or 0 <= problems[2].index("^") - 2 <= len(text)


def _with(**figures: object) -> FamilyResult:
    return FAMILY.model_copy(update=figures)


@pytest.mark.parametrize(
    ("term", "met"),
    [("p50<{}us", False), ("p50<={}us", True), ("p50>={}us", True), ("p50>{}us", False)],
)
def test_the_limit_itself_is_met_only_where_the_operator_has_it(term: str, met: bool) -> None:
    written = term.format(FAMILY.response.p50_us)
    (verdict,) = judge(parse_objectives(written), {"ipv4": FAMILY})
    assert (verdict.met, verdict.measured) == (met, FAMILY.response.p50_us)


def test_errors_are_a_share_or_a_number() -> None:
    some = _with(
        requests=1000,
        outcomes=FAMILY.outcomes.model_copy(update={"ok": 998, "reset": 2}),
    )
    verdicts = judge(parse_objectives("errors<0.2%,errors<=0.2%,errors<2,errors<3"), {"ipv6": some})
    assert [verdict.met for verdict in verdicts] == [False, True, False, True]
    assert [verdict.measured for verdict in verdicts] == [0.2, 0.2, 2, 2]


def test_what_was_never_sent_is_an_error_to_objectives_comparisons_and_junit() -> None:
    well = FAMILY.outcomes.model_copy(update={"ok": 10})
    some = _with(requests=10, unsent=30, outcomes=well)
    verdicts = judge(
        parse_objectives("errors<75%,errors<=75%,errors<30,errors<=30"), {"ipv4": some}
    )
    assert [verdict.met for verdict in verdicts] == [False, True, False, True]
    result = EXAMPLE.model_copy(update={"families": {"ipv4": some}, "objectives": []})
    changes = {change.figure: change for change in compare(result, result, 0.0)}
    assert changes["errors"].after == 75
    told = " ".join(remark.text for remark in remarks(result))
    assert "IPv4: 30 exchanges were due and never sent, as no connection was free" in told


def test_that_a_rate_was_not_kept_is_no_failure_but_that_nothing_came_back_is() -> None:
    well = FAMILY.outcomes.model_copy(update={"ok": 10})
    some = _with(requests=10, unsent=30, outcomes=well)
    none = _with(requests=0, unsent=40, outcomes=well.model_copy(update={"ok": 0}))

    def code(families: dict[FamilyName, FamilyResult], terms: str = "") -> int:
        objectives = judge(parse_objectives(terms), families) if terms else []
        update = {"families": families, "objectives": objectives}
        result = EXAMPLE.model_copy(update=update)
        # JUnit fails what the code is for, and nothing else.
        assert ("<failure" in junit_xml(result)) == (exit_code(result) != 0)
        return exit_code(result)

    assert code({"ipv4": some}) == 0
    assert code({"ipv4": some}, "errors<1%") == 4
    assert code({"ipv4": some}, "errors<80%") == 0
    assert code({"ipv4": none}) == code({"ipv4": none}, "errors<=100%") == 1
    assert code({"ipv4": some, "ipv6": none}) == 1
    assert code({"ipv4": some, "ipv6": none}, "errors<=100%") == 1
    assert code({"ipv4": some, "ipv6": none}, "errors<1%") == 1
    lost = _with(requests=40, outcomes=well.model_copy(update={"ok": 39, "timeout": 1}))
    assert code({"ipv4": lost}) == 1
    assert code({"ipv4": lost}, "errors<50%") == 0
    assert code({"ipv4": _with(requests=10, outcomes=well, surplus_bytes=5)}, "errors<50%") == 1
    assert code({"ipv4": _with(requests=0, outcomes=well.model_copy(update={"ok": 0}))}) == 1


def test_junit_tells_of_exchanges_that_failed_by_kind() -> None:
    well = FAMILY.outcomes.model_copy(update={"ok": 9, "timeout": 1})
    family = _with(requests=10, unsent=30, outcomes=well)
    result = EXAMPLE.model_copy(update={"families": {"ipv4": family}, "objectives": []})
    assert "31 of 40 exchanges failed: 1 timeout, 30 never sent" in junit_xml(result)


def test_junit_tells_what_was_measured_in_its_unit_and_stays_xml() -> None:
    failed = FAMILY.outcomes.model_copy(update={"ok": FAMILY.requests - 2, "timeout": 2})
    family = _with(outcomes=failed, requests_per_s=1234567.0)
    objectives = judge(parse_objectives("errors<1,errors<0%,rate>9999999"), {"ipv4": family})
    # As another program may have written it.
    objectives[0] = objectives[0].model_copy(update={"term": "errors\x0b<1"})
    update = {"families": {"ipv4": family}, "objectives": objectives}
    document = junit_xml(EXAMPLE.model_copy(update=update))
    suite = ET.fromstring(document)  # noqa: S314 - it is our own
    names = [case.get("name") for case in suite][2:]
    assert names == ["errors?<1", "errors<0%", "rate>9999999"]
    told = [str(failure.get("message")) for failure in suite.iter("failure")]
    share = f"{100 * 2 / family.due:.4g}%"
    assert told == [
        "errors?<1: 2 measured",
        f"errors<0%: {share} measured",
        "rate>9999999: 1,234,567/s measured",
    ]


def test_what_was_not_measured_is_missed() -> None:
    nothing = _with(requests=0, response=FAMILY.response.model_copy(update={"p99_us": None}))
    verdicts = judge(parse_objectives("p99<1h,errors<100%"), {"ipv4": nothing})
    assert [(verdict.met, verdict.measured) for verdict in verdicts] == [(False, None)] * 2


def test_every_family_is_judged() -> None:
    verdicts = judge(parse_objectives("rate>1,max<1h"), EXAMPLE.families)
    assert [(v.family, v.figure) for v in verdicts] == [
        ("ipv4", "rate"), ("ipv6", "rate"), ("ipv4", "max"), ("ipv6", "max"),
    ]  # fmt: skip
