"""Connections that the network kills, lets die in silence, slows down or pours half away."""

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.peers import receive
from tests.cli.processes import DEADLINE, Running, environment
from tests.faults.namespaces import Namespace, events


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A host of this test's own."""
    with Namespace() as made:
        yield made


def _connect(namespace: Namespace, host: str, port: int) -> socket.socket:
    """A plain client inside."""
    return namespace.call(lambda: socket.create_connection((host, port), timeout=DEADLINE))


def _port_of(server: Running) -> int:
    port: int = json.loads(server.line())["port"]
    return port


def _until(server: Running, event: str) -> dict[str, object]:
    """The next event of that name that a server tells."""
    while True:
        told: dict[str, object] = json.loads(server.line())
        if told["event"] == event:
            return told


def _by_hand(namespace: Namespace, host: str, port: int, *args: str) -> Running:
    """Our client inside, which sends what is written to its stdin."""
    given = ("--host", host, "--port", str(port), *args, "-")
    return Running("send", *given, stdin=subprocess.PIPE, command=namespace.command)


def _kill_servers_end(namespace: Namespace, port: int) -> str:
    namespace.run("ss", "--kill", "--tcp", "state", "established", "sport", "=", f":{port}")
    return "connection reset by peer"


def _kill_clients_end(namespace: Namespace, port: int) -> str:
    namespace.run("ss", "--kill", "--tcp", "state", "established", "dport", "=", f":{port}")
    return "software caused connection abort"


def _refuse_by_firewall(namespace: Namespace, port: int) -> str:
    namespace.filter(f"tcp dport {port} reject with tcp reset")
    return "connection reset by peer"


@pytest.mark.slow
@pytest.mark.parametrize("kill", [_kill_servers_end, _kill_clients_end, _refuse_by_firewall])
def test_a_client_whose_connection_is_killed_says_how_far_it_had_come(
    namespace: Namespace, host: str, kill: Callable[[Namespace, int], str]
) -> None:
    with namespace.serve("--host", host) as server:
        port = _port_of(server)
        with _by_hand(namespace, host, port) as client:
            client.stdin.write(b"hello")
            assert client.lines(2)[1] == 'sending "hello"'
            assert client.line() == 'received "hello"'
            # What comes from now on is taken by the system, and echoed by nobody.
            server.signal(signal.SIGSTOP)
            if kill is not _refuse_by_firewall:
                client.stdin.write(b"world")
                assert client.line() == 'sending "world"'
            why = kill(namespace, port)
            if kill is _refuse_by_firewall:
                client.stdin.write(b"world")
            failed = client.end()
        namespace.run("nft", "flush", "ruleset")
        server.signal(signal.SIGCONT)
        assert failed.code == 1
        assert failed.complaint == f"{why} after 5 of 10 bytes"
        assert server.end(signal.SIGTERM).code == 0


def test_a_connection_killed_under_the_server_is_counted_and_costs_nobody_else_a_thing(
    namespace: Namespace, host: str
) -> None:
    with namespace.serve("--host", host) as server:
        port = _port_of(server)
        descriptors = Path(f"/proc/{server.process.pid}/fd")
        before = len(list(descriptors.iterdir()))
        with _connect(namespace, host, port) as other, _connect(namespace, host, port) as killed:
            killed.sendall(b"hello")
            assert receive(killed, 5) == b"hello"
            theirs = killed.getsockname()[1]
            namespace.run("ss", "--kill", "--tcp", "dport", "=", f":{theirs}")
            end = _until(server, "end")
            assert (end["reason"], end["error"]) == ("reset", "software caused connection abort")
            other.sendall(b"other")
            assert receive(other, 5) == b"other"
        _until(server, "end")
        assert len(list(descriptors.iterdir())) == before
        done = server.end(signal.SIGTERM)
    assert done.code == 0
    (counted,) = events(done, "counters")
    assert {why: n for why, n in counted["ended"].items() if n} == {"reset": 1, "clean": 1}


def _limits(tmp_path: Path, **limits: str) -> tuple[str, str]:
    config = tmp_path / "limits.yaml"
    lines = "".join(f"    {name}: {value}\n" for name, value in limits.items())
    config.write_text(f"server:\n  limits:\n{lines}")
    return ("--config", str(config))


@pytest.mark.slow
def test_an_idle_peer_that_died_in_silence_is_found_by_keepalive_and_a_living_one_stays(
    namespace: Namespace, host: str, tmp_path: Path
) -> None:
    with namespace.serve("--host", host, *_limits(tmp_path, keepalive="1s")) as server:
        port = _port_of(server)
        with _connect(namespace, host, port) as living, _connect(namespace, host, port) as dead:
            for sock in (living, dead):
                sock.sendall(b"hello")
                assert receive(sock, 5) == b"hello"
            theirs = dead.getsockname()[1]
            began = time.monotonic()
            namespace.filter(f"tcp dport {theirs} drop", f"tcp sport {theirs} drop")
            end = _until(server, "end")
            took = time.monotonic() - began
            assert (end["reason"], end["error"]) == ("reset", "connection timed out")
            # It is asked after a second, and given up after as long again.
            assert 1 < took < 3
            living.sendall(b"still")
            assert receive(living, 5) == b"still"
            assert server.end(signal.SIGTERM).code == 0


@pytest.mark.slow
def test_a_peer_that_dies_with_data_on_its_way_is_given_up_after_the_user_timeout(
    namespace: Namespace, host: str, tmp_path: Path
) -> None:
    with namespace.serve("--host", host, *_limits(tmp_path, tcp_user_timeout="1s")) as server:
        port = _port_of(server)
        with _connect(namespace, host, port) as dead:
            theirs = dead.getsockname()[1]
            # Nothing comes from the server any more, nor what acknowledges.
            namespace.filter(f"tcp dport {theirs} drop")
            dead.sendall(b"hello")
            _until(server, "message")
            began = time.monotonic()
            namespace.filter(f"tcp sport {theirs} drop")
            end = _until(server, "end")
            took = time.monotonic() - began
            assert (end["reason"], end["error"]) == ("reset", "connection timed out")
            assert end["bytes_out"] == 5
            assert 0.5 < took < 2
        assert server.end(signal.SIGTERM).code == 0


@pytest.mark.slow
def test_a_client_gives_up_a_server_that_died_in_silence(namespace: Namespace, host: str) -> None:
    with namespace.serve("--host", host) as server:
        port = _port_of(server)
        with _by_hand(namespace, host, port, "--timeout", "500ms") as client:
            client.stdin.write(b"hello")
            assert client.lines(3)[2] == 'received "hello"'
            namespace.filter(f"tcp dport {port} drop", f"tcp sport {port} drop")
            client.stdin.write(b"world")
            failed = client.end()
        namespace.run("nft", "flush", "ruleset")
        assert server.end(signal.SIGTERM).code == 0
        assert failed.code == 1
        assert failed.complaint == "no answer for 0.5s after 5 of 10 bytes"


def _as_on_a_wire(namespace: Namespace) -> None:
    """Let the loopback carry packets of 1,500 bytes, each by itself, and not 64 KiB as one."""
    namespace.run("ip", "link", "set", "lo", "mtu", "1500", "gso_max_segs", "1")


@contextlib.contextmanager
def _echoed_over_bad_line(namespace: Namespace, host: str, tmp_path: Path) -> Iterator[float]:
    """Send and receive 128 KiB, and compare; yields how many seconds the client took.

    The server ends after that: the block can mend the line, so that it does so at once.
    """
    sent = tmp_path / "sent"
    sent.write_bytes(os.urandom(128 << 10))
    with namespace.serve("--host", host, "--chunk-size", "64k") as server:
        port = str(_port_of(server))
        args = ("--host", host, "--port", port, "--chunk-size", "64k", "--output", "raw")
        began = time.monotonic()
        done = subprocess.run(
            [*namespace.command, "send", *args, "--file", str(sent)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment(),
            # Where a segment is lost again and again, each repetition waits twice as long.
            timeout=12 * DEADLINE,
            check=False,
        )
        took = time.monotonic() - began
        assert done.returncode == 0, done.stderr
        assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(sent.read_bytes()).digest()
        yield took
        assert server.end(signal.SIGTERM).code == 0


@pytest.mark.slow
def test_a_line_that_loses_a_fifth_of_all_packets_changes_no_byte(
    namespace: Namespace, host: str, tmp_path: Path
) -> None:
    _as_on_a_wire(namespace)
    # But for handshakes, whose first repetition alone takes a second.
    namespace.filter("tcp flags & syn == 0 numgen random mod 100 < 20 counter drop")
    with _echoed_over_bad_line(namespace, host, tmp_path):
        rules = namespace.run("nft", "list", "ruleset")
        namespace.run("nft", "flush", "ruleset")
    lost = re.search(r"counter packets ([0-9]+)", rules)
    assert lost
    assert int(lost[1]) > 10


@pytest.mark.slow
def test_a_slow_line_takes_its_time_and_changes_no_byte(
    namespace: Namespace, host: str, tmp_path: Path
) -> None:
    _as_on_a_wire(namespace)
    tbf = ["rate", "2mbit", "burst", "16kb", "latency", "2s"]
    namespace.run("tc", "qdisc", "add", "dev", "lo", "root", "tbf", *tbf)
    with _echoed_over_bad_line(namespace, host, tmp_path) as took:
        # Twice 128 KiB at 2 Mbit/s, but for the burst.
        assert took > 0.9
