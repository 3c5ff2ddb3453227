"""Received bytes as text that cannot do anything to a terminal, and still says every byte."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from echokit.observe.escape import escaped, printable

# Bytes where something happens, far likelier than others.
TOKENS = [
    *(b"\\", b'"', b"x", b"8", b"0", b"u", b"n", b"\n", b"\x1b[", b"\x80", b"\xc2", b"\xc2\x80"),
    *(b"\xe2\x80", "\u2028".encode(), b"\\x80", b"\\u2028", b"\\n", b"\xad", "\u00ad".encode()),
]
payloads = st.binary(max_size=12) | st.lists(st.sampled_from(TOKENS), max_size=8).map(b"".join)
# So short that two of them often begin or end alike.
short = st.lists(st.sampled_from(TOKENS), max_size=2).map(b"".join)


@pytest.mark.parametrize(
    "text", ["", "This is the message.  It will be repeated.", "müßig", "日本語", "🙂", "'`$(){}%"]
)
def test_printable_text_stands_as_it_is(text: str) -> None:
    assert escaped(text.encode()) == text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\0", r"\x00"),
        (b"a\nb\r\n", r"a\nb\r\n"),
        (b"\t", r"\t"),
        (b"\x1b[31mred\x1b]0;title\x07", r"\x1b[31mred\x1b]0;title\x07"),
        (b"\x7f", r"\x7f"),
        ("\u2028\u2029".encode(), r"\u2028\u2029"),
        ("\u202e\u2066\u200f".encode(), r"\u202e\u2066\u200f"),
        ("\ufeff\u200b\u00ad".encode()[:6], r"\ufeff\u200b"),
        ("\U000e0001".encode(), r"\U000e0001"),
        (b"\xff\xfe\x80", r"\xff\xfe\x80"),
        ("é".encode()[:1], r"\xc3"),
        (b"\xed\xa0\x80", r"\xed\xa0\x80"),
        (b"\xc0\xaf", r"\xc0\xaf"),
        (b"a\\b", r"a\\b"),
        (b'say "no"', r"say \"no\""),
        (rb"\x00", r"\\x00"),
        ("é\xff".encode("latin-1"), r"\xe9\xff"),
    ],
)
def test_what_is_not_printable_stands_as_an_escape(data: bytes, text: str) -> None:
    assert escaped(data) == text


@pytest.mark.parametrize("code", [*range(0x20), 0x7F, *range(0x80, 0xA0)])
def test_no_control_gets_through_neither_as_a_character_nor_as_a_byte(code: int) -> None:
    for data in (chr(code).encode(), bytes([code])):
        shown = escaped(b"a" + data + b"b")
        assert shown.isprintable()
        assert shown.startswith("a\\")
        assert shown.endswith("b")


@given(payloads)
def test_whatever_came_is_one_printable_line(data: bytes) -> None:
    shown = escaped(data)
    assert shown.isprintable()
    # Between quotes it ends where it ends.
    assert '"' not in shown.replace("\\\\", "").replace('\\"', "")


@pytest.mark.parametrize("code", [0x80, 0x85, 0x9B, 0xA0, 0xAD])
def test_a_character_and_the_byte_of_its_number_are_told_apart(code: int) -> None:
    assert escaped(chr(code).encode()) != escaped(bytes([code]))


@given(short, short | payloads)
@example(b"\xc2\x80", b"\x80")
@example(b"\n", rb"\n")
@example(b"\xff", rb"\xff")
@example("\u2028".encode(), rb"\u2028")
@example(b"\\", b"\\\\")
def test_what_differs_is_shown_differently(first: bytes, second: bytes) -> None:
    assert (escaped(first) == escaped(second)) == (first == second)


@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_a_large_payload_is_shown_whole(size: int) -> None:
    assert escaped(b"x" * size) == "x" * size
    assert escaped(b"\0" * size) == r"\x00" * size


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words: 'a' \"b\" \\c", "plain words: 'a' \"b\" \\c"),
        ("two\nlines", r"two\nlines"),
        ("\x1b]0;x\x07", r"\x1b]0;x\x07"),
        ("\u202egnirts", r"\u202egnirts"),
        ("name\udcff", r"name\xff"),
        ("\ud800", r"\ud800"),
    ],
)
def test_the_words_of_others_keep_their_quotes_and_lose_their_controls(
    text: str, shown: str
) -> None:
    assert printable(text) == shown
