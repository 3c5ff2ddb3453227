"""One attempt to connect, without waiting."""

import errno
import select
import socket
from collections.abc import Callable

import pytest

from echokit.net.address import Address
from echokit.net.connecting import begin_connect, connect_error
from tests.cli.peers import reserved_port


@pytest.fixture
def address(family: socket.AddressFamily, host: str) -> Callable[[int], Address]:
    """The address of a port, in each family in turn."""
    rest = (0, 0) if family == socket.AF_INET6 else ()
    return lambda port: Address(family, (host, port, *rest))


def _decided(sock: socket.socket) -> bool:
    return bool(select.select([], [sock], [], 5)[1])


def test_a_connect_that_succeeds_has_no_error(
    family: socket.AddressFamily, host: str, address: Callable[[int], Address]
) -> None:
    with (
        socket.create_server((host, 0), family=family) as listener,
        begin_connect(address(listener.getsockname()[1])) as sock,
    ):
        assert _decided(sock)
        assert connect_error(sock) is None
        assert sock.getblocking() is False
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_refusal_is_told(host: str, address: Callable[[int], Address]) -> None:
    with reserved_port(host) as port, begin_connect(address(port)) as sock:
        assert _decided(sock)
        error = connect_error(sock)
    assert isinstance(error, ConnectionRefusedError)
    assert error.errno == errno.ECONNREFUSED


def test_what_cannot_even_begin_raises_and_leaves_nothing_open() -> None:
    # The fixture that looks for descriptors left open is the second half of this claim.
    with pytest.raises(OSError, match=r".") as caught:
        begin_connect(Address(socket.AF_INET, ("255.255.255.255", 7)))
    assert caught.value.errno in (errno.EACCES, errno.ENETUNREACH, errno.EPERM)
