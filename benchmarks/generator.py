"""Running the load generator: the one in C, or the one on echokit's own engine."""

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass

from benchmarks.build import ROOT, UnavailableError, compiled
from benchmarks.processes import pinned, uninterrupted

__all__ = ["Generator", "Load", "LoadFailedError", "Outcome", "choose_generator", "finished"]


class LoadFailedError(Exception):
    """What the generator met: a wrong byte, a closed connection, silence."""


@dataclass(frozen=True)
class Load:
    """What is sent; see the top of load.c.

    Attributes:
        size: Of a message, in bytes.
        connections: Those that send.
        in_flight: Messages in flight on each of them.
        framing: `raw` or `length-prefixed`.
        churn: Whether each connection echoes one message and is opened anew.
        idle: Further connections that stand idle.
        buffer: Of the generator's sockets, in bytes; 0 leaves it to the system.
        count: How many messages to end after; 0 for by time alone.
    """

    size: int = 64
    connections: int = 1
    in_flight: int = 1
    framing: str = "raw"
    churn: bool = False
    idle: int = 0
    buffer: int = 0
    count: int = 0

    def options(self, warmup: float, seconds: float) -> list[str]:
        """As the generator takes them."""
        numbers = {
            "-s": self.size,
            "-c": self.connections,
            "-m": self.in_flight,
            "-i": self.idle,
            "-b": self.buffer,
            "-n": self.count,
            "-w": warmup,
            "-t": seconds,
        }
        options = [word for name, number in numbers.items() for word in (name, str(number))]
        return ["-g", "-f", self.framing, *(["-k"] if self.churn else []), *options]


@dataclass(frozen=True)
class Outcome:
    """What a run came to, in its measured window. Latencies are in us."""

    messages: int
    payload_bytes: int
    connects: int
    seconds: float
    cpu_us: float
    mean_us: float
    p50_us: float
    p90_us: float
    p99_us: float
    p99_9_us: float
    max_us: float

    def figures(self) -> dict[str, float]:
        """What every table has of it."""
        return {
            "requests_per_s": self.messages / self.seconds,
            "p50_us": self.p50_us,
            "p99_us": self.p99_us,
            # How busy the generator was: near 1, the server could have done more.
            "load_busy": self.cpu_us / 1e6 / self.seconds,
        }


@dataclass(frozen=True)
class Generator:
    """A load generator that can be started.

    Attributes:
        command: Its argv, without options.
        about: What it is; where it is not the one in C, why.
    """

    command: list[str]
    about: str

    def run(
        self,
        load: Load,
        host: str,
        port: int,
        *,
        warmup: float,
        seconds: float,
        core: int | None = None,
        at: Callable[[str], object] = lambda _moment: None,
    ) -> Outcome:
        """Run `load` on `core` to its end.

        Args:
            load: What to send.
            host: The server's address, a literal.
            port: Its port.
            warmup: Seconds before the measured window.
            seconds: The measured window.
            core: Which one it may use; None for any.
            at: Is called with `connected`, `begin` and `end`, and nothing is in flight meanwhile.

        Raises:
            LoadFailedError: Something was wrong with what came back.
        """
        options = [*load.options(warmup, seconds), host, str(port)]
        with contextlib.ExitStack() as stack:
            # An interrupt in between would leave a load that nobody ends.
            with uninterrupted(), pinned(core):
                process = subprocess.Popen(
                    [*self.command, *options],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                    cwd=ROOT,
                )
                stack.enter_context(process)
                # After its last line there is nothing to wait for; and after an error here, less.
                stack.callback(process.kill)
            return _follow(process, at)


def _follow(process: subprocess.Popen[str], at: Callable[[str], object]) -> Outcome:
    if process.stdin is None or process.stdout is None:  # pragma: no cover - both are pipes
        raise AssertionError
    for line in process.stdout:
        if line.startswith("{"):
            told = json.loads(line)
            if "error" in told:
                raise LoadFailedError(told["error"])
            return Outcome(**told)
        at(line.strip())
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write("\n")
            process.stdin.flush()
    code = process.wait()
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    raise LoadFailedError(f"the load generator ended without a result ({how})")


def finished(
    command: list[str],
    cores: int | Collection[int] | None,
    seconds: float,
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run another program on `cores` to its end, which takes less than `seconds`.

    Raises:
        LoadFailedError: It takes longer, and has been ended.
    """
    with pinned(cores):
        try:
            return subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds,
                env=environment,
                cwd=ROOT,
            )
        except subprocess.TimeoutExpired as error:
            raise LoadFailedError(f"it did not end within {seconds:g} s") from error


def choose_generator(which: str = "auto") -> Generator:
    """The generator called `c` or `python`; `auto` is the first of them that can be had.

    Raises:
        UnavailableError: `c` was asked for, and it cannot be compiled.
    """
    why = "as asked for"
    if which != "python":
        try:
            return Generator([str(compiled("load"))], "in C (benchmarks/load.c)")
        except UnavailableError as error:
            if which == "c":
                raise
            why = str(error)
    about = f"in Python, on echokit's own engine ({why}): it is slower than the one in C"
    return Generator([sys.executable, "-m", "benchmarks.load"], about)
