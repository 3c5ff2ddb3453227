"""How long commands take to start, beside the imports that they cannot do without."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.build import ROOT
from benchmarks.cases import CASES, Case
from benchmarks.measure import Results, Sample, rotated
from benchmarks.peers import OURS, RAW, named, start
from benchmarks.processes import Cores, pinned

__all__ = ["EVERY", "STARTUPS", "StartUp", "measure_startup"]


@dataclass(frozen=True)
class StartUp:
    """A command of echokit's beside bare imports.

    Attributes:
        name: To ask for it by.
        title: What it is.
        args: The command's.
        imports: What the other process imports.
    """

    name: str
    title: str
    args: tuple[str, ...]
    imports: str

    @property
    def ours(self) -> str:
        """What the table calls the command."""
        return f"echokit {self.args[0]}"

    @property
    def bare(self) -> str:
        """What the table calls the imports."""
        return f"python -c 'import {self.imports}'"


STARTUPS: tuple[StartUp, ...] = (
    StartUp("startup-version", "start-up of `echokit --version`", ("--version",), "typer"),
    StartUp("startup-send", "start-up of `echokit send`", ("send",), "typer, pydantic"),
)

# Whatever can be asked for, in the order of the tables.
EVERY: tuple[Case | StartUp, ...] = (*CASES, *STARTUPS)


def measure_startup(
    case: StartUp,
    rounds: int,
    host: str,
    cores: Cores,
    results: Results,
    tell: Callable[[str], object],
) -> None:
    """Start both in turn; the wall time of each, from its start to its end."""
    script = Path(sys.executable).parent / "echokit"
    ours = [str(script)] if script.exists() else [sys.executable, "-m", "echokit"]
    bare = [sys.executable, "-c", f"import {case.imports}"]
    with start(named(OURS), RAW, host, cores.load) as server:
        target = ["--host", host, "--port", str(server.port)] if case.args == ("send",) else []
        commands = [(case.ours, [*ours, *case.args, *target]), (case.bare, bare)]
        # The first start of each compiles what has not been compiled.
        for number in range(-1, rounds):
            for name, command in rotated(commands, number):
                tell(f"{case.name} round {number + 1}: {name}")
                took = _wall_ms(command, cores.server)
                if number >= 0:
                    results.samples.append(Sample(case.name, "", name, number, {"wall_ms": took}))


def _wall_ms(command: list[str], core: int | None) -> float:
    with pinned(core):
        began = time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        return (time.monotonic() - began) * 1e3
