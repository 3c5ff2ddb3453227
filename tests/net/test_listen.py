"""Listening sockets: one an address, one port for all, and what is told where that fails."""

import contextlib
import errno
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from echokit.errors import ListenError
from echokit.net import listen
from echokit.net.address import Address
from echokit.net.listen import Listeners, bind_listeners, loopback_families
from tests.conftest import AVAILABLE

V4, V6 = socket.AF_INET, socket.AF_INET6

both_families = pytest.mark.skipif(
    len(AVAILABLE) < 2, reason="this host has one address family only"
)


@pytest.fixture
def bound() -> Iterator[Callable[..., Listeners]]:
    """`bind_listeners`, and the sockets closed at the end."""
    with contextlib.ExitStack() as stack:

        def bind(*args: Any, **options: Any) -> Listeners:
            listeners = bind_listeners(*args, **options)
            stack.callback(listeners.close)
            return listeners

        yield bind


def _resolves_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[int, str]) -> None:
    """Let every host have these addresses."""

    def resolve(_host: str, port: int, *_rest: Any, **_options: Any) -> list[Address]:
        return [
            Address(V4, (literal, port)) if family == V4 else Address(V6, (literal, port, 0, 0))
            for family, literal in addresses
        ]

    monkeypatch.setattr(listen, "resolve", resolve)


def _both_loopbacks(monkeypatch: pytest.MonkeyPatch) -> None:
    _resolves_to(monkeypatch, (V4, "127.0.0.1"), (V6, "::1"))


class _Lacking(socket.socket):
    """A socket on a host that lacks what `lacks` says: a family's code at socket() or bind()."""

    at_socket: dict[int, int]
    at_bind: dict[int, int]

    def __init__(self, family: int = -1, *rest: Any, **options: Any) -> None:
        if family in self.at_socket:
            raise OSError(self.at_socket[family], "not here")
        super().__init__(family, *rest, **options)

    def bind(self, address: Any) -> None:
        if self.family in self.at_bind:
            raise OSError(self.at_bind[self.family], "not here")
        super().bind(address)


def _lacks(
    monkeypatch: pytest.MonkeyPatch, code: int, where: str, *families: socket.AddressFamily
) -> None:
    lacking = dict.fromkeys(map(int, families), code)
    at_socket, at_bind = (lacking, {}) if where == "socket" else ({}, lacking)
    kind = type("_LackingHere", (_Lacking,), {"at_socket": at_socket, "at_bind": at_bind})
    monkeypatch.setattr(socket, "socket", kind)


def _connects(address: Address) -> bool:
    with socket.socket(address.family) as sock:
        sock.settimeout(5)
        return sock.connect_ex(address.sockaddr) == 0


@both_families
@pytest.mark.parametrize("host", ["", "*"])
def test_every_address_has_a_socket_a_family_on_one_port(
    host: str, bound: Callable[..., Listeners]
) -> None:
    listeners = bound(host, 0)
    assert {address.family for address in listeners.addresses} == {V4, V6}
    assert {address.port for address in listeners.addresses} == {listeners.port}
    assert listeners.port > 0
    assert not listeners.skipped
    for family, literal in AVAILABLE.items():
        assert _connects(Address(family, (literal, listeners.port)))


def test_a_literal_is_one_listening_socket_that_does_not_block(
    family: socket.AddressFamily, host: str, bound: Callable[..., Listeners]
) -> None:
    listeners = bound(host, 0)
    [address] = listeners.addresses
    assert (address.family, address.host) == (family, host)
    assert address.port == listeners.port > 0
    [sock] = listeners.sockets
    assert not sock.getblocking()
    assert _connects(address)


def test_a_forced_family_is_the_only_one(
    family: socket.AddressFamily, bound: Callable[..., Listeners]
) -> None:
    assert [address.family for address in bound("", 0, family).addresses] == [family]


@both_families
def test_ipv6_takes_ipv6_alone_so_that_the_other_family_stays_free(
    bound: Callable[..., Listeners],
) -> None:
    for _ in range(10):
        six = bound("", 0, V6)
        assert six.sockets[0].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        # Any process may have the other family's port of that number.
        with contextlib.suppress(ListenError):
            assert bound("", six.port, V4).port == six.port
            return
    pytest.fail("the other family was never free")


def test_accepted_sockets_send_without_delay(
    family: socket.AddressFamily, host: str, bound: Callable[..., Listeners]
) -> None:
    listeners = bound(host, 0)
    [listener] = listeners.sockets
    listener.settimeout(5)
    with socket.socket(family) as client:
        client.connect((host, listeners.port))
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_backlog_is_what_was_asked_for(
    family: socket.AddressFamily, host: str, bound: Callable[..., Listeners]
) -> None:
    listeners = bound(host, 0, backlog=0)
    with socket.socket(family) as first, socket.socket(family) as second:
        first.settimeout(5)
        first.connect((host, listeners.port))
        # One waits in the queue; there is no room for another.
        second.settimeout(0.1)
        with pytest.raises(TimeoutError):
            second.connect((host, listeners.port))


def test_a_taken_port_is_told_with_its_address(host: str, bound: Callable[..., Listeners]) -> None:
    [taken] = bound(host, 0).addresses
    with pytest.raises(ListenError) as caught:
        bound(host, taken.port)
    assert str(caught.value) == f"cannot listen on {taken}: address already in use"
    assert caught.value.errno == errno.EADDRINUSE
    assert caught.value.address == str(taken)


@both_families
@pytest.mark.parametrize("order", [(V4, V6), (V6, V4)])
def test_a_port_taken_in_one_family_leaves_nothing_listening_on_the_other(
    order: tuple[socket.AddressFamily, ...],
    bound: Callable[..., Listeners],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free, taken = order
    while True:
        holder = bound(AVAILABLE[taken], 0)
        with socket.socket(free) as probe, contextlib.suppress(OSError):
            probe.bind((AVAILABLE[free], holder.port))
            # Nobody else has it in the other family.
            break
    _resolves_to(monkeypatch, *((family, AVAILABLE[family]) for family in order))
    with pytest.raises(ListenError, match="address already in use") as caught:
        bound("box", holder.port)
    assert caught.value.address == str(holder.addresses[0])
    other = Address(free, (AVAILABLE[free], holder.port))
    assert not _connects(other)


def test_an_address_of_another_host_is_told() -> None:
    with pytest.raises(ListenError) as caught:
        bind_listeners("203.0.113.1", 0)
    assert str(caught.value) == "cannot listen on 203.0.113.1:0: cannot assign requested address"
    assert caught.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.parametrize(
    ("code", "where"),
    [
        (errno.EAFNOSUPPORT, "socket"),
        (errno.EPROTONOSUPPORT, "socket"),
        (errno.EADDRNOTAVAIL, "bind"),
    ],
)
@pytest.mark.parametrize("lacking", [V4, V6])
@both_families
def test_a_family_that_the_host_lacks_is_skipped_and_told(
    lacking: socket.AddressFamily,
    code: int,
    where: str,
    bound: Callable[..., Listeners],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _both_loopbacks(monkeypatch)
    _lacks(monkeypatch, code, where, lacking)
    listeners = bound("box", 0)
    assert [address.family for address in listeners.addresses] == [V6 if lacking == V4 else V4]
    [skipped] = listeners.skipped
    assert skipped.errno == code
    assert AVAILABLE[lacking] in skipped.address


@pytest.mark.parametrize(
    ("code", "where"), [(errno.EAFNOSUPPORT, "socket"), (errno.EADDRNOTAVAIL, "bind")]
)
def test_a_host_that_lacks_every_family_is_an_error_that_names_both(
    code: int, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _both_loopbacks(monkeypatch)
    _lacks(monkeypatch, code, where, V4, V6)
    with pytest.raises(ListenError) as caught:
        bind_listeners("box", 7)
    assert str(caught.value) == "cannot listen on 127.0.0.1:7 or [::1]:7: not here"
    assert caught.value.errno == code


@pytest.mark.parametrize("code", [errno.EACCES, errno.EMFILE])
@both_families
def test_what_is_not_a_missing_family_is_not_skipped(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _both_loopbacks(monkeypatch)
    _lacks(monkeypatch, code, "bind", V6)
    with pytest.raises(ListenError) as caught:
        bind_listeners("box", 0)
    assert caught.value.errno == code
    assert caught.value.address.startswith("[::1]:")


class _Taken(socket.socket):
    """A socket whose bind() finds the number taken, wherever it is not the system that chooses."""

    left: int
    binds: list[tuple[socket.AddressFamily, int]]

    def bind(self, address: Any) -> None:
        self.binds.append((self.family, address[1]))
        if address[1] and type(self).left > 0:
            type(self).left -= 1
            raise OSError(errno.EADDRINUSE, "Address already in use")
        super().bind(address)


@both_families
@pytest.mark.parametrize("times", [1, 2, 7])
def test_a_number_that_is_taken_in_the_second_family_is_given_up_for_another(
    times: int, bound: Callable[..., Listeners], monkeypatch: pytest.MonkeyPatch
) -> None:
    _both_loopbacks(monkeypatch)
    kind = type("_TakenSome", (_Taken,), {"left": times, "binds": []})
    monkeypatch.setattr(socket, "socket", kind)
    listeners = bound("box", 0)
    assert {address.port for address in listeners.addresses} == {listeners.port}
    # In the resolver's order, whichever family the number was found with.
    assert [address.family for address in listeners.addresses] == [V4, V6]
    firsts = [family for family, port in kind.binds if port == 0]  # type: ignore[attr-defined]
    # Either family's numbers may be the ones that run out: each goes first in turn. Now and then a
    # number is really taken, which costs one more.
    assert len(firsts) > times
    assert firsts == [(V4, V6)[turn % 2] for turn in range(len(firsts))]


@both_families
def test_a_port_that_was_asked_for_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    _both_loopbacks(monkeypatch)
    kind = type("_TakenOnce", (_Taken,), {"left": 1, "binds": []})
    monkeypatch.setattr(socket, "socket", kind)
    with pytest.raises(ListenError, match="address already in use"):
        bind_listeners("box", 7)
    assert len(kind.binds) == 1  # type: ignore[attr-defined]


def test_a_number_that_never_is_free_in_both_families_is_an_error_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _both_loopbacks(monkeypatch)
    monkeypatch.setattr(listen, "_TRIES", 3)
    kind = type("_TakenAlways", (_Taken,), {"left": 1000, "binds": []})
    monkeypatch.setattr(socket, "socket", kind)
    with pytest.raises(ListenError, match="address already in use"):
        bind_listeners("box", 0)


def test_a_port_is_free_again_as_soon_as_its_listeners_are_closed(
    family: socket.AddressFamily, host: str, bound: Callable[..., Listeners]
) -> None:
    listeners = bound(host, 0)
    port = listeners.port
    listeners.sockets[0].settimeout(5)
    with socket.socket(family) as client:
        client.connect((host, port))
        accepted, _ = listeners.sockets[0].accept()
        # The side that closes first keeps the pair in TIME_WAIT.
        accepted.close()
        assert client.recv(1) == b""
    listeners.close()
    assert bound(host, port).port == port


def test_the_loopback_families_are_those_that_can_be_bound(
    family: socket.AddressFamily, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (family, host) in loopback_families()
    _lacks(monkeypatch, errno.EADDRNOTAVAIL, "bind", family)
    assert (family, host) not in loopback_families()
