"""A shelf of framings that each break one rule of the contract, in a way that people do."""

import struct
from typing import Literal

from pydantic import Field

from echokit import Decoder, Delimited, Framing, FramingError, IncompleteMessage, MessageTooLarge


class SoundDecoder:
    """A length-prefixed decoder that keeps the contract; the broken ones change one thing in it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._error: FramingError | None = None

    def receive_data(self, data: bytes) -> None:
        """Keep a copy."""
        self._buffer += data

    def next_message(self) -> bytes | None:
        """The next message, or the error for ever."""
        if self._error is not None:
            raise self._error
        try:
            return self._take()
        except FramingError as error:
            self._error = error
            raise

    def _take(self) -> bytes | None:
        if len(self._buffer) < 2:
            return None
        length = self._length()
        if len(self._buffer) < 2 + length:
            return None
        message = bytes(self._buffer[2 : 2 + length])
        del self._buffer[: 2 + length]
        return message

    def _length(self) -> int:
        length: int = struct.unpack_from(">H", self._buffer)[0]
        if length > self._limit:
            raise MessageTooLarge(length, self._limit)
        return length

    def receive_eof(self) -> None:
        """Nothing may be left."""
        if self._buffer:
            raise IncompleteMessage(len(self._buffer), None)


class Sound(Framing):
    """Keeps every rule; on the shelf to show that the others are caught for what they change."""

    type: Literal["shelf"] = "shelf"
    max_message: int = Field(60_000, le=0xFFFF)

    def decoder(self) -> Decoder:
        """The sound one."""
        return SoundDecoder(self.max_message)

    def encode(self, message: bytes) -> bytes:
        """Length and message."""
        if len(message) > self.max_message:
            raise MessageTooLarge(len(message), self.max_message)
        return struct.pack(">H", len(message)) + message


class StripsSpaces(Sound):
    """Round trip: whitespace at a message's end is lost."""

    def decoder(self) -> Decoder:
        """Strips."""

        class Broken(SoundDecoder):
            def _take(self) -> bytes | None:
                message = super()._take()
                return None if message is None else message.rstrip()

        return Broken(self.max_message)


class LosesTheRestOfAPiece(Sound):
    """Any split: what follows the end of a cut message in the same piece is dropped."""

    def decoder(self) -> Decoder:
        """Takes only what it was waiting for."""

        class Broken(SoundDecoder):
            def receive_data(self, data: bytes) -> None:
                if len(self._buffer) >= 2:
                    data = data[: 2 + self._length() - len(self._buffer)]
                self._buffer += data

        return Broken(self.max_message)


class WantsWholeHeaders(Sound):
    """Byte by byte: a piece with less than a header is taken for nothing."""

    def decoder(self) -> Decoder:
        """Drops what is too short."""

        class Broken(SoundDecoder):
            def receive_data(self, data: bytes) -> None:
                if len(self._buffer) + len(data) >= 2:
                    self._buffer += data

        return Broken(self.max_message)


class ChecksNothing(Sound):
    """Hostile bytes: what is no text raises an error of Python's, not of the framing."""

    def decoder(self) -> Decoder:
        """Decodes as if peers were friendly."""

        class Broken(SoundDecoder):
            def _length(self) -> int:
                if self._buffer[0] == 0xFF:
                    bytes(self._buffer[:1]).decode()
                return super()._length()

        return Broken(self.max_message)


class RisesAgain(Sound):
    """Stays failed: after an error the decoder goes on as if nothing had been."""

    def decoder(self) -> Decoder:
        """Forgets its error."""

        class Broken(SoundDecoder):
            def next_message(self) -> bytes | None:
                try:
                    return self._take()
                except FramingError:
                    self._buffer.clear()
                    raise

        return Broken(self.max_message)


class TrustsItsOptions(Framing):
    """Encode: a length that the header cannot say raises an error of struct's."""

    type: Literal["shelf"] = "shelf"
    max_message: int = 1 << 20

    def decoder(self) -> Decoder:
        """The sound one."""
        return SoundDecoder(self.max_message)

    def encode(self, message: bytes) -> bytes:
        """Length and message, where it fits."""
        return struct.pack(">H", len(message)) + message


class EncodesAnything(Sound):
    """Limit: encode does not hold the message against it."""

    def encode(self, message: bytes) -> bytes:
        """No look at the limit."""
        return struct.pack(">H", len(message) & 0xFFFF) + message


class OneTooMany(Sound):
    """Limit: the decoder lets one byte more pass."""

    def decoder(self) -> Decoder:
        """Off by one."""
        return SoundDecoder(self.max_message + 1)


class OneTooFew(Sound):
    """Limit: the decoder refuses what is exactly the limit."""

    def decoder(self) -> Decoder:
        """Off by one, the other way."""
        return SoundDecoder(self.max_message - 1)


class _Wide(Framing):
    """Four bytes of length: room for messages whose memory shows."""

    type: Literal["wide"] = "wide"
    max_message: int = 16 << 20

    def decoder(self) -> Decoder:
        """The sound one, with a wider header."""
        return _WideDecoder(self.max_message)

    def encode(self, message: bytes) -> bytes:
        """Length and message."""
        if len(message) > self.max_message:
            raise MessageTooLarge(len(message), self.max_message)
        return struct.pack(">I", len(message)) + message


class _WideDecoder(SoundDecoder):
    def _take(self) -> bytes | None:
        if len(self._buffer) < 4:
            return None
        length = self._length()
        if len(self._buffer) < 4 + length:
            return None
        message = bytes(self._buffer[4 : 4 + length])
        del self._buffer[: 4 + length]
        return message

    def _length(self) -> int:
        length: int = struct.unpack_from(">I", self._buffer)[0]
        if length > self._limit:
            raise MessageTooLarge(length, self._limit)
        return length


class TrustsTheHeader(_Wide):
    """Memory: room for the whole message is made when only its length has come."""

    def decoder(self) -> Decoder:
        """Allocates what the peer announces."""

        class Broken(_WideDecoder):
            _room: bytearray | None = None

            def _take(self) -> bytes | None:
                if len(self._buffer) >= 4:
                    self._room = bytearray(self._length())
                return super()._take()

        return Broken(self.max_message)


class CleanAfterAHeader(Sound):
    """End of stream: a stream cut right after a header looks clean."""

    def decoder(self) -> Decoder:
        """Counts only bytes of bodies."""

        class Broken(SoundDecoder):
            def receive_eof(self) -> None:
                if len(self._buffer) != 2:
                    super().receive_eof()

        return Broken(self.max_message)


class NeverIncomplete(Sound):
    """End of stream: wherever it is cut, nothing is said."""

    def decoder(self) -> Decoder:
        """Does not look."""

        class Broken(SoundDecoder):
            def receive_eof(self) -> None:
                pass

        return Broken(self.max_message)


class AlwaysIncomplete(Sound):
    """End of stream: also between two messages it is an error."""

    def decoder(self) -> Decoder:
        """Always complains."""

        class Broken(SoundDecoder):
            def receive_eof(self) -> None:
                raise IncompleteMessage(0, None)

        return Broken(self.max_message)


class KeepsTheBuffer(Sound):
    """Own buffers: what was fed is kept as it is, and may change afterwards."""

    def decoder(self) -> Decoder:
        """Takes the caller's buffer for its own."""

        class Broken(SoundDecoder):
            def receive_data(self, data: bytes) -> None:
                mine: bytes | bytearray = data
                if self._buffer or not isinstance(mine, bytearray):
                    super().receive_data(data)
                else:
                    self._buffer = mine

        return Broken(self.max_message)


class HoldsAView(Sound):
    """Own buffers: a view of what was fed keeps its owner from resizing it."""

    def decoder(self) -> Decoder:
        """Remembers the last piece."""

        class Broken(SoundDecoder):
            _last: memoryview | None = None

            def receive_data(self, data: bytes) -> None:
                self._last = memoryview(data)
                super().receive_data(data)

        return Broken(self.max_message)


class CopiesTheRest(Sound):
    """Linear time: with each small message all that follows it is copied."""

    def decoder(self) -> Decoder:
        """Slices the buffer anew for each message."""

        class Broken(SoundDecoder):
            def _take(self) -> bytes | None:
                self._buffer = bytearray(bytes(self._buffer))
                return super()._take()

        return Broken(self.max_message)


class JoinsAnew(_Wide):
    """Linear time: with each piece of a large message all that came before it is copied."""

    def decoder(self) -> Decoder:
        """Concatenates immutable bytes."""

        class Broken(_WideDecoder):
            def receive_data(self, data: bytes) -> None:
                self._buffer = bytearray(bytes(self._buffer) + data)

        return Broken(self.max_message)


class NeverAdvances(Sound):
    """Hostile bytes: an empty message is given again and again."""

    def decoder(self) -> Decoder:
        """Does not take the header of an empty message."""

        class Broken(SoundDecoder):
            def _take(self) -> bytes | None:
                if self._buffer[:2] == b"\0\0":
                    return b""
                return super()._take()

        return Broken(self.max_message)


class RaisesWhereItIsFed(Sound):
    """Hostile bytes: receive_data looks ahead, and raises what next_message should."""

    def decoder(self) -> Decoder:
        """Too eager."""

        class Broken(SoundDecoder):
            def receive_data(self, data: bytes) -> None:
                super().receive_data(data)
                if len(self._buffer) >= 2:
                    self._length()

        return Broken(self.max_message)


class TurnsLongOnes(Sound):
    """Round trip: only messages of more than a few hundred bytes are hurt."""

    def decoder(self) -> Decoder:
        """Turns them round."""

        class Broken(SoundDecoder):
            def _take(self) -> bytes | None:
                message = super()._take()
                return message[::-1] if message is not None and len(message) > 300 else message

        return Broken(self.max_message)


class GivesBytearrays(Sound):
    """Round trip: what looks like the message is no bytes."""

    def decoder(self) -> Decoder:
        """One copy less."""

        class Broken(SoundDecoder):
            def _take(self) -> bytes | None:
                message = super()._take()
                return None if message is None else bytearray(message)  # type: ignore[return-value]  # the fault

        return Broken(self.max_message)


class EncodesNothing(Sound):
    """Encode: it forgets to return what it has made."""

    def encode(self, message: bytes) -> bytes:
        """No return."""
        super().encode(message)
        return None  # type: ignore[return-value]  # that is the fault


class EncodesBytearrays(Sound):
    """Encode: what it gives is no bytes."""

    def encode(self, message: bytes) -> bytes:
        """One copy less."""
        return bytearray(super().encode(message))  # type: ignore[return-value]  # that is the fault


class SharesItsBuffer(Sound):
    """Independent: all connections have one buffer."""

    def decoder(self) -> Decoder:
        """A class attribute where an instance's was meant."""
        shared = _SHARED

        class Broken(SoundDecoder):
            def __init__(self, limit: int) -> None:
                super().__init__(limit)
                self._buffer = shared

        return Broken(self.max_message)


_SHARED = bytearray()


class SplitsAtItsDelimiter(Framing):
    """Round trip: a message that contains the delimiter is neither refused nor escaped."""

    type: Literal["crlf"] = "crlf"

    def decoder(self) -> Decoder:
        """Lines."""
        return Delimited(delimiter="\r\n").decoder()

    def encode(self, message: bytes) -> bytes:
        """No look at what it contains."""
        return message + b"\r\n"


class LargeOnly(Sound):
    """Sound: its limit can be no small one."""

    max_message: int = Field(60_000, ge=1024, le=0xFFFF)


class Record(Framing):
    """Sound: every message has 400 bytes."""

    type: Literal["record"] = "record"

    def decoder(self) -> Decoder:
        """Cuts the stream every 400 bytes."""

        class Records:
            def __init__(self) -> None:
                self._buffer = bytearray()

            def receive_data(self, data: bytes) -> None:
                self._buffer += data

            def next_message(self) -> bytes | None:
                if len(self._buffer) < 400:
                    return None
                message = bytes(self._buffer[:400])
                del self._buffer[:400]
                return message

            def receive_eof(self) -> None:
                if self._buffer:
                    raise IncompleteMessage(len(self._buffer), 400)

        return Records()

    def encode(self, message: bytes) -> bytes:
        """Nothing around it."""
        if len(message) != 400:
            raise FramingError("a record has 400 bytes")
        return message
