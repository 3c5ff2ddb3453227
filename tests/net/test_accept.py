"""Taking connections from the queues: as long as there is room, and through shortages."""

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from echokit.net import accept
from echokit.net.accept import Acceptor
from echokit.net.address import Sockaddr
from echokit.net.listen import Listeners, bind_listeners
from echokit.net.reactor import Reactor

GONE = ["ECONNABORTED", "EPERM", "EPROTO", "ENETDOWN", "ENOPROTOOPT", "EHOSTDOWN", "ENONET"]
GONE += ["EHOSTUNREACH", "EOPNOTSUPP", "ENETUNREACH"]


class _Door:
    """An acceptor with a listener on each family, and what it says."""

    def __init__(self, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
        # Half a second would be long here.
        monkeypatch.setattr(accept, "_SHORTAGE_PAUSE", 0.02)
        self.reactor = Reactor()
        self.listeners: Listeners = bind_listeners(host, 0)
        self.port = self.listeners.port
        self.family = self.listeners.sockets[0].family
        self.host = host
        self.room = 1000
        self.taken: list[tuple[socket.socket, Sockaddr]] = []
        self.fulls = 0
        self.failures: list[tuple[int | None, bool]] = []
        self.acceptor = Acceptor(
            self.reactor, self.listeners, lambda: self.room, self._take, self._full, self._failed
        )

    def _take(self, fd: int, peer: Sockaddr) -> None:
        self.room -= 1
        self.taken.append((socket.socket(fileno=fd), peer))

    def _full(self) -> None:
        self.fulls += 1

    def _failed(self, error: OSError, short: bool) -> None:
        self.failures.append((error.errno, short))

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=10)

    def turn(self, seconds: float = 0.0) -> None:
        """Let the reactor handle what is ready, and what comes in so long."""
        self.reactor.call_later(seconds, self.reactor.stop)
        self.reactor.run()

    def close(self) -> None:
        self.acceptor.close()
        for sock, _ in self.taken:
            sock.close()
        self.reactor.close()


@pytest.fixture
def door(host: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Door]:
    made = _Door(host, monkeypatch)
    with contextlib.closing(made):
        yield made


@pytest.fixture
def connect(door: _Door) -> Iterator[Callable[[int], list[socket.socket]]]:
    """Connects so many clients."""
    with contextlib.ExitStack() as stack:
        yield lambda number: [stack.enter_context(door.connect()) for _ in range(number)]


Connect = Callable[[int], list[socket.socket]]


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Lets the next calls of accept() fail with these, one each; hands out those that are left."""

    def begin(*codes: int) -> list[int]:
        left = list(codes)
        real = socket.socket._accept  # type: ignore[attr-defined] # no public name

        def failing(sock: socket.socket) -> tuple[int, Any]:
            if left:
                code = left.pop(0)
                raise OSError(code, os.strerror(code))
            accepted: tuple[int, Any] = real(sock)
            return accepted

        monkeypatch.setattr(socket.socket, "_accept", failing)
        return left

    return begin


def test_what_is_taken_does_not_block_and_comes_with_its_peer(
    door: _Door, connect: Connect
) -> None:
    (client,) = connect(1)
    door.turn()
    ((sock, peer),) = door.taken
    assert not os.get_blocking(sock.fileno())
    assert peer == client.getsockname()
    assert door.failures == []


def test_more_than_a_batch_are_taken_in_several_turns(door: _Door, connect: Connect) -> None:
    connect(130)
    door.turn()
    assert len(door.taken) == 64
    door.turn()
    assert len(door.taken) == 128
    door.turn()
    assert len(door.taken) == 130


def test_without_room_they_stay_in_the_queue_until_it_resumes(
    door: _Door, connect: Connect
) -> None:
    door.room = 3
    clients = connect(5)
    door.turn()
    assert (len(door.taken), door.fulls, door.acceptor.paused) == (3, 0, False)
    # That others wait is seen at the next look.
    door.turn()
    assert (len(door.taken), door.fulls, door.acceptor.paused) == (3, 1, True)
    # It does not look any more, so it says nothing more either.
    door.turn(0.02)
    assert (len(door.taken), door.fulls) == (3, 1)
    door.room = 1
    door.acceptor.resume()
    door.turn()
    door.turn()
    assert (len(door.taken), door.fulls, door.acceptor.paused) == (4, 2, True)
    door.room = 100
    door.acceptor.resume()
    door.turn()
    assert (len(door.taken), door.fulls, door.acceptor.paused) == (5, 2, False)
    # In the order in which they came, and none was lost.
    assert [peer[1] for _, peer in door.taken] == [sock.getsockname()[1] for sock in clients]


def test_that_there_is_no_more_room_is_told_only_when_another_comes(
    door: _Door, connect: Connect
) -> None:
    door.room = 3
    connect(3)
    for _ in range(3):
        door.turn()
    assert (len(door.taken), door.fulls, door.acceptor.paused) == (3, 0, False)
    connect(1)
    door.turn()
    assert (len(door.taken), door.fulls, door.acceptor.paused) == (3, 1, True)


@pytest.mark.parametrize("name", [name for name in GONE if hasattr(errno, name)])
def test_what_concerns_one_connection_is_passed_over_in_the_same_turn(
    door: _Door, connect: Connect, fails: Callable[..., list[int]], name: str
) -> None:
    code = getattr(errno, name)
    fails(code, code)
    connect(2)
    door.turn()
    assert len(door.taken) == 2
    assert door.failures == [(code, False)] * 2


@pytest.mark.parametrize("name", ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"])
def test_a_shortage_is_waited_out_and_then_all_are_taken(
    door: _Door, connect: Connect, fails: Callable[..., list[int]], name: str
) -> None:
    code = getattr(errno, name)
    left = fails(code, code, code)
    connect(3)
    door.turn()
    # One try, and not one for each that waits.
    assert (door.taken, door.failures) == ([], [(code, True)])
    while left or len(door.taken) < 3:
        door.turn(0.01)
    assert door.failures == [(code, True)] * 3


def test_what_nobody_knows_is_taken_for_a_shortage(
    door: _Door, connect: Connect, fails: Callable[..., list[int]]
) -> None:
    # Passed over it might come again at once, without end.
    fails(errno.EIO)
    connect(1)
    door.turn(0.05)
    assert door.failures == [(errno.EIO, True)]
    assert len(door.taken) == 1


def test_failures_without_end_do_not_keep_the_loop(
    door: _Door, connect: Connect, fails: Callable[..., list[int]]
) -> None:
    fails(*[errno.ECONNABORTED] * 10_000)
    connect(1)
    door.turn()
    assert len(door.failures) == 64


def test_a_resume_does_not_cut_a_shortages_rest_short(
    door: _Door, connect: Connect, fails: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accept, "_SHORTAGE_PAUSE", 60)
    fails(errno.EMFILE, errno.EMFILE)
    connect(1)
    door.turn()
    for _ in range(5):
        # Connections that end all the time must not make it try all the time.
        door.acceptor.resume()
        door.turn()
    assert door.failures == [(errno.EMFILE, True)]


def test_a_pause_outlasts_a_shortages_rest(
    door: _Door, connect: Connect, fails: Callable[..., list[int]]
) -> None:
    fails(errno.EMFILE)
    connect(1)
    door.turn()
    door.room = 0
    door.acceptor._pause()
    door.turn(0.05)
    assert door.taken == []
    door.room = 1
    door.acceptor.resume()
    door.turn(0.05)
    assert len(door.taken) == 1


def test_draining_takes_the_whole_queue_and_closes(
    door: _Door, connect: Connect, host: str
) -> None:
    connect(200)
    # In one go: no turn of the reactor comes between.
    door.acceptor.drain(4096)
    assert len(door.taken) == 200
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, door.port))
    door.turn()


@pytest.mark.parametrize("full", [False, True])
def test_draining_takes_those_too_for_whom_there_is_no_room(
    door: _Door, connect: Connect, *, full: bool
) -> None:
    connect(10)
    door.room = 0 if full else 4
    if full:
        door.turn()
        assert door.acceptor.paused
    door.acceptor.drain(4096)
    assert len(door.taken) == 10
    # Nobody is made to wait by it.
    assert door.fulls == full


def test_draining_takes_no_more_than_a_queue_holds(door: _Door, connect: Connect) -> None:
    connect(10)
    # One more than it was made for.
    door.acceptor.drain(3)
    assert len(door.taken) == 4


def test_draining_amid_a_shortage_closes_and_is_not_woken_again(
    door: _Door, connect: Connect, fails: Callable[..., list[int]]
) -> None:
    left = fails(*[errno.EMFILE] * 1000)
    connect(1)
    door.turn()
    door.acceptor.drain(4096)
    tried = len(left)
    door.turn(0.05)
    assert len(left) == tried


def test_closing_twice_is_closing_once(door: _Door) -> None:
    door.acceptor.close()
    door.acceptor.close()
    door.turn()


def test_one_that_has_gone_and_has_no_address_any_more_is_left_out(
    door: _Door, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.socket._accept  # type: ignore[attr-defined] # no public name
    gone = [True, False]

    def accept(sock: socket.socket) -> tuple[int, Any]:
        fd, peer = real(sock)
        return fd, None if gone.pop(0) else peer

    monkeypatch.setattr(socket.socket, "_accept", accept)
    lost, kept = connect(2)
    gone += [False] * 9
    door.turn()
    assert [peer for _, peer in door.taken] == [kept.getsockname()]
    assert lost.recv(1) == b""
