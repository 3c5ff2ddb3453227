"""The result of a load as a table: families side by side, and the ratio between them."""

from collections.abc import Iterator, Sequence

from echokit.loadgen.measured import FAMILIES, FAMILY_TITLES
from echokit.loadgen.result import Result, RunSettings, Verdict
from echokit.loadgen.shown import (
    column_titles,
    counted,
    duration,
    measured,
    number,
    ratio,
    shown_figures,
)
from echokit.observe.escape import printable
from echokit.units import format_duration, format_size

__all__ = ["columns", "table"]


def table(result: Result) -> list[str]:
    """The lines that tell `result` to a person."""
    lines = [*_heading(result), "", *columns(list(_rows(result))), ""]
    if result.objectives:
        lines += [*columns([_objective(verdict) for verdict in result.objectives]), ""]
    audit = result.self_audit
    if audit is not None:
        lines.append(f"generator: {audit.cpu_share:.0%} CPU{_calibrated(result)}")
        lines.append(f"verdict: {audit.verdict}")
    if result.status == "interrupted":
        lines.append("interrupted: these are the figures until then")
    # A result may be a file that somebody else wrote.
    return [printable(line) for line in lines]


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """`rows` with their columns aligned, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _heading(result: Result) -> Iterator[str]:
    addresses = ", ".join(
        address for family in result.families.values() for address in family.addresses
    )
    if result.merged_from:
        yield f"{addresses}: {counted(len(result.merged_from), 'run')} merged"
    else:
        yield addresses
    for name, why in result.skipped.items():
        yield f"{FAMILY_TITLES[name]} was not measured: {why}"
    if result.settings is not None:
        each = "each " if result.merged_from else ""
        yield f"{each}{_asked(result.settings, result.seed)}"
    if result.labels:
        yield ", ".join(f"{name}={value}" for name, value in result.labels.items())


def _asked(settings: RunSettings, seed: int | None) -> str:
    sizes = format_size(settings.size_min)
    if settings.size_max != settings.size_min:
        sizes += f" to {format_size(settings.size_max)}"
    parts = [
        "closed loop" if settings.rate_per_s is None else f"{number(settings.rate_per_s)} a second",
        "" if settings.duration_s is None else f"for {format_duration(settings.duration_s)}",
        "" if settings.count is None else f"{counted(settings.count, 'exchange')} of each family",
        counted(settings.connections, "connection"),
        f"{settings.in_flight} in flight" if settings.in_flight > 1 else "",
        "a connection for each exchange" if settings.churn else "",
        f"{sizes} bytes" if sizes.isdecimal() else sizes,
        str(settings.framing.get("type")),
        f"{settings.workers} workers" if settings.workers > 1 else "",
        f"turns of {format_duration(round(settings.turn_s, 3))}",
        "" if seed is None else f"seed {seed}",
    ]
    return ", ".join(part for part in parts if part)


def _rows(result: Result) -> Iterator[list[str]]:
    families = {name: result.families[name] for name in FAMILIES if name in result.families}
    titles = column_titles(families)
    yield ["", *titles]
    for group in shown_figures(families, result.settings):
        if group.title:
            yield [""] * (len(titles) + 1)
            yield [group.title, *[""] * len(titles)]
        for row in group.rows:
            show = duration if row.unit == "us" else number
            ratios = [ratio(row.values)] if len(row.values) > 1 else []
            title = f"  {row.title}" if group.title else row.title
            yield [title, *map(show, row.values), *ratios]


def _objective(verdict: Verdict) -> list[str]:
    word = "met" if verdict.met else "MISSED"
    return [f"{word:<6}  {verdict.term}", FAMILY_TITLES[verdict.family], measured(verdict) or "-"]


def _calibrated(result: Result) -> str:
    calibration = result.self_audit and result.self_audit.calibration
    if not calibration:
        return ""
    return (
        f"; against echokit's own server it reaches {number(calibration.requests_per_s)} a second,"
        f" p50 {duration(calibration.service.p50_us)}"
    )
