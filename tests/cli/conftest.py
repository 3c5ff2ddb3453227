"""Servers for the commands to talk to."""

import sys
from collections.abc import Iterator

import pytest

from echokit import Delimited, EchoServer, LengthPrefixed, Raw
from echokit.framing.base import Framing

FRAMINGS: dict[str, Framing] = {
    "raw": Raw(),
    "length-prefixed": LengthPrefixed(),
    "delimited": Delimited(),
}


@pytest.fixture(autouse=True)
def _forks(forked: None) -> None:
    """What `run` needs."""


@pytest.fixture(params=[1, pytest.param(2, marks=pytest.mark.slow)], ids="workers={}".format)
def workers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many processes `echokit serve` serves with: one, and where time is no matter two."""
    count: int = request.param
    if count > 1 and sys.platform != "linux":
        pytest.skip("workers are Linux's")
    monkeypatch.setenv("ECHOKIT_TEST_WORKERS", str(count))
    return count


@pytest.fixture(params=FRAMINGS)
def framing(request: pytest.FixtureRequest) -> str:
    """The name of each built-in framing in turn."""
    name: str = request.param
    return name


@pytest.fixture
def echo_server() -> Iterator[EchoServer]:
    """An echo server for raw streams, on every address of this host."""
    with EchoServer("*", 0, chunk_size=65536) as server:
        yield server


@pytest.fixture
def framed_server(framing: str) -> Iterator[EchoServer]:
    """An echo server for `framing`, on every address of this host."""
    with EchoServer("*", 0, chunk_size=65536, framing=FRAMINGS[framing]) as server:
        yield server
