"""What is told passes a terminal emulator as lines of text, whatever peers send and choose."""

import io
import json
import re
import socket
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echokit import Address, End, Ending, FramingError, IncompleteMessage
from echokit.observe.json_lines import JsonLines
from echokit.observe.transcript import Transcript
from tests.observe.terminal import HOSTILE, Driven, bytes_of, on_terminal, seen

PEERS = {
    "ipv4": Address(socket.AF_INET, ("192.0.2.1", 50000)),
    "ipv6": Address(socket.AF_INET6, ("2001:db8::1", 50000, 0, 0)),
}
every_peer = pytest.mark.parametrize("peer", PEERS.values(), ids=PEERS)
every_payload = pytest.mark.parametrize("payload", [h[0] for h in HOSTILE.values()], ids=HOSTILE)

# Every control by itself: as a byte, and those of C1 as the character of that number, too.
CONTROLS = [
    *(bytes([code]) for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))),
    *(chr(code).encode() for code in range(0x80, 0xA0)),
]
# Pieces of sequences, which others may complete.
PIECES = [
    *(b"\x1b", b"\x1b[", b"\x1b]", b"\x9b", b"\x9d", b"\xc2\x9b", b"\xc2", b"0;", b"2J", b"1;1H"),
    *(b"\x07", b"\r", b"\n", b"\b", b"\t", b"\\", b'"', b"x1b", b"a", b" ", b"\xe2\x80", b"\xa8"),
    *("\u2028".encode(), "\u202e".encode(), "ñ".encode(), "日".encode(), b"\xff", b"\0", b"\x7f"),
]


def _told(
    tell: Callable[[Transcript], None], out_lines: int, err_lines: int = 0
) -> tuple[list[str], list[str]]:
    """The rows that a terminal shows of a transcript's stdout and stderr, so many each."""
    out, err = io.StringIO(), io.StringIO()
    tell(Transcript(out, err))
    return _rows(out, out_lines), _rows(err, err_lines)


def _rows(stream: io.StringIO, lines: int) -> list[str]:
    return seen(on_terminal(stream.getvalue().encode()), lines)


def _end(ending: Ending, error: Exception | None = None) -> End:
    return End(ending, error, 10, 7, 2)


def _words(payload: bytes) -> str:
    """A payload where words are asked for: as argv, a file name and a plugin would bring it."""
    return payload.decode("utf-8", "surrogateescape")


# The judge: what it has to see.


def test_lines_of_text_are_seen_as_they_are() -> None:
    text = "This is the message.  It will be repeated.\n\n ñandú 日本 🙂 e\u0301\n"
    assert seen(on_terminal(text.encode()), 3) == [
        "This is the message.  It will be repeated.",
        "",
        " ñandú 日本 🙂 é",
    ]
    assert seen(b"", 0) == []


@pytest.mark.parametrize(("payload", "does"), HOSTILE.values(), ids=HOSTILE)
def test_each_hostile_payload_breaks_the_screen_where_it_is_printed_raw(
    payload: bytes, does: str
) -> None:
    with pytest.raises(Driven, match=re.escape(does)):
        seen(on_terminal(b'before\nreceived "' + payload + b'"\nafter\n'), 3)


@pytest.mark.parametrize("control", CONTROLS, ids=repr)
def test_so_does_each_control_by_itself(control: bytes) -> None:
    with pytest.raises(Driven):
        seen(on_terminal(b'received "' + control + b'"\nafter\n'), 2)


# The transcript.


@every_peer
@every_payload
def test_a_payload_is_one_row_of_a_servers_transcript_that_says_every_byte(
    payload: bytes, peer: Address
) -> None:
    def life(transcript: Transcript) -> None:
        transcript.listening(peer.host, [peer])
        transcript.waiting()
        transcript.accepted(peer)
        transcript.received(peer, payload)
        transcript.ended(peer, _end(Ending.CLEAN))
        transcript.waiting()

    out, err = _told(life, 8)
    received = out.pop(3)
    assert out == [
        f"starting up on {peer.host} port 50000",
        "waiting for a connection",
        f"connection from ('{peer.host}', 50000)",
        "sending data back to the client",
        'received ""',
        f"no more data from ('{peer.host}', 50000)",
        "waiting for a connection",
    ]
    assert received.startswith('received "')
    assert bytes_of(received.removeprefix('received "').removesuffix('"')) == payload
    assert err == []


def test_every_control_is_a_row_that_says_which_it_was() -> None:
    def all_of_them(transcript: Transcript) -> None:
        for control in CONTROLS:
            transcript.received(PEERS["ipv6"], control)

    out, _ = _told(all_of_them, 2 * len(CONTROLS))
    assert out[1::2] == ["sending data back to the client"] * len(CONTROLS)
    shown = [row.removeprefix('received "').removesuffix('"') for row in out[::2]]
    assert [bytes_of(text) for text in shown] == CONTROLS


@every_payload
def test_a_payload_is_one_row_of_a_clients_transcript_going_and_coming(payload: bytes) -> None:
    def life(transcript: Transcript) -> None:
        transcript.sending(payload)
        transcript.echoed(payload)
        transcript.closing()

    out, err = _told(life, 3)
    sent, received, last = out
    assert bytes_of(sent.removeprefix('sending "').removesuffix('"')) == payload
    assert bytes_of(received.removeprefix('received "').removesuffix('"')) == payload
    assert (last, err) == ("closing socket", [])


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=10).map(b"".join), max_size=4))
def test_no_pieces_of_sequences_make_one_within_a_message_or_across(messages: list[bytes]) -> None:
    def all_of_them(transcript: Transcript) -> None:
        for message in messages:
            transcript.echoed(message)

    out, _ = _told(all_of_them, len(messages))
    shown = [row.removeprefix('received "').removesuffix('"') for row in out]
    assert [bytes_of(text) for text in shown] == messages


@every_payload
def test_a_host_that_somebody_else_chose_is_a_part_of_its_row(payload: bytes) -> None:
    def life(transcript: Transcript) -> None:
        transcript.listening(_words(payload), [PEERS["ipv4"]])
        transcript.connecting(_words(payload), 7)

    (first, second), _ = _told(life, 2)
    assert first.startswith("starting up on ")
    assert first.endswith(" port 50000")
    assert second.startswith("connecting to ")
    assert second.endswith(" port 7")


# Diagnostics.


@every_peer
@every_payload
def test_what_goes_wrong_is_one_row_on_stderr_whosever_words_tell_it(
    payload: bytes, peer: Address
) -> None:
    words = _words(payload)
    errors = [FramingError(words), RuntimeError(words), ConnectionResetError(104, words)]

    def life(transcript: Transcript) -> None:
        transcript.warned(words)
        transcript.ended(peer, _end(Ending.TRUNCATED, IncompleteMessage(3, 5)))
        for error in errors:
            transcript.ended(peer, _end(Ending.ERROR, error))

    _, err = _told(life, 0, 2 + len(errors))
    assert err[0].startswith("echokit: ")
    assert all(row.startswith(f"echokit: connection from {peer} closed: ") for row in err[1:])


# JSON lines.


@every_peer
@every_payload
def test_a_json_event_is_one_row_that_says_what_was_meant(payload: bytes, peer: Address) -> None:
    out = io.StringIO()
    words = _words(payload)
    observer = JsonLines(out)
    observer.listening(words, [peer])
    observer.received(peer, payload)
    observer.warned(words)
    observer.ended(peer, _end(Ending.BAD_FRAME, FramingError(words)))
    observer.connecting(words, 7)
    observer.sending(payload)
    observer.echoed(payload)
    observer.tell("error", message=words, exit_code=2)
    events = map(json.loads, _rows(out, 8))
    listening, received, warned, ended, connecting, sent, came, error = events
    told = [listening["host"], warned["message"], ended["error"]]
    assert told == [connecting["host"], error["message"], words] == [words] * 3
    assert received["size"] == sent["size"] == came["size"] == len(payload)


@pytest.mark.parametrize("payload", [b"\x7f", "\x9b2J".encode(), "\u202e".encode()], ids=repr)
def test_the_same_event_in_json_that_is_not_ascii_drives_a_terminal(payload: bytes) -> None:
    line = json.dumps({"message": _words(payload)}, ensure_ascii=False)
    with pytest.raises(Driven):
        seen(on_terminal(line.encode() + b"\n"), 1)
