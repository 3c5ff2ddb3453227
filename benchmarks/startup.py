"""How long commands take to start, beside the imports that they cannot do without."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.build import ROOT
from benchmarks.cases import Bench, Figures
from benchmarks.comparison import Commands, Comparison
from benchmarks.peers import OURS, RAW, named, start
from benchmarks.processes import pinned

__all__ = ["STARTUPS", "StartUp"]


@dataclass(frozen=True)
class StartUp(Comparison):
    """A command of echokit's beside bare imports: the wall time of each, from start to end.

    Attributes:
        args: The command's.
        imports: What the other process imports.
    """

    args: tuple[str, ...]
    imports: str

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
        """Two starts."""
        return 0.5

    @contextlib.contextmanager
    def commands(self, bench: Bench, host: str) -> Iterator[Commands]:
        """Both of them."""
        script = Path(sys.executable).parent / "echokit"
        ours = [str(script)] if script.exists() else [sys.executable, "-m", "echokit"]
        bare = [sys.executable, "-c", f"import {self.imports}"]
        core = bench.cores.server
        with start(named(OURS), RAW, host, bench.cores.load) as server:
            target = ["--host", host, "--port", str(server.port)] if self.args == ("send",) else []
            yield {
                self.ours: lambda: _started([*ours, *self.args, *target], core),
                self.bare: lambda: _started(bare, core),
            }


def _started(command: list[str], core: int | None) -> Figures:
    with pinned(core):
        began = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        return {"wall_ms": (time.monotonic() - began) * 1e3}


STARTUPS: tuple[StartUp, ...] = (
    StartUp("startup-version", "start-up of `echokit --version`", ("--version",), "typer"),
    StartUp("startup-send", "start-up of `echokit send`", ("send",), "typer, pydantic"),
)
