"""The servers that are measured, and how each is started."""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import IO

from benchmarks.build import ROOT, UnavailableError, compiled, compiled_go
from benchmarks.processes import listening_port, pinned, uninterrupted

__all__ = [
    "LIMIT",
    "OURS",
    "PEERS",
    "Peer",
    "Server",
    "ServerFailedError",
    "echokit",
    "environment",
    "named",
    "start",
    "tool",
]

# The names of the two that the others are held against.
LIMIT = "c"
OURS = "echokit"

RAW = "raw"
LENGTH_PREFIXED = "length-prefixed"
# What echokit is told to ask of one read: as in configs/throughput.toml.
CHUNK = "256k"
# Descriptors that a server needs beside those of its connections.
_SPARE = 100
# How long a server may take to listen, and to end, in seconds.
_PATIENCE = 20.0
_GRACE = 3.0
# How long one that has closed its connections may take until it is seen to have ended.
_MOMENT = 0.5


@dataclass(frozen=True)
class Peer:
    """An echo server.

    Attributes:
        name: As the tables have it.
        about: What it is.
        command: Its argv for a framing and an address; UnavailableError where it cannot be had.
        framings: Those that it speaks.
        most_connections: How many are asked of it: few where each is a process of its own.
        descriptors: How many it needs for each connection.
    """

    name: str
    about: str
    command: Callable[[str, str], list[str]]
    framings: tuple[str, ...] = (RAW,)
    most_connections: int = 1_000_000
    descriptors: int = 1

    def unfit(self, connections: int, limit: int) -> str | None:
        """Why it is not asked for so many connections, `limit` descriptors given; None if it is."""
        if connections > self.most_connections:
            return f"not for {connections:,} connections: each is a process of its own"
        needed = connections * self.descriptors + _SPARE
        if needed > limit:
            return f"not for {connections:,} connections: needs {needed:,} descriptors of {limit:,}"
        return None


class ServerFailedError(Exception):
    """A server that does not listen, or has ended."""


@dataclass(frozen=True)
class Server:
    """A running server."""

    process: subprocess.Popen[bytes]
    framing: str
    host: str
    port: int
    _said: IO[bytes]

    @property
    def pid(self) -> int:
        """Of the process that was started; it may have others."""
        return self.process.pid

    def end(self) -> str | None:
        """How it ended, now or in a moment; None if it goes on."""
        try:
            code = self.process.wait(_MOMENT)
        except subprocess.TimeoutExpired:
            return None
        return _ended(code, self._said)


def _ended(code: int, said: IO[bytes]) -> str:
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return f"the server ended with {how}" + (f": {lines[-1]}" if lines else "")


@contextlib.contextmanager
def start(
    peer: Peer, framing: str, host: str, cores: int | Collection[int] | None
) -> Iterator[Server]:
    """Run `peer` on `cores` (None: any) and a free port of `host` until the block ends.

    Raises:
        UnavailableError: It cannot be had here.
        ServerFailedError: It does not listen.
    """
    command = peer.command(framing, host)
    with tempfile.TemporaryFile() as said, contextlib.ExitStack() as stack:
        # An interrupt in between would leave a server that nobody ends.
        with uninterrupted(), pinned(cores):
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=environment(),
                # Ctrl-C is for us, who end it, and all that it has started, as one group.
                start_new_session=True,
                cwd=ROOT,
            )
            stack.callback(_stop, process)
        yield Server(process, framing, host, _await_port(process, said), said)


def environment() -> dict[str, str]:
    """For what is measured: nothing in it says how echokit is to behave."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("ECHOKIT_")}
    return mine | {"GOMAXPROCS": "1"}


def _await_port(process: subprocess.Popen[bytes], said: IO[bytes]) -> int:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        port = listening_port(process.pid)
        if port is not None:
            return port
        code = process.poll()
        if code is not None:
            raise ServerFailedError(_ended(code, said))
        time.sleep(0.01)
    raise ServerFailedError(f"the server did not listen within {_PATIENCE:g} s")


@uninterrupted()
def _stop(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
            # Those that it started may outlive it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            return


# Their commands.


def _c(framing: str, host: str) -> list[str]:
    return [str(compiled("echo")), "-f", framing, host]


def echokit(*more: str) -> Callable[[str, str], list[str]]:
    """The command of `echokit serve`, with `more` options."""
    serve = [sys.executable, "-m", "echokit", "serve", "--output", "quiet", "--chunk-size", CHUNK]

    def command(framing: str, host: str) -> list[str]:
        return [*serve, "--framing", framing, "--host", host, "--port", "0", *more]

    return command


def _python(name: str, needs: str | None = None) -> Callable[[str, str], list[str]]:
    def command(_framing: str, host: str) -> list[str]:
        if needs is not None and importlib.util.find_spec(needs) is None:
            raise UnavailableError(f"{needs} is not installed (the extra `bench` has it)")
        return [sys.executable, "-m", "benchmarks.python_servers", name, host]

    return command


def _go(_framing: str, host: str) -> list[str]:
    return [str(compiled_go()), host, "0"]


def _socat(address: str, block: str) -> Callable[[str, str], list[str]]:
    def command(_framing: str, host: str) -> list[str]:
        kind = f"TCP6-LISTEN:0,bind=[{host}]" if ":" in host else f"TCP4-LISTEN:0,bind={host}"
        listen = f"{kind},fork,backlog=1024,nodelay"
        return [tool("socat"), "-b", block, listen, address]

    return command


def _ncat(_framing: str, host: str) -> list[str]:
    return [tool("ncat"), "-l", "-k", "-m", "10000", "-e", "/bin/cat", host, "0"]


def tool(name: str) -> str:
    """The path of a program that is installed.

    Raises:
        UnavailableError: It is not.
    """
    path = shutil.which(name)
    if path is None:
        raise UnavailableError(f"{name} is not installed")
    return path


PEERS = (
    Peer(
        LIMIT,
        "our own: recv and send of up to 128 KiB, and nothing else",
        _c,
        (RAW, LENGTH_PREFIXED),
    ),
    Peer(
        OURS,
        "`echokit serve` with `--output quiet` and `--chunk-size 256k`",
        echokit(),
        (RAW, LENGTH_PREFIXED),
    ),
    Peer("asyncio", "a Protocol that writes in data_received", _python("asyncio")),
    Peer("uvloop", "the same Protocol on uvloop", _python("uvloop", "uvloop")),
    Peer("asyncio-streams", "read, write, drain", _python("asyncio-streams")),
    Peer("trio", "receive_some, send_all", _python("trio", "trio")),
    Peer(
        "asyncio-readexactly",
        "asyncio streams, header and body by readexactly",
        _python("asyncio-readexactly"),
        (LENGTH_PREFIXED,),
    ),
    # Between two sockets io.Copy splices, through a pipe for each connection.
    Peer("go", "io.Copy in a goroutine for each connection, GOMAXPROCS=1", _go, descriptors=3),
    Peer("socat-cat", "fork, EXEC:cat", _socat("EXEC:cat", "65536"), most_connections=50),
    # With larger blocks it can wait for ever for room in a pipe that only it would empty.
    Peer("socat-pipe", "fork, PIPE", _socat("PIPE", "4096"), most_connections=50),
    Peer("ncat", "-k -e /bin/cat", _ncat, most_connections=50),
)


def named(name: str) -> Peer:
    """The server of that name: `named(LIMIT)` is the one in C.

    Raises:
        LookupError: There is none.
    """
    for peer in PEERS:
        if peer.name == name:
            return peer
    raise LookupError(name)
