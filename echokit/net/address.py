"""Names, literals and addresses: how they are written, and what they resolve to.

An endpoint is what a person writes (`localhost:7`, `[::1]:7`, `:7`); an address is what the system
resolved it to, ready for bind() or connect().
"""

import ipaddress
import re
import socket
import threading
import time
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from echokit.errors import ResolveError, reason

__all__ = ["EVERY_ADDRESS", "Address", "Endpoint", "Sockaddr", "host_problem", "resolve"]

# The host that stands for every address of the machine.
EVERY_ADDRESS = "*"

_FAMILY_NAMES = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}
_LABEL = re.compile(r"[^\s.\[\]:/%@\\#?\x00-\x20\x7f\ud800-\udfff]{1,63}")
_INTERFACE = re.compile(r"[^\s\[\]:/%]+")
_NO_SUCH_ADDRESS = tuple(
    getattr(socket, name)
    for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY")
    if hasattr(socket, name)
)


# Host and port, and for IPv6 two parts more (RFC 3493 section 3.3).
Sockaddr = tuple[Any, ...]


class Address(NamedTuple):
    """One resolved address: a family and what bind() and connect() take."""

    family: socket.AddressFamily
    sockaddr: Sockaddr

    @classmethod
    def of(cls, sockaddr: Sockaddr) -> Self:
        """An address as accept() and connect() have it, of the family that it looks like."""
        # An IPv6 one has four parts.
        family = socket.AF_INET6 if len(sockaddr) == 4 else socket.AF_INET  # noqa: PLR2004 - see above
        return cls(family, sockaddr)

    @property
    def host(self) -> str:
        """The address as a literal, with the scope of a link-local one: `fe80::1%eth0`."""
        host: str = self.sockaddr[0]
        scope = self.sockaddr[3] if self.family == socket.AF_INET6 else 0
        if not scope or "%" in host:
            return host
        try:
            return f"{host}%{socket.if_indextoname(scope)}"
        except OSError:
            return f"{host}%{scope}"

    @property
    def port(self) -> int:
        """The port."""
        port: int = self.sockaddr[1]
        return port

    @property
    def is_every(self) -> bool:
        """Whether it stands for every address of the machine (of its family)."""
        return self.sockaddr[0] in {"0.0.0.0", "::"}

    def __str__(self) -> str:
        return str(Endpoint(self.host, self.port))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host, by name or literal, and a port. An empty host is every address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `host:port`, `192.0.2.1:7`, `[::1]:7`, `[fe80::1%eth0]:7` or `:7`.

        Raises:
            ValueError: `text` is none of these; the message says why.
        """
        host, colon, port = text.rpartition(":")
        if not colon or host.endswith(":") or text.endswith("]"):
            raise ValueError(f"{text!r} has no port: write host:port, or [::1]:7 for IPv6")
        if not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or int(port) > 65535:  # noqa: PLR2004 - the largest port
            raise ValueError(f"{port!r} is no port: a port is a number from 0 to 65535")
        bracketed = host.startswith("[") and host.endswith("]")
        if ":" in host and not bracketed:
            raise ValueError(f"an IPv6 address with a port stands in brackets: [{host}]:{port}")
        host = host[1:-1] if bracketed else host
        if (problem := host_problem(host)) or (bracketed and ":" not in host):
            raise ValueError(problem or f"{host!r} in brackets is no IPv6 address")
        return cls("" if host == EVERY_ADDRESS else host, int(port))


def host_problem(host: str) -> str | None:
    """Why `host` can be no host name or literal; None where it can."""
    if host in ("", EVERY_ADDRESS):
        return None
    if ":" in host:
        return _ipv6_problem(host)
    neither = f"{host!r} is neither a host name nor an IPv4 or IPv6 address"
    if len(host) > 253:  # noqa: PLR2004 - RFC 1035 section 2.3.4
        return neither
    last = _as_looked_up(host).removesuffix(".").rpartition(".")[2]
    # inet_aton() would read 127.1, 1, 0177.0.0.1 and 0x7f.1 as addresses, each in its own way.
    if re.fullmatch(r"[0-9]+|0[xX][0-9a-fA-F]*", last, re.ASCII):
        return _ipv4_problem(host)
    labels = host.removesuffix(".").split(".")
    labelled = host.isprintable() and all(_LABEL.fullmatch(label) for label in labels)
    return None if labelled else neither


def _as_looked_up(host: str) -> str:
    """`host` as getaddrinfo() is given it: IDNA makes full-width digits and dots plain ones."""
    try:
        return host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        # It will not be looked up at all.
        return host


def _ipv6_problem(host: str) -> str | None:
    try:
        literal = ipaddress.IPv6Address(host)
    except ValueError:
        return f"{host!r} is no IPv6 address"
    scope = literal.scope_id
    if scope is not None and not (scope.isprintable() and _INTERFACE.fullmatch(scope)):
        return f"{host!r} is no IPv6 address: {scope!r} can be no interface"
    if literal.is_link_local and scope is None:
        return f"the link-local address {host!r} needs its interface: {host}%eth0"
    return None


def _ipv4_problem(host: str) -> str | None:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return f"{host!r} is no IPv4 address: write all four numbers, without leading zeros"
    return None


def resolve(
    host: str,
    port: int,
    family: socket.AddressFamily = socket.AF_UNSPEC,
    *,
    passive: bool = False,
    timeout: float | None = None,
) -> list[Address]:
    """The addresses of `host`, in the order that getaddrinfo() gives (RFC 6724).

    Args:
        host: A name, or a literal; empty or `*` is every address where `passive`.
        port: 0 to 65535.
        family: AF_INET or AF_INET6 to have only those.
        passive: The addresses are to be listened on.
        timeout: The longest wait for the resolver, in seconds; None is as long as it takes. It
            cannot be interrupted, so what it does after the wait goes on in a daemon thread.

    Raises:
        ResolveError: There is no address (of that family).
        ValueError: `port` is no port.
    """
    if not 0 <= port <= 65535:  # noqa: PLR2004 - the largest port
        # getaddrinfo() would take it modulo 65536.
        raise ValueError(f"a port is a number from 0 to 65535, not {port}")
    node = None if host in ("", EVERY_ADDRESS) else host
    if node is None and not passive:
        raise ResolveError(host or "''", "that is every address, which only a server can use")
    began = time.monotonic()
    try:
        found = _getaddrinfo(node, port, family, passive, timeout)
    except UnicodeError:
        raise ResolveError(host, "not a valid host name") from None
    except socket.gaierror as error:
        if family != socket.AF_UNSPEC and error.errno in _NO_SUCH_ADDRESS:
            left = None if timeout is None else max(0.0, began + timeout - time.monotonic())
            raise ResolveError(host, _family_hint(host, port, family, left)) from error
        raise ResolveError(host, _why(host, error)) from error
    except TimeoutError:
        raise ResolveError(host, f"the resolver gave no answer within {timeout:g}s") from None
    if not found:
        raise ResolveError(host, "it has no address")
    # A name may be listed twice in a hosts file; an address is tried or bound once.
    return list(dict.fromkeys(found))


def _why(host: str, error: socket.gaierror) -> str:
    interface = host.partition("%")[2]
    if interface and not interface.isdecimal():
        try:
            socket.if_nametoindex(interface)
        except OSError:
            return f"this machine has no interface {interface!r}"
    return reason(error) if error.strerror else "the resolver failed"


def _getaddrinfo(
    node: str | None, port: int, family: int, passive: bool, timeout: float | None
) -> list[Address]:
    flags = socket.AI_PASSIVE if passive else 0

    def look_up(more: int = 0) -> list[Address]:
        found = socket.getaddrinfo(
            node, port, family, socket.SOCK_STREAM, socket.IPPROTO_TCP, flags | more
        )
        return [Address(entry[0], entry[4]) for entry in found]

    if node is None:
        return look_up()
    try:
        return look_up(socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass
    outcome: list[list[Address] | Exception] = []

    def in_thread() -> None:
        try:
            outcome.append(look_up())
        except Exception as error:  # noqa: BLE001 - raised in the waiting thread
            outcome.append(error)

    # Unlike the resolver, the wait for a thread can be interrupted by a signal.
    thread = threading.Thread(target=in_thread, name="echokit-resolver", daemon=True)
    thread.start()
    thread.join(timeout)
    if not outcome:
        raise TimeoutError
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def _family_hint(host: str, port: int, family: int, timeout: float | None) -> str:
    """Why `host` has no address of `family`, and what can be done."""
    wanted = _FAMILY_NAMES[socket.AddressFamily(family)]
    try:
        others = _getaddrinfo(host, port, socket.AF_UNSPEC, False, timeout)
    except socket.gaierror:
        return "no such host"
    except TimeoutError:
        others = []
    if not others:
        return f"it has no {wanted} address"
    other = others[0]
    loopback = ipaddress.ip_address(other.sockaddr[0].partition("%")[0]).is_loopback
    literal = "::1" if wanted == "IPv6" else "127.0.0.1"
    offer = f"name the host {literal}, or" if loopback else ""
    has = _FAMILY_NAMES[other.family]
    fact = f"it has no {wanted} address, only {other.host}"
    if other.host == host:
        fact = f"it is no {wanted} address"
    words = f"{fact}; {offer} let {has} be used"
    return " ".join(words.split())
