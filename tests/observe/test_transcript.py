"""The transcript's words, event by event."""

import errno
import io
import os
import socket
from collections.abc import Callable

import pytest

from echokit import Address, End, Ending, IncompleteMessage, MessageTooLarge
from echokit.observe.transcript import Diagnostics, Transcript

V4 = Address(socket.AF_INET, ("192.0.2.1", 50000))
V6 = Address(socket.AF_INET6, ("2001:db8::1", 50000, 0, 0))
PEERS = pytest.mark.parametrize(
    ("peer", "pair", "shown"),
    [
        (V4, "('192.0.2.1', 50000)", "192.0.2.1:50000"),
        (V6, "('2001:db8::1', 50000)", "[2001:db8::1]:50000"),
    ],
    ids=["ipv4", "ipv6"],
)


def _told(tell: Callable[[Transcript], None]) -> tuple[str, str]:
    """What `tell` makes a transcript say on stdout and on stderr."""
    out, err = io.StringIO(), io.StringIO()
    tell(Transcript(out, err))
    return out.getvalue(), err.getvalue()


def _end(ending: Ending, error: Exception | None = None) -> End:
    return End(ending, error, 10, 7, 2)


@PEERS
def test_a_servers_life_in_the_exercises_words(peer: Address, pair: str, shown: str) -> None:
    def life(transcript: Transcript) -> None:
        transcript.listening("localhost", [Address(socket.AF_INET, ("127.0.0.1", 10000))])
        transcript.waiting()
        transcript.accepted(peer)
        transcript.received(peer, b"hello")
        transcript.ended(peer, _end(Ending.CLEAN))
        transcript.waiting()

    out, err = _told(life)
    assert out == (
        "starting up on localhost port 10000\n"
        "waiting for a connection\n"
        f"connection from {pair}\n"
        'received "hello"\n'
        "sending data back to the client\n"
        'received ""\n'
        f"no more data from {pair}\n"
        "waiting for a connection\n"
    )
    assert err == ""
    assert shown not in out


def test_a_clients_life_in_the_exercises_words() -> None:
    def life(transcript: Transcript) -> None:
        transcript.connecting("localhost", 10000)
        transcript.sending(b"hello")
        transcript.echoed(b"hel")
        transcript.echoed(b"lo")
        transcript.closing()

    assert _told(life) == (
        "connecting to localhost port 10000\n"
        'sending "hello"\n'
        'received "hel"\n'
        'received "lo"\n'
        "closing socket\n",
        "",
    )


@PEERS
@pytest.mark.parametrize(
    ("ending", "error", "words"),
    [
        (Ending.RESET, ConnectionResetError("reset"), "was reset"),
        (Ending.RESET, TimeoutError(110, "Connection timed out"), "was lost: connection timed out"),
        (Ending.TRUNCATED, IncompleteMessage(3, 5), "closed: stream ended inside a message, "
         "after 3 of 5 bytes"),
        (Ending.TOO_LARGE, MessageTooLarge(9, 5), "closed: message of 9 bytes is over the limit "
         "of 5"),
        (Ending.ERROR, KeyError("bug"), "closed: KeyError: 'bug'"),
        (Ending.CUT, None, "cut: it had not ended when the server did"),
    ],
    ids=lambda value: value.value if isinstance(value, Ending) else "",
)  # fmt: skip
def test_what_went_wrong_is_told_on_stderr_with_the_peer(
    peer: Address, pair: str, shown: str, ending: Ending, error: Exception | None, words: str
) -> None:
    out, err = _told(lambda transcript: transcript.ended(peer, _end(ending, error)))
    assert out == ""
    assert err == f"echokit: connection from {shown} {words}\n"
    assert pair not in err


def test_ends_that_were_left_out_are_told_at_the_end_by_their_number() -> None:
    def life(transcript: Transcript) -> None:
        for _ in range(40):
            transcript.ended(V4, _end(Ending.TOO_LARGE, MessageTooLarge(9, 5)))
        for _ in range(3):
            transcript.ended(V4, _end(Ending.CUT))
        transcript.tell_left_out(at_end=False)
        transcript.tell_left_out(at_end=True)
        transcript.tell_left_out(at_end=True)

    lines = _told(life)[1].splitlines()
    assert [" closed: " in line for line in lines] == [True] * 10 + [False] * 4
    assert lines[13] == "echokit: connections that ended as too-large: 30 more left out"


def test_a_connection_that_was_drained_is_nothing_wrong() -> None:
    assert _told(lambda transcript: transcript.ended(V4, _end(Ending.DRAINED))) == ("", "")


@pytest.mark.parametrize(("count", "some"), [(1, "1 connection"), (3, "3 connections")])
def test_draining_says_what_is_waited_for(count: int, some: str) -> None:
    assert _told(lambda transcript: transcript.draining(count)) == (
        "",
        f"echokit: stopping: finishing {some}; a second signal cuts them\n",
    )


def test_draining_says_nothing_where_nothing_is_waited_for() -> None:
    assert _told(lambda transcript: transcript.draining(0)) == ("", "")


def test_no_words_of_others_can_forge_a_line_or_drive_the_terminal() -> None:
    hostile = "a\x1b[2J\nechokit: forged\r\u202e"

    def life(transcript: Transcript) -> None:
        transcript.connecting(hostile, 1)
        transcript.listening(hostile, [V4])
        transcript.received(V4, hostile.encode())
        transcript.sending(hostile.encode())
        transcript.echoed(hostile.encode())
        transcript.warned(hostile)
        transcript.ended(V4, _end(Ending.ERROR, RuntimeError(hostile)))

    out, err = _told(life)
    assert [line.isprintable() for line in out.split("\n")] == [True] * 7
    assert [line.isprintable() for line in err.split("\n")] == [True] * 3


class _Flushed(io.StringIO):
    """Counts what has been written and flushed."""

    flushed = ""

    def flush(self) -> None:
        self.flushed = self.getvalue()


def test_each_line_is_flushed_as_it_is_told() -> None:
    out, err = _Flushed(), _Flushed()
    transcript = Transcript(out, err)
    transcript.waiting()
    assert out.flushed == "waiting for a connection\n"
    transcript.warned("careful")
    assert err.flushed == "echokit: careful\n"


def test_diagnostics_alone_have_no_words_for_what_went_well(
    capsys: pytest.CaptureFixture[str],
) -> None:
    err = io.StringIO()
    quiet = Diagnostics(err)
    quiet.listening("localhost", [V4])
    quiet.waiting()
    quiet.accepted(V4)
    quiet.received(V4, b"hello")
    quiet.ended(V4, _end(Ending.CLEAN))
    assert err.getvalue() == ""
    quiet.ended(V4, _end(Ending.TOO_LARGE, MessageTooLarge(9, 5)))
    assert err.getvalue().count("\n") == 1
    assert capsys.readouterr() == ("", "")


def test_without_being_told_where_it_speaks_on_stdout_and_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    transcript = Transcript()
    transcript.waiting()
    transcript.warned("careful")
    assert capsys.readouterr() == ("waiting for a connection\n", "echokit: careful\n")


class _Full(io.StringIO):
    """A stream on a full disk."""

    def write(self, _text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_stderr_that_takes_nothing_is_no_reason_to_end() -> None:
    out = io.StringIO()
    transcript = Transcript(out, _Full())
    transcript.warned("lost")
    transcript.waiting()
    assert out.getvalue() == "waiting for a connection\n"


def test_an_out_that_takes_nothing_ends_the_run() -> None:
    with pytest.raises(OSError, match="No space left"):
        Transcript(_Full(), io.StringIO()).waiting()
