"""The command line of `python -m benchmarks`."""

import argparse
import fnmatch
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.build import BUILD
from benchmarks.catalogue import EVERY
from benchmarks.peers import LIMIT, OURS, PEERS

__all__ = ["asked", "parse"]

# What --quick measures, where no case is asked for.
QUICK = (
    "64B-50", "64KiB-50", "framed-64B-64", "churn", "idle", "workers-64B-50", "load-*", "startup-*",
)  # fmt: skip


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for; ends with a word on stderr and exit code 2 where that is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures `echokit serve` beside other TCP echo servers, and prints tables.",
        epilog="Exit codes: 0 well; 1 a server failed, nothing was measured, or what was could not"
        " be written; 2 usage, or a file that cannot be written; 130 interrupted.",
    )
    add = parser.add_argument
    add("--case", action="append", metavar="NAME", help="a case, or a pattern (64B-*); repeatable")
    add(
        "--peer",
        action="append",
        metavar="NAME",
        help=f"a server, beside {LIMIT} and {OURS}; repeatable",
    )
    add("--family", choices=["4", "6"], help="only this one; default: all that the host has")
    add("--rounds", type=_positive(int), help="default: 10; with --quick 3")
    add("--seconds", type=_positive(float), help="each measured window; default: 0.3, 0.2")
    add("--warmup", type=_positive(float), help="before it; default: 0.1, 0.05")
    add("--quick", action="store_true", help="a few cases, fewer and shorter rounds")
    add("--load", choices=["auto", "c", "python"], default="auto", help="the load generator")
    add("--json", type=Path, metavar="FILE", help="default: build/benchmarks.json")
    add("--write", action="store_true", help="write benchmarks/RESULTS.md, too")
    add("--list", action="store_true", help="list the cases and the servers, and end")
    options = parser.parse_args(argv)
    _know(parser, options.case, [case.name for case in EVERY], "case")
    _know(parser, options.peer, [peer.name for peer in PEERS], "peer")
    options.rounds = options.rounds or (3 if options.quick else 10)
    options.seconds = options.seconds or (0.2 if options.quick else 0.3)
    options.warmup = options.warmup or (0.05 if options.quick else 0.1)
    options.json = options.json or BUILD / "benchmarks.json"
    if options.case is None and options.quick:
        options.case = QUICK
    return options


def _positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    def convert(word: str) -> float:
        number = kind(word)
        # The longest that makes sense is far less; infinity and NaN are no time at all.
        if not 0 < number < 1e6:  # noqa: PLR2004 - see above
            raise argparse.ArgumentTypeError(
                f"{word} should be more than 0 and less than a million"
            )
        return number

    # argparse names the kind by it.
    convert.__name__ = kind.__name__
    return convert


def _know(
    parser: argparse.ArgumentParser, asked: Sequence[str] | None, known: list[str], what: str
) -> None:
    """End with a word of it if a name that was asked for is not there."""
    for name in asked or ():
        if not fnmatch.filter(known, name):
            parser.error(f"no {what} is called {name!r}: there are {', '.join(known)}")


def asked(name: str, patterns: Sequence[str] | None) -> bool:
    """Whether one of `patterns` means `name`; None means everything."""
    return patterns is None or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
