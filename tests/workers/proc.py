"""What /proc says of processes (Linux), and waiting for what is to come true."""

import contextlib
import signal
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.cli.processes import DEADLINE

__all__ = [
    "children", "descriptors", "eventually", "heeds", "is_gone", "listening_port", "sockets",
    "state", "who_serves",
]  # fmt: skip

# TCP_LISTEN, as /proc/net/tcp has it.
_LISTENING = "0A"


def eventually(true: Callable[[], object], within: float = DEADLINE) -> float:
    """Wait until it is; how long that took, in seconds."""
    began = time.monotonic()
    while not true():
        waited = time.monotonic() - began
        assert waited < within, f"not so within {within:g}s: {true}"
        time.sleep(0.005)
    return time.monotonic() - began


def children(pid: int) -> list[int]:
    """The processes that a process has started and not waited for; none where it has ended."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(child) for child in found]


def state(pid: int) -> str:
    """R, S, T (stopped), Z (ended, not waited for) and so on (proc(5)); empty: no such process."""
    try:
        # The name before it may have anything in it.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one whose parent has gone may wait for somebody to notice."""
    return state(pid) in ("", "Z")


def heeds(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal, and has it now."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        text = Path(f"/proc/{pid}/status").read_text()
        masks = dict(line.split(":") for line in text.splitlines() if line.startswith("Sig"))
        bit = 1 << (number - 1)
        return bool(int(masks["SigCgt"], 16) & bit and not int(masks["SigBlk"], 16) & bit)
    return False


def descriptors(pid: int) -> dict[int, str]:
    """What each open descriptor of a process is, `socket:[123]` or a path."""
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found[int(entry.name)] = str(entry.readlink())
        except FileNotFoundError:
            continue
    return found


def sockets(pid: int) -> set[str]:
    """The sockets that a process has open."""
    return {what for what in descriptors(pid).values() if what.startswith("socket:")}


def listening_port(pid: int) -> int:
    """The port on which a process listens; 0: it does not yet."""
    own = sockets(pid)
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENING and f"socket:[{fields[9]}]" in own:
                return int(fields[1].rpartition(":")[2], 16)
    return 0


def who_serves(clients: Sequence[socket.socket], pids: Sequence[int]) -> dict[socket.socket, int]:
    """Which of the processes has the other end of each connection; those of none are left out."""
    owners = {name: pid for pid in pids for name in sockets(pid)}
    found: dict[tuple[int, int], int] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            # An address is not needed, where a port is not used twice.
            local, peer = (int(field.rpartition(":")[2], 16) for field in fields[1:3])
            if (name := f"socket:[{fields[9]}]") in owners:
                found[local, peer] = owners[name]
    ports = {sock: (sock.getpeername()[1], sock.getsockname()[1]) for sock in clients}
    return {sock: found[pair] for sock, pair in ports.items() if pair in found}
