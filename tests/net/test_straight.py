"""What goes straight back, and much of it through a pipe."""

import contextlib
import errno
import os
import socket
import types
from collections.abc import Iterator

import pytest

from echokit.net import socket_calls, straight
from echokit.net.handler import Ending
from echokit.net.straight import BULK, Pipe
from tests.net.stage import Stage, noise

splicing = pytest.mark.skipif(not hasattr(os, "splice"), reason="this system has no splice()")


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe.made()
    assert made is not None
    yield made
    # Between two events nothing stays in it.
    with pytest.raises(BlockingIOError):
        os.read(made.outlet, 1)
    made.close()


class _Splices:
    """Notes what each splice() into the pipe brought, and can fail in its stead."""

    def __init__(self, patch: pytest.MonkeyPatch, pipe: Pipe) -> None:
        self.brought: list[int] = []
        self.fail_in = self.fail_out = self.failed = 0
        really = os.splice

        def splice(src: int, dst: int, count: int, **options: int) -> int:
            coming = dst == pipe.inlet
            if failure := self.fail_in if coming else self.fail_out:
                self.failed += 1
                raise OSError(failure, os.strerror(failure))
            moved = really(src, dst, count, **options)
            if coming:
                self.brought.append(moved)
            return moved

        patch.setattr(os, "splice", splice)


@pytest.fixture
def splices(monkeypatch: pytest.MonkeyPatch, pipe: Pipe) -> _Splices:
    return _Splices(monkeypatch, pipe)


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


@splicing
@pytest.mark.parametrize("size", [BULK - 1, BULK, BULK + 1, 300_000, 1 << 21])
def test_much_goes_back_through_the_pipe_and_is_counted(
    stage: Stage, pipe: Pipe, splices: _Splices, size: int
) -> None:
    connection = stage.straight(256 << 10, pipe)
    wire = noise(size)
    for _ in range(3):
        assert _exchange(stage, wire) == wire
    if size > 4 * BULK:
        assert sum(splices.brought) > size
    assert max(splices.brought, default=0) <= 256 << 10
    assert (connection.bytes_in, connection.bytes_out) == (3 * size, 3 * size)
    stage.peer.shutdown(socket.SHUT_WR)
    assert stage.read_to_end() == b""
    assert (stage.end.ending, stage.end.bytes_in, stage.end.bytes_out) == (
        Ending.CLEAN, 3 * size, 3 * size,
    )  # fmt: skip
    assert stage.handler.messages == []


def _make_bulky(stage: Stage, splices: _Splices) -> None:
    """Let so much come that the pipe is used from here on."""
    wire = noise(4 * BULK)
    while not splices.brought:
        assert _exchange(stage, wire) == wire


@splicing
def test_a_peer_that_does_not_read_is_not_read_from_and_then_gets_all_of_it(
    stage: Stage, pipe: Pipe, splices: _Splices
) -> None:
    connection = stage.straight(256 << 10, pipe)
    _make_bulky(stage, splices)
    begun = connection.bytes_in
    wire = noise(8 << 20)
    sent = 0
    for _ in range(200):
        with contextlib.suppress(BlockingIOError):
            sent += stage.peer.send(wire[sent:])
        stage.turn(1)
    assert connection.sending
    assert connection.bytes_in - begun < len(wire)
    read = connection.bytes_in
    stage.turn(20)
    assert connection.bytes_in == read
    assert _exchange(stage, wire, sent) == wire


@splicing
def test_little_after_much_is_read_again(stage: Stage, pipe: Pipe, splices: _Splices) -> None:
    stage.straight(256 << 10, pipe)
    _make_bulky(stage, splices)
    assert _exchange(stage, b"a") == b"a"
    spliced = len(splices.brought)
    for _ in range(5):
        assert _exchange(stage, b"b") == b"b"
    assert len(splices.brought) == spliced


@splicing
def test_an_urgent_byte_amid_much_stops_nothing(
    stage: Stage, pipe: Pipe, splices: _Splices
) -> None:
    connection = stage.straight(256 << 10, pipe)
    _make_bulky(stage, splices)
    before = connection.bytes_in
    # The last byte is the urgent one, and stands outside of the stream.
    stage.peer.send(b"!", socket.MSG_OOB)
    assert _exchange(stage, noise(BULK)) == noise(BULK)
    assert connection.bytes_in == before + BULK
    stage.peer.shutdown(socket.SHUT_WR)
    assert stage.read_to_end() == b""
    assert stage.end.ending is Ending.CLEAN


@splicing
def test_what_stands_between_an_urgent_byte_and_the_end_is_not_lost(
    stage: Stage, pipe: Pipe, splices: _Splices
) -> None:
    stage.straight(256 << 10, pipe)
    _make_bulky(stage, splices)
    # All of it, and the FIN, is there before anything is read.
    stage.peer.send(noise(BULK))
    stage.peer.send(b"!", socket.MSG_OOB)
    stage.peer.send(noise(BULK))
    stage.peer.shutdown(socket.SHUT_WR)
    assert stage.read_to_end() == noise(BULK) * 2
    assert stage.end.ending is Ending.CLEAN


@splicing
def test_where_splice_cannot_be_had_it_is_read_and_written(
    stage: Stage, pipe: Pipe, splices: _Splices
) -> None:
    splices.fail_in = errno.EINVAL
    stage.straight(256 << 10, pipe)
    wire = noise(1 << 20)
    assert _exchange(stage, wire) == wire
    # It is not tried again and again.
    assert (splices.failed, splices.brought) == (1, [])


@splicing
def test_a_reset_amid_much_is_told_as_one(stage: Stage, pipe: Pipe, splices: _Splices) -> None:
    stage.straight(256 << 10, pipe)
    _make_bulky(stage, splices)
    stage.reset()
    assert stage.end.ending is Ending.RESET
    assert stage.end.why == "connection reset by peer"


@splicing
@pytest.mark.parametrize(
    ("failure", "words"),
    [(errno.ECONNRESET, "connection reset by peer"), (errno.EPIPE, "broken pipe")],
)
def test_what_cannot_be_sent_any_more_does_not_stay_in_the_pipe(
    stage: Stage, pipe: Pipe, splices: _Splices, failure: int, words: str
) -> None:
    connection = stage.straight(256 << 10, pipe)
    _make_bulky(stage, splices)
    out = connection.bytes_out
    splices.fail_out = failure
    stage.peer.send(noise(BULK))
    stage.turn()
    assert (stage.end.ending, stage.end.why, stage.end.bytes_out) == (Ending.RESET, words, out)


@splicing
def test_a_pipe_that_cannot_be_made_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_flags: int) -> tuple[int, int]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "pipe2", fail)
    assert Pipe.made() is None


def test_a_system_without_splice_has_no_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "splice", raising=False)
    assert Pipe.made() is None


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
