"""Connecting across addresses: who is tried when, who wins, and what is told of the losers."""

import contextlib
import errno
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from echokit.errors import DialError, ResolveError
from echokit.net import dial as dialling
from echokit.net.address import Address
from echokit.net.connecting import connect_error
from echokit.net.dial import ATTEMPT_DELAY, Dialed, dial, interleaved
from echokit.net.reactor import WRITE, Reactor, SelectorPoller
from tests.cli.peers import reset
from tests.conftest import AVAILABLE

V4, V6 = socket.AF_INET, socket.AF_INET6

# Far longer than anything here takes: what waits for it has failed.
LONG = 20.0


def _address(sock: socket.socket) -> Address:
    return Address(socket.AddressFamily(sock.family), sock.getsockname())


@pytest.fixture
def place(family: socket.AddressFamily, host: str) -> Iterator["_Place"]:
    """Addresses of `family` that answer, refuse or are silent."""
    with contextlib.ExitStack() as stack:
        yield _Place(family, host, stack)


class _Place:
    def __init__(
        self, family: socket.AddressFamily, host: str, stack: contextlib.ExitStack
    ) -> None:
        self._family = family
        self._host = host
        self._stack = stack

    def _bound(self) -> socket.socket:
        sock = self._stack.enter_context(socket.socket(self._family))
        sock.bind((self._host, 0))
        return sock

    def refusing(self) -> Address:
        """A port that is taken, so that nobody else gets it, and that nobody listens on."""
        return _address(self._bound())

    def answering(self) -> Address:
        """A port that somebody listens on."""
        sock = self._bound()
        sock.listen()
        return _address(sock)

    def silent(self) -> Address:
        """A black hole: the queue is full, and what comes on top is not even refused."""
        sock = self._bound()
        sock.listen(0)
        filler = self._stack.enter_context(socket.socket(self._family))
        filler.settimeout(5)
        filler.connect(sock.getsockname())
        return _address(sock)


Dials = Callable[..., Dialed]


@pytest.fixture
def dials(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dials]:
    """`dial("box", 7)` with the addresses that it resolves to; what connected is closed."""
    with contextlib.ExitStack() as stack:

        def run(*addresses: Address, **options: Any) -> Dialed:
            monkeypatch.setattr(dialling, "resolve", lambda *_asked, **_more: list(addresses))
            dialed = dial("box", 7, **options)
            stack.enter_context(dialed.sock)
            return dialed

        yield run


def test_families_take_turns_beginning_with_the_first() -> None:
    def named(*pairs: tuple[socket.AddressFamily, str]) -> list[Address]:
        return [Address(family, (name, 7)) for family, name in pairs]

    addresses = named((V6, "a"), (V6, "b"), (V6, "c"), (V4, "d"), (V4, "e"))
    assert [address.sockaddr[0] for address in interleaved(addresses)] == ["a", "d", "b", "e", "c"]
    addresses = named((V4, "a"), (V6, "b"), (V6, "c"), (V6, "d"))
    assert [address.sockaddr[0] for address in interleaved(addresses)] == ["a", "b", "c", "d"]
    assert interleaved([]) == []


def test_the_delay_is_the_one_that_the_standard_recommends() -> None:
    assert ATTEMPT_DELAY == 0.25


def test_a_literal_is_connected_to(family: socket.AddressFamily, host: str, place: _Place) -> None:
    there = place.answering()
    for forced in (socket.AF_UNSPEC, family):
        dialed = dial(host, there.port, forced)
        with dialed.sock as sock:
            assert dialed.address == there
            assert sock.getpeername() == there.sockaddr
            assert not sock.getblocking()
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            [attempt] = dialed.attempts
            assert attempt.connected
            assert attempt.error is None
            assert 0 <= dialed.resolved <= attempt.began <= attempt.ended <= dialed.connected


def test_one_that_refuses_is_followed_at_once(place: _Place, dials: Dials) -> None:
    refusing, answering = place.refusing(), place.answering()
    dialed = dials(refusing, answering, attempt_delay=LONG, timeout=LONG)
    assert dialed.address == answering
    assert dialed.connected < ATTEMPT_DELAY
    lost, won = dialed.attempts
    assert lost.address == refusing
    assert lost.error is not None
    assert lost.error.errno == errno.ECONNREFUSED
    assert not lost.connected
    assert won.connected
    assert won.began >= lost.ended


def test_one_that_is_silent_is_joined_by_the_next_after_the_delay(
    place: _Place, dials: Dials
) -> None:
    silent, answering = place.silent(), place.answering()
    dialed = dials(silent, answering, attempt_delay=0.05)
    assert dialed.address == answering
    given_up, won = dialed.attempts
    # It was still trying when the other one won: that is no failure of its own.
    assert (given_up.address, given_up.connected, given_up.error) == (silent, False, None)
    assert won.connected
    assert given_up.began + 0.05 <= won.began <= won.ended <= given_up.ended < 1


def test_one_that_refuses_does_not_cut_short_those_that_run(place: _Place, dials: Dials) -> None:
    silent, refusing, answering = place.silent(), place.refusing(), place.answering()
    dialed = dials(silent, refusing, answering, attempt_delay=0.05)
    assert [attempt.address for attempt in dialed.attempts] == [silent, refusing, answering]
    first, second, third = dialed.attempts
    assert second.began >= first.began + 0.05
    assert third.began < second.began + 0.05
    assert third.connected


class _Counted(socket.socket):
    """A socket of whose making and closing a tally is kept."""

    open: set[socket.socket]

    def __init__(self, *options: Any, **more: Any) -> None:
        super().__init__(*options, **more)
        if self.type == socket.SOCK_STREAM and self.family in (V4, V6):
            self.open.add(self)

    def close(self) -> None:
        self.open.discard(self)
        super().close()


@pytest.fixture
def open_sockets(monkeypatch: pytest.MonkeyPatch) -> set[socket.socket]:
    """The TCP sockets that have been made since and are not closed."""
    kind = type("_CountedHere", (_Counted,), {"open": set()})
    monkeypatch.setattr(socket, "socket", kind)
    made: set[socket.socket] = kind.open  # type: ignore[attr-defined]
    return made


def test_the_losers_are_closed(
    place: _Place, dials: Dials, open_sockets: set[socket.socket]
) -> None:
    silent, answering = place.silent(), place.answering()
    before = set(open_sockets)
    dialed = dials(silent, silent, answering, attempt_delay=0.02)
    assert len(dialed.attempts) == 3
    assert open_sockets - before == {dialed.sock}


def test_nothing_stays_open_where_nobody_answers(
    place: _Place, dials: Dials, open_sockets: set[socket.socket]
) -> None:
    silent, refusing = place.silent(), place.refusing()
    before = set(open_sockets)
    with pytest.raises(DialError):
        dials(silent, refusing, attempt_delay=0.02, timeout=0.1)
    assert open_sockets == before


def test_where_all_fail_each_address_is_told_with_its_own_reason(
    place: _Place, dials: Dials
) -> None:
    refusing, other = place.refusing(), place.refusing()
    # TCP cannot broadcast: the system refuses this by itself, whatever the routes.
    unreachable = Address(V4, ("255.255.255.255", 7))
    with pytest.raises(DialError) as caught:
        dials(refusing, unreachable, other)
    failures = dict(caught.value.failures)
    assert list(failures) == [str(refusing), str(unreachable), str(other)]
    assert failures[str(refusing)].errno == errno.ECONNREFUSED
    assert failures[str(unreachable)].errno in (errno.ENETUNREACH, errno.EACCES)
    assert str(caught.value).startswith(
        f"cannot connect to box:7: {refusing}: connection refused; {unreachable}: "
    )
    assert str(caught.value).endswith(f"; {other}: connection refused")
    assert caught.value.errno == errno.ECONNREFUSED
    assert caught.value.endpoint == "box:7"


@pytest.mark.one_family
def test_the_timeout_tells_every_address_also_those_not_tried(place: _Place, dials: Dials) -> None:
    refusing, silent, waiting = place.refusing(), place.silent(), place.answering()
    began = time.monotonic()
    with pytest.raises(DialError) as caught:
        dials(refusing, silent, waiting, attempt_delay=LONG, timeout=0.2)
    assert 0.2 <= time.monotonic() - began < 2
    assert str(caught.value) == (
        f"cannot connect to box:7: {refusing}: connection refused;"
        f" {silent}: no answer within 0.2s; {waiting}: not tried within 0.2s"
    )
    assert caught.value.errno == errno.ETIMEDOUT


def _lack(monkeypatch: pytest.MonkeyPatch, lacking: socket.AddressFamily) -> None:
    class _Lacking(socket.socket):
        def __init__(self, family: int = -1, *rest: Any, **options: Any) -> None:
            if family == lacking:
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family, *rest, **options)

    monkeypatch.setattr(socket, "socket", _Lacking)


def test_a_family_that_the_host_lacks_is_a_failure_like_others(
    place: _Place, dials: Dials, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering = place.answering()
    lacking = V4 if answering.family == V6 else V6
    _lack(monkeypatch, lacking)
    first = Address(lacking, ("box", 7, 0, 0))
    dialed = dials(first, answering, attempt_delay=LONG)
    assert dialed.address == answering
    assert dialed.attempts[0].error is not None
    assert dialed.attempts[0].error.errno == errno.EAFNOSUPPORT


def test_any_number_of_addresses_may_fail_at_once(
    dials: Dials, monkeypatch: pytest.MonkeyPatch
) -> None:
    _lack(monkeypatch, V4)
    many = 2 * sys.getrecursionlimit()
    with pytest.raises(DialError) as caught:
        dials(*[Address(V4, ("192.0.2.1", 7))] * many, attempt_delay=LONG, timeout=LONG)
    assert caught.value.errno == errno.EAFNOSUPPORT
    assert str(caught.value).count("192.0.2.1:7") == many


@pytest.mark.skipif(len(AVAILABLE) < 2, reason="this host has one address family only")
@pytest.mark.parametrize("listening", [V4, V6])
def test_a_server_on_either_family_is_reached(
    listening: socket.AddressFamily, dials: Dials
) -> None:
    with socket.socket(V4) as four, socket.socket(V6) as six:
        four.bind(("127.0.0.1", 0))
        six.bind(("::1", 0))
        (four if listening == V4 else six).listen()
        dialed = dials(_address(six), _address(four), attempt_delay=LONG)
        assert dialed.address.family == listening


class _Itself(socket.socket):
    """A socket to which the system gives, as it may, the very port that it connects to."""

    def connect(self, address: Any) -> None:
        self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.bind(address)
        super().connect(address)


def test_a_socket_that_meets_itself_is_refused(
    family: socket.AddressFamily, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(family) as sock:
        sock.bind((host, 0))
        port = sock.getsockname()[1]
    monkeypatch.setattr(socket, "socket", _Itself)
    with pytest.raises(DialError, match=r"connection refused$") as caught:
        dial(host, port)
    assert caught.value.errno == errno.ECONNREFUSED


def test_nobody_listening_is_told_for_a_literal(host: str, place: _Place) -> None:
    refusing = place.refusing()
    with pytest.raises(DialError) as caught:
        dial(host, refusing.port)
    assert str(caught.value) == f"cannot connect to {refusing}: {refusing}: connection refused"


def test_the_resolver_counts_against_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    threads: list[threading.Thread] = []

    def hangs(*asked: Any) -> list[Any]:
        if not asked[-1] & socket.AI_NUMERICHOST:
            threads.append(threading.current_thread())
            answer.wait(30)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    began = time.monotonic()
    try:
        with pytest.raises(ResolveError, match=r"no answer within 0\.1s"):
            dial("box", 7, timeout=0.1)
        assert time.monotonic() - began < 2
    finally:
        answer.set()
        for thread in threads:
            thread.join(10)


@pytest.mark.one_family
def test_a_slow_resolver_leaves_the_attempts_what_remains(
    place: _Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = place.silent()

    def slow(*_asked: Any, **_options: Any) -> list[Address]:
        # The passing of time is what this is about.
        threading.Event().wait(0.15)
        return [silent]

    monkeypatch.setattr(dialling, "resolve", slow)
    began = time.monotonic()
    with pytest.raises(DialError, match=r"no answer within 0\.2s"):
        dial("box", 7, timeout=0.2)
    assert 0.2 <= time.monotonic() - began < 0.33


class _Together:
    """A poller to which nothing is ready until two attempts run: then they end in one round."""

    def __init__(self) -> None:
        self._poller = SelectorPoller()
        self._attempts = 0

    def register(self, fd: int, eventmask: int, /) -> None:
        self._attempts += eventmask == WRITE
        self._poller.register(fd, eventmask)

    def modify(self, fd: int, eventmask: int, /) -> None:
        self._poller.modify(fd, eventmask)

    def unregister(self, fd: int, /) -> None:
        self._poller.unregister(fd)

    def poll(self, timeout: float | None = None, maxevents: int = -1, /) -> list[tuple[int, int]]:
        return self._poller.poll(timeout, maxevents) if self._attempts > 1 else []

    def close(self) -> None:
        self._poller.close()


class _SlowToSay(socket.socket):
    """A socket that never says at once that it has connected."""

    def connect(self, address: Any, /) -> None:
        with contextlib.suppress(BlockingIOError):
            super().connect(address)
        raise BlockingIOError(errno.EINPROGRESS, "in progress")


def test_of_two_that_connect_in_one_round_one_wins_and_the_other_is_closed(
    place: _Place, dials: Dials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialling, "Reactor", lambda: Reactor(poller=_Together()))
    monkeypatch.setattr("echokit.net.dial.socket.socket", _SlowToSay)
    # What stays open is found by the `no_leaks` fixture.
    dialed = dials(place.answering(), place.answering(), attempt_delay=0.001)
    assert [attempt.connected for attempt in dialed.attempts] == [True, False]


@pytest.mark.parametrize("half_closed", [False, True])
def test_one_that_had_connected_and_was_reset_before_it_was_asked_has_connected(
    family: socket.AddressFamily, host: str, half_closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server((host, 0), family=family) as listener:
        found = []

        def after_a_reset(sock: socket.socket) -> OSError | None:
            accepted = listener.accept()[0]
            if half_closed:
                accepted.shutdown(socket.SHUT_WR)
                assert select.select([sock], [], [], LONG)[0]
            reset(accepted)
            # An error comes unasked.
            reset_seen = select.poll()
            reset_seen.register(sock, 0)
            assert reset_seen.poll(LONG * 1000)
            found.append(connect_error(sock))
            return found[-1]

        monkeypatch.setattr(dialling, "connect_error", after_a_reset)
        dialed = dial(host, listener.getsockname()[1])
        dialed.sock.close()
    told = errno.EPIPE if half_closed else errno.ECONNRESET
    assert [error.errno for error in found if error] == [told]
    assert [attempt.connected for attempt in dialed.attempts] == [True]
