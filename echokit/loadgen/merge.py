"""Several runs as one: what several machines measured at a time, without any loss."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from echokit import __version__
from echokit.errors import ConfigError
from echokit.loadgen.account import join_figures
from echokit.loadgen.figures import Figure, Part
from echokit.loadgen.histogram import Histogram
from echokit.loadgen.measured import FAMILIES, FamilyName, FamilyResult, Outcomes, TcpInfo
from echokit.loadgen.objectives import Objective, judge
from echokit.loadgen.result import Result, SelfAudit, Source, WarmUp, problems
from echokit.loadgen.session import exit_code
from echokit.loadgen.slices import merge_slices

__all__ = ["check_histograms", "merge", "sources"]

Value = TypeVar("Value")


def check_histograms(result: Result, path: Path) -> Result:
    """`result`, whose histograms can be decoded.

    Raises:
        ConfigError: One cannot; it names `path` and the place.
    """
    for place, figure in _figures(result, ""):
        try:
            Histogram.of(figure)
        except ConfigError as error:
            raise ConfigError(f"{path}: {place}: {error}") from error
    return result


def _figures(value: object, place: str) -> Iterator[tuple[str, Figure]]:
    """Every figure in a part of a document, with its place."""
    inside: Iterable[tuple[object, object]] = ()
    if isinstance(value, Figure):
        yield place, value
    elif isinstance(value, Part):
        inside = value
    elif isinstance(value, dict):
        inside = value.items()
    elif isinstance(value, list):
        inside = enumerate(value)
    for name, part in inside:
        yield from _figures(part, f"{place}.{name}" if place else str(name))


def merge(results: Sequence[Result]) -> Result:
    """One result of several, at least one.

    Rates, asked for and reached, of runs that ran at the same time are added: together they drove
    the target. Those of runs that did not are averaged over all of their time. Objectives are
    judged anew.

    Raises:
        ConfigError: Together they are more than a result can hold.
    """
    try:
        return _merged(results)
    except ValidationError as error:
        together = "the runs cannot be merged: together they are no result"
        raise ConfigError([f"{together}: {problem}" for problem in problems(error)]) from error


def _merged(results: Sequence[Result]) -> Result:
    ordered = sorted(results, key=_started)
    began = _started(ordered[0])
    ended = max(_ended(result) for result in ordered)
    families = {
        name: _merge_family([r for r in ordered if name in r.families], name, began)
        for name in FAMILIES
        if any(name in result.families for result in ordered)
    }
    objectives = {
        verdict.term: Objective(
            verdict.term, verdict.figure, verdict.operator, verdict.limit, verdict.unit
        )
        for result in ordered
        for verdict in result.objectives
    }
    cut = _cut(ordered)
    merged = ordered[0].model_copy(
        update={
            "echokit_version": __version__,
            "status": cut.status if cut else "complete",
            "error": cut.error if cut else None,
            "duration_s": (ended - began).total_seconds(),
            "target": _same(ordered, lambda result: result.target),
            "settings": _same(ordered, lambda result: result.settings),
            "seed": _same(ordered, lambda result: result.seed),
            "labels": {
                name: value
                for name, value in ordered[0].labels.items()
                if all(result.labels.get(name) == value for result in ordered)
            },
            "families": families,
            "skipped": {
                name: why
                for result in ordered
                for name, why in result.skipped.items()
                if name not in families
            },
            "self_audit": _merge_audits(ordered),
            "objectives": judge(list(objectives.values()), families),
            "merged_from": [source for result in ordered for source in sources(result)],
        }
    )
    return Result.model_validate(
        merged.model_copy(update={"exit_code": _exit_code(merged, cut)}).model_dump()
    )


def _exit_code(merged: Result, cut: Result | None) -> int:
    """That of the run that was cut short, if one was; else what the figures stand for."""
    code = exit_code(merged)
    # One that says it was well, as merged results of failed runs once did, was not.
    return code if cut is None else cut.exit_code or code or 1


def _started(result: Result) -> datetime:
    return datetime.fromisoformat(result.started_at)


def _ended(result: Result) -> datetime:
    return _started(result) + timedelta(seconds=result.duration_s)


def _together(ordered: Sequence[Result]) -> bool:
    """Whether all ran at the same time: for half of the longest run's, at least."""
    both = min(map(_ended, ordered)) - max(map(_started, ordered))
    return both >= max(timedelta(seconds=result.duration_s) for result in ordered) / 2


def _ran(ordered: Sequence[Result]) -> float:
    """For how long any of them ran, in seconds."""
    seconds = 0.0
    until = _started(ordered[0])
    for result in ordered:
        seconds += max(0.0, (_ended(result) - max(until, _started(result))).total_seconds())
        until = max(until, _ended(result))
    return seconds


def _same(ordered: Sequence[Result], read: Callable[[Result], Value]) -> Value | None:
    """What all agree on."""
    first = read(ordered[0])
    return first if all(read(result) == first for result in ordered) else None


def _cut(ordered: Sequence[Result]) -> Result | None:
    """The first run that failed, or else was interrupted: what it says holds for them all."""
    return next(
        (r for status in ("failed", "interrupted") for r in ordered if r.status == status), None
    )


def sources(result: Result) -> list[Source]:
    """The runs that `result` is made of, itself if it is one.

    When a run began, to the microsecond, how much it did and on which machine is what it is known
    by, also where it stands in merged results alone.
    """
    if result.merged_from:
        return result.merged_from
    requests = sum(family.requests for family in result.families.values())
    environment = result.environment
    return [Source(started_at=result.started_at, requests=requests, environment=environment)]


def _merge_audits(ordered: Sequence[Result]) -> SelfAudit | None:
    audits = [result.self_audit for result in ordered if result.self_audit is not None]
    if not audits:
        return None
    findings = list(dict.fromkeys(finding for audit in audits for finding in audit.findings))
    return SelfAudit(
        cpu_share=max(audit.cpu_share for audit in audits),
        lateness_of=audits[0].lateness_of,
        lateness=join_figures([audit.lateness for audit in audits]),
        warm_up=WarmUp(
            requests=sum(audit.warm_up.requests for audit in audits),
            failed=sum(audit.warm_up.failed for audit in audits),
        ),
        calibration=None,
        trustworthy=not findings,
        verdict="; ".join(findings) or audits[0].verdict,
        findings=findings,
    )


def _merge_family(ordered: Sequence[Result], name: FamilyName, began: datetime) -> FamilyResult:
    """One family of several runs that measured it."""
    families = [result.families[name] for result in ordered]
    seconds = [family.measured_s for family in families]
    together = _together(ordered)
    if together:
        # Side by side they took as long as the longest.
        measured, weights = max(seconds), [1.0] * len(seconds)
    else:
        # One after the other, as long as all; where they overlap, so much less.
        spans = sum(result.duration_s for result in ordered)
        measured = sum(seconds) * (_ran(ordered) / spans if spans else 1.0)
        weights = [each / measured if measured else 1.0 for each in seconds]

    def total(read: Callable[[FamilyResult], int]) -> int:
        return sum(map(read, families))

    def rate(read: Callable[[FamilyResult], float]) -> float:
        return sum(read(f) * weight for f, weight in zip(families, weights, strict=True))

    # Where one was a closed loop, nobody has asked for a rate of all.
    asked = all(family.requested_rate_per_s is not None for family in families)
    offsets = [(_started(result) - began).total_seconds() for result in ordered]
    outcomes: Counter[str] = Counter()
    for family in families:
        outcomes.update(family.outcomes.model_dump())
    return FamilyResult(
        addresses=list(dict.fromkeys(address for f in families for address in f.addresses)),
        measured_s=measured,
        silent_s=max(family.silent_s for family in families),
        requested_rate_per_s=rate(lambda f: f.requested_rate_per_s or 0.0) if asked else None,
        actual_rate_per_s=rate(lambda family: family.actual_rate_per_s),
        requests_per_s=rate(lambda family: family.requests_per_s),
        requests=total(lambda family: family.requests),
        unsent=total(lambda family: family.unsent),
        outcomes=Outcomes(**outcomes),
        bytes_sent=total(lambda family: family.bytes_sent),
        bytes_received=total(lambda family: family.bytes_received),
        surplus_bytes=total(lambda family: family.surplus_bytes),
        idle_closes=total(lambda family: family.idle_closes),
        connect=join_figures([family.connect for family in families]),
        service=join_figures([family.service for family in families]),
        response=join_figures([family.response for family in families]),
        slices=merge_slices([(o, f.slices) for o, f in zip(offsets, families, strict=True)]),
        tcp_info=_merge_tcp_info([f.tcp_info for f in families if f.tcp_info is not None]),
    )


def _merge_tcp_info(parts: Sequence[TcpInfo]) -> TcpInfo | None:
    if not parts:
        return None
    rtt = join_figures([part.rtt for part in parts])
    deviations = sum(part.rttvar_mean_us * part.rtt.count for part in parts)
    return TcpInfo(
        rtt=rtt,
        rttvar_mean_us=deviations / rtt.count if rtt.count else 0.0,
        retransmits=sum(part.retransmits for part in parts),
    )
