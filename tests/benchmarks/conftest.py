"""The servers and the load generators, compiled once."""

import signal
import socket
import sys
from collections.abc import Iterator

import pytest

from benchmarks.build import UnavailableError, compiler
from benchmarks.generator import Generator, choose_generator
from benchmarks.peers import LIMIT, Peer, Server, named, start


@pytest.fixture(autouse=True)
def linux() -> None:
    """What is measured comes from Linux's /proc."""
    if sys.platform != "linux":
        pytest.skip("the benchmarks are for Linux")


@pytest.fixture
def c_compiler() -> str:
    """The C compiler, or a skipped test."""
    try:
        return compiler()
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
def sigterm() -> Iterator[None]:
    """What SIGTERM does is afterwards as before."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(params=["c", "python"])
def generator(request: pytest.FixtureRequest) -> Generator:
    """Each load generator in turn."""
    if request.param == "c":
        request.getfixturevalue("c_compiler")
    return choose_generator(request.param)


@pytest.fixture
def c_peer(c_compiler: str) -> Peer:  # noqa: ARG001 - skips where there is none
    """The C echo server, to be started."""
    return named(LIMIT)


@pytest.fixture(params=["raw", "length-prefixed"])
def framing(request: pytest.FixtureRequest) -> str:
    """Each framing that the C server speaks."""
    name: str = request.param
    return name


@pytest.fixture
def c_server(
    c_peer: Peer,
    family: socket.AddressFamily,  # noqa: ARG001 - `host` is its address
    host: str,
    framing: str,
) -> Iterator[Server]:
    """A running C echo server for `framing`."""
    with start(c_peer, framing, host, None) as server:
        yield server
