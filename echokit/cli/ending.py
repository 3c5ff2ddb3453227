"""How a command ends: which exit code, and in which words."""

import contextlib
import errno
import sys
from typing import Any

import typer

from echokit.errors import (
    ConfigError,
    DialError,
    EchokitError,
    ListenError,
    ResolveError,
    WorkerError,
    reason,
)

__all__ = ["BROKEN_PIPE", "Ended", "Terminated", "exit_code", "lines", "tell"]

FAILED = 1
USAGE = 2
UNREACHABLE = 3
INTERRUPTED = 130
BROKEN_PIPE = 141
TERMINATED = 143

# What writing to a file or device can fail with.
_FULL = (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EFBIG, errno.EDQUOT)


def tell(line: str) -> None:
    """Say `line` on stderr. One that takes nothing changes nothing of how a command ends."""
    with contextlib.suppress(OSError):
        print(f"echokit: {line}", file=sys.stderr, flush=True)


class Ended(Exception):
    """The command has ended, and has told why."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(code)


class Terminated(KeyboardInterrupt):
    """As KeyboardInterrupt, by SIGTERM."""


def exit_code(error: BaseException) -> int:
    """The exit code that `error` stands for."""
    if isinstance(error, ConfigError | typer.TyperException):
        return USAGE
    if isinstance(error, ResolveError | ListenError | DialError | WorkerError):
        return UNREACHABLE
    # That of a file that was asked for is a failure like others.
    if isinstance(error, BrokenPipeError) and error.filename is None:
        return BROKEN_PIPE
    if isinstance(error, Terminated):
        return TERMINATED
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return FAILED


def lines(error: BaseException) -> list[str]:
    """What to tell of `error`: a line each, safe to print."""
    from echokit.observe.escape import printable

    return [printable(line) for line in _lines(error)]


def _lines(error: BaseException) -> list[str]:
    if isinstance(error, ConfigError):
        return list(error.problems)
    if isinstance(error, typer.TyperException):
        return [_usage(error)]
    if isinstance(error, KeyboardInterrupt):
        return ["interrupted"]
    if isinstance(error, EchokitError | ListenError | DialError):
        return [f"{error}{_advice(error)}"]
    if isinstance(error, OSError):
        # What the network says has been told by now: this is a file, by its name, or stdout, or
        # the system is short of something.
        what = error.filename or ("cannot write to stdout" if error.errno in _FULL else None)
        return [": ".join(part for part in (what, reason(error)) if part)]
    return [
        f"internal error: {type(error).__name__}: {error}; "
        "please report it with the traceback that 'echokit --debug' shows"
    ]


def _advice(error: Exception) -> str:
    """What to do about it, where that can be said."""
    if isinstance(error, ListenError) and error.errno == errno.EADDRINUSE:
        return "; end the server that has it, or choose another --port (0: any free one)"
    if isinstance(error, ListenError) and error.errno == errno.EACCES:
        return "; ports below 1024 may be root's alone: choose another --port (0: any free one)"
    if isinstance(error, DialError) and error.errno == errno.ECONNREFUSED:
        return "; is a server listening there?"
    return ""


def _usage(error: Any) -> str:
    """A usage error's words, and the help to look at."""
    words: str = error.format_message() if hasattr(error, "format_message") else str(error)
    words = " ".join(words.split()).rstrip(".")
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "echokit"
    return f"{words[:1].lower()}{words[1:]}; see '{path} --help'"
