"""What samples come to: medians of ratios within a round, tables, and failures that are told."""

import json

import pytest

from benchmarks.cases import CASES
from benchmarks.columns import Column
from benchmarks.measure import Results, Sample, rotated
from benchmarks.peers import LIMIT, OURS
from benchmarks.report import as_json, as_markdown, as_text
from benchmarks.summary import over_rounds, spread, summary, tables

CASE = "64B-50"
ABOUT = {"machine": {"cores": "2"}}


def _sample(peer: str, number: int, cpu_us: float, family: str = "IPv4") -> Sample:
    figures = {
        "requests_per_s": 1e6 / cpu_us,
        "bytes_per_s": 64e6 / cpu_us,
        "cpu_us": cpu_us,
        "p50_us": cpu_us,
        "p99_us": 3 * cpu_us,
        "load_busy": 0.5,
    }
    return Sample(CASE, family, peer, number, figures)


def _results() -> Results:
    """Three rounds, in the last of which everything takes ten times as long."""
    results = Results()
    for number, disturbed in enumerate((1, 2, 10)):
        results.samples.append(_sample(LIMIT, number, 5.0 * disturbed))
        results.samples.append(_sample(OURS, number, (6.0 + number) * disturbed))
    return results


def test_a_ratio_is_the_median_of_ratios_within_a_round() -> None:
    column = Column("", "cpu_us", against=LIMIT)
    found = over_rounds(_results().samples, OURS, column)
    assert found is not None
    assert found.median == pytest.approx(7 / 5)
    assert found.low == pytest.approx(6.5 / 5)
    assert found.high == pytest.approx(7.5 / 5)


def test_a_round_that_one_of_them_missed_has_no_ratio() -> None:
    results = _results()
    del results.samples[4]
    found = over_rounds(results.samples, OURS, Column("", "cpu_us", against=LIMIT))
    assert found is not None
    assert found.median == pytest.approx(6.5 / 5)
    assert over_rounds(results.samples, "trio", Column("", "cpu_us", against=LIMIT)) is None


def test_the_spread_of_one_is_itself_and_of_none_is_none() -> None:
    one = spread([3.0])
    assert one is not None
    assert (one.low, one.median, one.high, one.rounds) == (3.0, 3.0, 3.0, 1)
    assert spread([]) is None


def test_every_server_is_first_once_in_as_many_rounds_as_there_are_servers() -> None:
    servers = ["a", "b", "c"]
    orders = [rotated(servers, number) for number in range(3)]
    assert [order[0] for order in orders] == servers
    assert all(sorted(order) == servers for order in orders)


def test_the_table_has_a_row_for_each_server_and_family() -> None:
    results = _results()
    results.samples.append(_sample(LIMIT, 0, 8.0, "IPv6"))
    [table] = tables(results)
    assert [row[:2] for row in table.rows] == [[LIMIT, "IPv4"], [OURS, "IPv4"], [LIMIT, "IPv6"]]
    ratio = table.headings.index(f"CPU : {LIMIT}")
    assert table.rows[1][ratio] == "1.40 [1.30-1.50]"
    assert all(len(row) == len(table.headings) for row in table.rows)


def test_a_failure_stands_in_the_table_and_the_others_beside_it() -> None:
    results = _results()
    results.samples.append(Sample(CASE, "IPv4", "trio", 1, failure="wrong byte at offset 3"))
    [table] = tables(results)
    assert table.rows[-1][0] == "trio"
    assert table.rows[-1][-1] == "FAILED: wrong byte at offset 3"
    assert table.rows[0][-1] == ""
    assert results.failed
    for form in (as_text(results, ABOUT), as_markdown(results, ABOUT, "command")):
        assert "FAILED: wrong byte at offset 3" in form


def test_what_was_left_out_is_told_with_its_reason() -> None:
    results = _results()
    results.missing["uvloop"] = "uvloop is not installed"
    results.skip("ncat in 64B-1000", "too many")
    results.skip("ncat in 1KiB-1000", "too many")
    for form in (as_text(results, ABOUT), as_markdown(results, ABOUT, "command")):
        assert "Skipped: uvloop: uvloop is not installed." in form
        assert "Skipped: ncat in 64B-1000, ncat in 1KiB-1000: too many." in form


def test_the_document_has_the_summary_and_every_sample() -> None:
    results = _results()
    document = json.loads(as_json(results, ABOUT))
    assert document["schema"] == 1
    assert document["machine"] == {"cores": "2"}
    assert len(document["samples"]) == 6
    [limit, ours] = document["summary"]
    assert limit["cpu_us_to_c"] == {"median": 1.0, "low": 1.0, "high": 1.0, "rounds": 3}
    assert ours["cpu_us_to_c"]["median"] == pytest.approx(1.4)
    assert [limit, ours] == summary(results)


def test_what_should_be_known_of_a_case_stands_over_its_table() -> None:
    results = _results()
    results.notes[CASE] = "What should be known."
    assert "\nWhat should be known.\nserver " in as_text(results, ABOUT)
    assert "\n\nWhat should be known.\n\n| server " in as_markdown(results, ABOUT, "command")


def test_markdown_rows_are_as_wide_as_their_heading() -> None:
    text = as_markdown(_results(), ABOUT, "python -m benchmarks")
    lines = text.splitlines()
    rows = lines[lines.index("### 64B-50: 64B messages, raw, 50 connections") :]
    rows = [line for line in rows if line.startswith("|")]
    assert len(rows) == 4
    assert len({line.count("|") for line in rows}) == 1
    assert "python -m benchmarks" in text


def test_names_are_unique_and_the_sizes_and_connections_are_those_of_their_names() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    sizes = {"64B": 64, "1KiB": 1024, "64KiB": 65536, "1MiB": 1048576}
    for size, count in ((size, count) for size in sizes for count in (1, 50, 1000)):
        [case] = (case for case in CASES if case.name == f"{size}-{count}")
        assert (case.load.size, case.load.connections) == (sizes[size], count)
