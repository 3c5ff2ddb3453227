"""How endpoints and hosts are written, and what the resolver's answers become."""

import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echokit.errors import ResolveError
from echokit.net.address import Address, Endpoint, host_problem, resolve

V4, V6 = socket.AF_INET, socket.AF_INET6
ANY = socket.AF_UNSPEC


class _Resolver:
    """A `socket.getaddrinfo` that knows the names it is told, and counts what it is asked."""

    def __init__(self, known: dict[str, Sequence[tuple[socket.AddressFamily, str]]]) -> None:
        self._known = known
        self.asked: list[int] = []

    def __call__(
        self, host: str, port: int, family: int, _kind: int, _protocol: int, flags: int
    ) -> list[tuple[Any, ...]]:
        if flags & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        self.asked.append(family)
        found = [
            (own, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", _sockaddr(own, literal, port))
            for own, literal in self._known.get(host, ())
            if family in (ANY, own)
        ]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found


def _sockaddr(family: socket.AddressFamily, literal: str, port: int) -> tuple[Any, ...]:
    return (literal, port) if family == V4 else (literal, port, 0, 0)


def _knows(
    monkeypatch: pytest.MonkeyPatch, *addresses: tuple[socket.AddressFamily, str]
) -> _Resolver:
    resolver = _Resolver({"box": addresses})
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    return resolver


# Endpoints.


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("localhost:7", "localhost", 7),
        ("127.0.0.1:0", "127.0.0.1", 0),
        ("192.0.2.1:65535", "192.0.2.1", 65535),
        ("[::1]:7", "::1", 7),
        ("[::]:7", "::", 7),
        ("[fe80::1%eth0]:7", "fe80::1%eth0", 7),
        ("[::ffff:1.2.3.4]:7", "::ffff:1.2.3.4", 7),
        (":7", "", 7),
        ("bücher.example:7", "bücher.example", 7),
        ("example.org.:7", "example.org.", 7),
        ("my_host:7", "my_host", 7),
    ],
)
def test_an_endpoint_reads_and_is_written_the_same_way(text: str, host: str, port: int) -> None:
    endpoint = Endpoint.parse(text)
    assert (endpoint.host, endpoint.port) == (host, port)
    assert str(endpoint) == text


def test_a_star_is_every_address() -> None:
    assert Endpoint.parse("*:7") == Endpoint("", 7) == Endpoint.parse(":7")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "has no port"),
        ("localhost", "has no port"),
        ("[::1]", "has no port"),
        ("::", "has no port"),
        ("::1", "has no port"),
        ("fe80::1", "has no port"),
        ("[::1]:", "'' is no port"),
        ("localhost:", "'' is no port"),
        ("localhost:-1", "'-1' is no port"),
        ("localhost:65536", "'65536' is no port"),
        ("localhost:99999999999999999999", "is no port"),
        ("localhost:1e3", "'1e3' is no port"),
        ("localhost: 7", "' 7' is no port"),
        ("localhost:7 ", "'7 ' is no port"),
        ("localhost:7\n", r"'7\\n' is no port"),
        ("localhost:\uff17", "'\uff17' is no port"),
        ("localhost:+7", "'\\+7' is no port"),
        ("localhost:http", "'http' is no port"),
        ("2001:db8::7:7", r"stands in brackets: \[2001:db8::7\]:7"),
        ("[::1:7", "stands in brackets"),
        ("::1]:7", "stands in brackets"),
        ("[]:7", "in brackets is no IPv6 address"),
        ("[*]:7", "in brackets is no IPv6 address"),
        ("[localhost]:7", "in brackets is no IPv6 address"),
        ("[127.0.0.1]:7", "in brackets is no IPv6 address"),
        ("[[::1]]:7", "is no IPv6 address"),
        ("[12345::1]:7", "is no IPv6 address"),
        ("[fe80::1]:7", "needs its interface: fe80::1%eth0"),
        ("[fe80::1%]:7", "is no IPv6 address"),
        ("a..b:7", "neither a host name"),
        ("127.1:7", "no IPv4 address"),
    ],
)
def test_what_is_no_endpoint_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Endpoint.parse(text)


@given(st.text() | st.text(alphabet="[]:%*.-ab017", max_size=24))
def test_any_text_is_an_endpoint_that_can_be_written_again_or_a_value_error(text: str) -> None:
    try:
        endpoint = Endpoint.parse(text)
    except ValueError:
        return
    assert Endpoint.parse(str(endpoint)) == endpoint


# Hosts.


@pytest.mark.parametrize(
    "host",
    ["", "*", "localhost", "a.b", "a-b.c", "example.org.", "127.0.0.1", "::1", "::", "fe80::1%lo",
     "fe80::1%eth0.100", "fe80::1%2", "::ffff:1.2.3.4", "x" * 63, "bücher.example", "3com.example",
     "x\uff11.example"],
)  # fmt: skip
def test_a_name_or_literal_has_no_problem(host: str) -> None:
    assert host_problem(host) is None


@pytest.mark.parametrize(
    ("host", "why"),
    [
        ("[::1", "no IPv6 address"),
        ("::1]", "no IPv6 address"),
        ("[::1]", "no IPv6 address"),
        ("[::1]:", "no IPv6 address"),
        ("1::2::3", "no IPv6 address"),
        ("fe80::1%", "no IPv6 address"),
        ("fe80::1", "needs its interface"),
        ("1", "no IPv4 address"),
        ("127.1", "no IPv4 address"),
        ("0177.0.0.1", "no IPv4 address"),
        ("256.0.0.1", "no IPv4 address"),
        ("1.2.3.4.5", "no IPv4 address"),
        ("127.0.0.1.", "no IPv4 address"),
        (".", "neither a host name"),
        # The system reads hexadecimal numbers as addresses too: 127.0.0.1.
        ("0x7f.1", ""),
        ("0x7f000001", ""),
        # IDNA makes full-width, circled and other such digits, and dots, plain ones.
        ("\uff11\uff12\uff17.\uff11", "no IPv4 address"),
        ("127。1", "no IPv4 address"),
        ("①", "no IPv4 address"),
        ("0\uff587f.1", "no IPv4 address"),
        ("\uff11\uff12\uff17.\uff10.\uff10.\uff11", "no IPv4 address"),
        ("fe80::1%eth0\n", "can be no interface"),
        ("fe80::1%\x1b]0;x\x07", "can be no interface"),
        ("::1%a b", "can be no interface"),
        ("::1%a[b", "can be no interface"),
        ("::1%\u202e", "can be no interface"),
        ("::1%\udcff", "can be no interface"),
        ("a..b", "neither a host name"),
        (".a", "neither a host name"),
        ("x" * 64, "neither a host name"),
        ("x" * 300, "neither a host name"),
        (".".join(["x" * 60] * 5), "neither a host name"),
        ("%eth0", "neither a host name"),
        ("two words", "neither a host name"),
        ("tab\t", "neither a host name"),
        ("line\n", "neither a host name"),
        ("nul\0", "neither a host name"),
        ("http://a", "no IPv6 address"),
        ("a/b", "neither a host name"),
        ("user@host", "neither a host name"),
    ],
)
def test_what_can_be_no_host_has_a_problem_that_quotes_it(host: str, why: str) -> None:
    problem = host_problem(host)
    assert problem is not None
    assert repr(host) in problem
    assert why in problem


# Addresses.


def test_a_link_local_address_is_written_with_its_interface() -> None:
    index, name = socket.if_nameindex()[0]
    address = Address(V6, ("fe80::1", 7, 0, index))
    assert address.host == f"fe80::1%{name}"
    assert str(address) == f"[fe80::1%{name}]:7"


def test_an_interface_that_is_gone_is_written_as_its_number() -> None:
    assert str(Address(V6, ("fe80::1", 7, 0, 4_000_000))) == "[fe80::1%4000000]:7"


def test_an_ipv4_address_is_written_without_brackets() -> None:
    assert str(Address(V4, ("192.0.2.1", 7))) == "192.0.2.1:7"


# Resolving.


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_a_literal_resolves_to_itself(
    family: socket.AddressFamily, host: str, timeout: float | None
) -> None:
    [address] = resolve(host, 7, timeout=timeout)
    assert (address.family, address.host, address.port) == (family, host, 7)
    assert resolve(host, 7, family, timeout=timeout) == [address]


def test_a_literal_needs_no_resolver_that_could_hang(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def without_names(*asked: Any) -> list[Any]:
        assert asked[-1] & socket.AI_NUMERICHOST
        return list(real(*asked))

    monkeypatch.setattr(socket, "getaddrinfo", without_names)
    assert resolve(host, 7, timeout=5.0)[0].host == host


@pytest.mark.parametrize("host", ["", "*"])
def test_every_address_is_the_wildcard_of_each_family(host: str) -> None:
    found = {address.family: address.host for address in resolve(host, 7, passive=True)}
    assert found[V4] == "0.0.0.0"
    assert found.get(V6, "::") == "::"


@pytest.mark.parametrize("host", ["", "*"])
def test_nobody_can_connect_to_every_address(host: str) -> None:
    with pytest.raises(ResolveError, match="every address, which only a server can use"):
        resolve(host, 7)


@pytest.mark.parametrize("timeout", [None, 5.0])
def test_addresses_keep_the_resolvers_order_and_come_once(
    timeout: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    _knows(
        monkeypatch,
        (V6, "2001:db8::1"),
        (V4, "192.0.2.1"),
        (V6, "2001:db8::1"),
        (V4, "192.0.2.2"),
        (V4, "192.0.2.1"),
    )
    found = resolve("box", 7, timeout=timeout)
    assert [str(address) for address in found] == [
        "[2001:db8::1]:7",
        "192.0.2.1:7",
        "192.0.2.2:7",
    ]


@pytest.mark.parametrize("timeout", [None, 5.0])
@pytest.mark.parametrize(
    ("forced", "has", "says"),
    [
        (
            V6,
            (V4, "127.0.0.1"),
            "it has no IPv6 address, only 127.0.0.1; name the host ::1, or let IPv4 be used",
        ),
        (
            V4,
            (V6, "::1"),
            "it has no IPv4 address, only ::1; name the host 127.0.0.1, or let IPv6 be used",
        ),
        (V6, (V4, "192.0.2.1"), "it has no IPv6 address, only 192.0.2.1; let IPv4 be used"),
        (V4, (V6, "fe80::1%lo"), "it has no IPv4 address, only fe80::1%lo; let IPv6 be used"),
    ],
)
def test_a_name_without_the_forced_family_says_so_and_what_to_do(
    forced: socket.AddressFamily,
    has: tuple[socket.AddressFamily, str],
    says: str,
    timeout: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _knows(monkeypatch, has)
    with pytest.raises(ResolveError) as caught:
        resolve("box", 7, forced, timeout=timeout)
    assert str(caught.value) == f"cannot resolve box: {says}"
    assert caught.value.host == "box"


@pytest.mark.parametrize("forced", [ANY, V4, V6])
@pytest.mark.parametrize("timeout", [None, 5.0])
def test_a_name_that_nobody_knows_is_told(
    forced: socket.AddressFamily, timeout: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    _knows(monkeypatch)
    with pytest.raises(ResolveError, match=r"^cannot resolve nobody: (no such host|name or serv)"):
        resolve("nobody", 7, forced, timeout=timeout)


def test_a_resolver_that_fails_is_not_taken_for_a_missing_family(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_asked: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    with pytest.raises(ResolveError, match=r"box: temporary failure in name resolution$"):
        resolve("box", 7, V6)


def test_an_empty_answer_is_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_asked: [])
    with pytest.raises(ResolveError):
        resolve("box", 7)


@pytest.mark.parametrize("timeout", [None, 5.0])
@pytest.mark.parametrize("host", ["x" * 64 + ".example", "\udcff", "a\0b"])
def test_a_name_that_cannot_be_asked_for_is_a_resolve_error(
    host: str, timeout: float | None
) -> None:
    with pytest.raises(ResolveError):
        resolve(host, 7, timeout=timeout)


def test_a_resolver_that_hangs_is_given_up_at_the_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer, asked = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def hangs(*request: Any) -> list[Any]:
        if request[-1] & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        threads.append(threading.current_thread())
        asked.set()
        answer.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    began = time.monotonic()
    try:
        with pytest.raises(ResolveError, match=r"box: the resolver gave no answer within 0\.1s$"):
            resolve("box", 7, timeout=0.1)
        assert 0.1 <= time.monotonic() - began < 2
        assert asked.is_set()
        # What cannot be interrupted must not hold up the program's end.
        assert [thread.daemon for thread in threads] == [True]
    finally:
        answer.set()
        for thread in threads:
            thread.join(10)
