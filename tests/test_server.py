"""The echo server as its clients meet it: many, slow, broken, hostile; and how it stops."""

import contextlib
import errno
import os
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from echokit.config import Limits
from echokit.errors import IncompleteMessage, ListenError, MessageTooLarge, ResolveError
from echokit.framing.base import Framing
from echokit.framing.delimited import Delimited
from echokit.framing.length_prefixed import LengthPrefixed
from echokit.framing.raw import Raw
from echokit.net.address import Address
from echokit.net.handler import End, Ending
from echokit.net.stream import Stream
from echokit.observe.observer import Observer
from echokit.server import EchoServer
from tests.conftest import AVAILABLE

FRAMINGS: list[Framing] = [Raw(), LengthPrefixed(), Delimited()]
every_framing = pytest.mark.parametrize("framing", FRAMINGS, ids=lambda framing: framing.type)

# How long anything may take that is to happen at once, on a busy machine.
PATIENCE = 10.0


class _Recorder(Observer):
    """Notes what it is told, and lets other threads wait for it."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.ends: list[End] = []
        self.ended_peers: list[Address] = []
        self.warnings: list[str] = []
        self._changed = threading.Condition()

    def _note(self, event: str) -> None:
        with self._changed:
            self.told.append(event)
            self._changed.notify_all()

    def listening(self, host: str, addresses: Sequence[Address]) -> None:
        self._note(f"listening on {host}: {len(addresses)}")

    def waiting(self) -> None:
        self._note("waiting")

    def accepted(self, peer: Address) -> None:
        assert peer.port
        self._note("accepted")

    def received(self, peer: Address, message: bytes) -> None:
        assert peer.port
        self._note(f"received {len(message)}")

    def ended(self, peer: Address, end: End) -> None:
        self.ends.append(end)
        self.ended_peers.append(peer)
        self._note("ended")

    def warned(self, text: str) -> None:
        self.warnings.append(text)
        self._note("warned")

    def draining(self, connections: int) -> None:
        self._note(f"draining {connections}")

    def wait_for(self, event: str, times: int = 1) -> None:
        """Wait until `event` has been told so often."""
        with self._changed:
            done = self._changed.wait_for(lambda: self.told.count(event) >= times, PATIENCE)
        assert done, f"{event!r} was told {self.told.count(event)} times, not {times}"

    def wait_for_end(self) -> End:
        """The only end so far."""
        self.wait_for("ended")
        [end] = self.ends
        return end


class _Clients:
    """Clients of a server: each is closed at the end."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack

    def connect(self, address: Address, receive_buffer: int | None = None) -> socket.socket:
        sock = self._stack.enter_context(socket.socket(address.family))
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(PATIENCE)
        sock.connect(address.sockaddr)
        return sock


@pytest.fixture
def clients() -> Iterator[_Clients]:
    """Makes clients."""
    with contextlib.ExitStack() as stack:
        yield _Clients(stack)


@pytest.fixture
def recorder() -> _Recorder:
    """What a server of the test tells."""
    return _Recorder()


def _read(sock: socket.socket, size: int) -> bytes:
    """Exactly `size` bytes."""
    got = bytearray()
    while len(got) < size:
        data = sock.recv(min(65536, size - len(got)))
        assert data, f"the server ended after {len(got)} of {size} bytes"
        got += data
    return bytes(got)


def _read_to_end(sock: socket.socket, piece: int = 65536) -> bytes:
    """All up to the server's FIN; then this end closes too, as the server waits for it."""
    got = bytearray()
    while data := sock.recv(piece):
        got += data
    sock.close()
    return bytes(got)


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def _echoes(sock: socket.socket, wire: bytes = b"ping\n") -> bool:
    """Whether `wire` comes back."""
    sock.sendall(wire)
    return _read(sock, len(wire)) == wire


@contextlib.contextmanager
def _serving(server: EchoServer) -> Iterator[Future[int]]:
    """Serve in a thread; what `serve` returns."""
    with ThreadPoolExecutor(1) as threads:
        result = threads.submit(server.serve)
        try:
            yield result
        finally:
            # Whatever failed before: twice ends it at once.
            server.stop()
            server.stop()


# Echoing.


@every_framing
@pytest.mark.parametrize("chunk_size", [1, 7, 16, 65536])
def test_what_comes_goes_back(
    host: str, framing: Framing, chunk_size: int, recorder: _Recorder, clients: _Clients
) -> None:
    size = 100_000 if chunk_size == 65536 else 1000 * min(chunk_size, 4)
    messages = [b"a", bytes(range(256)).replace(b"\n", b"") * (size // 255), b"\x00\xff"]
    wire = b"".join(map(framing.encode, messages))
    with EchoServer(host, 0, framing=framing, chunk_size=chunk_size, observer=recorder) as server:
        sock = clients.connect(server.addresses[0])
        for at in range(0, len(wire), 10_000):
            piece = wire[at : at + 10_000]
            sock.sendall(piece)
        assert _read(sock, len(wire)) == wire
        sock.shutdown(socket.SHUT_WR)
        assert _read_to_end(sock) == b""
        end = recorder.wait_for_end()
    assert (end.ending, end.error) == (Ending.CLEAN, None)
    assert (end.bytes_in, end.bytes_out) == (len(wire), len(wire))
    sizes = [int(event.split()[1]) for event in recorder.told if event.startswith("received")]
    assert len(sizes) == end.messages
    if framing.transparent:
        assert sum(sizes) == len(wire)
        assert max(sizes) <= chunk_size
    else:
        assert sizes == [len(message) for message in messages]


def test_every_address_is_served(clients: _Clients) -> None:
    with EchoServer("", 0) as server:
        assert {address.family for address in server.addresses} == set(AVAILABLE)
        for family, literal in AVAILABLE.items():
            with clients.connect(Address(family, (literal, server.port))) as sock:
                assert _echoes(sock)


def test_a_family_that_is_lacking_is_warned_of_and_the_other_served(
    host: str, recorder: _Recorder, clients: _Clients
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        lacking = next((family for family, own in AVAILABLE.items() if own != host), None)
        if lacking is None:
            pytest.skip("this host has one address family only")

        class _Lacking(socket.socket):
            def __init__(self, family: int = -1, *rest: Any, **options: Any) -> None:
                if family == lacking:
                    raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
                super().__init__(family, *rest, **options)

        patch.setattr(socket, "socket", _Lacking)
        server = EchoServer("", 0, observer=recorder)
    with server:
        [address] = server.addresses
        loopback = address._replace(sockaddr=(host, *address.sockaddr[1:]))
        with clients.connect(loopback) as sock:
            assert _echoes(sock)
    [warning, everywhere] = recorder.warnings
    assert everywhere.startswith("listening on every address: ")
    assert warning.startswith("cannot listen on ")
    assert warning.endswith("address family not supported by protocol; serving without it")


def test_two_hundred_clients_are_served_at_once_in_one_thread(
    host: str, recorder: _Recorder, clients: _Clients
) -> None:
    with EchoServer(host, 0, chunk_size=4096, observer=recorder) as server:
        threads = threading.active_count()
        socks = [clients.connect(server.addresses[0]) for _ in range(200)]
        for round_ in range(3):
            for number, sock in enumerate(socks):
                sock.sendall(b"%d of round %d" % (number, round_))
            for number, sock in enumerate(socks):
                expected = b"%d of round %d" % (number, round_)
                assert _read(sock, len(expected)) == expected
        assert threading.active_count() == threads
        assert len(server._connections) == 200
        for sock in socks:
            sock.close()
        recorder.wait_for("ended", 200)
    assert {end.ending for end in recorder.ends} == {Ending.CLEAN}


def test_the_server_says_that_it_waits_at_the_start_and_when_the_last_one_has_left(
    host: str, recorder: _Recorder, clients: _Clients
) -> None:
    with EchoServer(host, 0, observer=recorder) as server:
        recorder.wait_for("waiting")
        first, second = (clients.connect(server.addresses[0]) for _ in range(2))
        recorder.wait_for("accepted", 2)
        first.close()
        recorder.wait_for("ended")
        second.close()
        recorder.wait_for("waiting", 2)
        clients.connect(server.addresses[0]).close()
        recorder.wait_for("waiting", 3)
    one = ["accepted", "ended", "waiting"]
    assert recorder.told == [
        f"listening on {host}: 1",
        "waiting",
        "accepted",
        *one[:2],
        *one[1:],
        *one,
    ]


def test_the_observer_is_told_the_peers_own_address(
    host: str, recorder: _Recorder, clients: _Clients
) -> None:
    with EchoServer(host, 0, observer=recorder) as server:
        sock = clients.connect(server.addresses[0])
        own = Address(server.addresses[0].family, sock.getsockname())
        sock.close()
        recorder.wait_for("ended")
    assert recorder.ended_peers == [own]


# Half-close, slow readers, resets.


@every_framing
def test_bulk_before_a_half_close_comes_back_whole_to_a_slow_reader(
    host: str, framing: Framing, clients: _Clients
) -> None:
    message = os.urandom(1 << 20).replace(b"\n", b"\r")
    wire = framing.encode(message) * 8
    with EchoServer(host, 0, framing=framing, chunk_size=65536) as server:
        sock = clients.connect(server.addresses[0], receive_buffer=16 << 10)

        def send() -> None:
            sock.sendall(wire)
            sock.shutdown(socket.SHUT_WR)

        with ThreadPoolExecutor(1) as threads:
            sending = threads.submit(send)
            assert _read_to_end(sock, piece=8192) == wire
            sending.result(PATIENCE)


def test_a_half_closed_client_that_stays_is_sent_the_rest_and_let_go(
    host: str, recorder: _Recorder, clients: _Clients
) -> None:
    with EchoServer(host, 0, observer=recorder) as server:
        sock = clients.connect(server.addresses[0])
        sock.sendall(b"the rest")
        sock.shutdown(socket.SHUT_WR)
        # It has not read anything yet, and does not close.
        end = recorder.wait_for_end()
        assert not server._connections
        assert _read_to_end(sock) == b"the rest"
    assert end == End(Ending.CLEAN, None, 8, 8, 1)


def _send_until(sock: socket.socket, flood: bytes, stuck: Callable[[], bool]) -> None:
    """Send as much as goes; a server that has no time for a while is not taken for `stuck`."""
    for _ in range((64 << 20) // len(flood)):
        try:
            sock.send(flood)
        except TimeoutError:
            if stuck():
                return
    pytest.fail("64 MiB and more could be sent")


@every_framing
def test_a_client_that_never_reads_is_stopped_reading_from_while_others_are_served(
    host: str, framing: Framing, recorder: _Recorder, clients: _Clients
) -> None:
    chunk_size = 65536
    wire = framing.encode(b"x" * 1000)
    flood = wire * 100
    with EchoServer(host, 0, framing=framing, chunk_size=chunk_size, observer=recorder) as server:
        sock = clients.connect(server.addresses[0], receive_buffer=16 << 10)
        recorder.wait_for("accepted")
        [connection] = server._connections
        sock.settimeout(0.2)
        # What the systems of both ends buffer, and no more, can be sent.
        _send_until(sock, flood, lambda: connection.sending)
        held = connection.bytes_in - connection.bytes_out
        assert 0 <= held <= chunk_size + len(wire)
        other = clients.connect(server.addresses[0])
        assert _echoes(other, wire)
        # Nothing more has been read meanwhile.
        assert connection.bytes_in - connection.bytes_out == held
        other.close()
        _reset(sock)
        recorder.wait_for("waiting", 2)
    assert sorted(end.ending.value for end in recorder.ends) == ["clean", "reset"]


def test_a_reset_amid_an_echo_is_counted_and_the_server_goes_on(
    host: str, recorder: _Recorder, clients: _Clients
) -> None:
    with EchoServer(host, 0, chunk_size=65536, observer=recorder) as server:
        sock = clients.connect(server.addresses[0])
        sock.sendall(b"x" * (1 << 20))
        _reset(sock)
        end = recorder.wait_for_end()
        assert end.ending is Ending.RESET
        assert isinstance(end.error, OSError)
        assert not server._connections
        with clients.connect(server.addresses[0]) as other:
            assert _echoes(other)


def test_urgent_data_does_no_harm(host: str, clients: _Clients) -> None:
    with EchoServer(host, 0) as server:
        sock = clients.connect(server.addresses[0])
        assert _echoes(sock)
        sock.send(b"!", socket.MSG_OOB)
        assert _echoes(sock, b"after")
        with clients.connect(server.addresses[0]) as other:
            assert _echoes(other)
        sock.close()


# Bad frames.


def test_a_length_over_the_limit_is_told_once_and_costs_its_own_connection_only(
    host: str, recorder: _Recorder, clients: _Clients
) -> None:
    framing = LengthPrefixed(max_message=1000)
    good = framing.encode(b"good")
    with EchoServer(host, 0, framing=framing, observer=recorder) as server:
        other = clients.connect(server.addresses[0])
        assert _echoes(other, good)
        sock = clients.connect(server.addresses[0])
        sock.sendall(good * 100 + struct.pack(">I", 1001) + b"x" * 1001)
        peer = sock.getsockname()
        # All that was good before arrives, and then the end.
        assert _read_to_end(sock) == good * 100
        end = recorder.wait_for_end()
        assert _echoes(other, good)
        other.close()
        recorder.wait_for("ended", 2)
    assert end.ending is Ending.TOO_LARGE
    assert isinstance(end.error, MessageTooLarge)
    assert str(end.error) == "message of 1001 bytes is over the limit of 1000"
    assert end.messages == 100
    assert recorder.ended_peers[0].sockaddr == peer


@pytest.mark.parametrize("length", [999, 1000, 0])
def test_a_length_up_to_the_limit_is_echoed(host: str, length: int, clients: _Clients) -> None:
    framing = LengthPrefixed(max_message=1000)
    with (
        EchoServer(host, 0, framing=framing) as server,
        clients.connect(server.addresses[0]) as sock,
    ):
        assert _echoes(sock, framing.encode(b"x" * length))


@pytest.mark.parametrize(
    ("wire", "length"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 0x47455420),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 500, 0x16030102),
        (b"\xff\xfb\x01\xff\xfb\x03", 0xFFFB01FF),
        (b"\xff\xff\xff\xff", 0xFFFFFFFF),
        (b"\x80\x00\x00\x00", 0x80000000),
    ],
    ids=["http", "tls", "telnet", "most", "sign-bit"],
)
def test_another_protocols_bytes_end_at_the_limit(
    host: str, wire: bytes, length: int, recorder: _Recorder, clients: _Clients
) -> None:
    with EchoServer(host, 0, framing=LengthPrefixed(), observer=recorder) as server:
        sock = clients.connect(server.addresses[0])
        sock.sendall(wire)
        assert _read_to_end(sock) == b""
        error = recorder.wait_for_end().error
    assert isinstance(error, MessageTooLarge)
    assert (error.size, error.limit) == (length, 16 << 20)


@pytest.mark.parametrize(
    ("framing", "wire", "received", "expected"),
    [
        (LengthPrefixed(), b"\0\0", 2, 4),
        (LengthPrefixed(), b"\0\0\0\5", 0, 5),
        (LengthPrefixed(), b"\0\0\0\5abc", 3, 5),
        (Delimited(), b"abc", 3, None),
    ],
    ids=["in-header", "after-header", "in-body", "no-delimiter"],
)
def test_a_message_cut_short_is_truncated_and_nothing_of_it_echoed(
    host: str,
    framing: Framing,
    wire: bytes,
    received: int,
    expected: int | None,
    recorder: _Recorder,
    clients: _Clients,
) -> None:
    with EchoServer(host, 0, framing=framing, observer=recorder) as server:
        sock = clients.connect(server.addresses[0])
        sock.sendall(framing.encode(b"whole") + wire)
        sock.shutdown(socket.SHUT_WR)
        assert _read_to_end(sock) == framing.encode(b"whole")
        end = recorder.wait_for_end()
    assert end.ending is Ending.TRUNCATED
    assert isinstance(end.error, IncompleteMessage)
    assert (end.error.received, end.error.expected) == (received, expected)


def test_a_message_that_was_announced_takes_no_memory_before_it_comes(
    host: str, recorder: _Recorder, clients: _Clients
) -> None:
    framing = LengthPrefixed(max_message=1 << 30)
    with EchoServer(host, 0, framing=framing, observer=recorder) as server:
        sock = clients.connect(server.addresses[0])
        sock.sendall(struct.pack(">I", 1 << 30) + b"x")
        sock.shutdown(socket.SHUT_WR)
        assert _read_to_end(sock) == b""
        end = recorder.wait_for_end()
    assert isinstance(end.error, IncompleteMessage)
    assert (end.error.received, end.error.expected) == (1, 1 << 30)


# Plugins with bugs.


class _Buggy(Framing):
    """Lines; what a line with `!` meets has a bug, and `where` says which."""

    type: str = "buggy"
    where: str

    def decoder(self) -> "_BuggyDecoder":
        return _BuggyDecoder(self.where)

    def encode(self, message: bytes) -> bytes:
        if b"!" in message:
            if self.where == "encode raises":
                raise RuntimeError("bug in encode")
            if self.where == "encode returns text":
                return "text"  # type: ignore[return-value]
            if self.where == "encode returns nothing":
                return None  # type: ignore[return-value]
        return message + b"\n"


class _BuggyDecoder:
    def __init__(self, where: str) -> None:
        self._where = where
        self._inner = Delimited().decoder()

    def receive_data(self, data: bytes) -> None:
        if self._where == "receive_data raises" and b"!" in data:
            raise RuntimeError("bug in receive_data")
        self._inner.receive_data(data)

    def next_message(self) -> bytes | None:
        message = self._inner.next_message()
        if message is not None and b"!" in message:
            if self._where == "next_message raises":
                raise RuntimeError("bug in next_message")
            if self._where == "next_message returns text":
                return "text"  # type: ignore[return-value]
        return message

    def receive_eof(self) -> None:
        if self._where == "receive_eof raises":
            raise RuntimeError("bug in receive_eof")


@pytest.mark.parametrize(
    "where",
    [
        "encode raises",
        "encode returns text",
        "encode returns nothing",
        "receive_data raises",
        "next_message raises",
        "next_message returns text",
    ],
)
@pytest.mark.parametrize("chunk_size", [1, 65536])
def test_a_bug_in_a_framing_costs_its_own_connection_only(
    host: str, where: str, chunk_size: int, recorder: _Recorder, clients: _Clients
) -> None:
    framing = _Buggy(where=where)
    with EchoServer(host, 0, framing=framing, chunk_size=chunk_size, observer=recorder) as server:
        other = clients.connect(server.addresses[0])
        assert _echoes(other)
        sock = clients.connect(server.addresses[0])
        sock.sendall(b"before\n!\nafter\n")
        # A decoder that takes nothing of a chunk gives nothing of it.
        lost = where == "receive_data raises" and chunk_size > 1
        assert _read_to_end(sock) == (b"" if lost else b"before\n")
        end = recorder.wait_for_end()
        assert _echoes(other)
        other.close()
    assert end.ending is Ending.ERROR
    assert isinstance(end.error, Exception)


def test_a_bug_at_the_streams_end_costs_its_own_connection_only(
    host: str, recorder: _Recorder, clients: _Clients
) -> None:
    framing = _Buggy(where="receive_eof raises")
    with EchoServer(host, 0, framing=framing, observer=recorder) as server:
        for _ in range(2):
            sock = clients.connect(server.addresses[0])
            assert _echoes(sock)
            sock.shutdown(socket.SHUT_WR)
            assert _read_to_end(sock) == b""
        recorder.wait_for("ended", 2)
    assert [str(end.error) for end in recorder.ends] == ["bug in receive_eof"] * 2


class _NoDecoder(Framing):
    """A framing that cannot even make a decoder, but for its first connection."""

    type: str = "no-decoder"
    made: list[int]

    def decoder(self) -> _BuggyDecoder:
        self.made.append(1)
        if len(self.made) != 1:
            raise RuntimeError("bug in decoder")
        return _BuggyDecoder("nowhere")

    def encode(self, message: bytes) -> bytes:
        return message + b"\n"


def test_a_framing_that_makes_no_decoder_costs_its_own_connection_only(
    host: str, clients: _Clients
) -> None:
    with EchoServer(host, 0, framing=_NoDecoder(made=[])) as server:
        other = clients.connect(server.addresses[0])
        assert _echoes(other)
        sock = clients.connect(server.addresses[0])
        with contextlib.suppress(ConnectionResetError):
            assert _read_to_end(sock) == b""
        assert _echoes(other)
        other.close()


# Stopping.


def _pump(payloads: dict[socket.socket, bytes]) -> dict[socket.socket, bytes]:
    """Send each client's payload and read what it gets up to the server's FIN, all at once."""
    got = {sock: bytearray() for sock in payloads}
    left = {sock: memoryview(payload) for sock, payload in payloads.items()}
    with selectors.DefaultSelector() as selector:
        for sock in payloads:
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while selector.get_map():
            ready = selector.select(PATIENCE)
            assert ready, "nothing moves any more"
            for key, events in ready:
                sock = next(sock for sock in payloads if sock is key.fileobj)
                if events & selectors.EVENT_WRITE:
                    left[sock] = left[sock][sock.send(left[sock]) :]
                    if not left[sock]:
                        selector.modify(sock, selectors.EVENT_READ)
                if events & selectors.EVENT_READ:
                    data = sock.recv(65536)
                    got[sock] += data
                    if not data:
                        selector.unregister(sock)
                        sock.close()
    return {sock: bytes(data) for sock, data in got.items()}


def _send_some(sock: socket.socket, payload: bytes) -> int:
    """As much as the system takes at once."""
    sock.setblocking(False)
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while sent < len(payload):
            sent += sock.send(payload[sent:])
    return sent


@every_framing
def test_stopping_finishes_what_is_in_flight_and_refuses_what_is_new(
    host: str, framing: Framing, recorder: _Recorder, clients: _Clients
) -> None:
    server = EchoServer(host, 0, framing=framing, chunk_size=65536, observer=recorder)
    with _serving(server) as result:
        wires, rests = {}, {}
        for number in range(20):
            sock = clients.connect(server.addresses[0], receive_buffer=16 << 10)
            wires[sock] = framing.encode(bytes([100 + number]) * (1 << 20))
            rests[sock] = wires[sock][_send_some(sock, wires[sock]) :]
        recorder.wait_for("accepted", 20)
        server.stop()
        recorder.wait_for("draining 20")
        with pytest.raises(ConnectionRefusedError):
            clients.connect(server.addresses[0])
        assert _pump(rests) == wires
        assert result.result(PATIENCE) == 0
    assert {end.ending for end in recorder.ends} == {Ending.DRAINED}
    assert {end.bytes_out for end in recorder.ends} == {len(framing.encode(b"x" * (1 << 20)))}


@pytest.mark.one_family
def test_a_client_that_pauses_while_it_is_owed_something_is_not_taken_for_idle(
    host: str, recorder: _Recorder, clients: _Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("echokit.server.QUIET", 0.02)
    server = EchoServer(host, 0, chunk_size=65536, observer=recorder)
    with _serving(server) as result:
        # More than the system takes without being read from: the rest is still to be sent.
        payload = os.urandom(16 << 20)
        sock = clients.connect(server.addresses[0], receive_buffer=16 << 10)
        rest = payload[_send_some(sock, payload) :]
        assert rest
        recorder.wait_for("accepted")
        server.stop()
        recorder.wait_for("draining 1")
        # Many looks for quiet connections go by: the passing of time is what this is about.
        threading.Event().wait(0.2)
        assert _pump({sock: rest}) == {sock: payload}
        assert result.result(PATIENCE) == 0


def test_stopping_ends_idle_clients_cleanly(
    host: str, recorder: _Recorder, clients: _Clients
) -> None:
    server = EchoServer(host, 0, observer=recorder)
    with _serving(server) as result:
        sock = clients.connect(server.addresses[0])
        assert _echoes(sock)
        server.stop()
        assert _read_to_end(sock) == b""
        assert result.result(PATIENCE) == 0
    assert [end.ending for end in recorder.ends] == [Ending.DRAINED]
    # Nobody is waited for any more.
    assert recorder.told.count("waiting") == 1


def test_stopping_without_clients_is_immediate(host: str) -> None:
    server = EchoServer(host, 0, limits=Limits(drain_timeout=60))
    with _serving(server) as result:
        server.stop()
        assert result.result(PATIENCE) == 0


def test_a_server_that_was_stopped_before_it_served_ends_at_once(
    host: str, recorder: _Recorder
) -> None:
    server = EchoServer(host, 0, observer=recorder)
    server.stop()
    assert server.serve() == 0
    assert recorder.told == [f"listening on {host}: 1", "waiting"]


class _Held(_Recorder):
    """Holds the server up before its first turn."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def waiting(self) -> None:
        super().waiting()
        assert self.let_go.wait(PATIENCE)


@pytest.mark.one_family
def test_those_who_have_connected_when_it_stops_are_served_though_not_yet_accepted(
    host: str, clients: _Clients
) -> None:
    held = _Held()
    server = EchoServer(host, 0, observer=held)
    with _serving(server) as result:
        try:
            socks = [clients.connect(server.addresses[0]) for _ in range(200)]
            for sock in socks:
                sock.sendall(b"in time")
            server.stop()
        finally:
            held.let_go.set()
        lost = 0
        for sock in socks:
            try:
                lost += _read_to_end(sock) != b"in time"
            except ConnectionResetError:
                lost += 1
        assert lost == 0
        assert result.result(PATIENCE) == 0


@pytest.mark.one_family
def test_a_stop_of_a_full_server_serves_those_who_wait_too(
    host: str, recorder: _Recorder, clients: _Clients
) -> None:
    server = EchoServer(host, 0, limits=Limits(max_connections=2), observer=recorder)
    with _serving(server) as result:
        inside = [clients.connect(server.addresses[0]) for _ in range(2)]
        for sock in inside:
            assert _echoes(sock)
        waiting = [clients.connect(server.addresses[0]) for _ in range(10)]
        for sock in waiting:
            sock.sendall(b"in time")
        recorder.wait_for("warned")
        server.stop()
        recorder.wait_for("draining 12")
        assert [_read_to_end(sock) for sock in waiting] == [b"in time"] * 10
        for sock in inside:
            assert _read_to_end(sock) == b""
        assert result.result(PATIENCE) == 0
    counters = server.counters
    assert (counters.accepted, counters.ended[Ending.DRAINED], counters.pauses) == (12, 12, 1)


def _stuck(server: EchoServer, recorder: _Recorder, clients: _Clients) -> socket.socket:
    """A client that sends and never reads, and that the server waits for."""
    sock = clients.connect(server.addresses[0], receive_buffer=16 << 10)
    recorder.wait_for("accepted")
    sock.settimeout(0.2)
    with pytest.raises(TimeoutError):
        sock.sendall(b"x" * (64 << 20))
    return sock


@pytest.mark.one_family
def test_a_client_that_is_stuck_is_cut_at_the_deadline_and_counted(
    host: str, recorder: _Recorder, clients: _Clients
) -> None:
    server = EchoServer(
        host, 0, chunk_size=65536, limits=Limits(drain_timeout=0.2), observer=recorder
    )
    with _serving(server) as result:
        _stuck(server, recorder, clients)
        began = time.monotonic()
        server.stop()
        assert result.result(PATIENCE) == 1
        assert 0.2 <= time.monotonic() - began < 2
    assert [end.ending for end in recorder.ends] == [Ending.CUT]


@pytest.mark.one_family
def test_a_second_stop_cuts_at_once(host: str, recorder: _Recorder, clients: _Clients) -> None:
    server = EchoServer(
        host, 0, chunk_size=65536, limits=Limits(drain_timeout=60), observer=recorder
    )
    with _serving(server) as result:
        _stuck(server, recorder, clients)
        server.stop()
        recorder.wait_for("draining 1")
        server.stop()
        assert result.result(2) == 1
    assert [end.ending for end in recorder.ends] == [Ending.CUT]


def test_stopping_a_server_that_has_ended_does_nothing(host: str) -> None:
    server = EchoServer(host, 0)
    server.stop()
    server.serve()
    server.stop()
    server.close()


def test_a_server_that_never_serves_gives_its_port_back_at_close(
    family: socket.AddressFamily, host: str
) -> None:
    server = EchoServer(host, 0)
    server.close()
    with socket.socket(family) as sock:
        assert sock.connect_ex((host, server.port)) == errno.ECONNREFUSED


# Starting.


def test_a_port_in_use_is_told_with_its_address(host: str) -> None:
    with EchoServer(host, 0) as server, pytest.raises(ListenError) as caught:
        EchoServer(host, server.port)
    assert caught.value.address == str(server.addresses[0])
    assert caught.value.errno == errno.EADDRINUSE


def test_a_host_without_an_address_of_the_family_is_told(
    family: socket.AddressFamily, host: str
) -> None:
    other = socket.AF_INET if family == socket.AF_INET6 else socket.AF_INET6
    with pytest.raises(ResolveError, match="name the host"):
        EchoServer(host, 0, family=other)


# Shortages and other faults of accept().


def _accept_fails(monkeypatch: pytest.MonkeyPatch, *codes: int) -> None:
    """Let the next calls of accept() fail with `codes`, one each."""
    real = socket.socket._accept  # type: ignore[attr-defined] # no public name
    left = list(codes)

    def accept(sock: socket.socket) -> tuple[int, Any]:
        if left:
            code = left.pop(0)
            raise OSError(code, os.strerror(code))
        accepted: tuple[int, Any] = real(sock)
        return accepted

    monkeypatch.setattr(socket.socket, "_accept", accept)


@pytest.mark.one_family
@pytest.mark.parametrize(
    "code",
    [
        errno.EMFILE,
        errno.ENOMEM,
        pytest.param(errno.ENFILE, marks=pytest.mark.slow),
        pytest.param(errno.ENOBUFS, marks=pytest.mark.slow),
    ],
)
def test_a_shortage_makes_those_who_come_wait_and_is_told_once_a_second(
    host: str,
    code: int,
    recorder: _Recorder,
    clients: _Clients,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (
        EchoServer(host, 0, observer=recorder) as server,
        clients.connect(server.addresses[0]) as open_already,
    ):
        assert _echoes(open_already)
        _accept_fails(monkeypatch, code, code)
        with clients.connect(server.addresses[0]) as sock:
            sock.sendall(b"patient")
            recorder.wait_for("warned")
            assert _echoes(open_already)
            assert _read(sock, 7) == b"patient"
    warning, at_the_end = recorder.warnings
    assert at_the_end == "accept failed: 1 more left out"
    assert warning.startswith(f"cannot accept: {os.strerror(code)[:1].lower()}")
    assert "with 1 connection open; those that come wait until some end" in warning


@pytest.mark.parametrize("code", [errno.ECONNABORTED, errno.EPERM, errno.EPROTO])
def test_a_connection_that_fails_in_the_queue_is_passed_over(
    host: str,
    code: int,
    recorder: _Recorder,
    clients: _Clients,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with EchoServer(host, 0, observer=recorder) as server:
        recorder.wait_for("waiting")
        _accept_fails(monkeypatch, code)
        with clients.connect(server.addresses[0]) as sock:
            assert _echoes(sock)
    assert recorder.warnings == []


def test_stopping_amid_a_shortage_is_stopping(
    host: str, recorder: _Recorder, clients: _Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = EchoServer(host, 0, observer=recorder)
    with _serving(server) as result:
        _accept_fails(monkeypatch, *[errno.EMFILE] * 1000)
        clients.connect(server.addresses[0])
        recorder.wait_for("warned")
        server.stop()
        assert result.result(PATIENCE) == 0


def test_a_shortage_at_a_stop_is_told_as_what_it_is_for_those_who_wait(
    host: str, clients: _Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = _Held()
    server = EchoServer(host, 0, observer=held)
    with _serving(server) as result:
        try:
            _accept_fails(monkeypatch, *[errno.EMFILE] * 10)
            sock = clients.connect(server.addresses[0])
            server.stop()
        finally:
            held.let_go.set()
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
        assert result.result(PATIENCE) == 0
    warning, left_out = held.warnings
    assert warning.endswith(", with 0 connections open; those that still wait are reset")
    assert left_out == "accept failed: 1 more left out"
    # Once as it came, and once more as the queue was to be emptied.
    assert server.counters.accept_failures == 2


@pytest.mark.parametrize("per_peer", [0, 9])
def test_an_observer_may_leave_out_ends_in_good_order_and_no_others(
    host: str, per_peer: int, clients: _Clients
) -> None:
    class Hears(_Recorder):
        hears_clean_ends = False

    observer = Hears()
    limits = Limits(max_connections_per_peer=per_peer)
    server = EchoServer(host, 0, framing=LengthPrefixed(), limits=limits, observer=observer)
    with _serving(server):
        for wire in (b"\0\0\0\1x", b"\0\0"):
            with clients.connect(server.addresses[0]) as sock:
                sock.sendall(wire)
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(16):
                    pass
    assert server.counters.ended.total() == 2
    assert [end.ending for end in observer.ends] == [Ending.TRUNCATED]


def test_a_decoder_that_fails_as_a_sweep_asks_it_costs_its_connection_only(
    host: str, clients: _Clients
) -> None:
    class Decoder:
        def __init__(self) -> None:
            self.messages: list[bytes] = []
            self.looks = 0

        def receive_data(self, data: bytes) -> None:
            self.messages.append(data)
            self.looks = 2

        def next_message(self) -> bytes | None:
            return self.messages.pop() if self.messages else None

        def receive_eof(self) -> None:
            """An end like any."""

        @property
        def pending(self) -> bool:
            # One look has seen what came, and none yet what has gone.
            self.looks -= 1
            if not self.looks:
                raise RuntimeError("a bug")
            return False

    class Bug(Raw):
        transparent = False

        def decoder(self) -> Any:
            return Decoder()

    class Waits(EchoServer):
        def eof_received(self, connection: Stream) -> None:
            """Our end comes later, or not at all."""

    limits = Limits(message_timeout=0.2, idle_timeout=30)
    server = Waits(host, 0, framing=Bug(), limits=limits)
    # An error of the serving comes out of this block.
    with server:
        sock = clients.connect(server.addresses[0])
        sock.sendall(b"x")
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b"x"
        assert sock.recv(1) == b""
        deadline = time.monotonic() + PATIENCE
        while not server.counters.ended.total():
            assert time.monotonic() < deadline
        assert server.counters.ended == {Ending.ERROR: 1}


# Observers that raise.


class _BoomError(Exception):
    """Raised by an observer."""


def _raising(method: str) -> Observer:
    """An observer whose `method` raises."""

    def raises(*_told: Any) -> None:
        raise _BoomError(method)

    kind: Callable[[], Observer] = type("_Raising", (Observer,), {method: raises})
    return kind()


@pytest.mark.parametrize(
    "method", ["listening", "waiting", "accepted", "received", "ended", "warned", "draining"]
)
def test_an_observer_that_raises_ends_the_serving_with_its_error_and_leaks_nothing(
    host: str, method: str, clients: _Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = EchoServer(host, 0, observer=_raising(method))
    with _serving(server) as result:
        if method == "warned":
            _accept_fails(monkeypatch, errno.EMFILE)
        with contextlib.suppress(OSError):
            # Another is open when it happens: it is torn down too.
            bystander = clients.connect(server.addresses[0])
            sock = clients.connect(server.addresses[0])
            sock.sendall(b"x")
            if method == "draining":
                assert sock.recv(1) == b"x"
                server.stop()
            else:
                sock.close()
            assert bystander.recv(1) == b""
        assert isinstance(result.exception(PATIENCE), _BoomError)
    assert not server._connections


def test_what_an_observer_raised_comes_out_of_the_with_block(host: str, clients: _Clients) -> None:
    def meet() -> None:
        with (
            EchoServer(host, 0, observer=_raising("accepted")) as server,
            contextlib.suppress(OSError),
        ):
            clients.connect(server.addresses[0]).recv(1)

    with pytest.raises(_BoomError):
        meet()


@pytest.mark.parametrize("overridden", [False, True])
def test_an_observer_is_asked_for_each_message_only_if_it_wants_to_know(
    host: str, overridden: bool, recorder: _Recorder
) -> None:
    server = EchoServer(host, 0, observer=recorder if overridden else None)
    try:
        assert (server._tell_received is not None) is overridden
    finally:
        server.close()


class _StopsAfterOne(_Recorder):
    """Stops the server when the first connection has ended, while another waits in the queue."""

    def __init__(self) -> None:
        super().__init__()
        self.server: EchoServer | None = None
        self.late: list[socket.socket] = []

    def ended(self, peer: Address, end: End) -> None:
        super().ended(peer, end)
        if self.server is not None and not self.late:
            self.late.append(socket.create_connection(self.server.addresses[0].sockaddr[:2]))
            self.late[0].sendall(b"in time")
            self.server.stop()


@pytest.mark.one_family
def test_a_stop_in_the_moment_of_the_last_end_leaves_nothing_untold(
    host: str, clients: _Clients
) -> None:
    class Stops(_Recorder):
        def ended(self, peer: Address, end: End) -> None:
            super().ended(peer, end)
            server.stop()

    recorder = Stops()
    server = EchoServer(host, 0, observer=recorder)
    with _serving(server) as result:
        clients.connect(server.addresses[0]).close()
        assert result.result(PATIENCE) == 0
    assert recorder.told[1:] == ["waiting", "accepted", "ended", "waiting"]


@pytest.mark.one_family
def test_a_stop_at_the_end_of_the_last_connection_serves_those_in_the_queue(
    host: str, clients: _Clients
) -> None:
    observer = _StopsAfterOne()
    server = EchoServer(host, 0, observer=observer)
    observer.server = server
    with _serving(server) as result:
        clients.connect(server.addresses[0]).close()
        assert result.result(PATIENCE) == 0
        with observer.late[0] as late:
            late.settimeout(PATIENCE)
            assert _read_to_end(late) == b"in time"


@pytest.mark.one_family
def test_a_message_that_a_stop_leaves_half_received_is_told_and_counted(
    host: str, recorder: _Recorder, clients: _Clients
) -> None:
    server = EchoServer(
        host, 0, framing=LengthPrefixed(), limits=Limits(drain_timeout=0.4), observer=recorder
    )
    with _serving(server) as result:
        sock = clients.connect(server.addresses[0])
        sock.sendall(b"\0\0\0\x0ahello")
        recorder.wait_for("accepted")
        server.stop()
        assert _read_to_end(sock) == b""
        sock.close()
        assert result.result(PATIENCE) == 1
    (end,) = recorder.ends
    assert end.ending is Ending.CUT
    assert server.counters.ended[Ending.CUT] == 1


@pytest.mark.one_family
@pytest.mark.parametrize("framing", FRAMINGS[1:], ids=lambda framing: framing.type)
def test_one_that_pauses_amid_a_message_at_a_stop_may_finish_it(
    host: str, framing: Framing, recorder: _Recorder, clients: _Clients
) -> None:
    server = EchoServer(host, 0, framing=framing, observer=recorder)
    with _serving(server) as result:
        sock, idle = (clients.connect(server.addresses[0]) for _ in range(2))
        wire = framing.encode(b"x" * 1000)
        assert _echoes(sock, wire)
        sock.sendall(wire[:500])
        recorder.wait_for("accepted", 2)
        server.stop()
        recorder.wait_for("draining 2")
        # One that has nothing in flight is not waited for.
        assert _read_to_end(idle) == b""
        threading.Event().wait(0.3)
        sock.sendall(wire[500:])
        assert _read_to_end(sock) == wire
        assert result.result(PATIENCE) == 0


@pytest.mark.one_family
def test_leaving_the_block_after_a_stop_does_not_cut_what_is_in_flight(
    host: str, clients: _Clients
) -> None:
    with EchoServer(host, 0) as server:
        sock = clients.connect(server.addresses[0])
        sock.sendall(b"in flight")
        server.stop()
    assert _read_to_end(sock) == b"in flight"


@pytest.mark.one_family
def test_one_that_has_had_everything_and_only_does_not_close_is_not_counted_as_cut(
    host: str, recorder: _Recorder, clients: _Clients
) -> None:
    server = EchoServer(host, 0, limits=Limits(drain_timeout=0.3), observer=recorder)
    with _serving(server) as result:
        sock = clients.connect(server.addresses[0])
        assert _echoes(sock)
        server.stop()
        assert result.result(PATIENCE) == 0
    (end,) = recorder.ends
    assert end.ending is Ending.DRAINED


class _Upside(LengthPrefixed):
    """Says each message backwards on the wire, over its parent's decoder."""

    def encode(self, message: bytes) -> bytes:
        return super().encode(message[::-1])


@pytest.mark.parametrize("observer", [None, _Recorder()], ids=["unobserved", "observed"])
def test_a_framing_made_from_another_encodes_by_itself_whoever_listens(
    host: str, observer: Observer | None, clients: _Clients
) -> None:
    with EchoServer(host, 0, framing=_Upside(), observer=observer) as server:
        sock = clients.connect(server.addresses[0])
        sock.sendall(b"\0\0\0\3abc")
        assert _read(sock, 7) == b"\0\0\0\3cba"
        sock.close()


def test_a_server_that_cannot_be_made_leaves_nothing_listening(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("echokit.net.reactor.Reactor.add_ready", full)
    with pytest.raises(OSError, match="No space left on device"):
        EchoServer(host, 0)
