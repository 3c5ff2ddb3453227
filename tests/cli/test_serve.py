"""`echokit serve` as a process: what it serves, what it tells, how it ends."""

import contextlib
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from echokit import EchoServer
from tests.cli.peers import client, name_of, receive, reserved_port, reset
from tests.cli.processes import DEADLINE, Done, Running, run, start
from tests.conftest import AVAILABLE, ROOT

# Whoever serves, one process or two: the same is served and told.
pytestmark = pytest.mark.usefixtures("workers")

HOSTS = list(AVAILABLE.values())
CONFIGS = sorted((ROOT / "configs").iterdir())
STOPPING = "echokit: stopping: finishing 1 connection; a second signal cuts them"

both_signals = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)


def _event(server: Running) -> dict[str, Any]:
    """The next line of a server that tells JSON."""
    event: dict[str, Any] = json.loads(server.line())
    assert isinstance(event.pop("time"), str)
    return event


def _listening(server: Running) -> dict[str, Any]:
    event = _event(server)
    assert event["event"] == "listening"
    return event


def _refused(server: Running, host: str, port: int) -> None:
    """See that nobody is let in any more; of several workers each stops in its own time."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        # Until then each that comes is told of: workers that had to wait for a reader would not
        # finish in time.
        server.out.take()
        # One that comes just as a worker stops may be reset.
        with contextlib.suppress(ConnectionResetError):
            try:
                client(host, port).close()
            except ConnectionRefusedError:
                return
    raise AssertionError(port)


# Its configs.


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_each_config_in_the_tree_serves_and_is_echoed_with(config: Path) -> None:
    with Running("serve", "--config", str(config), "--port", "0", "--output", "json") as server:
        bound = _listening(server)
        every_address = bound["host"] == "*"
        hosts = [address["host"] for address in bound["addresses"]]
        assert {address["port"] for address in bound["addresses"]} == {bound["port"]}
        if every_address:
            assert len(hosts) == len(AVAILABLE)
        for literal in AVAILABLE.values() if every_address else [None]:
            host = [] if literal is None else ["--host", literal]
            args = ("--config", str(config), "--port", str(bound["port"]), *host)
            sent = run("send", *args, "hello, hello, hello, hello")
            assert (sent.code, sent.err) == (0, b"")
            quiet = config.name == "throughput.toml"
            assert sent.lines[-1:] == ([] if quiet else ["closing socket"])
            events = [_event(server)]
            while events[-1]["event"] != "end":
                events.append(_event(server))
            assert events[-1]["reason"] == "clean"
            assert events[-1]["bytes_in"] == events[-1]["bytes_out"] >= 26
        done = server.end(signal.SIGTERM)
    assert (done.code, done.err) == (0, b"")
    assert [json.loads(line)["event"] for line in done.lines] == ["counters"]


# Its outputs.


def test_quiet_says_nothing(host: str) -> None:
    with (
        reserved_port(host) as port,
        Running("serve", "--host", host, "--port", str(port), "--output", "quiet") as server,
    ):
        # Nothing is told when it is ready, so it is asked until it is.
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            with contextlib.suppress(ConnectionRefusedError), client(host, port) as sock:
                sock.sendall(b"anybody?")
                assert receive(sock, 8) == b"anybody?"
                break
        assert server.end(signal.SIGINT) == Done(0, b"", b"")


def test_json_tells_each_event_with_its_facts(host: str, family: socket.AddressFamily) -> None:
    args = ("--framing", "length-prefixed", "--output", "json", "--host", host, "--port", "0")
    with Running("serve", *args) as server:
        bound = _listening(server)
        port = bound["port"]
        assert bound == {
            "event": "listening",
            "host": host,
            "port": port,
            "addresses": [{"host": host, "port": port}],
        }
        with client(host, port) as sock:
            shown = "[::1]" if family == socket.AF_INET6 else "127.0.0.1"
            peer = f"{shown}:{sock.getsockname()[1]}"
            sock.sendall(b"\0\0\0\5hello\0\0\0\0")
            assert receive(sock, 13) == b"\0\0\0\5hello\0\0\0\0"
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(1) == b""
            assert [_event(server) for _ in range(4)] == [
                {"event": "connection", "peer": peer},
                {"event": "message", "peer": peer, "size": 5},
                {"event": "message", "peer": peer, "size": 0},
                {
                    "event": "end",
                    "peer": peer,
                    "reason": "clean",
                    "error": None,
                    "bytes_in": 13,
                    "bytes_out": 13,
                    "messages": 2,
                },
            ]
        done = server.end(signal.SIGTERM)
        assert (done.code, done.err) == (0, b"")
        (line,) = done.lines
        counters = json.loads(line)
    assert counters["event"] == "counters"
    assert (counters["accepted"], counters["open"], counters["ended"]["clean"]) == (1, 0, 1)
    assert counters["messages"] == 2
    assert (counters["bytes_in"], counters["bytes_out"]) == (13, 13)


def test_json_tells_why_a_connection_had_to_end(host: str) -> None:
    args = ("--framing", "length-prefixed", "--output", "json", "--host", host, "--port", "0")
    with Running("serve", *args) as server:
        port = _listening(server)["port"]
        with client(host, port) as sock:
            sock.sendall(b"\xff\xff\xff\xff")
            assert sock.recv(1) == b""
        events = [_event(server), _event(server)]
        with client(host, port) as sock:
            sock.sendall(b"\0\0\0\5hel")
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(1) == b""
        events += [_event(server), _event(server)]
    ends = [event for event in events if event["event"] == "end"]
    assert [(end["reason"], end["error"], end["bytes_in"], end["bytes_out"]) for end in ends] == [
        ("too-large", "message of 4294967295 bytes is over the limit of 16777216", 4, 0),
        ("truncated", "stream ended inside a message, after 3 of 5 bytes", 7, 0),
    ]


# What clients do to it.


def test_a_bad_frame_is_told_once_with_its_peer_and_costs_nobody_else_anything(host: str) -> None:
    args = ("--framing", "length-prefixed", "--host", host, "--port", "0", "--chunk-size", "64k")
    with Running("serve", *args) as server:
        port = server.port()
        with client(host, port) as other:
            other.sendall(b"\0\0\0\4half")
            assert receive(other, 8) == b"\0\0\0\4half"
            # What came whole before the bad frame still comes back.
            with client(host, port) as bad:
                peer = name_of(bad)
                bad.sendall(b"\0\0\0\2ok\x7f\0\0\0")
                assert receive(bad, 7) == b"\0\0\0\2ok"
            assert server.err.line() == (
                f"echokit: connection from {peer} closed: "
                "message of 2130706432 bytes is over the limit of 16777216"
            )
            other.sendall(b"\0\0\0\4well")
            assert receive(other, 8) == b"\0\0\0\4well"
        with client(host, port) as later:
            later.sendall(b"\0\0\0\2me")
            assert receive(later, 6) == b"\0\0\0\2me"
        done = server.end(signal.SIGTERM)
    assert (done.code, done.told) == (0, [])


def test_a_reset_is_told_on_stderr_and_serving_goes_on(host: str) -> None:
    with Running("serve", "--host", host, "--port", "0") as server:
        port = server.port()
        sock = client(host, port)
        peer = name_of(sock)
        sock.sendall(b"x")
        assert receive(sock, 1) == b"x"
        reset(sock)
        assert server.err.line() == f"echokit: connection from {peer} was reset"
        with client(host, port) as later:
            later.sendall(b"y")
            assert receive(later, 1) == b"y"
        assert server.end(signal.SIGINT).code == 0


# Signals.


@both_signals
def test_a_signal_right_after_the_first_line_ends_it_well(number: signal.Signals) -> None:
    with Running("serve", "--host", "127.0.0.1", "--port", "0") as server:
        server.line()
        done = server.end(number)
    assert (done.code, done.told) == (0, [])
    assert done.lines in ([], ["waiting for a connection"])


def test_ctrl_c_while_it_still_starts_shows_no_traceback(tmp_path: Path) -> None:
    # Python runs sitecustomize before anything of ours: from there, the signal comes exactly
    # when the first heavy import begins, which is most of the start.
    (tmp_path / "sitecustomize.py").write_text(
        "import signal, sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer':\n"
        "            signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
    )
    done = start("serve", "--port", "0", env={"PYTHONPATH": str(tmp_path)})
    assert done.code in (130, -signal.SIGINT)
    assert done.out == b""


@pytest.mark.parametrize(
    ("number", "host"), [(signal.SIGINT, HOSTS[0]), (signal.SIGTERM, HOSTS[-1])], ids=str
)
def test_a_signal_lets_what_is_in_flight_finish(number: signal.Signals, host: str) -> None:
    data = os.urandom(1 << 20)
    args = ("--host", host, "--port", "0", "--chunk-size", "64k", "--output", "json")
    with Running("serve", *args) as server:
        port = _listening(server)["port"]
        with client(host, port) as sock:
            # Some of it is read by the server, some waits in the buffers of both sides.
            sock.sendall(data[: 256 << 10])
            assert _event(server)["event"] == "connection"
            server.signal(number)
            while (event := _event(server))["event"] != "draining":
                assert event["event"] == "message"
            assert event["connections"] == 1
            _refused(server, host, port)
            assert receive(sock, 256 << 10) == data[: 256 << 10]
            assert sock.recv(1) == b""
        done = server.end()
    # How connections ended, and what was counted, says why where the code is another.
    assert (done.code, done.err) == (0, b""), "\n".join(done.lines[-30:])
    assert json.loads(done.lines[-2])["reason"] in ("drained", "clean"), done.lines[-2]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_a_second_signal_ends_it_at_once(number: signal.Signals, code: int) -> None:
    with Running("serve", "--host", "127.0.0.1", "--port", "0") as server:
        port = server.port()
        # It ends by its own FIN at the latest, and this client will not send one.
        with client("127.0.0.1", port) as sock:
            sock.sendall(b"x")
            assert receive(sock, 1) == b"x"
            server.signal(signal.SIGTERM)
            assert server.err.line() == STOPPING
            done = server.end(number)
            peer = name_of(sock)
    assert done.code == code
    assert done.complaint == f"connection from {peer} cut: it had not ended when the server did"


def test_a_client_that_does_not_read_is_cut_when_the_time_to_drain_is_over() -> None:
    host = HOSTS[-1]
    args = ("--host", host, "--port", "0", "--chunk-size", "64k", "--drain-timeout", "300ms")
    with Running("serve", *args, "--output", "json") as server:
        port = _listening(server)["port"]
        with client(host, port) as sock:
            # As much as both sides' buffers take, without ever reading: the server owes it.
            sock.settimeout(0.3)
            with contextlib.suppress(TimeoutError):
                sock.sendall(bytes(256 << 20))
            assert _event(server)["event"] == "connection"
            server.signal(signal.SIGTERM)
            done = server.end()
    assert (done.code, done.err) == (1, b"")
    assert json.loads(done.lines[-2])["reason"] == "cut"


# Its stdout.


def test_when_nobody_reads_its_stdout_any_more_it_ends_without_a_word() -> None:
    with Running("serve", "--host", "127.0.0.1", "--port", "0") as server:
        port = server.port()
        assert server.line() == "waiting for a connection"
        server.out.pipe.close()
        with client("127.0.0.1", port) as sock:
            assert sock.recv(1) == b""
        server.process.wait(DEADLINE)
        assert server.process.returncode == 141
        assert server.err.pipe.read() == b""


# What it cannot listen on.


def test_a_port_in_use_is_named_with_its_address(host: str) -> None:
    with EchoServer(host, 0) as other:
        done = run("serve", "--host", host, "--port", str(other.port))
        address = str(other.addresses[0])
    assert (done.code, done.out) == (3, b"")
    assert done.complaint == (
        f"cannot listen on {address}: address already in use; "
        "end the server that has it, or choose another --port (0: any free one)"
    )


def test_an_address_that_is_taken_leaves_no_listener_on_the_others() -> None:
    if len(AVAILABLE) == 1:
        pytest.skip("this host has one family")
    with EchoServer("::1", 0) as other:
        done = run("serve", "--host", "*", "--port", str(other.port))
        with pytest.raises(ConnectionRefusedError):
            client("127.0.0.1", other.port)
    assert done.code == 3
    assert f"[::]:{other.port}: address already in use" in done.complaint
