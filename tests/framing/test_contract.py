"""What holds for every built-in framing: the invariants that `framing.base` writes down."""

import tracemalloc
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from echokit.errors import FramingError, IncompleteMessage, MessageTooLarge
from echokit.framing.base import Framing
from echokit.framing.delimited import Delimited
from echokit.framing.length_prefixed import LengthPrefixed
from echokit.framing.raw import Raw
from tests.framing.decoding import cuts, decoded, drained, mutable, pieces

# Limits are small, so that a few bytes reach them; delimiters overlap themselves, share bytes
# with each other and are cut by nearly every split.
LIMIT = 9
FRAMINGS: dict[str, Framing] = {
    "raw": Raw(),
    "1 byte": LengthPrefixed(prefix_bytes=1, max_message=LIMIT),
    "2 bytes big": LengthPrefixed(prefix_bytes=2, byte_order="big", max_message=LIMIT),
    "2 bytes little": LengthPrefixed(prefix_bytes=2, byte_order="little", max_message=LIMIT),
    "4 bytes": LengthPrefixed(prefix_bytes=4, max_message=LIMIT),
    "8 bytes little": LengthPrefixed(prefix_bytes=8, byte_order="little", max_message=LIMIT),
    "newline": Delimited(max_message=LIMIT),
    "crlf": Delimited(delimiter="\r\n", max_message=LIMIT),
    "aa": Delimited(delimiter="aa", max_message=LIMIT),
    "aba": Delimited(delimiter="aba", max_message=LIMIT),
    "non-ASCII": Delimited(delimiter="é", max_message=LIMIT),
}
DELIMITING = {name: framing for name, framing in FRAMINGS.items() if name != "raw"}

every_framing = pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
every_message_framing = pytest.mark.parametrize("framing", DELIMITING.values(), ids=DELIMITING)

# Bytes that mean something to one framing or another are far likelier here than elsewhere.
ALPHABET = b"\0\0\0\1\2\3\x09\x0aab\r\n\n\xc3\xa9\xff"
payloads = st.lists(st.sampled_from(ALPHABET), max_size=LIMIT).map(bytes) | st.binary(
    max_size=LIMIT
)
wires = st.lists(st.sampled_from(ALPHABET), max_size=40).map(bytes) | st.binary(max_size=30)


def _encodable(framing: Framing, messages: list[bytes]) -> list[bytes]:
    """Those of `messages` that `framing` can carry."""
    found = []
    for message in messages:
        try:
            framing.encode(message)
        except FramingError:
            continue
        found.append(message)
    return found


def _same_end(framing: Framing, first: FramingError | None, second: FramingError | None) -> bool:
    """Whether two streams ended alike, numbers too where these do not hang on the split."""
    if isinstance(framing, Delimited) and isinstance(first, MessageTooLarge):
        # Its size is what had come by then.
        return type(first) is type(second)
    return type(first) is type(second) and str(first) == str(second)


@every_framing
@given(wire=wires, valid=st.lists(payloads, max_size=4), places=cuts)
def test_any_bytes_in_any_split_give_the_same_messages_and_the_same_end(
    framing: Framing, wire: bytes, valid: list[bytes], places: list[int]
) -> None:
    # Whole messages first: what breaks a framing must also break it behind them.
    wire = b"".join(map(framing.encode, _encodable(framing, valid))) + wire
    at_once, end = decoded(framing.decoder(), [wire] if wire else [])
    split, split_end = decoded(framing.decoder(), pieces(wire, places))
    one_by_one, last_end = decoded(framing.decoder(), pieces(wire, range(len(wire))))
    assert _same_end(framing, end, split_end)
    assert _same_end(framing, end, last_end)
    if framing.transparent:
        assert b"".join(at_once) == b"".join(split) == b"".join(one_by_one) == wire
    else:
        assert at_once == split == one_by_one


@every_framing
@given(messages=st.lists(payloads, max_size=8), places=cuts)
def test_what_is_encoded_is_decoded_again_in_any_split(
    framing: Framing, messages: list[bytes], places: list[int]
) -> None:
    messages = _encodable(framing, messages)
    wire = b"".join(framing.encode(message) for message in messages)
    found, end = decoded(framing.decoder(), pieces(wire, places))
    assert end is None
    if framing.transparent:
        assert b"".join(found) == wire == b"".join(messages)
    else:
        assert found == messages
    assert all(type(message) is bytes for message in found)


@every_framing
@given(messages=st.lists(payloads, max_size=8), places=cuts)
def test_a_decoder_that_is_fed_before_it_is_drained_loses_nothing(
    framing: Framing, messages: list[bytes], places: list[int]
) -> None:
    messages = _encodable(framing, messages)
    wire = b"".join(framing.encode(message) for message in messages)
    decoder = framing.decoder()
    found = []
    for number, piece in enumerate(pieces(wire, places)):
        decoder.receive_data(piece)
        # Sometimes not at all, sometimes a part of what there is.
        if number % 3 == 1 and (message := decoder.next_message()) is not None:
            found.append(message)
    found += drained(decoder)
    decoder.receive_eof()
    assert b"".join(found) == wire if framing.transparent else found == messages


@every_framing
@given(messages=st.lists(payloads, max_size=5), places=cuts, undrained=st.booleans())
def test_a_buffer_that_is_written_to_again_changes_no_message(
    framing: Framing, messages: list[bytes], places: list[int], undrained: bool
) -> None:
    messages = _encodable(framing, messages)
    wire = b"".join(framing.encode(message) for message in messages)
    decoder = framing.decoder()
    found = []
    for piece in pieces(wire, places):
        buffer, data = mutable(piece)
        decoder.receive_data(data)
        # Between the feeding and the draining is when a reader would fill its buffer anew.
        buffer[:] = b"\xee" * len(buffer)
        if not undrained:
            found += drained(decoder)
    found += drained(decoder)
    decoder.receive_eof()
    assert b"".join(found) == wire if framing.transparent else found == messages
    assert all(type(message) is bytes for message in found)


@every_message_framing
@given(wire=wires, more=st.binary(min_size=1, max_size=20))
def test_a_decoder_that_failed_raises_the_same_error_for_ever(
    framing: Framing, wire: bytes, more: bytes
) -> None:
    decoder = framing.decoder()
    _, error = decoded(decoder, pieces(wire, [3]))
    assume(error is not None)
    told = (type(error), str(error))
    for _ in range(2):
        with pytest.raises(FramingError) as on_message:
            decoder.next_message()
        with pytest.raises(FramingError) as at_end:
            decoder.receive_eof()
        # A whole message does not heal it either: nobody knows where it would begin.
        decoder.receive_data(more + framing.encode(b"x"))
        assert (type(on_message.value), str(on_message.value)) == told
        assert (type(at_end.value), str(at_end.value)) == told


@every_message_framing
def test_a_decoder_that_failed_keeps_nothing_of_what_it_is_still_fed(framing: Framing) -> None:
    decoder = framing.decoder()
    decoder.receive_data(b"\x7f" * 64)
    chunk = b"\x7f" * 65536
    tracemalloc.start()
    try:
        for _ in range(32):
            with pytest.raises(MessageTooLarge):
                decoder.next_message()
            decoder.receive_data(chunk)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # One read may be held; what accumulates would be thirty-two.
    assert kept < 2 * len(chunk) + 32768


@every_message_framing
def test_the_limit_itself_passes_and_one_byte_more_does_not(framing: Framing) -> None:
    message = b"x" * LIMIT
    wire = framing.encode(message)
    assert decoded(framing.decoder(), [wire]) == ([message], None)
    # A framing without that limit writes what this one has to refuse.
    wire = framing.model_copy(update={"max_message": 255}).encode(message + b"x")
    # Cut in two at any place: its end may be what shows that it is too large.
    for places in ([], range(len(wire)), *([place] for place in range(1, len(wire)))):
        messages, error = decoded(framing.decoder(), pieces(wire, places))
        assert messages == []
        assert isinstance(error, MessageTooLarge)
        assert (error.size, error.limit) == (LIMIT + 1, LIMIT)


@every_message_framing
@given(message=st.binary(min_size=LIMIT + 1, max_size=4 * LIMIT))
def test_encode_refuses_a_message_over_the_limit(framing: Framing, message: bytes) -> None:
    with pytest.raises(MessageTooLarge) as caught:
        framing.encode(message)
    assert (caught.value.size, caught.value.limit) == (len(message), LIMIT)


@every_message_framing
def test_encode_takes_no_memory_for_a_message_over_the_limit(framing: Framing) -> None:
    message = bytes(8 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(MessageTooLarge):
            framing.encode(message)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 65536


@every_message_framing
def test_empty_messages_are_messages(framing: Framing) -> None:
    wire = framing.encode(b"") * 3 + framing.encode(b"x") + framing.encode(b"")
    for chunks in ([wire], pieces(wire, range(len(wire)))):
        assert decoded(framing.decoder(), chunks) == ([b"", b"", b"", b"x", b""], None)


@every_message_framing
def test_an_end_at_every_place_of_a_message_is_incomplete_and_between_two_clean(
    framing: Framing,
) -> None:
    message = framing.encode(b"xyz")
    wire = message + message
    for end in range(len(wire) + 1):
        messages, error = decoded(framing.decoder(), pieces(wire[:end], [1]))
        whole, rest = divmod(end, len(message))
        assert messages == [b"xyz"] * whole
        assert isinstance(error, IncompleteMessage) if rest else error is None


@every_message_framing
@pytest.mark.parametrize("places", [[], range(1, 30), [2, 5]], ids=["whole", "bytes", "pieces"])
@pytest.mark.parametrize("taking", ["next_message", "next_frames"])
def test_a_decoder_tells_whether_it_holds_part_of_a_message(
    framing: Framing, places: Iterable[int], taking: str
) -> None:
    message = framing.encode(b"xyz")
    wire = message + message
    for end in range(len(wire) + 1):
        decoder: Any = framing.decoder()
        take = getattr(decoder, taking, decoder.next_message)
        assert decoder.pending is False
        for piece in pieces(wire[:end], places):
            decoder.receive_data(piece)
            while take() is not None:
                pass
        assert decoder.pending is (end % len(message) != 0), end


@every_framing
def test_an_end_before_the_first_byte_is_clean_however_often_it_is_noted(framing: Framing) -> None:
    decoder = framing.decoder()
    assert decoder.next_message() is None
    decoder.receive_eof()
    decoder.receive_eof()


@every_framing
def test_decoders_of_one_framing_share_nothing(framing: Framing) -> None:
    wire = framing.encode(b"one")
    first, second = framing.decoder(), framing.decoder()
    first.receive_data(wire[:1])
    drained(first)
    second.receive_data(framing.encode(b"two"))
    assert drained(second) == [b"two"]
    second.receive_eof()


@every_framing
def test_a_framing_cannot_be_changed_and_knows_its_options_only(framing: Framing) -> None:
    for option in type(framing).model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(framing, option, None)
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        type(framing).model_validate({**framing.model_dump(), "speed": 3})
    twin = type(framing).model_validate(framing.model_dump())
    assert twin == framing
    assert hash(twin) == hash(framing)
    # What a decoder was made with is no part of what a framing is.
    twin.encode(b"")
    twin.decoder()
    assert twin == framing
    assert hash(twin) == hash(framing)
