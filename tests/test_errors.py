"""The errors: one tree, numbers in attributes, and words that say what happened."""

import copy
import errno
import os
import pickle
import re

import pytest

from echokit import errors
from echokit.errors import (
    ConfigError,
    DialError,
    EchoIncomplete,
    EchokitError,
    EchoMismatch,
    FramingError,
    IncompleteMessage,
    ListenError,
    MessageTooLarge,
    ResolveError,
    reason,
)

REFUSED = OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
IN_USE = OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
EVERY: list[Exception] = [
    ConfigError("echo.yaml: no"),
    ConfigError(["echo.yaml:1:1: no", "echo.yaml:2:1: nor this"]),
    ResolveError("nowhere", "no such host"),
    FramingError("message contains the delimiter"),
    MessageTooLarge(300, 255),
    IncompleteMessage(3, 5),
    IncompleteMessage(3, None),
    EchoMismatch(7, 0x61, 0x62),
    EchoMismatch(7, None, 0x62),
    EchoIncomplete("the server closed", 5, 10),
    ListenError("[::1]:7", IN_USE),
    DialError("localhost:7", [("[::1]:7", REFUSED), ("127.0.0.1:7", REFUSED)]),
]


def test_the_tree_is_as_the_docstring_draws_it() -> None:
    parents: list[type] = []
    drawn = {}
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"    ((?:\|   |    )*[|`]-- )?(\w+)(\(.*\))?(  |$)", line):
            depth = len(match[1] or "") // 4
            kind: type = (
                getattr(errors, match[2], None)
                or {
                    "Exception": Exception,
                    "OSError": OSError,
                }[match[2]]
            )
            parents[depth:] = [kind]
            if depth:
                drawn[kind.__name__] = parents[depth - 1]
    there = {name for name in errors.__all__ if name[0].isupper()}
    assert set(drawn) == there | {"OSError"}
    for name, parent in drawn.items():
        kind = getattr(errors, name, OSError)
        assert kind.__bases__ == (parent,)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (EVERY[0], "echo.yaml: no"),
        (EVERY[1], "echo.yaml:1:1: no\necho.yaml:2:1: nor this"),
        (EVERY[2], "cannot resolve nowhere: no such host"),
        (EVERY[4], "message of 300 bytes is over the limit of 255"),
        (EVERY[5], "stream ended inside a message, after 3 of 5 bytes"),
        (EVERY[6], "stream ended inside a message, after 3 bytes"),
        (EVERY[7], "echo differs at byte 7: sent 0x61, received 0x62"),
        (EVERY[8], "echo differs at byte 7: sent nothing, received 0x62"),
        (EchoMismatch(0, 0, None), "echo differs at byte 0: sent 0x00, received nothing"),
        (EVERY[9], "the server closed after 5 of 10 bytes"),
        (EVERY[10], "cannot listen on [::1]:7: address already in use"),
        (
            EVERY[11],
            "cannot connect to localhost:7: [::1]:7: connection refused;"
            " 127.0.0.1:7: connection refused",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_each_says_what_happened_with_its_numbers(error: Exception, words: str) -> None:
    assert str(error) == words


def test_each_keeps_its_numbers() -> None:
    too_large, cut = MessageTooLarge(300, 255), IncompleteMessage(3, None)
    assert (too_large.size, too_large.limit) == (300, 255)
    assert (cut.received, cut.expected) == (3, None)
    mismatch = EchoMismatch(7, None, 0)
    assert (mismatch.offset, mismatch.sent, mismatch.received) == (7, None, 0)
    incomplete = EchoIncomplete("reset", 5, 10)
    assert (incomplete.reason, incomplete.received, incomplete.expected) == ("reset", 5, 10)
    unresolved = ResolveError("nowhere", "no such host")
    assert (unresolved.host, unresolved.reason) == ("nowhere", "no such host")


def test_one_problem_is_one_and_several_are_several() -> None:
    assert ConfigError("abc").problems == ("abc",)
    assert ConfigError(["abc", "def"]).problems == ("abc", "def")


def test_what_the_network_says_is_an_oserror_with_its_number() -> None:
    listen = ListenError("[::1]:7", IN_USE)
    assert isinstance(listen, OSError)
    assert not isinstance(listen, EchokitError)
    assert (listen.errno, listen.address) == (errno.EADDRINUSE, "[::1]:7")
    dial = DialError("a:7", [("[::1]:7", OSError(errno.ETIMEDOUT, "late")), ("b:7", REFUSED)])
    assert isinstance(dial, OSError)
    assert (dial.errno, dial.endpoint) == (errno.ECONNREFUSED, "a:7")
    assert [address for address, _ in dial.failures] == ["[::1]:7", "b:7"]


def test_a_dial_error_without_any_address_still_says_something() -> None:
    error = DialError("a:7", [])
    assert error.errno is None
    assert str(error).startswith("cannot connect to a:7: ")
    assert "no address" in str(error)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (REFUSED, "connection refused"),
        (OSError("No Number"), "no Number"),
        (OSError(errno.EPIPE, "Broken pipe", "file"), "broken pipe"),
        (OSError(), "OSError"),
        (TimeoutError(), "TimeoutError"),
    ],
)
def test_a_reason_is_what_the_system_says_without_its_number(error: OSError, words: str) -> None:
    # A class's name is one, and keeps its capitals.
    assert reason(error).lower() == words.lower()


@pytest.mark.parametrize("error", EVERY, ids=lambda error: type(error).__name__)
def test_an_error_can_go_to_another_process_and_come_back(error: Exception) -> None:
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 - just made
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert repr(vars(twin)) == repr(vars(error))
