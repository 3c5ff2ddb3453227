"""A framing under proof: what it makes of messages and of bytes, with every slip told."""

from collections.abc import Iterable
from typing import Any, Final

from echokit.errors import FramingError, IncompleteMessage
from echokit.framing.base import Decoder, Framing

__all__ = ["RULES", "BrokenRule", "Outcome", "Subject", "limit_of", "shown"]

RULES: Final = {
    "encode": "encode carries a message, or refuses it with a FramingError, and no other error",
    "independent": "decoders of one framing share nothing, whatever order they are fed in",
    "round trip": "what was encoded is decoded again, message by message",
    "any split": "however the wire is cut into pieces, the same messages come of it",
    "byte by byte": "fed one byte at a time, the same messages come of it",
    "hostile bytes": "any bytes give messages or a FramingError, and no other error",
    "stays failed": "after an error a decoder goes on raising that error, whatever it is fed",
    "limit": "a message over max_message is refused, by encode and by the decoder",
    "memory": "no memory is taken for a message before its bytes have come",
    "end of stream": "a stream cut inside a message ends in IncompleteMessage, and no other does",
    "own buffers": "a decoder keeps no reference to a buffer that it was fed",
    "linear time": "decoding takes time in proportion to the bytes, however they come",
}

# How much of each piece is kept to be shown.
_REMEMBERED = 4096


class BrokenRule(AssertionError):
    """A framing breaks a rule of the contract.

    Attributes:
        framing: The framing.
        rule: The rule's name, a key of `RULES`.
        shown: What shows it.
    """

    def __init__(self, framing: Framing, rule: str, shown: str) -> None:
        self.framing = framing
        self.rule = rule
        self.shown = shown
        super().__init__(
            f"{type(framing).__name__} ({framing.type!r}) breaks the rule {rule!r}: "
            f"{RULES[rule]}.\n{shown}"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.framing, self.rule, self.shown)


class Outcome:
    """What a decoder made of a stream: its messages, and the error if there was one."""

    def __init__(self, messages: list[bytes], error: FramingError | None) -> None:
        self.messages = messages
        self.error = error

    def __str__(self) -> str:
        error = f", then {type(self.error).__name__}: {self.error}" if self.error else ""
        return f"{shown(self.messages)}{error}"


class Subject:
    """The framing that is proved; each method breaks a rule where the framing does."""

    def __init__(self, framing: Framing) -> None:
        self._framing = framing

    def _encoded(self, framing: Framing, message: bytes) -> bytes | None:
        """`message` encoded, or None where the framing cannot carry it."""
        try:
            wire = framing.encode(message)
        except FramingError:
            return None
        except Exception as error:
            what = f"encoding {shown(message)} raised {type(error).__name__}: {error}"
            raise BrokenRule(framing, "encode", what) from error
        if type(wire) is not bytes:
            what = f"encoding {shown(message)} gave {type(wire).__name__}, not bytes"
            raise BrokenRule(framing, "encode", what)
        return wire

    def _decode(self, pieces: Iterable[bytes], rule: str) -> Outcome:
        return self._feed(self._framing.decoder(), pieces, rule)

    def _feed(self, decoder: Decoder, pieces: Iterable[bytes], rule: str) -> Outcome:
        """What comes of feeding the pieces; any error but next_message's own breaks `rule`."""
        messages: list[bytes] = []
        fed: list[bytes] = []
        size = 0
        feeding = False
        try:
            for piece in pieces:
                if not piece:
                    continue
                fed.append(bytes(piece[:_REMEMBERED]))
                size += len(piece)
                feeding = True
                decoder.receive_data(piece)
                feeding = False
                self._drain(decoder, messages, size, fed)
            self._drain(decoder, messages, size, fed)
        except BrokenRule:
            raise
        except Exception as error:
            if isinstance(error, FramingError) and not feeding:
                return Outcome(messages, error)
            where = "receive_data" if feeding else "next_message"
            what = f"{where} raised {type(error).__name__}: {error}; fed {shown(b''.join(fed))}"
            if isinstance(error, FramingError):
                rule = "hostile bytes"
            raise BrokenRule(self._framing, rule, what) from error
        return Outcome(messages, None)

    def _drain(self, decoder: Decoder, messages: list[bytes], size: int, fed: list[bytes]) -> None:
        """Take every message that there is; there cannot be many more than bytes."""
        while (message := decoder.next_message()) is not None:
            messages.append(message)
            if type(message) is not bytes:
                what = f"next_message gave {type(message).__name__}, not bytes"
                raise BrokenRule(self._framing, "round trip", what)
            if len(messages) > size + 16:
                what = f"messages without end come of {shown(b''.join(fed))}"
                raise BrokenRule(self._framing, "hostile bytes", what)

    def _eof(self, decoder: Decoder, fed: bytes) -> FramingError | None:
        """The IncompleteMessage that the end of the stream raises, if it does."""
        try:
            decoder.receive_eof()
        except IncompleteMessage as error:
            return error
        except Exception as error:
            what = f"receive_eof after {shown(fed)} raised {type(error).__name__}: {error}"
            raise BrokenRule(self._framing, "end of stream", what) from error
        return None

    def _same(self, found: list[bytes], sent: list[bytes]) -> bool:
        """Whether these are the messages; where a chunk is a message, whether it is the stream."""
        if self._framing.transparent:
            return b"".join(found) == b"".join(sent)
        return found == sent

    def _alike(self, one: Outcome, other: Outcome) -> bool:
        same_end = (one.error is None) == (other.error is None)
        return same_end and self._same(one.messages, other.messages)

    def _with_limit(self, limit: int) -> Framing | None:
        """The framing with another limit; None where its options do not let it be."""
        if "max_message" not in type(self._framing).model_fields:
            return None
        changed = self._framing.model_dump() | {"max_message": limit}
        try:
            return type(self._framing).model_validate(changed)
        except ValueError:
            return None

    def _encodable(self, framing: Framing, size: int) -> bytes | None:
        """A message of `size` bytes that `framing` can carry, or None."""
        fills = (b"x", b"\x00", b"1", b" ")
        found = (fill * size for fill in fills if self._encoded(framing, fill * size) is not None)
        return next(found, None)


def limit_of(framing: Framing) -> int | None:
    """Its `max_message`, if it has one."""
    limit: int | None = getattr(framing, "max_message", None)
    return limit


def shown(what: bytes | list[bytes]) -> str:
    """Bytes as Python writes them; the middle of long ones left out."""
    if isinstance(what, list):
        return f"[{', '.join(shown(item) for item in what)}]"
    if len(what) <= 80:  # noqa: PLR2004 - what fits a line
        return repr(what)
    return f"{what[:32]!r}...{what[-16:]!r} ({len(what)} bytes)"
