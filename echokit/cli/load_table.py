"""The result of a load as a table: families side by side, and the ratio between them."""

from collections.abc import Callable, Iterator, Sequence

from echokit.loadgen.figures import PERCENTILES
from echokit.loadgen.measured import OUTCOMES, FamilyName, FamilyResult
from echokit.loadgen.result import Result, RunSettings, Verdict
from echokit.observe.escape import printable
from echokit.units import format_duration, format_size

__all__ = ["FAMILY_TITLES", "columns", "duration", "table"]

FAMILY_TITLES: dict[FamilyName, str] = {"ipv4": "IPv4", "ipv6": "IPv6"}

_SPAN_TITLES = {"connect": "connect", "service": "service time", "response": "response time"}
_STATISTICS = ("min_us", *PERCENTILES, "max_us", "mean_us")
_CONNECT_STATISTICS = ("p50_us", "p99_us", "max_us")


def duration(microseconds: float | None) -> str:
    """A time with three or four digits and its unit; nothing where there is none."""
    if microseconds is None:
        return "-"
    for size, unit in ((1e6, "s"), (1e3, "ms")):
        if microseconds >= size:
            return f"{microseconds / size:.4g}{unit}"
    return f"{microseconds:.4g}us"


def table(result: Result) -> list[str]:
    """The lines that tell `result` to a person."""
    lines = [*_heading(result), "", *columns(_rows(result)), ""]
    if result.objectives:
        lines += [*columns([_objective(verdict) for verdict in result.objectives]), ""]
    audit = result.self_audit
    if audit is not None:
        lines.append(f"generator: {audit.cpu_share:.0%} CPU{_calibrated(result)}")
        lines.append(f"verdict: {audit.verdict}")
    if result.status == "interrupted":
        lines.append("interrupted: these are the figures until then")
    return lines


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
        yield f"{addresses}: {len(result.merged_from)} runs together"
    else:
        yield addresses
    if result.settings is not None:
        yield _asked(result.settings, result.seed)
    if result.labels:
        labels = ", ".join(f"{name}={value}" for name, value in result.labels.items())
        yield printable(labels)


def _asked(settings: RunSettings, seed: int | None) -> str:
    sizes = format_size(settings.size_min)
    if settings.size_max != settings.size_min:
        sizes += f" to {format_size(settings.size_max)}"
    parts = [
        "closed loop" if settings.rate_per_s is None else f"{settings.rate_per_s:g} a second",
        f"{settings.connections} connections" if settings.connections > 1 else "1 connection",
        f"{settings.in_flight} in flight" if settings.in_flight > 1 else "",
        "a connection for each exchange" if settings.churn else "",
        f"{sizes} bytes" if sizes.isdecimal() else sizes,
        str(settings.framing.get("type")),
        f"{settings.workers} workers" if settings.workers > 1 else "",
        f"turns of {format_duration(round(settings.turn_s, 3))}",
        f"seed {seed}",
    ]
    return ", ".join(part for part in parts if part)


def _rows(result: Result) -> list[list[str]]:
    families = list(result.families.items())
    both = len(families) > 1
    ratio = "/".join(FAMILY_TITLES[name] for name, _ in families[::-1])
    rows = [["", *(FAMILY_TITLES[name] for name, _ in families), *([ratio] if both else [])]]

    def add(
        title: str,
        read: Callable[[FamilyResult], float | None],
        show: Callable[[float | None], str] = duration,
    ) -> None:
        values = [read(family) for _, family in families]
        row = [title, *map(show, values)]
        if both:
            first, second = values
            row.append(f"{second / first:.2f}" if first and second is not None else "")
        rows.append(row)

    add("requests/s", lambda family: family.requests_per_s, _number)
    add("exchanges", lambda family: family.requests, _number)
    for outcome in OUTCOMES:
        if outcome == "ok" or any(getattr(f.outcomes, outcome) for _, f in families):
            title = "came back well" if outcome == "ok" else outcome.replace("_", " ")
            add(title, lambda family, kind=outcome: getattr(family.outcomes, kind), _number)  # type: ignore[misc]
    for name, title in (("unsent", "never sent"), ("surplus_bytes", "bytes too many")):
        if any(getattr(family, name) for _, family in families):
            add(title, lambda family, which=name: getattr(family, which), _number)  # type: ignore[misc]
    for span in _spans(result):
        rows.append([""] * len(rows[0]))
        rows.append([_SPAN_TITLES[span], *[""] * (len(rows[0]) - 1)])
        for statistic in _CONNECT_STATISTICS if span == "connect" else _STATISTICS:
            title = statistic.removesuffix("_us").replace("_", ".", 1)
            add(f"  {title}", lambda f, s=span, n=statistic: getattr(getattr(f, s), n))  # type: ignore[misc]
    return rows


def _spans(result: Result) -> list[str]:
    """The times that are worth a row: where response and service are the same, one is."""
    families = list(result.families.values())
    same = all(family.response == family.service for family in families)
    connected = any(family.connect.count > 1 for family in families)
    return [
        *(["connect"] if connected else []),
        *([] if same else ["service"]),
        "response",
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.4g}"  # noqa: PLR2004 - below it, digits after the point tell


def _objective(verdict: Verdict) -> list[str]:
    if verdict.unit == "us":
        measured = duration(verdict.measured)
    else:
        unit = {"%": "%", "1": "", "1/s": "/s"}[verdict.unit]
        measured = "-" if verdict.measured is None else f"{verdict.measured:.4g}{unit}"
    word = "met" if verdict.met else "MISSED"
    return [f"{word:<6}  {verdict.term}", FAMILY_TITLES[verdict.family], measured]


def _calibrated(result: Result) -> str:
    calibration = result.self_audit and result.self_audit.calibration
    if not calibration:
        return ""
    return (
        f"; against echokit's own server it reaches {calibration.requests_per_s:,.0f} a second,"
        f" p50 {duration(calibration.service.p50_us)}"
    )
