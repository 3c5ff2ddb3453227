"""The commands on a terminal, under bytes, names and configs that somebody else chose."""

import json
import os
import pty
import select
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

import pytest

from tests.cli.peers import client, receive, serving_once
from tests.cli.processes import DEADLINE, environment, forks, run
from tests.observe.terminal import HOSTILE, Driven, bytes_of, on_terminal, seen

PAYLOADS = [payload for payload, _ in HOSTILE.values()]
# argv and file names have no NUL, and file names no slash.
NAMES = [payload for payload in PAYLOADS if b"\0" not in payload and b"/" not in payload]


class _OnTerminal:
    """A command whose stdout and stderr are one terminal, as a person's are."""

    def __init__(self, *args: str | bytes) -> None:
        self._ours, theirs = pty.openpty()
        try:
            streams = (subprocess.DEVNULL, theirs, theirs)
            self.process = forks.fork(args, streams, environment({"TERM": "xterm"}))
        finally:
            os.close(theirs)
        self.given = b""
        self._deadline = time.monotonic() + DEADLINE

    def read_until(self, text: bytes) -> None:
        """Read on until `text` has been given to the terminal."""
        while text not in self.given:
            assert self._read(), f"it ended after {self.given!r}"

    def end(self) -> int:
        """Read to its end; its exit code."""
        while self._read():
            pass
        return self.process.wait(DEADLINE)

    def _read(self) -> bool:
        left = max(0.0, self._deadline - time.monotonic())
        ready, _, _ = select.select([self._ours], [], [], left)
        assert ready, f"nothing more came within {DEADLINE:g}s after {self.given!r}"
        try:
            data = os.read(self._ours, 65536)
        except OSError:
            # So a terminal tells that nobody writes to it any more.
            return False
        self.given += data
        return bool(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)


def _payload(row: str, word: str = "received") -> bytes:
    """What stands between the quotes of a row."""
    assert row.startswith(f'{word} "'), row
    assert row.endswith('"'), row
    return bytes_of(row.removeprefix(f'{word} "').removesuffix('"'))


# Whole runs, on a terminal.


def test_a_server_shows_each_hostile_client_in_the_rows_of_any_other(host: str) -> None:
    options = ("--host", host, "--port", "0", "--chunk-size", "64k")
    with _OnTerminal("serve", *options) as server:
        server.read_until(b"waiting for a connection")
        port = int(server.given.partition(b" port ")[2].split()[0])
        names = []
        for number, payload in enumerate(PAYLOADS, 2):
            with client(host, port) as sock:
                names.append(sock.getsockname()[:2])
                sock.sendall(payload)
                sock.shutdown(socket.SHUT_WR)
                assert receive(sock, 65536) == payload
            # One at a time, so that the order of the rows is known.
            while server.given.count(b"waiting for a connection") < number:
                assert server._read()
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0
    # The last two are what has been counted.
    first, second, *rows = seen(server.given, 2 + 6 * len(PAYLOADS) + 2)[:-2]
    assert (first, second) == (f"starting up on {host} port {port}", "waiting for a connection")
    assert [_payload(row) for row in rows[1::6]] == PAYLOADS
    for number, name in enumerate(names):
        connection, _, sending, received, no_more, waiting = rows[6 * number : 6 * number + 6]
        assert [connection, sending, received, no_more, waiting] == [
            f"connection from {name}",
            "sending data back to the client",
            'received ""',
            f"no more data from {name}",
            "waiting for a connection",
        ]


def test_a_client_shows_what_it_sends_and_what_comes_back_in_rows_of_their_own(
    host: str, tmp_path: Path
) -> None:
    # A file has NULs, too; and the whole of it comes as one message.
    framing = tmp_path / "framing.yaml"
    framing.write_text("framing: {type: length-prefixed, prefix_bytes: 2}\n")
    payload = tmp_path / "payload"
    payload.write_bytes(b"".join(PAYLOADS))
    with serving_once(host, _echo) as port:
        options = ("--host", host, "--port", str(port), "--config", str(framing))
        with _OnTerminal("send", *options, "--file", str(payload)) as sending:
            assert sending.end() == 0
    first, sent, received, last = seen(sending.given, 4)
    assert first == f"connecting to {host} port {port}"
    assert _payload(sent, "sending") == _payload(received) == payload.read_bytes()
    assert last == "closing socket"


def _echo(sock: socket.socket) -> None:
    while data := sock.recv(65536):
        sock.sendall(data)


@pytest.mark.parametrize("output", ["transcript", "json", "quiet"])
def test_an_answer_that_is_not_what_was_sent_is_told_without_driving_anything(
    host: str, output: str
) -> None:
    def answer(sock: socket.socket) -> None:
        sock.recv(1)
        sock.sendall(b"\x1b[2J\x1b]0;owned\x07")
        receive(sock, 65536)

    with serving_once(host, answer) as port:
        args = ("--host", host, "--port", str(port), "--output", output, "x")
        with _OnTerminal("send", *args) as sending:
            assert sending.end() == 1
    rows = seen(sending.given, {"transcript": 5, "json": 7, "quiet": 1}[output])
    assert rows[-1] == "echokit: echo differs at byte 0: sent 0x78, received 0x1b"


def test_json_of_a_server_is_its_events_and_no_others(host: str) -> None:
    with _OnTerminal("serve", "--host", host, "--port", "0", "--output", "json") as server:
        server.read_until(b"\n")
        port = json.loads(server.given)["port"]
        for number, payload in enumerate(PAYLOADS, 1):
            with client(host, port) as sock:
                sock.sendall(payload)
                sock.shutdown(socket.SHUT_WR)
                assert receive(sock, 65536) == payload
            while server.given.count(b'"end"') < number:
                assert server._read()
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0
    lines = server.given.count(b"\r\n")
    events = [json.loads(row) for row in seen(server.given, lines)]
    assert {event["event"] for event in events} == {
        "listening",
        "connection",
        "message",
        "end",
        "counters",
    }
    assert sum(event["size"] for event in events if "size" in event) == len(b"".join(PAYLOADS))


# Words of others in what commands print, by whatever way they came.

# Short enough for a file's name, and with something of every kind.
NASTY = (
    b"\x1b]0;owned\x07\x1b[2J\xc2\x9b1;1H\r\b\t\x7f\nechokit: forged\v\x1c"
    + "\x85\u2028\u2029\u202e\u2066\u200f\U000e0041".encode()
    + b"\xff"
)
NOWHERE = ("--port", "1", "--connect-timeout", "2s")
# Ways for it into an error: the arguments, where NASTY stands for itself.
WAYS: dict[str, tuple[str | bytes, ...]] = {
    "a command": (NASTY,),
    "an option": ("serve", b"--" + NASTY),
    "an argument": ("serve", "--", NASTY),
    "a file to check": ("config", "check", b"/nowhere/" + NASTY + b".yaml"),
    "a file of an unknown kind": ("config", "check", NASTY),
    "a config": ("serve", "--config", b"/nowhere/" + NASTY + b".toml"),
    "a config to show": ("config", "show", "--config", b"/nowhere/" + NASTY + b".yml"),
    "a file to send": ("send", *NOWHERE, "--file", b"/nowhere/" + NASTY),
    "a host": ("send", *NOWHERE, "--host", NASTY, "x"),
    "a host to serve": ("serve", "--host", NASTY),
    "a scope": ("send", *NOWHERE, "--host", b"fe80::1%" + NASTY, "x"),
    "a port": ("serve", "--port", NASTY),
    "a family": ("serve", "--family", NASTY),
    "a framing": ("serve", "--framing", NASTY),
    "a size": ("serve", "--chunk-size", NASTY),
    "pieces": ("serve", "--segment", NASTY),
    "a time": ("serve", "--drain-timeout", NASTY),
    "an output": ("send", *NOWHERE, "--output", NASTY, "x"),
    "a count": ("send", *NOWHERE, "--count", NASTY, "x"),
}


def _shown(output: bytes, lines: int) -> list[str]:
    return seen(on_terminal(output), lines)


@pytest.mark.parametrize("args", WAYS.values(), ids=WAYS)
def test_an_error_is_one_row_whatever_it_quotes(args: tuple[str | bytes, ...]) -> None:
    done = run(*args)
    assert (done.code, done.out) == (2, b"")
    [row] = _shown(done.err, 1)
    assert row.startswith("echokit: ")


@pytest.mark.parametrize("way", ["a framing", "a file to check", "a host", "a file to send"])
def test_a_traceback_that_was_asked_for_drives_no_terminal_either(way: str) -> None:
    with _OnTerminal("--debug", *WAYS[way]) as command:
        assert command.end() == 2
    rows = seen(command.given, command.given.count(b"\r\n"))
    assert "Traceback (most recent call last):" in rows
    assert [row for row in rows if row.startswith("echokit: ")] == rows[-1:]


@pytest.mark.parametrize("variable", ["CONFIG", "HOST", "PORT", "FRAMING", "OUTPUT", "SEED"])
def test_an_error_of_a_variable_is_one_row(variable: str) -> None:
    done = run("serve", env={f"ECHOKIT_{variable}": os.fsdecode(NASTY)})
    assert (done.code, done.out) == (2, b"")
    [row] = _shown(done.err, 1)
    assert row.startswith("echokit: ")


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["text", "JSON"])
def test_what_holds_is_shown_with_a_files_name_as_it_is(
    as_json: tuple[str, ...], tmp_path: Path
) -> None:
    file = os.fsencode(tmp_path) + b"/" + NASTY + b".yaml"
    Path(os.fsdecode(file)).write_text(_CONFIG)
    done = run("config", "show", *as_json, "--config", file)
    assert (done.code, done.err) == (0, b"")
    rows = _shown(done.out, done.out.count(b"\n"))
    from_there = [row for row in rows if "owned" in row and ".yaml:" in row]
    assert len(from_there) == 3
    checked = run("config", "check", file)
    [row] = _shown(checked.out, 1)
    assert row.endswith(".yaml: ok")
    if not as_json:
        # What it shows is a config that says the same.
        copy = tmp_path / "copy.yaml"
        copy.write_bytes(done.out)
        again = run("config", "show", "--config", str(copy))
        delimiter = [row for row in rows if "delimiter: " in row]
        values = [row.partition("  # ")[0] for row in _shown(again.out, len(rows))]
        assert values == [row.partition("  # ")[0] for row in rows]
        assert len(delimiter) == 1


_CONFIG = 'port: 7\nframing: {type: delimited, delimiter: "\\e]0;owned\\a\\x7f\\u2028\\u202e"}\n'
_WORD = "\\x1b]0;owned\\x07\\x7f\\x9b2J\\necho\\u2028\\u202e\\ufeff"
_TOML_WORD = _WORD.replace("\\x", "\\u00")
# Configs with that word where a config can have words, and how many problems each has.
CONFIGS: dict[str, tuple[str, int]] = {
    "an unknown key": (f'"{_WORD}": 7\n', 1),
    "an unknown key in a section": (f'server: {{"{_WORD}": 7}}\nframing: {{"{_WORD}": 7}}\n', 2),
    "a key twice": (f'"{_WORD}": 7\n"{_WORD}": 8\n', 2),
    "every value": (
        "".join(
            f'{key}: "{_WORD}"\n'
            for key in ("host", "port", "family", "chunk_size", "framing", "segment", "server")
        ),
        7,
    ),
    "a framing's option": (f'framing: {{type: length-prefixed, byte_order: "{_WORD}"}}\n', 1),
    "an alias": ("host: *a\u202e\n", 1),
    "an anchor": ("host: &a\u202e b\n", 1),
    "a tag": ("host: !a%1b]0;owned%07 b\n", 1),
    "a character that YAML has not": ("host: a\x1b]0;owned\x07\n", 1),
    "a scanner's error": (f'host: "{_WORD}\n', 1),
    "a parser's error": (f'host: "{_WORD}" "{_WORD}"\n', 1),
    "TOML: an unknown key": (f'"{_TOML_WORD}" = 7\n', 1),
    "TOML: a key twice": (f'"{_TOML_WORD}" = 7\n"{_TOML_WORD}" = 7\n', 1),
    "TOML: a table twice": (f'["{_TOML_WORD}"]\n["{_TOML_WORD}"]\n', 1),
    "TOML: values": (f'host = "{_TOML_WORD}"\nframing = {{type = "{_TOML_WORD}"}}\n', 2),
    "TOML: a character that it has not": ("host = 'a\x1b]0;owned\x07'\n", 1),
}


@pytest.mark.parametrize(
    "command", [("config", "check"), pytest.param(("serve", "--config"), marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("what", CONFIGS)
def test_each_problem_of_a_config_is_one_row_whatever_it_quotes(
    what: str, command: tuple[str, ...], tmp_path: Path
) -> None:
    text, problems = CONFIGS[what]
    file = tmp_path / f"echo.{'toml' if what.startswith('TOML') else 'yaml'}"
    file.write_text(text, newline="")
    done = run(*command, str(file))
    assert (done.code, done.out) == (2, b"")
    rows = _shown(done.err, problems)
    assert all(row.startswith(f"echokit: {file}") for row in rows)


def test_a_message_with_a_delimiter_that_drives_terminals_is_refused_in_one_row(
    tmp_path: Path,
) -> None:
    file = tmp_path / "echo.yaml"
    file.write_text(_CONFIG)
    message = "a\x1b]0;owned\x07\x7f\u2028\u202eb".encode()
    done = run("send", *NOWHERE, "--config", str(file), "--", message)
    assert (done.code, done.out) == (2, b"")
    [row] = _shown(done.err, 1)
    assert "message contains the delimiter" in row


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_no_file_name_that_breaks_a_screen_breaks_one_in_what_is_printed(
    name: bytes, tmp_path: Path
) -> None:
    file = os.fsencode(tmp_path) + b"/" + name + b".yaml"
    Path(os.fsdecode(file)).write_text("port: 7\n")
    shown = run("config", "show", "--config", file).out
    assert len(_shown(shown, shown.count(b"\n"))) > 10
    # One more line than was told is what a forged one would be.
    with pytest.raises(Driven):
        _shown(os.fsencode(tmp_path) + b"/" + name + b": ok\n", 1)
