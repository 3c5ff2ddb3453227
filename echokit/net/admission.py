"""Who is let in: networks that are allowed or denied, and how many connections one peer may have.

A peer is its address. An IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2) is the IPv4 address
that it carries, in rules and in peers. For counting, an IPv6 peer is its /64: whoever has one
address there mostly has all of them (RFC 4291 section 2.5.4, RFC 6177).
"""

import enum
import ipaddress
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from echokit.net.address import Address

__all__ = ["Admission", "Network", "Refusal", "parse_network"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


class Refusal(enum.Enum):
    """Why a peer was not let in."""

    DENIED = "denied"
    NOT_ALLOWED = "not-allowed"
    TOO_MANY = "too-many-of-one-peer"


def parse_network(text: str) -> Network:
    """Read `192.0.2.0/24`, `2001:db8::/32`, or an address alone.

    Raises:
        ValueError: `text` is none of these, has bits set behind its prefix, or names an interface.
    """
    if "%" in text:
        # It would be a rule for every interface, which is more than was meant.
        raise ValueError(f"{text!r} names an interface, which networks cannot: leave that out")
    try:
        loose = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"{text!r} is no network: write 192.0.2.0/24, 2001:db8::/32 or an address"
        ) from None
    if loose.network_address != ipaddress.ip_address(text.partition("/")[0]):
        raise ValueError(f"{text!r} has bits set behind its prefix: write {loose}")
    if isinstance(loose, ipaddress.IPv6Network) and loose.subnet_of(_MAPPED):
        inside = loose.network_address.ipv4_mapped
        return ipaddress.IPv4Network((int(inside or 0), loose.prefixlen - _MAPPED.prefixlen))
    return loose


def _unmapped(peer: Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(peer.sockaddr[0].partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


@dataclass(frozen=True, slots=True)
class _Peer:
    """What connections are counted by."""

    version: int
    number: int


class Admission:
    """Decides who is let in, and counts who is there.

    Args:
        allow: Only peers in one of these; empty: everybody.
        deny: Nobody in one of these, though `allow` has them.
        per_peer: How many connections one peer may have at once; 0: any number.
    """

    def __init__(
        self, allow: Sequence[Network] = (), deny: Sequence[Network] = (), per_peer: int = 0
    ) -> None:
        self._allow = allow
        self._deny = deny
        self._per_peer = per_peer
        self._inside: Counter[_Peer] = Counter()

    def enter(self, peer: Address) -> Refusal | None:
        """Let `peer` in, and count it; or say why not."""
        address = _unmapped(peer)
        # A network of the other version contains no address.
        if any(address in network for network in self._deny):
            return Refusal.DENIED
        if self._allow and not any(address in network for network in self._allow):
            return Refusal.NOT_ALLOWED
        if self._per_peer:
            who = _who(address)
            if self._inside[who] >= self._per_peer:
                return Refusal.TOO_MANY
            self._inside[who] += 1
        return None

    def leave(self, peer: Address) -> None:
        """One connection of `peer`, which had been let in, has ended."""
        if self._per_peer:
            who = _who(_unmapped(peer))
            self._inside[who] -= 1
            if not self._inside[who]:
                # What is kept is bounded by who is there, not by who ever came.
                del self._inside[who]


def _who(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> _Peer:
    number = int(address)
    return _Peer(address.version, number >> 64 if address.version == 6 else number)  # noqa: PLR2004 - IPv6
