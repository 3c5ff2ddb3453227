"""What the project wants to reach, and whether the samples say that it has."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.catalogue import CASES
from benchmarks.columns import Column
from benchmarks.load_checks import ONE, SOCKPERF, C
from benchmarks.measure import Results, Sample
from benchmarks.peers import LENGTH_PREFIXED, LIMIT, OURS, RAW
from benchmarks.startup import STARTUPS
from benchmarks.summary import Spread, Table, cell, over_rounds

__all__ = ["TARGETS", "Target", "cautions", "judged", "target_table"]

_FAMILIES = ("IPv4", "IPv6")
# Of what has no address.
_NEITHER = ""
# Below so many rounds a median is not to be relied on; of some cases there are never as many.
_ENOUGH = 10
_MOST = {case.name: case.most_rounds for case in CASES}
_HOLDS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
    "within": lambda value, by: abs(value - 1) <= by,
}


@dataclass(frozen=True)
class Target:
    """A bound on a median over the rounds.

    Attributes:
        what: What is bounded.
        case: Where it is measured.
        figure: Which of its figures.
        bound: How the median is to be to `limit`; `within`: no further than that from 1.
        limit: In the unit of the figure; of a ratio where there is `against`.
        against: What the figure is divided by, in the same round.
        peer: Whose figure it is.
        form: How a number is written.
    """

    what: str
    case: str
    figure: str
    bound: str
    limit: float
    against: str | None = None
    peer: str = OURS
    form: str = "{:.2f}"

    def wanted(self) -> str:
        """The bound, as the table has it."""
        if self.bound == "within":
            ends = (self.form.format(1 - self.limit), self.form.format(1 + self.limit))
            return " to ".join(ends)
        return f"{self.bound} {self.form.format(self.limit)}"

    def measured(self, samples: Sequence[Sample]) -> Spread | None:
        """What `samples`, those of a case and a family, have of it; None if nothing."""
        return over_rounds(samples, self.peer, self._column())

    def told(self, found: Spread | None) -> str:
        """`measured`, as the table has it."""
        return cell(self._column(), found)

    def met(self, found: Spread) -> bool:
        """Whether `measured` is as it should be."""
        return _HOLDS[self.bound](found.median, self.limit)

    def failed(self, samples: Sequence[Sample]) -> bool:
        """Whether that whose figure it is has failed."""
        return any(sample.failure for sample in samples if sample.peer == self.peer)

    def _column(self) -> Column:
        return Column("", self.figure, self.form, self.against)


def _startup(number: int) -> Target:
    case = STARTUPS[number]
    what = f"start-up of `{case.ours}` : `import {case.imports}`"
    return Target(what, case.name, "wall_ms", "<=", 1.5, case.bare, case.ours)


_CPU = "CPU of a 64 B request, 50 connections"
_FAST = "requests/s, {}, 50 connections : C"
TARGETS: tuple[Target, ...] = (
    Target(f"{_CPU} : C", "64B-50", "cpu_us", "<=", 1.15, LIMIT),
    Target(f"{_CPU} : uvloop", "64B-50", "cpu_us", "<", 1, "uvloop"),
    Target(f"{_CPU} : asyncio", "64B-50", "cpu_us", "<=", 0.75, "asyncio"),
    Target(f"{_CPU} : Go", "64B-50", "cpu_us", "<", 1, "go"),
    Target("CPU of a 64 B request, 1000 connections : 50", "64B-1000", "cpu_ratio", "<=", 1.2),
    Target(_FAST.format("64 KiB"), "64KiB-50", "requests_per_s", ">=", 0.95, LIMIT),
    Target(_FAST.format("1 MiB"), "1MiB-50", "requests_per_s", ">=", 0.95, LIMIT),
    # A rate may be the generator's, and not the server's. What it costs tells the same where the
    # generator is busy.
    Target("CPU of 64 KiB, 50 connections : C", "64KiB-50", "cpu_us", "<=", 1 / 0.95, LIMIT),
    Target("CPU of 1 MiB, 50 connections : C", "1MiB-50", "cpu_us", "<=", 1 / 0.95, LIMIT),
    Target(
        "requests/s, length-prefixed, 64 B, 64 in flight : asyncio's readexactly",
        "framed-64B-64", "requests_per_s", ">=", 8, "asyncio-readexactly",
    ),
    Target(
        "CPU of 64 KiB, length-prefixed : raw",
        "framings-64KiB-50", "cpu_us", "<=", 1.5, RAW, LENGTH_PREFIXED,
    ),
    Target("connections/s, each for one echo : C", "churn", "requests_per_s", ">=", 0.7, LIMIT),
    Target(
        "connections/s, each for one echo : uvloop", "churn", "requests_per_s", ">", 1, "uvloop"
    ),
    Target("CPU of a connection, for one echo : C", "churn", "cpu_us", "<=", 1 / 0.7, LIMIT),
    Target("bytes for each idle connection", "idle", "bytes_10000", "<=", 600, form="{:,.0f}"),
    # Whatever is kept for each takes more: in Python an object has 16 bytes at least.
    Target(
        "bytes grown for each of 100,000 connections that have ended",
        "growth", "growth_each", "<=", 10, form="{:,.1f}",
    ),
    _startup(0),
    _startup(1),
    Target(
        "requests/s of `echokit load`, 64 B, 50 connections : the generator in C",
        "load-64B-50", "requests_per_s", ">=", 0.65, C, ONE,
    ),
    Target(
        "p50 of `echokit load -c 1` : sockperf's", "load-sockperf", "p50_us", "within", 0.1,
        SOCKPERF, ONE,
    ),
)  # fmt: skip


def judged(results: Results) -> list[dict[str, Any]]:
    """Each target, with what was measured of it over each family, for machines."""
    found = []
    for target in TARGETS:
        measured = {}
        for family, samples in _families(results, target).items():
            value = target.measured(samples)
            if value is not None:
                measured[family] = {**asdict(value), "met": target.met(value)}
        found.append({**asdict(target), "measured": measured})
    return found


def target_table(results: Results, *, every: bool) -> Table | None:
    """A row for each target; unless `every`, for those whose case was measured. None for no row."""
    rows = []
    for target in TARGETS:
        families = _families(results, target)
        if families or every:
            rows.append(_row(target, families))
    note = (
        "A target is met where the median is, before it is rounded, over each family that was"
        " measured. A colon means: divided by, in the same round. Where the load is busy to its"
        " limit (`load busy` in the tables), requests/s are its own: there CPU tells more. A start"
        " has no family: its figure stands under both."
    )
    if why := cautions(results):
        note += f" Take the verdicts with care: {'; '.join(why)}."
    headings = ["what", "target", *_FAMILIES, "met"]
    return Table("Targets", note, headings, rows) if rows else None


def cautions(results: Results) -> list[str]:
    """Why the verdicts are to be taken with care."""
    few = [
        value.rounds
        for target in TARGETS
        for samples in _families(results, target).values()
        if not target.failed(samples) and (value := target.measured(samples)) is not None
        if value.rounds < min(_ENOUGH, _MOST.get(target.case, _ENOUGH))
    ]
    told = f"few rounds ({min(few)}; by default {_ENOUGH})" if few else ""
    return list(filter(None, (told, results.busy)))


def _row(target: Target, families: dict[str, list[Sample]]) -> list[str]:
    cells, verdicts = [], []
    for family in _FAMILIES:
        samples = families.get(family) or families.get(_NEITHER, [])
        value = target.measured(samples)
        cells.append(target.told(value))
        if target.failed(samples):
            cells[-1] = "FAILED"
            verdicts.append(False)
        elif value is not None:
            verdicts.append(target.met(value))
    met = ("yes" if all(verdicts) else "no") if verdicts else "not measured"
    return [target.what, target.wanted(), *cells, met]


def _families(results: Results, target: Target) -> dict[str, list[Sample]]:
    """The samples of its case by family."""
    found: dict[str, list[Sample]] = {}
    for sample in results.samples:
        if sample.case == target.case:
            found.setdefault(sample.family, []).append(sample)
    return found
