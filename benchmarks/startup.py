"""How long commands take to start, beside the imports that they cannot do without."""

import compileall
import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.build import ROOT
from benchmarks.cases import Bench, Figures
from benchmarks.comparison import Commands, Comparison
from benchmarks.generator import LoadFailedError, finished
from benchmarks.peers import OURS, RAW, named, start

__all__ = ["STARTUPS", "StartUp"]

# How long a start may take, in seconds.
_PATIENCE = 60.0


@dataclass(frozen=True)
class StartUp(Comparison):
    """A command of echokit's beside bare imports: the wall time of each, from start to end.

    Attributes:
        args: The command's.
        imports: What the other process imports.
        least: A program of ours that does the same with as little as there can be, if there is one.
    """

    args: tuple[str, ...]
    imports: str
    least: str = ""

    over_network = False

    @property
    def ours(self) -> str:
        """What the table calls the command."""
        return f"echokit {self.args[0]}"

    @property
    def bare(self) -> str:
        """What the table calls the imports."""
        return f"python -c 'import {self.imports}'"

    def estimate(self, bench: Bench) -> float:  # noqa: ARG002 - no window
        """A few starts."""
        return 0.75 if self.least else 0.5

    @contextlib.contextmanager
    def commands(self, bench: Bench, host: str) -> Iterator[Commands]:
        """All of them."""
        script = Path(sys.executable).parent / "echokit"
        ours = [str(script)] if script.exists() else [sys.executable, "-m", "echokit"]
        bare = [sys.executable, "-c", f"import {self.imports}"]
        core = bench.cores.server
        # As where it is installed: an environment may forbid Python to keep what it compiles.
        compileall.compile_dir(ROOT / "echokit", quiet=2)
        with start(named(OURS), RAW, host, bench.cores.load) as server:
            # A message, as without one it would be what comes on stdin.
            sends = self.args[0] == "send"
            target = ["hello", "--host", host, "--port", str(server.port)] if sends else []
            commands = {
                self.ours: lambda: _started([*ours, *self.args, *target], core),
                self.bare: lambda: _started(bare, core),
            }
            if self.least:
                least = [sys.executable, str(ROOT / "benchmarks" / self.least), *target]
                commands[self.least] = lambda: _started(least, core)
            yield commands


def _started(command: list[str], core: int | None) -> Figures:
    began = time.monotonic()
    done = finished(command, core, _PATIENCE)
    took = time.monotonic() - began
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise LoadFailedError(lines[-1] if lines else f"exit code {done.returncode}")
    return {"wall_ms": took * 1e3}


STARTUPS: tuple[StartUp, ...] = (
    StartUp("startup-version", "start-up of `echokit --version`", ("--version",), "typer"),
    StartUp(
        "startup-send", "start-up of `echokit send`", ("send",), "typer, pydantic", "typer_send.py"
    ),
)
