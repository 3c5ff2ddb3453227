"""Hosts with one family, with another idea of the two, or with addresses of one link."""

import json
import signal
import socket
from collections.abc import Iterator

import pytest

from echokit import Endpoint
from tests.cli.peers import receive
from tests.cli.processes import DEADLINE, Running, start
from tests.conftest import FAMILIES
from tests.faults.namespaces import Namespace, events

BOTH = "::1 localhost\n127.0.0.1 localhost\n"


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A host of this test's own."""
    with Namespace() as made:
        yield made


def _listening(server: Running) -> tuple[int, list[str]]:
    """The port and the hosts that a server says it listens on."""
    told = json.loads(server.line())
    return told["port"], [address["host"] for address in told["addresses"]]


def _echoes(namespace: Namespace, host: str, port: int) -> bool:
    """Whether what is sent to `host` inside comes back; False where nobody listens."""
    try:
        sock = namespace.call(lambda: socket.create_connection((host, port), timeout=DEADLINE))
    except ConnectionRefusedError:
        return False
    with sock:
        sock.sendall(b"hello")
        return receive(sock, 5) == b"hello"


@pytest.mark.parametrize(
    ("host", "lost"),
    [pytest.param("localhost", "[::1]", marks=pytest.mark.slow), ("*", "[::]")],
)
def test_with_ipv6_switched_off_ipv4_is_served_with_one_warning(
    namespace: Namespace, host: str, lost: str
) -> None:
    namespace.file("/etc/hosts", BOTH)
    namespace.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
    with namespace.serve("--host", host, "--allow", "127.0.0.1") as server:
        port, hosts = _listening(server)
        assert hosts == [{"localhost": "127.0.0.1", "*": "0.0.0.0"}[host]]
        sent = namespace.send("localhost", port)
        assert sent.code == 0, sent.err
        done = server.end(signal.SIGTERM)
    assert done.code == 0
    assert [event["message"] for event in events(done, "warning")] == [
        f"cannot listen on {lost}:{port}: cannot assign requested address; serving without it"
    ]


@pytest.mark.parametrize(
    "args",
    [
        ("--host", "::1"),
        pytest.param(("--host", "::"), marks=pytest.mark.slow),
        pytest.param(("-6", "--host", "*"), marks=pytest.mark.slow),
    ],
)
def test_with_ipv6_switched_off_a_server_for_ipv6_says_so_and_ends(
    namespace: Namespace, args: tuple[str, ...]
) -> None:
    namespace.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
    done = start("serve", "--port", "10000", *args, command=namespace.command)
    assert done.code == 3
    host = "::1" if "::1" in args else "::"
    assert done.complaint == f"cannot listen on [{host}]:10000: cannot assign requested address"
    assert not done.out


def test_with_ipv6_switched_off_a_client_for_ipv6_says_so_and_ends(namespace: Namespace) -> None:
    namespace.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
    done = start("send", "--host", "::1", "x", command=namespace.command)
    assert done.code == 3
    assert done.complaint == (
        "cannot connect to [::1]:10000: [::1]:10000: cannot assign requested address"
    )


@pytest.mark.parametrize("only", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_the_systems_default_for_ipv6_sockets_changes_nothing(
    namespace: Namespace, only: int
) -> None:
    namespace.sysctl("net.ipv6.bindv6only", only)
    with namespace.serve("--host", "*") as server:
        port, hosts = _listening(server)
        assert sorted(hosts) == ["0.0.0.0", "::"]
        assert [_echoes(namespace, host, port) for host in ("127.0.0.1", "::1")] == [True, True]
        assert server.end(signal.SIGTERM).code == 0
    with namespace.serve("--host", "::") as server:
        port, _ = _listening(server)
        assert [_echoes(namespace, host, port) for host in ("127.0.0.1", "::1")] == [False, True]
        assert server.end(signal.SIGTERM).code == 0


@pytest.mark.parametrize("name", FAMILIES)
def test_where_localhost_is_of_one_family_both_ends_use_that(
    namespace: Namespace, name: str
) -> None:
    _, literal = FAMILIES[name]
    namespace.file("/etc/hosts", f"{literal} localhost\n")
    with namespace.serve("--host", "localhost") as server:
        port, hosts = _listening(server)
        assert hosts == [literal]
        sent = namespace.send("localhost", port)
        assert sent.code == 0, sent.err
        assert server.end(signal.SIGTERM).code == 0


@pytest.mark.slow
@pytest.mark.parametrize("first", FAMILIES)
def test_where_localhost_is_of_both_families_a_server_on_either_is_reached(
    namespace: Namespace, first: str
) -> None:
    namespace.file("/etc/hosts", BOTH)
    namespace.prefer(first)
    for _, literal in FAMILIES.values():
        with namespace.serve("--host", literal) as server:
            port, _ = _listening(server)
            sent = namespace.send("localhost", port)
            assert sent.code == 0, sent.err
            (connected,) = events(sent, "connected")
            tried = [attempt["address"] for attempt in connected["attempts"]]
            assert tried[0] == str(Endpoint(FAMILIES[first][1], port))
            assert connected["address"] == tried[-1] == str(Endpoint(literal, port))
            assert server.end(signal.SIGTERM).code == 0


def test_link_local_addresses_are_served_and_reached_and_told_with_their_interface(
    namespace: Namespace,
) -> None:
    with Namespace() as other:
        namespace.link(other, "left", "right")
        with namespace.serve("--host", "fe80::1%left") as server:
            port, hosts = _listening(server)
            assert hosts == ["fe80::1%left"]
            sent = other.send("fe80::1%right", port)
            assert sent.code == 0, sent.err
            (connected,) = events(sent, "connected")
            assert connected["address"] == f"[fe80::1%right]:{port}"
            done = server.end(signal.SIGTERM)
        (connection,) = events(done, "connection")
        assert connection["peer"].startswith("[fe80::2%left]:")
        nobody = start("send", "--host", "fe80::1%right", "-p", "9", "x", command=other.command)
        assert nobody.code == 3
        assert nobody.complaint.startswith(
            "cannot connect to [fe80::1%right]:9: [fe80::1%right]:9: connection refused"
        )


@pytest.mark.parametrize("command", [pytest.param("serve", marks=pytest.mark.slow), "send"])
def test_a_link_local_address_needs_an_interface_that_is_there(
    namespace: Namespace, command: str
) -> None:
    message = ["x"] if command == "send" else []
    without = start(command, "--host", "fe80::1", *message, command=namespace.command)
    assert without.code == 2
    assert "the link-local address 'fe80::1' needs its interface" in without.complaint
    elsewhere = start(command, "--host", "fe80::1%left", *message, command=namespace.command)
    assert elsewhere.code == 3
    assert elsewhere.complaint == (
        "cannot resolve fe80::1%left: this machine has no interface 'left'"
    )
