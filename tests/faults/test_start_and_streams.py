"""What keeps a server from starting, and what its streams may do to it while it serves."""

import contextlib
import os
import shutil
import signal
import socket
import sys
from pathlib import Path

import pytest

from echokit import EchoServer
from tests.cli.peers import client, receive, reserved_port
from tests.cli.processes import COMMAND, DEADLINE, Running, run, start
from tests.conftest import AVAILABLE
from tests.faults.serving import until
from tests.workers.group import Group

HOST = next(iter(AVAILABLE.values()))
both_families = pytest.mark.skipif(
    len(AVAILABLE) == 1, reason="this host has one address family only"
)
full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")


# Addresses that cannot be had.


def _without_the_right_to_low_ports() -> tuple[str, ...]:
    """What runs a command that may not bind port 7."""
    lowest = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if lowest.exists() and int(lowest.read_text()) <= 7:
        pytest.skip("everybody may have every port here")
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed, and root may have every port")
    right = "-net_bind_service"
    return ("setpriv", f"--inh-caps={right}", f"--bounding-set={right}")


@pytest.mark.slow
def test_a_port_that_it_may_not_have_is_told_with_its_address(host: str) -> None:
    command = (*_without_the_right_to_low_ports(), *COMMAND)
    done = start("serve", "--host", host, "--port", "7", command=command)
    assert (done.code, done.out) == (3, b"")
    shown = f"[{host}]" if ":" in host else host
    assert done.complaint == (
        f"cannot listen on {shown}:7: permission denied; ports below 1024 may be root's alone:"
        " choose another --port (0: any free one)"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "shown"),
    # Of documentation's networks, which nobody has (RFC 5737, RFC 3849).
    [("203.0.113.1", "203.0.113.1:0"), ("2001:db8::1", "[2001:db8::1]:0")],
)
def test_an_address_of_another_host_is_told(address: str, shown: str) -> None:
    done = run("serve", "--host", address, "--port", "0")
    assert (done.code, done.out) == (3, b"")
    assert done.complaint == f"cannot listen on {shown}: cannot assign requested address"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["serve", "send"])
def test_an_interface_that_is_not_there_is_told_by_its_name(command: str) -> None:
    done = run(command, "--host", "fe80::1%nosuch", "--port", "1")
    assert done.code in (2, 3)
    assert "fe80::1%nosuch" in done.complaint


@both_families
@pytest.mark.parametrize("literal", ["127.0.0.1", "::1"])
def test_while_every_address_is_served_nobody_else_gets_the_port_in_either_family(
    literal: str,
) -> None:
    family = socket.AF_INET6 if ":" in literal else socket.AF_INET
    with EchoServer("*", 0) as server, socket.socket(family) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="Address already in use"):
            other.bind((literal, server.port))


# Streams that take nothing, or are gone.


def _survives_bad_frames(server: Running, host: str, port: int) -> None:
    """Strangers send bad frames, of which each is a line on stderr; others are served on."""
    for _ in range(30):
        with client(host, port) as bad:
            bad.sendall(b"\xff\xff\xff\xff")
            assert bad.recv(1) == b""
    server.signal(signal.SIGUSR1)
    with client(host, port) as sock:
        sock.sendall(b"\0\0\0\4echo")
        assert receive(sock, 8) == b"\0\0\0\4echo"


def _serving_to(host: str, redirection: str, log: Path | None = None) -> Running:
    """A server for frames, whose transcript is read, and whose stderr goes elsewhere."""
    shell = ("sh", "-c", redirection, "sh", *COMMAND)
    options = ("--framing", "length-prefixed", "--host", host, "--port", "0")
    return Running("serve", *options, command=shell, env={"LOG": str(log)})


@full
def test_a_full_device_under_stderr_does_not_end_the_serving(host: str) -> None:
    with _serving_to(host, 'exec "$@" 2>/dev/full') as server:
        _survives_bad_frames(server, host, server.port())
        assert server.end(signal.SIGTERM).code == 0


@full
@pytest.mark.slow
@pytest.mark.parametrize(("args", "code"), [(("x",), 3), (("--nope",), 2)])
def test_a_full_device_under_stderr_changes_no_exit_code(args: tuple[str, ...], code: int) -> None:
    shell = ("sh", "-c", 'exec "$@" 2>/dev/full', "sh", *COMMAND)
    with reserved_port(HOST) as port:
        done = start("send", *args, "--host", HOST, "--port", str(port), command=shell)
    assert done.code == code


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_socket_gets_the_number_of_a_stream_that_was_closed() -> None:
    with Group(HOST, 2, quiet=True, under=("sh", "-c", 'exec "$@" <&- >&-', "sh")) as group:
        for pid in (group.pid, *group.workers):
            streams = {Path(f"/proc/{pid}/fd/{number}").readlink() for number in (0, 1)}
            assert streams == {Path(os.devnull)}
        assert group.end(signal.SIGTERM)[0].code == 0


@pytest.mark.slow
def test_a_reader_of_stderr_that_leaves_does_not_end_the_serving(host: str) -> None:
    with _serving_to(host, 'exec "$@"') as server:
        server.err.pipe.close()
        _survives_bad_frames(server, host, server.port())
        server.signal(signal.SIGTERM)
        assert server.process.wait(DEADLINE) == 0


@pytest.mark.slow
def test_a_log_that_may_grow_no_more_does_not_end_the_serving(host: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    # A file may have one block, of 512 bytes or of 1024.
    with _serving_to(host, 'ulimit -f 1; exec "$@" 2>>"$LOG"', log) as server:
        _survives_bad_frames(server, host, server.port())
        assert server.end(signal.SIGTERM).code == 0
    assert log.stat().st_size in (512, 1024)


@pytest.mark.slow
def test_a_log_that_is_moved_or_removed_does_not_end_the_serving(host: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with _serving_to(host, 'exec "$@" 2>>"$LOG"', log) as server:
        port = server.port()
        log.rename(tmp_path / "log.1")
        _survives_bad_frames(server, host, port)
        assert (tmp_path / "log.1").read_text().startswith("echokit: connection from ")
        (tmp_path / "log.1").unlink()
        assert server.end(signal.SIGTERM).code == 0


@pytest.mark.slow
@full
def test_a_transcript_that_takes_no_more_is_one_line_and_the_end(host: str, tmp_path: Path) -> None:
    # What was asked for cannot be had: the transcript, which is all that this server is to tell.
    log = tmp_path / "log"
    with reserved_port(host) as port:
        shell = ("sh", "-c", 'ulimit -f 1; exec "$@" >>"$LOG"', "sh", *COMMAND)
        options = ("--host", host, "--port", str(port))
        with Running("serve", *options, command=shell, env={"LOG": str(log)}) as server:
            until(lambda: log.exists() and b"waiting" in log.read_bytes())
            # It may end before it has read all of this.
            with client(host, port) as sock, contextlib.suppress(ConnectionResetError):
                sock.sendall(bytes(4096))
                while sock.recv(4096):
                    pass
            done = server.end()
    assert (done.code, done.complaint) == (1, "cannot write to stdout: file too large")
