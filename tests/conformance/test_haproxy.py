"""Behind HAProxy: its health check that expects the echo, and what goes through it."""

import contextlib
import csv
import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from echokit.client import EchoClient
from echokit.errors import EchoIncomplete
from echokit.net.handler import Ending
from echokit.testing import RunningServer
from tests.cli.peers import reserved_port
from tests.conformance.programs import DEADLINE, running, tool
from tests.conftest import AVAILABLE

BULK = 5_000_000
CONFIG = """\
global
    stats socket fd@{stats}
defaults
    mode tcp
    timeout connect 5s
    timeout client 20s
    timeout server 20s
    timeout check 500ms
frontend front
    bind fd@{front}
    default_backend echo
backend echo
    option tcp-check
    tcp-check send are-you-there?
    tcp-check expect string are-you-there?
    server echokit {address} check inter 50ms fall 2 rise 1
"""


class _HAProxy:
    """A running HAProxy, from one address family to a server of the other one."""

    def __init__(self, front: socket.socket, stats: socket.socket) -> None:
        self.host, self.port = front.getsockname()[:2]
        self._stats = stats.getsockname()

    def server(self) -> dict[str, str]:
        """What it tells of the server behind it."""
        with socket.create_connection(self._stats[:2], timeout=DEADLINE) as sock:
            sock.sendall(b"show stat\n")
            sock.shutdown(socket.SHUT_WR)
            with sock.makefile() as lines:
                rows = csv.DictReader(line.removeprefix("# ") for line in lines)
                return next(row for row in rows if row["svname"] == "echokit")

    def sees(self, status: str, check: str) -> None:
        """Wait until it has the server in this state, for this result of the check."""
        deadline = time.monotonic() + DEADLINE
        while (found := self.server())["status"] != status or found["check_status"] != check:
            assert time.monotonic() < deadline, found
            threading.Event().wait(0.02)


@contextlib.contextmanager
def _haproxy(host: str, address: str, folder: Path) -> Iterator[_HAProxy]:
    """HAProxy on a free port of `host`, in front of what listens on `address`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # They listen before it runs: whoever connects early waits for it.
    with (
        socket.create_server((host, 0), family=family) as front,
        socket.create_server((host, 0), family=family) as stats,
    ):
        fds = {"front": front.fileno(), "stats": stats.fileno()}
        config = folder / "haproxy.cfg"
        config.write_text(CONFIG.format(address=address, **fds))
        with running([tool("haproxy"), "-db", "-f", str(config)], pass_fds=[*fds.values()]):
            yield _HAProxy(front, stats)


@pytest.fixture
def other_host(host: str) -> str:
    """The loopback literal of the family that `host` is not of."""
    others = [literal for literal in AVAILABLE.values() if literal != host]
    if not others:
        pytest.skip("this host has one address family only")
    return others[0]


def test_a_server_that_echoes_is_seen_up(
    other_host: str, echokit_server: RunningServer, tmp_path: Path
) -> None:
    with _haproxy(other_host, echokit_server.address, tmp_path) as haproxy:
        haproxy.sees("UP", "L7OK")
    checks = [b"".join(messages) for messages in echokit_server.messages]
    assert b"are-you-there?" in checks


@pytest.mark.one_family
def test_a_server_that_accepts_and_echoes_nothing_is_seen_down(
    host: str, family: socket.AddressFamily, other_host: str, tmp_path: Path
) -> None:
    with socket.create_server((host, 0), family=family) as silent:
        port = silent.getsockname()[1]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        with _haproxy(other_host, address, tmp_path) as haproxy:
            haproxy.sees("DOWN", "L7TOUT")


def test_a_server_that_goes_is_seen_down_and_up_when_it_is_back(
    host: str,
    other_host: str,
    echokit_server_factory: Callable[..., RunningServer],
    tmp_path: Path,
) -> None:
    with reserved_port(host) as port:
        server = echokit_server_factory(port=port)
        with _haproxy(other_host, server.address, tmp_path) as haproxy:
            haproxy.sees("UP", "L7OK")
            server.close()
            haproxy.sees("DOWN", "L4CON")
            with (
                pytest.raises(EchoIncomplete, match="after 0 of 5 bytes"),
                EchoClient(haproxy.host, haproxy.port) as client,
            ):
                client.echo(b"hello")
            echokit_server_factory(port=port)
            haproxy.sees("UP", "L7OK")
            with EchoClient(haproxy.host, haproxy.port) as client:
                assert client.echo(b"hello") == b"hello"


@pytest.mark.echokit(chunk_size="64k")
def test_a_half_close_goes_through_after_bulk(
    other_host: str, echokit_server: RunningServer, tmp_path: Path
) -> None:
    data = os.urandom(BULK)
    with (
        _haproxy(other_host, echokit_server.address, tmp_path) as haproxy,
        socket.create_connection((haproxy.host, haproxy.port), timeout=DEADLINE) as sock,
    ):

        def send() -> None:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        back = hashlib.sha256()
        while more := sock.recv(65536):
            back.update(more)
        sender.join()
    assert back.digest() == hashlib.sha256(data).digest()
    echokit_server.close()
    ends = [record.end for record in echokit_server.connections if record.end is not None]
    assert (Ending.CLEAN, BULK, BULK) in [(end.ending, end.bytes_in, end.bytes_out) for end in ends]
