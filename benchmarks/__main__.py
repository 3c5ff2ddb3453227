"""The command: `python -m benchmarks --help`."""

import argparse
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from benchmarks.build import BUILD, HERE, UnavailableError
from benchmarks.catalogue import EVERY
from benchmarks.options import parse
from benchmarks.peers import PEERS
from benchmarks.report import as_json, as_markdown, as_text
from benchmarks.run import Run


def _list(options: argparse.Namespace) -> None:
    try:
        estimates = Run(options).estimates()
    except UnavailableError:
        estimates = {}
    lines = ["Cases:"]
    for case in EVERY:
        takes = f"{estimates[case.name] / 60:4.1f} min" if case.name in estimates else ""
        lines.append(f"  {case.name:22} {takes:>8}  {case.title}")
    lines.append(f"  {'all that is asked for':22} {sum(estimates.values()) / 60:4.1f} min, about")
    lines.append("Servers:")
    for peer in PEERS:
        why = ""
        try:
            peer.command(peer.framings[0], "127.0.0.1")
        except UnavailableError as error:
            why = f" (skipped: {error})"
        lines.append(f"  {peer.name:20} {peer.about}{why}")
    _show("\n".join(lines))


class _Progress:
    """Where a run is, on stderr: one line that changes on a terminal, a line a case elsewhere."""

    def __init__(self, total: float) -> None:
        self._live = sys.stderr.isatty()
        self._began = time.monotonic()
        self._total = total
        self._last = ""

    def __call__(self, where: str) -> None:
        took = time.monotonic() - self._began
        if self._live:
            line = f"{took / 60:.1f} of about {self._total / 60:.1f} min: {where}"
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        elif where.partition(" round ")[0] != self._last:
            self._last = where.partition(" round ")[0]
            print(f"{took / 60:5.1f} min: {self._last}", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the line."""
        if self._live:
            print(file=sys.stderr)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    options = parse(argv)
    if options.list:
        _list(options)
        return 0
    signal.signal(signal.SIGTERM, _interrupt)
    words = ["python", "-m", "benchmarks", *(sys.argv[1:] if argv is None else argv)]
    try:
        return _run(options, shlex.join(words))
    except UnavailableError as error:
        _say(str(error))
        return 2
    except KeyboardInterrupt:
        # Before the first sample, or once more while the tables are made.
        _say("interrupted")
        return 130


def _run(options: argparse.Namespace, words: str) -> int:
    tables = HERE / "RESULTS.md"
    _check(options.json)
    if options.write:
        _check(tables)
    run = Run(options)
    about, results = run.about(), run.results
    total = sum(run.estimates().values())
    print(f"This takes about {total / 60:.1f} minutes.", file=sys.stderr)
    progress = _Progress(total)
    try:
        run.measure(progress)
    except KeyboardInterrupt:
        results.interrupted = True
    progress.end()
    if results.interrupted:
        _say(results.reached)
    # The files first: nobody may be reading stdout any more.
    wrote = written = _write(options.json, as_json(results, about))
    if options.write and results.samples and not results.interrupted:
        wrote = _write(tables, as_markdown(results, about, words)) and wrote
    where = f"\n\nThis and every sample as JSON: {options.json}" if written else ""
    _show(as_text(results, about) + where)
    if results.interrupted:
        return 130
    if not results.samples:
        _say("nothing was measured: all that was asked for was skipped")
    return 0 if wrote and results.samples and not results.failed else 1


def _show(text: str) -> None:
    """Print it for whoever reads stdout, if somebody still does (`| head`)."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # The interpreter would try once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(text: str) -> None:
    print(f"benchmarks: {text}", file=sys.stderr)


def _check(path: Path) -> None:
    """Leave `path` as it is.

    Raises:
        UnavailableError: It cannot be written.
    """
    try:
        if path.parent == BUILD:
            BUILD.mkdir(exist_ok=True)
        # Whoever reads from a pipe would take this for its end.
        if not path.is_fifo():
            there = os.path.lexists(path)
            path.open("a").close()
            if not there:
                path.unlink()
    except OSError as error:
        raise UnavailableError(f"{path} cannot be written: {error.strerror}") from error


def _write(path: Path, text: str) -> bool:
    """Write `text`; whether that went well."""
    try:
        path.write_text(text)
    except OSError as error:
        _say(f"{path} was not written: {error.strerror}")
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
