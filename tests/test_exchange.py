"""What was sent and has not come back, and where what came back first differs."""

from typing import SupportsIndex, cast, overload

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echokit.errors import EchoMismatch
from echokit.exchange import Messages, Outstanding, Source
from tests.framing.decoding import cuts, pieces

messages_lists = st.lists(st.binary(max_size=6), max_size=8)


def _waiting(messages: list[bytes], *, stream: bool) -> Outstanding:
    outstanding = Outstanding(stream=stream)
    for message in messages:
        outstanding.add(message)
    return outstanding


def _mismatch(outstanding: Outstanding, data: bytes) -> tuple[int, int | None, int | None]:
    with pytest.raises(EchoMismatch) as caught:
        outstanding.match(data)
    return caught.value.offset, caught.value.sent, caught.value.received


def test_a_source_of_messages_hands_out_each_and_then_its_end() -> None:
    source = Messages(iter([b"one", b"", b"two"]))
    # There is nothing to wait for before it is read.
    assert cast("Source", source).fileno() is None
    assert source.read() == [b"one"]
    assert source.read() == [b""]
    assert source.read() == [b"two"]
    assert source.read() is None
    assert source.read() is None


@pytest.mark.parametrize("stream", [True, False])
def test_the_counts_go_with_what_was_sent_and_came_back(stream: bool) -> None:
    outstanding = Outstanding(stream=stream)

    def counts() -> tuple[bool, int, int, int, int]:
        state = outstanding
        return state.waiting, state.messages, state.sent, state.received, state.held

    assert counts() == (False, 0, 0, 0, 0)
    outstanding.add(b"abc")
    outstanding.add(b"de")
    assert counts() == (True, 2, 5, 0, 5 + 2 * 64)
    outstanding.match(b"abc")
    assert counts() == (True, 2, 5, 3, 2 + 64)
    outstanding.match(b"de")
    assert counts() == (False, 2, 5, 5, 0)


@given(messages=messages_lists, places=cuts)
def test_a_stream_comes_back_in_any_pieces(messages: list[bytes], places: list[int]) -> None:
    outstanding = _waiting(messages, stream=True)
    for piece in pieces(b"".join(messages), places):
        assert outstanding.waiting
        outstanding.match(piece)
    assert not outstanding.waiting
    assert outstanding.held == 0


@given(messages=messages_lists, places=cuts, where=st.integers(0, 100), flip=st.integers(1, 255))
def test_a_flipped_byte_of_a_stream_is_told_with_its_exact_offset(
    messages: list[bytes], places: list[int], where: int, flip: int
) -> None:
    sent = b"".join(messages) or b"x"
    outstanding = _waiting(messages if any(messages) else [sent], stream=True)
    where %= len(sent)
    wrong = sent[where] ^ flip
    received = sent[:where] + bytes([wrong]) + sent[where + 1 :]
    with pytest.raises(EchoMismatch) as caught:  # noqa: PT012 - which piece raises is the question
        for piece in pieces(received, places):
            outstanding.match(piece)
    error = caught.value
    assert (error.offset, error.sent, error.received) == (where, sent[where], wrong)


@given(messages=messages_lists, extra=st.binary(min_size=1, max_size=5), places=cuts)
def test_what_comes_back_after_everything_has_is_told_at_its_offset(
    messages: list[bytes], extra: bytes, places: list[int]
) -> None:
    sent = b"".join(messages)
    outstanding = _waiting(messages, stream=True)
    with pytest.raises(EchoMismatch) as caught:  # noqa: PT012 - which piece raises is the question
        for piece in pieces(sent + extra, places):
            outstanding.match(piece)
    error = caught.value
    assert (error.offset, error.sent, error.received) == (len(sent), None, extra[0])


def test_a_stream_may_be_sent_and_come_back_by_turns() -> None:
    outstanding = Outstanding(stream=True)
    outstanding.add(b"abcd")
    outstanding.match(b"ab")
    outstanding.add(b"efgh")
    outstanding.match(b"cde")
    outstanding.add(b"")
    outstanding.match(b"fgh")
    assert not outstanding.waiting
    outstanding.add(b"i")
    assert _mismatch(outstanding, b"j") == (8, ord("i"), ord("j"))


def test_an_empty_message_is_nothing_in_a_stream_and_something_among_messages() -> None:
    assert not _waiting([b""], stream=True).waiting
    outstanding = _waiting([b""], stream=False)
    assert outstanding.waiting
    outstanding.match(b"")
    assert not outstanding.waiting


@given(messages=messages_lists)
def test_messages_come_back_as_they_were_sent(messages: list[bytes]) -> None:
    outstanding = _waiting(messages, stream=False)
    for message in messages:
        assert outstanding.waiting
        outstanding.match(message)
    assert not outstanding.waiting
    assert outstanding.received == outstanding.sent == sum(map(len, messages))


@given(before=messages_lists, sent=st.binary(max_size=6), received=st.binary(max_size=6))
def test_a_message_that_differs_is_told_with_the_offset_of_its_first_difference(
    before: list[bytes], sent: bytes, received: bytes
) -> None:
    outstanding = _waiting([*before, sent], stream=False)
    for message in before:
        outstanding.match(message)
    if sent == received:
        outstanding.match(received)
        return
    offset, byte_sent, byte_received = _mismatch(outstanding, received)
    at = offset - sum(map(len, before))
    assert sent[:at] == received[:at]
    assert byte_sent == (sent[at] if at < len(sent) else None)
    assert byte_received == (received[at] if at < len(received) else None)
    assert byte_sent != byte_received


@pytest.mark.parametrize(
    ("received", "expected"),
    [
        (b"ab", (5, ord("c"), None)),
        (b"abcd", (6, None, ord("d"))),
        (b"", (3, ord("a"), None)),
        (b"xbc", (3, ord("a"), ord("x"))),
    ],
)
def test_where_messages_end_counts(
    received: bytes, expected: tuple[int, int | None, int | None]
) -> None:
    outstanding = _waiting([b"one", b"abc"], stream=False)
    outstanding.match(b"one")
    assert _mismatch(outstanding, received) == expected


def test_two_messages_in_one_are_not_the_two() -> None:
    outstanding = _waiting([b"ab", b"cd"], stream=False)
    assert _mismatch(outstanding, b"abcd") == (2, None, ord("c"))


def test_a_message_that_nobody_waits_for_is_a_mismatch() -> None:
    assert _mismatch(Outstanding(stream=False), b"x") == (0, None, ord("x"))


def test_an_empty_message_that_nobody_waits_for_is_a_mismatch_too() -> None:
    outstanding = _waiting([b"one"], stream=False)
    outstanding.match(b"one")
    assert _mismatch(outstanding, b"") == (3, None, None)


class CountedSlices(bytes):
    """Bytes that count how many of them were copied by slicing."""

    copied = 0

    @overload
    def __getitem__(self, key: SupportsIndex, /) -> int: ...
    @overload
    def __getitem__(self, key: slice, /) -> bytes: ...
    def __getitem__(self, key: SupportsIndex | slice, /) -> int | bytes:
        if not isinstance(key, slice):
            return super().__getitem__(key)
        found = CountedSlices(super().__getitem__(key))
        CountedSlices.copied += len(found)
        return found


def test_many_small_messages_in_one_large_piece_cost_what_they_weigh(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(CountedSlices, "copied", 0)
    count = 5000
    outstanding = _waiting([b"x"] * count, stream=True)
    outstanding.match(CountedSlices(b"x" * count))
    assert not outstanding.waiting
    # Were the rest copied for each message, it would be half the square.
    assert CountedSlices.copied <= 4 * count
