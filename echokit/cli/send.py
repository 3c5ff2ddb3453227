"""`echokit send`: the echo client."""

import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from echokit.cli.options import (
    ChunkSize,
    ConfigFile,
    ConnectTimeout,
    Family,
    FramingName,
    Host,
    Ipv4,
    Ipv6,
    Port,
    Seed,
    Segment,
    SegmentDelay,
    Timeout,
)
from echokit.cli.payload import Stream, read_count, what_to_send
from echokit.cli.settings import effective, errors_in_json, segmentation

if TYPE_CHECKING:
    from collections.abc import Iterable

    from echokit.client import EchoClient
    from echokit.config import Config
    from echokit.exchange import Exchange, Source
    from echokit.observe.observer import Observer

__all__ = ["EXAMPLES", "send"]

EXAMPLES = """Examples:

echokit send "This is the message.  It will be repeated."

echokit send --host ::1 --framing length-prefixed --count 3 hello

echokit send --chunk-size 64k --output raw < big > copy"""


def send(
    ctx: typer.Context,
    message: Annotated[
        str | None,
        typer.Argument(
            metavar="MESSAGE", help="What to send; '-', or nothing with stdin piped: stdin."
        ),
    ] = None,
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
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="PATH", help="Send this file.")
    ] = None,
    count: Annotated[
        str,
        typer.Option(
            "--count",
            "-n",
            metavar="N",
            help="Send MESSAGE or the file N times, each when the one before it has come back.",
        ),
    ] = "1",
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            envvar="ECHOKIT_OUTPUT",
            metavar="transcript|raw|json|quiet",
            help="What stdout tells: the exercise's lines, the bytes that came back and nothing"
            " else, one JSON object an event, or nothing. Default: transcript.",
        ),
    ] = None,
    connect_timeout: ConnectTimeout = None,
    timeout: Timeout = None,
) -> None:
    """Send a message to an echo server, and hold what comes back against it.

    Exit code 0 if all came back as it was sent; 1 if it came back different, short or too late;
    3 if there was nobody to connect to.
    """
    from echokit.errors import ConfigError

    with errors_in_json(ctx):
        settings = effective(ctx, "client")
        ctx.meta["json"] = settings.client.output == "json"
        if settings.port == 0:
            raise ConfigError("port 0 means any free port, which is for serve: name the server's")
        if settings.host in ("", "*"):
            raise ConfigError("the host is every address, which is for serve: name the server's")
        with ExitStack() as opened:
            times = read_count(count)
            sources, window = what_to_send(message, file, times, settings, opened)
            _exchange(settings, sources, window)


def _exchange(settings: "Config", sources: "Iterable[Source]", window: int) -> None:
    """Connect, send everything, hold it against what comes back, close."""
    from echokit.client import EchoClient

    output = settings.client.output
    observer = _observer(output)
    with (
        EchoClient(
            settings.host,
            settings.port,
            family=settings.address_family,
            chunk_size=settings.chunk_size,
            framing=settings.framing,
            connect_timeout=settings.client.connect_timeout,
            timeout=settings.client.timeout,
            segmentation=segmentation(settings),
            observer=observer,
        ) as client,
        _Progress(output) as progress,
    ):
        messages, payload_bytes, seconds = 0, 0, 0.0
        for source in sources:
            if output == "raw":
                done = _to_stdout(client, source, window, progress)
            else:
                done = client.exchange(source, progress.count, window=window)
            messages += done.messages
            payload_bytes += done.payload_bytes
            seconds += done.seconds
    if output == "json":
        from echokit.observe.json_lines import JsonLines

        elapsed_ms = round(seconds * 1e3, 3)
        facts = {"messages": messages, "payload_bytes": payload_bytes, "elapsed_ms": elapsed_ms}
        JsonLines().tell("result", ok=True, **facts)


def _observer(output: str) -> "Observer":
    """What is told of the exchange, on stdout."""
    if output == "transcript":
        from echokit.observe.transcript import Transcript

        return Transcript()
    if output == "json":
        from echokit.observe.json_lines import JsonLines

        return JsonLines()
    from echokit.observe.observer import Observer

    return Observer()


def _to_stdout(
    client: "EchoClient", source: "Source", window: int, progress: "_Progress"
) -> "Exchange":
    """Write what comes back to stdout, with what ended each message where it was read."""
    from echokit.errors import ConfigError

    if sys.__stdout__ is None:
        raise ConfigError("--output raw: stdout is closed, and what comes back would be lost")
    out = sys.stdout.buffer
    stream = source if isinstance(source, Stream) else None
    written = 0

    def received(message: bytes) -> None:
        nonlocal written
        written += 1
        separated = stream is not None and written <= stream.separated
        out.write(message + stream.separator if stream and separated else message)
        out.flush()
        progress.count(message)

    return client.exchange(source, received, window=window)


class _Progress:
    """How much has come back, on a terminal, once it takes long enough to wonder.

    Only where nothing else is told there: not with a transcript, nor with stdout on a terminal.
    """

    PATIENCE = 1.0
    INTERVAL = 0.25

    def __init__(self, output: str) -> None:
        alone = output == "quiet" or (output == "raw" and not sys.stdout.isatty())
        self._err = sys.stderr if alone and sys.stderr.isatty() else None
        self._began = time.monotonic()
        self._next = self._began + self.PATIENCE
        self._bytes = 0
        self._shown = False

    def count(self, message: bytes) -> None:
        """`message` has come back."""
        if self._err is None:
            return
        self._bytes += len(message)
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self.INTERVAL
        self._shown = True
        mebibytes = self._bytes / (1 << 20)
        rate = mebibytes / (now - self._began)
        self._err.write(f"\r\x1b[K{mebibytes:.1f} MiB came back, {rate:.1f} MiB/s")
        self._err.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Leave the terminal as it was, however it ended."""
        if self._err is not None and self._shown:
            self._err.write("\r\x1b[K")
            self._err.flush()
