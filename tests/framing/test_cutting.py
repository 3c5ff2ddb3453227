"""Plain streams cut into messages: by size, or into lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echokit.errors import MessageTooLarge
from echokit.framing.base import Framing
from echokit.framing.cutting import Cutter
from echokit.framing.delimited import Delimited
from echokit.framing.length_prefixed import LengthPrefixed
from echokit.framing.raw import Raw
from tests.framing.decoding import cuts, pieces


def _cut(cutter: Cutter, chunks: list[bytes]) -> list[bytes]:
    return [message for chunk in chunks for message in cutter.cut(chunk)] + cutter.finish()


@given(data=st.binary(max_size=100), places=cuts, size=st.integers(1, 110))
def test_pieces_are_of_the_size_at_most_and_together_the_stream(
    data: bytes, places: list[int], size: int
) -> None:
    messages = _cut(Cutter(size), pieces(data, places))
    assert b"".join(messages) == data
    assert all(1 <= len(message) <= size for message in messages)


def test_each_read_is_cut_at_once_and_nothing_is_held_back() -> None:
    cutter = Cutter(4)
    assert cutter.cut(b"ab") == [b"ab"]
    assert cutter.cut(b"cdef") == [b"cdef"]
    assert cutter.cut(b"ghijklmno") == [b"ghij", b"klmn", b"o"]
    assert cutter.finish() == []


@pytest.mark.parametrize("framing", [Raw(), LengthPrefixed()], ids=lambda framing: framing.type)
def test_framings_that_carry_anything_cut_by_size(framing: Framing) -> None:
    cutter = framing.cutter(3)
    assert cutter.separator == b""
    assert _cut(cutter, [b"a\nb\nc"]) == [b"a\nb", b"\nc"]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (b"", []),
        (b"one", [b"one"]),
        (b"one\n", [b"one"]),
        (b"one\ntwo", [b"one", b"two"]),
        (b"one\ntwo\n", [b"one", b"two"]),
        (b"\n", [b""]),
        (b"\n\n", [b"", b""]),
        (b"one\n\ntwo\r\n", [b"one", b"", b"two\r"]),
    ],
)
def test_a_text_is_cut_into_its_lines_with_and_without_a_last_newline(
    text: bytes, lines: list[bytes]
) -> None:
    for chunks in ([text] if text else [], pieces(text, range(len(text)))):
        # Lines are as long as they are: the size is for streams without any.
        assert _cut(Delimited().cutter(1), chunks) == lines


def test_a_line_comes_as_soon_as_its_end_has_been_read() -> None:
    cutter = Delimited().cutter(16)
    assert cutter.cut(b"one\ntw") == [b"one"]
    assert cutter.cut(b"o\n") == [b"two"]
    assert cutter.finish() == []


@given(
    delimiter=st.text(alphabet="ab", min_size=1, max_size=3),
    stream=st.lists(st.sampled_from(b"abc"), max_size=40).map(bytes),
    places=cuts,
)
def test_what_was_cut_at_delimiters_is_the_stream_again_with_them_between(
    delimiter: str, stream: bytes, places: list[int]
) -> None:
    framing = Delimited(delimiter=delimiter)
    cutter = framing.cutter(1)
    assert cutter.separator == delimiter.encode()
    messages = [message for piece in pieces(stream, places) for message in cutter.cut(piece)]
    rest = cutter.finish()
    assert len(rest) <= 1
    assert b"".join(message + cutter.separator for message in messages) + b"".join(rest) == stream
    # Whatever a delimiter ended, the framing can carry.
    assert b"".join(map(framing.encode, messages)) + b"".join(rest) == stream


@pytest.mark.parametrize("chunks", [[b"a\nabc\nd"], [b"a\nab", b"c\nd"], [b"a\nabcd"]])
def test_a_line_over_the_limit_is_refused_where_it_is_cut(chunks: list[bytes]) -> None:
    # Else a stream without any delimiter would stand in memory whole.
    with pytest.raises(MessageTooLarge, match=r"over the limit of 2$"):
        _cut(Delimited(max_message=2).cutter(1), chunks)


@pytest.mark.parametrize(("limit", "size", "most"), [(2, 16, 2), (16, 2, 2), (0, 16, 1)])
def test_pieces_are_no_longer_than_the_framing_can_carry(limit: int, size: int, most: int) -> None:
    # Where it can carry nothing, its encode() says so of the first byte.
    cutter = LengthPrefixed(max_message=limit).cutter(size)
    assert cutter.cut(b"x" * 10) == [b"x" * most] * (10 // most)
