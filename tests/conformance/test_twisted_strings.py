"""Twisted's own tests for length-prefixed protocols, run on ours; and each reads the other.

Twisted calls them strings: Int8, Int16 and Int32 strings stand behind 1, 2 and 4 bytes of length.
"""

import unittest
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.protocols import basic
from twisted.protocols.test import test_basic

from echokit.errors import MessageTooLarge
from echokit.framing.length_prefixed import LengthPrefixed
from tests.framing.decoding import cuts, decoded, pieces

if TYPE_CHECKING:
    from echokit.framing.base import Decoder


class _Strings(Protocol):
    """What Twisted's IntNStringReceiver is, made of our framing; the names are Twisted's."""

    prefixLength: ClassVar[int]  # noqa: N815 - Twisted's name
    structFormat: ClassVar[str]  # noqa: N815 - Twisted's name
    MAX_LENGTH = 50
    # Twisted's interfaces, as its transports are declared, have methods without a self.
    transport: Any

    def __init__(self) -> None:
        self.received: list[bytes] = []
        # Made when something comes: until then the limit may be changed.
        self._decoder: Decoder | None = None

    @property
    def _framing(self) -> LengthPrefixed:
        limit = min(self.MAX_LENGTH, 256**self.prefixLength - 1)
        return LengthPrefixed.model_validate(
            {"prefix_bytes": self.prefixLength, "max_message": limit}
        )

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        if self._decoder is None:
            self._decoder = self._framing.decoder()
        self._decoder.receive_data(data)
        try:
            while (message := self._decoder.next_message()) is not None:
                self.received.append(message)
        except MessageTooLarge as error:
            self.lengthLimitExceeded(error.size)

    def lengthLimitExceeded(self, length: int) -> None:  # noqa: ARG002, N802 - Twisted's name
        self.transport.loseConnection()

    def sendString(self, string: bytes) -> None:  # noqa: N802 - Twisted's name
        self.transport.write(self._framing.encode(string))


class _Strings8(_Strings):
    prefixLength, structFormat = 1, "!B"  # noqa: N815 - Twisted's name


class _Strings16(_Strings):
    prefixLength, structFormat = 2, "!H"  # noqa: N815 - Twisted's name


class _Strings32(_Strings):
    prefixLength, structFormat = 4, "!I"  # noqa: N815 - Twisted's name


# Twisted runs the mixin's tests with these strings.


class TestOneByte(test_basic.IntNTestCaseMixin, unittest.TestCase):
    """Int8 strings."""

    protocol = _Strings8
    strings = test_basic.Int8Tests.strings
    illegalStrings = test_basic.Int8Tests.illegalStrings  # noqa: N815 - Twisted's name
    partialStrings = test_basic.Int8Tests.partialStrings  # noqa: N815 - Twisted's name


class TestTwoBytes(test_basic.IntNTestCaseMixin, unittest.TestCase):
    """Int16 strings."""

    protocol = _Strings16
    strings = test_basic.Int16Tests.strings
    illegalStrings = test_basic.Int16Tests.illegalStrings  # noqa: N815 - Twisted's name
    partialStrings = test_basic.Int16Tests.partialStrings  # noqa: N815 - Twisted's name


class TestFourBytes(test_basic.IntNTestCaseMixin, unittest.TestCase):
    """Int32 strings."""

    protocol = _Strings32
    strings = test_basic.Int32Tests.strings
    illegalStrings = test_basic.Int32Tests.illegalStrings  # noqa: N815 - Twisted's name
    partialStrings = test_basic.Int32Tests.partialStrings  # noqa: N815 - Twisted's name


@pytest.mark.parametrize(
    ("prefix_bytes", "theirs"),
    [
        (1, basic.Int8StringReceiver),
        (2, basic.Int16StringReceiver),
        (4, basic.Int32StringReceiver),
    ],
    ids=["1", "2", "4"],
)
@given(messages=st.lists(st.binary(max_size=255), max_size=8), places=cuts)
def test_each_writes_the_same_and_reads_what_the_other_wrote(
    prefix_bytes: int,
    theirs: type[basic.IntNStringReceiver],
    messages: list[bytes],
    places: list[int],
) -> None:
    framing = LengthPrefixed.model_validate({"prefix_bytes": prefix_bytes})
    transport: Any = StringTransport()  # type: ignore[no-untyped-call] # Twisted has no types here
    receiver: Any = theirs()
    receiver.makeConnection(transport)
    received: list[bytes] = []
    receiver.stringReceived = received.append
    for message in messages:
        receiver.sendString(message)
    wire = transport.value()
    assert wire == b"".join(map(framing.encode, messages))
    for piece in pieces(wire, places):
        receiver.dataReceived(piece)
    assert received == messages
    assert decoded(framing.decoder(), pieces(wire, places)) == (messages, None)
