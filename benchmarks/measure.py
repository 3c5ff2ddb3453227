"""Rounds: each server once in every one of them, so that what disturbs one disturbs all."""

import contextlib
import resource
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from benchmarks.build import UnavailableError
from benchmarks.cases import Bench, Case
from benchmarks.generator import LoadFailedError
from benchmarks.peers import Peer, Server, ServerFailedError, start

__all__ = [
    "Results",
    "Sample",
    "Tell",
    "measure",
    "noted",
    "out",
    "raise_descriptor_limit",
    "rotated",
    "unfit",
]


@dataclass(frozen=True)
class Sample:
    """One server's figures in one round; or how it failed."""

    case: str
    family: str
    peer: str
    round: int
    figures: dict[str, float] = field(default_factory=dict)
    failure: str | None = None


@dataclass
class Results:
    """What a run has gathered.

    Attributes:
        samples: In the order in which they were taken.
        missing: Servers that cannot be had here, and why.
        skipped: For each reason, the servers and cases that were not measured because of it.
        notes: For each case, what whoever reads its table should know.
        busy: What else the machine did at the start, if that was much.
        interrupted: Whether it ended before all of it was measured.
    """

    samples: list[Sample] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, list[str]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    busy: str = ""
    interrupted: bool = False

    def skip(self, what: str, why: str) -> None:
        """Note what is not measured."""
        self.skipped.setdefault(why, []).append(what)

    @property
    def reached(self) -> str:
        """How far it had come when it was interrupted."""
        if not self.samples:
            return "interrupted before the first sample"
        last = self.samples[-1]
        where = " ".join(filter(None, (last.case, last.family)))
        taken = f"{len(self.samples)} sample{'s' * (len(self.samples) > 1)}"
        return f"interrupted after {taken}, the last in round {last.round + 1} of {where}"

    @property
    def failed(self) -> bool:
        """Whether a server failed."""
        return any(sample.failure is not None for sample in self.samples)


Tell = Callable[[str], object]


T = TypeVar("T")


def rotated(items: Sequence[T], by: int) -> list[T]:
    """`items`, beginning with another one: no server is always the first of its round."""
    first = by % max(1, len(items))
    return [*items[first:], *items[:first]]


def raise_descriptor_limit() -> int:
    """Let this process, and those that it starts, have as many as the system allows; how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def unfit(case: Case) -> str | None:
    """Why `case` cannot be measured on this machine; None if it can."""
    load = case.load
    # In the kernel's buffers on both ways, and in a server that takes all that it can get.
    needed = 3 * load.size * load.connections * load.in_flight
    available = _available_bytes()
    if needed > available:
        return f"may need {needed >> 20} MiB of memory; {available >> 20} MiB are available"
    return None


def _available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


def measure(
    case: Case,
    family: str,
    host: str,
    peers: Sequence[Peer],
    rounds: int,
    bench: Bench,
    results: Results,
    tell: Tell,
) -> None:
    """Measure `case` for each of `peers`, on `host`; what comes of it goes to `results`.

    A server that fails is measured no further in this case, and the others are.
    """
    cores = case.server_cores(bench.cores)
    with contextlib.ExitStack() as stack:
        running: dict[str, Server] = {}
        if not case.fresh:
            for peer in peers:
                with noted(case.name, family, peer.name, 0, results):
                    server = start(peer, case.framing(peer), host, cores)
                    running[peer.name] = stack.enter_context(server)
        for number in range(min(rounds, case.most_rounds)):
            for peer in rotated(peers, number):
                if out(case.name, family, peer.name, results):
                    continue
                tell(f"{case.name} {family} round {number + 1}: {peer.name}")
                with noted(case.name, family, peer.name, number, results):
                    if case.fresh:
                        with start(peer, case.framing(peer), host, cores) as own:
                            figures = _sample(case, bench, own)
                    else:
                        figures = _sample(case, bench, running[peer.name])
                    results.samples.append(Sample(case.name, family, peer.name, number, figures))


def _sample(case: Case, bench: Bench, server: Server) -> dict[str, float]:
    try:
        return case.sample(bench, server)
    except LoadFailedError as error:
        # Where the server has died, that is what the generator met.
        words = [str(error), server.end()]
        raise LoadFailedError("; ".join(filter(None, words))) from error


def out(case: str, family: str, name: str, results: Results) -> bool:
    """Whether the server or command called `name` is not there, or has failed in this case."""
    return name in results.missing or any(
        sample.failure is not None
        and (sample.case, sample.family, sample.peer) == (case, family, name)
        for sample in results.samples
    )


@contextlib.contextmanager
def noted(case: str, family: str, name: str, number: int, results: Results) -> Iterator[None]:
    """What goes wrong in this block with the server or command `name` goes to `results`."""
    try:
        yield
    except UnavailableError as error:
        results.missing[name] = str(error)
    except (ServerFailedError, LoadFailedError) as error:
        results.samples.append(Sample(case, family, name, number, failure=str(error)))
