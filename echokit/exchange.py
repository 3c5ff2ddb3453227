"""One exchange's bookkeeping: where its messages come from, and what has still to come back."""

import itertools
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from echokit.errors import EchoMismatch

__all__ = ["Exchange", "Messages", "Outstanding", "Source"]


class Source(Protocol):
    """Where the messages of an exchange come from."""

    def fileno(self) -> int | None:
        """A descriptor to wait for before `read`; None where `read` never has to wait."""

    def read(self) -> list[bytes] | None:
        """The next messages, maybe none yet; None at the end."""


class Messages:
    """A `Source` of messages that are there, or are made when they are asked for."""

    def __init__(self, messages: Iterable[bytes]) -> None:
        self._messages = iter(messages)

    def fileno(self) -> None:
        """Never has to wait."""

    def read(self) -> list[bytes] | None:
        """The next message; None at the end."""
        message = next(self._messages, None)
        return None if message is None else [message]


_STRIDE = 64 << 10
# About what a message takes besides its bytes: its object, and its place in a queue.
_EACH = 64


@dataclass(frozen=True, slots=True)
class Exchange:
    """What an exchange came to.

    Attributes:
        messages: How many messages went out and came back.
        payload_bytes: How many bytes they have together, without framing.
        seconds: From before the first was sent until the last was back.
    """

    messages: int
    payload_bytes: int
    seconds: float


class Outstanding:
    """What was sent and has not come back.

    Args:
        stream: Whether only the bytes count (raw), or also where messages end.

    Attributes:
        messages: How many messages were sent.
        sent: Their bytes.
        received: How many bytes have come back as they were sent.
    """

    def __init__(self, *, stream: bool) -> None:
        self._stream = stream
        self._waiting: deque[bytes] = deque()
        # How much of the first has come back, where only bytes count.
        self._matched = 0
        self.messages = 0
        self.sent = 0
        self.received = 0

    @property
    def waiting(self) -> bool:
        """Whether anything has still to come back."""
        return bool(self._waiting)

    @property
    def held(self) -> int:
        """What is kept to compare, in bytes: also an empty message takes memory."""
        return self.sent - self.received + _EACH * len(self._waiting)

    def add(self, message: bytes) -> None:
        """Note that `message` was sent."""
        self.messages += 1
        self.sent += len(message)
        # In a stream an empty message is nothing to wait for.
        if message or not self._stream:
            self._waiting.append(message)

    def take_back(self, message: bytes) -> None:
        """Note that `message`, added last, was not sent after all."""
        self.messages -= 1
        self.sent -= len(message)
        if message or not self._stream:
            self._waiting.pop()

    def match(self, data: bytes) -> None:
        """Hold `data`, a message or a piece of the stream, against what has to come back next.

        Raises:
            EchoMismatch: It is something else.
        """
        if not self._stream:
            if not self._waiting or self._waiting[0] != data:
                raise self._mismatch(self._waiting[0] if self._waiting else b"", data)
            self._waiting.popleft()
            self.received += len(data)
            return
        at = 0
        while at < len(data):
            first = self._waiting[0] if self._waiting else b""
            size = min(len(first) - self._matched, len(data) - at)
            expected = first[self._matched : self._matched + size]
            piece = data[at : at + max(size, 1)]
            if piece != expected:
                raise self._mismatch(expected, piece)
            at += size
            self.received += size
            self._matched += size
            if self._matched == len(first):
                self._waiting.popleft()
                self._matched = 0

    def _mismatch(self, expected: bytes, found: bytes) -> EchoMismatch:
        # Past what is alike in large pieces, to the byte that is not.
        alike = 0
        while expected[alike : alike + _STRIDE] == found[alike : alike + _STRIDE] != b"":
            alike += _STRIDE
        pairs = itertools.zip_longest(expected[alike:], found[alike:])
        # Nothing and nothing differ, too: an empty message that was not sent.
        at, (sent, received) = next(
            ((at, pair) for at, pair in enumerate(pairs) if pair[0] != pair[1]), (0, (None, None))
        )
        return EchoMismatch(self.received + alike + at, sent, received)
