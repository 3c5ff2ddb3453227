"""Messages that end with a delimiter: where it may stand, be cut, and overlap itself."""

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from echokit.errors import FramingError, IncompleteMessage, MessageTooLarge
from echokit.framing.delimited import Delimited
from tests.framing.decoding import cuts, decoded, drained, failure, pieces

# Of two letters, so that they overlap themselves and each other as often as can be.
delimiters = st.text(alphabet="ab", min_size=1, max_size=4)
wires = st.lists(st.sampled_from(b"ab"), max_size=40).map(bytes)


def test_a_line_ends_with_a_newline_where_nothing_else_is_said() -> None:
    framing = Delimited()
    assert framing.encode(b"one line") == b"one line\n"
    assert framing.max_message == 16 << 20
    assert decoded(framing.decoder(), [b"one\n\ntwo\r\n"]) == ([b"one", b"", b"two\r"], None)


@given(delimiter=delimiters, wire=wires, places=cuts)
def test_messages_are_what_stands_between_delimiters_from_the_left(
    delimiter: str, wire: bytes, places: list[int]
) -> None:
    *expected, rest = wire.split(delimiter.encode())
    messages, error = decoded(Delimited(delimiter=delimiter).decoder(), pieces(wire, places))
    assert messages == expected
    if rest:
        assert isinstance(error, IncompleteMessage)
        assert (error.received, error.expected) == (len(rest), None)
    else:
        assert error is None


@given(delimiter=delimiters, message=st.lists(st.sampled_from(b"ab"), max_size=6).map(bytes))
def test_encode_refuses_exactly_what_would_not_come_back_as_one_message(
    delimiter: str, message: bytes
) -> None:
    framing = Delimited(delimiter=delimiter)
    comes_back = (message + delimiter.encode()).split(delimiter.encode()) == [message, b""]
    if comes_back:
        assert framing.encode(message) == message + delimiter.encode()
    else:
        with pytest.raises(FramingError) as caught:
            framing.encode(message)
        # It is not its length that is wrong with it.
        assert type(caught.value) is FramingError


@pytest.mark.parametrize(
    ("delimiter", "message", "at"),
    [
        ("\n", b"a\nb", 1),
        ("\n", b"\n", 0),
        ("\r\n", b"abc\r\n", 3),
        ("aa", b"xa", 1),
        ("é", "né".encode(), 1),
    ],
)
def test_a_message_with_the_delimiter_in_it_is_refused_with_its_place(
    delimiter: str, message: bytes, at: int
) -> None:
    with pytest.raises(FramingError, match=rf"contains the delimiter .* at byte {at}$"):
        Delimited(delimiter=delimiter).encode(message)


@pytest.mark.parametrize("delimiter", ["\r\n", "é", "--end--", "aab", "€€"])
def test_a_delimiter_is_found_wherever_the_wire_cuts_it(delimiter: str) -> None:
    framing = Delimited(delimiter=delimiter)
    wire = framing.encode(b"first") + framing.encode(b"second")
    for place in range(1, len(wire)):
        chunks = [wire[:place], wire[place:]]
        assert decoded(framing.decoder(), chunks) == ([b"first", b"second"], None)


def test_half_a_delimiter_that_goes_on_differently_belongs_to_the_message() -> None:
    framing = Delimited(delimiter="\r\n")
    for chunks in ([b"a\rb\r\n"], [b"a\r", b"b\r", b"\n"], [b"a", b"\r", b"b", b"\r", b"\n"]):
        assert decoded(framing.decoder(), chunks) == ([b"a\rb"], None)


@pytest.mark.parametrize("delimiter", ["\n", "\r\n", "-----"])
def test_a_message_without_end_is_refused_as_soon_as_it_must_be_too_large(delimiter: str) -> None:
    decoder = Delimited(delimiter=delimiter, max_message=10).decoder()
    # The last bytes may yet turn out to be the delimiter's first ones.
    fits = 10 + len(delimiter) - 1
    for _ in range(fits):
        decoder.receive_data(b"x")
        assert decoder.next_message() is None
    error = failure(MessageTooLarge, decoder, b"x")
    assert (error.size, error.limit) == (11, 10)


def test_messages_before_the_one_that_is_too_large_still_come() -> None:
    decoder = Delimited(max_message=2).decoder()
    decoder.receive_data(b"a\nbb\nccc\nd\n")
    assert decoder.next_message() == b"a"
    assert decoder.next_message() == b"bb"
    with pytest.raises(MessageTooLarge, match="message of 3 bytes is over the limit of 2"):
        decoder.next_message()


def test_an_end_inside_a_message_tells_how_much_of_it_came() -> None:
    error = failure(IncompleteMessage, Delimited(delimiter="\r\n").decoder(), b"whole\r\nhalf\r")
    assert (error.received, error.expected) == (5, None)
    assert str(error) == "stream ended inside a message, after 5 bytes"


@pytest.mark.slow
def test_a_large_message_in_small_pieces_takes_memory_for_itself_and_its_buffer_only() -> None:
    size, chunk = 64 << 20, bytes(range(11, 139)) * 8
    decoder = Delimited(max_message=size, delimiter="\n\n").decoder()
    tracemalloc.start()
    try:
        for _ in range(size // len(chunk)):
            decoder.receive_data(chunk)
            assert decoder.next_message() is None
        decoder.receive_data(b"\n\n")
        message = decoder.next_message()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert message is not None
    assert len(message) == size
    assert message == chunk * (size // len(chunk))
    assert peak < 2.4 * size
    decoder.receive_eof()


@pytest.mark.slow
def test_a_million_frames_in_one_feed_all_come() -> None:
    framing = Delimited(delimiter="\r\n")
    decoder = framing.decoder()
    decoder.receive_data((framing.encode(b"one mess") + framing.encode(b"another!")) * 500_000)
    messages = drained(decoder)
    assert len(messages) == 1_000_000
    assert set(messages[::2]) == {b"one mess"}
    assert set(messages[1::2]) == {b"another!"}
    decoder.receive_eof()


def test_many_messages_behind_one_that_was_cut_all_come() -> None:
    decoder = Delimited().decoder()
    decoder.receive_data(b"begun")
    assert decoder.next_message() is None
    # Were the rest of the chunk copied for each of its messages, this would take minutes.
    decoder.receive_data(b" and ended\n" + b"short\n" * 500_000)
    messages = drained(decoder)
    assert messages[0] == b"begun and ended"
    assert len(messages) == 500_001


@pytest.mark.parametrize(
    "options",
    [
        {"delimiter": ""},
        {"delimiter": "x" * 65},
        {"delimiter": b"\n"},
        {"delimiter": 10},
        {"delimiter": "\ud800"},
        {"max_message": -1},
        {"max_message": (1 << 40) + 1},
        {"max_message": True},
        {"type": "raw"},
    ],
    ids=ascii,
)
def test_options_of_another_type_or_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        Delimited.model_validate(options)
    assert {problem["loc"] for problem in caught.value.errors()} == {tuple(options)}


def test_a_copy_with_another_delimiter_has_it_on_the_wire() -> None:
    framing = Delimited()
    assert framing.encode(b"a") == b"a\n"
    assert framing.model_copy(update={"delimiter": ";"}).encode(b"a") == b"a;"


def test_the_longest_delimiter_works() -> None:
    framing = Delimited(delimiter="é" * 64)
    wire = framing.encode(b"x") * 2
    assert len(wire) == 2 * 129
    assert decoded(framing.decoder(), pieces(wire, range(len(wire)))) == ([b"x", b"x"], None)
