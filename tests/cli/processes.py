"""The command as people run it: a process of its own, of which nothing is left behind."""

import contextlib
import os
import re
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from signal import Signals
from typing import IO, Self

from tests.cli.forks import Fork, Forks

__all__ = ["COMMAND", "DEADLINE", "Done", "Running", "environment", "forks", "run", "start"]

COMMAND = (sys.executable, "-W", "error", "-m", "echokit")
# How long a process may take to do the next thing. Far more than it needs: it ends what hangs.
DEADLINE = 10.0

_COUNTED = r"[0-9]+ connections? accepted, |(ended|refused|accept failed|paused at [a-z_]+): "

# Variables that change how help and text come out.
_SWAYING = (
    *("COLUMNS", "LINES", "TERM", "NO_COLOR", "FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS"),
    # Most people are without it, and a stream that cannot be written then keeps what it was told.
    "PYTHONUNBUFFERED",
)


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


forks = Forks()


def run(
    *args: str | bytes,
    stdin: bytes = b"",
    piped: bool = True,
    env: Mapping[str, str] | None = None,
) -> Done:
    """Run the command to its end; `stdin` comes through a pipe, or is a file."""
    with (
        tempfile.TemporaryFile(buffering=0) as given,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        given.write(stdin)
        given.seek(0)
        streams = (given.fileno(), out.fileno(), err.fileno())
        forked = forks.fork(args, streams, environment(env), piped, int(DEADLINE))
        code = forked.wait(2 * DEADLINE)
        # Their place in the file is the command's, too.
        out.seek(0)
        err.seek(0)
        return _done(code, out.read(), err.read())


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

    def take(self) -> None:
        """Take what has come: who writes more than a pipe holds waits until somebody reads."""
        while select.select([self.pipe], [], [], 0)[0]:
            data = os.read(self.pipe.fileno(), 1 << 20)
            self.rest += data
            if not data:
                return

    def line(self) -> str:
        """The next line, without its end."""
        return self.read_until(b"\n").decode().removesuffix("\n")


def _read_to_end(*pipes: _Pipe) -> list[bytes]:
    """What comes from each until all have ended."""
    deadline = time.monotonic() + DEADLINE
    left = {pipe.pipe.fileno(): pipe for pipe in pipes}
    while left:
        ready, _, _ = select.select([*left], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"did not end within {DEADLINE:g}s after {[pipe.rest for pipe in pipes]!r}"
        for fd in ready:
            data = os.read(fd, 1 << 20)
            left[fd].rest += data
            if not data:
                del left[fd]
    return [pipe.rest for pipe in pipes]


class Running:
    """A command that runs while the block does; killed at the block's end if it still does.

    It is started anew if `command` is given, or where its variables tell Python something, which
    Python asks at its start; else it is a fork, if there are any.
    """

    def __init__(
        self,
        *args: str | bytes,
        stdin: int = subprocess.DEVNULL,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = (),
    ) -> None:
        self.process: subprocess.Popen[bytes] | Fork
        anew = any(name.startswith(("PYTHON", "LC_", "LANG")) for name in env or ())
        if command or anew or not forks.begun:
            # Unbuffered, so that what is read here and what `end` reads are one stream.
            self.process = subprocess.Popen(
                [*(command or COMMAND), *args],
                bufsize=0,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(env),
            )
        else:
            streams = (stdin, subprocess.PIPE, subprocess.PIPE)
            self.process = forks.fork(args, streams, environment(env))
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
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        out, err = _read_to_end(self.out, self.err)
        return _done(self.process.wait(DEADLINE), out, err)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None and not pipe.closed:
                pipe.close()
