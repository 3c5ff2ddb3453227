"""The decoders, under bytes that a fuzzer makes.

What must hold, whatever comes and however it is cut: messages or a FramingError, never another
error, never more memory than the limit and one read. That is:

- the messages, and the error, are those that a plain reading of the whole wire finds, which is
  written down here a second time and in another way;
- they are the same for every cut, also where messages are taken late, and where whole frames are
  taken in their place;
- a decoder that has been drained keeps no more than one message of the limit's size and what stands
  around it, and none takes memory for what has only been announced;
- a decoder that failed keeps nothing, and goes on raising the same error;
- what encode() accepts is decoded again as it was, and it refuses what cannot be, and no more.

An input is a few bytes that choose the framing's options and the cuts, and then the wire.
"""

import gc
import io
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from types import FrameType, FunctionType, ModuleType, TracebackType

from echokit.errors import FramingError, IncompleteMessage, MessageTooLarge
from echokit.framing.base import Decoder, Framing
from echokit.framing.delimited import Delimited
from echokit.framing.length_prefixed import LengthPrefixed
from echokit.framing.raw import Raw

__all__ = ["check", "delimited", "length_prefixed", "raw"]

PREFIXES = (1, 2, 4, 8)
ORDERS = ("big", "little")
LIMITS = (0, 1, 9, 255, 512, 65535, 1 << 20, 1 << 40)
# They overlap themselves, share bytes, and are cut by nearly every split.
DELIMITERS = ("\n", "\r\n", "aa", "aba", "é", "\0", "aab", "--end--")

# What a decoder may keep beside a message and its header: its own delimiter, its format.
_OWN = 64
# What Python's own objects may take beside the bytes; a message that was only announced is larger.
_OBJECTS = 64 << 10
# Weighing takes longer than decoding, and what piles up is still there some pieces later.
_SELDOM = 16
# Where a walk over what a decoder keeps ends: these lead to the whole program.
_ELSEWHERE = (type, ModuleType, FunctionType, FrameType, TracebackType, BaseException)

End = tuple[list[bytes], FramingError | None]


def raw(data: bytes) -> None:
    """Check the raw stream: cuts, then the wire."""
    lengths, wire = _cuts(data)
    check(Raw(), wire, lengths, lambda _, wire: ([wire] if wire else [], None))


def length_prefixed(data: bytes) -> None:
    """Check a length-prefixed wire: prefix and byte order, limit, cuts, then the wire."""
    options, limit = _first_two(data)
    prefix = PREFIXES[options % 4]
    framing = LengthPrefixed.model_validate(
        {
            "prefix_bytes": prefix,
            "byte_order": ORDERS[options // 4 % 2],
            "max_message": min(LIMITS[limit % len(LIMITS)], 256**prefix - 1),
        }
    )
    lengths, wire = _cuts(data[2:])
    check(framing, wire, lengths, _read_length_prefixed)


def delimited(data: bytes) -> None:
    """Check a delimited wire: delimiter, limit, cuts, then the wire."""
    options, limit = _first_two(data)
    framing = Delimited(
        delimiter=DELIMITERS[options % len(DELIMITERS)], max_message=LIMITS[limit % len(LIMITS)]
    )
    lengths, wire = _cuts(data[2:])
    check(framing, wire, lengths, _read_delimited)


def check(
    framing: Framing, wire: bytes, lengths: list[int], read: Callable[[Framing, bytes], End]
) -> None:
    """Check what `framing` makes of `wire`, cut into pieces of `lengths`, over and over.

    Args:
        framing: The framing.
        wire: Any bytes.
        lengths: The sizes of the pieces, each at least 1; none leaves the wire whole.
        read: What the framing should make of a whole wire: its messages, and how it ends.

    Raises:
        AssertionError: One of the things that must hold does not.
    """
    expected = read(framing, wire)
    pieces = list(_pieces(wire, lengths))
    for chunks, patience in ((pieces, 1), (pieces, 3)):
        _same(framing, _decoded(framing, chunks, patience), expected)
    for chunks in (pieces, [wire] if wire else []):
        _same_frames(framing, chunks, expected)
    tracemalloc.start()
    try:
        found = _decoded(framing, [wire] if wire else [], 1)
        _, taken = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    _same(framing, found, expected)
    assert taken <= 8 * len(wire) + _OBJECTS, f"{taken} bytes were taken for {len(wire)}"
    _round_trip(framing, pieces, read)


def _first_two(data: bytes) -> tuple[int, int]:
    return (data + b"\0\0")[0], (data + b"\0\0")[1]


def _cuts(data: bytes) -> tuple[list[int], bytes]:
    """The sizes of the pieces, up to seven, and the wire that stands behind them."""
    count = data[0] % 8 if data else 0
    return [size or 256 for size in data[1 : count + 1]], data[count + 1 :]


def _pieces(wire: bytes, lengths: list[int]) -> Iterator[bytes]:
    sizes, at = cycle(lengths or [len(wire) or 1]), 0
    while at < len(wire):
        size = next(sizes)
        yield wire[at : at + size]
        at += size


def _decoded(framing: Framing, chunks: list[bytes], patience: int) -> End:
    """What the chunks give; taken after every `patience` of them, in between one at a time."""
    decoder = framing.decoder()
    messages: list[bytes] = []
    fed = 0
    try:
        for number, chunk in enumerate(chunks, 1):
            decoder.receive_data(chunk)
            fed += len(chunk)
            if number % patience:
                message = decoder.next_message()
                messages += [] if message is None else [message]
                continue
            messages += iter(decoder.next_message, None)
            if number % _SELDOM == 0 or number == len(chunks):
                _holds_at_most(decoder, min(fed, _most(framing)))
        messages += iter(decoder.next_message, None)
        decoder.receive_eof()
    except FramingError as error:
        _stays_failed(decoder, error)
        return messages, error
    return messages, None


def _same_frames(framing: Framing, chunks: list[bytes], expected: End) -> None:
    """Take whole frames, where the decoder gives those: the messages as they stood on the wire."""
    decoder = framing.decoder()
    next_frames = getattr(decoder, "next_frames", None)
    if next_frames is None:
        return
    wire, count = b"", 0
    end: FramingError | None = None
    try:
        for chunk in chunks:
            decoder.receive_data(chunk)
            while (found := next_frames()) is not None:
                wire += found[0]
                count += found[1]
            _holds_at_most(decoder, _most(framing))
        decoder.receive_eof()
    except FramingError as error:
        _stays_failed(decoder, error)
        end = error
    messages, failure = expected
    assert (wire, count) == (b"".join(map(framing.encode, messages)), len(messages))
    assert (type(end), str(end)) == (type(failure), str(failure))


def _most(framing: Framing) -> int:
    """The most that a drained decoder may keep: a message almost whole, and what is around it."""
    if isinstance(framing, LengthPrefixed):
        return framing.max_message + framing.prefix_bytes
    if isinstance(framing, Delimited):
        return framing.max_message + len(framing.delimiter.encode())
    return 0


def _holds_at_most(decoder: Decoder, most: int) -> None:
    """Weigh the bytes that `decoder` keeps, wherever in it they stand."""
    seen: set[int] = set()
    todo: list[object] = [decoder]
    held = 0
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, _ELSEWHERE):
            continue
        seen.add(id(item))
        if isinstance(item, bytes | bytearray):
            held += len(item)
        elif isinstance(item, io.BytesIO):
            held += item.getbuffer().nbytes
        else:
            todo += gc.get_referents(item)
    assert held <= most + _OWN, f"{held} bytes are kept where {most} are enough"


def _stays_failed(decoder: Decoder, error: FramingError) -> None:
    for _ in range(2):
        for call in (decoder.next_message, decoder.receive_eof):
            again = _refusal(call)
            assert (type(again), str(again)) == (type(error), str(error)), f"then it was {again!r}"
        if isinstance(error, IncompleteMessage):
            # The stream has ended: nothing more can come.
            return
        decoder.receive_data(b"\0\n" * 512)
        _holds_at_most(decoder, 0)


def _refusal(call: Callable[[], object]) -> FramingError | None:
    try:
        call()
    except FramingError as error:
        return error
    return None


def _same(framing: Framing, found: End, expected: End) -> None:
    if framing.transparent:
        assert b"".join(found[0]) == b"".join(expected[0])
    else:
        assert found[0] == expected[0], f"{found[0]} came, not {expected[0]}"
    assert all(type(message) is bytes for message in found[0])
    told, wanted = found[1], expected[1]
    assert type(told) is type(wanted), f"it ended in {told!r}, not in {wanted!r}"
    if isinstance(framing, Delimited) and isinstance(told, MessageTooLarge):
        # Its size is what had come by then, which hangs on the cuts.
        assert told.size > told.limit == framing.max_message
    else:
        assert str(told) == str(wanted)


def _round_trip(
    framing: Framing, messages: list[bytes], read: Callable[[Framing, bytes], End]
) -> None:
    """Encode each message that can be; the wire of all of them gives them again."""
    wire, sent = b"", []
    for message in messages:
        refusal = _refusal(partial(framing.encode, message))
        if refusal is None:
            wire += framing.encode(message)
            sent.append(message)
            continue
        too_large = len(message) > getattr(framing, "max_message", len(message))
        assert isinstance(refusal, MessageTooLarge) == too_large
        # Had it been sent, it would not have come back as it was.
        assert too_large or read(framing, message + _end_of(framing)) != ([message], None)
    found = _decoded(framing, [wire] if wire else [], 1)
    _same(framing, found, (sent, None))


def _end_of(framing: Framing) -> bytes:
    return framing.delimiter.encode() if isinstance(framing, Delimited) else b""


def _read_length_prefixed(framing: Framing, wire: bytes) -> End:
    assert isinstance(framing, LengthPrefixed)
    found: list[bytes] = []
    rest = wire
    while rest:
        header, body = rest[: framing.prefix_bytes], rest[framing.prefix_bytes :]
        if len(header) < framing.prefix_bytes:
            return found, IncompleteMessage(len(header), framing.prefix_bytes)
        length = int.from_bytes(header, framing.byte_order)
        if length > framing.max_message:
            return found, MessageTooLarge(length, framing.max_message)
        if length > len(body):
            return found, IncompleteMessage(len(body), length)
        found.append(body[:length])
        rest = body[length:]
    return found, None


def _read_delimited(framing: Framing, wire: bytes) -> End:
    assert isinstance(framing, Delimited)
    delimiter, limit = framing.delimiter.encode(), framing.max_message
    found: list[bytes] = []
    *messages, rest = wire.split(delimiter)
    for message in messages:
        if len(message) > limit:
            return found, MessageTooLarge(len(message), limit)
        found.append(message)
    # Its last bytes may yet turn out to be the delimiter's first ones.
    if len(rest) - len(delimiter) + 1 > limit:
        return found, MessageTooLarge(len(rest), limit)
    return found, IncompleteMessage(len(rest), None) if rest else None
