"""Servers and clients that cut what they send, as those at the other end meet it."""

import contextlib
import itertools
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import ValidationError

from echokit import Delimited, EchoClient, Framing, LengthPrefixed, Raw
from echokit.config import Config, load
from echokit.errors import ConfigError
from echokit.exchange import Messages
from echokit.net import connection as connections
from echokit.net import segmented, stream
from echokit.net.handler import End, Ending
from echokit.net.reactor import Poller, Reactor, SelectorPoller
from echokit.net.segment import JOINED, RANDOM, Segmentation
from echokit.net.segmented import open_connection
from echokit.testing import RunningServer
from tests.cli.peers import serving_once

MakeServer = Callable[..., RunningServer]

# How long anything may take that is to happen at once, on a busy machine.
PATIENCE = 10.0
# Long enough for a piece to be read before the next one leaves, on a busy machine.
APART = 0.03

FRAMINGS: list[Framing] = [Raw(), LengthPrefixed(prefix_bytes=2), Delimited(delimiter="\r\n")]
every_framing = pytest.mark.parametrize("framing", FRAMINGS, ids=lambda framing: framing.type)
WAYS: dict[str, dict[str, Any]] = {
    "bytes": {"segment": 1},
    "listed": {"segment": [1, 3, 2]},
    "listed apart": {"segment": [7, 1], "segment_delay": "1ms"},
    "random": {"segment": "random", "seed": 7},
    "joined": {"segment": "joined", "segment_delay": "2ms"},
}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@contextlib.contextmanager
def _connected(server: RunningServer) -> Iterator[socket.socket]:
    with socket.create_connection((server.host, server.port), timeout=PATIENCE) as sock:
        yield sock


def _reads(sock: socket.socket, total: int) -> list[bytes]:
    """What each read finds, until so many bytes have come or the stream ends."""
    found: list[bytes] = []
    while sum(map(len, found)) < total and (data := sock.recv(65536)):
        found.append(data)
    return found


def _ends(pieces: list[bytes]) -> list[int]:
    """Where pieces end."""
    return list(itertools.accumulate(map(len, pieces)))


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def _until(true: Callable[[], object], sock: socket.socket | None = None) -> None:
    """Wait for what another thread is about to do; `sock` is never ready."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        select.select([sock] if sock else [], [], [], 0.002)


# The pieces.


@pytest.mark.parametrize(
    ("segment", "framing", "pieces"),
    [
        ([1, 3, 2], "raw", [b"a", b"bcd", b"ef", b"g", b"h\ni", b"\n"]),
        (1, "raw", [b"b", b"y", b"t", b"e", b"s"]),
        # They go on where one message ends and the next begins.
        ([2, 1], "delimited", [b"ab", b"\n", b"c\n"]),
    ],
    ids=["listed", "bytes", "messages"],
)
def test_each_piece_arrives_by_itself(
    echokit_server_factory: MakeServer, segment: object, framing: str, pieces: list[bytes]
) -> None:
    data = b"".join(pieces)
    found: list[bytes] = []
    for delay in (APART, 10 * APART):
        server = echokit_server_factory(
            segment=segment, segment_delay=delay, framing=framing, chunk_size=64
        )
        with _connected(server) as sock:
            sock.sendall(data)
            found = _reads(sock, len(data))
        assert b"".join(found) == data
        # On a machine too busy to read in time pieces come joined; they come nowhere else cut.
        assert set(_ends(found)) <= set(_ends(pieces))
        if found == pieces:
            return
    pytest.fail(f"came as {found}")


@pytest.mark.echokit(segment=3, segment_delay="150ms")
def test_a_pause_lasts_as_long_as_it_was_asked_for(echokit_server: RunningServer) -> None:
    with _connected(echokit_server) as sock:
        sock.sendall(b"abcd")
        assert sock.recv(16) == b"abc"
        began = time.monotonic()
        assert sock.recv(16) == b"d"
        assert 0.12 < time.monotonic() - began < 2


class _Ends:
    """Meets a connection that the test drives."""

    def __init__(self) -> None:
        self.ends: list[End] = []
        self.eofs = 0
        self.messages: list[bytes] = []

    def message_received(self, connection: Any, message: bytes) -> None:
        self.messages.append(message)
        connection.send(message)

    def all_sent(self, connection: Any) -> None:
        """Nothing more is to be sent."""

    def eof_received(self, connection: Any) -> None:
        self.eofs += 1
        connection.finish()

    def connection_ended(self, connection: Any) -> None:
        assert connection.closed
        self.ends.append(connection.end)


class _Counting:
    """A poller that counts how often the loop turns."""

    def __init__(self, poller: Poller) -> None:
        self.turns = 0
        self.poller = poller
        self.register = poller.register
        self.modify = poller.modify
        self.unregister = poller.unregister
        self.close = poller.close

    def poll(self, timeout: float | None = None, maxevents: int = -1, /) -> list[tuple[int, int]]:
        self.turns += 1
        return self.poller.poll(timeout, maxevents)


class _Stage:
    """A connection that cuts, in a reactor that runs only when it is told to, and its peer."""

    def __init__(self, family: socket.AddressFamily, host: str, poller: Poller) -> None:
        self.poller = _Counting(poller)
        self.reactor = Reactor(poller=self.poller)
        self.handler = _Ends()
        with socket.socket(family) as listener:
            listener.bind((host, 0))
            listener.listen()
            self.peer = socket.create_connection((host, listener.getsockname()[1]), PATIENCE)
            accepted, sockaddr = listener.accept()
        accepted.setblocking(False)
        self.fd = accepted.detach()
        self._sockaddr = sockaddr
        self._connection: Any = None
        # How much the system is given at a time.
        self.sent: list[int] = []
        self._patch = pytest.MonkeyPatch()
        for module in (segmented, connections, stream):
            self._patch.setattr(module, "write", self._write)

    def _write(self, fd: int, data: bytes) -> int:
        size = os.write(fd, data)
        self.sent.append(size)
        return size

    def connection(
        self, segmentation: Segmentation, framing: Framing | None = None, number: int = 1
    ) -> Any:
        self._connection = open_connection(
            self.reactor,
            self.fd,
            self._sockaddr,
            framing or Raw(),
            65536,
            self.handler,
            segmentation=segmentation,
            number=number,
        )
        return self._connection

    def run(self, seconds: float, until: Callable[[], object] = lambda: False) -> None:
        """Let the reactor run for so long, or until something is so."""
        deadline = time.monotonic() + seconds
        while not until() and (left := deadline - time.monotonic()) > 0:
            timer = self.reactor.call_later(min(left, 0.01), self.reactor.stop)
            self.reactor.run()
            timer.cancel()

    def close(self) -> None:
        self._patch.undo()
        if self._connection is None:
            os.close(self.fd)
        elif not self._connection.closed:
            self._connection.close()
        self.peer.close()
        self.reactor.close()


@pytest.fixture(params=["epoll", "selectors"])
def poller(request: pytest.FixtureRequest) -> Poller:
    """Each way to ask the system; the stage closes it."""
    if request.param == "selectors":
        return SelectorPoller()
    if not hasattr(select, "epoll"):
        pytest.skip("this system has no epoll")
    return cast("Poller", select.epoll())


@pytest.fixture
def stage(family: socket.AddressFamily, host: str, poller: Poller) -> Iterator[_Stage]:
    """A connected pair of sockets of each family, with each poller."""
    made = _Stage(family, host, poller)
    yield made
    made.close()


def _sent(stage: _Stage, segmentation: Segmentation, data: bytes, number: int = 1) -> list[int]:
    """In which pieces a connection gives `data` to the system."""
    connection = stage.connection(segmentation, number=number)
    connection.send(data)
    stage.run(PATIENCE, until=lambda: not connection.sending)
    assert b"".join(_reads(stage.peer, len(data))) == data
    return stage.sent


def test_random_cuts_are_the_same_for_the_same_seed_and_connection(
    family: socket.AddressFamily, host: str
) -> None:
    found = []
    for seed, number in ((7, 1), (7, 1), (7, 2), (8, 1)):
        with contextlib.closing(_Stage(family, host, SelectorPoller())) as stage:
            found.append(_sent(stage, Segmentation(RANDOM, seed=seed), b"x" * 3000, number))
    assert found[0] == found[1]
    assert found[0] != found[2]
    assert found[0] != found[3]
    assert min(map(len, found)) > 3


@pytest.mark.parametrize("delay", [0.0, 0.001])
def test_the_system_is_given_no_more_than_a_piece_at_a_time(stage: _Stage, delay: float) -> None:
    sent = _sent(stage, Segmentation((5, 1), delay), b"x" * 20)
    assert sent == [5, 1, 5, 1, 5, 1, 2]


def test_what_is_joined_leaves_in_one_piece(stage: _Stage) -> None:
    connection = stage.connection(Segmentation(JOINED, 0.02), LengthPrefixed(prefix_bytes=1))
    for word in (b"one", b"two", b"", b"three"):
        connection.send(word)
    stage.run(PATIENCE, until=lambda: stage.sent)
    assert stage.sent == [15]
    assert _reads(stage.peer, 15) == [b"\x03one\x03two\x00\x05three"]


@pytest.mark.one_family
@pytest.mark.echokit(segment="joined", segment_delay="250ms", chunk_size=1)
def test_joined_gives_one_piece_though_it_came_in_many(echokit_server: RunningServer) -> None:
    with _connected(echokit_server) as sock:
        sock.sendall(b"one piece")
        assert _reads(sock, 9) == [b"one piece"]
        sock.sendall(b"another")
        assert _reads(sock, 7) == [b"another"]


@pytest.mark.echokit(segment="joined", segment_delay="1h")
def test_what_gathers_leaves_when_the_client_has_finished(echokit_server: RunningServer) -> None:
    with _connected(echokit_server) as sock:
        sock.sendall(b"no more comes")
        sock.shutdown(socket.SHUT_WR)
        assert b"".join(_reads(sock, 100)) == b"no more comes"


@pytest.mark.echokit(segment="joined", segment_delay="1h", chunk_size="64k")
def test_what_gathers_has_a_bound(echokit_server: RunningServer) -> None:
    with _connected(echokit_server) as sock:
        sock.settimeout(0.5)
        sent = 0
        # It comes back although the hour is not over.
        for _ in range(40):
            sock.sendall(b"x" * 65536)
            sent += 65536
            if select.select([sock], [], [], 0)[0]:
                break
        sock.settimeout(PATIENCE)
        assert sock.recv(1) == b"x"
        assert sent >= 1 << 20


# Parsers that meet them.


@every_framing
@every_way
def test_every_framing_is_decoded_right_however_both_sides_cut(
    echokit_server_factory: MakeServer, framing: Framing, way: dict[str, Any]
) -> None:
    messages = [b"a", b"", b"hello, world", b"\r", bytes(range(14, 200)), b"x" * 300]
    server = echokit_server_factory(framing=framing, chunk_size=512, **way)
    back: list[bytes] = []
    with EchoClient(
        server.host,
        server.port,
        framing=framing,
        chunk_size=512,
        segmentation=server.segmentation,
    ) as client:
        done = client.exchange(Messages(messages), back.append)
        assert client.echo(b"again") == b"again"
    assert done.messages == len(messages)
    if framing.transparent:
        assert b"".join(back) == b"".join(messages)
    else:
        assert back == messages
        assert server.messages == [[*messages, b"again"]]


@pytest.mark.echokit(
    segment=1, chunk_size=16, framing={"type": "length-prefixed", "prefix_bytes": 1}
)
def test_messages_behind_one_that_leaves_in_pieces_are_not_forgotten(
    echokit_server: RunningServer,
) -> None:
    # The last read brings the end of the first message and all of the others, which then wait in
    # the decoder for it to leave.
    wire = b"\x28" + b"x" * 40 + b"\x01a\x01b"
    with _connected(echokit_server) as sock:
        sock.sendall(wire)
        assert b"".join(_reads(sock, len(wire))) == wire


@pytest.mark.one_family
def test_a_client_cuts_what_it_sends(host: str) -> None:
    found: list[bytes] = []

    def answer(sock: socket.socket) -> None:
        found.extend(_reads(sock, 6))
        sock.sendall(b"abcdef")
        assert sock.recv(1) == b""

    segmentation = Segmentation((1, 3), 0.1)
    with (
        serving_once(host, answer) as port,
        EchoClient(host, port, segmentation=segmentation) as client,
    ):
        assert client.echo(b"abcdef") == b"abcdef"
    assert found == [b"a", b"bcd", b"e", b"f"]


def test_servers_with_the_same_seed_cut_each_connection_by_itself(
    echokit_server_factory: MakeServer,
) -> None:
    server = echokit_server_factory(segment=[2, 1], segment_delay=APART, chunk_size=64)
    with _connected(server) as one, _connected(server) as other:
        one.sendall(b"abcd")
        assert one.recv(16) == b"ab"
        other.sendall(b"abcd")
        assert set(_ends(_reads(other, 4))) <= {2, 3, 4}
        assert b"".join(_reads(one, 2)) == b"cd"


# Ends.


def test_a_reset_in_a_pause_ends_the_connection_and_does_not_spin(stage: _Stage) -> None:
    # Of a descriptor that is asked for nothing, epoll tells a reset and selectors does not: there
    # it is met by the next piece.
    unasked = not isinstance(stage.poller.poller, SelectorPoller)
    connection = stage.connection(Segmentation((1,), 60.0 if unasked else 0.1))
    connection.send(b"xyz")
    stage.run(PATIENCE, until=lambda: stage.sent)
    _reset(stage.peer)
    turns = stage.poller.turns
    stage.run(PATIENCE, until=lambda: connection.closed)
    [end] = stage.handler.ends
    assert end.ending is Ending.RESET
    assert isinstance(end.error, ConnectionError)
    # A turn each hundredth of a second is what `run` makes.
    assert stage.poller.turns - turns < 50


@pytest.mark.echokit(segment=1, segment_delay="1h")
def test_a_servers_client_that_resets_in_a_pause_is_gone_at_once(
    echokit_server: RunningServer,
) -> None:
    if not hasattr(select, "epoll"):
        pytest.skip("only epoll tells of a reset that it was not asked for")
    with _connected(echokit_server) as sock:
        sock.sendall(b"xyz")
        assert sock.recv(16) == b"x"
        _reset(sock)
        _until(lambda: echokit_server.connections[0].end)
    end = echokit_server.connections[0].end
    assert end is not None
    assert (end.ending, end.bytes_out) == (Ending.RESET, 1)


def test_a_pause_costs_no_turns(stage: _Stage) -> None:
    connection = stage.connection(Segmentation((1,), 60.0))
    connection.send(b"xyz")
    stage.run(PATIENCE, until=lambda: stage.sent)
    # More comes, and the peer finishes: in a pause neither is asked for.
    stage.peer.sendall(b"more")
    stage.peer.shutdown(socket.SHUT_WR)
    turns = stage.poller.turns
    timer = stage.reactor.call_later(0.1, stage.reactor.stop)
    stage.reactor.run()
    timer.cancel()
    assert stage.poller.turns - turns <= 3
    assert stage.sent == [1]
    assert stage.handler.ends == []


@pytest.mark.parametrize("how", [(1,), (2, 3), RANDOM, JOINED], ids=str)
@pytest.mark.parametrize("delay", [0.0, 0.002])
def test_after_a_half_close_all_bytes_come_and_then_fin(
    stage: _Stage, how: tuple[int, ...] | str, delay: float
) -> None:
    connection = stage.connection(Segmentation(how, delay, seed=3))
    stage.peer.sendall(b"all of this is owed")
    stage.peer.shutdown(socket.SHUT_WR)
    stage.run(PATIENCE, until=lambda: connection.closed)
    assert b"".join(_reads(stage.peer, 100)) == b"all of this is owed"
    [end] = stage.handler.ends
    assert (end.ending, end.bytes_in, end.bytes_out) == (Ending.CLEAN, 19, 19)
    assert stage.handler.eofs == 1


@pytest.mark.one_family
@pytest.mark.parametrize("how", [(1,), (2, 3), JOINED], ids=str)
def test_stopping_sends_the_pieces_that_are_pending(host: str, how: tuple[int, ...] | str) -> None:
    config = Config.model_validate(
        {
            "host": host,
            "port": 0,
            "segment": how,
            "segment_delay": "30ms",
            "chunk_size": 64,
        }
    )
    server = RunningServer(config)
    try:
        with _connected(server) as sock:
            sock.sendall(b"still owed")
            server.wait_for(1)
            # Once: it drains. The second, which cuts, comes when it has been read.
            server._server.stop()
            assert b"".join(_reads(sock, 100)) == b"still owed"
    finally:
        server.close()
    [record] = server.connections
    assert record.end is not None
    assert (record.end.ending, record.end.bytes_out) == (Ending.DRAINED, 10)


@pytest.mark.slow
@pytest.mark.parametrize("segment", [[1000, 1], "random", "joined"], ids=str)
def test_a_client_that_does_not_read_is_not_read_from(
    echokit_server_factory: MakeServer, segment: list[int] | str
) -> None:
    server = echokit_server_factory(segment=segment, chunk_size="64k", seed=1)
    block = bytes(range(251)) * 261
    with _connected(server) as sock:
        sock.settimeout(0.2)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 64 << 20:
                sent += sock.send(block[sent % 251 :])
        assert sent < 64 << 20, "the server reads on"
        assert sum(map(len, server.messages[0])) < sent
        # And all that was sent comes back once it is read.
        sock.settimeout(PATIENCE)
        sock.shutdown(socket.SHUT_WR)
        back = b"".join(_reads(sock, sent + 1))
    assert back == (block * (sent // len(block) + 1))[:sent]


def test_selectors_can_be_asked_for_nothing_and_for_something_again(
    family: socket.AddressFamily, host: str
) -> None:
    with contextlib.closing(_Stage(family, host, SelectorPoller())) as stage:
        told: list[int] = []
        fd = stage.fd
        stage.reactor.add(fd, 1, told.append)
        stage.reactor.modify(fd, 0)
        stage.reactor.modify(fd, 0)
        stage.peer.sendall(b"x")
        stage.run(0.03)
        assert told == []
        stage.reactor.modify(fd, 1)
        stage.run(PATIENCE, until=lambda: told)
        assert set(told) == {1}
        stage.reactor.modify(fd, 0)
        stage.reactor.remove(fd)


# Config keys.


@pytest.mark.parametrize(
    ("written", "how"),
    [
        ("7", (7,)),
        ("[1, 3]", (1, 3)),
        ("[1]", (1,)),
        ("'1,3'", (1, 3)),
        ("random", "random"),
        ("joined", "joined"),
        ("null", None),
        ("16777216", (16 << 20,)),
    ],
)
def test_a_file_may_have_a_size_a_list_or_a_word(
    tmp_path: Path, written: str, how: tuple[int, ...] | str | None
) -> None:
    path = tmp_path / "cut.yaml"
    path.write_text(f"segment: {written}\nsegment_delay: 5ms\nseed: 7\n")
    config = load(path)
    assert (config.segment, config.segment_delay, config.seed) == (how, 0.005, 7)
    found = config.segmentation
    assert found == (None if how is None else Segmentation(how, 0.005, 7))


@pytest.mark.parametrize(
    "written",
    [
        *("0", "-1", "[]", "[1, 0]", "[1, '3']", "[[1]]", "1.5", "true", "often", "'1,'"),
        *("'1, 3'", "16777217", "{}", "''", "'0x1'", "'9999999999'", "'\u00b2'"),
    ],
)
def test_another_segment_is_refused_with_its_place(tmp_path: Path, written: str) -> None:
    path = tmp_path / "cut.yaml"
    path.write_text(f"port: 7\nsegment: {written}\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    [problem] = caught.value.problems
    assert "cut.yaml:2:10: segment: should be a size of 1 to 16777216, a list of them" in problem


@pytest.mark.parametrize("seed", [0, 7, (1 << 64) - 1])
def test_a_seed_is_kept_and_none_is_drawn_anew_each_time(seed: int) -> None:
    given = Config.model_validate({"segment": "random", "seed": seed}).segmentation
    assert given == Segmentation(RANDOM, 0.0, seed)
    drawn = Config.model_validate({"segment": "random"})
    assert drawn.segmentation != drawn.segmentation


@pytest.mark.parametrize("seed", [-1, 1 << 64, 1.5, "7", True])
def test_another_seed_is_refused(seed: object) -> None:
    with pytest.raises(ValidationError) as caught:
        Config.model_validate({"seed": seed})
    assert [problem["loc"] for problem in caught.value.errors()] == [("seed",)]
