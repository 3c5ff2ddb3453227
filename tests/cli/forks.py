"""Commands as forks of one process that has imported what they need.

A command takes a quarter of a second to start and next to nothing to run, and these tests run
hundreds: the imports are made once. From there on each is a process of its own, with its own
signals, descriptors, streams and end.
"""

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGKILL, Signals
from typing import IO

__all__ = ["Fork", "Forks"]


class Fork:
    """The process of a command; what there is of it is what `subprocess.Popen` has.

    Attributes:
        pid: Its process.
        stdin: To it, where that is a pipe.
        stdout: From it, the same.
        stderr: The same.
        returncode: How it ended; None: not yet, as far as anybody has looked.
    """

    def __init__(self, status: socket.socket, pipes: Sequence[IO[bytes] | None]) -> None:
        self._status = status
        self._lines = status.makefile("r")
        self.pid = int(self._lines.readline())
        self.returncode: int | None = None
        self.stdin, self.stdout, self.stderr = pipes

    def poll(self) -> int | None:
        """How it ended, or None."""
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self.wait(None)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, at most so many seconds; how it ended.

        Raises:
            subprocess.TimeoutExpired: It has not.
        """
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("echokit", timeout or 0.0)
            self.returncode = int(self._lines.readline())
            self._lines.close()
            self._status.close()
        return self.returncode

    def send_signal(self, number: Signals) -> None:
        """Send it a signal if it has not ended."""
        if self.poll() is None:
            # It may have ended, and been waited for, and the word of it not be here yet.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """The same, with SIGKILL."""
        self.send_signal(SIGKILL)


class Forks:
    """Makes forks; `begin` before the first."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._channel = socket.socket()

    @property
    def begun(self) -> bool:
        """Whether there can be any."""
        return self._process is not None

    def begin(self, env: Mapping[str, str]) -> None:
        """Import; before the first `fork`."""
        self._channel.close()
        self._channel, theirs = socket.socketpair()
        with theirs:
            fd = theirs.fileno()
            # Its stdout is where the commands have theirs: it is to be no terminal.
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "tests.cli.forking", str(fd)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[fd],
                env=env,
            )

    def end(self) -> None:
        """No more will be run."""
        self._channel.close()
        if self._process is not None:
            assert self._process.wait(10) == 0
            self._process = None

    def fork(
        self,
        args: Sequence[str | bytes],
        streams: tuple[int, int, int],
        env: Mapping[str, str],
        piped: bool = False,
        deadline: int = 0,
    ) -> Fork:
        """Start a command.

        Args:
            args: Its own.
            streams: stdin, stdout and stderr, as `subprocess.Popen` takes them.
            env: All of its variables.
            piped: Whether what stands in the file that is `streams[0]` comes through a pipe.
            deadline: After how many seconds it is ended if it is still there; 0: never.
        """
        ends = [_ends(number, stream) for number, stream in enumerate(streams)]
        status, its = socket.socketpair()
        theirs = [*(fd for fd, _ in ends), its.detach()]
        try:
            socket.send_fds(self._channel, [b"!"], theirs)
        finally:
            for fd in theirs:
                os.close(fd)
        given = [os.fsdecode(arg) for arg in args]
        call: dict[str, object] = {"args": given, "env": dict(env), "cwd": str(Path.cwd())}
        call |= {"piped": piped, "deadline": deadline}
        status.sendall(json.dumps(call).encode() + b"\n")
        return Fork(status, [pipe for _, pipe in ends])


def _ends(number: int, stream: int) -> tuple[int, IO[bytes] | None]:
    """A command's stdin, stdout or stderr as it has it, and our end where it is a pipe."""
    if stream == subprocess.DEVNULL:
        return os.open(os.devnull, os.O_RDWR), None
    if stream != subprocess.PIPE:
        return os.dup(stream), None
    reading, writing = os.pipe()
    # Unbuffered: what is read through it and beside it is one stream.
    if number == 0:
        return reading, os.fdopen(writing, "wb", buffering=0)
    return writing, os.fdopen(reading, "rb", buffering=0)
