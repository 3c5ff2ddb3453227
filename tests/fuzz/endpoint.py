"""The endpoint parser, under texts that a fuzzer makes, as argv or a config would bring them.

What must hold, whatever comes: an Endpoint or a ValueError that says why, never another error. And
what was accepted is what it looks like: it is written down and read again the same, it is one word
that no terminal is driven by, and the system reads no host as an address that a person would not
(`127.1`, `0x7f.1`, `0177.0.0.1`, or the same in full-width digits, which IDNA makes plain ones).
"""

import ipaddress
import socket

from echokit.net.address import Endpoint, host_problem

__all__ = ["check"]


def check(data: bytes) -> None:
    """Check an endpoint's text, and the same text as a host alone.

    Raises:
        AssertionError: One of the things that must hold does not.
    """
    # What is no UTF-8 comes from argv as surrogates.
    text = data.decode("utf-8", "surrogateescape")
    endpoint, refusal = _parsed(text)
    if endpoint is None:
        # A UnicodeError is one, too, and says nothing to a person.
        assert type(refusal) is ValueError, repr(refusal)
        assert str(refusal)
    else:
        assert 0 <= endpoint.port <= 65535
        assert Endpoint.parse(str(endpoint)) == endpoint
        assert host_problem(endpoint.host) is None
        _is_what_it_looks_like(endpoint.host)
    problem = host_problem(text)
    if problem is None:
        _is_what_it_looks_like(text)
    else:
        assert problem


def _parsed(text: str) -> tuple[Endpoint | None, ValueError | None]:
    try:
        return Endpoint.parse(text), None
    except ValueError as error:
        return None, error


def _is_what_it_looks_like(host: str) -> None:
    assert host.isprintable(), "it could drive a terminal"
    assert not any(character.isspace() for character in host), "it is more than one word"
    host.encode()
    if host in ("", "*"):
        return
    if ":" in host:
        # As the system reads it, but for the scope, which must be an interface that is there.
        literal, _, _ = host.partition("%")
        packed = socket.inet_pton(socket.AF_INET6, literal)
        assert packed == ipaddress.IPv6Address(literal).packed
        return
    try:
        name = host.encode("idna").decode()
    except UnicodeError:
        # The resolver refuses it, in words of its own.
        return
    try:
        packed = socket.inet_aton(name)
    except OSError:
        return
    assert packed == ipaddress.IPv4Address(host).packed, f"the system reads {name} as an address"
