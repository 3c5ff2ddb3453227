"""One non-blocking stream: bytes become messages, and messages bytes.

The way of one message, for a server: the reactor finds the socket readable and calls `on_ready`;
one `read` of at most `chunk_size` bytes; the decoder is fed; each message that it gives goes to
the handler, which sends its answer; the answer is encoded, and what one chunk caused leaves in one
`write`. What the socket does not take waits, and until it has gone nothing more is read: a peer
that does not read is not read from, so that memory holds one chunk, one message and that rest.

A client must not stop reading: its server may do just the same, and both would wait for ever.
That is what `full_duplex` is for.

Ending well is the rest. The peer's FIN is an end, not an error: what is owed is sent, then our
FIN. Closing with unread input makes the system send RST, which can destroy what was already on
its way (RFC 9293 section 3.6.1, RFC 2525 section 2.17): so a connection that ends before its
peer has finished sends FIN, reads and drops for a bounded while, and closes then.
"""

from os import read, write
from typing import cast

from echokit.framing.base import Decoder, FrameDecoder, Framing
from echokit.net.address import Sockaddr
from echokit.net.handler import Ending, Handler
from echokit.net.reactor import READ, Reactor
from echokit.net.stream import SMALL, State, Stream

__all__ = ["Connection"]

# Looked up once, as in `stream`.
_OPEN, _CLOSED = State.OPEN, State.CLOSED


class Connection(Stream):
    """A stream on which messages come and go.

    Args:
        reactor: Tells when the socket is ready.
        fd: The descriptor of a connected, non-blocking socket.
        peer: Its peer's address, as accept() and connect() have it.
        framing: How messages stand on the wire.
        chunk_size: The most bytes that one read asks for.
        handler: Is told what the connection meets.
        full_duplex: Reading goes on while something waits to be sent, as a client must.
        echo: What comes is sent back at once, and the handler is not told of it, where the framing
            lets that be done without a look at each message.
    """

    __slots__ = (
        "_decoder", "_frames", "_framing", "_outgoing", "_outgoing_size", "_sent", "_whole_in",
    )  # fmt: skip

    def __init__(
        self,
        reactor: Reactor,
        fd: int,
        peer: Sockaddr,
        framing: Framing,
        chunk_size: int,
        handler: Handler,
        *,
        full_duplex: bool = False,
        echo: bool = False,
    ) -> None:
        self._framing = framing
        # A chunk of a transparent framing is a message: there is nothing to decode or encode.
        self._decoder = None if framing.transparent else framing.decoder()
        # Whole messages as they stand on the wire are all that an echo needs.
        self._frames: FrameDecoder | None = None
        if echo and framing.verbatim:
            self._frames = cast("FrameDecoder", self._decoder)
        # Where nobody is told how the stream was cut, small messages are asked for in small: room
        # for a large one costs more to have and give back than they do.
        self._ask = min(chunk_size, SMALL) if echo else chunk_size
        # How much had come with the last chunk that brought a message to its end.
        self._whole_in = 0
        # What is to follow what the socket did not take, or to leave in one send.
        self._outgoing: list[bytes] | None = None
        self._outgoing_size = 0
        self._sent = 0
        super().__init__(reactor, fd, peer, chunk_size, handler, full_duplex=full_duplex)

    @property
    def bytes_out(self) -> int:
        """Bytes that the socket took."""
        return self._sent

    def _count_out(self, size: int) -> None:
        self._sent += size

    @property
    def unfinished(self) -> bool:
        """Whether a message has begun and has not ended.

        The decoder knows, if it has `pending`. Else what follows a message in the same chunk is
        not seen here; it is as soon as more of it comes.
        """
        if self._decoder is None:
            return False
        try:
            pending = getattr(self._decoder, "pending", None)
        except Exception as error:  # noqa: BLE001 - as in _take_messages
            self.fail(error)
            return False
        # A plugin's attribute of that name may be something else.
        return pending if isinstance(pending, bool) else self.bytes_in > self._whole_in

    # Reading.

    def on_ready(self, events: int) -> None:
        """The reactor's call: the socket is ready for some of `events`."""
        if events != READ and not self._also_readable(events):
            return
        if not self._ask:
            self._drop()
            return
        try:
            data = read(self._fd, self._ask)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error)
            return
        if not data:
            self._on_eof()
        else:
            size = len(data)
            self.bytes_in += size
            if self._frames is not None:
                self._echo_frames(self._frames, data)
            elif self._decoder is not None:
                self._decode(data)
            else:
                self.messages += 1
                self._handler.message_received(self, data)
            if size == self._ask < self._chunk_size:
                self._ask = self._chunk_size

    def go_on(self) -> None:
        """Take the messages that one for which the handler raised has left in the decoder."""
        if self._state is _OPEN:
            self._decode(None)

    def _echo_frames(self, frames: FrameDecoder, data: bytes | None) -> None:
        """Send back what is whole, while the peer keeps up."""
        before, chunk = self.messages, data
        while data is not None or self._keeps_up():
            # As in _take_messages. What is told of an end is not the decoder's: it stands outside.
            try:
                if data is not None:
                    frames.receive_data(data)
                    data = None
                    continue
                found = frames.next_frames()
                if found is None:
                    break
                wire, count = found
                self.messages += count
                if type(wire) is not bytes:
                    kind = type(frames).__name__
                    raise TypeError(  # noqa: TRY301 - as in _take_messages
                        f"{kind}.next_frames returned {type(wire).__name__}, not bytes"
                    )
            except Exception as error:  # noqa: BLE001 - as in _take_messages
                self.fail(error)
                return
            self._transmit(wire)
            if wire is chunk:
                # It was whole messages to its end, as most are.
                break
        if self.messages != before:
            self._whole_in = self.bytes_in

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
        # What has been read is the decoder's in any case: a handler may have sent to this one amid
        # the events of others, so that it keeps up no more when its own event comes.
        while data is not None or self._keeps_up():
            # What a decoder raises, though it be a plugin's bug, ends its own connection only.
            try:
                if data is not None:
                    decoder.receive_data(data)
                    data = None
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

    def _on_eof(self) -> None:
        """The peer has sent FIN. Every message before it has been taken and answered."""
        self._eof = True
        if self._decoder is not None and not self._broken:
            try:
                self._decoder.receive_eof()
            except Exception as error:  # noqa: BLE001 - as in _take_messages
                self.fail(error)
                return
        super()._on_eof()

    def _resume(self) -> None:
        """Messages that had to wait in the decoder go on from here."""
        if self._frames is not None:
            self._echo_frames(self._frames, None)
        else:
            self._decode(None)
        if not self.sending and self._state is _OPEN:
            self._handler.all_sent(self)

    # Writing and ending.

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

    def _transmit(self, data: bytes) -> None:
        if self._state is _CLOSED:
            return
        try:
            sent = write(self._fd, data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._keep(data)
            self._break(error)
            return
        self._sent += sent
        if sent < len(data):
            self._keep(memoryview(data)[sent:])

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

    def _close(self, ending: Ending, error: Exception | None) -> None:
        self._outgoing = None
        super()._close(ending, error)

    def drain(self) -> bool:
        """End in good order as the server stops; False if the peer was amid a message."""
        try:
            if self._decoder is not None and self._state is _OPEN:
                self._decoder.receive_eof()
        except Exception as error:  # noqa: BLE001 - as in _take_messages
            self.fail(error)
            return False
        return super().drain()
