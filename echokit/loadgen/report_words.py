"""A result in words: its numbers with their units, what is remarkable, and charts' captions."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from echokit.loadgen.curves import spread
from echokit.loadgen.figures import Figure
from echokit.loadgen.measured import FAMILY_TITLES, FamilyName, FamilyResult, Slice
from echokit.loadgen.result import Result
from echokit.loadgen.shown import counted, ratio
from echokit.loadgen.shown import number as shown_number

__all__ = [
    "NOTHING",
    "Remark",
    "counted",
    "latencies_in_words",
    "number",
    "percent",
    "remarks",
    "slices_in_words",
    "spread_in_words",
    "time",
]

# What stands where there is no number.
NOTHING = "\N{EN DASH}"


def number(value: float | None) -> str:
    """A number as a table has it, in the page's own sign for none."""
    return NOTHING if value is None else shown_number(value)


def time(microseconds: float | None) -> str:
    """A time with up to four digits and its unit."""
    if microseconds is None:
        return NOTHING
    if microseconds >= 1e9:  # noqa: PLR2004 - from here on four digits would cut off seconds
        return f"{microseconds / 1e6:,.0f} s"
    for size, unit in ((1e6, "s"), (1e3, "ms")):
        if microseconds >= size:
            return f"{microseconds / size:.4g} {unit}"
    return f"{microseconds:.4g} \N{MICRO SIGN}s"


def percent(part: float, whole: float) -> str:
    """`part` of `whole` in percent, and never as 0% or 100% that it is not."""
    if not whole:
        return NOTHING
    share = 100 * part / whole
    if 0 < share < 0.001:  # noqa: PLR2004 - three digits of less would be zeros or an exponent
        return "under 0.001 %"
    text = f"{share:.3g}"
    return "under 100 %" if text == "100" and part < whole else f"{text} %"


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that a reader should know before all figures."""

    kind: Literal["good", "warning", "bad"]
    text: str


def remarks(result: Result) -> list[Remark]:
    """What is remarkable about a run, the worst first; that all is well, if it is."""
    found = [*_bad(result), *_warnings(result)]
    if not found:
        objectives = ", and every objective was met" if result.objectives else ""
        found = [Remark("good", f"Every exchange came back as it was sent{objectives}.")]
    return [*found, *_skipped(result)]


def _bad(result: Result) -> Iterator[Remark]:
    families = result.families.values()
    requests = sum(family.requests for family in families)
    failed = requests - sum(family.outcomes.ok for family in families)
    if result.status == "failed":
        yield Remark("bad", f"The run failed: {result.error or 'no reason is known'}")
    elif result.status == "complete" and result.error:
        # One of the outputs could not be written.
        yield Remark("bad", result.error)
    if families and not requests:
        yield Remark("bad", "Not one exchange was begun: there are no figures.")
    elif families and failed == requests:
        many = f"Not one of {number(requests)} exchanges"
        none = "The only exchange never" if requests == 1 else many
        yield Remark("bad", f"{none} came back as it was sent.")
    elif failed:
        share = percent(failed, requests)
        yield Remark("bad", f"{number(failed)} of {number(requests)} exchanges ({share}) failed.")
    if surplus := sum(family.surplus_bytes for family in families):
        yield Remark("bad", f"{counted(surplus, 'byte')} came that nothing had been sent for.")
    if missed := sum(not verdict.met for verdict in result.objectives):
        of = counted(len(result.objectives), "objective")
        yield Remark("bad", f"{missed} of {of} {_were(missed)} missed.")


def _warnings(result: Result) -> Iterator[Remark]:
    if result.status == "interrupted":
        because = f": {result.error}" if result.error not in (None, "interrupted") else ""
        some = any(family.requests for family in result.families.values())
        until = "These are the figures until then." if some else "Nothing was measured until then."
        yield Remark("warning", f"The run was interrupted{because}. {until}")
    for name, family in result.families.items():
        title = FAMILY_TITLES[name]
        if family.unsent:
            yield Remark(
                "warning",
                f"{title}: {counted(family.unsent, 'exchange')} {_were(family.unsent)} due and"
                f" never sent, as no connection was free for {_them(family.unsent)}.",
            )
        if family.idle_closes:
            yield Remark(
                "warning",
                f"{title}: {counted(family.idle_closes, 'connection')} ended while nothing was in"
                f" flight on {_them(family.idle_closes)}.",
            )
    for finding in result.self_audit.findings if result.self_audit else ():
        yield Remark("warning", f"The generator says of itself: {finding}")


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _them(count: int) -> str:
    return "it" if count == 1 else "them"


def _skipped(result: Result) -> Iterator[Remark]:
    for name, why in result.skipped.items():
        yield Remark("warning", f"{FAMILY_TITLES[name]} was not measured: {why}")


def latencies_in_words(families: dict[FamilyName, FamilyResult]) -> str:
    """What the chart of latency by percentile shows."""
    said = [
        f"{FAMILY_TITLES[name]}: half of {counted(figure.count, 'exchange')} came back within"
        f" {time(figure.p50_us)}, 99% within {time(figure.p99_us)}, 99.9% within"
        f" {time(figure.p99_9_us)}, all within {time(figure.max_us)}."
        for name, figure in _responses(families)
    ]
    if len(said) > 1:
        first, second = (figure for _, figure in _responses(families))
        halves, tails = (
            ratio((getattr(first, field), getattr(second, field))) for field in ("p50_us", "p99_us")
        )
        said.append(f"IPv6 took {halves} times as long as IPv4 at p50, {tails} times at p99.")
    return " ".join(said)


def spread_in_words(families: dict[FamilyName, FamilyResult]) -> str:
    """What the histogram shows."""
    return " ".join(
        f"{FAMILY_TITLES[name]}: from {time(figure.min_us)} to {time(figure.max_us)}, most often"
        f" about {time(_most_often(figure))}, nine in ten up to {time(figure.p90_us)}."
        for name, figure in _responses(families)
    )


def _most_often(figure: Figure) -> float:
    low, high, _ = max(spread(figure), key=lambda shared: shared[2])
    # In the middle of the fullest bin, as its axis goes; yet no time that was never measured.
    middle = float(f"{(low * high) ** 0.5:.2g}")
    # Whole microseconds stand for all of theirs, so that the middle may lie above the p90 in it.
    known = [most for most in (figure.p90_us, figure.max_us) if most is not None]
    return max(figure.min_us or 0, min([middle, *(m for m in known if m >= math.floor(low))]))


def slices_in_words(families: dict[FamilyName, FamilyResult]) -> str:
    """What the charts over time show."""
    return " ".join(
        f"{FAMILY_TITLES[name]}, over {_stretches(len(family.slices))}: {_range(family.slices)}."
        for name, family in families.items()
        if family.slices
    )


def _stretches(count: int) -> str:
    return "one stretch of time" if count == 1 else f"{count} stretches of time"


def _range(slices: list[Slice]) -> str:
    def told(values: list[str]) -> str:
        return values[0] if values[0] == values[-1] else f"from {values[0]} to {values[-1]}"

    rates = sorted(slice_.requests_per_s for slice_ in slices)
    tails = sorted(s.response.p99_us for s in slices if s.response.p99_us is not None)
    said = f"{told([number(rate) for rate in rates])} exchanges a second"
    return f"{said}, p99 {told([time(tail) for tail in tails])}" if tails else said


def _responses(families: dict[FamilyName, FamilyResult]) -> list[tuple[FamilyName, Figure]]:
    """The response times that there are."""
    return [(name, family.response) for name, family in families.items() if family.response.count]
