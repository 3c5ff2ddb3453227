"""A server of several processes, as people start it: what it tells, and who its workers are."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.cli.processes import COMMAND, DEADLINE, Done, Running
from tests.workers.proc import children, eventually, heeds, is_gone, listening_port, state

__all__ = ["Group", "install_framing"]


class Group:
    """`echokit serve --workers N` on a free port, while the block runs.

    It tells JSON, of which a pipe holds that of some hundred connections until it is read; a quiet
    one takes any number.

    Attributes:
        running: The command.
        pid: The parent's process.
        port: Where it listens.
    """

    def __init__(
        self,
        host: str,
        workers: int,
        *args: str,
        env: Mapping[str, str] | None = None,
        under: Sequence[str] = (),
        quiet: bool = False,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        self._count = workers
        # Those that have ever been seen: none of them is to be left.
        self._seen: set[int] = set()
        where = ("--host", host, "--port", "0", "--workers", str(workers))
        self._quiet = quiet
        output = ("--output", "quiet" if quiet else "json")
        command = (*under, *COMMAND) if under else ()
        self.running = Running(
            "serve", *where, *output, *args, env=env, stdin=stdin, command=command
        )
        self.pid = self.running.process.pid

    def __enter__(self) -> Self:
        try:
            if self._quiet:
                eventually(lambda: listening_port(self.pid))
                self.port = listening_port(self.pid)
            else:
                self.port = self.event("listening")["port"]
            self.complete()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.running.process.poll() is None:
            self._seen |= set(children(self.pid))
        self.running.__exit__(*exc_info)
        # Without their parent they end by themselves; but not those that a test has stopped.
        for pid in self._seen:
            if state(pid) == "T":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        eventually(self.gone)

    def gone(self) -> bool:
        """Whether every worker that was ever seen has ended."""
        return all(map(is_gone, self._seen))

    @property
    def workers(self) -> list[int]:
        """Its workers' processes."""
        found = children(self.pid)
        self._seen |= set(found)
        return found

    def complete(self, without: Sequence[int] = (), within: float = DEADLINE) -> list[int]:
        """Wait until all workers serve, and none of `without` is one of them; their processes."""
        expected = self._count if self._count > 1 else 0

        def all_there() -> bool:
            found = self.workers
            serve = all(heeds(pid, signal.SIGTERM) for pid in found)
            return len(found) == expected and serve and not {*found} & {*without}

        eventually(all_there, within)
        return self.workers

    def event(self, name: str) -> dict[str, Any]:
        """The next event of that name; others before it are passed over."""
        while True:
            event: dict[str, Any] = json.loads(self.running.line())
            if event["event"] == name:
                return event

    def counters(self) -> dict[str, Any]:
        """What all have counted by now."""
        os.kill(self.pid, signal.SIGUSR1)
        return self.event("counters")

    def end(self, number: signal.Signals | None = None) -> tuple[Done, list[dict[str, Any]]]:
        """Wait for its end, after a signal if one is given: how it ended, and what it told."""
        self._seen |= set(self.workers)
        done = self.running.end(number)
        assert self.gone()
        events = [json.loads(line) for line in done.lines]
        counted = [event for event in events if event["event"] == "counters"]
        for counters in counted[-1:]:
            assert counters["open"] == 0
            assert counters["accepted"] == sum(counters["ended"].values())
        return done, events


def install_framing(folder: Path, code: str) -> dict[str, str]:
    """Put a plugin with the framing `odd`, in `code` the class `Odd`, into `folder`.

    Returns:
        The variables with which the command finds and uses it.
    """
    (folder / "odd_framing.py").write_text(code)
    info = folder / "odd_framing-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-framing\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[echokit.framings]\nodd = odd_framing:Odd\n")
    return {"PYTHONPATH": str(folder), "ECHOKIT_FRAMING": "odd"}
