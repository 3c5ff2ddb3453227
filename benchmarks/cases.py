"""What is measured, and what one sample of each case comes to."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import ClassVar

from benchmarks.generator import Generator, Load, Outcome
from benchmarks.peers import LENGTH_PREFIXED, Peer, Server
from benchmarks.processes import Cores, cpu_us, memory_bytes

__all__ = ["CASES", "Bench", "Case", "Churned", "Compared", "Idle", "Traffic", "traffic"]

Figures = dict[str, float]

_IDLE_STEPS = (1, 1000, 10_000)
_HELD = 10_000
# How long one sample of a fixed number of connections may take, in seconds.
_LONGEST = 60.0


@dataclass(frozen=True)
class Bench:
    """What a sample is taken with.

    Attributes:
        generator: The load generator.
        cores: Who runs where.
        warmup: Before each measured window, in seconds.
        seconds: The measured window.
    """

    generator: Generator
    cores: Cores
    warmup: float
    seconds: float

    def run(
        self, load: Load, server: Server, at: Callable[[str], object] = lambda _moment: None
    ) -> Outcome:
        """Run `load` on `server`, with a warm-up."""
        warmup = 0.0 if load.count else self.warmup
        seconds = _LONGEST if load.count else self.seconds
        return self.generator.run(
            load,
            server.host,
            server.port,
            warmup=warmup,
            seconds=seconds,
            core=self.cores.load,
            at=at,
        )


@dataclass(frozen=True)
class Case(ABC):
    """Something that is measured of each server, once a round.

    Attributes:
        name: To ask for it by.
        title: What it is.
        load: What is sent.
    """

    name: str
    title: str
    load: Load

    # How many rounds it takes at most; and whether each sample has a server of its own, in which
    # nothing has happened before.
    most_rounds: ClassVar[int] = 1000
    fresh: ClassVar[bool] = False

    @property
    def peers(self) -> tuple[Peer, ...]:
        """The servers that it is measured of, if it has its own."""
        return ()

    @property
    def open(self) -> int:
        """How many connections are open at a time."""
        return self.load.connections + self.load.idle

    def framing(self, peer: Peer) -> str:  # noqa: ARG002 - other cases look at it
        """The one that `peer` is to speak."""
        return self.load.framing

    def server_cores(self, cores: Cores) -> int | Collection[int] | None:
        """Those that a server may use."""
        return cores.server

    def note(self, cores: Cores) -> str:  # noqa: ARG002 - other cases look at it
        """What whoever reads the table should know."""
        return ""

    def estimate(self, bench: Bench) -> float:
        """How long a sample takes, about, in seconds."""
        # What comes on top: starting the generator, opening the connections, the last echoes.
        opening = self.open * 60e-6
        in_flight = self.load.connections * self.load.in_flight * self.load.size / 1e9
        return bench.warmup + bench.seconds + 0.05 + opening + 2 * in_flight

    @abstractmethod
    def sample(self, bench: Bench, server: Server) -> Figures:
        """Measure once."""


class Traffic(Case):
    """Messages go and come back, as fast as they will."""

    def sample(self, bench: Bench, server: Server) -> Figures:
        """Requests a second, CPU time for each, latencies."""
        return traffic(bench, server, self.load)


def traffic(bench: Bench, server: Server, load: Load) -> Figures:
    """What one run of `load` comes to."""
    cpu = dict.fromkeys(("connected", "begin", "end"), 0.0)

    def at(moment: str) -> None:
        cpu[moment] = cpu_us(server.pid)

    outcome = bench.run(load, server, at)
    return outcome.figures() | {
        "bytes_per_s": outcome.payload_bytes / outcome.seconds,
        "cpu_us": (cpu["end"] - cpu["begin"]) / max(1, outcome.messages),
        "load_cpu_us": outcome.cpu_us / max(1, outcome.messages),
    }


@dataclass(frozen=True)
class Compared(Case):
    """The same, and another load before it: what the one is to the other.

    Attributes:
        base: The other one.
        base_name: As the table has it.
    """

    base: Load
    base_name: str

    def estimate(self, bench: Bench) -> float:
        """Twice."""
        return 2 * super().estimate(bench)

    def sample(self, bench: Bench, server: Server) -> Figures:
        """As traffic; and how p99 and CPU time are to those of the other load."""
        base = traffic(bench, server, self.base)
        found = traffic(bench, server, self.load)
        return found | {
            "p99_base_us": base["p99_us"],
            "p99_ratio": found["p99_us"] / base["p99_us"],
            "cpu_ratio": found["cpu_us"] / base["cpu_us"],
        }


class Idle(Case):
    """Connections stand idle, each after one echo."""

    # Memory does not vary as time does; but what has been freed is not always given back.
    most_rounds: ClassVar[int] = 3
    fresh: ClassVar[bool] = True

    def estimate(self, bench: Bench) -> float:  # noqa: ARG002 - no window
        """Opening, three times."""
        return 3.0

    def sample(self, bench: Bench, server: Server) -> Figures:
        """Memory for each connection, in bytes."""
        held: dict[int, int] = {}
        for count in _IDLE_STEPS:
            load = replace(self.load, connections=0, idle=count)

            def at(moment: str, count: int = count) -> None:
                if moment == "connected":
                    held[count] = memory_bytes(server.pid)

            bench.run(load, server, at)
        base = held[_IDLE_STEPS[0]]
        return {
            f"bytes_{count}": (held[count] - base) / (count - 1)
            for count in _IDLE_STEPS
            if count > 1
        } | {"base_bytes": base}


class Churned(Case):
    """Connections are made and ended, very many."""

    # It takes long.
    most_rounds: ClassVar[int] = 1
    fresh: ClassVar[bool] = True

    @property
    def open(self) -> int:
        """Where each connection is a process, there is nothing to grow: so, more than they take."""
        return 1000

    def estimate(self, bench: Bench) -> float:  # noqa: ARG002 - no window
        """As most servers manage."""
        return self.load.count / 10_000

    def sample(self, bench: Bench, server: Server) -> Figures:
        """How much memory has grown, in bytes, since the first ones."""
        bench.run(replace(self.load, count=self.load.count // 50), server)
        before = memory_bytes(server.pid)
        outcome = bench.run(self.load, server)
        after = memory_bytes(server.pid)
        return {
            "connects": outcome.connects,
            "before_bytes": before,
            "after_bytes": after,
            "growth_bytes": after - before,
            "growth_each": (after - before) / outcome.connects,
        }


_SIZES = {"64B": 64, "1KiB": 1 << 10, "64KiB": 64 << 10, "1MiB": 1 << 20}


def _raw(size: str, connections: int) -> Case:
    name = f"{size}-{connections}"
    title = f"{size} messages, raw, {connections} connection{'s' * (connections > 1)}"
    # Very many large messages at once would fill the kernel's memory for TCP.
    large = _SIZES[size] * connections >= 1 << 30
    load = Load(_SIZES[size], connections, buffer=65536 if large else 0)
    if name == "64B-1000":
        # What many connections cost shows most where messages are small.
        return Compared(name, title, load, replace(load, connections=50), "50 connections")
    return Traffic(name, title, load)


def _framed(name: str, size: int, in_flight: int) -> Case:
    title = f"{name} messages, length-prefixed, 50 connections, {in_flight} in flight on each"
    return Traffic(
        f"framed-{name}-{in_flight}", title, Load(size, 50, in_flight, framing=LENGTH_PREFIXED)
    )


CASES: tuple[Case, ...] = (
    *(_raw(size, connections) for size in _SIZES for connections in (1, 50, 1000)),
    _framed("64B", 64, 1),
    _framed("64B", 64, 64),
    _framed("64KiB", 64 << 10, 1),
    Traffic("churn", "connect, one echo of 64 B, close; 50 at a time", Load(64, 50, churn=True)),
    Compared(
        "held",
        f"64 B messages, raw, 1000 connections beside {_HELD} idle ones",
        Load(64, 1000, idle=_HELD),
        Load(64, 1000),
        "without the idle",
    ),
    Idle("idle", "memory for each idle connection", Load(64, 0, idle=_HELD)),
    Churned(
        "growth",
        "memory after 100,000 connections made and ended",
        Load(64, 50, churn=True, count=100_000),
    ),
)
