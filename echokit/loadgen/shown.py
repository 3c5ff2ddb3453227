"""Which figures of a run are shown, in which order and by which names: in a table, on a page."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from echokit.loadgen.figures import STATISTICS
from echokit.loadgen.measured import FAMILY_TITLES, OUTCOMES, FamilyName, FamilyResult
from echokit.loadgen.result import RunSettings, Verdict
from echokit.units import format_duration

__all__ = [
    "Group",
    "Row",
    "column_titles",
    "counted",
    "duration",
    "measured",
    "number",
    "plural",
    "ratio",
    "response_since",
    "shown_figures",
    "silence",
]

Value = float | None
Read = Callable[[FamilyResult], Value]
Families = Mapping[FamilyName, FamilyResult]

_CONNECT_STATISTICS = ("p50", "p99", "max")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure.

    Attributes:
        title: Its name.
        unit: Whether its values are numbers, or microseconds.
        values: One for each family, in their order; None where a family has none.
    """

    title: str
    unit: Literal["1", "us"]
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Figures that belong together.

    Attributes:
        title: What they are of; empty for the first, which need no title.
        rows: The figures.
    """

    title: str
    rows: list[Row]


def column_titles(families: Families) -> list[str]:
    """The titles of the columns of values: one for each family, and that of their ratio."""
    titles = [FAMILY_TITLES[name] for name in families]
    return [*titles, "/".join(reversed(titles))] if len(titles) > 1 else titles


def number(value: float | None) -> str:
    """A number with its thousands apart; with four digits if it is small."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.4g}"  # noqa: PLR2004 - below it, digits after the point tell


def duration(microseconds: float | None) -> str:
    """A time with three or four digits and its unit; nothing where there is none."""
    if microseconds is None:
        return "-"
    for size, unit in ((1e6, "s"), (1e3, "ms")):
        if microseconds >= size:
            return f"{microseconds / size:.4g}{unit}"
    return f"{microseconds:.4g}us"


def measured(verdict: Verdict) -> str:
    """What was measured for an objective, in its unit; empty where nothing was."""
    if verdict.measured is None:
        return ""
    if verdict.unit == "us":
        return duration(verdict.measured)
    unit = {"%": "%", "1": "", "1/s": "/s"}[verdict.unit]
    return f"{number(verdict.measured)}{unit}"


def counted(count: int, noun: str) -> str:
    """So many of what `noun` calls one."""
    return f"{number(count)} {plural(count, noun)}"


def plural(count: int, noun: str) -> str:
    """What so many are called of what `noun` calls one."""
    return noun if count == 1 else f"{noun}s"


def silence(silent_s: float, measured_s: float) -> str:
    """That nothing came back as a run ended."""
    silent, measured = (format_duration(round(value, 2)) for value in (silent_s, measured_s))
    return f"nothing came back for the last {silent} of {measured}"


def ratio(values: tuple[Value, ...]) -> str:
    """The second value by the first; nothing where there is none."""
    first, second = values
    return f"{second / first:.2f}" if first and second is not None else ""


def response_since(families: Families, settings: RunSettings | None) -> str:
    """From when response times count.

    Args:
        families: What was measured.
        settings: What was asked for, where that was one thing.
    """
    if all(family.response == family.service for family in families.values()):
        return "from the send"
    if any(family.requested_rate_per_s is not None for family in families.values()):
        return "from when a send was due"
    # Nothing is due in a closed loop; only a connection of its own comes before the send.
    if settings is not None:
        return "from when its connection was begun"
    # Runs of several kinds, merged.
    return "from when a send was due or its connection begun"


def shown_figures(families: Families, settings: RunSettings | None) -> list[Group]:
    """Everything that is worth a row of these families; what did not happen is left out.

    Args:
        families: What was measured.
        settings: What was asked for, where that was one thing.
    """
    found = list(families.values())
    groups = [Group("", [_row(title, read, found) for title, read in _counts(found)])]
    late = any(family.response != family.service for family in found)
    spans = {
        "response": f"response time, {response_since(families, settings)}"
        if late
        else "response time",
        **({"service": "service time, from the send"} if late else {}),
        "connect": "connect time",
    }
    for span, title in spans.items():
        if any(getattr(family, span).count for family in found):
            names = _CONNECT_STATISTICS if span == "connect" else tuple(STATISTICS)
            rows = [_row(name, _time(span, name), found, "us") for name in names]
            groups.append(Group(title, rows))
    if any(family.tcp_info is not None for family in found):
        groups.append(Group("the kernel's round trip", _kernel(found)))
    return groups


def _row(
    title: str, read: Read, families: list[FamilyResult], unit: Literal["1", "us"] = "1"
) -> Row:
    return Row(title, unit, tuple(map(read, families)))


def _counts(families: list[FamilyResult]) -> Iterator[tuple[str, Read]]:
    """How many, and how many a second."""

    def reader(name: str) -> Read:
        return lambda family: getattr(family, name)

    yield "requests/s", reader("requests_per_s")
    if any(family.requested_rate_per_s is not None for family in families):
        yield "asked for/s", reader("requested_rate_per_s")
        yield "begun/s", reader("actual_rate_per_s")
    yield "payload MiB/s", _throughput
    yield "exchanges", reader("requests")
    for outcome in OUTCOMES:
        if outcome == "ok" or any(getattr(family.outcomes, outcome) for family in families):
            title = "came back well" if outcome == "ok" else outcome.replace("_", " ")
            yield title, lambda family, kind=outcome: getattr(family.outcomes, kind)  # type: ignore[misc]
    for name, title in _SELDOM.items():
        if any(getattr(family, name) for family in families):
            yield title, reader(name)


# What is told only where it happened.
_SELDOM = {
    "unsent": "never sent",
    "surplus_bytes": "bytes too many",
    "idle_closes": "closed while idle",
}


def _throughput(family: FamilyResult) -> Value:
    """That of what came back, at the rate at which it did."""
    ok = family.outcomes.ok
    if not ok:
        return 0.0 if family.measured_s else None
    return family.bytes_received / ok * family.requests_per_s / (1 << 20)


def _time(span: str, statistic: str) -> Read:
    return lambda family: getattr(getattr(family, span), STATISTICS[statistic])


def _kernel(families: list[FamilyResult]) -> list[Row]:
    return [
        _row("p50", lambda f: f.tcp_info.rtt.p50_us if f.tcp_info else None, families, "us"),
        _row("max", lambda f: f.tcp_info.rtt.max_us if f.tcp_info else None, families, "us"),
        _row("segments resent", lambda f: f.tcp_info.retransmits if f.tcp_info else None, families),
    ]
