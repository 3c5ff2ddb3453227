"""Raw stream: no framing at all. Each chunk that is read is a message (RFC 862's echo)."""

from typing import ClassVar, Literal

from pydantic import Field

from echokit.framing.base import Framing

__all__ = ["Raw"]


class RawDecoder:
    """Hands every chunk on as it came, and never waits for more."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = b""

    def receive_data(self, data: bytes) -> None:
        """Take the next chunk."""
        self._data = self._data + data if self._data else bytes(data)

    def next_message(self) -> bytes | None:
        """The chunk, once."""
        data, self._data = self._data, b""
        return data or None

    def receive_eof(self) -> None:
        """A raw stream may end anywhere."""


class Raw(Framing):
    """No framing: the bytes as they come. The echo of RFC 862."""

    transparent: ClassVar[bool] = True

    type: Literal["raw"] = Field("raw", description="No framing: a chunk is a message.")

    def decoder(self) -> RawDecoder:
        """A fresh decoder, for one connection."""
        return RawDecoder()

    def encode(self, message: bytes) -> bytes:
        """`message` as it is."""
        return message
