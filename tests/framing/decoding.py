"""What the framing tests share: wires, ways to cut them, and what a decoder makes of the pieces."""

from collections.abc import Iterable
from typing import TypeVar, cast

from hypothesis import strategies as st

from echokit.errors import FramingError
from echokit.framing.base import Decoder

__all__ = ["cuts", "decoded", "drained", "failure", "mutable", "pieces"]

Failure = TypeVar("Failure", bound=FramingError)

# Where a wire is cut, as positions that `pieces` folds into its length: so the same strategy
# serves wires of any length, and shrinks to no cut at all.
cuts: st.SearchStrategy[list[int]] = st.lists(st.integers(0, 300), max_size=12)


def pieces(wire: bytes, places: Iterable[int]) -> list[bytes]:
    """`wire` cut at `places`; no piece is empty, as no read that a decoder is fed is."""
    inside = sorted({place % len(wire) for place in places} - {0}) if wire else []
    return [
        wire[begin:end]
        for begin, end in zip([0, *inside], [*inside, len(wire)], strict=True)
        if wire
    ]


def drained(decoder: Decoder) -> list[bytes]:
    """Every message that the decoder has by now."""
    return list(iter(decoder.next_message, None))


def decoded(decoder: Decoder, chunks: Iterable[bytes]) -> tuple[list[bytes], FramingError | None]:
    """The messages of a whole stream, and how it ended: well (None) or in an error."""
    messages: list[bytes] = []
    try:
        for chunk in chunks:
            decoder.receive_data(chunk)
            while (message := decoder.next_message()) is not None:
                messages.append(message)
        decoder.receive_eof()
    except FramingError as error:
        return messages, error
    return messages, None


def failure(kind: type[Failure], decoder: Decoder, wire: bytes) -> Failure:
    """The error, exactly a `kind`, that a stream of just `wire` ends in."""
    _, error = decoded(decoder, [wire])
    assert type(error) is kind
    return error


def mutable(data: bytes) -> tuple[bytearray, bytes]:
    """A buffer that can be written to again, and the same buffer as the decoder's type takes it."""
    buffer = bytearray(data)
    return buffer, cast("bytes", buffer)
