"""The page of a run: what stands in it, that others' text stays text, and that it needs nothing."""

import base64
import hashlib
import json
import re

import pytest

from echokit.loadgen.histogram import Histogram
from echokit.loadgen.measured import Outcomes
from echokit.loadgen.report import html_page
from echokit.loadgen.report_words import NOTHING, number, percent, time
from echokit.loadgen.result import Result
from echokit.loadgen.surroundings import unstarted
from tests.loadgen.pages import (
    HOSTILE,
    Page,
    example,
    made_hostile,
    page_of,
    result_of,
    without_answers,
)

FIGURES = "Figures by address family"


@pytest.fixture(scope="module")
def page() -> Page:
    """The page of the example."""
    return page_of(example())


# What stands in it.


def test_the_families_stand_side_by_side_with_their_ratio(page: Page) -> None:
    families = example()["families"]
    assert page.tables[FIGURES][0] == ["", "IPv4", "IPv6", "IPv6/IPv4"]
    for title, field in (("p50", "p50_us"), ("p99.99", "p99_99_us"), ("max", "max_us")):
        first, second = (families[name]["response"][field] for name in ("ipv4", "ipv6"))
        assert page.row(FIGURES, title) == [time(first), time(second), f"{second / first:.2f}"]
    begun = [f"{families[name]['requests']:,}" for name in ("ipv4", "ipv6")]
    assert page.row(FIGURES, "exchanges")[:2] == begun


def test_the_order_is_the_same_whatever_the_documents_is(page: Page) -> None:
    turned = example()
    turned["families"] = dict(reversed(turned["families"].items()))
    assert page_of(turned).tables == page.tables


def test_every_chart_has_its_data_its_words_and_its_table(page: Page) -> None:
    data, families = page.embedded("data"), example()["families"]
    charts = {found["id"]: found for tag, found in page.tags if found.get("class") == "chart"}
    assert list(charts) == ["percentiles", "spread", "slices"]
    for chart in charts.values():
        words = chart["aria-label"]
        assert chart["role"] == "img"
        assert words is not None
        assert "IPv4" in words
        assert "IPv6" in words
        assert re.search(r"\d (µs|ms)", words)
        # For those who see it, too.
        assert words.partition(". ")[2] in page.text
    for name, title in (("ipv4", "IPv4"), ("ipv6", "IPv6")):
        response = families[name]["response"]
        assert data[title]["percentiles"]["response"][-1] == [response["count"], response["max_us"]]
        assert sum(share for _, _, share in data[title]["spread"]) == pytest.approx(1)
        assert [piece[2] for piece in data[title]["slices"]] == [
            piece["requests_per_s"] for piece in families[name]["slices"]
        ]
    half = page.row("Latency by percentile", "50%")
    assert half[0] == time(families["ipv4"]["response"]["p50_us"])
    assert len(page.tables["Exchanges a second and p99 over time"]) == 21
    assert len(page.tables["Share of exchanges by latency"]) > 10


def test_the_words_of_a_chart_say_its_figures(page: Page) -> None:
    four, six = (example()["families"][name]["response"] for name in ("ipv4", "ipv6"))
    assert (
        f"IPv4: half of {four['count']:,} exchanges came back within {time(four['p50_us'])}, 99%"
        f" within {time(four['p99_us'])}, 99.9% within {time(four['p99_9_us'])}, all within"
        f" {time(four['max_us'])}."
    ) in page.text
    times = [f"{six[field] / four[field]:.2f}" for field in ("p50_us", "p99_us")]
    assert (
        f"IPv6 took {times[0]} times as long as IPv4 at p50, {times[1]} times at p99." in page.text
    )
    rates = sorted(piece["requests_per_s"] for piece in example()["families"]["ipv4"]["slices"])
    assert (
        f"IPv4, over 10 stretches of time: from {number(rates[0])} to {number(rates[-1])} exchanges"
        in page.text
    )


def test_settings_environment_audit_and_labels_are_told(page: Page) -> None:
    document = example()
    assert page.row("Settings", "connections") == [str(document["settings"]["connections"])]
    assert page.row("Settings", "seed") == [str(document["seed"])]
    assert page.row("Environment", "kernel") == [document["environment"]["kernel"]]
    audit = document["self_audit"]
    assert page.row("The generator's audit of itself", "verdict") == [audit["verdict"]]
    for name, value in document["labels"].items():
        assert f"{name}={value}" in page.text


def test_objectives_stand_with_what_was_measured_and_their_verdicts(page: Page) -> None:
    _, *rows = page.tables["Objectives"]
    for row, verdict in zip(rows, example()["objectives"], strict=True):
        assert row[0] == verdict["term"]
        assert row[-1].endswith("met" if verdict["met"] else "missed")
        if verdict["unit"] == "us":
            assert row[2] == time(verdict["measured"])
    missed = sum(not verdict["met"] for verdict in example()["objectives"])
    assert f"{missed} of {len(rows)} objectives were missed." in page.text


def test_the_whole_result_is_in_the_page(page: Page) -> None:
    embedded = Result.model_validate_json(json.dumps(page.embedded("result")))
    assert embedded == result_of(example())


# Runs of other kinds.


def test_one_family_has_no_ratio() -> None:
    document = example()
    document["objectives"], document["self_audit"]["findings"] = [], []
    del document["families"]["ipv4"]
    document["skipped"] = {"ipv4": "localhost has no IPv4 address"}
    found = page_of(document)
    assert found.tables[FIGURES][0] == ["", "IPv6"]
    assert list(found.embedded("data")) == ["IPv6"]
    assert "Every exchange came back as it was sent" in found.text
    assert "IPv4 was not measured: localhost has no IPv4 address" in found.text


def test_what_went_wrong_is_told_by_kind_and_with_its_meaning() -> None:
    document = example()
    family = document["families"]["ipv6"]
    family["outcomes"] |= {"reset": 3, "early_close": 1}
    family["requests"] += 4
    family |= {"unsent": 1234, "surplus_bytes": 5, "idle_closes": 2}
    found = page_of(document)
    share = percent(3, family["requests"])
    rows = found.tables["Failed exchanges by kind"]
    assert ["reset", "0", f"3 ({share})", Outcomes.model_fields["reset"].description] in rows
    assert [row[0] for row in rows[1:]] == ["early close", "reset"]
    total = sum(each["requests"] for each in document["families"].values())
    assert f"4 of {total:,} exchanges ({percent(4, total)}) failed." in found.text
    assert "IPv6: 1,234 exchanges were due and never sent" in found.text
    assert "5 bytes came that nothing had been sent for." in found.text
    assert "IPv6: 2 connections ended while nothing was in flight" in found.text
    assert "Every exchange came back" not in found.text


def test_a_run_of_which_nothing_came_back_says_so() -> None:
    document = without_answers()
    found = page_of(document)
    requests = sum(family["requests"] for family in document["families"].values())
    assert f"Not one of {requests:,} exchanges came back as it was sent." in found.text
    assert "there are no latencies to draw" in found.text
    assert not [tag for tag, attributes in found.tags if attributes.get("class") == "chart"]
    assert not [row for row in found.tables[FIGURES] if row[0] in ("p99", "response time")]
    assert found.row(FIGURES, "came back well") == ["0", "0", ""]


def test_one_family_may_have_no_answer() -> None:
    document = example()
    document["families"]["ipv4"] = without_answers()["families"]["ipv4"]
    found = page_of(document)
    assert found.tables["Latency by percentile"][0][:2] == ["within", "IPv6 response"]
    assert found.embedded("data")["IPv4"]["spread"] == []


def test_an_interrupted_run_says_so() -> None:
    found = page_of(example() | {"status": "interrupted"})
    assert "The run was interrupted. These are the figures until then." in found.text
    assert "Interrupted; began 20" in found.text


def test_a_run_that_never_began_has_a_page() -> None:
    found = Page(html_page(unstarted("cannot resolve nowhere.invalid: no such name", 3)))
    assert "The run failed: cannot resolve nowhere.invalid: no such name" in found.text
    assert "exit code 3" in found.text
    assert list(found.tables) == ["Environment"]


def test_all_well_is_told_too() -> None:
    document = example() | {"objectives": []}
    document["self_audit"] |= {"trustworthy": True, "findings": []}
    assert "Every exchange came back as it was sent." in page_of(document).text


def test_one_is_told_as_one() -> None:
    document = example()
    for family in document["families"].values():
        family |= {"unsent": 1, "idle_closes": 1}
    document["families"]["ipv4"]["surplus_bytes"] = 1
    document["objectives"] = document["objectives"][:1]
    found = page_of(document)
    for said in (
        "IPv4: 1 exchange was due and never sent, as no connection was free for it.",
        "IPv6: 1 connection ended while nothing was in flight on it.",
        "1 byte came that nothing had been sent for.",
        "1 of 1 objective was missed.",
    ):
        assert said in found.text
    document = without_answers()
    family = document["families"]["ipv4"] | {"requests": 1}
    document["families"] = {"ipv4": family | {"outcomes": family["outcomes"] | {"timeout": 1}}}
    assert "The only exchange never came back as it was sent." in page_of(document).text


def test_what_came_most_often_is_no_more_than_nine_in_ten_were() -> None:
    document = example()
    histogram = Histogram()
    histogram.add({9: 95, 30: 5})
    response = json.loads(histogram.figure().model_dump_json())
    document["families"] = {"ipv4": document["families"]["ipv4"] | {"response": response}}
    assert "from 9 µs to 30 µs, most often about 9 µs, nine in ten up to 9 µs." in (
        page_of(document).text
    )


# That others' text stays text.


def test_text_of_others_stays_text() -> None:
    document = made_hostile()
    source = html_page(result_of(document))
    found = Page(source)
    # Two of data, plotly.js and ours.
    assert len(found.scripts) == 4
    assert {tag for tag, _ in found.tags}.isdisjoint({"img", "iframe", "object", "embed"})
    assert not [name for _, attributes in found.tags for name in attributes if name[:2] == "on"]
    assert f"{HOSTILE}={HOSTILE}" in found.text
    assert f"The run failed: {HOSTILE}" in found.text
    assert found.row("Environment", "kernel") == [HOSTILE]
    assert HOSTILE in found.tables["Objectives"][1][0]
    assert found.embedded("result") == json.loads(result_of(document).to_json())
    assert "hacked = 1</script>" not in source


@pytest.mark.parametrize("text", ["\x1b[2J", "a\u202eb", "\ufeff", "line\nline", "\udcff"])
def test_what_is_not_printable_is_told_by_escapes(text: str) -> None:
    result = result_of(example()).model_copy(update={"labels": {"odd": text}, "error": text})
    source = html_page(result)
    found = Page(source)
    assert text not in found.text.partition("odd=")[2][:20]
    assert re.search(r"odd=[a-z]*\\[xun]", found.text)
    # It can be written.
    assert source.encode()


# That it needs nothing.


def test_nothing_is_loaded_from_elsewhere(page: Page) -> None:
    for tag, attributes in page.tags:
        for name in ("src", "srcset", "href", "data", "action", "poster", "background"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    source = html_page(result_of(example()))
    style = source.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert "sourceMappingURL" not in source


def test_the_policy_forbids_all_but_the_pages_own_scripts(page: Page) -> None:
    policy = next(
        attributes["content"] or ""
        for tag, attributes in page.tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    rules: dict[str, list[str]] = {
        name: values for name, *values in (rule.split() for rule in policy.split(";"))
    }
    assert rules["default-src"] == ["'none'"]
    assert rules["script-src"] == [
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for attributes, text in page.scripts
        if attributes.get("type") != "application/json"
    ]
    assert len(rules["script-src"]) == 2


def test_it_is_hardly_larger_than_plotly(page: Page) -> None:
    size = len(html_page(result_of(example())))
    assert size - max(len(text) for _, text in page.scripts) < 200_000
    assert size < 6_000_000


# Words.


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (None, NOTHING),
        (0, "0 µs"),
        (21, "21 µs"),
        (999, "999 µs"),
        (1000, "1 ms"),
        (7967, "7.967 ms"),
        (999_999, "1000 ms"),
        (1_500_000, "1.5 s"),
        (3_600_000_000, "3,600 s"),
    ],
)
def test_times_have_their_unit(microseconds: float | None, text: str) -> None:
    assert time(microseconds) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 0, NOTHING),
        (0, 10, "0 %"),
        (10, 10, "100 %"),
        (1, 3, "33.3 %"),
        (99_999, 100_000, "under 100 %"),
        (1, 10**9, "under 0.001 %"),
    ],
)
def test_a_share_is_never_told_as_none_or_all_that_it_is_not(
    part: int, whole: int, text: str
) -> None:
    assert percent(part, whole) == text
