"""The command: `python -m benchmarks --help`."""

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from benchmarks.build import HERE, UnavailableError
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
    print("Cases:")
    for case in EVERY:
        takes = f"{estimates[case.name] / 60:4.1f} min" if case.name in estimates else ""
        print(f"  {case.name:22} {takes:>8}  {case.title}")
    print(f"  {'all that is asked for':22} {sum(estimates.values()) / 60:4.1f} min, about")
    print("Servers:")
    for peer in PEERS:
        why = ""
        try:
            peer.command(peer.framings[0], "127.0.0.1")
        except UnavailableError as error:
            why = f" (skipped: {error})"
        print(f"  {peer.name:20} {peer.about}{why}")


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
    try:
        run = Run(options)
    except UnavailableError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    about = run.about()
    total = sum(run.estimates().values())
    print(f"This takes about {total / 60:.1f} minutes.", file=sys.stderr)
    progress = _Progress(total)
    interrupted = False
    try:
        run.measure(progress)
    except KeyboardInterrupt:
        interrupted = True
    progress.end()
    print(as_text(run.results, about))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(as_json(run.results, about))
    print(f"\nThis and every sample as JSON: {options.json}")
    if interrupted:
        return 130
    if options.write:
        words = ["python", "-m", "benchmarks", *(sys.argv[1:] if argv is None else argv)]
        text = as_markdown(run.results, about, shlex.join(words))
        (HERE / "RESULTS.md").write_text(text)
    return 1 if run.results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
