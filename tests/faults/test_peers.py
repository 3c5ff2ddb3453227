"""What peers do to a server, on purpose or not: resets, cuts, floods, silence, urgent data."""

import contextlib
import hashlib
import itertools
import os
import re
import signal
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from echokit import Delimited, EchoServer, Ending, LengthPrefixed
from echokit.framing.base import Framing
from tests.cli.peers import client, receive, reset
from tests.cli.processes import Running
from tests.faults.serving import Serving, cpu_seconds, descriptors, memory, quietly, until

WIRES: list[tuple[Framing, bytes]] = [
    (LengthPrefixed(), b"\0\0\0\5hello"),
    (Delimited(delimiter="\r\n"), b"hello\r\n"),
]
framed = pytest.mark.parametrize(("framing", "wire"), WIRES, ids=["length-prefixed", "delimited"])


def _echoes(sock: socket.socket, wire: bytes = b"echo") -> bool:
    sock.sendall(wire)
    return receive(sock, len(wire)) == wire


def _read_to_end(sock: socket.socket) -> bytes:
    got = bytearray()
    while data := sock.recv(65536):
        got += data
    return bytes(got)


def _counted(server: Running) -> tuple[int, int, str]:
    """What it says when it is asked: how many were accepted, are open, and how the others ended."""
    server.signal(signal.SIGUSR1)
    numbers = re.fullmatch(
        r"echokit: ([0-9]+) connections? accepted, ([0-9]+) .*", server.err.line()
    )
    ended = server.err.line()
    assert numbers, "something else was told"
    return int(numbers[1]), int(numbers[2]), ended.removeprefix("echokit: ended: ")


# Resets and cuts.


def test_resets_amid_an_echo_are_counted_and_leave_no_descriptor(host: str) -> None:
    with quietly(host, "--chunk-size", "64k") as (server, port), client(host, port) as other:
        assert _echoes(other)
        base = descriptors(server.process.pid)
        for _ in range(20):
            sock = client(host, port)
            sock.sendall(bytes(1 << 20))
            reset(sock)
        # Those that wait to be accepted have no descriptor yet.
        until(lambda: _counted(server)[:2] == (22, 1))
        until(lambda: descriptors(server.process.pid) == base, 1.0)
        assert _echoes(other)
        assert _counted(server) == (22, 1, "20 reset, 1 clean")
        other.close()
        until(lambda: descriptors(server.process.pid) == base - 1)
        done = server.end(signal.SIGTERM)
    # Neither a traceback nor a line for each: that they leave is the peers' own affair.
    assert (done.code, done.err) == (0, b"")


@framed
@pytest.mark.parametrize("end", ["fin", "reset"])
def test_a_message_cut_at_any_byte_is_counted_and_nothing_of_it_echoed(
    host: str, framing: Framing, wire: bytes, end: str
) -> None:
    with EchoServer(host, 0, framing=framing, chunk_size=64) as server:
        for cut in range(len(wire)):
            sock = client(host, server.port)
            assert _echoes(sock, wire)
            sock.sendall(wire[:cut])
            if end == "reset":
                reset(sock)
            else:
                sock.shutdown(socket.SHUT_WR)
                assert _read_to_end(sock) == b""
                sock.close()
        until(lambda: server.counters.ended.total() == len(wire))
        counters = server.counters
        with client(host, server.port) as later:
            assert _echoes(later, wire)
    if end == "reset":
        assert counters.ended == {Ending.RESET: len(wire)}
    else:
        # At the first offset nothing had begun.
        assert counters.ended == {Ending.CLEAN: 1, Ending.TRUNCATED: len(wire) - 1}
    assert counters.messages == len(wire)


# Frames.


@framed
def test_a_stream_that_comes_byte_by_byte_and_one_that_comes_at_once_are_the_same(
    host: str, framing: Framing, wire: bytes
) -> None:
    frames = wire * 300
    with EchoServer(host, 0, framing=framing, chunk_size=65536) as server:
        for size in (1, len(frames)):
            with client(host, server.port) as sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for at in range(0, len(frames), size):
                    sock.send(frames[at : at + size])
                sock.shutdown(socket.SHUT_WR)
                assert _read_to_end(sock) == frames
        until(lambda: server.counters.ended.total() == 2)
        assert server.counters.messages == 600


@pytest.mark.parametrize("framing", [LengthPrefixed(), Delimited()], ids=lambda f: f.type)
def test_ten_thousand_empty_messages_come_back(host: str, framing: Framing) -> None:
    wire = framing.encode(b"") * 10_000
    with EchoServer(host, 0, framing=framing, chunk_size=65536) as server:
        with client(host, server.port) as sock:
            assert _echoes(sock, wire)
        until(lambda: server.counters.ended[Ending.CLEAN] == 1)
        assert server.counters.messages == 10_000


@pytest.mark.slow
@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x80000000, (16 << 20) + 1])
def test_a_length_over_the_limit_ends_it_at_once_and_takes_no_memory(
    host: str, length: int
) -> None:
    with Serving(host, "--framing", "length-prefixed") as server:
        before, took = 0, []
        for number in range(350):
            if number == 300:
                # By now it has made whatever it makes once, and its allocator has room.
                before = memory(server.process.pid)
            with server.connect() as sock:
                began = time.monotonic()
                sock.sendall(struct.pack(">I", length))
                assert sock.recv(1) == b""
                took.append(time.monotonic() - began)
            assert server.next("end")["error"] == (
                f"message of {length} bytes is over the limit of {16 << 20}"
            )
        assert sorted(took)[len(took) // 2] < 0.1
        # All fifty together.
        assert memory(server.process.pid) - before < 64 << 10
        with server.connect() as sock:
            assert _echoes(sock, b"\0\0\0\4next")
        assert server.counters()["ended"]["too-large"] == 350
        assert server.end(signal.SIGTERM).code == 0


@pytest.mark.slow
def test_a_thousand_announced_messages_take_no_memory_before_they_come(host: str) -> None:
    # A message of a byte, or one of 16 MiB of which a byte comes: all of them begun.
    grown = []
    for begun in (b"\0\0\0\1", b"\1\0\0\0x"):
        with (
            quietly(host, "--framing", "length-prefixed") as (server, port),
            contextlib.ExitStack() as stack,
        ):
            before = memory(server.process.pid)
            for _ in range(1000):
                stack.enter_context(client(host, port)).sendall(begun)
            until(lambda: _counted(server)[1] == 1000)
            grown.append(memory(server.process.pid) - before)
    assert grown[1] - grown[0] < 1000 * 512
    assert max(grown) < 1000 * 4096


# Half-close.


@pytest.mark.slow
def test_bulk_before_a_half_close_survives_a_client_that_reads_only_later(host: str) -> None:
    payload = os.urandom(8 << 20)
    with quietly(host, "--chunk-size", "64k") as (server, port):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as sock, ThreadPoolExecutor(1) as threads:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
            sock.settimeout(20)
            sock.connect((host, port))

            def send() -> None:
                sock.sendall(payload)
                sock.shutdown(socket.SHUT_WR)

            sending = threads.submit(send)
            # The echo piles up meanwhile; then it is read little by little.
            time.sleep(1)
            digest = hashlib.sha256()
            for number in itertools.count():
                data = sock.recv(16 << 10)
                if not data:
                    break
                digest.update(data)
                if number % 64 == 0:
                    time.sleep(0.005)
            sending.result()
        assert digest.digest() == hashlib.sha256(payload).digest()
        assert server.end(signal.SIGTERM).code == 0


# Urgent data.


@pytest.mark.slow
def test_urgent_data_makes_nothing_spin(host: str) -> None:
    with quietly(host) as (server, port), client(host, port) as sock:
        assert _echoes(sock)
        base = descriptors(server.process.pid)
        for _ in range(10):
            sock.send(b"!", socket.MSG_OOB)
        cpu = cpu_seconds(server.process.pid)
        time.sleep(0.5)
        assert cpu_seconds(server.process.pid) - cpu <= 0.02
        # How many of the urgent bytes came as data like others is the system's affair.
        sock.sendall(b"echo")
        got = b""
        while not got.endswith(b"echo"):
            got += receive(sock, 1)
        assert set(got.removesuffix(b"echo")) <= {ord("!")}
        sock.close()
        until(lambda: descriptors(server.process.pid) == base - 1)
        done = server.end(signal.SIGTERM)
    assert (done.code, done.err) == (0, b"")


# A server that does not come to accept.


@pytest.mark.slow
def test_four_hundred_connect_to_a_server_that_stands_still_and_are_served_later(
    host: str,
) -> None:
    with quietly(host) as (server, port):
        server.signal(signal.SIGSTOP)
        with contextlib.ExitStack() as stack:
            # A connect that the queue does not take would hang, and time out.
            socks = [stack.enter_context(client(host, port)) for _ in range(400)]
            for sock in socks:
                sock.sendall(b"echo")
            server.signal(signal.SIGCONT)
            assert all(receive(sock, 4) == b"echo" for sock in socks)
        assert server.end(signal.SIGTERM).code == 0
