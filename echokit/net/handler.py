"""Who is told what a connection meets, and how a connection can end."""

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from echokit.errors import EchokitError, FramingError, IncompleteMessage, MessageTooLarge, reason

if TYPE_CHECKING:
    from echokit.net.connection import Connection
    from echokit.net.stream import Stream

__all__ = ["End", "Ending", "Handler", "ending_of"]


class Ending(enum.Enum):
    """Why a connection ended."""

    CLEAN = "clean"
    TRUNCATED = "truncated"
    TOO_LARGE = "too-large"
    BAD_FRAME = "bad-frame"
    IDLE = "idle"
    MESSAGE_TIMEOUT = "message-timeout"
    SEND_TIMEOUT = "send-timeout"
    LIFETIME = "lifetime"
    RESET = "reset"
    DRAINED = "drained"
    CUT = "cut"
    ERROR = "error"

    # Each is counted under its kind, and there is one of each: an enum's own hash is that of its
    # name, in Python code.
    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True)
class End:
    """How a connection ended.

    Attributes:
        ending: The kind of end.
        error: What was wrong, where something was.
        bytes_in: Bytes read from the socket, headers and all.
        bytes_out: Bytes that the socket took.
        messages: Whole messages received.
    """

    ending: Ending
    error: Exception | None
    bytes_in: int
    bytes_out: int
    messages: int

    @property
    def why(self) -> str | None:
        """What was wrong, in words; of an error that is not echokit's or the system's, its kind."""
        if self.error is None:
            return None
        if self.ending is Ending.RESET and isinstance(self.error, OSError):
            return reason(self.error)
        if isinstance(self.error, EchokitError | OSError):
            return str(self.error)
        return f"{type(self.error).__name__}: {self.error}"


class Handler(Protocol):
    """Who is told what a connection meets."""

    def message_received(self, connection: "Connection", message: bytes) -> None:
        """A whole message has come (raw: a chunk)."""

    def all_sent(self, connection: "Stream") -> None:
        """The socket has taken what had to wait."""

    def eof_received(self, connection: "Stream") -> None:
        """The peer has finished, between two messages: `finish` or `close` now."""

    def connection_ended(self, connection: "Stream") -> None:
        """The connection is closed; `end` says how. The last call."""


def ending_of(error: Exception) -> Ending:
    """The kind of end that `error` is."""
    if isinstance(error, IncompleteMessage):
        return Ending.TRUNCATED
    if isinstance(error, MessageTooLarge):
        return Ending.TOO_LARGE
    return Ending.BAD_FRAME if isinstance(error, FramingError) else Ending.ERROR
