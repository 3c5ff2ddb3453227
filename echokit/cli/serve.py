"""`echokit serve`: the echo server."""

import gc
import signal
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from echokit.cli.ending import Ended
from echokit.cli.options import (
    Allow,
    Backlog,
    ChunkSize,
    ConfigFile,
    Deny,
    DrainTimeout,
    Family,
    FramingName,
    Host,
    IdleTimeout,
    Ipv4,
    Ipv6,
    MaxConnections,
    MaxConnectionsPerPeer,
    MaxLifetime,
    MessageTimeout,
    Port,
    Seed,
    Segment,
    SegmentDelay,
    SendTimeout,
    WorkerCount,
)
from echokit.cli.settings import effective, errors_in_json, segmentation

if TYPE_CHECKING:
    from echokit.config import Config, Limits
    from echokit.net.listen import Listeners
    from echokit.observe.observer import Observer
    from echokit.server import EchoServer
    from echokit.workers import Workers

__all__ = ["EXAMPLES", "serve"]

_MUCH = 1 << 20

EXAMPLES = """Examples:

echokit serve --config configs/classic.yaml

echokit serve --host '*' --port 7007 --chunk-size 64k --output quiet

echokit serve -6 --host ::1 --port 0 --framing length-prefixed --output json"""


def serve(
    ctx: typer.Context,
    config: ConfigFile = None,
    host: Host = None,
    port: Port = None,
    ipv4: Ipv4 = False,
    ipv6: Ipv6 = False,
    family: Family = None,
    chunk_size: ChunkSize = None,
    framing: FramingName = None,
    segment: Segment = None,
    segment_delay: SegmentDelay = None,
    seed: Seed = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            envvar="ECHOKIT_OUTPUT",
            metavar="transcript|json|quiet",
            help="What stdout tells: the exercise's lines, one JSON object an event, or nothing."
            " Default: transcript.",
        ),
    ] = None,
    backlog: Backlog = None,
    workers: WorkerCount = None,
    drain_timeout: DrainTimeout = None,
    max_connections: MaxConnections = None,
    max_connections_per_peer: MaxConnectionsPerPeer = None,
    idle_timeout: IdleTimeout = None,
    message_timeout: MessageTimeout = None,
    send_timeout: SendTimeout = None,
    max_lifetime: MaxLifetime = None,
    allow: Allow = None,
    deny: Deny = None,
) -> None:
    """Echo everything that comes, on every address of a host, until SIGINT or SIGTERM.

    The first signal stops accepting and lets open connections finish; a second one cuts them.
    Clients amid a message, or owed something, get all of the time to drain; others are ended once
    nothing has moved for a second. SIGUSR1 tells what has been counted so far.

    Exit code 0 if all of them finished, 1 if some had to be cut.
    """
    with errors_in_json(ctx):
        from echokit.net.descriptors import raise_limit

        settings = effective(ctx, "server")
        ctx.meta["json"] = settings.server.output == "json"
        raise_limit()
        observer = _observer(settings.server.output)
        server = _server(settings, observer)
        # Before the first line is printed: whoever reads it may signal at once.
        signals: list[int] = []

        def on_signal(number: int, _frame: FrameType | None) -> None:
            signals.append(number)
            server.stop()

        signal.signal(signal.SIGINT, on_signal)
        signal.signal(signal.SIGTERM, on_signal)
        signal.signal(signal.SIGUSR1, lambda _number, _frame: server.report())
        server.wake_at_signals()
        # What stands now stays to the end: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        # And room for much at once stays with the process: until glibc has seen such a block freed,
        # it gives each back to the system, and every use of the next begins with page faults.
        bytes(_MUCH)
        cut = server.serve()
        if settings.server.output != "quiet":
            observer.counted(server.counters)
    if len(signals) > 1:
        raise Ended(128 + signals[-1])
    if cut:
        raise Ended(1)


def _server(settings: "Config", observer: "Observer") -> "EchoServer | Workers":
    """What serves: in this process, or in several."""
    from echokit.server import EchoServer
    from echokit.workers import Workers, worker_count

    pieces = segmentation(settings)

    def make(listeners: "Listeners | None", limits: "Limits") -> "EchoServer":
        return EchoServer(
            settings.host,
            settings.port,
            family=settings.address_family,
            chunk_size=settings.chunk_size,
            framing=settings.framing,
            backlog=settings.server.backlog,
            limits=limits,
            segmentation=pieces,
            observer=observer,
            listeners=listeners,
        )

    limits = settings.server.limits
    count = worker_count(settings.server.workers, limits.max_connections)
    if count == 1:
        return make(None, limits)
    return Workers(
        count,
        make,
        settings.host,
        settings.port,
        family=settings.address_family,
        backlog=settings.server.backlog,
        limits=limits,
        observer=observer,
    )


def _observer(output: str) -> "Observer":
    from echokit.observe.json_lines import JsonLines
    from echokit.observe.transcript import Diagnostics, Transcript

    if output == "json":
        return JsonLines()
    return Transcript() if output == "transcript" else Diagnostics()
