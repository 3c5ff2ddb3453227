"""The C echo server: byte-exact, whatever the sizes, and one connection never another's."""

import contextlib
import os
import random
import socket
import subprocess

import pytest

from benchmarks.peers import Peer, Server, start
from echokit.client import EchoClient
from echokit.exchange import Messages
from echokit.framing.length_prefixed import LengthPrefixed
from echokit.framing.raw import Raw

FRAMINGS = {"raw": Raw(), "length-prefixed": LengthPrefixed()}
LIMIT = 16 << 20


def _messages(seed: int) -> list[bytes]:
    numbers = random.Random(seed)  # noqa: S311 - the same sizes each time
    sizes = [1, 2, 3, 4, 65531, 65532, 65533, 65535, 65536, 65537, 200_000, 1_000_000]
    sizes += [numbers.randint(1, 300) for _ in range(500)]
    numbers.shuffle(sizes)
    return [os.urandom(size) for size in sizes]


@pytest.mark.one_family
def test_messages_of_every_size_come_back_as_they_were(c_server: Server, framing: str) -> None:
    messages = _messages(1)
    back: list[bytes] = []
    with EchoClient(c_server.host, c_server.port, framing=FRAMINGS[framing]) as client:
        done = client.exchange(Messages(messages), back.append)
    assert b"".join(back) == b"".join(messages)
    assert done.messages == len(messages)
    if framing == "length-prefixed":
        assert back == messages


def test_a_frame_comes_back_however_it_is_cut(c_peer: Peer, host: str) -> None:
    wire = b"".join(LengthPrefixed().encode(b"x" * size) for size in (0, 1, 5, 300))
    with (
        start(c_peer, "length-prefixed", host, None) as server,
        socket.create_connection((host, server.port), 5) as sock,
    ):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(wire)):
            sock.sendall(wire[at : at + 1])
        back = b""
        while len(back) < len(wire):
            back += sock.recv(4096)
        assert back == wire


def test_a_message_comes_back_only_when_it_is_whole(c_peer: Peer, host: str) -> None:
    with (
        start(c_peer, "length-prefixed", host, None) as server,
        socket.create_connection((host, server.port), 5) as sock,
    ):
        sock.sendall(b"\0\0\0\3ab")
        # Served after those bytes have been read: what would have come is there by now.
        with EchoClient(host, server.port, framing=LengthPrefixed()) as other:
            assert other.echo(b"other") == b"other"
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)
        sock.settimeout(5)
        sock.sendall(b"c")
        assert sock.recv(16) == b"\0\0\0\3abc"


def test_a_length_over_the_limit_costs_its_connection_and_no_other(c_peer: Peer, host: str) -> None:
    with (
        start(c_peer, "length-prefixed", host, None) as server,
        socket.create_connection((host, server.port), 5) as sock,
    ):
        sock.sendall((LIMIT + 1).to_bytes(4, "big"))
        assert sock.recv(1) == b""
        with EchoClient(host, server.port, framing=LengthPrefixed()) as other:
            assert other.echo(b"other") == b"other"


def _fill(sock: socket.socket, data: bytes) -> int:
    """Send `data` over and over until there is no room for more; how much it was."""
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < 1 << 30:
            sent += sock.send(data[sent % len(data) :])
    # What the kernel's buffers hold, and far less than a server that reads on would take.
    assert sent < 1 << 28
    return sent


@pytest.mark.one_family
def test_a_peer_that_does_not_read_is_not_read_from(c_peer: Peer, host: str) -> None:
    with (
        start(c_peer, "raw", host, None) as server,
        socket.create_connection((host, server.port), 0.2) as sock,
    ):
        data = os.urandom(1 << 20)
        sent = _fill(sock, data)
        with EchoClient(host, server.port) as other:
            assert other.echo(b"other") == b"other"
        sock.settimeout(5)
        back = 0
        while back < sent:
            came = sock.recv(1 << 16)
            at = back % len(data)
            expected = (data + data[: len(came)])[at : at + len(came)]
            assert came == expected
            back += len(came)


@pytest.mark.parametrize("args", [["-f", "chunked"], ["-s", "0"], ["-x"], ["localhost"]])
def test_bad_usage_ends_with_code_2(c_peer: Peer, args: list[str]) -> None:
    command = c_peer.command("raw", "127.0.0.1")[0]
    done = subprocess.run([command, *args], capture_output=True, check=False, timeout=5)
    assert done.returncode == 2
    assert done.stderr
