"""What Linux tells about a process and all that it has started: CPU time, memory, ports.

And how one is started: on which cores, and so that no interrupt comes in between.
"""

import os
import re
import signal
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "Cores",
    "choose_cores",
    "cpu_us",
    "listening_port",
    "memory_bytes",
    "pinned",
    "tree",
    "uninterrupted",
]

_TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")
_LISTENING = "0A"


def tree(pid: int) -> list[int]:
    """`pid` and every living process that descends from it."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (fields := _stat(int(folder.name))):
            children.setdefault(int(fields[1]), []).append(int(folder.name))
    found = [pid]
    for process in found:
        found += children.get(process, [])
    return found


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat that follow the name (proc_pid_stat(5)); none if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def cpu_us(pid: int) -> float:
    """The CPU time that `pid` and its descendants have had, in us.

    Of the living to the nanosecond, every thread; of those that have ended and been waited for,
    in the system's ticks (10 ms).
    """
    return sum(map(_own_us, tree(pid)))


def _own_us(pid: int) -> float:
    nanoseconds = 0
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            nanoseconds += int(task.read_text().split()[0])
        except OSError:
            continue
    fields = _stat(pid)
    # cutime and cstime: the 16th and 17th of all fields.
    ended = int(fields[13]) + int(fields[14]) if fields else 0
    return nanoseconds / 1e3 + ended * _TICK_US


def memory_bytes(pid: int) -> int:
    """What `pid` and its descendants hold of memory that no file backs, in bytes.

    Shared pages count by their share (PSS). Pages of files (libraries) are left out: their share
    changes with every other process that comes and goes.
    """
    found = 0
    for process in tree(pid):
        try:
            text = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        # Kernels before 5.4 do not split the share.
        match = re.search(r"^Pss_Anon:\s+(\d+) kB$", text, re.MULTILINE) or re.search(
            r"^Pss:\s+(\d+) kB$", text, re.MULTILINE
        )
        found += int(match[1]) * 1024 if match else 0
    return found


def listening_port(pid: int) -> int | None:
    """The port that `pid` or a descendant listens on; None while there is none."""
    sockets = set()
    for process in tree(pid):
        try:
            sockets |= {str(fd.readlink()) for fd in Path(f"/proc/{process}/fd").iterdir()}
        except OSError:
            continue
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTENING and f"socket:[{fields[9]}]" in sockets:
                return int(fields[1].rpartition(":")[2], 16)
    return None


@dataclass(frozen=True)
class Cores:
    """Which core the server runs on, and which the load; None where there is only one.

    Attributes:
        server: For a server of one process.
        load: For a load of one process.
        rest: Those that are left.
    """

    server: int | None
    load: int | None
    rest: tuple[int, ...] = ()

    @property
    def servers(self) -> list[int]:
        """For a server of two processes: the load's is one of them only if there is no third."""
        return _known(self.server, *(self.rest[:1] or [self.load]))

    @property
    def loads(self) -> list[int]:
        """For a load of two processes: never the server's, and so only one if there is no third."""
        return _known(self.load, *self.rest[:1])

    def __str__(self) -> str:
        if self.server is None:
            return "not pinned: server and load share one core"
        return f"server on core {self.server}, load on core {self.load}"


def _known(*cores: int | None) -> list[int]:
    return [core for core in cores if core is not None]


def choose_cores() -> Cores:
    """The cores that this process may use, no two threads of one if that can be helped."""
    usable = sorted(os.sched_getaffinity(0))
    apart: list[int] = []
    for core in usable:
        if not _siblings(core).intersection(apart):
            apart.append(core)
    ordered = [*apart, *(core for core in usable if core not in apart)]
    return Cores(ordered[0], ordered[1], tuple(ordered[2:])) if ordered[1:] else Cores(None, None)


def _siblings(core: int) -> set[int]:
    path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    found: set[int] = set()
    try:
        listed = path.read_text().strip().split(",")
    except OSError:
        return found
    for part in listed:
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


@contextmanager
def pinned(cores: int | Collection[int] | None) -> Iterator[None]:
    """What is started in this block runs on `cores`, with all that it starts; None: on any."""
    wanted = _known(cores) if cores is None or isinstance(cores, int) else cores
    before = os.sched_getaffinity(0)
    try:
        if wanted:
            os.sched_setaffinity(0, wanted)
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """SIGINT and SIGTERM wait until this block ends; only in the main thread."""
    # Handled, not blocked: what is started in the block would inherit that they are blocked.
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _frame: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])
