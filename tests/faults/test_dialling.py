"""Names and addresses that lead nowhere: a client goes round them, or says which and why."""

import contextlib
import datetime as dt
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from echokit import Endpoint
from tests.cli.processes import DEADLINE, Done, Running, start
from tests.conftest import FAMILIES
from tests.faults.namespaces import Namespace, events

BOTH = "::1 twofold\n127.0.0.1 twofold\n"
# A port that nobody listens on inside.
PORT = 7007


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A host of this test's own."""
    with Namespace() as made:
        yield made


def _dead(namespace: Namespace, literal: str, port: int) -> None:
    """Let nothing come through to a port of an address, and nobody be told."""
    kind = "ip6" if ":" in literal else "ip"
    namespace.filter(f"{kind} daddr {literal} tcp dport {port} drop")


def _took(done: Done) -> float:
    """The seconds between the first and the last event that were told."""
    times = [dt.datetime.fromisoformat(json.loads(line)["time"]) for line in done.lines]
    return (times[-1] - times[0]).total_seconds()


@pytest.mark.parametrize(
    ("how", "soon_ms", "first"),
    [
        ("silent", 400, "ipv6"),
        ("refusing", 50, "ipv4"),
        pytest.param("silent", 400, "ipv4", marks=pytest.mark.slow),
        pytest.param("refusing", 50, "ipv6", marks=pytest.mark.slow),
    ],
)
def test_an_address_that_leads_nowhere_costs_a_moment_only(
    namespace: Namespace, first: str, how: str, soon_ms: float
) -> None:
    namespace.file("/etc/hosts", BOTH)
    namespace.prefer(first)
    (lost,) = [literal for name, (_, literal) in FAMILIES.items() if name == first]
    (found,) = [literal for name, (_, literal) in FAMILIES.items() if name != first]
    with namespace.serve("--host", found) as server:
        port = json.loads(server.line())["port"]
        if how == "silent":
            _dead(namespace, lost, port)
        sent = namespace.send("twofold", port)
        assert server.end(signal.SIGTERM).code == 0
    assert sent.code == 0, sent.err
    (connected,) = events(sent, "connected")
    assert connected["address"] == str(Endpoint(found, port))
    assert [attempt["address"] for attempt in connected["attempts"]] == [
        str(Endpoint(lost, port)),
        str(Endpoint(found, port)),
    ]
    assert connected["connected_ms"] < soon_ms


def test_where_all_addresses_are_silent_each_is_told_within_the_connect_timeout(
    namespace: Namespace,
) -> None:
    namespace.file("/etc/hosts", BOTH)
    for _, literal in FAMILIES.values():
        _dead(namespace, literal, PORT)
    done = namespace.send("twofold", PORT, "--connect-timeout", "600ms")
    assert done.code == 3
    assert done.complaint == (
        "cannot connect to twofold:7007: [::1]:7007: no answer within 0.6s;"
        " 127.0.0.1:7007: no answer within 0.6s"
    )
    assert 0.6 <= _took(done) < 1.0


def test_addresses_that_fail_in_different_ways_are_told_each_in_its_own(
    namespace: Namespace,
) -> None:
    namespace.file("/etc/hosts", BOTH + "192.0.2.1 twofold\n")
    _dead(namespace, "::1", PORT)
    done = namespace.send("twofold", PORT, "--connect-timeout", "500ms")
    assert done.code == 3
    told = done.complaint.removeprefix("cannot connect to twofold:7007: ").split("; ")
    assert sorted(told) == [
        "127.0.0.1:7007: connection refused",
        "192.0.2.1:7007: network is unreachable",
        "[::1]:7007: no answer within 0.5s",
    ]


def _twenty(namespace: Namespace) -> list[str]:
    """Twenty addresses of the host inside, of both families, that all bear one name."""
    addresses = [f"{prefix}{n}" for n in range(1, 11) for prefix in ("10.0.0.", "fd00::")]
    for address in addresses:
        nodad = ["nodad"] if ":" in address else []
        namespace.run("ip", "address", "add", address, "dev", "lo", *nodad)
    namespace.file("/etc/hosts", "".join(f"{address} manifold\n" for address in addresses))
    return addresses


@pytest.mark.slow
def test_the_last_of_twenty_addresses_is_reached_past_nineteen_that_refuse(
    namespace: Namespace,
) -> None:
    addresses = _twenty(namespace)
    # Which is the last is for the system to say, and for the families to take turns.
    refused = namespace.send("manifold", PORT)
    assert refused.code == 3
    told = refused.complaint.removeprefix("cannot connect to manifold:7007: ").split("; ")
    assert len(told[:20]) == len(addresses)
    last = told[19].removesuffix(":7007: connection refused").strip("[]")
    assert last in addresses
    with namespace.serve("--host", last, "--port", str(PORT)) as server:
        server.line()
        sent = namespace.send("manifold", PORT)
        assert server.end(signal.SIGTERM).code == 0
    assert sent.code == 0, sent.err
    (connected,) = events(sent, "connected")
    assert len(connected["attempts"]) == 20
    assert connected["connected_ms"] < 500


@pytest.mark.slow
def test_twenty_silent_addresses_are_all_told_within_the_connect_timeout(
    namespace: Namespace,
) -> None:
    addresses = _twenty(namespace)
    namespace.filter(f"tcp dport {PORT} drop")
    done = namespace.send("manifold", PORT, "--connect-timeout", "600ms")
    assert done.code == 3
    assert _took(done) < 1.0
    told = done.complaint.removeprefix("cannot connect to manifold:7007: ").split("; ")
    assert sorted(line.partition(":7007: ")[0].strip("[]") for line in told) == sorted(addresses)
    whys = [line.partition(":7007: ")[2] for line in told]
    # One every quarter of a second: at 0, 250 and 500 ms.
    assert whys == ["no answer within 0.6s"] * 3 + ["not tried within 0.6s"] * 17


@contextlib.contextmanager
def _name_server(namespace: Namespace, code: int | None) -> Iterator[threading.Event]:
    """A name server inside that knows of no address; yields what is set once it is asked.

    It answers with `code` (RFC 1035 section 4.1.1): 0 is a name without such an address, 2 a
    failure, 3 no such name. None: it does not answer at all.
    """
    namespace.file("/etc/resolv.conf", "nameserver 127.0.0.1\n")
    asked = threading.Event()

    def bound() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 53))
        return sock

    with namespace.call(bound) as sock:

        def answer() -> None:
            while True:
                query, peer = sock.recvfrom(1 << 16)
                if not query:
                    return
                asked.set()
                if code is not None:
                    header = query[:2] + bytes([0x81, 0x80 | code, 0, 1]) + bytes(6)
                    sock.sendto(header + query[12:], peer)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield asked
        finally:
            sock.sendto(b"", sock.getsockname())
            thread.join()


@pytest.mark.parametrize(
    ("code", "why"),
    [
        pytest.param(0, "no address associated with hostname", marks=pytest.mark.slow),
        pytest.param(2, "temporary failure in name resolution", marks=pytest.mark.slow),
        (3, "name or service not known"),
    ],
)
def test_a_name_that_leads_to_no_address_is_told_with_the_reason(
    namespace: Namespace, code: int, why: str
) -> None:
    with _name_server(namespace, code):
        for args in (
            ("send", "--host", "nowhere.example", "x"),
            ("serve", "--host", "nowhere.example"),
        ):
            done = start(*args, command=namespace.command)
            assert done.code == 3
            assert done.complaint == f"cannot resolve nowhere.example: {why}"


def test_where_there_is_no_resolver_names_cannot_be_resolved(namespace: Namespace) -> None:
    # Nobody listens on its port: a query is refused.
    namespace.file("/etc/resolv.conf", "nameserver 127.0.0.1\n")
    done = start("send", "--host", "nowhere.example", "x", command=namespace.command)
    assert done.code == 3
    assert done.complaint == "cannot resolve nowhere.example: temporary failure in name resolution"


def test_a_client_does_not_wait_for_a_resolver_that_does_not_answer(namespace: Namespace) -> None:
    with _name_server(namespace, None) as asked:
        began = time.monotonic()
        args = ("--host", "nowhere.example", "--connect-timeout", "300ms", "x")
        done = start("send", *args, command=namespace.command)
        # The system's resolver asks twice, and waits for five seconds each time.
        assert time.monotonic() - began < 3
        assert asked.is_set()
    assert done.code == 3
    assert done.complaint == (
        "cannot resolve nowhere.example: the resolver gave no answer within 0.3s"
    )


@pytest.mark.parametrize("command", [pytest.param("serve", marks=pytest.mark.slow), "send"])
def test_a_command_that_waits_for_the_resolver_can_be_interrupted(
    namespace: Namespace, command: str
) -> None:
    message = ["x"] if command == "send" else []
    args = (command, "--host", "nowhere.example", *message)
    with (
        _name_server(namespace, None) as asked,
        Running(*args, command=namespace.command) as waiting,
    ):
        assert asked.wait(DEADLINE)
        began = time.monotonic()
        done = waiting.end(signal.SIGINT)
        assert time.monotonic() - began < 1
    assert done.code == 130
    assert done.complaint == "interrupted"
