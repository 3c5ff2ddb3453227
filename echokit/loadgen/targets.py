"""Which addresses of a target are measured: one of each family, that takes a connection."""

import errno
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from echokit.errors import DialError, ListenError, ResolveError
from echokit.loadgen.measured import FAMILIES, FAMILY_TITLES, FamilyName
from echokit.loadgen.settings import FAMILY_NAMES, SOCKET_FAMILIES, LoadSettings, only_asked
from echokit.net.address import Address, Endpoint, resolve
from echokit.net.dial import dial
from echokit.net.listen import loopback_families

__all__ = ["Targets", "find_targets", "own_families", "own_targets"]


@dataclass(frozen=True, slots=True)
class Targets:
    """What of a target can be measured.

    Attributes:
        addresses: Where each family is measured.
        failed: The families that it has, and that cannot be connected to; and why.
        skipped: Every family that is not measured, and why.
    """

    addresses: dict[FamilyName, Address]
    failed: dict[FamilyName, str]
    skipped: dict[FamilyName, str]


def find_targets(host: str, port: int, settings: LoadSettings) -> Targets:
    """Resolve `host`, and connect once over each family that it has.

    Raises:
        ResolveError: It has no address (of the family asked for).
        DialError: None of its addresses takes a connection.
    """
    timeout = settings.connect_timeout
    resolved = resolve(host, port, settings.family, timeout=timeout)
    families = {address.family for address in resolved}
    addresses: dict[FamilyName, Address] = {}
    failures: dict[FamilyName, DialError] = {}
    for name in FAMILIES:
        if SOCKET_FAMILIES[name] not in families:
            continue
        try:
            dialed = dial(host, port, SOCKET_FAMILIES[name], timeout=timeout)
        except DialError as error:
            failures[name] = error
        except ResolveError:
            # It had an address of this family a moment ago: the resolver has changed its mind.
            continue
        else:
            dialed.sock.close()
            addresses[name] = dialed.address
    if not addresses:
        raise _nobody(Endpoint(host, port), list(failures.values()))
    failed = {name: str(error) for name, error in failures.items()}
    missing = {name: _missing(host, name, settings.family) for name in FAMILIES}
    left = {name: why for name, why in missing.items() if name not in addresses}
    return Targets(addresses, failed, left | failed)


def own_families(settings: LoadSettings) -> int:
    """Over how many families echokit's own server can be measured here.

    Raises:
        ListenError: This machine lacks the one asked for.
    """
    found = [family for family, _ in loopback_families() if settings.family in (0, family)]
    if not found:
        missing = OSError(errno.EADDRNOTAVAIL, "this machine has no such address")
        raise ListenError("127.0.0.1" if settings.family == socket.AF_INET else "::1", missing)
    return len(found)


def own_targets(addresses: Mapping[FamilyName, Address], settings: LoadSettings) -> Targets:
    """What is measured of echokit's own server: its addresses of the family asked for."""
    asked = settings.family
    missing = {
        name: "this machine has no address of it"
        if asked == socket.AF_UNSPEC
        else only_asked(FAMILY_NAMES[asked])
        for name in FAMILIES
        if name not in addresses or asked not in (socket.AF_UNSPEC, SOCKET_FAMILIES[name])
    }
    wanted = {name: address for name, address in addresses.items() if name not in missing}
    return Targets(wanted, {}, missing)


def _missing(host: str, name: FamilyName, asked: socket.AddressFamily) -> str:
    """Why `host` has no address of a family."""
    if asked not in (socket.AF_UNSPEC, SOCKET_FAMILIES[name]):
        return only_asked(FAMILY_NAMES[asked])
    title = FAMILY_TITLES[name]
    try:
        literal = ipaddress.ip_address(host)
    except ValueError:
        return f"the name {host} has no {title} address"
    return f"{host} is an IPv{literal.version} address"


def _nobody(endpoint: Endpoint, failures: Sequence[DialError]) -> DialError:
    attempts = [attempt for failure in failures for attempt in failure.failures]
    return DialError(str(endpoint), attempts)
