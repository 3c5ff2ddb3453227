"""Which figures are shown: the same, in the same order, in a terminal and on a page."""

import pytest

from echokit.cli.load_table import table
from echokit.loadgen.measured import OUTCOMES
from echokit.loadgen.shown import shown_figures
from tests.loadgen.pages import example, page_of, result_of, without_answers


def _titles(document: dict[str, object]) -> list[str]:
    result = result_of(document)
    groups = shown_figures(result.families, result.settings)
    return [
        title
        for group in groups
        for title in (*([group.title] if group.title else []), *(row.title for row in group.rows))
    ]


def test_a_terminal_and_a_page_show_the_same_figures_in_the_same_order() -> None:
    document = example()
    titles = _titles(document)
    assert [row[0] for row in page_of(document).tables["Figures by address family"]][1:] == titles
    lines = [line.strip().partition("  ")[0] for line in table(result_of(document))]
    at = lines.index(titles[0])
    assert [line for line in lines[at:] if line][: len(titles)] == titles


def test_no_line_of_a_terminals_table_says_more_than_text() -> None:
    document = example()
    drives = "\x1b]0;owned\x07\x1b[2J\nverdict: fine\u202e"
    document["families"] = {"ipv4": document["families"]["ipv4"] | {"addresses": [drives]}}
    document["settings"]["framing"] = {"type": drives}
    document["self_audit"]["verdict"] = drives
    document["labels"] = {drives: drives}
    document["skipped"] = {"ipv6": drives}
    document["objectives"] = [
        {"term": drives, "family": "ipv4", "figure": "p99", "operator": "<", "limit": 1.0,
         "unit": "us", "measured": 2.0, "met": False}
    ]  # fmt: skip
    lines = table(result_of(document))
    assert [line for line in lines if not line.isprintable()] == []
    assert sum(line.count("\\x1b]0;owned") for line in lines) == 7


@pytest.mark.parametrize(
    ("rate", "churn", "heading", "footer"),
    [
        (None, False, "response time", "from the send, until all"),
        (None, True, "response time, from when its connection was begun", "was begun, until all"),
        (10.0, False, "response time, from when a send was due", "from when a send was due, until"),
        (10.0, True, "response time, from when a send was due", "from when a send was due, until"),
    ],
)
def test_response_times_say_from_when_they_count(
    rate: float | None, churn: bool, heading: str, footer: str
) -> None:
    document = example()
    document["settings"] |= {"rate_per_s": rate, "churn": churn}
    for family in document["families"].values():
        family["requested_rate_per_s"] = rate
        family["response"] = family["connect"] if rate or churn else family["service"]
    assert [title for title in _titles(document) if title.startswith("response")] == [heading]
    assert footer in page_of(document).text


def test_merged_runs_of_several_kinds_claim_neither_for_all() -> None:
    document = example() | {"settings": None}
    for family in document["families"].values():
        family["requested_rate_per_s"] = None
        family["response"] = family["connect"]
    heading = "response time, from when a send was due or its connection begun"
    assert [title for title in _titles(document) if title.startswith("response")] == [heading]


def test_every_kind_of_failure_is_shown_where_it_happened_and_only_there() -> None:
    document = example()
    family = document["families"]["ipv6"]
    for kind in OUTCOMES:
        family["outcomes"][kind] = 1
    family["requests"] = len(OUTCOMES)
    family |= {"unsent": 1, "surplus_bytes": 2, "idle_closes": 3}
    kinds = [kind.replace("_", " ") for kind in OUTCOMES if kind != "ok"]
    shown = [*kinds, "never sent", "bytes too many", "closed while idle"]
    assert not set(shown) & set(_titles(example()))
    assert [title for title in _titles(document) if title in shown] == shown


def test_times_that_were_not_measured_are_left_out() -> None:
    titles = _titles(without_answers())
    assert "exchanges" in titles
    assert not [title for title in titles if " time" in title or title == "p50"]
