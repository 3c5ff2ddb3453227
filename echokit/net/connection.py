"""One non-blocking stream: bytes become messages, and messages bytes.

The way of one message, for a server: the reactor finds the socket readable and calls `on_ready`;
one `recv` of at most `chunk_size` bytes; the decoder is fed; each message that it gives goes to
the handler, which sends its answer; the answer is encoded, and what one chunk caused leaves in one
`send`. What the socket does not take waits, and until it has gone nothing more is read: a peer
that does not read is not read from, so that memory holds one chunk, one message and that rest.

A client must not stop reading: its server may do just the same, and both would wait for ever.
That is what `full_duplex` is for.

Ending well is the rest. The peer's FIN is an end, not an error: what is owed is sent, then our
FIN. Closing with unread input makes the system send RST, which can destroy what was already on
its way (RFC 9293 section 3.6.1, RFC 2525 section 2.17): so a connection that ends before its
peer has finished sends FIN, reads and drops for a bounded while, and closes then.
"""

import enum
import socket
import struct

from echokit.framing.base import Decoder, Framing
from echokit.net.address import Address
from echokit.net.handler import End, Ending, Handler, ending_of
from echokit.net.queued import queued
from echokit.net.reactor import READ, WRITE, Reactor, Timer

__all__ = ["Connection"]

# How much input is dropped, and for how long, after our FIN, before the close.
LINGER_BYTES = 64 << 10
LINGER_SECONDS = 1.0
# Up to here, with its header, Python has memory for a bytes object at hand (pymalloc: 512 bytes).
_SMALL = 448
# struct linger of socket(7): on, and for no time.
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class _State(enum.Enum):
    OPEN = enum.auto()
    # What is owed is being sent, and our FIN; input is dropped.
    FINISHING = enum.auto()
    CLOSED = enum.auto()


# Looked up once: an enum's member costs more than a global on the way of every message.
_OPEN, _FINISHING, _CLOSED = _State
# One for all: most connections never have another.
_CLEAN: tuple[Ending, Exception | None] = (Ending.CLEAN, None)


class Connection:
    """A connected socket in a reactor. It takes the socket over and closes it.

    Args:
        reactor: Tells when the socket is ready.
        sock: A connected, non-blocking socket.
        peer: Its peer's address.
        framing: How messages stand on the wire.
        chunk_size: The most bytes that one recv() asks for.
        handler: Is told what the connection meets.
        full_duplex: Reading goes on while something waits to be sent, as a client must.
        echo: What comes is sent back at once, and the handler is not told of it, where the framing
            lets that be done without a look at each message.
    """

    __slots__ = (
        "_ask",
        "_chunk_size",
        "_decoder",
        "_dropped",
        "_echo",
        "_end",
        "_eof",
        "_fin_sent",
        "_frames",
        "_framing",
        "_full_duplex",
        "_handler",
        "_interest",
        "_linger",
        "_outgoing",
        "_outgoing_size",
        "_peer",
        "_reactor",
        "_seen_at",
        "_seen_in",
        "_seen_out",
        "_sock",
        "_state",
        "_unsent",
        "_whole_in",
        "bytes_in",
        "bytes_out",
        "messages",
    )

    def __init__(
        self,
        reactor: Reactor,
        sock: socket.socket,
        peer: Address,
        framing: Framing,
        chunk_size: int,
        handler: Handler,
        *,
        full_duplex: bool = False,
        echo: bool = False,
    ) -> None:
        # The other half of an Address is the socket's.
        self._peer = peer.sockaddr
        self.bytes_in = 0
        self.bytes_out = 0
        self.messages = 0
        self._reactor = reactor
        self._sock = sock
        self._framing = framing
        # A chunk of a transparent framing is a message: there is nothing to decode or encode.
        self._decoder = None if framing.transparent else framing.decoder()
        self._echo = echo
        # Whole messages as they stand on the wire are all that an echo needs.
        self._frames = getattr(self._decoder, "next_frames", None) if echo else None
        self._chunk_size = chunk_size
        # Where nobody is told how the stream was cut, small messages are asked for in small: room
        # for a large one costs more to have and give back than they do.
        self._ask = min(chunk_size, _SMALL) if echo else chunk_size
        self._handler = handler
        self._full_duplex = full_duplex
        self._state = _OPEN
        self._end = _CLEAN
        # What the socket did not take; and what is to follow it, or to leave with it in one send.
        self._unsent: memoryview | None = None
        self._outgoing: list[bytes] | None = None
        self._outgoing_size = 0
        self._eof = False
        self._fin_sent = False
        self._dropped = 0
        self._linger: Timer | None = None
        self._interest = READ
        # What had moved at the last look, and when that look was.
        self._seen_in = self._seen_out = -1
        self._seen_at = 0.0
        # How much had come with the last chunk that brought a message to its end.
        self._whole_in = 0
        reactor.add_ready(sock.fileno(), READ, self)

    @property
    def peer(self) -> Address:
        """The peer's address."""
        return Address(self._sock.family, self._peer)

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._state is _CLOSED

    @property
    def sending(self) -> bool:
        """Whether something waits that the socket has not taken."""
        return self._unsent is not None

    @property
    def pausing(self) -> bool:
        """Whether it keeps what waits to itself for a while, on purpose."""
        return False

    @property
    def finished(self) -> bool:
        """Whether all that was owed has gone, and our FIN."""
        return self._fin_sent

    @property
    def unfinished(self) -> int:
        """How many bytes have come since the last chunk that brought a message to its end.

        More than 0: a message has begun, and has not ended. What follows a message in the same
        chunk is not seen here; it is as soon as more of it comes.
        """
        return 0 if self._decoder is None else self.bytes_in - self._whole_in

    def quiet_since(self, now: float) -> float:
        """When something last moved, as far as a call of this has seen it; `now` if it just has.

        Looked at now and then this costs the way of a message nothing, and each connection but
        three references.
        """
        out = self.bytes_out
        if self._unsent is not None:
            # A peer that reads slowly empties what the system holds first.
            out -= queued(self._sock)
        if self.bytes_in != self._seen_in or out != self._seen_out or self.pausing:
            self._seen_in, self._seen_out, self._seen_at = self.bytes_in, out, now
        return self._seen_at

    # Reading.

    def on_ready(self, events: int) -> None:  # noqa: C901 - a call more would cost every message
        """The reactor's call: the socket is ready for some of `events`."""
        if events != READ:
            if events & WRITE:
                self._on_writable()
            if not (events & ~WRITE and self._interest & READ):
                return
        try:
            data = self._sock.recv(self._ask)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error)
            return
        if self._state is not _OPEN:
            self._drop(data)
        elif not data:
            self._on_eof()
        else:
            size = len(data)
            self.bytes_in += size
            if self._decoder is not None:
                self._decode(data)
            elif self._echo:
                self.messages += 1
                self._transmit(data)
            else:
                self.messages += 1
                self._handler.message_received(self, data)
            if size == self._ask < self._chunk_size:
                self._ask = self._chunk_size

    def _decode(self, data: bytes | None) -> None:
        """Feed the decoder, and take messages while the peer keeps up with what they cause."""
        decoder = self._decoder
        if decoder is None:
            return
        if self._outgoing is None:
            self._outgoing = []
        try:
            self._take_messages(decoder, data)
        finally:
            # Also if the handler raises: what was gathered must not wait for ever.
            self._flush()

    def _take_messages(self, decoder: Decoder, data: bytes | None) -> None:
        before = self.messages
        while self._keeps_up():
            # What a decoder raises, though it be a plugin's bug, ends its own connection only.
            try:
                if data is not None:
                    decoder.receive_data(data)
                    data = None
                if self._frames is not None:
                    if (found := self._frames()) is None:
                        break
                    frames, count = found
                    self.messages += count
                    self._gather(frames)
                    continue
                message = decoder.next_message()
                if message is not None and type(message) is not bytes:
                    kind = type(decoder).__name__
                    raise TypeError(  # noqa: TRY301 - it is the decoder's, like any other
                        f"{kind}.next_message returned {type(message).__name__}, not bytes"
                    )
            except Exception as error:  # noqa: BLE001 - see above
                self.fail(error)
                return
            if message is None:
                break
            self.messages += 1
            self._handler.message_received(self, message)
        if self.messages != before:
            self._whole_in = self.bytes_in

    def _keeps_up(self) -> bool:
        return self._state is _OPEN and (self._unsent is None or self._full_duplex)

    def _on_eof(self) -> None:
        """The peer has sent FIN. Every message before it has been taken and answered."""
        self._eof = True
        if self._decoder is not None:
            try:
                self._decoder.receive_eof()
            except Exception as error:  # noqa: BLE001 - as in _take_messages
                self.fail(error)
                return
        self._handler.eof_received(self)
        self._watch()

    def _drop(self, data: bytes) -> None:
        """Input that comes after our last word is read only so that no RST follows it."""
        self._dropped += len(data)
        if not data or self._dropped > LINGER_BYTES:
            self._close(*self._end)

    # Writing.

    def send(self, message: bytes) -> None:
        """Send `message`, framed: now, or as soon as the socket takes it.

        Raises:
            FramingError: The framing cannot carry it.
            TypeError: The framing's `encode` did not return bytes.
        """
        data = message
        if self._decoder is not None:
            data = self._framing.encode(message)
            if type(data) is not bytes:
                kind = type(self._framing).__name__
                raise TypeError(f"{kind}.encode returned {type(data).__name__}, not bytes")
        if self._outgoing is None and self._unsent is None:
            self._transmit(data)
        else:
            self._gather(data)

    def _gather(self, data: bytes) -> None:
        """Let `data` leave with what else one chunk causes."""
        if self._outgoing is None:
            self._outgoing = []
        self._outgoing.append(data)
        self._outgoing_size += len(data)
        if self._outgoing_size >= self._chunk_size:
            self._flush()

    def _flush(self) -> None:
        """Send what has gathered, in one piece."""
        outgoing = self._outgoing
        if self._unsent is None and outgoing is not None:
            self._outgoing = None
            self._outgoing_size = 0
            if outgoing:
                self._transmit(outgoing[0] if len(outgoing) == 1 else b"".join(outgoing))

    def _transmit(self, data: bytes) -> None:
        if self._state is _CLOSED:
            return
        try:
            sent = self._sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._lose(error)
            return
        self.bytes_out += sent
        if sent < len(data):
            self._unsent = memoryview(data)[sent:]
            self._watch()

    def _on_writable(self) -> None:
        if self._unsent is None:
            return
        try:
            sent = self._send_piece(self._unsent)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error)
            return
        self.bytes_out += sent
        if sent < len(self._unsent):
            self._unsent = self._unsent[sent:]
            self._watch()
            return
        self._unsent = None
        self._flush()
        if not self.sending and self._state is _OPEN:
            # Messages that had to wait in the decoder go on from here.
            self._decode(None)
        if not self.sending and self._state is _OPEN:
            self._handler.all_sent(self)
        if not self.sending and self._state is _FINISHING:
            self._conclude()
        self._watch()

    def _send_piece(self, unsent: memoryview) -> int:
        """Give the socket what waits; how much it took."""
        return self._sock.send(unsent)

    def _may_write(self) -> bool:
        """Whether something waits for the socket to take it."""
        return self._unsent is not None

    def _watch(self) -> None:
        """Ask the reactor for what is wanted now, if it is not what it is asked for."""
        if self._state is _CLOSED:
            return
        wanted = WRITE if self._may_write() else 0
        if self._state is _OPEN:
            reading = not self._eof and self._keeps_up()
        else:
            reading = not self._eof and self._fin_sent
        if reading:
            wanted |= READ
        if wanted != self._interest:
            self._interest = wanted
            self._reactor.modify(self._sock.fileno(), wanted)

    # Ending.

    def send_fin(self) -> None:
        """Half-close: nothing more will be sent, reading goes on. Nothing may be waiting."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._lose(error)

    def finish(self, ending: Ending = Ending.CLEAN, error: Exception | None = None) -> None:
        """End in good order: send what is owed, then FIN, read on a little, close."""
        self._flush()
        if self._state is not _OPEN:
            return
        self._state = _FINISHING
        self._end = (ending, error)
        if self._unsent is None:
            self._conclude()
        self._watch()

    def drain(self) -> bool:
        """End in good order as the server stops; False if the peer was amid a message."""
        try:
            if self._decoder is not None and self._state is _OPEN:
                self._decoder.receive_eof()
        except Exception as error:  # noqa: BLE001 - as in _take_messages
            self.fail(error)
            return False
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
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
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
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._close(*self._end)
            return
        self._linger = self._reactor.call_later(LINGER_SECONDS, lambda: self._close(*self._end))

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
        if self._linger is not None:
            self._linger.cancel()
        self._unsent = None
        self._outgoing = None
        self._reactor.remove(self._sock.fileno())
        self._sock.close()
        end = End(ending, error, self.bytes_in, self.bytes_out, self.messages)
        self._handler.connection_ended(self, end)
