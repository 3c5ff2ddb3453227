"""What a framing is: how messages become bytes on the wire, and bytes messages again.

A framing is sans-I/O: no socket, no clock, no print. To write one, subclass `Framing`, give its
options as pydantic fields, and return a `Decoder` of your own. The invariants that everything
above relies on, and that the tests attack:

- any split of the wire into pieces gives the same messages;
- any bytes at all give messages or a `FramingError`, never another error;
- a limit is checked before memory is taken for what it limits;
- after an error a decoder stays failed: it raises the same error again.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Protocol, Self

from pydantic import BaseModel, ConfigDict

from echokit.errors import ConfigError
from echokit.framing.cutting import Cutter

__all__ = ["Decoder", "FrameDecoder", "Framing"]


class Decoder(Protocol):
    """One connection's incoming half: bytes in, messages out.

    Feed it, then take messages until there is none, then feed it again. It may be fed without
    that, but then copies what still waits.
    """

    def receive_data(self, data: bytes) -> None:
        """Take `data`, the next bytes of the stream, at least one. Raises nothing."""

    def next_message(self) -> bytes | None:
        """The next whole message; None where more bytes are needed.

        Raises:
            FramingError: The stream breaks the framing. From here on always.
        """

    def receive_eof(self) -> None:
        """Note the end of the stream, after the last message has been taken.

        Raises:
            IncompleteMessage: The stream ended inside a message, or right after its header.
        """


class FrameDecoder(Decoder, Protocol):
    """The decoder of a framing that is `verbatim`."""

    def next_frames(self) -> tuple[bytes, int] | None:
        """As many whole messages as there are, as they stand on the wire, and their number.

        None where more bytes are needed. It may be used in place of `next_message`.

        Raises:
            FramingError: As `next_message`.
        """


class Framing(BaseModel, ABC):
    """A framing's options: immutable, shared by every connection that uses it.

    A config's `framing:` section is parsed into the subclass whose `type` it names, so the
    fields of a subclass are its options, and pydantic checks them. A subclass redefines `type`
    as a literal of its own name, with a default.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", hide_input_in_errors=True)

    # True where a chunk is a message and `encode` returns it as it is: then a connection may pass
    # what it reads straight on. Only `raw` has a reason to set it.
    transparent: ClassVar[bool] = False

    type: str

    @abstractmethod
    def decoder(self) -> Decoder:
        """A fresh decoder, for one connection."""

    @abstractmethod
    def encode(self, message: bytes) -> bytes:
        """The bytes that carry `message`.

        Raises:
            FramingError: The framing cannot carry it (`MessageTooLarge` where it is too long).
        """

    @property
    def verbatim(self) -> bool:
        """Whether `encode` gives back just the bytes that a message was decoded from.

        Then an echo need not look at each message: it takes whole ones as they stand on the wire
        from the decoder's `next_frames`, as LengthPrefixed's has it. Each class says so for itself:
        what a subclass changes may make it untrue.
        """
        return False

    def limited(self, max_message: int) -> Self:
        """The same framing with a limit of `max_message` bytes, where its own is not lower.

        Raises:
            ConfigError: It has messages, and no option `max_message` that limits them.
        """
        if self.transparent:
            return self
        own = getattr(self, "max_message", None)
        if not isinstance(own, int):
            raise ConfigError(f"the framing {self.type!r} has no max_message to be lowered")
        return self.model_copy(update={"max_message": min(own, max_message)})

    def cutter(self, size: int) -> Cutter:
        """How a plain stream (a file, stdin) is cut into messages.

        Pieces of up to `size` bytes, and of no more than the framing's own limit, which a framing
        that has one calls `max_message`.
        """
        limit = getattr(self, "max_message", None)
        return Cutter(size if limit is None else max(1, min(size, limit)))
