"""Clients of other protocols at a framed port: their first bytes are a length over the limit."""

import contextlib
import http.client
import signal
import socket
import ssl
import struct
import threading
import tracemalloc
from collections.abc import Iterator
from typing import Literal

import pytest

from echokit import EchoServer, LengthPrefixed
from echokit.errors import MessageTooLarge
from echokit.net.address import Address
from echokit.net.handler import End, Ending
from echokit.observe.observer import Observer
from tests.cli.peers import client, name_of, receive
from tests.cli.processes import Running

PATIENCE = 10.0
LIMIT = 16 << 20


def _client_hello() -> bytes:
    """What a TLS client says first."""
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


# Telnet clients ask for options at once (RFC 854: IAC is 0xff, WILL 0xfb).
FIRST_WORDS = {
    "TLS": _client_hello(),
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "telnet": b"\xff\xfb\x1f\xff\xfb\x20\xff\xfb\x18\xff\xfb\x27\xff\xfd\x01",
    "SSH": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "SMTP": b"EHLO localhost\r\n",
}
every_protocol = pytest.mark.parametrize("words", FIRST_WORDS.values(), ids=FIRST_WORDS)


class _Ends(Observer):
    """Notes how connections end, and lets the test wait for it."""

    def __init__(self) -> None:
        self.ends: list[End] = []
        self._ended = threading.Condition()

    def ended(self, peer: Address, end: End) -> None:
        assert peer.port
        with self._ended:
            self.ends.append(end)
            self._ended.notify_all()

    def wait_for(self, count: int) -> list[End]:
        with self._ended:
            assert self._ended.wait_for(lambda: len(self.ends) >= count, PATIENCE)
        return self.ends


@pytest.fixture
def ends() -> _Ends:
    """What the test's server tells."""
    return _Ends()


@contextlib.contextmanager
def _connected(server: EchoServer) -> Iterator[socket.socket]:
    address = server.addresses[0]
    with client(address.host, address.port) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield sock


def _is_served(server: EchoServer) -> None:
    """Whether the next client gets its echo."""
    message = server._framing.encode(b"still here")
    with _connected(server) as sock:
        sock.sendall(message)
        assert receive(sock, len(message)) == message


@every_protocol
@pytest.mark.parametrize("prefix", [4, 8])
@pytest.mark.parametrize("order", ["big", "little"])
def test_a_header_alone_ends_it_with_its_length_and_the_limit(
    host: str, words: bytes, prefix: Literal[4, 8], order: Literal["big", "little"], ends: _Ends
) -> None:
    framing = LengthPrefixed(prefix_bytes=prefix, byte_order=order)
    with EchoServer(host, 0, framing=framing, observer=ends) as server:
        with _connected(server) as sock:
            # No more than these come, and the client waits: it is not the end that ends it.
            sock.sendall(words[:prefix])
            assert sock.recv(1) == b""
        [end] = ends.wait_for(1)
        _is_served(server)
    assert end.ending is Ending.TOO_LARGE
    assert isinstance(end.error, MessageTooLarge)
    assert end.error.size == int.from_bytes(words[:prefix], order) > end.error.limit == LIMIT
    assert (end.bytes_in, end.bytes_out, end.messages) == (prefix, 0, 0)


@every_protocol
def test_three_of_its_bytes_are_waited_with_and_the_fourth_ends_it(
    host: str, words: bytes, ends: _Ends
) -> None:
    with EchoServer(host, 0, framing=LengthPrefixed(), chunk_size=1, observer=ends) as server:
        with _connected(server) as sock:
            sock.sendall(words[:3])
            # Served after it came: by then the three bytes have been read, and have ended nothing.
            _is_served(server)
            ends.wait_for(1)
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                sock.recv(1)
            sock.settimeout(PATIENCE)
            sock.sendall(words[3:4])
            assert sock.recv(1) == b""
        end = ends.wait_for(2)[-1]
    assert (end.ending, end.bytes_in) == (Ending.TOO_LARGE, 4)


@every_protocol
def test_all_that_it_says_takes_no_memory_and_gets_no_answer(
    host: str, words: bytes, ends: _Ends
) -> None:
    # As much as a limit may be: here the length passes, and still nothing is taken for it.
    for limit, ending in ((LIMIT, Ending.TOO_LARGE), ((1 << 32) - 1, Ending.TRUNCATED)):
        framing = LengthPrefixed(max_message=limit)
        ends.ends.clear()
        with EchoServer(host, 0, framing=framing, chunk_size=65536, observer=ends) as server:
            _is_served(server)
            ends.wait_for(1)
            tracemalloc.start()
            try:
                with _connected(server) as sock:
                    sock.sendall(words)
                    sock.shutdown(socket.SHUT_WR)
                    assert receive(sock, 1) == b""
                end = ends.wait_for(2)[-1]
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert end.ending is ending
        # One read's buffer, and what the client here needs.
        assert peak < 2 * 65536


# Clients as they are.


def test_a_tls_client_is_let_go_at_once_and_without_a_reset(host: str, ends: _Ends) -> None:
    context = ssl.create_default_context()
    with EchoServer(host, 0, framing=LengthPrefixed(), observer=ends) as server:
        with (
            _connected(server) as sock,
            pytest.raises(ssl.SSLError, match="EOF occurred in violation of protocol"),
        ):
            context.wrap_socket(sock, server_hostname="localhost").close()
        [end] = ends.wait_for(1)
        _is_served(server)
    assert (end.ending, end.bytes_out) == (Ending.TOO_LARGE, 0)


def test_a_browser_is_let_go_at_once_and_without_a_reset(host: str, ends: _Ends) -> None:
    with EchoServer(host, 0, framing=LengthPrefixed(), observer=ends) as server:
        browser = http.client.HTTPConnection(host, server.port, timeout=PATIENCE)
        browser.request("POST", "/", body=b"x" * 10_000)
        with pytest.raises(http.client.RemoteDisconnected, match="without response"):
            browser.getresponse()
        browser.close()
        [end] = ends.wait_for(1)
        _is_served(server)
    assert (end.ending, end.bytes_out) == (Ending.TOO_LARGE, 0)


def test_the_command_names_each_with_its_length_and_the_limit_in_one_line(host: str) -> None:
    options = ("--host", host, "--port", "0", "--framing", "length-prefixed")
    with Running("serve", *options) as server:
        port = server.port()
        for words in FIRST_WORDS.values():
            with client(host, port) as sock:
                sock.sendall(words[:4])
                assert sock.recv(1) == b""
                peer = name_of(sock)
            (length,) = struct.unpack(">I", words[:4])
            assert server.err.line() == (
                f"echokit: connection from {peer} closed: "
                f"message of {length} bytes is over the limit of {LIMIT}"
            )
        done = server.end(signal.SIGTERM)
    assert (done.code, done.told) == (0, [])
