"""What the tests of connections share."""

import select
import socket
from collections.abc import Callable, Iterator

import pytest

from echokit.net.reactor import Poller, SelectorPoller
from tests.net.stage import Stage

POLLERS: dict[str, Callable[[], Poller] | None] = {
    "epoll": getattr(select, "epoll", None),
    "selectors": SelectorPoller,
}


@pytest.fixture(params=POLLERS)
def poller(request: pytest.FixtureRequest) -> Poller:
    """Each way to ask the system; the reactor closes it."""
    make = POLLERS[request.param]
    if make is None:
        pytest.skip("this system has no epoll")
    return make()


@pytest.fixture
def stage(family: socket.AddressFamily, host: str) -> Iterator[Stage]:
    """A connected pair of sockets of each family."""
    made = Stage(family, host)
    yield made
    made.close()
