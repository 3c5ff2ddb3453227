"""Load held: very many connections, idle or made and ended, leave a server as it was."""

import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from benchmarks.build import UnavailableError
from benchmarks.generator import Generator, Load, choose_generator
from benchmarks.peers import OURS, Server, named, start
from benchmarks.processes import memory_bytes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")

IDLE = 10_000
ACTIVE = 1000
CONNECTS = 200_000
# What may differ in memory between two looks at a server in which nothing has changed: over seven
# rounds of 11,000 connections the allocator kept up to 1.6 MiB more, and then no more.
SLACK = 2 << 20


@pytest.fixture
def generator() -> Generator:
    """The one in C: ten thousand connections and more are slow work in Python."""
    try:
        return choose_generator("c")
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
def descriptors() -> Iterator[None]:
    """As many descriptors as the system allows, for the server and the generator each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < IDLE + ACTIVE + 100:
        pytest.skip(f"the limit of descriptors is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def server(
    family: socket.AddressFamily,  # noqa: ARG001 - `host` is its address
    host: str,
    descriptors: None,  # noqa: ARG001 - inherited
) -> Iterator[Server]:
    """`echokit serve`, in a process of its own."""
    with start(named(OURS), "raw", host, None) as running:
        yield running


def _open_descriptors(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.pid}/fd"))  # noqa: PTH208 - they need not be read


def _until(holds: Callable[[], bool]) -> None:
    """Wait until it holds: a server may hear of the last ends a little after we do."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_connections_made_and_ended_leave_memory_and_descriptors_as_they_were(
    generator: Generator, server: Server
) -> None:
    churn = Load(connections=50, churn=True, count=2000)
    generator.run(churn, server.host, server.port, warmup=0, seconds=200)
    _until(lambda: _open_descriptors(server) < churn.connections)
    before = memory_bytes(server.pid)
    descriptors = _open_descriptors(server)

    many = Load(connections=50, churn=True, count=CONNECTS)
    outcome = generator.run(many, server.host, server.port, warmup=0, seconds=200)

    assert outcome.connects == outcome.messages == CONNECTS
    _until(lambda: _open_descriptors(server) <= descriptors)
    assert memory_bytes(server.pid) - before < SLACK


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_idle_connections_are_held_beside_active_ones_and_leave_nothing_behind(
    generator: Generator, server: Server
) -> None:
    descriptors = _open_descriptors(server)
    held: list[tuple[int, int]] = []

    def at(moment: str) -> None:
        if moment != "begin":
            held.append((_open_descriptors(server), memory_bytes(server.pid)))

    before = memory_bytes(server.pid)
    load = Load(connections=ACTIVE, idle=IDLE, count=100 * ACTIVE)
    for _ in range(2):
        outcome = generator.run(load, server.host, server.port, warmup=0, seconds=100, at=at)
        assert outcome.messages == load.count
        _until(lambda: _open_descriptors(server) == descriptors)

    assert [count for count, _ in held] == [descriptors + ACTIVE + IDLE] * 4
    # Less than 2 KiB each, and no more the second time.
    assert max(memory for _, memory in held) - before < 2048 * (ACTIVE + IDLE)
    assert held[2][1] - held[0][1] < SLACK
