"""Objectives: what figures should be, as `p99<5ms,errors<0.1%`.

A term is a figure, an operator (`<`, `<=`, `>`, `>=`) and a limit. Figures of response times are
`min`, `mean`, `p50`, `p90`, `p99`, `p99.9`, `p99.99` and `max`; those of connect and service times
have `connect.` or `service.` before them; all want a time. `errors`, exchanges that failed or
were due and never sent, wants a percentage or a number of them; `rate`, exchanges that came back
well a second, wants a number.
"""

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from echokit.errors import ConfigError
from echokit.loadgen.figures import STATISTICS
from echokit.loadgen.measured import FamilyName, FamilyResult
from echokit.loadgen.result import Verdict
from echokit.units import parse_duration

__all__ = ["Objective", "judge", "parse_objectives"]

Operator = Literal["<", "<=", ">", ">="]
_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_SPANS = ("connect", "service", "response")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.]*")
_OPERATOR = re.compile(r"<=|>=|<|>")
_LIMIT = re.compile(r"[^,\s]+")
_SPACE = re.compile(r"[ \t\r\n]*")
_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Objective:
    """One term.

    Attributes:
        term: As it was written.
        figure: `p99`, `connect.max`, `errors`, `rate`.
        operator: How the figure should compare to the limit.
        limit: In `unit`.
        unit: Microseconds, percent, exchanges, or exchanges a second.
    """

    term: str
    figure: str
    operator: Operator
    limit: float
    unit: Literal["us", "%", "1", "1/s"]

    def measured(self, family: FamilyResult) -> float | None:
        """What `family` has for it, in `unit`; None where it has nothing."""
        if self.figure == "rate":
            return family.requests_per_s
        if self.figure == "errors":
            return family.errors if self.unit == "1" else family.error_percent
        span, statistic = _parts(self.figure)
        value: float | None = getattr(getattr(family, span), STATISTICS[statistic])
        return value

    def judge(self, name: FamilyName, family: FamilyResult) -> Verdict:
        """Whether `family` meets it; what was not measured does not."""
        measured = self.measured(family)
        return Verdict(
            term=self.term,
            family=name,
            figure=self.figure,
            operator=self.operator,
            limit=self.limit,
            unit=self.unit,
            measured=measured,
            met=measured is not None and _COMPARE[self.operator](measured, self.limit),
        )


def judge(
    objectives: Sequence[Objective], families: Mapping[FamilyName, FamilyResult]
) -> list[Verdict]:
    """Every objective for every family."""
    return [
        objective.judge(name, family)
        for objective in objectives
        for name, family in families.items()
    ]


def parse_objectives(text: str) -> list[Objective]:
    """Read `p99<5ms,errors<0.1%`.

    Raises:
        ConfigError: It does not parse: what was expected, and the text with a mark below the place.
    """
    objectives = []
    at = 0
    while True:
        objective, at = _term(text, at)
        objectives.append(objective)
        if at == len(text):
            return objectives
        if text[at] != ",":
            raise _wrong(text, at, "expected ',' or the end")
        at += 1


def _term(text: str, at: int) -> tuple[Objective, int]:
    """The term that begins at `at`, and where it ends."""
    start = _skip(text, at)
    name = _NAME.match(text, start)
    figure = name[0] if name else ""
    if not _known(figure):
        known = ", ".join([*STATISTICS, "connect.p99", "errors", "rate"])
        raise _wrong(text, start, f"expected a figure, one of {known}")
    at = _skip(text, start + len(figure))
    sign = _OPERATOR.match(text, at)
    if sign is None:
        raise _wrong(text, at, "expected <, <=, > or >=")
    at = _skip(text, sign.end())
    written = _LIMIT.match(text, at)
    limit = _limit(figure, written[0] if written else "")
    if limit is None or written is None:
        raise _wrong(text, at, f"expected {_WANTED.get(figure, 'a time like 5ms')}")
    term = text[start : written.end()]
    number, unit = limit
    return Objective(term, figure, _operator(sign[0]), number, unit), _skip(text, written.end())


_WANTED = {
    "errors": "a percentage like 0.1%, or a number of exchanges",
    "rate": "a number of exchanges a second",
}


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _parts(figure: str) -> tuple[str, str]:
    """Which times `figure` is of, and which of their numbers it is."""
    for span in _SPANS:
        if figure.startswith(f"{span}."):
            return span, figure.removeprefix(f"{span}.")
    return "response", figure


def _known(figure: str) -> bool:
    return figure in _WANTED or _parts(figure)[1] in STATISTICS


def _operator(sign: str) -> Operator:
    return next(known for known in get_args(Operator) if known == sign)


def _limit(figure: str, text: str) -> tuple[float, Literal["us", "%", "1", "1/s"]] | None:
    """The number that `text` says for `figure`, and its unit; None where it says none."""
    if figure == "rate":
        return (float(text), "1/s") if _NUMBER.fullmatch(text) else None
    if figure == "errors":
        if text.endswith("%") and _NUMBER.fullmatch(text[:-1]):
            return float(text[:-1]), "%"
        return (float(text), "1") if _NUMBER.fullmatch(text) else None
    # A bare number would be seconds everywhere else, and is too easily meant otherwise here.
    if _NUMBER.fullmatch(text):
        return None
    try:
        return parse_duration(text) * 1e6, "us"
    except ValueError:
        return None


def _wrong(text: str, at: int, what: str) -> ConfigError:
    place = f"at character {at + 1}" if at < len(text) else "at the end"
    return ConfigError([f"--objective: {what}, {place}", f"  {text}", f"  {' ' * at}^"])
