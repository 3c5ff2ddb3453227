"""What the samples come to: medians, ratios within a round, tables."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.cases import Case
from benchmarks.catalogue import EVERY
from benchmarks.columns import Column, columns
from benchmarks.comparison import Comparison
from benchmarks.measure import Results, Sample

__all__ = ["Spread", "Table", "cell", "over_rounds", "spread", "summary", "tables"]


@dataclass(frozen=True)
class Spread:
    """A median over so many rounds, and its quartiles."""

    median: float
    low: float
    high: float
    rounds: int


@dataclass(frozen=True)
class Table:
    """Results, under a heading, and what whoever reads them should know."""

    title: str
    note: str
    headings: list[str]
    rows: list[list[str]]


def spread(values: Sequence[float]) -> Spread | None:
    """The median and quartiles of `values`; None of none."""
    if not values:
        return None
    if len(values) == 1:
        return Spread(values[0], values[0], values[0], 1)
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high, len(values))


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


def cell(column: Column, found: Spread | None) -> str:
    """`found`, as tables have it."""
    if found is None:
        return "-"
    number = column.form.format(found.median)
    # One round has no quartiles.
    if not column.is_ratio or found.rounds == 1:
        return number
    return f"{number} [{column.form.format(found.low)}-{column.form.format(found.high)}]"


def tables(results: Results) -> list[Table]:
    """A table for each case that has samples, in the order of the cases."""
    found = []
    for case in EVERY:
        samples = [sample for sample in results.samples if sample.case == case.name]
        if samples:
            found.append(_table(case, samples, results.notes.get(case.name, "")))
    return found


def _table(case: Case | Comparison, samples: Sequence[Sample], note: str) -> Table:
    shown = columns(case)
    rows = []
    for family, peer in dict.fromkeys((sample.family, sample.peer) for sample in samples):
        theirs = [sample for sample in samples if sample.family == family]
        failure = next((s.failure for s in theirs if s.peer == peer and s.failure), None)
        cells = [cell(column, over_rounds(theirs, peer, column)) for column in shown]
        rows.append([peer, family or "-", *cells, f"FAILED: {failure}" if failure else ""])
    what = "command" if isinstance(case, Comparison) else "server"
    headings = [what, "family", *(column.heading for column in shown), ""]
    if not any(row[-1] for row in rows):
        headings, rows = headings[:-1], [row[:-1] for row in rows]
    return Table(f"{case.name}: {case.title}", note, headings, rows)


def summary(results: Results) -> list[dict[str, Any]]:
    """The medians and quartiles of every column, for machines."""
    found = []
    for case in EVERY:
        samples = [sample for sample in results.samples if sample.case == case.name]
        for family, peer in dict.fromkeys((sample.family, sample.peer) for sample in samples):
            theirs = [sample for sample in samples if sample.family == family]
            figures = {}
            for column in columns(case):
                value = over_rounds(theirs, peer, column)
                if value is not None:
                    against = f"_to_{column.against}" if column.against else ""
                    figures[column.figure + against] = asdict(value)
            found.append({"case": case.name, "family": family, "peer": peer, **figures})
    return found
