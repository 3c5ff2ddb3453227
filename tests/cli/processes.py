"""The command as people run it: a process of its own, of which nothing is left behind."""

import json
import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import IO, Self

__all__ = ["COMMAND", "DEADLINE", "Done", "Running", "environment", "forks", "run", "start"]

COMMAND = (sys.executable, "-W", "error", "-m", "echokit")
# How long a process may take to do the next thing. Far more than it needs: it ends what hangs.
DEADLINE = 10.0

_COUNTED = r"[0-9]+ connections? accepted, |(ended|refused|accept failed|paused at [a-z_]+): "

# Variables that change how help and text come out.
_SWAYING = ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TERM", "LINES")


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's variables, without those that would sway the command; and `more`.

    ECHOKIT_TEST_WORKERS is how many workers servers have that are not told otherwise.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ECHOKIT_", "_TYPER_", "_ECHOKIT_")) and name not in _SWAYING
    }
    workers = os.environ.get("ECHOKIT_TEST_WORKERS")
    served = {"ECHOKIT_WORKERS": workers} if workers else {}
    return kept | {"COLUMNS": "200"} | served | dict(more or {})


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    code: int
    out: bytes
    err: bytes

    @property
    def lines(self) -> list[str]:
        """What stands on stdout, line by line."""
        return self.out.decode().splitlines()

    @property
    def told(self) -> list[str]:
        """The lines on stderr without their `echokit: `, and without what a server has counted."""
        lines = self.err.decode().splitlines()
        assert all(line.startswith("echokit: ") for line in lines), lines
        told = [line.removeprefix("echokit: ") for line in lines]
        return [line for line in told if not re.match(_COUNTED, line)]

    @property
    def counted(self) -> list[str]:
        """What a server has counted, as it says at its end."""
        lines = self.err.decode().splitlines()
        told = [line.removeprefix("echokit: ") for line in lines]
        return [line for line in told if re.match(_COUNTED, line)]

    @property
    def complaint(self) -> str:
        """The one line of `told`."""
        (line,) = self.told
        return line


def _done(code: int, out: bytes, err: bytes) -> Done:
    # Whatever is tried: nobody is shown the program's insides.
    assert b"Traceback" not in out + err, err.decode(errors="replace")
    return Done(code, out, err)


def start(
    *args: str | bytes,
    env: Mapping[str, str] | None = None,
    command: Sequence[str] = COMMAND,
    stdout: int = subprocess.PIPE,
) -> Done:
    """Start the command anew, with an empty stdin, and run it to its end."""
    done = subprocess.run(
        [*command, *args],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=environment(env),
        timeout=DEADLINE,
        check=False,
    )
    return _done(done.returncode, done.stdout or b"", done.stderr)


_FORKING = """
import gc, json, os, signal, socket, sys, traceback
from echokit.cli import main
import echokit.client, echokit.config, echokit.server, echokit.observe.escape

def become(call):
    piped, writing = os.pipe()
    with open(call["in"], "rb") as file:
        if call["piped"] and not os.fork():
            os.close(piped)
            while data := file.read(65536):
                os.write(writing, data)
            os._exit(0)
        os.dup2(piped if call["piped"] else file.fileno(), 0)
    os.close(piped)
    os.close(writing)
    for number, name in enumerate(("out", "err"), 1):
        with open(call[name], "wb") as file:
            os.dup2(file.fileno(), number)
    os.environ.clear()
    os.environ.update(call["env"])
    sys.argv = ["echokit", *call["args"]]
    # What hangs is ended.
    signal.alarm(call["deadline"])

gc.collect()
gc.freeze()
with socket.socket(fileno=int(sys.argv[1])) as channel, channel.makefile("rw") as lines:
    for line in lines:
        if not (child := os.fork()):
            become(json.loads(line))
            break
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps(code), file=lines, flush=True)
    else:
        sys.exit()
main()
"""


class _Forks:
    """Runs commands as forks of a process that has imported what they need.

    A command takes a quarter of a second to start and next to nothing to run, and these tests
    run hundreds: the imports are made once. From there on each is a process of its own.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._channel = socket.socket()

    def begin(self) -> None:
        """Import; before the first `run`."""
        self._channel.close()
        self._channel, theirs = socket.socketpair()
        with theirs:
            fd = theirs.fileno()
            args = [sys.executable, "-W", "error", "-c", _FORKING, str(fd)]
            self._process = subprocess.Popen(args, pass_fds=[fd], env=environment())
        self._channel.settimeout(2 * DEADLINE)

    def end(self) -> None:
        """No more will be run."""
        self._channel.close()
        if self._process is not None:
            self._process.wait(DEADLINE)

    def run(self, args: Sequence[str | bytes], stdin: bytes, piped: bool, env: object) -> Done:
        """Run one command to its end."""
        with tempfile.TemporaryDirectory() as name:
            files = {stream: Path(name, stream) for stream in ("in", "out", "err")}
            files["in"].write_bytes(stdin)
            call = {"args": [os.fsdecode(arg) for arg in args], "piped": piped, "env": env}
            call |= {stream: str(path) for stream, path in files.items()}
            call["deadline"] = int(DEADLINE)
            self._channel.sendall(json.dumps(call).encode() + b"\n")
            code = json.loads(self._channel.recv(100))
            return _done(code, files["out"].read_bytes(), files["err"].read_bytes())


forks = _Forks()


def run(
    *args: str | bytes,
    stdin: bytes = b"",
    piped: bool = True,
    env: Mapping[str, str] | None = None,
) -> Done:
    """Run the command to its end; `stdin` comes through a pipe, or is a file."""
    return forks.run(args, stdin, piped, environment(env))


class _Pipe:
    """The reading end of a process's stdout or stderr, read with a deadline."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.pipe = pipe
        self.rest = b""

    def read_until(self, end: bytes) -> bytes:
        """Everything up to and with the next `end`."""
        deadline = time.monotonic() + DEADLINE
        while end not in self.rest:
            ready, _, _ = select.select([self.pipe], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"nothing more came within {DEADLINE:g}s after {self.rest!r}"
            data = os.read(self.pipe.fileno(), 1 << 20)
            assert data, f"ended after {self.rest!r}"
            self.rest += data
        found, separator, self.rest = self.rest.partition(end)
        return found + separator

    def line(self) -> str:
        """The next line, without its end."""
        return self.read_until(b"\n").decode().removesuffix("\n")


class Running:
    """A command that runs while the block does; killed at the block's end if it still does."""

    def __init__(
        self,
        *args: str | bytes,
        stdin: int = subprocess.DEVNULL,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        # Unbuffered, so that what is read here and what `end` reads are one stream.
        self.process = subprocess.Popen(
            [*command, *args],
            bufsize=0,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(env),
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.out = _Pipe(self.process.stdout)
        self.err = _Pipe(self.process.stderr)

    @property
    def stdin(self) -> IO[bytes]:
        """Its stdin, where it was given a pipe."""
        assert self.process.stdin is not None
        return self.process.stdin

    def line(self) -> str:
        """The next line of its stdout."""
        return self.out.line()

    def lines(self, count: int) -> list[str]:
        """The next `count` lines of its stdout."""
        return [self.line() for _ in range(count)]

    def port(self) -> int:
        """A server's port, from the first line of its transcript."""
        return int(self.line().rpartition(" ")[2])

    def signal(self, number: Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self, number: Signals | None = None) -> Done:
        """Wait for its end, after a signal if one is given: what it said since it was last read."""
        if number is not None:
            self.signal(number)
        out, err = self.process.communicate(timeout=DEADLINE)
        return _done(self.process.returncode, self.out.rest + out, self.err.rest + err)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None and not pipe.closed:
                pipe.close()
