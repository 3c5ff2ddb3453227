"""Who is let in, against a naive model; and networks as people write them."""

import ipaddress
import re
import socket
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from echokit import Address
from echokit.net.admission import Admission, Network, Refusal, parse_network


def _peer(host: str, port: int = 50000) -> Address:
    if ":" in host:
        return Address(socket.AF_INET6, (host, port, 0, 0))
    return Address(socket.AF_INET, (host, port))


def _networks(*texts: str) -> list[Network]:
    return [parse_network(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("192.0.2.1", "192.0.2.1/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("192.0.2.0/255.255.255.0", "192.0.2.0/24"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("2001:DB8::1", "2001:db8::1/128"),
        ("::/0", "::/0"),
        # An IPv4-mapped network is the IPv4 network that it carries (RFC 4291 section 2.5.5.2).
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:127.0.0.1", "127.0.0.1/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        # These only look like it: an IPv4-compatible and a 6to4 address are IPv6.
        ("::127.0.0.1", "::7f00:1/128"),
        ("2002:7f00:1::/48", "2002:7f00:1::/48"),
    ],
)
def test_a_network_is_read(text: str, network: str) -> None:
    assert str(parse_network(text)) == network


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("192.0.2.1/24", "has bits set behind its prefix: write 192.0.2.0/24"),
        ("2001:db8::1/32", "has bits set behind its prefix: write 2001:db8::/32"),
        ("::ffff:127.0.0.1/104", "has bits set behind its prefix: write ::ffff:"),
        ("fe80::%eth0/64", "names an interface, which networks cannot"),
        ("fe80::1%eth0", "names an interface, which networks cannot"),
        ("192.0.2.0/33", "is no network"),
        ("2001:db8::/129", "is no network"),
        ("localhost", "is no network"),
        ("[::1]", "is no network"),
        ("::1:7/", "is no network"),
        ("127.1", "is no network"),
        ("0177.0.0.1", "is no network"),
        ("", "is no network"),
    ],
)
def test_what_is_no_network_is_refused_with_what_to_write(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{text!r} {why}")):
        parse_network(text)


@pytest.mark.parametrize(
    ("host", "refusal"),
    [
        ("192.0.2.1", None),
        ("::ffff:192.0.2.1", None),
        ("192.0.2.129", Refusal.DENIED),
        ("::ffff:192.0.2.129", Refusal.DENIED),
        ("198.51.100.1", Refusal.NOT_ALLOWED),
        ("2001:db8::1", None),
        ("2001:db8:dead::1", Refusal.DENIED),
        ("2001:db9::1", Refusal.NOT_ALLOWED),
        ("::192.0.2.1", Refusal.NOT_ALLOWED),
        ("2002:c000:201::1", Refusal.NOT_ALLOWED),
        # An interface's name is no part of the address.
        ("2001:db8::1%eth0", None),
    ],
)
def test_deny_wins_and_mapped_addresses_are_ipv4(host: str, refusal: Refusal | None) -> None:
    admission = Admission(
        _networks("192.0.2.0/24", "2001:db8::/32"),
        _networks("192.0.2.128/25", "2001:db8:dead::/48"),
    )
    assert admission.enter(_peer(host)) is refusal


def test_what_has_all_of_a_family_says_nothing_of_the_other() -> None:
    ipv4 = Admission(allow=_networks("0.0.0.0/0"))
    assert ipv4.enter(_peer("192.0.2.1")) is None
    assert ipv4.enter(_peer("::ffff:192.0.2.1")) is None
    assert ipv4.enter(_peer("::1")) is Refusal.NOT_ALLOWED
    no_ipv6 = Admission(deny=_networks("::/0"))
    assert no_ipv6.enter(_peer("::1")) is Refusal.DENIED
    # A mapped address is no IPv6 address.
    assert no_ipv6.enter(_peer("::ffff:192.0.2.1")) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        # The numbers are the same, the peers are not.
        ("0.0.0.1", "0:0:0:1::1", False),
    ],
)
def test_a_peer_is_an_ipv4_address_or_an_ipv6_64(one: str, other: str, same: bool) -> None:
    admission = Admission(per_peer=1)
    assert admission.enter(_peer(one)) is None
    assert admission.enter(_peer(other, 50001)) is (Refusal.TOO_MANY if same else None)


def test_what_is_kept_is_bounded_by_who_is_there() -> None:
    admission = Admission(per_peer=2)
    for number in range(1000):
        peer = _peer(str(ipaddress.IPv4Address(number)))
        assert admission.enter(peer) is None
        admission.leave(peer)
    assert not admission._inside


# Small worlds, so that what is drawn meets: few addresses, in and around few networks.
_hosts = st.sampled_from(
    [
        "10.0.0.1",
        "10.0.0.2",
        "10.0.1.1",
        "::ffff:10.0.0.1",
        "::ffff:10.0.1.1",
        "2001:db8::1",
        "2001:db8::2",
        "2001:db8:0:1::1",
        "::10.0.0.1",
        "fe80::1%lo",
    ]
)
_rules = st.lists(
    st.sampled_from(
        [
            "0.0.0.0/0",
            "10.0.0.0/24",
            "10.0.0.1",
            "::ffff:10.0.0.0/120",
            "::ffff:0:0/96",
            "::/0",
            "2001:db8::/64",
            "2001:db8::1",
            "2001:db8::/32",
            "fe80::/10",
            "::/96",
        ]
    ),
    max_size=3,
    unique=True,
)


def _bits(host: str) -> str:
    """The address in binary, after its version; a mapped one is IPv4."""
    address = ipaddress.ip_address(host.partition("%")[0])
    bits = f"{int(address):0{address.max_prefixlen}b}"
    mapped = "0" * 80 + "1" * 16
    if address.version == 6 and bits.startswith(mapped):
        return f"4:{bits.removeprefix(mapped)}"
    return f"{address.version}:{bits}"


def _prefix(rule: str) -> str:
    """What the bits of every address in a network begin with."""
    host, _, length = rule.partition("/")
    bits = _bits(host)
    if not length:
        return bits
    mapped = 96 if ":" in host and bits.startswith("4:") else 0
    return bits[: 2 + int(length) - mapped]


class _Naive:
    """The same in words: addresses as strings of bits, and a list of who is there."""

    def __init__(self, allow: list[str], deny: list[str], per_peer: int) -> None:
        self._allow = tuple(map(_prefix, allow))
        self._deny = tuple(map(_prefix, deny))
        self._per_peer = per_peer
        self.inside: list[str] = []

    def enter(self, host: str) -> Refusal | None:
        bits = _bits(host)
        if bits.startswith(self._deny):
            return Refusal.DENIED
        if self._allow and not bits.startswith(self._allow):
            return Refusal.NOT_ALLOWED
        # 64 bits after the version: a whole IPv4 address, half of an IPv6 one.
        if self._per_peer and self.inside.count(bits[: 2 + 64]) >= self._per_peer:
            return Refusal.TOO_MANY
        self.inside.append(bits[: 2 + 64])
        return None


@given(
    _rules,
    _rules,
    st.integers(0, 3),
    st.lists(st.tuples(_hosts, st.booleans()), max_size=30),
)
def test_who_is_let_in_is_what_a_naive_model_says(
    allow: list[str], deny: list[str], per_peer: int, steps: list[tuple[str, bool]]
) -> None:
    admission = Admission(_networks(*allow), _networks(*deny), per_peer)
    naive = _Naive(allow, deny, per_peer)
    there: Counter[str] = Counter()
    for host, leaving in steps:
        if leaving and there[host]:
            admission.leave(_peer(host))
            naive.inside.remove(_bits(host)[: 2 + 64])
            there[host] -= 1
        else:
            refusal = admission.enter(_peer(host))
            assert refusal is naive.enter(host)
            there[host] += refusal is None


_addresses = st.integers(0, 32).map(lambda length: (32, length)) | st.integers(0, 128).map(
    lambda length: (128, length)
)


@given(_addresses, st.integers(0, (1 << 128) - 1))
@example((128, 80), 0)
def test_every_network_is_read_as_it_is_written_and_has_its_own_ends(
    size: tuple[int, int], number: int
) -> None:
    bits, length = size
    whole = (number & ((1 << bits) - 1)) >> (bits - length) << (bits - length)
    make = ipaddress.IPv4Network if bits == 32 else ipaddress.IPv6Network
    network = parse_network(str(make((whole, length))))
    assert parse_network(str(network)) == network
    admission = Admission(allow=[network])
    for end in (network.network_address, network.broadcast_address):
        # The mapped addresses inside a wider IPv6 network are IPv4, and so not in it.
        foreign = isinstance(end, ipaddress.IPv6Address) and end.ipv4_mapped is not None
        assert admission.enter(_peer(str(end))) is (Refusal.NOT_ALLOWED if foreign else None)
