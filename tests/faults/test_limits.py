"""Each limit from both sides: it ends what it is against, and nothing that works."""

import contextlib
import itertools
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from echokit import Address, Delimited, End, Ending, LengthPrefixed, Observer, Raw
from echokit.config import Limits
from echokit.framing.base import Framing
from echokit.net.admission import Refusal
from echokit.observe.transcript import Diagnostics
from echokit.server import EchoServer
from tests.cli.peers import client, receive, reset
from tests.conftest import AVAILABLE
from tests.faults.serving import quietly, until


class _Noted(Observer):
    """Notes ends, warnings and refusals."""

    def __init__(self) -> None:
        self.ends: list[End] = []
        self.warnings: list[str] = []
        self.refusals: list[tuple[Refusal, int]] = []

    def ended(self, peer: Address, end: End) -> None:  # noqa: ARG002 - there is one peer
        self.ends.append(end)

    def warned(self, text: str) -> None:
        self.warnings.append(text)

    def refused(self, peer: Address, why: Refusal, left_out: int) -> None:
        assert peer.port
        self.refusals.append((why, left_out))


_LINUX_QUEUE = pytest.mark.skipif(
    "linux" not in os.uname().sysname.lower(), reason="what is held for a peer is told by Linux"
)


@pytest.fixture
def noted() -> _Noted:
    return _Noted()


@pytest.fixture
def serving(host: str, noted: _Noted) -> Iterator[Callable[..., EchoServer]]:
    """Starts servers with limits."""
    with contextlib.ExitStack() as stack:

        def start(
            framing: Framing | None = None, chunk_size: int = 4096, **limits: Any
        ) -> EchoServer:
            return stack.enter_context(
                EchoServer(
                    host,
                    0,
                    framing=framing,
                    chunk_size=chunk_size,
                    limits=Limits(**limits),
                    observer=noted,
                )
            )

        yield start


Serve = Callable[..., EchoServer]


def _echoes(sock: socket.socket, wire: bytes = b"echo") -> bool:
    sock.sendall(wire)
    return receive(sock, len(wire)) == wire


def _read_to_end(sock: socket.socket) -> int:
    """Read up to the server's FIN; how much came."""
    got = 0
    while data := sock.recv(65536):
        got += len(data)
    return got


def _silent(sock: socket.socket, seconds: float) -> bool:
    """Whether nothing comes for so long, not even an end."""
    return not select.select([sock], [], [], seconds)[0]


def _ended_after(sock: socket.socket, began: float) -> float:
    """How long after `began` the server's FIN comes, with nothing before it."""
    assert sock.recv(1) == b""
    return time.monotonic() - began


def _closed_at_once(sock: socket.socket) -> bool:
    with sock:
        try:
            return sock.recv(1) == b""
        except ConnectionResetError:
            return True


# How many.


def test_over_max_connections_they_wait_and_are_served_as_others_leave(
    serving: Serve, host: str, noted: _Noted
) -> None:
    server = serving(max_connections=3)
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(client(host, server.port)) for _ in range(8)]
        for number, sock in enumerate(socks):
            sock.sendall(b"%d" % number)
        for number in range(3):
            assert receive(socks[number], 1) == b"%d" % number
        # The others have sent something, and are neither answered nor cut.
        assert not select.select(socks[3:], [], [], 0.1)[0]
        assert (server.counters.accepted, server.counters.open) == (3, 3)
        for number in range(3, 8):
            socks[number - 3].close()
            assert receive(socks[number], 1) == b"%d" % number
        assert _echoes(socks[7])
    until(lambda: server.counters.ended[Ending.CLEAN] == 8)
    counters = server.counters
    assert 1 <= counters.pauses <= 6
    assert counters.refused.total() == counters.accept_failures == 0
    # Once a second at most.
    assert noted.warnings == ["3 connections are open, as many as may be: others wait"]


def test_as_many_as_may_be_are_served_without_a_word(
    serving: Serve, host: str, noted: _Noted
) -> None:
    server = serving(max_connections=3)
    for _ in range(5):
        with contextlib.ExitStack() as stack:
            socks = [stack.enter_context(client(host, server.port)) for _ in range(3)]
            for _ in range(2):
                assert all(_echoes(sock) for sock in socks)
        until(lambda: server.counters.open == 0)
    assert noted.warnings == []
    assert server.counters.pauses == 0


@pytest.mark.parametrize(
    ("most", "are_open"), [(1, "1 connection is open"), (3, "3 connections are open")]
)
def test_one_more_than_may_be_is_told_of_and_counted(
    serving: Serve, host: str, noted: _Noted, most: int, are_open: str
) -> None:
    server = serving(max_connections=most)
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(client(host, server.port)) for _ in range(most)]
        assert all(_echoes(sock) for sock in socks)
        assert (noted.warnings, server.counters.pauses) == ([], 0)
        stack.enter_context(client(host, server.port))
        until(lambda: bool(noted.warnings))
        assert noted.warnings == [f"{are_open}, as many as may be: others wait"]
        assert server.counters.pauses == 1


@pytest.mark.parametrize("observer", [None, Diagnostics()], ids=["nobody", "diagnostics"])
def test_clients_in_turn_are_all_let_in_whoever_is_told_of_them(
    host: str, observer: Observer | None
) -> None:
    limits = Limits(max_connections_per_peer=1)
    with EchoServer(host, 0, limits=limits, observer=observer) as server:
        for _ in range(3):
            with client(host, server.port) as sock:
                assert _echoes(sock, b"x")
            until(lambda: not server.counters.open)
        assert server.counters.refused.total() == 0


def test_over_max_connections_per_peer_it_is_closed_at_once_and_may_come_again_later(
    serving: Serve, host: str, noted: _Noted
) -> None:
    server = serving(max_connections_per_peer=2)
    with client(host, server.port) as one, client(host, server.port) as two:
        assert _echoes(one)
        assert _echoes(two)
        for _ in range(5):
            assert _closed_at_once(client(host, server.port))
        assert _echoes(one)
        two.close()
        until(lambda: server.counters.open == 1)
        with client(host, server.port) as again:
            assert _echoes(again)
    until(lambda: server.counters.open == 0)
    assert server.counters.refused == {Refusal.TOO_MANY: 5}
    assert server.counters.accepted == 3
    # One line of five.
    assert noted.refusals == [(Refusal.TOO_MANY, 0)]


@pytest.mark.parametrize("ending", ["fin", "reset", "error"])
def test_a_peers_place_is_free_again_however_it_ended(
    serving: Serve, host: str, ending: str
) -> None:
    server = serving(LengthPrefixed(), max_connections_per_peer=1)
    for number in range(1, 6):
        sock = client(host, server.port)
        assert _echoes(sock, b"\0\0\0\1x")
        if ending == "reset":
            reset(sock)
        elif ending == "error":
            sock.sendall(b"\xff\xff\xff\xff")
            assert sock.recv(1) == b""
        sock.close()
        until(lambda: server.counters.ended.total() == number)  # noqa: B023 - called right here
    assert server.counters.refused.total() == 0


@pytest.mark.skipif("127.0.0.1" not in AVAILABLE.values(), reason="this host has no IPv4")
def test_another_ipv4_address_is_another_peer() -> None:
    with EchoServer("127.0.0.1", 0, limits=Limits(max_connections_per_peer=1)) as server:
        with client("127.0.0.1", server.port) as sock, socket.socket() as other:
            assert _echoes(sock)
            other.settimeout(10)
            try:
                other.bind(("127.0.0.2", 0))
            except OSError:
                pytest.skip("this host has one loopback address only")
            other.connect(("127.0.0.1", server.port))
            assert _echoes(other)
        assert server.counters.refused.total() == 0


# Whom.


NETWORKS = {
    "127.0.0.1": ("127.0.0.0/8", "::1", "::ffff:127.0.0.1"),
    "::1": ("::1", "127.0.0.0/8", "::/127"),
}


def test_only_those_whom_allow_has_are_served(serving: Serve, host: str, noted: _Noted) -> None:
    own, other, _ = NETWORKS[host]
    with client(host, serving(allow=(other, own)).port) as sock:
        assert _echoes(sock)
    server = serving(allow=(other,))
    for _ in range(3):
        assert _closed_at_once(client(host, server.port))
    assert server.counters.refused == {Refusal.NOT_ALLOWED: 3}
    assert server.counters.accepted == 0
    assert noted.refusals == [(Refusal.NOT_ALLOWED, 0)]


def test_deny_wins_over_allow(serving: Serve, host: str) -> None:
    own, other, another_way = NETWORKS[host]
    with client(host, serving(allow=(own,), deny=(other,)).port) as sock:
        assert _echoes(sock)
    server = serving(allow=(own,), deny=(another_way,))
    assert _closed_at_once(client(host, server.port))
    assert server.counters.refused == {Refusal.DENIED: 1}


@pytest.mark.parametrize("named", [True, False])
def test_listening_on_every_address_is_warned_of_without_allow(named: bool, noted: _Noted) -> None:
    allow = ("127.0.0.0/8", "::1") if named else ()
    with EchoServer("*", 0, limits=Limits(allow=allow), observer=noted) as server:
        server.report()
        server.stop()
    assert noted.warnings == (
        []
        if named
        else [
            "listening on every address: anyone who reaches this host can use it;"
            " limit that with --allow"
        ]
    )


def test_a_literal_is_not_warned_of(serving: Serve, noted: _Noted) -> None:
    serving()
    assert noted.warnings == []


# How long.


@pytest.mark.slow
@pytest.mark.parametrize("framing", [Raw(), LengthPrefixed()], ids=lambda f: f.type)
def test_idle_timeout_ends_what_does_not_move_and_nothing_that_does(
    serving: Serve, host: str, framing: Framing, noted: _Noted
) -> None:
    server = serving(framing, idle_timeout=0.3)
    wire = framing.encode(b"x")
    with client(host, server.port) as idle, client(host, server.port) as busy:
        began = time.monotonic()
        assert _echoes(idle, wire)
        while time.monotonic() - began < 0.25:
            assert _echoes(busy, wire)
            assert _silent(busy, 0.05)
        took = _ended_after(idle, began)
        assert 0.3 <= took < 0.6
        for _ in range(6):
            assert _echoes(busy, wire)
            assert _silent(busy, 0.1)
        idle.close()
        until(lambda: len(noted.ends) == 1)
        assert server.counters.ended == {Ending.IDLE: 1}
        assert server.counters.open == 1
    assert str(noted.ends[0].error) == "was idle for 0.3s"


@pytest.mark.one_family
def test_one_that_says_nothing_at_all_is_idle(serving: Serve, host: str) -> None:
    server = serving(LengthPrefixed(), idle_timeout=0.2, message_timeout=0)
    with client(host, server.port) as sock:
        assert 0.15 < _ended_after(sock, time.monotonic()) < 0.6
    until(lambda: server.counters.ended == {Ending.IDLE: 1})


def _read_steadily(sock: socket.socket, size: int, piece: int, pause: float = 0.05) -> None:
    """Read `size` bytes of zeros, a piece now and then."""
    while size:
        want = min(piece, size)
        assert receive(sock, want) == bytes(want), f"{size} bytes before the end"
        size -= want
        threading.Event().wait(pause)


@_LINUX_QUEUE
@pytest.mark.slow
def test_one_that_reads_what_the_system_has_taken_is_not_idle(
    serving: Serve, host: str, noted: _Noted
) -> None:
    server = serving(idle_timeout=0.5)
    with _small(host, server.port) as sock:
        # Few enough that the server has sent all of them at once, and has nothing left to send.
        sock.sendall(bytes(300_000))
        _read_steadily(sock, 300_000, 8192)
        # It is open, and works: none of it was cut.
        assert noted.ends == []
        assert _echoes(sock)
        until(lambda: len(noted.ends) == 1)
    assert noted.ends[0].ending is Ending.IDLE


@pytest.mark.slow
@_LINUX_QUEUE
def test_one_that_stops_reading_what_the_system_has_taken_is_idle_at_its_time(
    serving: Serve, host: str
) -> None:
    server = serving(idle_timeout=0.5)
    with _small(host, server.port) as sock:
        sock.sendall(bytes(300_000))
        began = time.monotonic()
        _read_steadily(sock, 64 << 10, 16 << 10)
        stopped = time.monotonic()
        assert stopped - began < 0.5
        until(lambda: server.counters.ended == {Ending.IDLE: 1})
        # It lingers for 0.3 s behind that.
        assert time.monotonic() - stopped < 1.5


@_LINUX_QUEUE
@pytest.mark.slow
def test_the_end_waits_for_one_that_reads_and_destroys_nothing_though_it_sends_meanwhile(
    serving: Serve, host: str, noted: _Noted
) -> None:
    server = serving(max_lifetime=0.2, send_buffer=1 << 20)
    with _small(host, server.port) as sock:
        sock.sendall(bytes(300_000))
        # More than is dropped of one that has taken all.
        until(lambda: server.counters.bytes_out == 300_000)
        threading.Event().wait(0.3)
        sock.sendall(bytes(200_000))
        _read_steadily(sock, 250_000, 8192)
        assert noted.ends == []
        # It would be answered with a reset, had the server left.
        sock.sendall(b"x")
        _read_steadily(sock, 50_000, 8192)
        assert sock.recv(1) == b""
    until(lambda: server.counters.ended == {Ending.LIFETIME: 1})


@pytest.mark.one_family
def test_message_timeout_ends_one_that_sends_a_byte_now_and_then(
    serving: Serve, host: str, noted: _Noted
) -> None:
    server = serving(LengthPrefixed(), message_timeout=0.3)
    with client(host, server.port) as slow, client(host, server.port) as idle:
        assert _echoes(idle, b"\0\0\0\1x")
        # In the header and then in the body: it never is idle.
        began = time.monotonic()
        for byte in itertools.chain(b"\0\0\1\0", itertools.repeat(0x78)):
            slow.send(bytes([byte]))
            if not _silent(slow, 0.02):
                break
        took = _ended_after(slow, began)
        assert 0.3 <= took < 0.6
        # Between messages a client may take its time.
        assert _echoes(idle, b"\0\0\0\1x")
        slow.close()
        until(lambda: len(noted.ends) == 1)
    assert noted.ends[0].ending is Ending.MESSAGE_TIMEOUT
    assert str(noted.ends[0].error) == "did not end a message that it had begun for 0.3s"
    assert noted.ends[0].messages == 0


@pytest.mark.one_family
@pytest.mark.parametrize(
    ("framing", "wire", "whole"),
    [
        (LengthPrefixed(), b"\0\0\0\1x\0\0", 5),
        pytest.param(LengthPrefixed(), b"\0\0\0\1x\0\0\0\5hel", 5, marks=pytest.mark.slow),
        (Delimited(), b"x\nhel", 2),
    ],
    ids=["header", "body", "delimited"],
)
def test_message_timeout_sees_one_that_begins_in_the_chunk_that_ends_another(
    serving: Serve, host: str, noted: _Noted, framing: Framing, wire: bytes, whole: int
) -> None:
    server = serving(framing, message_timeout=0.3)
    with client(host, server.port) as sock, client(host, server.port) as between:
        assert _echoes(between, wire[:whole])
        began = time.monotonic()
        sock.sendall(wire)
        assert receive(sock, whole) == wire[:whole]
        assert 0.3 <= _ended_after(sock, began) < 0.6
        sock.close()
        until(lambda: len(noted.ends) == 1)
        assert noted.ends[0].ending is Ending.MESSAGE_TIMEOUT
        # One that is between two messages may be so for longer.
        assert _echoes(between, wire[:whole])


@pytest.mark.slow
def test_a_long_message_on_a_slow_line_is_not_cut(serving: Serve, host: str) -> None:
    server = serving(LengthPrefixed(), message_timeout=0.2)
    body = os.urandom(3000)
    wire = len(body).to_bytes(4, "big") + body
    with client(host, server.port) as sock:
        # 3 KiB in a second, five times the timeout.
        for at in range(0, len(wire), 100):
            sock.send(wire[at : at + 100])
            assert at + 100 >= len(wire) or _silent(sock, 0.033)
        assert receive(sock, len(wire)) == wire
    until(lambda: server.counters.ended == {Ending.CLEAN: 1})


@pytest.mark.one_family
def test_one_that_is_always_amid_a_message_and_ends_each_in_time_is_not_cut(
    serving: Serve, host: str
) -> None:
    server = serving(LengthPrefixed(), message_timeout=0.2)
    with client(host, server.port) as sock:
        # The last bytes of one come with the first of the next.
        sock.sendall(b"\0\0")
        for number in range(12):
            assert _silent(sock, 0.05)
            sock.sendall(b"\0\5hello\0\0")
            assert receive(sock, 9) == b"\0\0\0\5hello", number
    until(lambda: server.counters.open == 0)
    assert server.counters.ended == {Ending.TRUNCATED: 1}


def _flood(sock: socket.socket, most: int = 64 << 20) -> int:
    """Send until nothing more goes; how much went."""
    sock.settimeout(0.1)
    data = bytes(1 << 20)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < most:
            sent += sock.send(data)
    sock.settimeout(10)
    return sent


def _small(host: str, port: int) -> socket.socket:
    """A client that the system keeps little for."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
    sock.settimeout(10)
    sock.connect((host, port))
    return sock


@pytest.mark.one_family
def test_send_timeout_resets_one_that_never_reads(serving: Serve, host: str, noted: _Noted) -> None:
    server = serving(send_timeout=0.3)
    with _small(host, server.port) as sock, client(host, server.port) as other:
        _flood(sock)
        until(lambda: len(noted.ends) == 1, 2)
        with pytest.raises(ConnectionResetError):
            # Not even what the system had taken is kept for it.
            _read_to_end(sock)
        assert _echoes(other)
        assert server.counters.ended == {Ending.SEND_TIMEOUT: 1}
    assert str(noted.ends[0].error) == "has not read for 0.3s"


@pytest.mark.slow
def test_send_timeout_spares_one_that_reads_slowly(serving: Serve, host: str) -> None:
    # So slowly that the system does not ask for more in all the time: of megabytes that it has
    # taken, a third must have gone before it does.
    server = serving(send_timeout=0.3)
    with _small(host, server.port) as sock:
        _flood(sock)
        began = time.monotonic()
        while time.monotonic() - began < 1.2:
            assert receive(sock, 16 << 10) == bytes(16 << 10)
            threading.Event().wait(0.05)
        assert server.counters.open == 1


@pytest.mark.one_family
def test_without_send_timeout_one_that_never_reads_is_reset_as_idle(
    serving: Serve, host: str, noted: _Noted
) -> None:
    server = serving(send_timeout=0, idle_timeout=0.3)
    with _small(host, server.port) as sock:
        _flood(sock)
        until(lambda: len(noted.ends) == 1, 2)
        with pytest.raises(ConnectionResetError):
            _read_to_end(sock)
    assert noted.ends[0].ending is Ending.IDLE


@pytest.mark.one_family
def test_max_lifetime_ends_one_that_reads_a_little_now_and_then(
    serving: Serve, host: str, noted: _Noted
) -> None:
    server = serving(send_timeout=0.4, max_lifetime=0.4)
    with _small(host, server.port) as sock:
        began = time.monotonic()
        _flood(sock)
        while not noted.ends:
            assert time.monotonic() - began < 3
            with contextlib.suppress(ConnectionResetError):
                sock.recv(4 << 10)
            threading.Event().wait(0.03)
        assert time.monotonic() - began >= 0.8
    assert noted.ends[0].ending is Ending.LIFETIME


@pytest.mark.one_family
def test_max_lifetime_ends_even_one_that_works_and_loses_nothing_of_it(
    serving: Serve, host: str, noted: _Noted
) -> None:
    server = serving(max_lifetime=0.4)
    with client(host, server.port) as sock:
        began = time.monotonic()
        rounds = 0
        # What it sends last may come too late to be echoed; what was before is not lost.
        while True:
            sock.sendall(b"%8d" % rounds)
            got = receive(sock, 8)
            if not got:
                break
            assert got == b"%8d" % rounds
            rounds += 1
        assert 0.4 <= time.monotonic() - began < 0.8
        assert rounds > 100
        sock.close()
        until(lambda: len(noted.ends) == 1)
    assert noted.ends[0].ending is Ending.LIFETIME
    assert noted.ends[0].messages == rounds


@pytest.mark.one_family
def test_what_was_echoed_before_the_server_ends_it_arrives_though_input_waits(
    serving: Serve, host: str, noted: _Noted
) -> None:
    server = serving(chunk_size=1024, max_lifetime=0.3)
    with client(host, server.port) as sock:
        sent = 0
        # It goes on sending for a while after the server's end, and reads only then.
        while not noted.ends and sent < 96 << 10:
            sent += sock.send(bytes(256))
            threading.Event().wait(0.001)
        got = _read_to_end(sock)
    until(lambda: len(noted.ends) == 1)
    assert noted.ends[0].ending is Ending.LIFETIME
    assert got == noted.ends[0].bytes_out > 10_000


@pytest.mark.one_family
def test_zero_is_no_limit_of_any_kind(serving: Serve, host: str, noted: _Noted) -> None:
    server = serving(
        LengthPrefixed(),
        idle_timeout=0,
        message_timeout=0,
        send_timeout=0,
        max_lifetime=0,
        keepalive=0,
    )
    with client(host, server.port) as sock:
        sock.sendall(b"\0\0\0\5hel")
        assert _silent(sock, 0.3)
        sock.sendall(b"lo")
        assert receive(sock, 9) == b"\0\0\0\5hello"
        assert noted.ends == []


def test_no_deadline_looks_at_the_clock_on_the_wall(
    serving: Serve, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def set_back() -> float:
        raise AssertionError("the time of day can be set: no deadline may be kept by it")

    monkeypatch.setattr(time, "time", set_back)
    server = serving(idle_timeout=0.1)
    with client(host, server.port) as sock:
        assert _echoes(sock)
        assert sock.recv(1) == b""
    until(lambda: server.counters.ended == {Ending.IDLE: 1})


@pytest.mark.slow
def test_time_in_which_the_server_itself_stood_still_is_nobodys_fault(host: str) -> None:
    # A laptop that sleeps, a debugger, a machine that is moved.
    options = ("--idle-timeout", "500ms", "--message-timeout", "500ms", "--send-timeout", "500ms")
    with quietly(host, "--framing", "length-prefixed", *options) as (server, port):
        with client(host, port) as sock, client(host, port) as idle:
            wire = (50_000).to_bytes(4, "big") + bytes(50_000)
            assert _echoes(sock, wire)
            assert _echoes(idle, b"\0\0\0\1x")
            sock.sendall(wire[:5000])
            # Long enough for the message to have been seen as begun.
            assert _silent(sock, 0.2)
            server.signal(signal.SIGSTOP)
            # All of it has come before anybody looks at the time again, to be read bit by bit.
            sock.sendall(wire[5000:])
            threading.Event().wait(1)
            server.signal(signal.SIGCONT)
            assert receive(sock, len(wire)) == wire
            assert _echoes(idle, b"\0\0\0\1x")
        done = server.end(signal.SIGTERM)
    assert done.code == 0
    assert [line for line in done.told if "connection from" in line] == []


# How large.


def test_max_message_lowers_the_framings_limit_and_never_raises_it(
    serving: Serve, host: str, noted: _Noted
) -> None:
    server = serving(LengthPrefixed(max_message=100), max_message=10)
    with client(host, server.port) as sock:
        assert _echoes(sock, b"\0\0\0\x0a" + bytes(10))
        sock.sendall(b"\0\0\0\x0b")
        assert sock.recv(1) == b""
    until(lambda: len(noted.ends) == 1)
    assert str(noted.ends[0].error) == "message of 11 bytes is over the limit of 10"
    higher = serving(LengthPrefixed(max_message=100), max_message=1000)
    with client(host, higher.port) as sock:
        assert _echoes(sock, b"\0\0\0\x64" + bytes(100))
        sock.sendall(b"\0\0\0\x65")
        assert sock.recv(1) == b""


def _accepted(server: EchoServer) -> socket.socket:
    """The server's end of its only connection."""
    until(lambda: len(server._connections) == 1)
    (connection,) = server._connections
    return socket.socket(fileno=os.dup(connection._fd))


@pytest.mark.one_family
@pytest.mark.skipif("linux" not in os.uname().sysname.lower(), reason="as Linux counts it")
def test_buffers_are_those_of_accepted_sockets_and_bound_what_is_kept_for_a_peer(
    serving: Serve, host: str
) -> None:
    small = serving(send_buffer=32 << 10, receive_buffer=32 << 10)
    system = serving()
    taken = {}
    for server in (small, system):
        with _small(host, server.port) as sock:
            taken[server] = _flood(sock)
            if server is small:
                # The system takes twice as much, for its bookkeeping.
                with _accepted(server) as own:
                    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                        assert own.getsockopt(socket.SOL_SOCKET, option) == 64 << 10
            reset(sock)
    # What the client's system keeps to send is in both.
    assert taken[small] < taken[system] - (1 << 20)


def test_keepalive_and_user_timeout_are_those_of_accepted_sockets(
    serving: Serve, host: str
) -> None:
    if not hasattr(socket, "TCP_USER_TIMEOUT"):
        pytest.skip("this system has no TCP_USER_TIMEOUT")
    names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
    for limits, on, values in (
        ({}, True, [60, 15, 4, 0]),
        ({"keepalive": 8, "tcp_user_timeout": 2.5, "send_timeout": 2}, True, [8, 2, 4, 2500]),
        ({"keepalive": 1}, True, [1, 1, 1, 0]),
        ({"keepalive": 0}, False, None),
    ):
        server = serving(**limits)
        with client(host, server.port), _accepted(server) as sock:
            assert bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) is on
            found = [sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names]
            assert values is None or found == values
