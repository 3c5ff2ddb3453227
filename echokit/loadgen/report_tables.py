"""A result as tables: families side by side, and everything that is known of the run."""

from dataclasses import dataclass, field

from echokit.loadgen.curves import at_percentiles, spread
from echokit.loadgen.figures import Figure
from echokit.loadgen.measured import FAMILY_TITLES, OUTCOMES, FamilyName, FamilyResult, Outcomes
from echokit.loadgen.report_words import NOTHING, number, percent, time
from echokit.loadgen.result import Result, RunSettings, SelfAudit, Verdict
from echokit.loadgen.shown import column_titles, counted, ratio, shown_figures
from echokit.units import format_duration, format_size

__all__ = [
    "Table",
    "audit_table",
    "environment_table",
    "errors_table",
    "objectives_table",
    "percentiles_table",
    "settings_table",
    "slices_table",
    "sources_table",
    "spans",
    "spread_table",
    "summary_table",
]

_TABLED = (0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99, 100.0)


@dataclass(frozen=True, slots=True)
class Table:
    """Cells of text.

    Attributes:
        title: What the table tells.
        head: The columns' titles; none where there are two columns, names and values.
        rows: The first cell of each is its title; a row of one cell is the title of those below.
    """

    title: str
    head: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


Families = dict[FamilyName, FamilyResult]


def summary_table(families: Families, settings: RunSettings | None) -> Table:
    """The figures of all families, side by side, with their ratio where there are two."""
    table = Table("Figures by address family", ["", *column_titles(families)])
    for group in shown_figures(families, settings):
        if group.title:
            table.rows.append([group.title])
        for row in group.rows:
            show = time if row.unit == "us" else number
            ratios = [ratio(row.values)] if len(row.values) > 1 else []
            table.rows.append([row.title, *map(show, row.values), *ratios])
    return table


def errors_table(families: Families) -> Table | None:
    """How many exchanges failed, by kind; None where none did."""
    titles = [FAMILY_TITLES[name] for name in families]
    table = Table("Failed exchanges by kind", ["", *titles, "what it means"])
    for kind in OUTCOMES:
        counts = [(getattr(f.outcomes, kind), f.requests) for f in families.values()]
        if kind != "ok" and any(count for count, _ in counts):
            told = [
                f"{number(count)} ({percent(count, of)})" if count else "0" for count, of in counts
            ]
            meaning = Outcomes.model_fields[kind].description or ""
            table.rows.append([kind.replace("_", " "), *told, meaning])
    return table if table.rows else None


def objectives_table(verdicts: list[Verdict]) -> Table:
    """What was asked of the figures, and what they are."""
    rows = [
        [
            verdict.term,
            FAMILY_TITLES[verdict.family],
            _in_unit(verdict.measured, verdict),
            "\N{CHECK MARK} met" if verdict.met else "\N{BALLOT X} missed",
        ]
        for verdict in verdicts
    ]
    return Table("Objectives", ["", "family", "measured", "verdict"], rows)


def _in_unit(value: float | None, verdict: Verdict) -> str:
    if verdict.unit == "us":
        return time(value)
    unit = {"%": " %", "1": "", "1/s": "/s"}[verdict.unit]
    return NOTHING if value is None else f"{number(value)}{unit}"


def percentiles_table(families: Families) -> Table:
    """What the chart of latency by percentile shows."""
    columns = [
        (f"{FAMILY_TITLES[name]} {span}", figure)
        for name, family in families.items()
        for span, figure in spans(family)
        if figure.count
    ]
    found = [at_percentiles(figure, list(_TABLED)) for _, figure in columns]
    rows = [
        [f"{percentile:g}%", *(time(values[place]) for values in found)]
        for place, percentile in enumerate(_TABLED)
    ]
    return Table("Latency by percentile", ["within", *(title for title, _ in columns)], rows)


def spans(family: FamilyResult) -> list[tuple[str, Figure]]:
    """The latencies that are worth a curve: where both are the same, one is."""
    same = family.response == family.service
    return [("response", family.response), *([] if same else [("service", family.service)])]


def spread_table(families: Families) -> Table:
    """What the histogram shows."""
    found = {
        name: {(low, high): share for low, high, share in spread(family.response)}
        for name, family in families.items()
    }
    rows = [
        [
            f"{time(low)} to {time(high)}",
            *(percent(bins.get((low, high), 0), 1) for bins in found.values()),
        ]
        for low, high in sorted({edges for bins in found.values() for edges in bins})
    ]
    return Table("Share of exchanges by latency", ["", *(FAMILY_TITLES[n] for n in families)], rows)


def slices_table(families: Families) -> Table:
    """What the charts over time show."""
    slices = sorted(
        ((slice_.start_s, name, slice_) for name, f in families.items() for slice_ in f.slices),
        key=lambda found: found[:2],
    )
    rows = [
        [
            f"{start:.2f} s",
            FAMILY_TITLES[name],
            number(slice_.requests_per_s),
            time(slice_.response.p99_us),
            number(slice_.requests - slice_.ok),
        ]
        for start, name, slice_ in slices
    ]
    head = ["from", "family", "exchanges a second", "p99", "failed"]
    return Table("Exchanges a second and p99 over time", head, rows)


def settings_table(settings: RunSettings, seed: int | None, *, merged: bool) -> Table:
    """What was asked for."""
    rate, count, duration = settings.rate_per_s, settings.count, settings.duration_s
    sizes = [_bytes(size) for size in dict.fromkeys((settings.size_min, settings.size_max))]
    framing = ", ".join(
        str(value) if key == "type" else f"{key} {value}" for key, value in settings.framing.items()
    )
    rows = [
        ["loop", "closed" if rate is None else f"open, {number(rate)} exchanges a second"],
        ["connections", number(settings.connections)],
        ["exchanges in flight on each", number(settings.in_flight)],
        ["a connection for each exchange", "yes" if settings.churn else "no"],
        ["duration", "not bounded" if duration is None else format_duration(duration)],
        ["exchanges of each family", "not bounded" if count is None else number(count)],
        ["message size", " to ".join(sizes)],
        ["framing", framing],
        ["warm-up of each family", format_duration(settings.warmup_s)],
        ["turns of the families", format_duration(round(settings.turn_s, 3))],
        ["worker processes", number(settings.workers)],
        ["timeout", format_duration(settings.timeout_s)],
        ["connect timeout", format_duration(settings.connect_timeout_s)],
        ["seed", NOTHING if seed is None else str(seed)],
    ]
    return Table("Settings of each run" if merged else "Settings", [], rows)


def _bytes(size: int) -> str:
    text = format_size(size)
    return f"{text} B" if text.isdecimal() else text


def environment_table(result: Result) -> Table:
    """When and where it was measured."""
    environment = result.environment
    loads = environment.load_average
    rows = [
        ["echokit", result.echokit_version],
        ["Python", environment.python],
        ["platform", environment.platform],
        ["kernel", environment.kernel],
        ["CPUs", number(environment.cpu_count)],
        ["load average before", NOTHING if loads is None else ", ".join(f"{n:.2f}" for n in loads)],
    ]
    return Table("Environment", [], rows)


def audit_table(audit: SelfAudit) -> Table:
    """What the run says of the generator itself."""
    late, calibration = audit.lateness, audit.calibration
    what = "sends left late by" if audit.lateness_of == "sends" else "a timer was late by"
    rows = [
        ["verdict", audit.verdict],
        ["own CPU share", f"{audit.cpu_share:.0%}"],
        [f"{what}, p50", time(late.p50_us)],
        [f"{what}, p99", time(late.p99_us)],
        [f"{what}, max", time(late.max_us)],
        ["warm-up, in no figure", counted(audit.warm_up.requests, "exchange")],
        ["of these failed", number(audit.warm_up.failed)],
    ]
    if calibration is not None:
        reached = f"{number(calibration.requests_per_s)} a second"
        rows.append(["reaches against echokit's own server", reached])
        rows.append(["service time there, p50", time(calibration.service.p50_us)])
    return Table("The generator's audit of itself", [], rows)


def sources_table(result: Result) -> Table | None:
    """The runs that a merged result is made of; None for others."""
    rows = [
        [
            source.started_at,
            number(source.requests),
            f"{source.environment.platform}, {source.environment.kernel}",
        ]
        for source in result.merged_from
    ]
    return Table("Runs merged", ["started", "exchanges", "machine"], rows) if rows else None
