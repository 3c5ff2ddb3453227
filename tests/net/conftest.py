"""What the tests of connections share."""

import socket
from collections.abc import Iterator

import pytest

from tests.net.stage import Stage


@pytest.fixture
def stage(family: socket.AddressFamily, host: str) -> Iterator[Stage]:
    """A connected pair of sockets of each family."""
    made = Stage(family, host)
    yield made
    made.close()
