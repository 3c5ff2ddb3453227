"""Delimited: each message ends with a delimiter, by default a newline, which it may not contain.

How the decoder reads. The chunk last fed is kept as it came, with a position in it, and each
message that lies whole in it is one slice. A message that the chunk cuts goes to a tail, to which
later chunks are added; the search goes on where it stopped, a delimiter's length less one earlier,
so that no byte is looked at more than a few times, however the wire is cut.
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from echokit.errors import FramingError, IncompleteMessage, MessageTooLarge
from echokit.framing.base import Framing
from echokit.framing.cutting import Cutter
from echokit.units import Size

__all__ = ["Delimited"]


class DelimitedDecoder:
    """One connection's incoming half."""

    __slots__ = ("_data", "_delimiter", "_error", "_limit", "_position", "_tail")

    def __init__(self, delimiter: bytes, limit: int) -> None:
        self._delimiter = delimiter
        self._limit = limit
        # What was fed last, and how much of it has been taken.
        self._data = b""
        self._position = 0
        # The beginning of a message that has not ended yet.
        self._tail = bytearray()
        self._error: FramingError | None = None

    def receive_data(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        if self._error is not None:
            return
        self._data = self._data[self._position :] + data if self._data else bytes(data)
        self._position = 0

    def next_message(self) -> bytes | None:
        """The next whole message; None where more bytes are needed.

        Raises:
            MessageTooLarge: The message is over the limit, also where its end is still to come.
        """
        if self._error is not None:
            raise self._error
        if self._tail:
            return self._finish_tail()
        end = self._data.find(self._delimiter, self._position)
        if end < 0:
            self._tail += self._data[self._position :]
            self._data = b""
            self._position = 0
            self._check(len(self._tail) - len(self._delimiter) + 1)
            return None
        self._check(end - self._position)
        message = self._data[self._position : end]
        self._position = end + len(self._delimiter)
        return message

    def _finish_tail(self) -> bytes | None:
        """The message begun in the tail, if what has been fed since completes it."""
        searched = len(self._tail)
        self._tail += self._data[self._position :]
        end = self._tail.find(self._delimiter, max(0, searched - len(self._delimiter) + 1))
        if end < 0:
            self._data = b""
            self._position = 0
            self._check(len(self._tail) - len(self._delimiter) + 1)
            return None
        self._check(end)
        self._position += end + len(self._delimiter) - searched
        message = bytes(memoryview(self._tail)[:end])
        self._tail = bytearray()
        return message

    def _check(self, size: int) -> None:
        if size > self._limit:
            self._data = b""
            self._tail = bytearray()
            self._error = MessageTooLarge(size, self._limit)
            raise self._error

    @property
    def pending(self) -> bool:
        """Whether part of a message is held."""
        return bool(self._tail) or self._position < len(self._data)

    def receive_eof(self) -> None:
        """Note the end of the stream.

        Raises:
            IncompleteMessage: It ended inside a message.
        """
        if self._error is None and (unfinished := self.unfinished()):
            self._error = IncompleteMessage(len(unfinished), None)
        if self._error is not None:
            raise self._error

    def unfinished(self) -> bytes:
        """What has come of a message whose end has not."""
        return bytes(self._tail) + self._data[self._position :]


class DelimiterCutter(Cutter):
    """Cuts a stream where the delimiter stands: a text into its lines."""

    def __init__(self, delimiter: bytes, limit: int) -> None:
        self.separator = delimiter
        self._decoder = DelimitedDecoder(delimiter, limit)

    def cut(self, data: bytes) -> list[bytes]:
        """The messages that `data`, the stream's next bytes, brings to an end.

        Raises:
            MessageTooLarge: One of them is over the framing's limit.
        """
        self._decoder.receive_data(data)
        return list(iter(self._decoder.next_message, None))

    def finish(self) -> list[bytes]:
        """The last message, where no delimiter ends it."""
        rest = self._decoder.unfinished()
        return [rest] if rest else []


class Delimited(Framing):
    """Each message followed by a delimiter, as in line-based protocols."""

    type: Literal["delimited"] = Field(
        "delimited", description="Each message is followed by a delimiter."
    )
    delimiter: str = Field(
        "\n", min_length=1, max_length=64, description="What ends a message, as UTF-8."
    )
    max_message: Annotated[int, Size(0, 1 << 40)] = Field(
        16 << 20, description="The longest message, its delimiter not counted."
    )

    @field_validator("delimiter")
    @classmethod
    def _is_utf8(cls, value: str) -> str:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise PydanticCustomError("delimiter", "cannot be written as UTF-8") from None
        return value

    @property
    def _wire_delimiter(self) -> bytes:
        return self.delimiter.encode()

    def decoder(self) -> DelimitedDecoder:
        """A fresh decoder, for one connection."""
        return DelimitedDecoder(self._wire_delimiter, self.max_message)

    def encode(self, message: bytes) -> bytes:
        r"""`message` and then the delimiter.

        Raises:
            FramingError: `message` contains the delimiter, or ends so that its last bytes and the
                delimiter's first would be taken for one (`b"\r"` before `"\r\r"`).
            MessageTooLarge: `message` is over the limit.
        """
        if len(message) > self.max_message:
            raise MessageTooLarge(len(message), self.max_message)
        framed = message + self._wire_delimiter
        at = framed.find(self._wire_delimiter)
        if at != len(message):
            raise FramingError(f"message contains the delimiter {self.delimiter!r} at byte {at}")
        return framed

    def cutter(self, size: int) -> Cutter:  # noqa: ARG002 - lines are as long as they are
        """A plain stream is cut into its lines (or whatever the delimiter ends)."""
        return DelimiterCutter(self._wire_delimiter, self.max_message)
