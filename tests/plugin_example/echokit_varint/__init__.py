"""Messages behind their length as a base-128 varint, as protobuf streams have them."""

from typing import Literal

from pydantic import Field

from echokit import Decoder, Framing, FramingError, IncompleteMessage, MessageTooLarge


class VarintPrefixed(Framing):
    """Each message behind its length as a base-128 varint."""

    type: Literal["varint"] = "varint"
    max_message: int = Field(1 << 20, ge=0, description="The longest message, in bytes.")

    def decoder(self) -> Decoder:
        """A decoder for one connection."""
        return VarintDecoder(self.max_message)

    def encode(self, message: bytes) -> bytes:
        """The length, seven bits to a byte and the lowest first; then the message."""
        if len(message) > self.max_message:
            raise MessageTooLarge(len(message), self.max_message)
        header, rest = bytearray(), len(message)
        while rest >= 0x80:
            header.append(rest & 0x7F | 0x80)
            rest >>= 7
        return bytes(header) + bytes([rest]) + message


class VarintDecoder:
    """Bytes in, messages out."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._error: FramingError | None = None

    def receive_data(self, data: bytes) -> None:
        """Keep a copy, for as long as it can be of use."""
        if self._error is None:
            self._buffer += data

    def next_message(self) -> bytes | None:
        """The next message, or None; after an error that error, always."""
        if self._error is None:
            try:
                return self._take()
            except FramingError as error:
                self._error = error
                self._buffer.clear()
        raise self._error

    def receive_eof(self) -> None:
        """Nothing may be left over; after an error that error."""
        if self._error is not None:
            raise self._error
        if self._buffer:
            length, start = self._header() or (None, 0)
            raise IncompleteMessage(len(self._buffer) - start, length)

    def _take(self) -> bytes | None:
        header = self._header()
        if header is None:
            return None
        length, start = header
        end = start + length
        if len(self._buffer) < end:
            return None
        message = bytes(self._buffer[start:end])
        del self._buffer[:end]
        return message

    def _header(self) -> tuple[int, int] | None:
        """The next message's length, and where it begins; None while its varint is cut."""
        length = 0
        for index, byte in enumerate(self._buffer[:10]):
            length |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                if length > self._limit:
                    raise MessageTooLarge(length, self._limit)
                return length, index + 1
        if len(self._buffer) >= 10:
            raise FramingError("a varint has more than 10 bytes")
        return None
