"""`echokit send`: the echo client."""

import itertools
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

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
    effective,
    errors_in_json,
    segmentation,
)

if TYPE_CHECKING:
    from echokit.client import EchoClient
    from echokit.config import Config
    from echokit.exchange import Exchange, Source
    from echokit.framing.base import Framing
    from echokit.framing.cutting import Cutter

__all__ = ["EXAMPLES", "send"]

EXAMPLES = """Examples:

echokit send "This is the message.  It will be repeated."

echokit send --host ::1 --framing length-prefixed --count 3 hello

echokit send --chunk-size 64k --output raw < big > copy"""

# What is asked of a file or of stdin at a time, where no message says less.
_PIECE = 64 << 10


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
        int,
        typer.Option(
            "--count",
            "-n",
            min=1,
            max=10**9,
            metavar="N",
            help="Send MESSAGE or the file N times, each when the one before it has come back.",
        ),
    ] = 1,
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
        source, window = _what_to_send(message, file, count, settings)
        _exchange(settings, source, window)


def _what_to_send(
    message: str | None,
    file: Path | None,
    count: int,
    settings: "Config",
) -> "tuple[Source, int]":
    """Where it comes from, by one of three ways, and how much of it may be under way at once."""
    from echokit.client import WINDOW
    from echokit.errors import ConfigError

    if message is not None and file is not None:
        raise ConfigError("MESSAGE and --file do not go together")
    if file is not None:
        return _file(file, count, settings)
    if message is not None and message != "-":
        return _repeated(os.fsencode(message), count, settings.framing), 0
    if count > 1:
        raise ConfigError("--count goes with MESSAGE or --file, not with stdin")
    if sys.stdin is None or (message is None and sys.stdin.isatty()):
        raise ConfigError("nothing to send: give a MESSAGE, --file, or pipe it in")
    size = _PIECE if settings.framing.transparent else settings.chunk_size
    return _Stream(sys.stdin.fileno(), settings.framing.cutter(size)), WINDOW


class _Stream:
    """A `Source` that reads a descriptor to its end, and cuts it into messages."""

    def __init__(self, fd: int, cutter: "Cutter") -> None:
        self._fd = fd
        self._cutter = cutter
        self._ended = False
        # What ends a message in what is read, and how many messages it has ended.
        self.separator = cutter.separator
        self.separated = 0

    def fileno(self) -> int:
        """To be waited for before each read."""
        return self._fd

    def read(self) -> list[bytes] | None:
        """The messages that the next bytes bring to an end; None at the end."""
        if self._ended:
            return None
        data = os.read(self._fd, _PIECE)
        if data:
            messages = self._cutter.cut(data)
            self.separated += len(messages)
            return messages
        self._ended = True
        return self._cutter.finish()


def _repeated(message: bytes, count: int, framing: "Framing") -> "Source":
    from echokit.errors import ConfigError, FramingError
    from echokit.exchange import Messages

    try:
        framing.encode(message)
    except FramingError as error:
        raise ConfigError(f"cannot send this with {framing.type} framing: {error}") from error
    return Messages(itertools.repeat(message, count))


def _file(path: Path, count: int, settings: "Config") -> "tuple[Source, int]":
    """A file: one message where the framing has messages, else a stream of pieces."""
    from echokit.client import WINDOW
    from echokit.errors import ConfigError, MessageTooLarge, reason
    from echokit.exchange import Messages

    limit = getattr(settings.framing, "max_message", None)
    try:
        with path.open("rb") as file:
            if settings.framing.transparent:
                return Messages(_pieces(path, count)), WINDOW
            status = os.fstat(file.fileno())
            # What is no regular file may have no end: no more is read than a message may have.
            message = file.read(-1 if limit is None else limit + 1)
            if limit is not None and len(message) > limit:
                size = max(status.st_size, len(message))
                raise ConfigError(f"--file: {path}: {MessageTooLarge(size, limit)}")
            return _repeated(message, count, settings.framing), 0
    except OSError as error:
        raise ConfigError(f"--file: {path}: {reason(error)}") from error


def _pieces(path: Path, count: int) -> Iterator[bytes]:
    for _ in range(count):
        with path.open("rb", buffering=0) as file:
            while piece := file.read(_PIECE):
                yield piece


def _exchange(settings: "Config", source: "Source", window: int) -> None:
    """Connect, send everything, hold it against what comes back, close."""
    from echokit.client import EchoClient
    from echokit.observe.json_lines import JsonLines
    from echokit.observe.observer import Observer
    from echokit.observe.transcript import Transcript

    output = settings.client.output
    observer = {"transcript": Transcript, "json": JsonLines}.get(output, Observer)()
    with EchoClient(
        settings.host,
        settings.port,
        family=settings.address_family,
        chunk_size=settings.chunk_size,
        framing=settings.framing,
        connect_timeout=settings.client.connect_timeout,
        timeout=settings.client.timeout,
        segmentation=segmentation(settings),
        observer=observer,
    ) as client:
        progress = _Progress(sys.stderr) if output in ("raw", "quiet") else None
        if output == "raw":
            done = _to_stdout(client, source, window, progress)
        else:
            done = client.exchange(source, progress.count if progress else None, window=window)
        if progress is not None:
            progress.clear()
    if isinstance(observer, JsonLines):
        observer.tell(
            "result",
            ok=True,
            messages=done.messages,
            payload_bytes=done.payload_bytes,
            elapsed_ms=round(done.seconds * 1e3, 3),
        )


def _to_stdout(
    client: "EchoClient", source: "Source", window: int, progress: "_Progress | None"
) -> "Exchange":
    """Write what comes back to stdout, with what ended each message where it was read."""
    out = sys.stdout.buffer
    stream = source if isinstance(source, _Stream) else None
    written = 0

    def received(message: bytes) -> None:
        nonlocal written
        written += 1
        separated = stream is not None and written <= stream.separated
        out.write(message + stream.separator if stream and separated else message)
        out.flush()
        if progress is not None:
            progress.count(message)

    return client.exchange(source, received, window=window)


class _Progress:
    """How much has come back, on a terminal, once it takes long enough to wonder."""

    PATIENCE = 1.0
    INTERVAL = 0.25

    def __init__(self, err: TextIO) -> None:
        self._err = err if err.isatty() else None
        self._began = time.monotonic()
        self._next = self._began + self.PATIENCE
        self._bytes = 0
        self._shown = False

    def count(self, message: bytes) -> None:
        """`message` has come back."""
        self._bytes += len(message)
        now = time.monotonic()
        if self._err is None or now < self._next:
            return
        self._next = now + self.INTERVAL
        self._shown = True
        mebibytes = self._bytes / (1 << 20)
        rate = mebibytes / (now - self._began)
        self._err.write(f"\r\x1b[K{mebibytes:.1f} MiB came back, {rate:.1f} MiB/s")
        self._err.flush()

    def clear(self) -> None:
        """Leave the terminal as it was."""
        if self._err is not None and self._shown:
            self._err.write("\r\x1b[K")
            self._err.flush()
