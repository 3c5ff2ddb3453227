"""System calls that fail, by strace: what accept4, write, socket and bind can say."""

import signal
import socket
from pathlib import Path

import pytest

from tests.cli.peers import client, receive
from tests.cli.processes import COMMAND, Running
from tests.conftest import AVAILABLE
from tests.faults.serving import Serving, injecting

# A process under strace takes its time; that accept() may fail is tried without it, too.
pytestmark = pytest.mark.slow

HOST = next(iter(AVAILABLE.values()))


def _injected(log: Path) -> int:
    """How many calls have met the fault: a test that injected nothing would show nothing."""
    return log.read_text().count("(INJECTED)")


def _echoes(sock: socket.socket) -> bool:
    sock.sendall(b"echo")
    return receive(sock, 4) == b"echo"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("EMFILE", "too many open files"),
        ("ENFILE", "too many open files in system"),
        ("ENOBUFS", "no buffer space available"),
        ("ENOMEM", "cannot allocate memory"),
    ],
)
def test_a_shortage_at_accept_makes_them_wait_and_is_told_once(
    error: str, words: str, tmp_path: Path
) -> None:
    log = tmp_path / "calls"
    under = injecting("accept4", f"error={error}:when=2..6", log)
    with Serving(HOST, under=under) as server, server.connect() as first:
        # The first call is that of `first`, and well.
        assert _echoes(first)
        with server.connect() as second:
            second.sendall(b"patient")
            assert server.next("warning")["message"] == (
                f"cannot accept: {words}, with 1 connection open;"
                " those that come wait until some end"
            )
            assert _echoes(first)
            assert receive(second, 7) == b"patient"
            # After five failures in half a second, one line.
            counters = server.counters()
            assert (counters["accept_failures"], counters["accepted"]) == (5, 2)
            assert len(server.warnings) == 1
        done = server.end(signal.SIGTERM)
    assert (done.code, done.err) == (0, b"")
    assert _injected(log) == 5


@pytest.mark.parametrize("error", ["ECONNABORTED", "EPERM", "EPROTO"])
def test_a_connection_that_fails_in_the_queue_is_passed_over_without_a_word(
    error: str, tmp_path: Path
) -> None:
    log = tmp_path / "calls"
    with Serving(HOST, under=injecting("accept4", f"error={error}:when=1", log)) as server:
        with server.connect() as sock:
            assert _echoes(sock)
            counters = server.counters()
            assert (counters["accept_failures"], counters["accepted"]) == (1, 1)
            assert server.warnings == []
        done = server.end(signal.SIGTERM)
    assert (done.code, done.err) == (0, b"")
    assert _injected(log) == 1


def _write_of(data: str, log: Path) -> int:
    """Which of a server's writes, from 1, sends `data` as the second echo."""
    with (
        Serving(HOST, under=injecting("write", None, log)) as server,
        server.connect() as other,
        server.connect() as sock,
    ):
        assert _echoes(other)
        sock.sendall(data.encode())
        assert receive(sock, len(data)) == data.encode()
    writes = [line for line in log.read_text().splitlines() if "write(" in line]
    (found,) = [number for number, line in enumerate(writes, 1) if f', "{data}", ' in line]
    return found


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("ENOBUFS", "no buffer space available"),
        ("EPIPE", "broken pipe"),
        ("ECONNRESET", "connection reset by peer"),
    ],
)
def test_a_send_that_fails_ends_its_connection_and_no_other(
    error: str, words: str, tmp_path: Path
) -> None:
    log = tmp_path / "calls"
    when = _write_of("lost", log)
    with (
        Serving(HOST, under=injecting("write", f"error={error}:when={when}", log)) as server,
        server.connect() as other,
    ):
        with server.connect() as sock:
            assert _echoes(other)
            sock.sendall(b"lost")
            assert sock.recv(1) == b""
            end = server.next("end")
            assert (end["reason"], end["bytes_in"], end["bytes_out"]) == ("reset", 4, 0)
            assert end["error"] == words
        assert _echoes(other)
        assert server.counters()["ended"]["reset"] == 1
        with server.connect() as later:
            assert _echoes(later)
        done = server.end(signal.SIGTERM)
    assert (done.code, done.err) == (0, b"")
    assert _injected(log) == 1


def _call_for_ipv6(call: str, log: Path) -> int:
    """Which of a server's calls of `call`, from 1, concerns an IPv6 listener."""
    with Serving("*", under=injecting(call, None, log)) as server:
        server.end(signal.SIGTERM)
    calls = [line for line in log.read_text().splitlines() if f"{call}(" in line]
    (found,) = [
        number
        for number, line in enumerate(calls, 1)
        # The resolver looks with a datagram socket whether there is a way.
        if "AF_INET6" in line and "SOCK_DGRAM" not in line
    ]
    return found


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ("socket", "EAFNOSUPPORT", "address family not supported by protocol"),
        ("bind", "EADDRNOTAVAIL", "cannot assign requested address"),
    ],
)
def test_without_ipv6_every_address_is_ipv4_with_a_warning_and_an_ipv6_literal_an_error(
    call: str, error: str, words: str, tmp_path: Path
) -> None:
    if len(AVAILABLE) == 1:
        pytest.skip("this host has one address family only")
    log = tmp_path / "calls"
    when = _call_for_ipv6(call, log)
    under = injecting(call, f"error={error}:when={when}", log)
    with Serving("*", "--allow", "127.0.0.0/8", under=under) as server:
        message = server.next("warning")["message"]
        port = server.port()
        assert message == f"cannot listen on [::]:{port}: {words}; serving without it"
        with client("127.0.0.1", port) as sock:
            assert _echoes(sock)
        with pytest.raises(ConnectionRefusedError):
            client("::1", port)
        server.counters()
        assert server.warnings == [message]
        done = server.end(signal.SIGTERM)
    assert (done.code, done.err) == (0, b"")
    assert _injected(log) == 1
    command = (*injecting(call, f"error={error}", log), *COMMAND)
    with Running("serve", "--host", "::1", "--port", "0", command=command) as alone:
        done = alone.end()
    assert (done.code, done.out) == (3, b"")
    assert done.complaint == f"cannot listen on [::1]:0: {words}"


@pytest.mark.parametrize("call", ["bind", "listen"])
def test_a_port_that_is_taken_only_at_the_last_call_is_told_as_ever(
    call: str, tmp_path: Path
) -> None:
    # listen() says so where another socket with SO_REUSEADDR was quicker.
    log = tmp_path / "calls"
    command = (*injecting(call, "error=EADDRINUSE", log), *COMMAND)
    with Running("serve", "--host", HOST, "--port", "7007", command=command) as server:
        done = server.end()
    assert (done.code, done.out) == (3, b"")
    assert done.complaint.startswith("cannot listen on 127.0.0.1:7007: address already in use; ")
    assert _injected(log) >= 1


def test_a_wait_that_is_interrupted_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "calls"
    with Serving(HOST, under=injecting("epoll_wait", "error=EINTR:when=1+2", log)) as server:
        with server.connect() as sock:
            assert all(_echoes(sock) for _ in range(20))
        done = server.end(signal.SIGTERM)
    assert (done.code, done.err) == (0, b"")
    assert _injected(log) >= 20
