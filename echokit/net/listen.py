"""Listening: one bound socket per address, all on one port."""

import contextlib
import errno
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from echokit.errors import ListenError
from echokit.net.address import Address, resolve

__all__ = ["Listeners", "SocketOptions", "bind_listeners", "loopback_families", "share"]

# What bind() or socket() say where the host lacks the family, or has it switched off.
_LACKING = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT)
# With port 0 the number that the first address got can be taken on the next one. Each try takes
# the next number, so a host would have to be full of one family's ports for all to fail.
_TRIES = 1000
# Linux: the IPv6 addresses of all interfaces, a line each.
_IPV6_ADDRESSES = Path("/proc/net/if_inet6")


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """What the system is told about the connections of a server; 0 leaves it to the system.

    Attributes:
        send_buffer: SO_SNDBUF, in bytes; Linux takes twice as much, for its bookkeeping.
        receive_buffer: SO_RCVBUF, likewise.
        keepalive: After how many seconds of silence the peer is asked whether it is there; one
            that answers nothing is given up after as many again.
        user_timeout: After how many seconds without an acknowledgement of what was sent, or of
            what was asked, the connection is given up (RFC 5482; Linux).
    """

    send_buffer: int = 0
    receive_buffer: int = 0
    keepalive: float = 0.0
    user_timeout: float = 0.0

    def apply(self, listener: socket.socket) -> None:
        """Set them on a listening socket: those that it accepts inherit them."""
        if self.send_buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.send_buffer)
        if self.receive_buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        if self.keepalive:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            seconds = max(1, round(self.keepalive))
            # What is TCP_KEEPIDLE elsewhere is TCP_KEEPALIVE on macOS.
            for name in ("TCP_KEEPIDLE", "TCP_KEEPALIVE"):
                _set_tcp(listener, name, seconds)
            # The peer has as long again to give one, and up to four chances.
            _set_tcp(listener, "TCP_KEEPINTVL", max(1, seconds // 4))
            _set_tcp(listener, "TCP_KEEPCNT", min(4, seconds))
        if self.user_timeout:
            _set_tcp(listener, "TCP_USER_TIMEOUT", max(1, round(self.user_timeout * 1000)))


def _set_tcp(sock: socket.socket, name: str, value: int) -> None:
    if hasattr(socket, name):
        sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


@dataclass(frozen=True, slots=True)
class Listeners:
    """Listening sockets that share one port.

    Attributes:
        sockets: One a bound address, non-blocking.
        skipped: The addresses whose family the host lacks, or has switched off.
    """

    sockets: list[socket.socket]
    skipped: list[ListenError] = field(default_factory=list)

    @property
    def addresses(self) -> list[Address]:
        """The bound addresses, with the real port."""
        return [Address(sock.family, sock.getsockname()) for sock in self.sockets]

    @property
    def port(self) -> int:
        """The port that all of them share."""
        return self.addresses[0].port

    def close(self) -> None:
        """Stop listening."""
        for sock in self.sockets:
            sock.close()


def bind_listeners(
    host: str,
    port: int,
    family: socket.AddressFamily = socket.AF_UNSPEC,
    *,
    backlog: int = 4096,
    options: SocketOptions | None = None,
) -> Listeners:
    """Listen on every address of `host`, all on one port; 0 is a free one.

    IPv6 sockets take IPv6 alone (IPV6_V6ONLY, RFC 3493 section 5.3), whatever the system's
    default. An address whose family the host lacks, or has switched off, is skipped, unless none
    is left.

    Args:
        host: A name or literal; empty or `*` is every address.
        port: 0 to 65535.
        family: AF_INET or AF_INET6 to take only those.
        backlog: How many connections may wait to be accepted; the system caps it.
        options: What the system is told about the connections.

    Raises:
        ResolveError: `host` has no address (of that family).
        ListenError: An address is taken or not allowed, or none could be had. Nothing is left
            listening.
    """
    addresses = resolve(host, port, family, passive=True)
    for attempt in range(_TRIES):
        # Ports are handed out by family in patterns of their own: where one order keeps meeting
        # numbers that the other family has given away, the other order may not.
        turned = addresses if attempt % 2 == 0 else addresses[::-1]
        try:
            listeners = _bind(turned, backlog, options or SocketOptions())
        except ListenError as error:
            again = port == 0 and error.errno == errno.EADDRINUSE and attempt < _TRIES - 1
            if not again:
                raise
        else:
            if turned is not addresses:
                listeners.sockets.reverse()
            return listeners
    raise AssertionError  # pragma: no cover - the last try returned or raised


def share(
    listeners: Listeners, count: int, *, backlog: int, options: SocketOptions
) -> list[Listeners]:
    """The listeners, and as many more on the same addresses as make `count` in all (Linux).

    The system spreads the connections that come over them, each by its own addresses and ports
    (SO_REUSEPORT, socket(7)). That option alone would also let in whoever else sets it, a second
    copy of this server above all: so the first ones were bound without it, which fails where the
    port is taken, and have it set only now.

    Raises:
        ListenError: The system does not let them share. Nothing is left listening.
    """
    shared = [listeners]
    with contextlib.ExitStack() as undo:
        undo.callback(listeners.close)
        for sock in listeners.sockets:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        for _ in range(count - 1):
            shared.append(Listeners([]))
            undo.callback(shared[-1].close)
            for address in listeners.addresses:
                try:
                    sock = _listen(address, backlog, options, shared=True)
                except OSError as error:
                    raise ListenError(str(address), error) from error
                shared[-1].sockets.append(sock)
        undo.pop_all()
    return shared


def _bind(addresses: Sequence[Address], backlog: int, options: SocketOptions) -> Listeners:
    """Listen on each of `addresses`, on the port that the first of them gets."""
    listeners = Listeners([])
    with contextlib.ExitStack() as undo:
        undo.callback(listeners.close)
        for address in addresses:
            port = listeners.port if listeners.sockets else address.port
            target = address._replace(sockaddr=(address.sockaddr[0], port, *address.sockaddr[2:]))
            try:
                listeners.sockets.append(_listen(target, backlog, options))
            except OSError as error:
                refused = ListenError(str(target), error)
                if error.errno not in _LACKING:
                    raise refused from error
                listeners.skipped.append(refused)
        if not listeners.sockets:
            raise _none_left(listeners.skipped)
        undo.pop_all()
    return listeners


def _none_left(skipped: Sequence[ListenError]) -> ListenError:
    if len(skipped) == 1:
        return skipped[0]
    cause = OSError(skipped[0].errno, skipped[0].strerror)
    return ListenError(" or ".join(error.address for error in skipped), cause)


def _listen(
    address: Address, backlog: int, options: SocketOptions, *, shared: bool = False
) -> socket.socket:
    if address.family == socket.AF_INET6 and address.is_every and _ipv6_is_off():
        raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    sock = socket.socket(address.family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # A server that was just ended leaves connections in TIME_WAIT; they are no reason to
        # refuse its successor the port. On Linux a port that somebody listens on stays refused;
        # elsewhere an address of one's own may be bound beside a wildcard.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Accepted sockets inherit it, which saves a call for each.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A buffer's size must be known before the handshake (tcp(7)).
        options.apply(sock)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address.sockaddr)
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _ipv6_is_off() -> bool:
    """Whether no interface has an IPv6 address, as where disable_ipv6 is set (Linux).

    Then bind("::") succeeds all the same, and nobody can ever connect.
    """
    try:
        return not _IPV6_ADDRESSES.read_bytes()
    except OSError:
        # Another system, or a kernel without IPv6, whose socket() says so.
        return False


def loopback_families() -> list[tuple[socket.AddressFamily, str]]:
    """The families that work on this machine's loopback, each with its literal address."""
    found = []
    for family, literal in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.bind((literal, 0))
            found.append((family, literal))
    return found
