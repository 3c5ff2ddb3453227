"""What a server counts of all that happens to it, and when it tells."""

import contextlib
import json
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from echokit import Delimited, EchoServer, Ending, FramingError
from echokit.config import Limits
from echokit.framing.base import Decoder, Framing
from echokit.net.admission import Refusal
from tests.cli.peers import client, name_of, receive, reset
from tests.cli.processes import DEADLINE, Running
from tests.faults.serving import Serving, quietly, until


class _Touchy(Framing):
    """Lines, of which some are no good and one meets a bug."""

    type: str = "touchy"

    def decoder(self) -> "_TouchyDecoder":
        return _TouchyDecoder()

    def encode(self, message: bytes) -> bytes:
        if message == b"no way back":
            raise FramingError("there is no way back")
        return message + b"\n"


class _TouchyDecoder:
    def __init__(self) -> None:
        self._lines: Decoder = Delimited(max_message=100).decoder()
        self.receive_data = self._lines.receive_data
        self.receive_eof = self._lines.receive_eof

    def next_message(self) -> bytes | None:
        line = self._lines.next_message()
        if line == b"bad":
            raise FramingError("a bad line")
        if line == b"bug":
            raise RuntimeError("a bug")
        return line


@contextlib.contextmanager
def _clients(server: EchoServer, number: int) -> Iterator[list[socket.socket]]:
    host = server.addresses[0].host
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(client(host, server.port)) for _ in range(number)]


def _flood(sock: socket.socket) -> None:
    """Send until nothing more goes, and read nothing."""
    sock.settimeout(0.1)
    with contextlib.suppress(TimeoutError, ConnectionResetError):
        while True:
            sock.sendall(b"x\n" * 50_000)


@pytest.mark.one_family
def test_every_kind_of_end_is_counted_as_what_it_is_and_all_adds_up(host: str) -> None:
    limits = Limits(
        idle_timeout=0.5,
        message_timeout=0.3,
        send_timeout=0.3,
        max_lifetime=1.5,
        # So that a peer that does not read is soon owed something.
        send_buffer=16 << 10,
        receive_buffer=16 << 10,
    )
    with (
        EchoServer(host, 0, framing=_Touchy(), chunk_size=4096, limits=limits) as server,
        _clients(server, 11) as socks,
    ):
        clean, cut_short, large, bad, bug, no_way, lost, idle, slow, unread, busy = socks
        for sock in socks:
            sock.sendall(b"hello\n")
            assert receive(sock, 6) == b"hello\n"
        assert (server.counters.accepted, server.counters.open) == (11, 11)
        cut_short.sendall(b"hel")
        cut_short.shutdown(socket.SHUT_WR)
        large.sendall(b"x" * 101)
        bad.sendall(b"bad\n")
        bug.sendall(b"bug\n")
        no_way.sendall(b"no way back\n")
        reset(lost)
        clean.close()
        slow.sendall(b"h")
        flooding = threading.Thread(target=_flood, args=(unread,))
        flooding.start()
        with contextlib.suppress(ConnectionError):
            while busy.send(b"again\n") and receive(busy, 6):
                # It is never idle, and its life ends.
                threading.Event().wait(0.01)
        for sock in (cut_short, large, bad, bug, no_way, idle, slow):
            assert sock.recv(1) == b""
        flooding.join()
        busy.close()
        until(lambda: server.counters.open == 0)
    counters = server.counters
    assert counters.ended == {
        Ending.CLEAN: 1,
        Ending.TRUNCATED: 1,
        Ending.TOO_LARGE: 1,
        Ending.BAD_FRAME: 2,
        Ending.ERROR: 1,
        Ending.RESET: 1,
        Ending.IDLE: 1,
        Ending.MESSAGE_TIMEOUT: 1,
        Ending.SEND_TIMEOUT: 1,
        Ending.LIFETIME: 1,
    }
    assert counters.accepted == counters.ended.total() == 11
    # Eleven greetings, and the message that came whole but could not be encoded.
    assert counters.messages >= 12
    assert counters.bytes_in > counters.bytes_out > 0
    assert counters.refused.total() == counters.accept_failures == counters.pauses == 0


@pytest.mark.one_family
def test_at_a_stop_those_that_finish_are_drained_and_those_that_do_not_are_cut(host: str) -> None:
    limits = Limits(drain_timeout=0.4)
    with (
        EchoServer(host, 0, chunk_size=4096, limits=limits) as server,
        _clients(server, 3) as (quiet, unread, clean),
    ):
        clean.close()
        quiet.sendall(b"x")
        assert receive(quiet, 1) == b"x"
        _flood(unread)
        server.stop()
        assert quiet.recv(1) == b""
        quiet.close()
        until(lambda: server.counters.open == 0)
    assert server.counters.ended == {Ending.CLEAN: 1, Ending.DRAINED: 1, Ending.CUT: 1}
    assert server.counters.accepted == 3


def test_a_refused_peer_is_counted_as_refused_and_nowhere_else(host: str) -> None:
    limits = Limits(max_connections_per_peer=1)
    with EchoServer(host, 0, limits=limits) as server, _clients(server, 4) as socks:
        until(lambda: server.counters.refused[Refusal.TOO_MANY] == 3)
        counters = server.counters
        assert (counters.accepted, counters.open, counters.ended.total()) == (1, 1, 0)
        socks[0].close()


def test_a_look_from_another_thread_finds_every_connection_open_or_ended(host: str) -> None:
    often = sys.getswitchinterval()
    looks = 0
    with EchoServer(host, 0) as server, contextlib.ExitStack() as stack:
        stack.callback(sys.setswitchinterval, often)
        over = threading.Event()

        def churn() -> None:
            try:
                for _ in range(500):
                    with client(server.addresses[0].host, server.port) as sock:
                        sock.sendall(b"x")
                        assert receive(sock, 1) == b"x"
            finally:
                over.set()

        # So that threads take turns amid everything.
        sys.setswitchinterval(1e-6)
        churning = threading.Thread(target=churn)
        churning.start()
        stack.callback(churning.join)
        while not over.is_set():
            counters = server.counters
            assert counters.accepted == counters.open + counters.ended.total()
            looks += 1
    assert looks > 10
    assert server.counters.ended.total() == 500


# Telling.


@pytest.mark.parametrize("output", ["transcript", "quiet"])
def test_sigusr1_tells_the_numbers_on_stderr_at_any_time(host: str, output: str) -> None:
    with contextlib.ExitStack() as stack:
        if output == "quiet":
            server, port = stack.enter_context(quietly(host, "--chunk-size", "5"))
            told = ["2 connections accepted, 1 open", "ended: 1 clean"]
        else:
            options = ("--host", host, "--port", "0", "--chunk-size", "5")
            server = stack.enter_context(Running("serve", *options))
            port = server.port()
            told = ["1 connection accepted, 1 open"]
        with client(host, port) as sock:
            sock.sendall(b"hello")
            assert receive(sock, 5) == b"hello"
            for _ in range(3):
                server.signal(signal.SIGUSR1)
                lines = [server.err.line() for _ in told]
                assert all(
                    line.startswith(f"echokit: {start}")
                    for line, start in zip(lines, told, strict=True)
                )
                assert lines[0].endswith("; 1 message, 5 bytes in, 5 bytes out")
        done = server.end(signal.SIGTERM)
    assert done.code == 0
    # At the end once more, but for one that is to be quiet.
    assert len(done.counted) == (0 if output == "quiet" else 2)


def test_sigusr1_tells_the_numbers_as_an_event_in_json(host: str) -> None:
    with Serving(host) as server:
        assert server.counters()["accepted"] == 0
        with server.connect() as sock:
            sock.sendall(b"hello")
            assert receive(sock, 5) == b"hello"
            counters = server.counters()
            assert (counters["accepted"], counters["open"]) == (1, 1)
            assert (counters["bytes_in"], counters["bytes_out"]) == (5, 5)
        server.next("end")
        done = server.end(signal.SIGTERM)
    last = json.loads(done.lines[-1])
    assert (last["event"], last["open"], last["ended"]["clean"]) == ("counters", 0, 1)
    assert done.err == b""


def _strangers(host: str, port: int, number: int) -> list[str]:
    """So many peers whose first frame is over every limit; their names."""
    names = []
    for _ in range(number):
        with client(host, port) as sock:
            names.append(name_of(sock))
            sock.sendall(b"\xff\xff\xff\xff")
            assert sock.recv(1) == b""
    return names


def _left_out(lines: list[str]) -> int:
    return sum(int(n) for n in re.findall(r"(\d+) more (?:like this )?left out", "\n".join(lines)))


def _closed(lines: list[str]) -> list[str]:
    return [line for line in lines if " closed: " in line]


@pytest.mark.slow
def test_what_peers_can_cause_does_not_fill_the_log_and_what_is_left_out_is_counted(
    host: str,
) -> None:
    with quietly(host, "--framing", "length-prefixed") as (server, port):
        began = time.monotonic()
        _strangers(host, port, 300)
        seconds = time.monotonic() - began
        time.sleep(1.05)
        (last,) = _strangers(host, port, 1)
        server.signal(signal.SIGUSR1)
        lines = []
        while not (line := server.err.line()).startswith("echokit: 302 connections accepted"):
            lines.append(line)
        assert "301 too-large" in server.err.line()
        assert server.end(signal.SIGTERM).code == 0
    assert len(_closed(lines)) <= 10 * (int(seconds) + 1) + 1
    assert len(lines) <= len(_closed(lines)) + int(seconds) + 2
    assert len(_closed(lines)) + _left_out(lines) == 301
    assert last in _closed(lines)[-1]


@pytest.mark.slow
def test_what_was_left_out_when_the_flood_was_over_is_told_all_the_same(host: str) -> None:
    with quietly(host, "--framing", "length-prefixed") as (server, port):
        _strangers(host, port, 40)
        lines: list[str] = []
        # Nothing more comes, and the server is not asked: it tells by itself.
        while len(_closed(lines)) + _left_out(lines) < 40:
            lines.append(server.err.line())
        assert server.end(signal.SIGTERM).told == []


def test_what_was_left_out_just_before_the_end_is_told_before_the_numbers(host: str) -> None:
    options = ("--host", host, "--port", "0", "--framing", "length-prefixed")
    with Running("serve", *options) as server:
        _strangers(host, server.port(), 40)
        done = server.end(signal.SIGTERM)
    assert done.code == 0
    assert len(_closed(done.told)) + _left_out(done.told) == 40
    assert done.told + done.counted == [
        line.removeprefix("echokit: ") for line in done.err.decode().splitlines()
    ]


@pytest.mark.slow
def test_refusals_that_were_left_out_are_told_by_themselves(host: str) -> None:
    own = "127.0.0.0/8" if host == "127.0.0.1" else "::1"
    with quietly_refusing(host, own) as (server, port):
        for _ in range(20):
            with client(host, port) as sock, contextlib.suppress(ConnectionResetError):
                assert sock.recv(1) == b""
        lines: list[str] = []
        while len(_refused(lines)) + _left_out(lines) < 20:
            lines.append(server.err.line())
        assert server.end(signal.SIGTERM).told == []


@pytest.mark.slow
def test_refusals_are_a_line_a_second_for_each_reason(host: str) -> None:
    own = "127.0.0.0/8" if host == "127.0.0.1" else "::1"
    with quietly_refusing(host, own) as (server, port):
        for number in (50, 1):
            began = time.monotonic()
            for _ in range(number):
                with client(host, port) as sock, contextlib.suppress(ConnectionResetError):
                    assert sock.recv(1) == b""
            seconds = time.monotonic() - began
            lines: list[str] = []
            while len(_refused(lines)) + _left_out(lines) < number:
                lines.append(server.err.line())
            assert len(_refused(lines)) <= int(seconds) + 1
            time.sleep(1.05)
        assert server.end(signal.SIGTERM).told == []


def _refused(lines: list[str]) -> list[str]:
    return [line for line in lines if " refused: denied" in line]


@contextlib.contextmanager
def quietly_refusing(host: str, network: str) -> Iterator[tuple[Running, int]]:
    """A server that refuses everybody in a network."""
    options = ("--host", host, "--port", "0", "--deny", network)
    with Running("serve", *options) as server:
        yield server, server.port()
        assert server.process.wait(DEADLINE) == 0
