"""Signals: drains amid transfers, those that come twice, too early, in storms, or for another."""

import contextlib
import hashlib
import os
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from signal import Signals

import pytest

from tests.cli.peers import client, receive
from tests.cli.processes import COMMAND, DEADLINE, Running, environment
from tests.faults.serving import Serving, quietly, until

MEBIBYTE = 1 << 20


class _Transfer:
    """A client that sends a payload of its own, and reads what comes back."""

    def __init__(self, host: str, port: int) -> None:
        self.payload = os.urandom(MEBIBYTE)
        self.left = memoryview(self.payload)
        self.got = bytearray()
        self.sock = client(host, port)
        self.sock.setblocking(False)

    def send_some(self) -> None:
        """As much as the system takes now."""
        with contextlib.suppress(BlockingIOError):
            while self.left:
                self.left = self.left[self.sock.send(self.left) :]

    def run(self, events: int) -> bool:
        """Move on; whether the server's end has not come yet."""
        if events & selectors.EVENT_WRITE:
            self.send_some()
        if events & selectors.EVENT_READ:
            data = self.sock.recv(65536)
            self.got += data
            return bool(data)
        return True


@contextlib.contextmanager
def _transfers(host: str, port: int, number: int) -> Iterator[list[_Transfer]]:
    """Clients that have sent as much as goes without reading."""
    with contextlib.ExitStack() as stack:
        transfers = []
        for _ in range(number):
            transfer = _Transfer(host, port)
            stack.enter_context(transfer.sock)
            transfer.send_some()
            transfers.append(transfer)
        yield transfers


def _pump(transfers: list[_Transfer]) -> None:
    """Send and read until the server has ended every one of them."""
    both = selectors.EVENT_READ | selectors.EVENT_WRITE
    with selectors.DefaultSelector() as selector:
        for transfer in transfers:
            selector.register(transfer.sock, both, transfer)
        while selector.get_map():
            ready = selector.select(DEADLINE)
            assert ready, "nothing moves any more"
            for key, events in ready:
                transfer = key.data
                if not transfer.run(events):
                    selector.unregister(transfer.sock)
                    transfer.sock.close()
                elif not transfer.left and key.events == both:
                    selector.modify(transfer.sock, selectors.EVENT_READ, transfer)


@pytest.mark.slow
def test_a_drain_loses_no_byte_of_a_hundred_transfers(host: str) -> None:
    options = ("--chunk-size", "64k", "--drain-timeout", "20s")
    with quietly(host, *options) as (server, port), _transfers(host, port, 100) as transfers:
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.err.line() == (
            "echokit: stopping: finishing 100 connections; a second signal cuts them"
        )
        # What is new is refused at once.
        with pytest.raises(ConnectionRefusedError):
            client(host, port)
        _pump(transfers)
        done = server.end()
        assert time.monotonic() - began < 15
    whole = sum(transfer.got == transfer.payload for transfer in transfers)
    assert whole == 100
    assert (done.code, done.err) == (0, b"")


@pytest.mark.slow
def test_one_that_stalls_is_cut_at_the_deadline_and_the_others_lose_nothing(host: str) -> None:
    options = ("--chunk-size", "64k", "--drain-timeout", "3s")
    with quietly(host, *options) as (server, port), client(host, port) as stalled:
        # All that both sides take without reading is more than a client here ever gets.
        stalled.settimeout(0.5)
        with pytest.raises(TimeoutError):
            stalled.sendall(bytes(64 * MEBIBYTE))
        with _transfers(host, port, 20) as transfers:
            began = time.monotonic()
            server.signal(signal.SIGTERM)
            assert "finishing 21 connections" in server.err.line()
            _pump(transfers)
            done = server.end()
            assert 2.9 < time.monotonic() - began < 3.5
    assert all(transfer.got == transfer.payload for transfer in transfers)
    assert done.code == 1
    assert done.complaint.endswith(" cut: it had not ended when the server did")


@pytest.mark.slow
@pytest.mark.parametrize("comes", [True, False], ids=["the-rest-comes", "it-never-comes"])
def test_a_client_amid_a_message_has_all_of_the_time_to_drain(host: str, *, comes: bool) -> None:
    patience = 20 if comes else 3
    options = ("--framing", "length-prefixed", "--drain-timeout", f"{patience}s")
    with Serving(host, *options) as server, server.connect() as sock, server.connect() as idle:
        sock.sendall(b"\0\0\0\x0ahello")
        for _ in range(2):
            server.next("connection")
        until(lambda: server.counters()["bytes_in"] == 9)
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        # An idle client is not what a stop waits for.
        assert idle.recv(1) == b""
        assert 0.9 < time.monotonic() - began < 2
        time.sleep(max(0.0, began + 2 - time.monotonic()))
        if comes:
            sock.sendall(b"there")
            assert receive(sock, 14) == b"\0\0\0\x0ahellothere"
            assert sock.recv(1) == b""
            sock.close()
        done = server.end()
        took = time.monotonic() - began
    assert (done.code, done.err) == (0 if comes else 1, b"")
    assert took < 5 if comes else 2.9 < took < 3.5


@pytest.mark.slow
def test_a_client_that_reads_slowly_what_the_system_holds_is_not_quiet(
    family: socket.AddressFamily, host: str
) -> None:
    data = os.urandom(160 << 10)
    with quietly(host, "--chunk-size", "64k", "--drain-timeout", "20s") as (server, port):
        with socket.socket(family) as sock:
            # Small, so that the system at the other end holds most of it.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(DEADLINE)
            sock.connect((host, port))
            sock.sendall(data)
            server.signal(signal.SIGTERM)
            assert server.err.line().startswith("echokit: stopping: finishing 1 connection;")
            got = bytearray()
            while len(got) < len(data):
                got += receive(sock, min(8192, len(data) - len(got)))
                time.sleep(0.15)
            # Three seconds later it is still heard.
            sock.sendall(b"more")
            assert receive(sock, 4) == b"more"
            assert sock.recv(1) == b""
        done = server.end()
    assert (bytes(got) == data, done.code, done.err) == (True, 0, b"")


# Which signals do what.


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM], ids=str)
def test_a_signal_before_it_is_ready_ends_it_without_a_traceback(
    number: Signals, tmp_path: Path
) -> None:
    # Python runs sitecustomize before anything of ours.
    (tmp_path / "sitecustomize.py").write_text(
        "import resource, signal\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        f"signal.raise_signal({int(number)})\n"
    )
    with Running("serve", "--port", "0", env={"PYTHONPATH": str(tmp_path)}) as server:
        done = server.end()
    assert (done.code, done.out, done.err) == (-number, b"", b"")


@pytest.mark.skipif(
    signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, reason="nohup: nobody hears of a hangup"
)
def test_a_hangup_of_the_terminal_ends_it_as_it_ends_any_command(host: str) -> None:
    with Serving(host) as server:
        done = server.end(signal.SIGHUP)
    assert (done.code, done.out, done.err) == (-signal.SIGHUP, b"", b"")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGPIPE, signal.SIGCHLD, signal.SIGWINCH], ids=str)
def test_a_signal_that_is_not_for_it_changes_nothing(host: str, number: Signals) -> None:
    with Serving(host) as server, server.connect() as sock:
        for _ in range(3):
            server.signal(number)
            sock.sendall(b"echo")
            assert receive(sock, 4) == b"echo"
        sock.close()
        done = server.end(signal.SIGTERM)
    assert (done.code, done.err) == (0, b"")


def test_a_stopped_and_continued_server_goes_on_where_it_was(host: str) -> None:
    with Serving(host) as server, server.connect() as sock:
        server.signal(signal.SIGSTOP)
        sock.sendall(b"echo")
        server.signal(signal.SIGCONT)
        assert receive(sock, 4) == b"echo"
        sock.close()
        assert server.end(signal.SIGTERM).code == 0


@pytest.mark.slow
def test_a_thousand_signals_a_second_change_no_byte(host: str) -> None:
    payload = os.urandom(32 * MEBIBYTE)
    with quietly(host, "--chunk-size", "1k") as (server, port), client(host, port) as sock:
        over = threading.Event()
        told = bytearray()

        def storm() -> None:
            while not over.wait(0.001):
                # One has a handler, and interrupts waits; the other is ignored.
                server.signal(signal.SIGUSR1)
                server.signal(signal.SIGCHLD)

        def drain() -> None:
            while data := os.read(server.err.pipe.fileno(), 65536):
                told.extend(data)

        threads = [threading.Thread(target=storm), threading.Thread(target=drain)]
        for thread in threads:
            thread.start()
        try:
            sending = threading.Thread(target=sock.sendall, args=(payload,))
            sending.start()
            digest = hashlib.sha256()
            left = len(payload)
            while left:
                data = sock.recv(65536)
                assert data
                digest.update(data)
                left -= len(data)
            sending.join()
        finally:
            over.set()
            threads[0].join()
            server.signal(signal.SIGTERM)
            threads[1].join()
        server.process.wait(DEADLINE)
        assert server.process.returncode == 0
        # They did come, hundreds of them, though several may be seen as one.
        assert told.count(b" accepted, ") > 100
    assert digest.digest() == hashlib.sha256(payload).digest()


@pytest.mark.slow
def test_the_first_of_two_commands_for_one_port_goes_on_when_the_second_fails(host: str) -> None:
    with Serving(host) as server, server.connect() as sock:
        args = [*COMMAND, "serve", "--host", host, "--port", str(server.port())]
        second = subprocess.run(args, capture_output=True, env=environment(), check=False)
        assert (second.returncode, second.stdout) == (3, b"")
        assert b"address already in use" in second.stderr
        sock.sendall(b"echo")
        assert receive(sock, 4) == b"echo"
        sock.close()
        assert server.end(signal.SIGTERM).code == 0
