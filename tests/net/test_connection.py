"""One connection on real sockets: its way with bytes, with peers that do not read, and its ends."""

import contextlib
import errno
import os
import socket
import struct
import time
from typing import Any

import pytest

from echokit.errors import FramingError, IncompleteMessage, MessageTooLarge
from echokit.framing.base import Framing
from echokit.framing.delimited import Delimited
from echokit.framing.length_prefixed import LengthPrefixed
from echokit.framing.raw import Raw
from echokit.net import connection as connections
from echokit.net import straight
from echokit.net import stream as streams
from echokit.net.handler import End, Ending
from echokit.net.reactor import READ
from echokit.net.stream import Stream
from tests.net.stage import Stage, noise

FRAMINGS: list[Framing] = [Raw(), LengthPrefixed(), Delimited()]
CHUNK_SIZES = [1, 7, 16, 65536]
# More than the buffers of both ends take together, once they are held small.
BULK = 512 << 10

every_framing = pytest.mark.parametrize("framing", FRAMINGS, ids=lambda framing: framing.type)
every_chunk_size = pytest.mark.parametrize("chunk_size", CHUNK_SIZES)


# The way of a message.


@every_framing
@every_chunk_size
@pytest.mark.parametrize("piece", [1, 5, 4096])
def test_messages_come_whole_and_go_back_however_the_wire_is_cut(
    stage: Stage, framing: Framing, chunk_size: int, piece: int
) -> None:
    messages = [b"hello", b"\0\xff\x1b", noise(300), b"x"]
    wire = b"".join(map(framing.encode, messages))
    stage.connection(framing, chunk_size)
    for at in range(0, len(wire), piece):
        stage.peer.send(wire[at : at + piece])
        stage.turn(1)
    stage.peer.shutdown(socket.SHUT_WR)
    assert stage.read_to_end() == wire
    if framing.transparent:
        assert b"".join(stage.handler.messages) == wire
        assert max(map(len, stage.handler.messages)) <= chunk_size
    else:
        assert stage.handler.messages == messages
    assert stage.end == End(Ending.CLEAN, None, len(wire), len(wire), len(stage.handler.messages))


@every_chunk_size
def test_no_read_asks_for_more_than_the_chunk_size(stage: Stage, chunk_size: int) -> None:
    stage.connection(LengthPrefixed(), chunk_size)
    wire = LengthPrefixed().encode(noise(100))
    stage.peer.send(wire)
    stage.peer.shutdown(socket.SHUT_WR)
    assert stage.read_to_end() == wire
    assert stage.reads == {chunk_size}


@pytest.mark.parametrize("framing", [LengthPrefixed(), Delimited()], ids=lambda f: f.type)
def test_empty_messages_are_messages(stage: Stage, framing: Framing) -> None:
    wire = framing.encode(b"") * 3
    stage.connection(framing)
    stage.peer.send(wire)
    stage.peer.shutdown(socket.SHUT_WR)
    assert stage.read_to_end() == wire
    assert stage.handler.messages == [b"", b"", b""]


@pytest.mark.parametrize("framing", [LengthPrefixed(), Delimited()], ids=lambda f: f.type)
def test_what_one_chunk_brings_leaves_in_one_piece(stage: Stage, framing: Framing) -> None:
    wire = framing.encode(b"12345678") * 500
    stage.connection(framing)
    stage.peer.send(wire)
    stage.turn()
    assert stage.read_available() == wire
    assert stage.sends == 1
    assert len(stage.handler.messages) == 500


def test_a_raw_chunk_costs_one_read_and_one_send(stage: Stage) -> None:
    stage.connection()
    stage.peer.send(b"x" * 100)
    stage.turn()
    assert stage.read_available() == b"x" * 100
    assert stage.sends == 1


# Peers that do not read.


@every_framing
def test_what_the_socket_does_not_take_waits_and_arrives_whole(
    stage: Stage, framing: Framing
) -> None:
    message = noise(BULK)
    connection = stage.connection(framing)
    connection.send(message)
    assert connection.sending
    assert connection.bytes_out < BULK
    connection.finish()
    assert stage.read_to_end() == framing.encode(message)
    stage.peer.close()
    assert stage.end.ending is Ending.CLEAN
    assert connection.bytes_out == len(framing.encode(message))


@every_framing
def test_what_is_sent_while_something_waits_follows_it_in_order(
    stage: Stage, framing: Framing
) -> None:
    messages = [noise(BULK), b"second", noise(70_000), b"fourth"]
    connection = stage.connection(framing)
    for message in messages:
        connection.send(message)
    connection.finish()
    assert stage.read_to_end() == b"".join(map(framing.encode, messages))


def test_that_all_has_gone_is_told_once_it_has(stage: Stage) -> None:
    connection = stage.connection()
    connection.send(noise(BULK))
    stage.turn()
    assert stage.handler.sent_all == 0
    got = b""
    while len(got) < BULK:
        got += stage.read_available()
        stage.turn(1)
    assert got == noise(BULK)
    assert stage.handler.sent_all == 1
    connection.send(b"this fits at once, and nothing had to wait")
    stage.turn()
    assert stage.handler.sent_all == 1


@every_framing
def test_a_peer_that_does_not_read_is_not_read_from(stage: Stage, framing: Framing) -> None:
    connection = stage.connection(framing)
    connection.send(noise(BULK))
    wire = framing.encode(b"later")
    stage.peer.send(wire)
    stage.turn(20)
    assert stage.handler.messages == []
    assert connection.bytes_in == 0
    stage.peer.shutdown(socket.SHUT_WR)
    assert stage.read_to_end() == framing.encode(noise(BULK)) + wire
    assert stage.handler.messages == [b"later"]


@pytest.mark.parametrize("framing", [LengthPrefixed(), Delimited()], ids=lambda f: f.type)
def test_messages_of_one_chunk_wait_in_the_decoder_while_their_answers_do_not_fit(
    stage: Stage, framing: Framing
) -> None:
    # Each small message causes a large answer: memory must not hold one for each.
    stage.handler.on_message = lambda connection, _message: connection.send(noise(BULK))
    stage.connection(framing)
    stage.peer.send(framing.encode(b"?") * 4)
    stage.turn(20)
    assert len(stage.handler.messages) == 1
    stage.peer.shutdown(socket.SHUT_WR)
    assert stage.read_to_end() == framing.encode(noise(BULK)) * 4
    assert stage.handler.messages == [b"?"] * 4
    assert stage.end.ending is Ending.CLEAN


@every_framing
def test_a_full_duplex_connection_reads_on_while_something_waits(
    stage: Stage, framing: Framing
) -> None:
    stage.handler.on_message = lambda *_told: None
    connection = stage.connection(framing, full_duplex=True)
    connection.send(noise(BULK))
    for _ in range(3):
        stage.peer.send(framing.encode(b"meanwhile"))
        stage.turn()
    assert stage.handler.messages == [b"meanwhile"] * 3
    assert connection.sending


# The peer's end.


@every_framing
def test_what_is_owed_at_the_peers_end_is_sent_before_ours(stage: Stage, framing: Framing) -> None:
    message = noise(BULK)
    wire = framing.encode(message)
    stage.connection(framing)
    sent = 0
    got = bytearray()
    while sent < len(wire):
        with contextlib.suppress(BlockingIOError):
            sent += stage.peer.send(wire[sent:])
        stage.turn(1)
        # Its own buffers are full: it has to read some, and leaves as much as it can.
        with contextlib.suppress(BlockingIOError):
            got += stage.peer.recv(4096)
    stage.peer.shutdown(socket.SHUT_WR)
    got += stage.read_to_end()
    assert bytes(got) == wire
    assert stage.end.ending is Ending.CLEAN
    assert stage.handler.eofs == 1


def test_a_half_closed_peer_that_stays_is_let_go_at_once(stage: Stage) -> None:
    connection = stage.connection()
    stage.peer.send(b"bye")
    stage.peer.shutdown(socket.SHUT_WR)
    stage.turn()
    assert connection.closed
    assert stage.end == End(Ending.CLEAN, None, 3, 3, 1)
    assert stage.read_to_end() == b"bye"


@pytest.mark.parametrize(
    ("framing", "wire", "header"),
    [(LengthPrefixed(), b"\0\0\0\5hello", 4), (Delimited(delimiter="\r\n"), b"hello\r\n", 0)],
    ids=["length-prefixed", "delimited"],
)
@pytest.mark.parametrize("cut", range(10))
def test_a_stream_that_ends_inside_a_message_is_truncated_and_tells_where(
    stage: Stage, framing: Framing, wire: bytes, header: int, cut: int
) -> None:
    stage.connection(framing)
    stage.peer.send(wire + wire[:cut])
    stage.peer.shutdown(socket.SHUT_WR)
    assert stage.read_to_end() == wire * (1 + (cut >= len(wire)))
    end = stage.end
    part = cut if cut < len(wire) else 0
    if not part:
        assert end.ending is Ending.CLEAN
        assert end.error is None
        return
    assert end.ending is Ending.TRUNCATED
    assert isinstance(end.error, IncompleteMessage)
    in_body = part >= header
    expected = (5 if in_body else header) if header else None
    assert end.error.received == (part - header if in_body else part)
    assert end.error.expected == expected
    assert stage.handler.eofs == 0


@every_framing
def test_a_reset_is_told_with_its_error_and_counts(stage: Stage, framing: Framing) -> None:
    stage.connection(framing)
    wire = framing.encode(b"before")
    stage.peer.send(wire)
    stage.turn()
    stage.reset()
    end = stage.end
    assert end.ending is Ending.RESET
    assert isinstance(end.error, ConnectionResetError)
    assert (end.bytes_in, end.bytes_out, end.messages) == (len(wire), len(wire), 1)


def test_a_reset_while_something_waits_is_told(stage: Stage) -> None:
    connection = stage.connection()
    connection.send(noise(BULK))
    stage.turn()
    stage.reset()
    end = stage.end
    assert end.ending is Ending.RESET
    assert isinstance(end.error, OSError)
    assert end.bytes_out == connection.bytes_out < BULK


def test_a_reset_of_a_half_closed_peer_that_was_still_owed_something_is_no_clean_end(
    stage: Stage,
) -> None:
    def last_words(_stream: Stream) -> None:
        connection.send(noise(BULK))
        connection.finish()

    stage.handler.on_eof = last_words
    connection = stage.connection()
    stage.peer.shutdown(socket.SHUT_WR)
    stage.turn()
    assert connection.sending
    stage.reset()
    end = stage.end
    assert end.bytes_out < BULK
    assert end.ending is Ending.RESET
    assert isinstance(end.error, OSError)


def test_urgent_data_does_no_harm(stage: Stage) -> None:
    stage.connection(LengthPrefixed())
    wire = LengthPrefixed().encode(b"plain")
    stage.peer.send(wire)
    stage.peer.send(b"!", socket.MSG_OOB)
    stage.turn()
    stage.peer.send(wire)
    stage.peer.shutdown(socket.SHUT_WR)
    assert stage.read_to_end() == wire * 2
    assert stage.end.ending is Ending.CLEAN


# Our own end.


def test_finishing_sends_a_fin_and_waits_for_the_peers(stage: Stage) -> None:
    connection = stage.connection()
    connection.finish(Ending.DRAINED)
    assert stage.read_to_end() == b""
    assert not connection.closed
    # What comes now is not answered, and no RST follows it.
    stage.peer.send(b"too late")
    stage.turn()
    assert stage.handler.messages == []
    assert stage.peer.recv(1) == b""
    stage.peer.close()
    assert stage.end.ending is Ending.DRAINED


def test_finishing_twice_is_finishing_once(stage: Stage) -> None:
    connection = stage.connection()
    connection.finish(Ending.DRAINED)
    connection.finish(Ending.CLEAN)
    connection.fail(FramingError("later"))
    stage.peer.close()
    assert stage.end == End(Ending.DRAINED, None, 0, 0, 0)


def test_unread_input_does_not_destroy_what_was_sent_before(stage: Stage) -> None:
    connection = stage.connection(LengthPrefixed(max_message=BULK))
    connection.send(noise(BULK))
    # Part of what the peer says will never be taken: it must not turn the end into a RST.
    stage.peer.send(b"\xff" * 20_000)
    connection.finish()
    assert stage.read_to_end() == LengthPrefixed(max_message=BULK).encode(noise(BULK))


def test_a_peer_that_never_ends_is_left_after_a_while(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LINGER_SECONDS", 0.1)
    connection = stage.connection()
    began = time.monotonic()
    connection.finish()
    while not stage.handler.ends:
        stage.turn(1, wait=0.01)
    assert 0.1 <= time.monotonic() - began < 2
    assert stage.end.ending is Ending.CLEAN


def test_a_peer_that_sends_on_and_on_is_left_after_so_many_bytes(stage: Stage) -> None:
    connection = stage.connection(chunk_size=4096)
    connection.finish()
    sent = 0
    while not connection.closed:
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            sent += stage.peer.send(b"x" * 4096)
        stage.turn(1)
        assert sent < 1 << 20
    assert sent > streams.LINGER_BYTES


def test_a_bad_frame_ends_it_after_what_was_owed_before(stage: Stage) -> None:
    framing = LengthPrefixed(max_message=100)
    stage.connection(framing)
    good = framing.encode(b"good")
    stage.peer.send(good * 3 + struct.pack(">I", 101) + b"x" * 101)
    assert stage.read_to_end() == good * 3
    stage.peer.close()
    end = stage.end
    assert end.ending is Ending.TOO_LARGE
    assert isinstance(end.error, MessageTooLarge)
    assert (end.error.size, end.error.limit) == (101, 100)
    assert end.messages == 3


def test_a_bad_frame_behind_answers_that_wait_does_not_lose_them(stage: Stage) -> None:
    framing = LengthPrefixed(max_message=BULK)
    stage.handler.on_message = lambda connection, _message: connection.send(noise(BULK))
    stage.connection(framing)
    stage.peer.send(framing.encode(b"?") * 2 + b"\xff\xff\xff\xff")
    assert stage.read_to_end() == framing.encode(noise(BULK)) * 2
    stage.peer.close()
    assert stage.end.ending is Ending.TOO_LARGE


def test_a_full_duplex_connection_ends_at_once_at_a_bad_frame(stage: Stage) -> None:
    connection = stage.connection(LengthPrefixed(max_message=100), full_duplex=True)
    stage.peer.send(b"\0\0\1\0")
    stage.turn()
    assert connection.closed
    assert stage.end.ending is Ending.TOO_LARGE


class _Telling(Framing):
    """A plugin's framing, whose decoder has `pending`, be it what a server asks for or not."""

    type: str = "telling"
    pending: Any = None

    def decoder(self) -> Any:
        class Decoder(type(Delimited().decoder())):  # type: ignore[misc]  # lines, as they are
            @property
            def pending(_self) -> Any:
                if isinstance(self.pending, Exception):
                    raise self.pending
                return self.pending

        return Decoder(b"\n", 100)

    def encode(self, message: bytes) -> bytes:
        return Delimited().encode(message)


@pytest.mark.parametrize("pending", [None, len, 7, [], b"x"], ids=repr)
def test_a_decoder_that_does_not_tell_is_amid_a_message_from_the_next_chunk_on(
    stage: Stage, pending: object
) -> None:
    connection = stage.connection(_Telling(pending=pending))
    assert not connection.unfinished
    for chunk, unfinished in ((b"a", True), (b"b\n", False), (b"c\nd", False), (b"e", True)):
        stage.peer.send(chunk)
        stage.turn(1)
        assert connection.unfinished is unfinished, chunk


def test_a_decoder_that_tells_is_believed(stage: Stage) -> None:
    connection = stage.connection(_Telling(pending=True))
    stage.peer.send(b"whole\n")
    stage.turn(1)
    assert connection.messages == 1
    assert connection.unfinished


def test_a_decoder_that_fails_to_tell_ends_its_own_connection(stage: Stage) -> None:
    bug = RuntimeError("bug in pending")
    connection = stage.connection(_Telling(pending=bug))
    assert not connection.unfinished
    stage.peer.close()
    assert stage.end.error is bug


class _Failing(Framing):
    """Lines, with a decoder that has a bug."""

    type: str = "failing"
    where: str

    def decoder(self) -> "_FailingDecoder":
        return _FailingDecoder(self.where)

    def encode(self, message: bytes) -> bytes:
        return message + b"\n"


class _FailingDecoder:
    def __init__(self, where: str) -> None:
        self._where = where
        self._inner = Delimited().decoder()

    def _may_fail(self, where: str) -> None:
        if self._where == where:
            raise RuntimeError(f"bug in {where}")

    def receive_data(self, data: bytes) -> None:
        if b"!" in data:
            self._may_fail("receive_data")
        self._inner.receive_data(data)

    def next_message(self) -> bytes | None:
        message = self._inner.next_message()
        if message is not None and b"!" in message:
            self._may_fail("next_message")
        return message

    def receive_eof(self) -> None:
        self._may_fail("receive_eof")


@pytest.mark.parametrize("where", ["receive_data", "next_message", "receive_eof"])
def test_a_bug_in_a_decoder_is_the_connections_end_and_keeps_its_error(
    stage: Stage, where: str
) -> None:
    stage.connection(_Failing(where=where))
    stage.peer.send(b"before\n")
    stage.turn()
    if where == "receive_eof":
        stage.peer.shutdown(socket.SHUT_WR)
    else:
        stage.peer.send(b"!\n")
    assert stage.read_to_end() == b"before\n"
    stage.peer.close()
    end = stage.end
    assert end.ending is Ending.ERROR
    assert isinstance(end.error, RuntimeError)
    assert str(end.error) == f"bug in {where}"


def test_closing_loses_what_waits_and_is_told_once(stage: Stage) -> None:
    connection = stage.connection()
    connection.send(noise(BULK))
    connection.close(Ending.CUT)
    connection.close()
    connection.finish()
    assert stage.end.ending is Ending.CUT
    assert not connection.sending
    assert len(stage.read_to_end()) == connection.bytes_out < BULK


@every_framing
def test_sending_on_a_closed_connection_does_nothing(stage: Stage, framing: Framing) -> None:
    connection = stage.connection(framing)
    connection.close()
    connection.send(b"too late")
    assert connection.bytes_out == 0
    assert not connection.sending


def test_a_handler_that_closes_amid_a_chunk_gets_no_more_of_it(stage: Stage) -> None:
    stage.handler.on_message = lambda connection, _message: connection.close()
    stage.connection(LengthPrefixed())
    stage.peer.send(LengthPrefixed().encode(b"one") + LengthPrefixed().encode(b"two"))
    stage.turn()
    assert stage.handler.messages == [b"one"]
    assert stage.end.ending is Ending.CLEAN


def test_half_closing_leaves_the_other_half_open(stage: Stage) -> None:
    stage.handler.on_message = lambda *_told: None
    connection = stage.connection(full_duplex=True)
    connection.send(b"last words")
    connection.send_fin()
    assert stage.read_to_end() == b"last words"
    stage.peer.send(b"an answer")
    stage.turn()
    assert stage.handler.messages == [b"an answer"]
    assert not connection.closed


def test_half_closing_after_a_reset_ends_it(stage: Stage) -> None:
    connection = stage.connection()
    stage.reset()
    with contextlib.suppress(OSError):
        # The system tells of the reset once; here it has told somebody else.
        os.read(stage.fd, 1)
    connection.send_fin()
    end = stage.end
    assert end.ending is Ending.RESET
    assert isinstance(end.error, OSError)
    assert end.error.errno in (errno.ENOTCONN, errno.EPIPE)


@pytest.mark.parametrize("echo", [False, True])
def test_what_is_read_while_it_cannot_answer_is_answered_later(stage: Stage, echo: bool) -> None:
    framing = LengthPrefixed()
    connection = stage.connection(framing, echo=echo)
    wire = framing.encode(b"asked")
    stage.peer.sendall(wire)
    # As another connection's handler may do, amid the events of which its own is one.
    connection.send(noise(BULK))
    assert connection.sending
    connection.on_ready(READ)
    assert connection.bytes_in == len(wire)
    stage.peer.shutdown(socket.SHUT_WR)
    assert stage.read_to_end() == framing.encode(noise(BULK)) + wire
    assert stage.end.messages == 1


# Echoing by itself.


@pytest.mark.parametrize("framing", [Raw(), LengthPrefixed()], ids=lambda f: f.type)
@every_chunk_size
@pytest.mark.parametrize("piece", [pytest.param(1, marks=pytest.mark.slow), 5, 4096])
def test_an_echo_sends_all_of_it_back_and_counts_it_without_telling_the_handler(
    stage: Stage, framing: Framing, chunk_size: int, piece: int
) -> None:
    messages = [b"", b"hello", b"x" * 300, b"y" * 5000][framing.transparent :]
    wire = b"".join(map(framing.encode, messages))
    connection = stage.echo(framing, chunk_size)
    back = b""
    for at in range(0, len(wire), piece):
        stage.peer.sendall(wire[at : at + piece])
        stage.turn(2)
        back += stage.read_available()
    stage.peer.shutdown(socket.SHUT_WR)
    assert back + stage.read_to_end() == wire
    assert stage.handler.messages == []
    assert (connection.bytes_in, connection.bytes_out) == (len(wire), len(wire))
    if not framing.transparent:
        assert connection.messages == len(messages)
    assert stage.end.ending is Ending.CLEAN


def test_an_echo_of_a_bad_frame_still_owes_what_came_before(stage: Stage) -> None:
    framing = LengthPrefixed(max_message=9)
    stage.connection(framing, echo=True)
    whole = framing.encode(b"one") + framing.encode(b"two")
    stage.peer.sendall(whole + b"\xff\xff\xff\xff")
    stage.peer.shutdown(socket.SHUT_WR)
    assert stage.read_to_end() == whole
    assert stage.end.ending is Ending.TOO_LARGE
    assert stage.end.messages == 2


@pytest.mark.parametrize("framing", [Raw(), LengthPrefixed()], ids=lambda f: f.type)
def test_an_echo_does_not_read_on_from_a_peer_that_does_not_read(
    stage: Stage, framing: Framing
) -> None:
    connection = stage.echo(framing, 4096)
    # Frames that one chunk has many of: a message alone would have to come whole first.
    wire = framing.encode(noise(512)) * 2048
    sent = 0
    while not connection.sending:
        with contextlib.suppress(BlockingIOError):
            sent += stage.peer.send(wire[sent:])
        stage.turn(1)
    read = connection.bytes_in
    stage.turn(50)
    assert connection.bytes_in == read < len(wire)
    back = bytearray()
    while len(back) < len(wire):
        back += stage.read_available()
        with contextlib.suppress(BlockingIOError):
            sent += stage.peer.send(wire[sent:])
        stage.turn(1)
    assert back == wire


@pytest.mark.parametrize("framing", [Raw(), LengthPrefixed()], ids=lambda f: f.type)
def test_what_the_handler_raises_at_an_end_is_its_own_and_no_decoders(
    stage: Stage, framing: Framing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> int:
        raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))

    def ended(connection: Stream) -> None:
        raise RuntimeError(connection.ending.value)

    stage.echo(framing, 4096)
    monkeypatch.setattr(connections, "write", fail)
    monkeypatch.setattr(straight, "write", fail)
    monkeypatch.setattr(stage.handler, "connection_ended", ended)
    stage.peer.sendall(framing.encode(b"x"))
    with pytest.raises(RuntimeError, match=r"^reset$"):
        stage.turn()


@pytest.mark.parametrize(
    "found", [("text", 1), (None, 1), b"frames"], ids=["str", "nothing", "no number"]
)
def test_frames_that_are_none_end_their_own_connection_only(stage: Stage, found: object) -> None:
    class Odd:
        def receive_data(self, data: bytes) -> None:
            """Drop it."""

        def next_frames(self) -> object:
            return found

        def receive_eof(self) -> None:
            """Nothing was begun."""

    class Verbatim(LengthPrefixed):
        @property
        def verbatim(self) -> bool:
            return True

        def decoder(self) -> Any:
            return Odd()

    stage.connection(Verbatim(), echo=True)
    stage.peer.sendall(b"x")
    stage.peer.shutdown(socket.SHUT_WR)
    assert stage.read_to_end() == b""
    assert stage.end.ending is Ending.ERROR
