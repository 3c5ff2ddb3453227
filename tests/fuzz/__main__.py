"""Fuzz one target for a while, on one core: `python -m tests.fuzz TARGET --seconds 60`.

It begins with the target's corpus in `tests/fuzz/corpus/`, and with what earlier runs have left in
`build/fuzz/TARGET/`, to which it adds each input that reaches something new. An input that breaks
what must hold ends the run with an exit code other than 0, and is saved as
`build/fuzz/TARGET-crash-*` (`-timeout-*`, `-oom-*`); once what was wrong has been mended it belongs
in the corpus, where the plain tests run it from then on.

This needs atheris (`pip install -e '.[fuzz]'`), which there is for CPython on Linux.
"""

import argparse
import importlib
import sys
from pathlib import Path

__all__ = ["main"]

_CORPUS = Path(__file__).parent / "corpus"
# What is fuzzed and what reads its input before it: the parts whose coverage guides the fuzzer.
_GUIDES = ["echokit", "ruamel.yaml", "tomllib"]
# A single input takes milliseconds.
_HANGS_SECONDS = 20
_MEMORY_MIB = 1024


def main(argv: list[str] | None = None) -> int:
    """Run it; does not return once the fuzzer runs, which ends the process itself."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    names = sorted(folder.name for folder in _CORPUS.iterdir())
    parser.add_argument("target", choices=names)
    parser.add_argument("--seconds", type=int, default=60, help="how long (default: 60)")
    parser.add_argument(
        "--into", type=Path, default=Path("build/fuzz"), help="where what is found is saved"
    )
    asked = parser.parse_args(argv)
    try:
        import atheris  # noqa: PLC0415 - an extra of its own, which not every Python has
    except ImportError as error:
        print(f"tests.fuzz: {error}: pip install -e '.[fuzz]' (CPython on Linux)", file=sys.stderr)  # noqa: T201 - a command
        return 2
    with atheris.instrument_imports(include=_GUIDES):
        for name in _GUIDES:
            importlib.import_module(name)
        from tests.fuzz.targets import TARGETS, corpus  # noqa: PLC0415 - to be instrumented

    target = TARGETS[asked.target]
    found = asked.into / asked.target
    found.mkdir(parents=True, exist_ok=True)
    tokens = asked.into / f"{asked.target}.dict"
    # An empty dictionary is an error.
    tokens.write_text("".join(f'"{_escaped(token)}"\n' for token in target.tokens or (b"\0",)))
    options = [
        f"-max_total_time={asked.seconds}",
        f"-max_len={target.longest}",
        f"-artifact_prefix={asked.into}/{asked.target}-",
        f"-dict={tokens}",
        f"-timeout={_HANGS_SECONDS}",
        f"-rss_limit_mb={_MEMORY_MIB}",
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], str(found), str(corpus(asked.target)), *options], target.check)
    atheris.Fuzz()
    return 0


def _escaped(token: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in token)


if __name__ == "__main__":
    sys.exit(main())
