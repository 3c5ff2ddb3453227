"""JSON lines: one object an event, one event a line, with the facts."""

import datetime as dt
import errno
import io
import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from echokit import Address, Attempt, Dialed, End, Ending, MessageTooLarge, Observer
from echokit.observe.json_lines import JsonLines

V4 = Address(socket.AF_INET, ("192.0.2.1", 50000))
V6 = Address(socket.AF_INET6, ("2001:db8::1", 50000, 0, 0))


def _event(tell: Callable[[JsonLines], None]) -> dict[str, Any]:
    """The one event that `tell` causes, without its time, which is now."""
    out = io.StringIO()
    before = dt.datetime.now(dt.UTC)
    tell(JsonLines(out))
    line = out.getvalue()
    assert line.endswith("\n")
    assert line.count("\n") == 1
    event: dict[str, Any] = json.loads(line)
    time = dt.datetime.fromisoformat(event.pop("time"))
    assert before <= time <= dt.datetime.now(dt.UTC)
    return event


def test_listening_has_every_bound_address() -> None:
    bound = [
        Address(socket.AF_INET, ("127.0.0.1", 7)),
        Address(socket.AF_INET6, ("::1", 7, 0, 0)),
    ]
    assert _event(lambda observer: observer.listening("localhost", bound)) == {
        "event": "listening",
        "host": "localhost",
        "port": 7,
        "addresses": [{"host": "127.0.0.1", "port": 7}, {"host": "::1", "port": 7}],
    }


@pytest.mark.parametrize(
    ("peer", "shown"), [(V4, "192.0.2.1:50000"), (V6, "[2001:db8::1]:50000")], ids=["ipv4", "ipv6"]
)
def test_a_connection_a_message_and_an_end_name_their_peer(peer: Address, shown: str) -> None:
    assert _event(lambda observer: observer.accepted(peer)) == {
        "event": "connection",
        "peer": shown,
    }
    assert _event(lambda observer: observer.received(peer, b"hello")) == {
        "event": "message",
        "peer": shown,
        "size": 5,
    }
    end = End(Ending.CLEAN, None, 9, 8, 1)
    assert _event(lambda observer: observer.ended(peer, end)) == {
        "event": "end",
        "peer": shown,
        "reason": "clean",
        "error": None,
        "bytes_in": 9,
        "bytes_out": 8,
        "messages": 1,
    }


@pytest.mark.parametrize("ending", Ending)
def test_an_end_has_its_reason_and_what_was_wrong(ending: Ending) -> None:
    end = End(ending, MessageTooLarge(9, 5), 4, 0, 0)
    event = _event(lambda observer: observer.ended(V4, end))
    assert (event["reason"], event["error"]) == (
        ending.value,
        "message of 9 bytes is over the limit of 5",
    )


def test_an_error_of_a_plugin_says_which_it_was() -> None:
    # The text of a KeyError is the key alone, which says nothing.
    end = End(Ending.ERROR, KeyError("x"), 4, 0, 0)
    assert "KeyError" in _event(lambda observer: observer.ended(V4, end))["error"]


def test_connected_has_the_timeline_of_the_attempts() -> None:
    refused = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    with socket.socket() as sock:
        dialed = Dialed(
            sock,
            V4,
            resolved=0.0012345,
            connected=0.2567891,
            attempts=(
                Attempt(V6, 0.002, 0.25, error=refused),
                Attempt(V4, 0.25, 0.2567891, connected=True),
            ),
        )
        event = _event(lambda observer: observer.connected(dialed))
    assert event == {
        "event": "connected",
        "address": "192.0.2.1:50000",
        "resolved_ms": 1.234,
        "connected_ms": 256.789,
        "attempts": [
            {
                "address": "[2001:db8::1]:50000",
                "began_ms": 2.0,
                "ended_ms": 250.0,
                "connected": False,
                "error": "connection refused",
                "errno": "ECONNREFUSED",
            },
            {
                "address": "192.0.2.1:50000",
                "began_ms": 250.0,
                "ended_ms": 256.789,
                "connected": True,
                "error": None,
                "errno": None,
            },
        ],
    }


@pytest.mark.parametrize(
    ("tell", "expected"),
    [
        (lambda observer: observer.warned("careful"), {"event": "warning", "message": "careful"}),
        (lambda observer: observer.draining(3), {"event": "draining", "connections": 3}),
        (
            lambda observer: observer.connecting("::1", 7),
            {"event": "connecting", "host": "::1", "port": 7},
        ),
        (lambda observer: observer.sending(b"hello"), {"event": "sending", "size": 5}),
        (lambda observer: observer.echoed(b""), {"event": "received", "size": 0}),
        (lambda observer: observer.closing(), {"event": "closing"}),
        (
            lambda observer: observer.tell("result", ok=True, messages=2),
            {"event": "result", "ok": True, "messages": 2},
        ),
    ],
    ids=["warned", "draining", "connecting", "sending", "echoed", "closing", "result"],
)
def test_every_other_event_has_its_facts(
    tell: Callable[[JsonLines], None], expected: dict[str, object]
) -> None:
    assert _event(tell) == expected


def test_no_words_of_others_end_the_line_or_drive_a_terminal() -> None:
    out = io.StringIO()
    JsonLines(out).warned("a\nb\x1b[2J\x9b31m\u2028\udcff")
    assert out.getvalue().isascii()
    assert out.getvalue().removesuffix("\n").isprintable()
    assert json.loads(out.getvalue())["message"] == "a\nb\x1b[2J\x9b31m\u2028\udcff"


class _Flushed(io.StringIO):
    """Keeps what stood in it when it was last flushed."""

    flushed = ""

    def flush(self) -> None:
        self.flushed = self.getvalue()


def test_each_line_is_flushed_as_it_is_told() -> None:
    out = _Flushed()
    observer = JsonLines(out)
    for count in range(1, 3):
        observer.draining(count)
        assert out.flushed.count("\n") == count


def test_everything_that_an_observer_is_told_is_told_on_but_waiting() -> None:
    # That no connection is open stands in the events before it, and no end is left out.
    events = {name for name, told in vars(Observer).items() if callable(told)}
    assert {name for name in events if name not in vars(JsonLines)} == {"waiting", "tell_left_out"}


def test_without_being_told_where_it_speaks_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    JsonLines().closing()
    assert json.loads(capsys.readouterr().out)["event"] == "closing"
