"""What `echokit send` sends: a message, a file, or stdin as it comes."""

import itertools
import os
import re
import stat
import sys
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from echokit.config import Config
    from echokit.exchange import Source
    from echokit.framing.base import Framing
    from echokit.framing.cutting import Cutter

__all__ = ["Stream", "read_count", "what_to_send"]

# What is asked of a file or of stdin at a time, where no message says less.
_PIECE = 64 << 10
_MOST = 1_000_000_000


def read_count(text: str) -> int:
    """What `--count` says.

    Raises:
        ConfigError: It is no number, or none that makes sense.
    """
    from echokit.errors import ConfigError

    if not re.fullmatch(r"[0-9]{1,10}", text, re.ASCII) or not 1 <= int(text) <= _MOST:
        raise ConfigError(f"--count: should be a whole number from 1 to {_MOST}; found {text!r}")
    return int(text)


def what_to_send(
    message: str | None,
    file: Path | None,
    count: int,
    settings: "Config",
    opened: ExitStack,
) -> "tuple[Iterable[Source], int]":
    """Where it comes from, by one of three ways, and how much of it may be under way at once.

    Of several sources, each is for an exchange of its own.

    Raises:
        ConfigError: There is nothing to send, or it cannot be sent.
    """
    from echokit.client import WINDOW
    from echokit.errors import ConfigError

    if message is not None and file is not None:
        raise ConfigError("MESSAGE and --file do not go together")
    if file is not None:
        return _file(file, count, settings, opened)
    if message is not None and message != "-":
        return [_repeated(os.fsencode(message), count, settings.framing)], 0
    if count > 1:
        raise ConfigError("--count goes with MESSAGE or --file, not with stdin")
    if sys.stdin is None or (message is None and sys.stdin.isatty()):
        raise ConfigError("nothing to send: give a MESSAGE, --file, or pipe it in")
    size = _PIECE if settings.framing.transparent else settings.chunk_size
    return [Stream(sys.stdin.fileno(), settings.framing.cutter(size), "stdin")], WINDOW


class Stream:
    """A `Source` that reads a descriptor to its end, and cuts it into messages."""

    def __init__(self, fd: int, cutter: "Cutter", name: str) -> None:
        self._fd = fd
        self._name = name
        # What comes from a file or a device is there when it is asked for.
        mode = os.fstat(fd).st_mode
        self._waits = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd)
        self._cutter = cutter
        self._ended = False
        # What ends a message in what is read, and how many messages it has ended.
        self.separator = cutter.separator
        self.separated = 0

    def fileno(self) -> int | None:
        """To be waited for before each read: but a terminal tells its end only once."""
        return self._fd if self._waits and not self._ended else None

    def read(self) -> list[bytes] | None:
        """The messages that the next bytes bring to an end; None at the end."""
        if self._ended:
            return None
        try:
            data = os.read(self._fd, _PIECE)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._name) from error
        if data:
            messages = self._cutter.cut(data)
            self.separated += len(messages)
            return messages
        self._ended = True
        return self._cutter.finish() or None


def _repeated(message: bytes, count: int, framing: "Framing") -> "Source":
    from echokit.errors import ConfigError, FramingError
    from echokit.exchange import Messages

    try:
        framing.encode(message)
    except FramingError as error:
        raise ConfigError(f"cannot send this with {framing.type} framing: {error}") from error
    return Messages(itertools.repeat(message, count))


def _file(
    path: Path, count: int, settings: "Config", opened: ExitStack
) -> "tuple[Iterable[Source], int]":
    """A file: one message where the framing has messages, else a stream of pieces."""
    from echokit.client import WINDOW
    from echokit.errors import ConfigError, MessageTooLarge, reason

    limit = getattr(settings.framing, "max_message", None)
    try:
        file = opened.enter_context(path.open("rb", buffering=0))
        status = os.fstat(file.fileno())
        if settings.framing.transparent:
            if count > 1 and not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"--file: {path} is no regular file: it can be sent only once")
            return _copies(file, count, settings.framing), WINDOW
        # What is no regular file may have no end: no more is read than a message may have.
        message = _read(file, limit)
        if limit is not None and len(message) > limit:
            size = max(status.st_size, len(message))
            raise ConfigError(f"--file: {path}: {MessageTooLarge(size, limit)}")
        return [_repeated(message, count, settings.framing)], 0
    except OSError as error:
        raise ConfigError(f"--file: {path}: {reason(error)}") from error


def _read(file: FileIO, limit: int | None) -> bytes:
    """The file, or as much of it as tells that it is over `limit`."""
    pieces = []
    size = 0
    while (limit is None or size <= limit) and (piece := file.read(_PIECE)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def _copies(file: FileIO, count: int, framing: "Framing") -> "Iterator[Source]":
    """The file so many times, each from its beginning."""
    for number in range(count):
        if number:
            file.seek(0)
        yield Stream(file.fileno(), framing.cutter(_PIECE), str(file.name))
