"""`echokit serve` started in several ways, each beside the first of them."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from benchmarks.cases import Bench, Case, Figures, traffic
from benchmarks.generator import Load
from benchmarks.peers import LENGTH_PREFIXED, RAW, Peer, Server, echokit
from benchmarks.processes import Cores

__all__ = ["VARIANTS", "Variants", "Workers"]


@dataclass(frozen=True)
class Variants(Case):
    """The same traffic, each time with another server of ours.

    Attributes:
        servers: They; what is compared is compared with the first.
    """

    servers: tuple[Peer, ...]

    @property
    def peers(self) -> tuple[Peer, ...]:
        """The servers."""
        return self.servers

    def framing(self, peer: Peer) -> str:
        """The first that `peer` speaks, where it has one of its own."""
        return self.load.framing if self.load.framing in peer.framings else peer.framings[0]

    def sample(self, bench: Bench, server: Server) -> Figures:
        """As traffic; and the CPU time for a request of server and load together."""
        figures = traffic(bench, server, replace(self.load, framing=server.framing))
        return figures | {"total_cpu_us": figures["cpu_us"] + figures["load_cpu_us"]}


class Workers(Variants):
    """The servers are one process and two."""

    def server_cores(self, cores: Cores) -> int | Collection[int] | None:
        """Both may use the same two: only so is nothing else different between them."""
        return cores.servers

    def note(self, cores: Cores) -> str:
        """What the cores allow to be seen."""
        allowed = ", ".join(map(str, cores.servers))
        if cores.load is None:
            return "Server and load share one core: what tells is the CPU time for a request."
        if cores.load in cores.servers:
            return (
                f"With either number of workers the server may use cores {allowed}, and the load"
                f" runs on core {cores.load}: with two cores in all, a second worker shares that"
                " one with the load, so that requests/s cannot double. What tells is the CPU time"
                " for a request, of all of the server's processes."
            )
        return (
            f"With either number of workers the server may use cores {allowed}, and the load has"
            f" core {cores.load} for itself: where its `load busy` is near 1, two workers could do"
            " more than it asks for."
        )


_WORKERS = tuple(
    Peer(f"--workers {count}", "", echokit("--workers", str(count)), (RAW, LENGTH_PREFIXED))
    for count in (1, 2)
)
_FRAMINGS = tuple(Peer(name, "", echokit(), (name,)) for name in (RAW, LENGTH_PREFIXED))


def _workers(name: str, size: str, load: Load) -> Case:
    title = (
        f"`echokit serve` with one worker and two: {size} messages, {load.framing}, 50 connections"
    )
    return Workers(f"workers-{name}", title, load, _WORKERS)


VARIANTS: tuple[Case, ...] = (
    Variants(
        "framings-64KiB-50",
        "`echokit serve` with each framing: 64KiB messages, 50 connections",
        Load(64 << 10, 50),
        _FRAMINGS,
    ),
    _workers("64B-50", "64B", Load(64, 50)),
    _workers("64KiB-50", "64KiB", Load(64 << 10, 50)),
    _workers("framed-64B-50", "64B", Load(64, 50, framing=LENGTH_PREFIXED)),
)
