"""The verdicts of a run as JUnit XML, which CI systems show as tests."""

import re
from typing import Literal
from xml.etree.ElementTree import Element, SubElement, tostring

from echokit.loadgen.measured import FAMILIES, FamilyResult
from echokit.loadgen.result import Result, Verdict
from echokit.loadgen.shown import measured, plural, silence

__all__ = ["junit_xml"]

# What XML 1.0 cannot hold, escaped or not (section 2.2).
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(result: Result) -> str:
    """The run as a test, the exchanges of each family, and each objective for each family."""
    suite = Element("testsuite", name="echokit load", timestamp=result.started_at[:19])
    # A run that was cut short is no test that was passed, whatever it found until then.
    cut = "interrupted" if result.status == "interrupted" else None
    _case(suite, "run", "run", result.error or cut, kind="error")
    objectives_of_errors = any(verdict.figure == "errors" for verdict in result.objectives)
    nothing = not any(family.outcomes.ok for family in result.families.values())
    for name in FAMILIES:
        family = result.families.get(name)
        if family is not None:
            # What the exit code is 1 for; errors are else those objectives' to judge.
            failed = nothing or family.gone or (family.failed and not objectives_of_errors)
            _case(suite, name, "exchanges", _failed(family) if failed else _surplus(family))
    for verdict in result.objectives:
        _case(suite, verdict.family, verdict.term, _missed(verdict))
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("errors", str(len(suite.findall("testcase/error"))))
    suite.set("time", f"{result.duration_s:.3f}")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(suite, encoding="unicode") + "\n"


def _case(
    suite: Element,
    group: str,
    name: str,
    why: str | None,
    kind: Literal["failure", "error"] = "failure",
) -> None:
    """A test, which was passed unless there is a reason `why` not."""
    named = {"classname": f"echokit.load.{group}", "name": _NO_XML.sub("?", name)}
    case = SubElement(suite, "testcase", named)
    if why is not None:
        SubElement(case, kind, message=_NO_XML.sub("?", why))


def _failed(family: FamilyResult) -> str:
    if not family.due:
        return "no exchange was begun"
    counts = {**family.outcomes.model_dump(exclude={"ok"}), "never sent": family.unsent}
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    silent = f"; {silence(family.silent_s, family.measured_s)}" if family.silent_s else ""
    exchanges = plural(family.due, "exchange")
    return f"{family.errors} of {family.due} {exchanges} failed: {kinds}{silent}"


def _surplus(family: FamilyResult) -> str | None:
    surplus = family.surplus_bytes
    return (
        f"{surplus} {plural(surplus, 'byte')} came that nothing had been sent for"
        if surplus
        else None
    )


def _missed(verdict: Verdict) -> str | None:
    if verdict.met:
        return None
    return f"{verdict.term}: {measured(verdict) or 'nothing'} measured"
