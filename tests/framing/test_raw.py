"""The raw stream: a chunk is a message, and nothing ever waits."""

import pytest
from pydantic import ValidationError

from echokit.framing.raw import Raw
from tests.framing.decoding import drained


def test_each_chunk_is_a_message_at_once_and_only_once() -> None:
    decoder = Raw().decoder()
    for chunk in (b"a", b"\0\n\xff", b"x" * 70000):
        decoder.receive_data(chunk)
        assert decoder.next_message() == chunk
        assert decoder.next_message() is None


def test_chunks_that_were_not_taken_come_together() -> None:
    decoder = Raw().decoder()
    decoder.receive_data(b"ab")
    decoder.receive_data(b"c")
    assert drained(decoder) == [b"abc"]


def test_the_stream_may_end_anywhere() -> None:
    decoder = Raw().decoder()
    decoder.receive_eof()
    decoder.receive_data(b"half a wor")
    drained(decoder)
    decoder.receive_eof()


def test_nothing_is_copied_on_either_way() -> None:
    chunk = bytes(1000)
    decoder = Raw().decoder()
    decoder.receive_data(chunk)
    assert decoder.next_message() is chunk
    assert Raw().encode(chunk) is chunk


def test_encode_adds_nothing_and_refuses_nothing() -> None:
    assert Raw.transparent
    for message in (b"", b"\n", b"\0" * 5, bytes(range(256))):
        assert Raw().encode(message) == message


def test_it_has_no_limit_to_set() -> None:
    with pytest.raises(ValidationError, match="max_message"):
        Raw.model_validate({"type": "raw", "max_message": 5})
