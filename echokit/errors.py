"""Every error that echokit raises on purpose.

    Exception
    |-- EchokitError
    |   |-- ConfigError(problems)            a configuration that cannot be used
    |   |-- ResolveError(host, reason)       a host that has no usable address
    |   |-- FramingError                     bytes that break it, or a message it cannot carry
    |   |   |-- MessageTooLarge(size, limit)
    |   |   `-- IncompleteMessage(received, expected)
    |   |-- WorkerError                      worker processes that cannot live
    |   |-- EchoMismatch(offset, sent, received)
    |   `-- EchoIncomplete(reason, received, expected)
    `-- OSError                              what the network says stays an OSError
        |-- ListenError(address, cause)
        `-- DialError(endpoint, attempts)

A decoder given hostile bytes yields messages or raises a FramingError: never any other error.
"""

import os
from collections.abc import Sequence
from typing import Any

__all__ = [
    "ConfigError",
    "DialError",
    "EchoIncomplete",
    "EchoMismatch",
    "EchokitError",
    "FramingError",
    "IncompleteMessage",
    "ListenError",
    "MessageTooLarge",
    "ResolveError",
    "WorkerError",
    "reason",
]


def reason(error: OSError) -> str:
    """What the system says of `error`, in lower case and without its number."""
    text = error.strerror or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]


class EchokitError(Exception):
    """The root of what echokit raises by itself."""


# A problem names what it found, which can be as long as a file may be.
_LONGEST_LINE = 400


def _clipped(text: str) -> str:
    """`text` as one line, without the middle of a very long one."""
    line = " ".join(text.split("\n"))
    half = _LONGEST_LINE // 2
    return line if len(line) <= _LONGEST_LINE else f"{line[:half]} ... {line[-half:]}"


class ConfigError(EchokitError):
    """A configuration that cannot be used.

    Attributes:
        problems: Every problem found, one line each, each naming its place.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        lines = (problems,) if isinstance(problems, str) else problems
        self.problems = tuple(_clipped(line) for line in lines)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)


class ResolveError(EchokitError):
    """A host name that gave no usable address.

    Attributes:
        host: The name as it was given.
        reason: Why it gave none.
    """

    def __init__(self, host: str, reason: str) -> None:
        self.host = host
        self.reason = reason
        super().__init__(host, reason)

    def __str__(self) -> str:
        return f"cannot resolve {self.host}: {self.reason}"


class FramingError(EchokitError):
    """Bytes that break the framing, or a message that the framing cannot carry."""


class MessageTooLarge(FramingError):
    """A message over the framing's limit.

    Attributes:
        size: The message's size in bytes, as declared, or as far as it had come.
        limit: The most bytes that a message may have.
    """

    def __init__(self, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(size, limit)

    def __str__(self) -> str:
        return f"message of {self.size} bytes is over the limit of {self.limit}"


class IncompleteMessage(FramingError):
    """A stream that ended inside a message.

    Attributes:
        received: How many bytes of the unfinished part (a header or a body) had come.
        expected: How many bytes that part has; None where nothing tells.
    """

    def __init__(self, received: int, expected: int | None) -> None:
        self.received = received
        self.expected = expected
        super().__init__(received, expected)

    def __str__(self) -> str:
        of = "" if self.expected is None else f" of {self.expected}"
        return f"stream ended inside a message, after {self.received}{of} bytes"


class WorkerError(EchokitError):
    """Worker processes that end as soon as they have started."""


class EchoMismatch(EchokitError):
    """What came back differs from what went out.

    Attributes:
        offset: Where the first difference stands, in bytes of payload since the start.
        sent: The byte that was sent there; None where a message, or everything, ended.
        received: The byte that came back there; None where the message ended. Both are None
            where an empty message came back that was not sent.
    """

    def __init__(self, offset: int, sent: int | None, received: int | None) -> None:
        self.offset = offset
        self.sent = sent
        self.received = received
        super().__init__(offset, sent, received)

    def __str__(self) -> str:
        if self.sent == self.received:
            return f"echo differs at byte {self.offset}: an empty message came that was not sent"
        sent, received = (
            "nothing" if byte is None else f"0x{byte:02x}" for byte in (self.sent, self.received)
        )
        return f"echo differs at byte {self.offset}: sent {sent}, received {received}"


class EchoIncomplete(EchokitError):
    """The exchange ended before everything had come back.

    Attributes:
        reason: What ended it; a reset has the OSError as its cause.
        received: How many payload bytes had come back.
        expected: How many payload bytes had been given to be sent.
    """

    def __init__(self, reason: str, received: int, expected: int) -> None:
        self.reason = reason
        self.received = received
        self.expected = expected
        super().__init__(reason, received, expected)

    def __str__(self) -> str:
        return f"{self.reason} after {self.received} of {self.expected} bytes"


class ListenError(OSError):
    """An address that could not be listened on; `errno` is the cause's.

    Attributes:
        address: The address as people write it, `[::1]:7`.
    """

    def __init__(self, address: str, cause: OSError) -> None:
        self.address = address
        super().__init__(cause.errno, cause.strerror)

    def __str__(self) -> str:
        return f"cannot listen on {self.address}: {reason(self)}"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.address, OSError(self.errno, self.strerror))


class DialError(OSError):
    """No address of an endpoint could be connected to; `errno` is the last failure's.

    Attributes:
        endpoint: What was dialled, as people write it.
        failures: Every address tried, as people write it, and its own error.
    """

    def __init__(self, endpoint: str, failures: Sequence[tuple[str, OSError]]) -> None:
        self.endpoint = endpoint
        self.failures = tuple(failures)
        code = self.failures[-1][1].errno if self.failures else None
        super().__init__(code, os.strerror(code) if code else "no address")

    def __str__(self) -> str:
        tried = "; ".join(f"{address}: {reason(error)}" for address, error in self.failures)
        return f"cannot connect to {self.endpoint}: {tried or reason(self)}"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.endpoint, self.failures)
