"""Length-prefixed: each message stands behind its length, an unsigned integer of 1 to 8 bytes.

How the decoder reads. Small messages mostly arrive many to a chunk, large ones cut into many
chunks; neither may cost more than its bytes:

- The chunk last fed is kept as it came, with a position in it. Each header is read in place, and
  each message that lies whole in the chunk is one slice of it.
- A message that the chunk cuts goes to a buffer of its own, and later chunks are written straight
  into it. `io.BytesIO` hands out its whole content without copying it, so that a large message
  stands in memory once, not twice.
- A header that the chunk cuts (at most 7 bytes) is put in front of the next chunk.

The length is held against the limit as soon as the header is whole, before anything is allocated
for the body; and the body's buffer grows with the bytes that come, not with those announced.
"""

import io
import struct
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from echokit.errors import FramingError, IncompleteMessage, MessageTooLarge
from echokit.framing.base import Framing
from echokit.units import Size

__all__ = ["LengthPrefixed"]

_DEFAULT_LIMIT = 16 << 20
_HEADERS = {
    (order, size): struct.Struct(sign + code)
    for order, sign in (("big", ">"), ("little", "<"))
    for size, code in ((1, "B"), (2, "H"), (4, "I"), (8, "Q"))
}


class LengthPrefixedDecoder:
    """One connection's incoming half."""

    __slots__ = ("_body", "_data", "_error", "_header", "_kept", "_limit", "_missing", "_position")

    def __init__(self, header: struct.Struct, limit: int) -> None:
        self._header = header
        self._limit = limit
        # What was fed last, and how much of it has been taken.
        self._data = b""
        self._position = 0
        # A message cut by the chunk's end: what there is of it, how many bytes it lacks, and how
        # many of its header stand before it there.
        self._body: io.BytesIO | None = None
        self._missing = 0
        self._kept = 0
        self._error: FramingError | None = None

    def receive_data(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        if self._error is not None:
            return
        if self._data:
            self._data = self._data[self._position :] + data
            self._position = 0
        elif self._body is not None and len(data) < self._missing:
            self._body.write(data)
            self._missing -= len(data)
        else:
            self._data = bytes(data)

    def next_message(self) -> bytes | None:
        """The next whole message; None where more bytes are needed.

        Raises:
            MessageTooLarge: The length is over the limit.
        """
        if self._error is not None:
            raise self._error
        if self._body is not None:
            return self._finish_body()
        begin = self._position
        start = begin + self._header.size
        end = self._end_of_message()
        if end is None:
            return None
        if end <= len(self._data):
            self._position = end
            return self._data[start:end]
        self._begin_body(start, end, kept=0)
        return None

    def next_frames(self) -> tuple[bytes, int] | None:
        """As many whole messages as there are, as they stand on the wire, and their number.

        None where more bytes are needed. It may be used in place of `next_message`.

        Raises:
            MessageTooLarge: The length is over the limit.
        """
        if self._error is not None:
            raise self._error
        if self._body is not None:
            frame = self._finish_body()
            return None if frame is None else (frame, 1)
        data, begin = self._data, self._position
        if not data:
            return None
        unpack, header, limit = self._header.unpack_from, self._header.size, self._limit
        end, last, count = begin, len(data) - header, 0
        while end <= last:
            (length,) = unpack(data, end)
            following = end + header + length
            if length > limit or following > len(data):
                break
            end = following
            count += 1
        if count:
            if end == len(data):
                self._data = b""
                self._position = 0
            else:
                self._position = end
            # All of a chunk is the chunk itself: Python copies nothing.
            return data[begin:end], count
        following = self._end_of_message()
        if following is not None:
            self._begin_body(begin, following, kept=header)
        return None

    def _end_of_message(self) -> int | None:
        """Where the next message ends, in the chunk or behind it; None if its header is cut."""
        start = self._position + self._header.size
        if start > len(self._data):
            # Keep what there is of a header, and not the whole chunk that it came in.
            self._data = self._data[self._position :]
            self._position = 0
            return None
        length: int = self._header.unpack_from(self._data, self._position)[0]
        if length > self._limit:
            self._data = b""
            self._error = MessageTooLarge(length, self._limit)
            raise self._error
        return start + length

    def _begin_body(self, start: int, end: int, *, kept: int) -> None:
        """Take the chunk from `start` on as the beginning of a message that goes on to `end`."""
        self._body = io.BytesIO()
        self._body.write(memoryview(self._data)[start:])
        self._missing = end - len(self._data)
        self._kept = kept
        self._data = b""
        self._position = 0

    def _finish_body(self) -> bytes | None:
        """The message whose body was cut, if what has been fed since completes it."""
        if self._body is None or self._missing > len(self._data):
            return None
        self._body.write(memoryview(self._data)[: self._missing])
        self._position = self._missing
        message = self._body.getvalue()
        self._body = None
        self._missing = 0
        return message

    @property
    def pending(self) -> bool:
        """Whether part of a message is held, be it of its header."""
        return self._body is not None or self._position < len(self._data)

    def receive_eof(self) -> None:
        """Note the end of the stream.

        Raises:
            IncompleteMessage: It ended inside a header or a body.
        """
        if self._error is not None:
            raise self._error
        if self._body is not None:
            received = self._body.tell() - self._kept
            self._error = IncompleteMessage(received, received + self._missing)
        elif self._position < len(self._data):
            self._error = IncompleteMessage(len(self._data) - self._position, self._header.size)
        if self._error is not None:
            raise self._error


def _widest(options: dict[str, int]) -> int:
    """The default limit: 16 MiB, or the most that the prefix can say where that is less."""
    most: int = 256 ** options["prefix_bytes"] - 1
    return min(_DEFAULT_LIMIT, most)


def _whole_number(value: Any) -> Any:
    """Refuse True and 4.0, which equal 1 and 4 and so pass for them in a Literal."""
    if type(value) is not int:
        raise PydanticCustomError("prefix_bytes", "should be 1, 2, 4 or 8")
    return value


class LengthPrefixed(Framing):
    """Each message behind its length, a big- or little-endian unsigned integer."""

    type: Literal["length-prefixed"] = Field(
        "length-prefixed", description="Each message stands behind its length."
    )
    prefix_bytes: Annotated[Literal[1, 2, 4, 8], BeforeValidator(_whole_number)] = Field(
        4, description="Size of the length, in bytes."
    )
    byte_order: Literal["big", "little"] = Field("big", description="Byte order of the length.")
    max_message: Annotated[int, Size(0, 1 << 40)] = Field(
        default_factory=_widest,
        description="The longest message; longer ones are refused before memory is taken."
        " Default: 16MiB, or the most that the prefix can say.",
    )

    @field_validator("max_message")
    @classmethod
    def _limit_fits_prefix(cls, value: int, info: ValidationInfo) -> int:
        prefix_bytes = info.data.get("prefix_bytes", 8)
        most: int = 256**prefix_bytes - 1
        if value > most:
            raise PydanticCustomError(
                "limit_over_prefix",
                "does not fit a prefix of {prefix_bytes} byte(s), which can say {most} at most",
                {"prefix_bytes": prefix_bytes, "most": most},
            )
        return value

    @property
    def _header(self) -> struct.Struct:
        return _HEADERS[self.byte_order, self.prefix_bytes]

    @property
    def verbatim(self) -> bool:
        """True, but not of a subclass."""
        return type(self) is LengthPrefixed

    def decoder(self) -> LengthPrefixedDecoder:
        """A fresh decoder, for one connection."""
        return LengthPrefixedDecoder(self._header, self.max_message)

    def encode(self, message: bytes) -> bytes:
        """The length and then `message`.

        Raises:
            MessageTooLarge: `message` is over the limit.
        """
        if len(message) > self.max_message:
            raise MessageTooLarge(len(message), self.max_message)
        return self._header.pack(len(message)) + message
