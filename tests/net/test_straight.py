"""What goes straight back."""

import contextlib
import errno
import os
import socket
import types

import pytest

from echokit.net import socket_calls, straight
from echokit.net.handler import Ending
from tests.net.stage import Stage, noise


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
    stage.peer.shutdown(socket.SHUT_WR)
    assert stage.read_to_end() == noise(1000) + noise(2000)
    assert stage.end.ending is Ending.CLEAN
    assert connection.bytes_in == 3000


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
