"""The echo client: what it makes of servers that echo, lie, leave, stall or talk too much."""

import contextlib
import errno
import itertools
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from echokit.client import EchoClient
from echokit.errors import (
    DialError,
    EchoIncomplete,
    EchoMismatch,
    FramingError,
    IncompleteMessage,
    MessageTooLarge,
)
from echokit.exchange import Messages
from echokit.framing.base import Framing
from echokit.framing.delimited import Delimited
from echokit.framing.length_prefixed import LengthPrefixed
from echokit.framing.raw import Raw
from echokit.net import connection
from echokit.net.dial import Dialed
from echokit.observe.observer import Observer
from echokit.testing import RunningServer
from tests.cli.peers import reset

FRAMINGS: list[Framing] = [Raw(), LengthPrefixed(), Delimited()]
every_framing = pytest.mark.parametrize("framing", FRAMINGS, ids=lambda framing: framing.type)

# How long anything may take that is to happen at once, on a busy machine.
PATIENCE = 10.0

Script = Callable[[socket.socket], None]
MakeServer = Callable[..., RunningServer]


@contextlib.contextmanager
def _server(family: socket.AddressFamily, host: str, script: Script) -> Iterator[int]:
    """A server of one connection, in a thread, that does what `script` says; its port."""

    def serve() -> None:
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(PATIENCE)
            script(accepted)

    with socket.socket(family) as listener, ThreadPoolExecutor(1) as threads:
        listener.bind((host, 0))
        listener.listen()
        listener.settimeout(PATIENCE)
        serving = threads.submit(serve)
        yield listener.getsockname()[1]
        serving.result(PATIENCE)


@pytest.fixture
def serve(family: socket.AddressFamily, host: str) -> Callable[[Script], Any]:
    """A server on the family's loopback, for as long as a `with` block lasts."""
    return lambda script: _server(family, host, script)


Serve = Callable[[Script], contextlib.AbstractContextManager[int]]


def _read(sock: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        data = sock.recv(size - len(got))
        assert data, f"the client ended after {len(got)} of {size} bytes"
        got += data
    return got


def _until_end(sock: socket.socket) -> None:
    """Wait for the client to leave, in whatever way."""
    with contextlib.suppress(ConnectionResetError):
        while sock.recv(65536):
            pass


def _answers(size: int, answer: bytes) -> Script:
    """Reads `size` bytes, answers `answer`, and waits for the client to leave."""

    def script(sock: socket.socket) -> None:
        _read(sock, size)
        sock.sendall(answer)
        _until_end(sock)

    return script


class _Recorder(Observer):
    """Notes what a client tells."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def connecting(self, host: str, port: int) -> None:
        self.told.append(f"connecting {host} {port}")

    def connected(self, dialed: Dialed) -> None:
        self.told.append(f"connected {dialed.address}")

    def sending(self, message: bytes) -> None:
        self.told.append(f"sending {message!r}")

    def echoed(self, message: bytes) -> None:
        self.told.append(f"echoed {message!r}")

    def closing(self) -> None:
        self.told.append("closing")


# Echoes.


@every_framing
@pytest.mark.parametrize("chunk_size", [1, 7, 16, 65536])
def test_what_is_sent_comes_back(
    host: str, echokit_server_factory: MakeServer, framing: Framing, chunk_size: int
) -> None:
    size = 300_000 if chunk_size == 65536 else 2000
    messages = [b"a", bytes(range(256)).replace(b"\n", b"") * (size // 255), b"\x00\xff"]
    server = echokit_server_factory(framing=framing, chunk_size=chunk_size)
    with EchoClient(host, server.port, framing=framing, chunk_size=chunk_size) as client:
        for message in messages:
            assert client.echo(message) == message


@every_framing
def test_an_exchange_hands_out_what_came_back_and_counts_it(
    host: str, echokit_server_factory: MakeServer, framing: Framing
) -> None:
    messages = [b"%d" % number for number in range(1000)]
    back: list[bytes] = []
    server = echokit_server_factory(framing=framing, chunk_size=4096)
    with EchoClient(host, server.port, framing=framing, chunk_size=4096) as client:
        began = time.monotonic()
        done = client.exchange(Messages(messages), back.append)
        took = time.monotonic() - began
        again = client.exchange(Messages([b"once more"]))
    if framing.transparent:
        assert b"".join(back) == b"".join(messages)
    else:
        assert back == messages
    assert (done.messages, done.payload_bytes) == (1000, len(b"".join(messages)))
    assert 0 < done.seconds <= took
    assert (again.messages, again.payload_bytes) == (1, 9)


@every_framing
def test_an_empty_message_can_be_sent(
    host: str, echokit_server_factory: MakeServer, framing: Framing
) -> None:
    server = echokit_server_factory(framing=framing)
    with EchoClient(host, server.port, framing=framing) as client:
        assert client.echo(b"") == b""
        assert client.echo(b"after") == b"after"
        assert client.exchange(Messages([])).messages == 0


def test_the_client_tells_its_way(host: str, echokit_server_factory: MakeServer) -> None:
    recorder = _Recorder()
    server = echokit_server_factory(framing=LengthPrefixed())
    with EchoClient(host, server.port, framing=LengthPrefixed(), observer=recorder) as client:
        client.echo(b"one")
        client.echo(b"two")
        assert str(client.dialed.address) == server.address
    assert recorder.told == [
        f"connecting {host} {server.port}",
        f"connected {server.address}",
        "sending b'one'",
        "echoed b'one'",
        "sending b'two'",
        "echoed b'two'",
        "closing",
    ]


# Answers that differ.


@pytest.mark.parametrize("chunk_size", [1, 7, 65536])
@pytest.mark.parametrize("at", [0, 1, 99, 198, 199])
def test_a_byte_that_differs_is_told_with_its_place(
    host: str, serve: Serve, at: int, chunk_size: int
) -> None:
    message = bytes(range(200))
    answer = bytearray(message)
    answer[at] ^= 0x80
    # Two exchanges: the place counts from the connection's start.
    with (
        serve(_answers(205, b"first" + answer)) as port,
        EchoClient(host, port, chunk_size=chunk_size) as client,
    ):
        with pytest.raises(EchoMismatch) as caught:
            client.exchange(Messages([b"first", message]))
        assert (caught.value.offset, caught.value.sent) == (5 + at, message[at])
        assert caught.value.received == answer[at]


@pytest.mark.parametrize(
    ("answer", "offset", "sent", "received"),
    [
        (b"\0\0\0\3one\0\0\0\3twO", 5, ord("o"), ord("O")),
        # The bytes are right and the messages are not.
        (b"\0\0\0\6onetwo", 3, None, ord("t")),
        (b"\0\0\0\2on\0\0\0\4etwo", 2, ord("e"), None),
        (b"\0\0\0\0\0\0\0\6onetwo", 0, ord("o"), None),
        # One was lost.
        (b"\0\0\0\3two", 0, ord("o"), ord("t")),
    ],
    ids=["byte", "joined", "cut", "empty", "lost"],
)
def test_messages_that_differ_are_told_with_the_place(
    host: str, serve: Serve, answer: bytes, offset: int, sent: int | None, received: int | None
) -> None:
    framing = LengthPrefixed()
    with serve(_answers(14, answer)) as port, EchoClient(host, port, framing=framing) as client:
        with pytest.raises(EchoMismatch) as caught:
            client.exchange(Messages([b"one", b"two"]))
        error = caught.value
        assert (error.offset, error.sent, error.received) == (offset, sent, received)


@every_framing
def test_what_differs_is_told_as_it_came_and_not_handed_on(
    host: str, serve: Serve, framing: Framing
) -> None:
    recorder = _Recorder()
    back: list[bytes] = []
    size = len(framing.encode(b"right"))
    with (
        serve(_answers(size, framing.encode(b"wrong"))) as port,
        EchoClient(host, port, framing=framing, observer=recorder) as client,
        pytest.raises(EchoMismatch),
    ):
        client.exchange(Messages([b"right"]), back.append)
    assert back == []
    # The transcript shows what truly arrived; the caller gets only what is right.
    assert len([event for event in recorder.told if event.startswith("echoed")]) >= 1


def test_a_message_more_in_the_same_breath_is_a_mismatch(host: str, serve: Serve) -> None:
    with serve(_answers(5, b"helloX")) as port, EchoClient(host, port) as client:
        with pytest.raises(EchoMismatch) as caught:
            client.echo(b"hello")
        error = caught.value
        assert (error.offset, error.sent, error.received) == (5, None, ord("X"))


def _answers_and_adds(size: int, answer: bytes, surplus: bytes) -> Script:
    """Answers, and says more when the client has finished."""

    def script(sock: socket.socket) -> None:
        _read(sock, size)
        sock.sendall(answer)
        assert sock.recv(1) == b"", "the client sends on"
        sock.sendall(surplus)

    return script


@pytest.mark.parametrize(
    ("framing", "surplus"),
    [
        (Raw(), b"X"),
        (LengthPrefixed(), b"\0\0\0\1X"),
        (Delimited(), b"X\n"),
    ],
    ids=["raw", "length-prefixed", "delimited"],
)
def test_what_comes_on_top_of_all_is_a_mismatch_at_the_end(
    host: str, serve: Serve, framing: Framing, surplus: bytes
) -> None:
    wire = framing.encode(b"hello")
    with serve(_answers_and_adds(len(wire), wire, surplus)) as port:
        client = EchoClient(host, port, framing=framing)
        with pytest.raises(EchoMismatch) as caught, client:
            assert client.echo(b"hello") == b"hello"
    error = caught.value
    assert (error.offset, error.sent, error.received) == (5, None, ord("X"))


@pytest.mark.parametrize(
    ("framing", "surplus"),
    [(LengthPrefixed(), b"\0\0\0\0"), (Delimited(), b"\n")],
    ids=["length-prefixed", "delimited"],
)
def test_an_empty_message_on_top_of_all_is_a_mismatch_too(
    host: str, serve: Serve, framing: Framing, surplus: bytes
) -> None:
    wire = framing.encode(b"hello")
    with serve(_answers_and_adds(len(wire), wire, surplus)) as port:
        client = EchoClient(host, port, framing=framing)
        with pytest.raises(EchoMismatch) as caught, client:
            assert client.echo(b"hello") == b"hello"
    assert caught.value.offset == 5


@pytest.mark.parametrize(
    ("framing", "surplus"),
    [
        (LengthPrefixed(), b"\0\0"),
        (LengthPrefixed(), b"\0\0\0\5hell"),
        (LengthPrefixed(), b"\xff\xff\xff\xff"),
        (Delimited(), b"hell"),
    ],
    ids=["part-of-header", "part-of-body", "over-limit", "no-delimiter"],
)
def test_a_part_of_a_message_on_top_of_all_is_no_good_end(
    host: str, serve: Serve, framing: Framing, surplus: bytes
) -> None:
    wire = framing.encode(b"hello")
    with serve(_answers_and_adds(len(wire), wire, surplus)) as port:
        client = EchoClient(host, port, framing=framing)
        with pytest.raises((EchoMismatch, EchoIncomplete, FramingError)), client:
            assert client.echo(b"hello") == b"hello"


def test_a_bad_frame_is_a_framing_error_with_its_numbers(host: str, serve: Serve) -> None:
    framing = LengthPrefixed(max_message=100)
    with serve(_answers(9, b"\0\0\1\0")) as port, EchoClient(host, port, framing=framing) as client:
        with pytest.raises(MessageTooLarge) as caught:
            client.echo(b"hello")
        assert (caught.value.size, caught.value.limit) == (256, 100)


# Servers that leave or are silent.


@every_framing
def test_a_server_that_closes_early_is_told_with_the_counts(
    host: str, serve: Serve, framing: Framing
) -> None:
    messages = [b"hello", b"world!"]
    size = sum(len(framing.encode(message)) for message in messages)

    def script(sock: socket.socket) -> None:
        _read(sock, size)
        sock.sendall(framing.encode(b"hello"))

    with serve(script) as port, EchoClient(host, port, framing=framing) as client:
        with pytest.raises(EchoIncomplete) as caught:
            client.exchange(Messages(messages))
        assert str(caught.value) == "the server closed the connection after 5 of 11 bytes"
        assert (caught.value.received, caught.value.expected) == (5, 11)


def test_a_server_that_closes_inside_a_message_is_told_with_where(host: str, serve: Serve) -> None:
    def script(sock: socket.socket) -> None:
        _read(sock, 9)
        sock.sendall(b"\0\0\0\5he")

    with serve(script) as port, EchoClient(host, port, framing=LengthPrefixed()) as client:
        with pytest.raises(EchoIncomplete, match="the server closed the connection") as caught:
            client.echo(b"hello")
        cause = caught.value.__cause__
        assert isinstance(cause, IncompleteMessage)
        assert (cause.received, cause.expected) == (2, 5)


@every_framing
def test_a_reset_is_told_with_the_counts_and_its_cause(
    host: str, serve: Serve, framing: Framing
) -> None:
    read = threading.Event()

    def script(sock: socket.socket) -> None:
        _read(sock, len(framing.encode(b"hello")))
        sock.sendall(framing.encode(b"hello"))
        assert read.wait(PATIENCE)
        _read(sock, len(framing.encode(b"world!")))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with serve(script) as port, EchoClient(host, port, framing=framing) as client:
        assert client.echo(b"hello") == b"hello"
        read.set()
        with pytest.raises(EchoIncomplete) as caught:
            client.echo(b"world!")
        assert str(caught.value) == "connection reset by peer after 5 of 11 bytes"
        assert isinstance(caught.value.__cause__, ConnectionResetError)


def test_a_send_that_fails_counts_what_was_to_be_sent(
    host: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It ends at once, as one that breaks a pipe has ended.
    with serve(lambda _sock: None) as port, EchoClient(host, port) as client:

        def fails(_fd: int, _data: bytes) -> int:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

        monkeypatch.setattr(connection, "write", fails)
        with pytest.raises(EchoIncomplete) as caught:
            client.echo(b"hello")
        monkeypatch.undo()
        assert isinstance(caught.value.__cause__, BrokenPipeError)
        assert (caught.value.received, caught.value.expected) == (0, 5)


@every_framing
@pytest.mark.parametrize("answer", [b"hello", b"Hello"])
def test_what_came_before_a_reset_counts_though_a_write_is_what_meets_it(
    host: str, serve: Serve, framing: Framing, answer: bytes
) -> None:
    gone = threading.Event()

    def script(sock: socket.socket) -> None:
        _read(sock, len(framing.encode(b"hello")))
        sock.sendall(framing.encode(answer))
        reset(sock)
        gone.set()

    def messages() -> Iterator[bytes]:
        yield b"hello"
        assert gone.wait(PATIENCE)
        yield b"world!"

    back: list[bytes] = []
    with (
        serve(script) as port,
        EchoClient(host, port, framing=framing) as client,
        pytest.raises(EchoMismatch if answer != b"hello" else EchoIncomplete) as caught,
    ):
        client.exchange(Messages(messages()), back.append)
    if answer == b"hello":
        assert str(caught.value) == "connection reset by peer after 5 of 11 bytes"
        assert b"".join(back) == b"hello"
    else:
        assert str(caught.value) == "echo differs at byte 0: sent 0x68, received 0x48"


def test_a_server_that_has_left_meanwhile_is_told_at_the_next_exchange(
    host: str, serve: Serve
) -> None:
    left = threading.Event()

    def script(sock: socket.socket) -> None:
        sock.sendall(_read(sock, 5))
        sock.close()
        left.set()

    with serve(script) as port, EchoClient(host, port) as client:
        assert client.echo(b"hello") == b"hello"
        assert left.wait(PATIENCE)
        with pytest.raises(EchoIncomplete) as caught:
            client.echo(b"again")
        assert caught.value.received == 5


@every_framing
def test_a_silent_server_is_given_up_at_the_timeout(
    host: str, serve: Serve, framing: Framing
) -> None:
    wire = framing.encode(b"hello")

    def script(sock: socket.socket) -> None:
        _read(sock, len(wire))
        sock.sendall(wire[:3])
        _until_end(sock)

    with serve(script) as port, EchoClient(host, port, framing=framing, timeout=0.1) as client:
        began = time.monotonic()
        with pytest.raises(EchoIncomplete) as caught:
            client.echo(b"hello")
        assert 0.1 <= time.monotonic() - began < 1
        received = 3 if framing.transparent else 0
        assert str(caught.value) == f"no answer for 0.1s after {received} of 5 bytes"


@pytest.mark.one_family
def test_a_server_that_does_not_read_is_given_up_too(host: str, serve: Serve) -> None:
    given_up = threading.Event()

    def script(_sock: socket.socket) -> None:
        assert given_up.wait(PATIENCE)

    with (
        serve(script) as port,
        EchoClient(host, port, timeout=0.2) as client,
    ):
        with pytest.raises(EchoIncomplete, match=r"no answer for 0\.2s after 0 of 33554432 bytes"):
            client.echo(b"x" * (32 << 20))
        given_up.set()


@pytest.mark.one_family
def test_a_server_that_answers_little_by_little_is_not_silent(host: str, serve: Serve) -> None:
    def script(sock: socket.socket) -> None:
        for byte in _read(sock, 6):
            # Each pause is shorter than the timeout; together they are longer.
            threading.Event().wait(0.06)
            sock.send(bytes([byte]))
        _until_end(sock)

    with serve(script) as port, EchoClient(host, port, timeout=0.3) as client:
        assert client.echo(b"slowly") == b"slowly"


def test_nobody_listening_is_a_dial_error(family: socket.AddressFamily, host: str) -> None:
    with socket.socket(family) as taken:
        taken.bind((host, 0))
        with pytest.raises(DialError, match="connection refused"):
            EchoClient(host, taken.getsockname()[1])


# Sources.


class _Pipe:
    """A source as stdin is: a descriptor to wait for, and what can be read from it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def read(self) -> list[bytes] | None:
        data = os.read(self._fd, 65536)
        return [data] if data else None


@pytest.fixture
def pipe() -> Iterator[tuple[_Pipe, int]]:
    """A source, and the descriptor to write to, which is the test's to close."""
    reading, writing = os.pipe()
    yield _Pipe(reading), writing
    os.close(reading)


@pytest.mark.one_family
def test_a_source_that_is_slow_is_not_the_servers_silence(
    host: str, echokit_server: RunningServer, pipe: tuple[_Pipe, int]
) -> None:
    source, writing = pipe
    back: list[bytes] = []

    def write() -> None:
        for word in (b"one", b"two"):
            os.write(writing, word)
            # Longer than the timeout: nothing is owed meanwhile.
            threading.Event().wait(0.2)
        os.close(writing)

    with (
        EchoClient(host, echokit_server.port, timeout=0.1) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        writer = threads.submit(write)
        done = client.exchange(source, back.append)
        writer.result(PATIENCE)
        # The descriptor is watched no more, and the client goes on without it.
        assert client.echo(b"after") == b"after"
    assert b"".join(back) == b"onetwo"
    assert (done.messages, done.payload_bytes) == (2, 6)


def test_bulk_from_a_pipe_comes_back_whole(
    host: str, echokit_server_factory: MakeServer, pipe: tuple[_Pipe, int]
) -> None:
    source, writing = pipe
    data = os.urandom(8 << 20)
    back = bytearray()

    def write() -> None:
        with os.fdopen(writing, "wb") as out:
            out.write(data)

    server = echokit_server_factory(chunk_size=65536)
    with (
        EchoClient(host, server.port, chunk_size=65536) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        writer = threads.submit(write)
        client.exchange(source, back.extend, window=1 << 20)
        writer.result(PATIENCE)
    assert back == data


def test_a_regular_file_is_read_without_waiting_for_it(
    host: str, echokit_server_factory: MakeServer, tmp_path: Path
) -> None:
    path = tmp_path / "data"
    data = os.urandom(300_000)
    path.write_bytes(data)
    back = bytearray()
    server = echokit_server_factory(chunk_size=65536)
    with (
        EchoClient(host, server.port, chunk_size=65536) as client,
        path.open("rb") as file,
    ):
        done = client.exchange(_Pipe(file.fileno()), back.extend)
    assert back == data
    assert done.payload_bytes == len(data)


def test_a_source_that_waits_does_not_hide_the_servers_end(
    host: str, serve: Serve, pipe: tuple[_Pipe, int]
) -> None:
    source, writing = pipe

    def script(sock: socket.socket) -> None:
        sock.sendall(_read(sock, 5))

    os.write(writing, b"hello")
    try:
        with (
            serve(script) as port,
            EchoClient(host, port) as client,
            pytest.raises(EchoIncomplete, match="the server closed the connection"),
        ):
            client.exchange(source)
    finally:
        os.close(writing)


def test_a_source_that_raises_ends_the_exchange_and_the_next_one_is_well(
    host: str, echokit_server_factory: MakeServer
) -> None:
    def messages() -> Iterator[bytes]:
        yield b"one"
        raise ZeroDivisionError

    server = echokit_server_factory(framing=LengthPrefixed())
    with EchoClient(host, server.port, framing=LengthPrefixed(), timeout=1) as client:
        with pytest.raises(ZeroDivisionError):
            client.exchange(Messages(messages()))
        back: list[bytes] = []
        client.exchange(Messages([b"two"]), back.append)
        assert back[-1] == b"two"


# The window.


@every_framing
def test_a_window_of_nothing_sends_one_message_at_a_time(
    host: str, echokit_server_factory: MakeServer, framing: Framing
) -> None:
    recorder = _Recorder()
    messages = [b"%d" % number for number in range(20)]
    server = echokit_server_factory(framing=framing)
    with EchoClient(host, server.port, framing=framing, observer=recorder) as client:
        client.exchange(Messages(messages), window=0)
    steps = [event.split()[0] for event in recorder.told]
    assert steps[2:-1] == ["sending", "echoed"] * 20


def test_no_more_than_the_window_and_a_message_is_on_its_way(host: str, serve: Serve) -> None:
    taken = threading.Event()
    made: list[int] = []

    def messages() -> Iterator[bytes]:
        for number in range(50):
            made.append(number)
            yield b"x" * 100
            if number == 9:
                taken.set()

    def script(sock: socket.socket) -> None:
        # The window is ten messages, each with its 64 bytes more; the eleventh waits for an echo.
        first = _read(sock, 1000)
        sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sock.settimeout(PATIENCE)
        assert made == list(range(10))
        sock.sendall(first)
        while data := sock.recv(65536):
            sock.sendall(data)

    with serve(script) as port, EchoClient(host, port) as client:
        assert client.exchange(Messages(messages()), window=1640).messages == 50


def test_empty_messages_fill_the_window_too_and_a_silent_server_is_given_up(
    host: str, serve: Serve
) -> None:
    with (
        serve(_until_end) as port,
        EchoClient(host, port, framing=LengthPrefixed(), timeout=0.1) as client,
        pytest.raises(EchoIncomplete, match=r"no answer for 0\.1s after 0 of 0 bytes"),
    ):
        client.exchange(Messages(itertools.repeat(b"")), window=64 << 10)
    assert client._outstanding.messages == 1024


@every_framing
def test_a_server_that_reads_all_before_it_answers_works_within_the_window(
    host: str, serve: Serve, framing: Framing
) -> None:
    messages = [os.urandom(256 << 10).replace(b"\n", b"\r") for _ in range(16)]
    size = sum(len(framing.encode(message)) for message in messages)

    def script(sock: socket.socket) -> None:
        got = bytearray()
        while len(got) < size:
            got += sock.recv(65536)
        sock.sendall(got)
        _until_end(sock)

    with serve(script) as port, EchoClient(host, port, framing=framing, chunk_size=65536) as client:
        assert client.exchange(Messages(messages)).payload_bytes == 16 * (256 << 10)


@every_framing
def test_a_server_that_reads_on_only_when_it_has_written_is_no_deadlock(
    host: str, serve: Serve, framing: Framing
) -> None:
    def script(sock: socket.socket) -> None:
        # Held small, so that both ends' buffers together take less than the message.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        while data := sock.recv(65536):
            sock.sendall(data)

    message = os.urandom(12 << 20).replace(b"\n", b"\r")
    with serve(script) as port, EchoClient(host, port, framing=framing, chunk_size=65536) as client:
        assert client.echo(message) == message


# After an error.


@every_framing
def test_an_exchange_after_an_error_raises_at_once(
    host: str, serve: Serve, framing: Framing
) -> None:
    size = len(framing.encode(b"right"))
    with (
        serve(_answers(size, framing.encode(b"wrong"))) as port,
        EchoClient(host, port, framing=framing) as client,
    ):
        with pytest.raises(EchoMismatch):
            client.echo(b"right")
        for _ in range(2):
            with pytest.raises(EchoIncomplete, match="the connection had ended"):
                client.echo(b"again")


def test_an_exchange_after_the_close_raises(host: str, echokit_server: RunningServer) -> None:
    client = EchoClient(host, echokit_server.port)
    client.close()
    client.close()
    with pytest.raises(EchoIncomplete, match="the connection had ended"):
        client.echo(b"again")


@pytest.mark.parametrize("framing", [LengthPrefixed(max_message=8), Delimited(max_message=8)])
def test_a_message_that_the_framing_cannot_carry_is_refused_and_the_next_is_well(
    host: str, echokit_server_factory: MakeServer, framing: Framing
) -> None:
    server = echokit_server_factory(framing=framing)
    with EchoClient(host, server.port, framing=framing, timeout=1) as client:
        with pytest.raises(MessageTooLarge):
            client.echo(b"x" * 9)
        assert client.echo(b"x" * 8) == b"x" * 8


@pytest.mark.parametrize("framing", [LengthPrefixed(max_message=8), Delimited(max_message=8)])
@pytest.mark.parametrize("window", [0, 1 << 20])
def test_a_message_refused_in_the_midst_of_an_exchange_leaves_the_client_well(
    host: str, echokit_server_factory: MakeServer, framing: Framing, window: int
) -> None:
    server = echokit_server_factory(framing=framing, chunk_size=4096)
    with EchoClient(host, server.port, framing=framing, chunk_size=4096, timeout=1) as client:
        with pytest.raises(MessageTooLarge):
            client.exchange(Messages([b"fine", b"x" * 9]), window=window)
        back: list[bytes] = []
        client.exchange(Messages([b"again"]), back.append)
        assert back[-1] == b"again"


def test_what_the_callback_raises_ends_the_exchange(
    host: str, echokit_server_factory: MakeServer
) -> None:
    def raises(_message: bytes) -> None:
        raise ZeroDivisionError

    server = echokit_server_factory(framing=LengthPrefixed())
    with EchoClient(host, server.port, framing=LengthPrefixed(), timeout=1) as client:
        with pytest.raises(ZeroDivisionError):
            client.exchange(Messages([b"one"]), raises)
        assert client.echo(b"two") == b"two"


# Nothing is left behind: what these leave open, the `no_leaks` fixture finds.


@pytest.mark.parametrize("method", ["connecting", "connected", "sending", "echoed", "closing"])
def test_an_observer_that_raises_leaves_nothing_open(
    host: str, echokit_server: RunningServer, method: str
) -> None:
    def raises(*_told: Any) -> None:
        raise ZeroDivisionError

    kind: Callable[[], Observer] = type("_Raising", (Observer,), {method: raises})

    def meet(port: int) -> None:
        with EchoClient(host, port, observer=kind()) as client:
            client.echo(b"hello")

    with pytest.raises(ZeroDivisionError):
        meet(echokit_server.port)


class _NoDecoder(Framing):
    """A framing that fails before the first byte."""

    type: str = "no-decoder"

    def decoder(self) -> Any:
        raise RuntimeError("bug in decoder")

    def encode(self, message: bytes) -> bytes:
        return message


def test_a_framing_that_makes_no_decoder_leaves_nothing_open(host: str, serve: Serve) -> None:
    with serve(_until_end) as port, pytest.raises(Exception, match="bug in decoder"):
        EchoClient(host, port, framing=_NoDecoder())


def test_an_error_inside_the_block_closes_the_connection_at_once(host: str, serve: Serve) -> None:
    # A server that does not answer the FIN must not hold up the error.
    def script(sock: socket.socket) -> None:
        _until_end(sock)
        assert left.wait(PATIENCE)

    left = threading.Event()

    def meet(port: int) -> None:
        with EchoClient(host, port):
            raise ZeroDivisionError

    with serve(script) as port:
        began = time.monotonic()
        with pytest.raises(ZeroDivisionError):
            meet(port)
        assert time.monotonic() - began < 0.5
        left.set()


def test_a_server_that_does_not_answer_the_fin_is_left_after_a_while(
    host: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("echokit.client.FIN_PATIENCE", 0.1)
    left = threading.Event()

    def script(sock: socket.socket) -> None:
        sock.sendall(_read(sock, 5))
        assert sock.recv(1) == b""
        assert left.wait(PATIENCE)

    with serve(script) as port:
        began = time.monotonic()
        with EchoClient(host, port) as client:
            client.echo(b"hello")
        assert time.monotonic() - began < 1
        left.set()


@pytest.mark.parametrize("window", [0, 1 << 20])
def test_what_an_exchange_that_was_refused_had_sent_does_not_reach_the_next(
    host: str, echokit_server_factory: MakeServer, window: int
) -> None:
    framing = LengthPrefixed(max_message=4)
    server = echokit_server_factory(framing=framing)
    with EchoClient(host, server.port, framing=framing, timeout=1) as client:
        back: list[bytes] = []
        with pytest.raises(MessageTooLarge):
            client.exchange(Messages([b"aa", b"too long"]), back.append, window=window)
        # What left before the refusal comes back to its own exchange.
        assert back == [b"aa"]
        assert client.echo(b"bb") == b"bb"


def test_what_a_broken_off_exchange_left_under_way_does_not_reach_the_next(
    host: str, echokit_server_factory: MakeServer
) -> None:
    def breaks_off(_message: bytes) -> None:
        raise ZeroDivisionError

    server = echokit_server_factory(framing=LengthPrefixed())
    with EchoClient(host, server.port, framing=LengthPrefixed(), timeout=1) as client:
        with pytest.raises(ZeroDivisionError):
            client.exchange(Messages([b"one", b"two", b"three"]), breaks_off)
        assert client.echo(b"four") == b"four"


def test_what_a_broken_off_exchange_left_in_the_decoder_does_not_reach_the_next(
    host: str, serve: Serve
) -> None:
    def breaks_off(_message: bytes) -> None:
        raise ZeroDivisionError

    framing = LengthPrefixed()
    three = [b"one", b"two", b"three"]
    size = len(b"".join(map(framing.encode, three)))

    def script(sock: socket.socket) -> None:
        # In one piece, which the client reads at once.
        sock.sendall(_read(sock, size))
        sock.sendall(_read(sock, len(framing.encode(b"four"))))
        _until_end(sock)

    with (
        serve(script) as port,
        EchoClient(host, port, framing=framing, chunk_size=4096, timeout=PATIENCE) as client,
    ):
        with pytest.raises(ZeroDivisionError):
            client.exchange(Messages(three), breaks_off)
        assert client.echo(b"four") == b"four"
