"""What loads are made of in these tests."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from echokit import Raw
from echokit.loadgen.generator import Generator
from echokit.loadgen.payloads import Payloads
from echokit.loadgen.plan import Plan
from echokit.net.address import Address
from tests.loadgen.servers import Answer, FakeServer

# A generator to a server that answers in a given way; what is given by name goes into its plan.
Loading = Callable[..., Generator]


@pytest.fixture
def address(family: socket.AddressFamily, host: str) -> Callable[[int], Address]:
    """The address of a port, in each family in turn."""
    rest = (0, 0) if family == socket.AF_INET6 else ()
    return lambda port: Address(family, (host, port, *rest))


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """What is to be closed after the test."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def loading(host: str, address: Callable[[int], Address], opened: ExitStack) -> Loading:
    """Makes generators to servers that answer in a given way."""

    def load(answer: Answer | int, sizes: tuple[int, int] = (64, 64), **given: Any) -> Generator:
        port = answer
        if not isinstance(port, int):
            port = opened.enter_context(FakeServer(host, port)).port
        settings: dict[str, Any] = {
            "connections": 1,
            "in_flight": 1,
            "rate": None,
            "churn": False,
            "framing": Raw(),
            "chunk_size": 65536,
            "timeout": 5.0,
            "connect_timeout": 5.0,
        }
        plan = Plan(address=address(port), **(settings | given))
        generator = Generator(plan, Payloads(7, *sizes, plan.framing))
        opened.callback(generator.close)
        return generator

    return load


@pytest.fixture
def full_queue(family: socket.AddressFamily, host: str, opened: ExitStack) -> Callable[[], int]:
    """A port at which further connects hang: its queue has one place, which is taken."""

    def make() -> int:
        listener = opened.enter_context(socket.socket(family))
        listener.bind((host, 0))
        listener.listen(0)
        opened.enter_context(socket.create_connection(listener.getsockname()[:2]))
        port: int = listener.getsockname()[1]
        return port

    return make
