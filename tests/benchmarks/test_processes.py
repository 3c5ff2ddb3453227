"""What Linux tells about processes: held against processes that do a known amount."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.processes import choose_cores, cpu_us, listening_port, memory_bytes, pinned, tree

BURNED = 0.1
HELD = 32 << 20


@contextmanager
def _child(code: str) -> Iterator[tuple[int, list[str]]]:
    """A Python that runs `code` and then waits; its pid, and the words that it has printed."""
    waiting = f"import sys\n{code}\nprint('done', flush=True)\nsys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", waiting], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        words = []
        for line in process.stdout:
            if line.strip() == "done":
                break
            words.append(line.strip())
        yield process.pid, words
        assert process.stdin is not None
        process.stdin.close()


BURN = f"""
import time
def burn():
    begun = time.thread_time()
    while time.thread_time() - begun < {BURNED}:
        pass
"""
THREADED = (
    BURN
    + """
import threading
other = threading.Thread(target=lambda: (burn(), stay.wait()), daemon=True)
stay = threading.Event()
other.start()
burn()
while not time.process_time() >= 2 * {BURNED}:
    pass
""".replace("{BURNED}", str(BURNED))
)
BURN_AND_STAY = BURN + "burn()\nprint(1, flush=True)\ntime.sleep(60)"
LIVING = f"""
import subprocess
child = subprocess.Popen(
    [sys.executable, "-c", {BURN_AND_STAY!r}],
    stdout=subprocess.PIPE,
)
child.stdout.readline()
import atexit
atexit.register(child.wait)
atexit.register(child.kill)
"""
ENDED = f"""
import subprocess
subprocess.run([sys.executable, "-c", {BURN + "burn()"!r}])
"""


@pytest.mark.parametrize(
    ("code", "burned"),
    [
        pytest.param(BURN + "burn()", 1, marks=pytest.mark.slow),
        pytest.param(THREADED, 2, marks=pytest.mark.slow),
        (LIVING, 1),
        pytest.param(ENDED, 1, marks=pytest.mark.slow),
    ],
    ids=["itself", "a thread", "a living child", "a child that has ended"],
)
def test_cpu_time_counts_threads_and_children(code: str, burned: int) -> None:
    with _child(code) as (pid, _):
        # It has said that it is done, and may still be on its way to where it waits.
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
        once = cpu_us(pid)
        # What it has had stays what it is.
        again = cpu_us(pid)
        os.kill(pid, signal.SIGCONT)
    # To a tick of each kind, user and system, for a child that has ended.
    assert once >= burned * BURNED * 1e6 - 20_000
    assert again == pytest.approx(once, abs=2000)


def test_cpu_time_of_one_that_waits_is_little() -> None:
    with _child("") as (pid, _):
        before = cpu_us(pid)
        with _child(BURN + "burn()"):
            pass
        assert cpu_us(pid) - before < 10_000


def test_memory_counts_what_is_held_and_children() -> None:
    child = f"held = bytearray(b'x' * {HELD})"
    with _child("") as (pid, _):
        bare = memory_bytes(pid)
    with _child(child) as (pid, _):
        holding = memory_bytes(pid)
    forking = f"import os\n{child}\npid = os.fork()\nif not pid: sys.stdin.read(); os._exit(0)"
    with _child(forking) as (pid, _):
        shared = memory_bytes(pid)
    assert 0 < bare < 64 << 20
    assert holding - bare == pytest.approx(HELD, abs=4 << 20)
    # What both share counts once.
    assert shared - bare == pytest.approx(HELD, abs=8 << 20)


def test_the_tree_has_every_descendant_and_nobody_else() -> None:
    code = "import os\nif not os.fork(): sys.stdin.read(); os._exit(0)\nprint(os.getpid())"
    with _child(code) as (pid, _), _child("") as (other, _):
        found = tree(pid)
        assert found[0] == pid
        assert len(found) == 2
        assert other not in found
        assert {pid, other, *found} <= set(tree(os.getpid()))


def test_a_port_is_told_once_something_listens(family: socket.AddressFamily, host: str) -> None:
    listening = f"""
import socket
sock = socket.socket({int(family)})
sock.bind(({host!r}, 0))
{{listen}}
print(sock.getsockname()[1])
"""
    with _child(listening.format(listen="")) as (pid, _):
        assert listening_port(pid) is None
    with _child(listening.format(listen="sock.listen()")) as (pid, words):
        assert listening_port(pid) == int(words[-1])


def test_what_is_started_while_pinned_runs_there_and_we_do_not() -> None:
    before = os.sched_getaffinity(0)
    core = min(before)
    with pinned(core):
        assert os.sched_getaffinity(0) == {core}
        with _child("import os\nprint(os.sched_getaffinity(0))") as (_, words):
            assert words == [str({core})]
    assert os.sched_getaffinity(0) == before


def test_server_and_load_have_a_core_each_where_there_are_two() -> None:
    before = os.sched_getaffinity(0)
    cores = choose_cores()
    if len(before) > 1:
        assert {cores.server, cores.load} <= before
        assert cores.server != cores.load
    with pinned(min(before)):
        assert "share one core" in str(choose_cores())


@pytest.mark.parametrize(
    ("usable", "server", "load", "servers", "loads"),
    [
        ({0, 1}, 0, 1, [0, 1], [1]),
        ({0, 1, 2}, 0, 2, [0, 1], [2, 1]),
        ({0, 1, 2, 3}, 0, 2, [0, 1], [2, 1]),
        ({0, 1, 2, 3, 4, 5}, 0, 2, [0, 4], [2, 4]),
    ],
)
def test_two_processes_have_cores_that_share_nothing_where_there_are_so_many(
    monkeypatch: pytest.MonkeyPatch,
    usable: set[int],
    server: int,
    load: int,
    servers: list[int],
    loads: list[int],
) -> None:
    # Two threads to a core, as 0 and 1 are.
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: usable)
    monkeypatch.setattr(
        "benchmarks.processes._siblings", lambda core: {core & ~1, core | 1} & usable
    )
    cores = choose_cores()
    assert (cores.server, cores.load) == (server, load)
    assert (cores.servers, cores.loads) == (servers, loads)


def test_what_is_started_while_pinned_to_several_may_use_them_all() -> None:
    usable = os.sched_getaffinity(0)
    some = sorted(usable)[:2]
    with pinned(some), _child("import os\nprint(sorted(os.sched_getaffinity(0)))") as (_, words):
        assert words == [str(some)]
    with pinned([]):
        assert os.sched_getaffinity(0) == usable
