"""Two runs side by side: what changed, and whether that is more than what varies by itself."""

import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from echokit.errors import ConfigError
from echokit.loadgen.figures import STATISTICS
from echokit.loadgen.measured import FAMILIES, FAMILY_TITLES, FamilyName, FamilyResult, Slice
from echokit.loadgen.result import Result
from echokit.loadgen.settings import only_asked

__all__ = ["Change", "compare", "differences", "mismatches"]

# With fewer slices than this, nothing can be said of how they vary.
_FEWEST_SLICES = 3
# Student's t that 99% of samples stay within, to either side, by their degrees of freedom.
_STUDENT_99 = {
    2: 9.925, 3: 5.841, 4: 4.604, 5: 4.032, 6: 3.707, 7: 3.499, 8: 3.355, 9: 3.250, 10: 3.169,
    12: 3.055, 15: 2.947, 20: 2.845, 30: 2.750, 60: 2.660,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of two runs.

    Attributes:
        family: Whose figure it is.
        figure: `requests/s`, `response p99`, `errors`.
        unit: Microseconds, exchanges a second, or percent.
        before: What the first run has.
        after: What the second has.
        change: How much it changed, relative to the first; None where that was 0, and now is not.
        spread: How far it may go by itself, relative to the first run, as that one's slices tell;
            None where they are too few. What the second run varies excuses nothing: that it was
            well for half of its time is what a change looks like.
        verdict: `regression` is worse by more than the tolerance and the spread.
    """

    family: FamilyName
    figure: str
    unit: Literal["us", "1/s", "%"]
    before: float
    after: float
    change: float | None
    spread: float | None
    verdict: Literal["same", "better", "worse", "regression"]


@dataclass(frozen=True, slots=True)
class _Compared:
    """A figure to compare: how it is read of a family, and of a slice."""

    name: str
    unit: Literal["us", "1/s", "%"]
    more_is_better: bool
    of_family: Callable[[FamilyResult], float | None]
    of_slice: Callable[[Slice], float | None]


def _response(statistic: str) -> _Compared:
    field = STATISTICS[statistic]

    def of_family(family: FamilyResult) -> float | None:
        value: float | None = getattr(family.response, field)
        return value

    def of_slice(slice_: Slice) -> float | None:
        value: float | None = getattr(slice_.response, field)
        return value

    return _Compared(f"response {statistic}", "us", False, of_family, of_slice)


def _slice_errors(slice_: Slice) -> float | None:
    return 100 * (slice_.requests - slice_.ok) / slice_.requests if slice_.requests else None


_FIGURES = (
    _Compared("requests/s", "1/s", True, lambda f: f.requests_per_s, lambda s: s.requests_per_s),
    *map(_response, ("p50", "p90", "p99", "p99.9", "mean")),
    _Compared("errors", "%", False, lambda f: f.error_percent, _slice_errors),
)


def compare(before: Result, after: Result, tolerance: float) -> list[Change]:
    """Every figure of every family that both runs measured, and what the second lost.

    A family that the first measured and the second did not is a regression, from what its rate was
    to nothing, unless nobody had asked the second for it.

    Args:
        before: The first run.
        after: The second.
        tolerance: By how much a figure may be worse, relative to the first run.

    Raises:
        ConfigError: No family was measured by both.
    """
    names = [name for name in FAMILIES if name in before.families and name in after.families]
    if not names:
        raise ConfigError("no family was measured by both runs: there is nothing to compare")
    changes: list[Change] = []
    for name in FAMILIES:
        if name in names:
            changes += _changes(name, before.families[name], after.families[name], tolerance)
        elif _lost(name, before, after):
            rate = before.families[name].requests_per_s
            changes.append(Change(name, "requests/s", "1/s", rate, 0.0, -1.0, None, "regression"))
    return changes


def _lost(name: FamilyName, before: Result, after: Result) -> bool:
    """Whether a family that the first run measured could not be measured by the second."""
    unasked = {only_asked(other) for other in FAMILIES if other != name}
    known = name in before.families and before.families[name].due > 0
    return known and name not in after.families and after.skipped.get(name) not in unasked


def differences(before: Result, after: Result) -> list[str]:
    """What makes the figures of two runs hard to compare, a line each."""
    found = [
        f"{which} tells of more than its target: {run.self_audit.verdict}"
        for which, run in (("A", before), ("B", after))
        if run.self_audit is not None and not run.self_audit.trustworthy
    ]
    return [*found, *mismatches(before, after)]


def mismatches(before: Result, after: Result) -> list[str]:
    """In what two runs were not made alike, a line each."""
    found = [
        f"{which} was {run.status}: its figures are those until then"
        for which, run in (("A", before), ("B", after))
        if run.status != "complete"
    ]
    for name in FAMILIES:
        having = [run for run in (before, after) if name in run.families]
        if len(having) == 1:
            which, other = ("A", after) if having[0] is before else ("B", before)
            why = f": {other.skipped[name]}" if name in other.skipped else ""
            found.append(f"{FAMILY_TITLES[name]} was measured by {which} alone{why}")
    if before.settings is None or after.settings is None:
        return found
    first, second = before.settings.model_dump(), after.settings.model_dump()
    asked = [
        f"{field} {_asked(first[field])} and {_asked(second[field])}"
        for field in first
        # How long the turns are follows from the others.
        if first[field] != second[field] and field != "turn_s"
    ]
    return [*found, *([f"they were asked for otherwise: {', '.join(asked)}"] if asked else [])]


def _asked(value: object) -> str:
    """A setting as a note has it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        # Without the ".0" of a whole one, and without an exponent.
        return f"{value:.6f}".rstrip("0").rstrip(".")
    if isinstance(value, dict):
        return " ".join(
            str(each) if name == "type" else f"{name}={_asked(each)}"
            for name, each in value.items()
        )
    return str(value)


def _changes(
    name: FamilyName, before: FamilyResult, after: FamilyResult, tolerance: float
) -> Iterator[Change]:
    for compared in _FIGURES:
        first, second = compared.of_family(before), compared.of_family(after)
        if first is None or second is None:
            continue
        spread = _spread(before, after, compared)
        change = (second - first) / first if first else (None if second else 0.0)
        verdict = _verdict(change, spread, tolerance, more_is_better=compared.more_is_better)
        yield Change(name, compared.name, compared.unit, first, second, change, spread, verdict)


def _spread(before: FamilyResult, after: FamilyResult, compared: _Compared) -> float | None:
    """How far the second run's figure may lie from the first's, if nothing has changed.

    That is where the mean of as many slices as the second run has falls 99 times in 100, if they
    come from where the first's came: few slices say little of how they vary. It is never less than
    the standard deviation, as slices beside each other are more alike than those of another run.
    """
    known = _of_slices(before, compared)
    mean = statistics.fmean(known) if known else 0.0
    if len(known) < _FEWEST_SLICES or not mean:
        return None
    others = len(_of_slices(after, compared)) or 1
    student = min(t for freedom, t in _STUDENT_99.items() if freedom < len(known))
    within = max(1.0, student * math.sqrt(1 / len(known) + 1 / others))
    return within * statistics.stdev(known) / mean


def _of_slices(family: FamilyResult, compared: _Compared) -> list[float]:
    values = [compared.of_slice(slice_) for slice_ in family.slices]
    return [value for value in values if value is not None]


def _verdict(
    change: float | None, spread: float | None, tolerance: float, *, more_is_better: bool
) -> Literal["same", "better", "worse", "regression"]:
    if change is None:
        # From nothing to something: no share of it, and no spread, excuses that.
        return "better" if more_is_better else "regression"
    worse_by = -change if more_is_better else change
    if abs(change) <= (spread or 0.0) or not change:
        return "same"
    if worse_by < 0:
        return "better"
    return "regression" if worse_by > tolerance else "worse"
