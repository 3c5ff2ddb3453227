"""`echokit serve` as a process to which things are done, and what the system says of it."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from signal import SIGUSR1
from typing import Any

import pytest

from tests.cli.peers import client, receive, reserved_port
from tests.cli.processes import COMMAND, DEADLINE, Running

__all__ = [
    "Serving",
    "cpu_seconds",
    "descriptors",
    "few_descriptors",
    "injecting",
    "memory",
    "quietly",
    "until",
]


class Serving(Running):
    """`echokit serve` that tells JSON, on a free port.

    Args:
        host: Where it listens.
        options: More of its options.
        under: What runs it, in front of its own words: strace, a shell with other limits.

    Attributes:
        host: The same.
        warnings: Those that it has told so far.
    """

    def __init__(self, host: str, *options: str, under: Sequence[str] = ()) -> None:
        args = ("serve", "--host", host, "--port", "0", "--output", "json", *options)
        super().__init__(*args, command=(*under, *COMMAND) if under else ())
        self.host = host
        self.warnings: list[str] = []
        self._port: int = self.next("listening")["port"]

    def port(self) -> int:
        """Where it listens."""
        return self._port

    def next(self, event: str) -> dict[str, Any]:
        """The next such event; others before it are passed over, but warnings are kept."""
        while True:
            found: dict[str, Any] = json.loads(self.line())
            if found["event"] == "warning":
                self.warnings.append(found["message"])
            if found["event"] == event:
                return found

    def counters(self) -> dict[str, Any]:
        """What it has counted so far."""
        self.signal(SIGUSR1)
        return self.next("counters")

    def connect(self) -> socket.socket:
        """A client of it."""
        return client(self.host, self._port)


@contextlib.contextmanager
def quietly(host: str, *options: str) -> Iterator[tuple[Running, int]]:
    """`echokit serve` that tells nothing, for much traffic, with its port; once it serves.

    One connection, of one byte, has been made and ended.
    """
    with reserved_port(host) as port:
        args = ("serve", "--host", host, "--port", str(port), "--output", "quiet", *options)
        with Running(*args) as server:
            # Nothing is told when it is ready, so it is asked until it is.
            until(lambda: _answers(host, port))
            yield server, port


def _answers(host: str, port: int) -> bool:
    try:
        with client(host, port) as sock:
            sock.shutdown(socket.SHUT_WR)
            return receive(sock, 1) == b""
    except ConnectionRefusedError:
        return False


def until(true: Callable[[], bool], seconds: float = DEADLINE) -> None:
    """Wait until something that nobody tells of has come about; for what /proc shows."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not so within {seconds:g}s"
        time.sleep(0.005)


def few_descriptors(number: int) -> tuple[str, ...]:
    """Runs a command that may have no more than `number` descriptors."""
    return ("sh", "-c", f'ulimit -n {number} && exec "$@"', "sh")


@cache
def _strace_says() -> str | None:
    """Why strace cannot be used here, if it cannot."""
    strace = shutil.which("strace")
    if strace is None:
        return "strace is not installed"
    tried = subprocess.run(
        [strace, "-o", os.devnull, sys.executable, "-c", ""],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if tried.returncode == 0 else f"strace may not trace here: {tried.stderr.strip()}"


def injecting(call: str, fault: str | None, log: Path) -> tuple[str, ...]:
    """Runs a command of which the system call `call` is traced to `log`, and meets `fault`.

    The command keeps its own process number: signals reach it, and not the tracer.
    """
    why_not = _strace_says()
    if why_not is not None:
        pytest.skip(why_not)
    inject = [] if fault is None else ["-e", f"inject={call}:{fault}"]
    return ("strace", "-D", "-f", "-qq", "-o", str(log), "-e", f"trace={call}", *inject)


def _proc(pid: int, name: str) -> Path:
    path = Path("/proc", str(pid), name)
    if not path.exists():
        pytest.skip(f"this system has no /proc/<pid>/{name}")
    return path


def cpu_seconds(pid: int) -> float:
    """How long a process has run on a processor, itself and the system for it."""
    fields = _proc(pid, "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def descriptors(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(list(_proc(pid, "fd").iterdir()))


def memory(pid: int) -> int:
    """A process's own memory in bytes: private, and not backed by files."""
    for line in _proc(pid, "smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) << 10
    raise AssertionError("the system does not tell how much memory is anonymous")
