"""`echokit compare` and `echokit merge`: what can be done with the results of loads."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from echokit.cli.ending import Ended, exit_code, lines, tell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from echokit.loadgen.compare import Change
    from echokit.loadgen.result import Result, Source

__all__ = ["compare", "merge"]

_MISSED = 4
_STDOUT = "-"
_FEWEST = 2
_USAGE = "OUT comes first, as in 'echokit merge OUT.json A.json B.json'"


def compare(
    before: Annotated[Path, typer.Argument(metavar="A.json", help="The run to compare with.")],
    after: Annotated[Path, typer.Argument(metavar="B.json", help="The run to compare.")],
    tolerance: Annotated[
        str,
        typer.Option(metavar="PERCENT", help="By how much a figure may be worse."),
    ] = "5%",
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON document.")] = False,
) -> None:
    """Compare two results of 'echokit load', figure by figure.

    A change counts if it is more than the spread: what A's own slices say that chance may do. It is
    a regression if it is for the worse by more than the tolerance, too: then the exit code is 4.
    """
    import dataclasses
    import json

    from echokit.observe.escape import printable

    try:
        changes, notes = _compared(before, after, tolerance)
    except Exception as error:
        if as_json:
            told = {"error": "; ".join(lines(error)), "exit_code": exit_code(error)}
            print(json.dumps(told, indent=2))
        raise
    regressed = any(change.verdict == "regression" for change in changes)
    code = _MISSED if regressed else 0
    if as_json:
        rows = [dataclasses.asdict(change) for change in changes]
        print(json.dumps({"changes": rows, "differences": notes, "exit_code": code}, indent=2))
    else:
        for note in notes:
            tell(printable(note))
        print("\n".join(_table(changes)))
    if code:
        raise Ended(code)


def _compared(before: Path, after: Path, tolerance: str) -> "tuple[list[Change], list[str]]":
    """What has changed, and what makes that hard to tell."""
    from echokit.loadgen.compare import compare as compare_results
    from echokit.loadgen.compare import differences
    from echokit.loadgen.merge import check_histograms
    from echokit.loadgen.result import load_result

    share = _percent(tolerance)
    first, second = (check_histograms(load_result(path), path) for path in (before, after))
    for path, result in ((before, first), (after, second)):
        _check_measured(path, result)
    return compare_results(first, second, share), differences(first, second)


def _check_measured(path: Path, result: "Result") -> None:
    from echokit.errors import ConfigError

    if not any(family.due for family in result.families.values()):
        why = {
            "interrupted": ": the run was interrupted",
            "failed": f": the run failed: {result.error}",
        }
        raise ConfigError(f"{path}: there is nothing in it to compare{why.get(result.status, '')}")


def _percent(text: str) -> float:
    from echokit.errors import ConfigError

    match = re.fullmatch(r"([0-9]{1,6}(\.[0-9]{1,6})?)%?", text, re.ASCII)
    if match is None:
        raise ConfigError(f"--tolerance: should be a percentage like 5%; found {text!r}")
    return float(match[1]) / 100


def _table(changes: "list[Change]") -> list[str]:
    from echokit.cli.load_table import columns
    from echokit.loadgen.measured import FAMILY_TITLES
    from echokit.loadgen.shown import duration, number

    def shown(change: "Change", value: float) -> str:
        if change.unit == "us":
            return duration(value)
        return f"{value:,.4g}%" if change.unit == "%" else number(value)

    rows = [["", "A", "B", "change", "spread", ""]]
    family = None
    for change in changes:
        if change.family != family:
            family = change.family
            rows.append([FAMILY_TITLES[family], *[""] * 5])
        moved = "from 0" if change.change is None else f"{change.change:+.1%}"
        spread = "?" if change.spread is None else f"{change.spread:.1%}"
        verdict = change.verdict.upper() if change.verdict == "regression" else change.verdict
        before, after = shown(change, change.before), shown(change, change.after)
        rows.append([f"  {change.figure}", before, after, moved, spread, verdict])
    return columns(rows)


def merge(
    out: Annotated[str, typer.Argument(metavar="OUT", help="Where to write; '-' is stdout.")],
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN.json...", help="What 'load --json' wrote.")
    ],
) -> None:
    """Merge results of 'echokit load' that several machines have measured into one, without loss.

    Rates, asked for and reached, of runs that ran at the same time are added; those of runs that
    did not are averaged over all of their time. In what the runs differ from the first is told on
    stderr.
    """
    from echokit.cli.load_outputs import Outputs
    from echokit.loadgen.merge import check_histograms
    from echokit.loadgen.merge import merge as merge_results
    from echokit.loadgen.result import load_result
    from echokit.loadgen.shown import counted
    from echokit.observe.escape import printable

    _check_out(out, runs)
    found = [check_histograms(load_result(path), path) for path in runs]
    _check_once(runs, found)
    merged = merge_results(found)
    with Outputs(out, None, "table", option="OUT") as outputs:
        outputs.write(merged)
    for line in _mixed(runs, found):
        tell(printable(line))
    if out != _STDOUT:
        many = counted(len(merged.merged_from), "run")
        tell(f"{many} merged into {out}")


def _mixed(runs: list[Path], found: "list[Result]") -> "Iterator[str]":
    """In what the runs differ from the first, so that they may not belong together."""
    from echokit.loadgen.compare import mismatches

    for path, result in zip(runs[1:], found[1:], strict=True):
        notes = mismatches(found[0], result)
        measured = [_measured(each) for each in (found[0], result)]
        if measured[0] != measured[1]:
            notes.append(f"A measured {measured[0]}, and B {measured[1]}")
        for note in notes:
            yield f"{runs[0]} (A) and {path} (B): {note}"


def _measured(result: "Result") -> str:
    """The target, as people write it."""
    from echokit.net.address import Endpoint

    target = result.target
    if target is None:
        return "targets that differ" if result.merged_from else "nothing that is known"
    # Its own server has another port every time.
    return "its own server" if target.own_server else str(Endpoint(target.host, target.port))


def _check_out(out: str, runs: list[Path]) -> None:
    """There are runs to merge, and none is overwritten, which OUT may be if it was forgotten."""
    from echokit.cli.load_outputs import check_kept
    from echokit.errors import ConfigError

    check_kept("OUT", out, runs)
    if len(runs) < _FEWEST:
        raise ConfigError(
            f"there should be two runs or more to merge; found {runs[0]} alone, to go to {out}:"
            f" {_USAGE}"
        )
    # What was merged can be merged again, and is, by scripts; what was measured would be lost.
    if out != _STDOUT and _is_measured(Path(out)):
        raise ConfigError(
            f"OUT: {out} is a run that was measured, and would be overwritten: {_USAGE}; if it is"
            " not needed, remove it first"
        )


def _is_measured(path: Path) -> bool:
    """Whether it is the result of a run, though it be of another version."""
    import json

    try:
        document = json.loads(path.read_bytes()) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return False
    if not isinstance(document, dict) or document.get("format") != "echokit-load":
        return False
    return not document.get("merged_from")


def _check_once(runs: list[Path], found: "list[Result]") -> None:
    """No run counts twice, by itself or in a merged result."""
    from echokit.errors import ConfigError
    from echokit.loadgen.merge import sources

    seen: dict[str, tuple[Path, Result]] = {}
    for path, result in zip(runs, found, strict=True):
        for source in sources(result):
            key = source.model_dump_json()
            if key in seen:
                raise ConfigError(f"{path}: {_twice(result, *seen[key], source)}")
            seen[key] = path, result


def _twice(result: "Result", first: Path, other: "Result", source: "Source") -> str:
    """How a run that `result` is made of comes to be in `other`, of the file `first`, too."""
    if not (result.merged_from or other.merged_from):
        return f"the same run as {first}: it would count twice"
    which = f"the run that began at {source.started_at}"
    if result is other:
        return f"{which} is in it twice: it would count twice"
    return f"{which} is in {first}, too: it would count twice"
