"""What the samples come to: medians, ratios within a round, tables."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.cases import Case, Churned, Held, Idle
from benchmarks.measure import Results, Sample
from benchmarks.peers import LIMIT, OURS
from benchmarks.startup import EVERY, StartUp

__all__ = ["Column", "Spread", "Table", "over_rounds", "spread", "summary", "tables"]


@dataclass(frozen=True)
class Spread:
    """A median over rounds, and its quartiles."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        heading: What stands over it.
        figure: Which of the samples' figures.
        form: How a number is written.
        against: The server that it is divided by, in the same round; None for the figure itself.
    """

    heading: str
    figure: str
    form: str = "{:,.0f}"
    against: str | None = None


@dataclass(frozen=True)
class Table:
    """A case's results."""

    title: str
    headings: list[str]
    rows: list[list[str]]


_TRAFFIC = (
    Column("requests/s", "requests_per_s"),
    Column("MB/s", "megabytes_per_s", "{:,.1f}"),
    Column("p50 us", "p50_us"),
    Column("p99 us", "p99_us"),
    Column("CPU us/request", "cpu_us", "{:,.2f}"),
    Column(f"CPU : {LIMIT}", "cpu_us", "{:.2f}", LIMIT),
    Column(f"requests/s : {LIMIT}", "requests_per_s", "{:.2f}", LIMIT),
    Column(f"CPU : {OURS}", "cpu_us", "{:.2f}", OURS),
)
_HELD = (
    Column("p99 us without the idle", "p99_alone_us"),
    Column("p99 with : without", "p99_ratio", "{:.2f}"),
    Column("CPU with : without", "cpu_ratio", "{:.2f}"),
)
_IDLE = (
    Column("bytes each of 1,000", "bytes_1000"),
    Column("bytes each of 10,000", "bytes_10000"),
    Column("KiB with one", "base_kib"),
)
_CHURNED = (
    Column("connections", "connects"),
    Column("KiB before", "before_kib"),
    Column("KiB after", "after_kib"),
    Column("KiB grown", "growth_kib"),
)


def _columns(case: Case | StartUp) -> tuple[Column, ...]:
    if isinstance(case, StartUp):
        return (
            Column("ms", "wall_ms", "{:.1f}"),
            Column("against the imports", "wall_ms", "{:.2f}", case.bare),
        )
    if isinstance(case, Idle):
        return _IDLE
    if isinstance(case, Churned):
        return _CHURNED
    return (*_TRAFFIC, *_HELD) if isinstance(case, Held) else _TRAFFIC


def spread(values: Sequence[float]) -> Spread | None:
    """The median and quartiles of `values`; None of none."""
    if not values:
        return None
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def over_rounds(samples: Iterable[Sample], peer: str, column: Column) -> Spread | None:
    """A column's figure for `peer` over the rounds of one case and family."""
    mine: dict[int, float] = {}
    others: dict[int, float] = {}
    for sample in samples:
        value = _figures(sample).get(column.figure)
        if value is not None and sample.peer == peer:
            mine[sample.round] = value
        if value is not None and sample.peer == column.against:
            others[sample.round] = value
    if column.against is None:
        return spread(list(mine.values()))
    return spread([mine[at] / others[at] for at in mine if others.get(at)])


def _figures(sample: Sample) -> dict[str, float]:
    """The figures, and in the units that people read."""
    figures = dict(sample.figures)
    for name, value in sample.figures.items():
        if name.endswith("_bytes"):
            figures[name.removesuffix("_bytes") + "_kib"] = value / 1024
        if name == "bytes_per_s":
            figures["megabytes_per_s"] = value / 1e6
    return figures


def _cell(column: Column, found: Spread | None) -> str:
    if found is None:
        return "-"
    number = column.form.format(found.median)
    if column.against is None:
        return number
    return f"{number} [{column.form.format(found.low)}-{column.form.format(found.high)}]"


def tables(results: Results) -> list[Table]:
    """A table for each case that has samples, in the order of the cases."""
    found = []
    for case in EVERY:
        samples = [sample for sample in results.samples if sample.case == case.name]
        if samples:
            found.append(_table(case, samples))
    return found


def _table(case: Case | StartUp, samples: Sequence[Sample]) -> Table:
    columns = _columns(case)
    rows = []
    for family, peer in dict.fromkeys((sample.family, sample.peer) for sample in samples):
        theirs = [sample for sample in samples if sample.family == family]
        failure = next((s.failure for s in theirs if s.peer == peer and s.failure), None)
        cells = [_cell(column, over_rounds(theirs, peer, column)) for column in columns]
        rows.append([peer, family or "-", *cells, f"FAILED: {failure}" if failure else ""])
    headings = ["server", "family", *(column.heading for column in columns), ""]
    if not any(row[-1] for row in rows):
        headings, rows = headings[:-1], [row[:-1] for row in rows]
    return Table(f"{case.name}: {case.title}", headings, rows)


def summary(results: Results) -> list[dict[str, Any]]:
    """The medians and quartiles of every column, for machines."""
    found = []
    for case in EVERY:
        samples = [sample for sample in results.samples if sample.case == case.name]
        for family, peer in dict.fromkeys((sample.family, sample.peer) for sample in samples):
            theirs = [sample for sample in samples if sample.family == family]
            figures = {}
            for column in _columns(case):
                value = over_rounds(theirs, peer, column)
                if value is not None:
                    against = f"_to_{column.against}" if column.against else ""
                    figures[column.figure + against] = asdict(value)
            found.append({"case": case.name, "family": family, "peer": peer, **figures})
    return found
