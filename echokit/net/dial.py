"""Connecting across addresses and families: Happy Eyeballs, version 2 (RFC 8305).

The addresses are tried in the system's order with the families interleaved (section 4). An attempt
that has neither failed nor succeeded after the attempt delay is joined by the next one (section 5);
one that fails is followed at once. The first to connect wins, the others are closed. Every failure
is kept and told.
"""

import errno
import itertools
import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from echokit.errors import DialError
from echokit.net.address import Address, Endpoint, resolve
from echokit.net.connecting import connect_error
from echokit.net.reactor import WRITE, Reactor

__all__ = ["ATTEMPT_DELAY", "Attempt", "Dialed", "dial"]

# RFC 8305 section 8: the recommended Connection Attempt Delay, in seconds.
ATTEMPT_DELAY = 0.25

# What an attempt that was refused never ends in, for that is ECONNREFUSED: it had connected, and
# was reset before it was asked (EPIPE: after its peer's FIN). How a peer treats those who have
# connected is not the dialling's affair.
_AFTER_CONNECTING = (errno.ECONNRESET, errno.ENOTCONN, errno.EPIPE)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to connect; times are seconds since the dialling began.

    Attributes:
        address: Where to.
        began: When it began.
        ended: When it had connected, failed, or was given up as another attempt had won.
        connected: Whether it is the one that won.
        error: Why it failed; None where it won or was given up.
    """

    address: Address
    began: float
    ended: float
    connected: bool = False
    error: OSError | None = None


@dataclass(frozen=True, slots=True)
class Dialed:
    """A connected, non-blocking socket, and how it came about.

    Attributes:
        sock: The socket; an `EchoClient` has taken it over, so that the object is closed.
        address: The peer's address.
        resolved: How long the resolver took, in seconds.
        connected: How long everything took, in seconds.
        attempts: Every attempt, in the order in which they began; the last of
            them need not be the winner.
    """

    sock: socket.socket
    address: Address
    resolved: float
    connected: float
    attempts: tuple[Attempt, ...]


def dial(
    host: str,
    port: int,
    family: socket.AddressFamily = socket.AF_UNSPEC,
    *,
    timeout: float = 5.0,
    attempt_delay: float = ATTEMPT_DELAY,
) -> Dialed:
    """Connect to `host` at `port`, over whichever of its addresses answers first.

    Args:
        host: A name or literal.
        port: 1 to 65535.
        family: AF_INET or AF_INET6 to use only those.
        timeout: The longest that resolving and connecting may take together, in seconds.
        attempt_delay: How long an attempt is alone before the next joins it, in seconds.

    Raises:
        ResolveError: `host` has no address (of that family).
        DialError: None of the addresses could be connected to; each failure is in it.
    """
    with Reactor() as reactor:
        began = reactor.clock()
        addresses = resolve(host, port, family, timeout=timeout)
        race = _Race(reactor, began, timeout, attempt_delay, interleaved(addresses))
        race.run()
    attempts = tuple(race.attempts)
    if race.winner is None:
        failures = [(str(attempt.address), attempt.error) for attempt in attempts if attempt.error]
        raise DialError(str(Endpoint(host, port)), failures)
    sock, address = race.winner
    return Dialed(sock, address, race.resolved, race.now(), attempts)


def interleaved(addresses: Sequence[Address]) -> list[Address]:
    """`addresses` with the families taking turns, the first address's family first."""
    first = addresses[0].family if addresses else None
    own = [address for address in addresses if address.family == first]
    other = [address for address in addresses if address.family != first]
    pairs = itertools.zip_longest(own, other)
    return [address for pair in pairs for address in pair if address is not None]


class _Race:
    """The attempts to connect, running side by side."""

    def __init__(
        self,
        reactor: Reactor,
        began: float,
        timeout: float,
        attempt_delay: float,
        addresses: Sequence[Address],
    ) -> None:
        self._reactor = reactor
        self._began = began
        self._timeout = timeout
        self._attempt_delay = attempt_delay
        self._waiting = deque(addresses)
        self._running: dict[socket.socket, tuple[Address, float]] = {}
        self._next = reactor.call_later(0, self._start_next)
        self.resolved = self.now()
        self.attempts: list[Attempt] = []
        self.winner: tuple[socket.socket, Address] | None = None

    def now(self) -> float:
        """Seconds since the dialling began."""
        return self._reactor.clock() - self._began

    def run(self) -> None:
        """Try until one attempt has won or all have lost."""
        self._reactor.call_later(self._timeout - self.resolved, self._time_out)
        try:
            self._reactor.run()
        finally:
            for sock in list(self._running):
                self._close(sock, None)
        self.attempts.sort(key=lambda attempt: attempt.began)

    def _start_next(self) -> None:
        """Begin the next attempt, and see to it that another follows."""
        self._next.cancel()
        if self.winner is not None:
            return
        if not self._waiting:
            if not self._running:
                self._reactor.stop()
            return
        address = self._waiting.popleft()
        began = self.now()
        self._next = self._reactor.call_later(self._attempt_delay, self._start_next)
        try:
            sock = socket.socket(address.family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        except OSError as error:
            self.attempts.append(Attempt(address, began, self.now(), error=error))
            self._follow()
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._running[sock] = (address, began)
        self._reactor.add(sock.fileno(), WRITE, lambda _events: self._on_ready(sock))
        try:
            sock.connect(address.sockaddr)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(sock, error)
            return
        self._on_ready(sock)

    def _on_ready(self, sock: socket.socket) -> None:
        """An attempt has come to its end: well or not."""
        if self.winner is not None:
            # Another won in the same round; `run` closes this one.
            return
        error = connect_error(sock)
        if error is not None and error.errno not in _AFTER_CONNECTING:
            self._lose(sock, error)
            return
        address, began = self._running.pop(sock)
        self._reactor.remove(sock.fileno())
        self.attempts.append(Attempt(address, began, self.now(), connected=True))
        self.winner = (sock, address)
        self._reactor.stop()

    def _lose(self, sock: socket.socket, error: OSError) -> None:
        self._close(sock, error)
        self._follow()

    def _follow(self) -> None:
        """Let the next attempt begin at once, but from the reactor: there can be any number."""
        self._next.cancel()
        self._next = self._reactor.call_later(0, self._start_next)

    def _time_out(self) -> None:
        for sock in list(self._running):
            self._close(sock, TimeoutError(errno.ETIMEDOUT, f"no answer within {self._timeout:g}s"))
        for address in self._waiting:
            error = TimeoutError(errno.ETIMEDOUT, f"not tried within {self._timeout:g}s")
            self.attempts.append(Attempt(address, self.now(), self.now(), error=error))
        self._reactor.stop()

    def _close(self, sock: socket.socket, error: OSError | None) -> None:
        address, began = self._running.pop(sock)
        self._reactor.remove(sock.fileno())
        sock.close()
        self.attempts.append(Attempt(address, began, self.now(), error=error))
