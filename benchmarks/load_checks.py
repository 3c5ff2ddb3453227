"""`echokit load` beside other load generators, on the same server: does it tell the truth?"""

import contextlib
import importlib.util
import json
import os
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import sockperf
from benchmarks.build import UnavailableError
from benchmarks.cases import Bench, Figures
from benchmarks.comparison import Commands, Comparison
from benchmarks.generator import Load, LoadFailedError, choose_generator, finished
from benchmarks.peers import LIMIT, RAW, environment, named, start
from benchmarks.processes import Cores
from echokit.net.address import Endpoint

__all__ = ["LOAD_CHECKS", "ONE", "SOCKPERF", "TWO", "C", "Latency", "Throughput", "load"]

# What the tables call them.
ONE = "echokit load"
TWO = "echokit load --workers 2"
C = "load.c"
SOCKPERF = "sockperf ping-pong"
# How long `echokit load` takes beside warm-up and window, and sockperf's client beside its time.
_START_UP = 0.7
_SOCKPERF_BESIDE = 0.6
# Beside what it is asked for, in seconds.
_PATIENCE = 30.0


class Throughput(Comparison):
    """How many requests a second each can make of a server that could do more."""

    def note(self, cores: Cores) -> str:
        """What the cores allow to be seen."""
        if cores.load is None:
            return "All of them share one core with the server."
        if not cores.rest:
            return (
                f"The server runs on core {cores.server}, every generator on core {cores.load}:"
                " with two cores in all, two workers share the one that one worker has, and cannot"
                " do more."
            )
        return (
            f"The server runs on core {cores.server}, `{TWO}` on cores"
            f" {', '.join(map(str, cores.loads))}, the others on core {cores.load}."
        )

    def estimate(self, bench: Bench) -> float:
        """Three windows."""
        return 3 * (bench.warmup + bench.seconds) + 2 * _START_UP

    @contextlib.contextmanager
    def commands(self, bench: Bench, host: str) -> Iterator[Commands]:
        """The generator in C, and ours as one process and as two."""
        generator = choose_generator("c")
        # Not the generator that the servers are measured with: that may be another one.
        reference = Bench(generator, bench.cores, bench.warmup, bench.seconds)
        _need_histograms()
        with start(named(LIMIT), RAW, host, bench.cores.server) as server:
            at, target = Load(64, 50), Endpoint(server.host, server.port)
            yield {
                C: lambda: reference.run(at, server).figures(),
                ONE: lambda: load(bench, target, at, bench.cores.load),
                TWO: lambda: load(bench, target, at, bench.cores.loads, "--workers", "2"),
            }


@dataclass(frozen=True)
class Latency(Comparison):
    """How long each says that a message takes there and back, on sockperf's own server.

    Attributes:
        size: Of a message, with sockperf's header, in bytes.
    """

    size: int = 64

    def estimate(self, bench: Bench) -> float:
        """Two windows."""
        theirs = max(1, round(bench.seconds)) + _SOCKPERF_BESIDE
        return bench.warmup + bench.seconds + _START_UP + theirs

    def note(self, cores: Cores) -> str:  # noqa: ARG002 - they are those of every case
        """What is held against what."""
        return (
            "From before a message is sent until it has come back whole: sockperf with --full-rtt,"
            " as it tells half of that by default. Its client waits in recvfrom(), ours in epoll;"
            " ours tells whole microseconds."
        )

    @contextlib.contextmanager
    def commands(self, bench: Bench, host: str) -> Iterator[Commands]:
        """Theirs, and ours with sockperf's framing."""
        sockperf.can_use(host)
        _need_histograms()
        cores = bench.cores
        at = Load(self.size - sockperf.HEADER.size, 1, framing=sockperf.FRAMING)
        with (
            sockperf.installed() as plugin,
            start(sockperf.SERVER, sockperf.FRAMING, host, cores.server) as server,
        ):
            target = Endpoint(server.host, server.port)
            yield {
                SOCKPERF: lambda: sockperf.ping_pong(server, self.size, bench.seconds, cores.load),
                ONE: lambda: load(bench, target, at, cores.load, plugin=plugin),
            }


def load(
    bench: Bench,
    target: Endpoint,
    at: Load,
    cores: int | Collection[int] | None,
    *more: str,
    plugin: Path | None = None,
) -> Figures:
    """Run `echokit load` on `target`.

    Args:
        bench: How long.
        target: What to measure.
        at: What to send.
        cores: Those that it may use; None for any.
        more: Further options.
        plugin: A folder with distributions that it is to find, too.

    Raises:
        LoadFailedError: It failed, or not everything came back as it was sent.
    """
    command = [sys.executable, "-m", "echokit", "load", str(target)]
    command += ["--framing", at.framing, "--size", str(at.size), "-c", str(at.connections)]
    command += ["-d", f"{bench.seconds}s", "--warmup", f"{bench.warmup}s", "--no-calibrate", *more]
    mine = environment()
    if plugin is not None:
        paths = [str(plugin), mine.get("PYTHONPATH", "")]
        mine["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    command += ["--output", "quiet", "--json", "-"]
    done = finished(command, cores, bench.warmup + bench.seconds + _PATIENCE, mine)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise LoadFailedError(lines[-1] if lines else f"{ONE}: exit code {done.returncode}")
    document = json.loads(done.stdout)
    [family] = document["families"].values()
    return {
        "requests_per_s": family["requests_per_s"],
        "p50_us": family["service"]["p50_us"],
        "p99_us": family["service"]["p99_us"],
        "load_busy": document["self_audit"]["cpu_share"],
    }


def _need_histograms() -> None:
    if importlib.util.find_spec("hdrh") is None:
        raise UnavailableError("hdrhistogram is not installed (the extra `load` has it)")


LOAD_CHECKS: tuple[Comparison, ...] = (
    Throughput(
        "load-64B-50",
        "`echokit load` beside the generator in C: the C server, closed loop, 64 B, 50 connections",
    ),
    Latency(
        "load-sockperf",
        "`echokit load -c 1` beside sockperf's client: sockperf's server, 64 B with its header",
    ),
)
