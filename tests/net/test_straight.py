"""What goes straight back."""

import contextlib
import errno
import os
import random
import socket
import types
from collections.abc import Iterator

import pytest

from echokit.net import socket_calls, straight
from echokit.net.handler import Ending
from echokit.net.reactor import ARRIVAL, READ, Poller, SelectorPoller
from echokit.net.stream import SMALL
from tests.net.stage import Stage, noise


@pytest.fixture
def stage(family: socket.AddressFamily, host: str, poller: Poller) -> Iterator[Stage]:
    """A connected pair of sockets of each family, with each way to ask the system."""
    made = Stage(family, host, poller)
    yield made
    made.close()


def _exchange(stage: Stage, wire: bytes, sent: int = 0) -> bytes:
    """Send `wire` from `sent` on as the peer, as it is taken; all that came back meanwhile."""
    back = bytearray()
    for _ in range(100_000):
        if sent < len(wire):
            with contextlib.suppress(BlockingIOError):
                sent += stage.peer.send(wire[sent:])
        stage.turn(1)
        back += stage.read_available()
        if len(back) >= len(wire):
            return bytes(back)
    pytest.fail(f"{len(back)} of {len(wire)} bytes came back")


def test_little_is_asked_for_until_more_comes(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def read(fd: int, size: int) -> bytes:
        asked.append(size)
        return os.read(fd, size)

    monkeypatch.setattr(straight, "read", read)
    stage.straight()
    assert _exchange(stage, b"x" * 64) == b"x" * 64
    assert set(asked) == {small := asked[0]}
    assert small < 512
    assert _exchange(stage, b"y" * 4000) == b"y" * 4000
    assert set(asked) == {small, 65536}


@pytest.mark.parametrize("size", [16, 300_000, 1 << 21])
def test_much_goes_straight_back_and_is_counted(stage: Stage, size: int) -> None:
    connection = stage.straight(256 << 10)
    wire = noise(size)
    for _ in range(3):
        assert _exchange(stage, wire) == wire
    assert (connection.bytes_in, connection.bytes_out) == (3 * size, 3 * size)
    stage.peer.shutdown(socket.SHUT_WR)
    assert stage.read_to_end() == b""
    assert (stage.end.ending, stage.end.bytes_in, stage.end.bytes_out) == (
        Ending.CLEAN, 3 * size, 3 * size,
    )  # fmt: skip
    assert stage.handler.messages == []


def test_a_peer_that_does_not_read_is_not_read_from_and_then_gets_all_of_it(stage: Stage) -> None:
    connection = stage.straight(256 << 10)
    wire = noise(8 << 20)
    sent = 0
    for _ in range(200):
        with contextlib.suppress(BlockingIOError):
            sent += stage.peer.send(wire[sent:])
        stage.turn(1)
    assert connection.sending
    assert connection.bytes_out < connection.bytes_in < len(wire)
    read = connection.bytes_in
    stage.turn(20)
    assert connection.bytes_in == read
    assert _exchange(stage, wire, sent) == wire
    assert (connection.bytes_in, connection.bytes_out) == (len(wire), len(wire))


def test_an_urgent_byte_stands_outside_of_the_stream(stage: Stage) -> None:
    connection = stage.straight(256 << 10)
    # Of what is sent as urgent, the last byte is.
    stage.peer.send(noise(1000))
    stage.peer.send(b"!", socket.MSG_OOB)
    stage.peer.send(noise(2000))
    # A read stops before it. What is behind it comes without anything more arriving.
    assert _exchange(stage, noise(1000) + noise(2000), sent=3000) == noise(1000) + noise(2000)
    stage.peer.shutdown(socket.SHUT_WR)
    assert stage.read_to_end() == b""
    assert stage.end.ending is Ending.CLEAN
    assert connection.bytes_in == 3000


@pytest.mark.parametrize("chunk_size", [1, 16, 500])
def test_what_a_read_leaves_is_read_in_the_next_turn_and_no_sooner(
    stage: Stage, chunk_size: int
) -> None:
    connection = stage.straight(chunk_size)
    wire = noise(chunk_size * 3)
    stage.peer.send(wire)
    seen = []
    for _ in range(5):
        stage.turn(1)
        seen.append(connection.bytes_in)
    # The first read asks for little, if much may be asked for.
    assert seen[0] == min(chunk_size, SMALL)
    assert seen[1] == seen[0] + chunk_size
    assert seen[-1] == len(wire)
    assert stage.read_available() == wire


def _modified(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The events that the system is asked for anew, as they come."""
    modified = []

    def noted(fd: int, events: int) -> None:
        modified.append(events)
        modify(fd, events)

    modify = stage.reactor.modify
    monkeypatch.setattr(stage.reactor, "modify", noted)
    return modified


@pytest.mark.parametrize(("chunk_size", "calls"), [(16, 1), (65536, 0)])
def test_filled_chunks_do_not_cost_a_call_each(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, chunk_size: int, calls: int
) -> None:
    modified = _modified(stage, monkeypatch)
    stage.straight(chunk_size)
    for _ in range(5):
        assert _exchange(stage, noise(16)) == noise(16)
    assert len(modified) == calls


def test_a_read_that_was_filled_only_because_it_asked_for_little_stays_told_of_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    modified = _modified(stage, monkeypatch)
    stage.straight(65536)
    assert _exchange(stage, noise(SMALL)) == noise(SMALL)
    assert modified == [ARRIVAL]


def test_what_has_come_is_told_of_once_where_there_is_epoll(
    stage: Stage, poller: Poller, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = 5 if isinstance(poller, SelectorPoller) else 1
    told: list[int] = []
    stage.straight()
    monkeypatch.setattr(straight.Straight, "on_ready", lambda _self, events: told.append(events))
    stage.peer.send(b"once")
    stage.turn(5)
    assert told == [READ] * times
    stage.peer.send(b"again")
    stage.turn(5)
    assert told == [READ] * times * 2


def test_an_end_that_comes_with_the_last_bytes_is_seen(stage: Stage) -> None:
    stage.straight()
    stage.peer.send(b"the last")
    stage.peer.shutdown(socket.SHUT_WR)
    assert stage.read_to_end() == b"the last"
    assert stage.end.ending is Ending.CLEAN


def test_a_reset_that_comes_with_the_last_bytes_is_seen(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else it would be the write that sees it.
    monkeypatch.setattr(straight, "write", lambda _fd, data: len(data))
    stage.straight()
    stage.peer.send(b"the last")
    stage.reset()
    assert stage.end.ending is Ending.RESET


def test_what_comes_after_our_end_is_read_to_its_end(stage: Stage) -> None:
    connection = stage.straight(16)
    connection.finish()
    stage.peer.send(noise(4000))
    stage.peer.shutdown(socket.SHUT_WR)
    # Not by the timer, and not by a reset.
    stage.turn(300)
    assert connection.closed
    assert stage.read_to_end() == b""


def test_a_read_that_fails_for_now_is_tried_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_now(_fd: int, _size: int) -> bytes:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    connection = stage.straight()
    with monkeypatch.context() as patch:
        patch.setattr(straight, "read", not_now)
        stage.peer.send(b"late")
        stage.turn(1)
        assert connection.bytes_in == 0
    stage.turn(1)
    assert stage.read_available() == b"late"


@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_together_nothing_is_left_behind(stage: Stage, seed: int) -> None:
    """Bytes, urgent ones between them, a peer that does not read, and its end, in any rhythm."""
    chance = random.Random(seed)  # noqa: S311 - a test's own
    connection = stage.straight(chance.choice([1, 16, SMALL, SMALL + 1, 4096, 256 << 10]))
    sent, back = bytearray(), bytearray()
    for _ in range(chance.randrange(1, 30)):
        if chance.random() < 0.2:
            # Only the last of several that nobody has read yet stays outside of the stream.
            while connection.bytes_in < len(sent):
                stage.turn(1)
                back += stage.read_available()
            stage.peer.send(b"!", socket.MSG_OOB)
        else:
            piece = noise(chance.choice([1, 15, 16, 17, SMALL, 2000, 100_000]))
            with contextlib.suppress(BlockingIOError):
                sent += piece[: stage.peer.send(piece)]
        stage.turn(chance.randrange(3))
        if chance.random() < 0.5:
            back += stage.read_available()
    stage.peer.shutdown(socket.SHUT_WR)
    back += stage.read_to_end()
    assert back == sent
    assert stage.end.ending is Ending.CLEAN
    assert connection.bytes_out == len(sent)


def test_a_reset_with_something_unsent_is_told_as_one_and_counts_what_was_taken(
    stage: Stage,
) -> None:
    connection = stage.straight(256 << 10)
    wire = noise(8 << 20)
    sent = 0
    while not connection.sending:
        with contextlib.suppress(BlockingIOError):
            sent += stage.peer.send(wire[sent:])
        stage.turn(1)
    stage.reset()
    assert (stage.end.ending, stage.end.why) == (Ending.RESET, "connection reset by peer")
    assert stage.end.bytes_out < stage.end.bytes_in


@pytest.mark.parametrize(
    ("failure", "words"),
    [(errno.ECONNRESET, "connection reset by peer"), (errno.EPIPE, "broken pipe")],
)
def test_what_cannot_be_sent_any_more_is_not_counted_as_sent(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, failure: int, words: str
) -> None:
    def fails(_fd: int, _data: bytes) -> int:
        raise OSError(failure, os.strerror(failure))

    stage.straight()
    assert _exchange(stage, b"well") == b"well"
    monkeypatch.setattr(straight, "write", fails)
    stage.peer.send(b"lost!")
    stage.turn()
    assert (stage.end.ending, stage.end.why) == (Ending.RESET, words)
    assert (stage.end.bytes_in, stage.end.bytes_out, stage.end.messages) == (9, 4, 2)


def test_nobody_sees_bytes_as_sent_before_they_are(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = stage.straight()
    seen = []

    def takes_half(fd: int, data: bytes) -> int:
        seen.append((connection.bytes_in, connection.bytes_out))
        return os.write(fd, data[: len(data) // 2])

    monkeypatch.setattr(straight, "write", takes_half)
    stage.peer.sendall(b"12345678")
    stage.turn(1)
    seen.append((connection.bytes_in, connection.bytes_out))
    assert seen == [(0, 0), (8, 4)]
    stage.turn()
    assert stage.read_available() == b"12345678"
    assert (connection.bytes_in, connection.bytes_out) == (8, 8)


def test_a_close_that_tells_of_a_reset_has_closed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close(fd: int) -> None:
        os.close(fd)
        raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))

    connection = stage.straight()
    with monkeypatch.context() as patch:
        # As the BSDs have it.
        patch.setattr(socket_calls, "os", types.SimpleNamespace(close=close))
        connection.close()
    assert stage.end.ending is Ending.CLEAN
    assert stage.peer.recv(1) == b""


def test_half_closing_what_has_ended_does_nothing(stage: Stage) -> None:
    connection = stage.straight()
    connection.close()
    connection.send_fin()
    assert stage.end.ending is Ending.CLEAN
