"""Ending connections that have had their time.

No timer is set by an event: a sweep looks at every connection now and then, compares what has
moved with what had moved at the last look, and ends those that are overdue. So a deadline is kept
with the grain of the sweep, a tenth of the shortest and a second at most, and the way of a message
costs what it cost without deadlines.
"""

import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from echokit.net.handler import Ending
from echokit.net.reactor import Reactor
from echokit.net.stream import Stream

__all__ = ["MESSAGE_RATE", "Deadlines"]

# Bytes a second: a message that has had its time, but comes at this rate or faster, is a long one
# on a slow line, and may go on. (Apache's mod_reqtimeout draws this line at 500.)
MESSAGE_RATE = 1024
# How long after its lifetime one that is slow to read what it is owed is reset, where no send
# timeout says it.
_GRACE = 30.0
# How many connections are looked at before the others get their turn again.
_BATCH = 1000
_FINEST = 0.02
_COARSEST = 1.0


@dataclass(frozen=True, slots=True)
class _Begun:
    """A message that has begun: when it was first seen, and what had come until then."""

    at: float
    messages: int
    bytes_in: int


class Deadlines:
    """Looks after the connections of a server. Times are in seconds, and 0 is no deadline.

    Args:
        reactor: Has the clock.
        connections: Those that are open, whoever they are at the time.
        idle: Nothing moves in either direction. Where `send` is 0, also while the peer is owed
            something.
        message: A message has begun and does not end; slower than `MESSAGE_RATE`.
        send: The peer does not read what it is owed.
        lifetime: Since the connection was first seen. What it is owed then it has `send` more to
            read, all of it (half a minute where that is 0).
    """

    def __init__(
        self,
        reactor: Reactor,
        connections: Collection[Stream],
        *,
        idle: float = 0.0,
        message: float = 0.0,
        send: float = 0.0,
        lifetime: float = 0.0,
    ) -> None:
        self._reactor = reactor
        self._connections = connections
        self._idle = idle
        self._message = message
        self._send = send
        self._lifetime = lifetime
        # Of the connections that are amid a message; and, where lives are limited, of all. Made
        # anew by each sweep, so that those that have ended are forgotten.
        self._begun: dict[Stream, _Begun] = {}
        self._born: dict[Stream, float] = {}
        # For how long nobody was served, as the process was stopped or a plugin held it up: what
        # came meanwhile waits to be read, and that it did not move is no peer's fault.
        self._stood_still = 0.0
        times = [time for time in (idle, message, send, lifetime) if time]
        if times:
            self._interval = min(max(min(times) / 10, _FINEST), _COARSEST)
            self._next = reactor.call_later(self._interval, self._sweep)

    def _now(self) -> float:
        return self._reactor.clock() - self._stood_still

    def _sweep(self) -> None:
        late = self._reactor.clock() - self._next.due
        if late > self._interval:
            self._stood_still += late
        self._go_on(iter(list(self._connections)), {}, {})

    def _go_on(
        self,
        connections: Iterator[Stream],
        begun: dict[Stream, _Begun],
        born: dict[Stream, float],
    ) -> None:
        """Look at some of `connections`; at the rest after what is ready now."""
        now = self._now()
        some = list(itertools.islice(connections, _BATCH))
        for connection in some:
            if connection.closed:
                continue
            if self._lifetime:
                born[connection] = self._born.get(connection, now)
            if self._message and (unfinished := self._unfinished(connection, now)):
                begun[connection] = unfinished
            self._look(connection, now, begun.get(connection), born.get(connection, now))
        if len(some) == _BATCH:
            self._reactor.call_later(0, lambda: self._go_on(connections, begun, born))
            return
        self._begun, self._born = begun, born
        self._next = self._reactor.call_later(self._interval, self._sweep)

    def _unfinished(self, connection: Stream, now: float) -> _Begun | None:
        """The message that `connection` is amid, if it is, and if it is read from."""
        if not connection.unfinished or connection.sending:
            return None
        known = self._begun.get(connection)
        if known is not None and known.messages == connection.messages:
            return known
        return _Begun(now, connection.messages, connection.bytes_in)

    def _look(self, connection: Stream, now: float, begun: _Begun | None, born: float) -> None:
        quiet = now - connection.quiet_since(now)
        if self._send and connection.sending and quiet >= self._send:
            connection.abort(Ending.SEND_TIMEOUT, _late("has not read", self._send))
        elif connection.finished:
            # All has been said: how long it waits for the peer's end is its own affair.
            return
        elif self._lifetime and now - born >= self._lifetime:
            # In good order first; but one that reads a little now and then would never come to
            # an end.
            over = now - born >= self._lifetime + (self._send or _GRACE)
            end = connection.abort if over else connection.finish
            end(Ending.LIFETIME, _late("was open", self._lifetime))
        elif connection.sending:
            # With a send timeout it has that time to read.
            if self._idle and not self._send and quiet >= self._idle:
                connection.abort(Ending.IDLE, _late("was idle", self._idle))
        elif self._idle and quiet >= self._idle:
            connection.finish(Ending.IDLE, _late("was idle", self._idle))
        elif begun is not None and self._overdue(connection, begun, now):
            error = _late("did not end a message that it had begun", self._message)
            connection.finish(Ending.MESSAGE_TIMEOUT, error)

    def _overdue(self, connection: Stream, begun: _Begun, now: float) -> bool:
        age = now - begun.at
        return age >= self._message and connection.bytes_in - begun.bytes_in < age * MESSAGE_RATE


def _late(what: str, seconds: float) -> TimeoutError:
    return TimeoutError(f"{what} for {seconds:g}s")
