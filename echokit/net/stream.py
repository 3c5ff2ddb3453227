"""The bytes of a connection: sending them, waiting for those that the socket does not take, ending.

What a connection does with what comes is said in `connection`; here is what is the same for
whatever comes. Ending well is most of it: see there.
"""

import contextlib
import enum
from os import read, write

from echokit.net.address import Address, Sockaddr
from echokit.net.handler import End, Ending, Handler, ending_of
from echokit.net.reactor import READ, WRITE, Reactor, Timer
from echokit.net.socket_calls import close, queued, reset_at_close, shut_down

__all__ = ["SMALL", "State", "Stream"]

# Up to here, with its header, Python has memory for a bytes object at hand (pymalloc: 512 bytes).
SMALL = 448
# How much input is dropped, and for how long, after our FIN, before the close; and for how long at
# most, where the peer still reads what it was sent.
LINGER_BYTES = 64 << 10
LINGER_SECONDS = 1.0
LINGER_AT_MOST = 60.0


class State(enum.Enum):
    """Where in its life a stream is."""

    OPEN = enum.auto()
    # What is owed is being sent, and our FIN; input is dropped.
    FINISHING = enum.auto()
    CLOSED = enum.auto()


# Looked up once: an enum's member costs more than a global on the way of every message.
_OPEN, _FINISHING, _CLOSED = State
# One for all: most connections never have another.
_CLEAN: tuple[Ending, Exception | None] = (Ending.CLEAN, None)


class Stream:
    """A connected socket in a reactor. It takes the socket over and closes it.

    It is known by its descriptor: `os.read` and `os.write` take that as it is, where a socket
    object's methods would look at its timeout first, and the object is as large as all the rest.

    Args:
        reactor: Tells when the socket is ready.
        fd: The descriptor of a connected, non-blocking socket.
        peer: Its peer's address, as accept() and connect() have it.
        chunk_size: The most bytes that are read at once.
        handler: Is told what it meets.
        full_duplex: Reading goes on while something waits to be sent, as a client must.
    """

    __slots__ = (
        "_ask",
        "_chunk_size",
        "_dropped",
        "_end",
        "_eof",
        "_fd",
        "_fin_sent",
        "_full_duplex",
        "_handler",
        "_interest",
        "_linger",
        "_peer",
        "_reactor",
        "_seen_at",
        "_seen_in",
        "_seen_out",
        "_state",
        "_unsent",
        "bytes_in",
        "messages",
    )

    # How much the next read asks for; 0 where what comes does not go the usual way.
    _ask: int
    # What it asks the reactor for to be read from.
    _READING = READ

    def __init__(
        self,
        reactor: Reactor,
        fd: int,
        peer: Sockaddr,
        chunk_size: int,
        handler: Handler,
        *,
        full_duplex: bool = False,
    ) -> None:
        self._peer = peer
        self.bytes_in = 0
        self.messages = 0
        self._reactor = reactor
        self._fd = fd
        self._chunk_size = chunk_size
        self._handler = handler
        self._full_duplex = full_duplex
        self._state = _OPEN
        self._end = _CLEAN
        # What the socket did not take.
        self._unsent: memoryview | None = None
        self._eof = False
        self._fin_sent = False
        self._dropped = 0
        self._linger: Timer | None = None
        self._interest = self._READING
        # What had come and what the peer had taken at the last looks, and when that last changed.
        self._seen_in = -1
        self._seen_out = 0
        self._seen_at = 0.0
        reactor.add_ready(fd, self._READING, self)

    @property
    def bytes_out(self) -> int:
        """Bytes that the socket took."""
        raise NotImplementedError

    def _count_out(self, size: int) -> None:
        """The socket took `size` of the bytes that waited."""
        raise NotImplementedError

    def on_ready(self, events: int) -> None:
        """The reactor's call: the socket is ready for some of `events`."""
        raise NotImplementedError

    def _resume(self) -> None:
        """Take up again what had to wait while something was unsent."""

    @property
    def peer(self) -> Address:
        """The peer's address."""
        return Address.of(self._peer)

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._state is _CLOSED

    @property
    def sending(self) -> bool:
        """Whether something waits that the socket has not taken."""
        return self._unsent is not None

    @property
    def unacknowledged(self) -> int:
        """How many bytes the system still holds of what was sent, as the peer has not taken them.

        0 where the system does not tell, and once it is closed.
        """
        return 0 if self._state is _CLOSED else queued(self._fd)

    @property
    def unfinished(self) -> bool:
        """Whether a message has begun and has not ended."""
        return False

    @property
    def pausing(self) -> bool:
        """Whether it keeps what waits to itself for a while, on purpose."""
        return False

    @property
    def ending(self) -> Ending:
        """How it has ended; before that, how it would if its peer ended it in good order now."""
        return self._end[0]

    @property
    def end(self) -> End:
        """How it has ended, and what it has counted."""
        return End(*self._end, self.bytes_in, self.bytes_out, self.messages)

    @property
    def finished(self) -> bool:
        """Whether all that was owed has gone, and our FIN."""
        return self._fin_sent

    def quiet_since(self, now: float) -> float:
        """When something last moved, as far as a call of this has seen it; `now` if it just has.

        Looked at now and then this costs the way of a message nothing, and each connection but
        three references.
        """
        if self.bytes_in != self._seen_in or self.pausing:
            self._seen_in, self._seen_at = self.bytes_in, now
        elif self.bytes_out != self._seen_out:
            # Out has moved what the peer has taken: one that reads slowly empties what the system
            # holds, long after the last send. Where all has been taken, the system is not asked.
            out = self.bytes_out - self.unacknowledged
            if out != self._seen_out:
                self._seen_out, self._seen_at = out, now
        return self._seen_at

    def _keeps_up(self) -> bool:
        return self._state is _OPEN and (self._unsent is None or self._full_duplex)

    def _on_eof(self) -> None:
        """The peer has sent FIN."""
        if self._broken:
            self._close(*self._end)
            return
        self._eof = True
        self._handler.eof_received(self)
        self._watch()

    def _drop(self) -> None:
        """Input that comes after our last word is read only so that no RST follows it."""
        try:
            data = read(self._fd, self._chunk_size)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error)
            return
        self._dropped += len(data)
        if not data or (self._dropped > LINGER_BYTES and not queued(self._fd)):
            self._close(*self._end)

    # Writing.

    def _flush(self) -> None:
        """Send what has been kept back to leave in one piece."""

    def _keep(self, rest: bytes | memoryview) -> None:
        """Let what the socket did not take wait until it does."""
        if self._state is not _CLOSED:
            self._unsent = memoryview(rest)
            self._watch()

    def _also_readable(self, events: int) -> bool:
        """Do what `events` other than READ alone ask for; whether there is something to read."""
        if events & WRITE:
            self._on_writable()
        return bool(events & ~WRITE and self._interest & READ)

    @property
    def _broken(self) -> bool:
        """Whether nothing can be sent any more, and what had come before that is still read."""
        return self._state is _OPEN and self._end is not _CLEAN

    def _break(self, error: OSError) -> None:
        """A write has failed. That is the end, but a client first reads what had come before.

        The system keeps it after a reset, too. What is unsent stays, so that nobody gives more.
        """
        if self._full_duplex and self._state is _OPEN and isinstance(error, ConnectionError):
            self._end = (Ending.RESET, error)
            self._watch()
        else:
            self._lose(error)

    def _on_writable(self) -> None:
        if self._unsent is None or self._broken:
            return
        try:
            sent = self._send_piece(self._unsent)
        except BlockingIOError:
            return
        except OSError as error:
            self._break(error)
            return
        self._count_out(sent)
        if sent < len(self._unsent):
            self._unsent = self._unsent[sent:]
            self._watch()
            return
        self._unsent = None
        self._flush()
        if not self.sending and self._state is _OPEN:
            self._resume()
        if not self.sending and self._state is _FINISHING:
            self._conclude()
        self._watch()

    def _send_piece(self, unsent: memoryview) -> int:
        """Give the socket what waits; how much it took."""
        return write(self._fd, unsent)

    def _may_write(self) -> bool:
        """Whether something waits for the socket to take it."""
        return self._unsent is not None

    def _watch(self) -> None:
        """Ask the reactor for what is wanted now, if it is not what it is asked for."""
        if self._state is _CLOSED:
            return
        wanted = WRITE if self._may_write() and not self._broken else 0
        if self._state is _OPEN:
            if not self._eof and self._keeps_up():
                wanted |= self._READING
        elif not self._eof and self._fin_sent:
            # Told for as long as there is something: what is dropped is read once for each event.
            wanted |= READ
        if wanted != self._interest:
            self._interest = wanted
            self._reactor.modify(self._fd, wanted)

    # Ending.

    def send_fin(self) -> None:
        """Half-close: nothing more will be sent, reading goes on. Nothing may be waiting."""
        if self._state is _CLOSED:
            return
        try:
            shut_down(self._fd)
        except OSError as error:
            self._lose(error)

    def finish(self, ending: Ending = Ending.CLEAN, error: Exception | None = None) -> None:
        """End in good order: send what is owed, then FIN, read on a little, close."""
        self._flush()
        if self._state is not _OPEN:
            return
        self._state = _FINISHING
        self._ask = 0
        self._end = (ending, error)
        if self._unsent is None:
            self._conclude()
        self._watch()

    def drain(self) -> bool:
        """End in good order as the server stops; False if the peer was amid a message."""
        self.finish(Ending.DRAINED)
        return True

    def fail(self, error: Exception) -> None:
        """End because of `error`: in good order, so that what was owed before it still arrives.

        A client owes nothing, and ends at once.
        """
        if self._full_duplex:
            self._close(ending_of(error), error)
        else:
            self.finish(ending_of(error), error)

    def close(self, ending: Ending = Ending.CLEAN) -> None:
        """End now; what has not been sent is lost."""
        self._close(ending, None)

    def abort(self, ending: Ending, error: Exception | None = None) -> None:
        """End now by a reset; what the system still holds of what was sent is dropped, too.

        For a peer that has not read for long: else the system would keep it for minutes more.
        """
        if self._state is not _CLOSED:
            # Not every system lets it be asked of one that the peer has reset.
            with contextlib.suppress(OSError):
                reset_at_close(self._fd)
            self._close(ending, error)

    def _conclude(self) -> None:
        """Everything owed has gone: say so, and close once the peer cannot lose it any more."""
        if self._fin_sent:
            return
        self._fin_sent = True
        if self._eof:
            self._close(*self._end)
            return
        try:
            shut_down(self._fd)
        except OSError:
            self._close(*self._end)
            return
        self._linger_on(queued(self._fd), self._reactor.clock() + LINGER_AT_MOST)

    def _linger_on(self, held: int, until: float) -> None:
        """Wait for the peer's end: a while, and again while it takes some of what is `held`."""

        def look() -> None:
            left = queued(self._fd)
            if 0 < left < held and self._reactor.clock() < until:
                self._linger_on(left, until)
            else:
                self._close(*self._end)

        self._linger = self._reactor.call_later(LINGER_SECONDS, look)

    def _lose(self, error: OSError) -> None:
        """The network has ended it: by a reset, mostly."""
        if self._fin_sent:
            # All that was owed had gone: how it ends after that changes nothing.
            self._close(*self._end)
        else:
            self._close(Ending.RESET, error)

    def _close(self, ending: Ending, error: Exception | None) -> None:
        if self._state is _CLOSED:
            return
        self._state = _CLOSED
        self._end = (ending, error)
        if self._linger is not None:
            self._linger.cancel()
        self._unsent = None
        # The number will be another's.
        fd, self._fd = self._fd, -1
        self._reactor.remove(fd)
        close(fd)
        self._handler.connection_ended(self)
