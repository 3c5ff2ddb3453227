"""One of the connections that the load goes over, from its first connect to its last close.

This is the hot path of the generator: a connection that only echoes needs less than
`net.connection` does for every use, and what is measured should be the target. Framed messages go
through the framing's own decoder.
"""

import errno
from collections import deque
from os import read, write
from time import monotonic_ns
from typing import TYPE_CHECKING

from echokit.loadgen.pending import SURPLUS, WELL, Pending
from echokit.net.connecting import begin_connect, connect_error
from echokit.net.reactor import ARRIVAL, READ, WRITE
from echokit.net.tcp_info import tcp_info

if TYPE_CHECKING:
    import socket

    from echokit.loadgen.generator import Generator

__all__ = ["NOW", "Lane"]

# When an exchange is due that is not due at a time of its own.
NOW = 0


class Lane:
    """A place for one connection at a time, which comes again when it has ended.

    Args:
        generator: Whose load it carries.
        number: Which it is, over all workers; where it begins in the payloads.
    """

    __slots__ = (
        "_ask", "_batch", "_began", "_chunk_size", "_connecting_for", "_connecting_since",
        "_cursor", "_due", "_fd", "_generator", "_mask", "_messages", "_queued", "_reading",
        "_records", "_sock", "_take", "_unsent", "_wires", "connected", "failures_in_a_row",
        "listed", "waiting",
    )  # fmt: skip

    def __init__(self, generator: "Generator", number: int) -> None:
        self._generator = generator
        self._records = generator.records
        payloads = generator.payloads
        self._messages, self._wires = payloads.messages, payloads.wires
        # The pool's size is a power of two.
        self._mask = len(payloads) - 1
        self._batch = generator.batch
        self._cursor = payloads.start(number)
        self._chunk_size = generator.plan.chunk_size
        # How much a read asks for: room for much costs more to have and give back than it is worth
        # where no more than a small message comes.
        self._ask = generator.first_ask
        # What it asks the reactor for to be read from: that spares the system a second look at the
        # socket, 2% of all that an exchange costs.
        self._reading = ARRIVAL
        self._sock: socket.socket | None = None
        self._fd = -1
        self._connecting_since: int | None = None
        # For how long it had been connecting, in vain, in the turns before this one.
        self._connecting_for = 0
        # When the exchange for which a connection is being made was due; and when that was begun,
        # as long as there is the connection.
        self._due: int | None = None
        self._began: int | None = None
        # What has been sent and has to come back.
        self._renew()
        self._unsent: memoryview | None = None
        self._queued: deque[bytes] = deque()
        self.connected = False
        # How often in a row it could not connect, or has with nothing sent yet: a connection that
        # ends like that is as one that was not taken.
        self.failures_in_a_row = 0
        # Whether the generator has it among those that are free.
        self.listed = False

    @property
    def idle(self) -> bool:
        """Whether nothing is under way on it: no exchange, no connect."""
        return not self.waiting and self._connecting_since is None

    @property
    def since(self) -> int | None:
        """When the exchange began that has been under way for longest; None where none is."""
        if self._began is not None:
            return self._began
        return self.waiting[0][2] if self.waiting else None

    def _renew(self) -> None:
        """Nothing is to come back any more, and the stream begins anew."""
        generator = self._generator
        pending = Pending(
            generator.plan.framing, generator.records, own_response=generator.own_response
        )
        # Looked up once, as they are used for every exchange.
        self.waiting, self._take = pending.waiting, pending.take

    # Connecting.

    def open(self, due: int | None = None) -> None:
        """Begin to connect; where an exchange waits for it, `due` is when that was due."""
        now = monotonic_ns()
        self._connecting_since = now
        # In a closed loop an exchange is due when it begins.
        self._due = now if due == NOW else due
        self._began = None if due is None else now
        try:
            self._sock = begin_connect(self._generator.plan.address)
        except OSError as error:
            self._connect_failed(error)
            return
        self._generator.reactor.add(self._sock.fileno(), WRITE, self._on_decided)

    def _on_decided(self, events: int) -> None:
        sock = self._sock
        # An event of another that had the same number decides nothing.
        if sock is None or self._connecting_since is None or not events & WRITE:
            return
        if error := connect_error(sock):
            self._connect_failed(error)
            return
        self._records.connect.append(monotonic_ns() - self._connecting_since)
        self._connecting_since, self._connecting_for = None, 0
        self._fd = sock.fileno()
        self.failures_in_a_row += 1
        self.connected = True
        reactor = self._generator.reactor
        reactor.remove(sock.fileno())
        self._reading = ARRIVAL
        reactor.add_ready(sock.fileno(), ARRIVAL, self)
        due, self._due = self._due, None
        if due is None:
            self._generator.has_room(self)
        else:
            self.transmit(1, due)

    def _connect_failed(self, error: OSError) -> None:
        self.failures_in_a_row += 1
        self._connecting_for = 0
        waiting = self._due is not None
        self._due = None
        self._drop_socket()
        # Where no exchange waits for it, the next one counts as begun, if there is one: it found
        # no connection.
        if waiting or self._generator.passes_over():
            self._records.requests += not waiting
            self._records.failures[_outcome(error)] += 1
        self._generator.connect_failed(self, error)

    # Sending.

    def begin(self, due: int) -> None:
        """Begin one exchange, which was due at `due`; connect for it first, if need be."""
        self._records.requests += 1
        if self.connected:
            self.transmit(1, due)
        else:
            self.open(due)

    def transmit(self, count: int, due: int) -> None:
        """Send the next `count` messages, which have been counted as begun; it is connected."""
        self.failures_in_a_row = 0
        cursor = self._cursor
        sent_at = monotonic_ns()
        records = self._records
        if count == 1:
            message = self._messages[cursor]
            data = self._wires[cursor]
            self._cursor = (cursor + 1) & self._mask
            self.waiting.append((message, due or sent_at, sent_at))
            records.bytes_sent += len(message)
        else:
            indices = [(cursor + step) & self._mask for step in range(count)]
            self._cursor = (cursor + count) & self._mask
            messages = [self._messages[index] for index in indices]
            wires = [self._wires[index] for index in indices]
            self.waiting.extend([(message, due or sent_at, sent_at) for message in messages])
            records.bytes_sent += sum(map(len, messages))
            if count > self._batch or self._unsent is not None:
                self._queued.extend(wires)
                if self._unsent is None:
                    self._wait_to_send(memoryview(self._next_queued()))
                return
            data = b"".join(wires)
        if self._unsent is not None:
            self._queued.append(data)
            return
        try:
            sent = write(self._fd, data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._lose("reset")
            return
        if sent < len(data):
            self._wait_to_send(memoryview(data)[sent:])

    def _wait_to_send(self, rest: memoryview) -> None:
        self._unsent = rest
        self._watch()

    def _watch(self) -> None:
        """Let the system look at the socket again, and tell what is asked for now."""
        wanted = self._reading if self._unsent is None else READ | WRITE
        self._generator.reactor.modify(self._fd, wanted)

    def _next_queued(self) -> bytes:
        queued = self._queued
        return b"".join([queued.popleft() for _ in range(min(len(queued), self._batch))])

    def _on_writable(self) -> None:
        if self._unsent is None:
            return
        try:
            sent = write(self._fd, self._unsent)
        except BlockingIOError:
            return
        except OSError:
            self._lose("reset")
            return
        if sent < len(self._unsent):
            self._unsent = self._unsent[sent:]
        elif self._queued:
            self._unsent = memoryview(self._next_queued())
        else:
            self._unsent = None
            self._watch()

    # Receiving.

    def on_ready(self, events: int) -> None:
        """The reactor's call: the socket is ready for some of `events`."""
        if events & WRITE:
            self._on_writable()
            if not events & ~WRITE or not self.connected:
                return
        ask = self._ask
        try:
            data = read(self._fd, ask)
        except BlockingIOError:
            # Linux also says so where a signal comes while the next byte is an urgent one.
            self._watch()
            return
        except OSError:
            self._lose("reset")
            return
        now = monotonic_ns()
        if not data:
            self._on_eof()
            return
        if len(data) == ask or events != READ:
            self._read_in_part(len(data))
        found = self._take(data, now)
        if found is WELL:
            self._generator.has_room(self)
        elif found is SURPLUS:
            # No exchange's failure, but the connection's end.
            self._end()
        elif found is not None:
            self._lose(found)

    def _read_in_part(self, size: int) -> None:
        """`size` bytes were read, and there may be more, of which the system has told already."""
        if size == self._ask:
            self._ask = self._chunk_size
        if self._unsent is None and self._reading == ARRIVAL:
            # Where chunks are filled it tells for as long as there is more: to have it look again
            # each time would cost more than is spared.
            self._reading = ARRIVAL if size < self._chunk_size else READ
            self._watch()

    # Ending.

    def _on_eof(self) -> None:
        if self.waiting:
            self._lose("early_close")
        else:
            self._records.idle_closes += 1
            self._end()

    def _lose(self, outcome: str) -> None:
        """The connection has failed, and what was in flight on it with it."""
        failures = self._records.failures
        if self.waiting:
            # What only stood behind a wrong or a late answer may have been well.
            rest = outcome if outcome in ("early_close", "reset") else "abandoned"
            failures[outcome] += 1
            failures[rest] += len(self.waiting) - 1
        else:
            self._records.idle_closes += 1
        self._end()

    def _end(self) -> None:
        self._drop_socket()
        self._generator.connection_ended(self)

    def expire(self, oldest: int, oldest_connect: int) -> None:
        """Fail what was sent before `oldest`, or a connect begun before `oldest_connect`."""
        if self._connecting_since is not None:
            if self._connecting_since - self._connecting_for < oldest_connect:
                self._connect_failed(TimeoutError(errno.ETIMEDOUT, "no answer"))
        elif self.waiting and self.waiting[0][2] < oldest:
            self._lose("timeout")

    def abandon(self) -> None:
        """Give up what is under way, at the end of a turn or of the run."""
        if self._due is not None:
            self._records.failures["abandoned"] += 1
        self._records.failures["abandoned"] += len(self.waiting)
        self._due = None
        self.close()

    def close(self) -> None:
        """Close the connection; nothing is in flight, or what was has been counted.

        One that is being made is begun anew in the next turn, and is as late there as it was here.
        """
        if self._connecting_since is not None:
            self._connecting_for += monotonic_ns() - self._connecting_since
        self._drop_socket()

    def _drop_socket(self) -> None:
        sock = self._sock
        if self.connected and sock is not None:
            self._records.note_connection(tcp_info(sock))
        self._sock, self._fd, self.connected, self._connecting_since = None, -1, False, None
        self._began = None
        self._renew()
        self._queued.clear()
        self._unsent = None
        if sock is not None:
            self._generator.reactor.discard(sock.fileno())
            sock.close()


def _outcome(error: OSError) -> str:
    """How an exchange ended that could not be for want of a connection."""
    if error.errno == errno.ECONNREFUSED:
        return "refused"
    return "connect_timeout" if error.errno == errno.ETIMEDOUT else "connect_failed"
