"""A port that a server has is no other's, however many processes share it."""

import signal
import socket
import sys

import pytest

from echokit import EchoServer
from tests.cli.peers import client, receive
from tests.cli.processes import run
from tests.conftest import AVAILABLE
from tests.workers.group import Group
from tests.workers.proc import listening_port

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are Linux's")


_fewer = [pytest.param(counts, marks=pytest.mark.slow) for counts in ((2, 1), (1, 2))]


@pytest.mark.parametrize("wide", ["neither", "first", "second"])
@pytest.mark.parametrize("counts", [(2, 2), *_fewer], ids=str)
def test_a_second_copy_is_refused(host: str, wide: str, counts: tuple[int, int]) -> None:
    first, second = ("*" if wide == which else host for which in ("first", "second"))
    with Group(first, counts[0]) as group:
        args = ("--host", second, "--port", str(group.port), "--workers", str(counts[1]))
        done = run("serve", *args)
        assert (done.code, done.out) == (3, b"")
        assert f":{group.port}: address already in use; end the server" in done.complaint
        # Nothing of it is left, on the other family above all; and the first one serves on.
        with client(host, group.port) as sock:
            sock.sendall(b"x")
            assert receive(sock, 1) == b"x"
        assert group.end(signal.SIGTERM)[0].code == 0
    for literal in AVAILABLE.values():
        with pytest.raises(ConnectionRefusedError):
            client(literal, group.port)


def test_a_second_copy_is_refused_where_only_one_family_is_taken() -> None:
    if len(AVAILABLE) == 1:
        pytest.skip("this host has one family")
    with EchoServer("::1", 0) as other:
        done = run("serve", "--host", "*", "--port", str(other.port), "--workers", "2")
        assert done.code == 3
        with pytest.raises(ConnectionRefusedError):
            client("127.0.0.1", other.port)


@pytest.mark.slow
def test_a_port_that_is_given_back_is_free_at_once(host: str) -> None:
    with Group(host, 2, quiet=True) as group:
        assert listening_port(group.pid) == group.port
        # Those that the server ends first leave their ports in TIME_WAIT.
        with client(host, group.port) as sock:
            sock.sendall(b"x")
            assert receive(sock, 1) == b"x"
            group.running.signal(signal.SIGTERM)
            assert sock.recv(1) == b""
        assert group.end()[0].code == 0
    with EchoServer(host, group.port) as again:
        assert again.port == group.port


def test_a_socket_that_shares_its_port_with_anybody_keeps_the_server_out(host: str) -> None:
    # SO_REUSEPORT asks both sides: a server that set it from the first would be let in here.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind((host, 0))
        other.listen()
        port = str(other.getsockname()[1])
        done = run("serve", "--host", host, "--port", port, "--workers", "2")
    assert (done.code, done.out) == (3, b"")
