"""Hosts that are network namespaces, so that faults can be made which no test may make outside.

Each has a loopback, a firewall, settings and an /etc of its own. It lasts as long as a process that
waits for the end of its stdin: however the tests end, killed included, nothing of it stays.
"""

import contextlib
import ctypes
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest

from tests.cli.processes import COMMAND, DEADLINE, Done, Running, start
from tests.faults.serving import until

__all__ = ["Namespace", "events"]

_TOOLS = ("ip", "mount", "nft", "nsenter", "ss", "tc", "unshare")
_CLONE_NEWNET = 0x40000000
# What the tools say where the kernel was built without what they ask for.
_LACKING = re.compile(
    r"operation not supported|protocol not supported|unknown device type|qdisc kind is unknown"
    r"|could not process rule: no such file or directory",
    re.IGNORECASE,
)
_READY = "ip link set lo up && echo ready && exec cat"
# Others that a system may ask know localhost by themselves.
_NSSWITCH = "hosts: files dns\n"

_T = TypeVar("_T")


def events(done: Done, name: str) -> list[dict[str, Any]]:
    """The events of one name among those that a command has told."""
    told = [json.loads(line) for line in done.lines]
    return [event for event in told if event["event"] == name]


class Namespace:
    """A host of one's own while the block runs; a test that cannot have one is skipped."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._folder = Path()
        self._pid = 0

    def __enter__(self) -> Self:
        if lacking := [tool for tool in _TOOLS if shutil.which(tool) is None]:
            pytest.skip(f"{', '.join(lacking)}: not installed")
        if os.geteuid() != 0:
            pytest.skip("only root can make a network namespace")
        with self._stack as undo:
            self._folder = Path(undo.enter_context(tempfile.TemporaryDirectory()))
            holder = undo.enter_context(
                subprocess.Popen(
                    [shutil.which("unshare") or "", "--net", "--mount", "sh", "-c", _READY],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            # Its stdin ends with the block, and so does it.
            assert holder.stdout is not None
            assert holder.stderr is not None
            if holder.stdout.readline() != "ready\n":
                pytest.skip(f"no network namespace can be made: {holder.stderr.read().strip()}")
            self._pid = holder.pid
            self.file("/etc/nsswitch.conf", _NSSWITCH)
            self._stack = undo.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    @property
    def enter(self) -> tuple[str, ...]:
        """The words before a command that is to run inside."""
        return ("nsenter", f"--target={self._pid}", "--net", "--mount", "--wd")

    @property
    def command(self) -> tuple[str, ...]:
        """Our command, inside."""
        return (*self.enter, *COMMAND)

    def serve(self, *args: str) -> Running:
        """Our server inside, on a free port, telling its events; an option may be given again."""
        given = ("--port", "0", "--output", "json", *args)
        return Running("serve", *given, command=self.command)

    def send(self, host: str, port: int, *args: str) -> Done:
        """Our client inside, run to its end, telling its events."""
        given = ("--host", host, "--port", str(port), "--output", "json", *args, "hello")
        return start("send", *given, command=self.command)

    def run(self, *args: str, stdin: str = "") -> str:
        """Run a tool inside; what it printed. Where the kernel lacks what it needs: a skip."""
        done = subprocess.run(
            [*self.enter, *args],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        if done.returncode and _LACKING.search(done.stderr):
            pytest.skip(f"this kernel has no {' '.join(args)}: {' '.join(done.stderr.split())}")
        assert done.returncode == 0, f"{args} {stdin}: {done.stderr}"
        return done.stdout

    def filter(self, *rules: str) -> None:
        """Add rules for what comes in to the firewall (nft(8)), each `match ... verdict`."""
        body = "\n".join(["type filter hook input priority 0", *rules])
        self.run(
            "nft", "-f", "-", stdin=f"table inet faults {{ chain incoming {{\n{body}\n}}\n}}\n"
        )

    def sysctl(self, name: str, value: int) -> None:
        """Set what the kernel lets each namespace have for itself."""
        path = "/proc/sys/" + name.replace(".", "/")
        self.run("sh", "-c", f"echo {value} > {path}")

    def file(self, path: str, text: str) -> None:
        """Put a file with `text` in the place of `path`, for those inside alone."""
        if not Path(path).exists():
            pytest.skip(f"there is no {path} to put another in its place")
        own = self._folder / path.replace("/", "_")
        mounted = own.exists()
        own.write_text(text)
        if not mounted:
            self.run("mount", "--bind", str(own), path)

    def prefer(self, family: str) -> None:
        """Let the addresses of `family` (ipv4, ipv6) come first of a name's (gai.conf(5))."""
        mapped = 100 if family == "ipv4" else 10
        table = f"::1/128 50, ::/0 40, ::ffff:0:0/96 {mapped}".split(", ")
        self.file("/etc/gai.conf", "".join(f"precedence {entry}\n" for entry in table))

    def call(self, function: Callable[[], _T]) -> _T:
        """Call `function` in a thread that is inside: sockets made there stay in there."""
        outcome: list[_T] = []
        failed: list[BaseException] = []

        def inside() -> None:
            try:
                libc = ctypes.CDLL(None, use_errno=True)
                with Path(f"/proc/{self._pid}/ns/net").open("rb") as net:
                    if libc.setns(net.fileno(), _CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")  # noqa: TRY301 - handed on below
                outcome.append(function())
            except BaseException as error:  # noqa: BLE001 - raised where it was called
                failed.append(error)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return outcome[0]

    def link(self, other: "Namespace", name: str, other_name: str) -> None:
        """Lay a cable to `other`: an interface at each end, up, fe80::1 here and fe80::2 there."""
        pair = f"ip link add {name} type veth peer name {other_name} netns {other._pid}"
        self.run(*pair.split())
        ends = ((self, name, "fe80::1"), (other, other_name, "fe80::2"))
        for end, interface, address in ends:
            # It has no other address: one that the system gives it, and lets it use after a second,
            # would be what connections come from then.
            end.run("ip", "link", "set", interface, "addrgenmode", "none")
            # Nobody is asked whether the address is taken, which would take its time.
            end.run("ip", "address", "add", f"{address}/64", "dev", interface, "nodad")
            end.run("ip", "link", "set", interface, "up")
        # The system comes to know in its own time that the other end is up, too.
        for end, interface, _ in ends:
            until(partial(end._is_up, interface))

    def _is_up(self, interface: str) -> bool:
        return " state UP " in self.run("ip", "-oneline", "link", "show", interface)
