"""Messages behind their length: every size and byte order of it, and what breaks it."""

import struct
import tracemalloc
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from echokit.errors import IncompleteMessage, MessageTooLarge
from echokit.framing.length_prefixed import LengthPrefixed
from tests.framing.decoding import cuts, decoded, drained, failure, pieces

Order = Literal["big", "little"]
Prefix = Literal[1, 2, 4, 8]

every_prefix = pytest.mark.parametrize("prefix_bytes", [1, 2, 4, 8])
every_order = pytest.mark.parametrize("byte_order", ["big", "little"])


@every_prefix
@every_order
@pytest.mark.parametrize("size", [0, 1, 127, 128, 255])
def test_the_wire_is_the_length_in_its_byte_order_and_then_the_message(
    prefix_bytes: Prefix, byte_order: Order, size: int
) -> None:
    framing = LengthPrefixed(prefix_bytes=prefix_bytes, byte_order=byte_order)
    message = bytes(range(size))
    wire = size.to_bytes(prefix_bytes, byte_order) + message
    assert framing.encode(message) == wire
    assert decoded(framing.decoder(), [wire]) == ([message], None)
    assert decoded(framing.decoder(), pieces(wire, range(size + 8))) == ([message], None)


@every_order
def test_a_length_of_several_bytes_is_read_in_its_byte_order(byte_order: Order) -> None:
    message = b"m" * 0x0102
    order = {"big": ">", "little": "<"}[byte_order]
    for prefix_bytes, code in ((2, "H"), (4, "I"), (8, "Q")):
        framing = LengthPrefixed.model_validate(
            {"prefix_bytes": prefix_bytes, "byte_order": byte_order}
        )
        wire = struct.pack(order + code, 0x0102) + message
        assert framing.encode(message) == wire
        assert decoded(framing.decoder(), [wire]) == ([message], None)


@every_prefix
@every_order
def test_the_largest_length_that_a_prefix_can_say_is_checked_against_the_limit(
    prefix_bytes: Prefix, byte_order: Order
) -> None:
    framing = LengthPrefixed(prefix_bytes=prefix_bytes, byte_order=byte_order, max_message=7)
    error = failure(MessageTooLarge, framing.decoder(), b"\xff" * prefix_bytes)
    assert (error.size, error.limit) == (256**prefix_bytes - 1, 7)


@pytest.mark.parametrize(
    "first", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01\x02\x00\x01", b"\xff\xfb\x1f\xff"]
)
def test_another_protocol_meets_the_default_limit_with_its_first_bytes(first: bytes) -> None:
    error = failure(MessageTooLarge, LengthPrefixed().decoder(), first[:4])
    assert (error.size, error.limit) == (int.from_bytes(first[:4], "big"), 16 << 20)


@pytest.mark.parametrize(
    ("prefix_bytes", "came"), [(2, 1), (4, 1), (4, 2), (4, 3), *((8, came) for came in range(1, 8))]
)
def test_an_end_inside_a_header_tells_how_much_of_it_came(prefix_bytes: Prefix, came: int) -> None:
    framing = LengthPrefixed(prefix_bytes=prefix_bytes)
    for wire in (bytes(came), framing.encode(b"whole") + bytes(came)):
        error = failure(IncompleteMessage, framing.decoder(), wire)
        assert (error.received, error.expected) == (came, prefix_bytes)


@every_prefix
@pytest.mark.parametrize("came", [0, 1, 4])
def test_an_end_behind_a_header_tells_how_much_of_the_body_came(
    prefix_bytes: Prefix, came: int
) -> None:
    framing = LengthPrefixed(prefix_bytes=prefix_bytes)
    cut = framing.encode(b"abcde")[: prefix_bytes + came]
    for wire in (cut, framing.encode(b"whole") + cut):
        for chunks in ([wire], pieces(wire, range(len(wire))), pieces(wire, [len(wire) - came])):
            decoder = framing.decoder()
            messages, error = decoded(decoder, chunks)
            assert messages == [b"whole"] * (wire is not cut)
            assert isinstance(error, IncompleteMessage)
            assert (error.received, error.expected) == (came, 5)


@given(
    length=st.integers(0, 400),
    came=st.integers(0, 400),
    limit=st.integers(0, 400),
)
def test_a_header_decides_on_its_own_whether_its_message_is_too_large(
    length: int, came: int, limit: int
) -> None:
    framing = LengthPrefixed(prefix_bytes=2, max_message=limit)
    came = min(came, length)
    messages, error = decoded(framing.decoder(), [struct.pack(">H", length) + bytes(came)])
    if length > limit:
        assert messages == []
        assert isinstance(error, MessageTooLarge)
        assert (error.size, error.limit) == (length, limit)
    elif came < length:
        assert messages == []
        assert isinstance(error, IncompleteMessage)
        assert (error.received, error.expected) == (came, length)
    else:
        assert (messages, error) == ([bytes(length)], None)


def test_messages_before_the_one_that_is_too_large_still_come() -> None:
    decoder = LengthPrefixed(prefix_bytes=1, max_message=2).decoder()
    decoder.receive_data(b"\x01a\x02bb\x03ccc\x01d")
    assert decoder.next_message() == b"a"
    assert decoder.next_message() == b"bb"
    with pytest.raises(MessageTooLarge, match="message of 3 bytes is over the limit of 2"):
        decoder.next_message()


@pytest.mark.parametrize("announced", [(1 << 40) - 1, 1 << 40, (1 << 40) + 1, (1 << 64) - 1])
def test_no_memory_is_taken_for_a_body_that_was_only_announced(announced: int) -> None:
    decoder = LengthPrefixed(prefix_bytes=8, max_message=1 << 40).decoder()
    header = announced.to_bytes(8, "big")
    tracemalloc.start()
    try:
        decoder.receive_data(header + b"some")
        if announced > 1 << 40:
            with pytest.raises(MessageTooLarge):
                decoder.next_message()
        else:
            assert decoder.next_message() is None
            with pytest.raises(IncompleteMessage) as caught:
                decoder.receive_eof()
            assert (caught.value.received, caught.value.expected) == (4, announced)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 65536


def test_a_large_message_in_small_pieces_stands_in_memory_once() -> None:
    size, chunk = 64 << 20, bytes(range(256)) * 4
    decoder = LengthPrefixed(max_message=size).decoder()
    tracemalloc.start()
    try:
        decoder.receive_data(size.to_bytes(4, "big"))
        message = decoder.next_message()
        for _ in range(size // len(chunk)):
            assert message is None
            decoder.receive_data(chunk)
            message = decoder.next_message()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert message is not None
    assert len(message) == size
    assert message == chunk * (size // len(chunk))
    assert peak < 1.6 * size
    decoder.receive_eof()


@pytest.mark.slow
def test_a_million_frames_in_one_feed_all_come() -> None:
    framing = LengthPrefixed()
    decoder = framing.decoder()
    decoder.receive_data(
        b"".join((framing.encode(b"one mess"), framing.encode(b"another!"))) * 500_000
    )
    messages = drained(decoder)
    assert len(messages) == 1_000_000
    assert set(messages[::2]) == {b"one mess"}
    assert set(messages[1::2]) == {b"another!"}
    decoder.receive_eof()


@pytest.mark.parametrize(
    ("prefix_bytes", "limit"), [(1, 255), (2, 65535), (4, 16 << 20), (8, 16 << 20)]
)
def test_the_default_limit_is_what_the_prefix_can_say_at_most_16_mib(
    prefix_bytes: Prefix, limit: int
) -> None:
    assert LengthPrefixed(prefix_bytes=prefix_bytes).max_message == limit


@pytest.mark.parametrize(
    ("prefix_bytes", "most"), [(1, 255), (2, 65535), (4, (1 << 32) - 1), (8, 1 << 40)]
)
def test_a_limit_that_the_prefix_cannot_say_is_refused(prefix_bytes: Prefix, most: int) -> None:
    framing = LengthPrefixed(prefix_bytes=prefix_bytes, max_message=most)
    assert framing.max_message == most
    with pytest.raises(ValidationError) as caught:
        LengthPrefixed(prefix_bytes=prefix_bytes, max_message=most + 1)
    (problem,) = caught.value.errors()
    assert problem["loc"] == ("max_message",)
    assert str(most) in problem["msg"]


def test_a_limit_of_nothing_lets_empty_messages_through() -> None:
    framing = LengthPrefixed(max_message=0)
    assert decoded(framing.decoder(), [framing.encode(b"")]) == ([b""], None)
    with pytest.raises(MessageTooLarge):
        framing.encode(b"x")


@pytest.mark.parametrize(
    "options",
    [
        {"prefix_bytes": 3},
        {"prefix_bytes": 0},
        {"prefix_bytes": "4"},
        {"prefix_bytes": True},
        {"prefix_bytes": 4.0},
        {"byte_order": "middle"},
        {"byte_order": None},
        {"max_message": -1},
        {"max_message": 5.0},
        {"max_message": True},
        {"max_message": "5 k"},
        {"max_message": None},
        {"type": "raw"},
    ],
    ids=str,
)
def test_options_of_another_type_or_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        LengthPrefixed.model_validate(options)
    assert {problem["loc"] for problem in caught.value.errors()} >= {tuple(options)}


# Whole messages as they stand on the wire, for an echo.


def _frames(wire: list[bytes], framing: LengthPrefixed) -> tuple[bytes, int, str | None]:
    """What `next_frames` makes of a stream: the frames joined, how many, and how it ended."""
    decoder = framing.decoder()
    whole, total = b"", 0
    try:
        for piece in wire:
            decoder.receive_data(piece)
            while (found := decoder.next_frames()) is not None:
                frames, count = found
                assert count
                whole += frames
                total += count
        decoder.receive_eof()
    except (MessageTooLarge, IncompleteMessage) as error:
        return whole, total, repr(error)
    return whole, total, None


@every_prefix
@every_order
@given(
    messages=st.lists(st.binary(max_size=40), max_size=8), rest=st.binary(max_size=12), places=cuts
)
def test_frames_are_the_wire_of_the_messages_however_it_is_cut(
    prefix_bytes: Prefix, byte_order: Order, messages: list[bytes], rest: bytes, places: list[int]
) -> None:
    framing = LengthPrefixed(prefix_bytes=prefix_bytes, byte_order=byte_order, max_message=40)
    cut = pieces(b"".join(map(framing.encode, messages)) + rest, places)
    expected, error = decoded(framing.decoder(), cut)
    whole, total, ended = _frames(cut, framing)
    assert whole == b"".join(map(framing.encode, expected))
    assert total == len(expected)
    assert ended == (None if error is None else repr(error))


def test_frames_and_messages_may_be_taken_in_turn() -> None:
    framing = LengthPrefixed(prefix_bytes=1)
    decoder = framing.decoder()
    decoder.receive_data(b"\1a\1b\3c")
    assert decoder.next_message() == b"a"
    assert decoder.next_frames() == (b"\1b", 1)
    assert decoder.next_frames() is None
    decoder.receive_data(b"cc\1d\1e")
    assert decoder.next_frames() == (b"\3ccc", 1)
    assert decoder.next_frames() == (b"\1d\1e", 2)
    assert decoder.next_message() is None
