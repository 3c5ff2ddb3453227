"""What goes wrong is one line on stderr and the right exit code; stdout stays as it was."""

import json
import os
import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from echokit import resolve
from tests.cli.peers import receive, reserved_port, reset, serving_once
from tests.cli.processes import COMMAND, Done, Running, run, start

# Nobody listens on port 1, and none of these comes as far as trying.
NOWHERE = ("--port", "1", "--connect-timeout", "2s")

# What is asked for, and the line that it gets. All are usage errors.
USAGE: dict[str, tuple[tuple[str, ...], str]] = {
    "no such command": (("srve",), "no such command 'srve'.*; see 'echokit --help'"),
    "no such option": (("serve", "--prot", "7"), "no such option: --prot.*--port.*"),
    "one argument too many": (("serve", "--", "-x"), "got unexpected extra argument.*-x.*"),
    "an option without its value": (("send", "--port"), "option '--port' requires an argument.*"),
    "no file to check": (("config", "check"), "missing argument 'FILE'; see 'echokit config.*"),
    "both families forced": (("serve", "-4", "-6"), "-4 and -6 do not go together"),
    "forced twice": (("send", "-6", "--family", "any", "x"), "-6 and --family do not go.*"),
    "a message and a file": (("send", "x", "--file", "y"), "MESSAGE and --file do not go.*"),
    "a file that is not there": (
        ("send", "--file", "/no/file"),
        "--file: /no/file: no such.*",
    ),
    "a folder as the file": (("send", "--file", "/"), "--file: /: is a directory"),
    "port 0 to send to": (("send", "--port", "0", "x"), "port 0 means any free port.*"),
    "every address to send to": (("send", "--host", "", "x"), "the host is every address.*"),
    "the star to send to": (("send", "--host", "*", "x"), "the host is every address.*"),
    "count 0": (("send", *NOWHERE, "--count", "0", "x"), "--count: should be a whole number .*"),
    "count -1": (("send", *NOWHERE, "--count=-1", "x"), "--count: should be a whole number .*"),
    "count 10**30": (
        ("send", *NOWHERE, "--count", str(10**30), "x"),
        "(?!internal).*count.*",
    ),
    "count of stdin": (("send", *NOWHERE, "--count", "2", "-"), "--count goes with MESSAGE.*"),
    "port -1": (("serve", "--port", "-1"), "--port: should be greater.*; found -1"),
    "port 65536": (("serve", "--port", "65536"), "--port: should be less.* 65535; found 65536"),
    "port 1e3": (("serve", "--port", "1e3"), "--port: should be a whole number; found '1e3'"),
    "port with a blank": (("serve", "--port", " 7"), "--port: should be a whole.*; found ' 7'"),
    "port with a line end": (("serve", "--port", "7\n"), r"--port: should be .*; found '7\\n'"),
    "port in wide digits": (("serve", "--port", "\uff17"), "--port: should be .*; found '\uff17'"),
    "no port": (("serve", "--port", ""), "--port: should be a whole number; found ''"),
    "chunk size 0": (("serve", "--chunk-size", "0"), "--chunk-size: should be greater.*found '0'"),
    "chunk size 17MiB": (("serve", "--chunk-size", "17MiB"), "--chunk-size: should be less.*"),
    "chunk size 10 m": (("serve", "--chunk-size", "10 m"), "--chunk-size: write a size .*'10 m'"),
    "timeout -5s": (("send", "--timeout", "-5s", "x"), "--timeout: write a time .*'-5s'"),
    "timeout 0s": (("send", "--timeout", "0s", "x"), "--timeout: should be greater.*found '0s'"),
    "family 4": (("serve", "--family", "4"), "--family: should be one of AF_UNSPEC.*found '4'"),
    "framing": (("serve", "--framing", "delimted"), "--framing: .*did you mean 'delimited'.*"),
    "raw to serve": (("serve", "--output", "raw"), "--output: should be .*; found 'raw'"),
    "host [::1": (("send", *NOWHERE, "--host", "[::1", "x"), r"--host: '\[::1' is no IPv6.*"),
    "host ::1]": (("send", *NOWHERE, "--host", "::1]", "x"), r"--host: '::1\]' is no IPv6.*"),
    "host [::1]:": (("send", *NOWHERE, "--host", "[::1]:", "x"), "--host: .* is no IPv6.*"),
    "host a..b": (("send", *NOWHERE, "--host", "a..b", "x"), "--host: 'a..b' is neither.*"),
    "host of 300": (("send", *NOWHERE, "--host", "x" * 300, "x"), "--host: 'xxx.* is neither.*"),
    "host 1": (("send", *NOWHERE, "--host", "1", "x"), "--host: '1' is no IPv4 address.*"),
    "host 127.1": (("send", *NOWHERE, "--host", "127.1", "x"), "--host: .* is no IPv4 address.*"),
    "host 0177.0.0.1": (("send", *NOWHERE, "--host", "0177.0.0.1", "x"), "--host: .*zeros"),
    "host 0x7f.1": (("send", *NOWHERE, "--host", "0x7f.1", "x"), "--host: '0x7f.1' is .*"),
    "host fe80::1": (("send", *NOWHERE, "--host", "fe80::1", "x"), "--host: .* needs its inter.*"),
    "host fe80::1%": (("send", *NOWHERE, "--host", "fe80::1%", "x"), "--host: .* is no IPv6.*"),
    "host %eth0": (("send", *NOWHERE, "--host", "%eth0", "x"), "--host: '%eth0' is neither.*"),
}


@pytest.fixture(scope="module")
def usage_errors() -> dict[str, Done]:
    """How each of `USAGE` ended."""
    done = [run(*args) for args, _ in USAGE.values()]
    return dict(zip(USAGE, done, strict=True))


@pytest.mark.parametrize("what", USAGE)
def test_what_cannot_be_meant_is_told_in_one_line(what: str, usage_errors: dict[str, Done]) -> None:
    done = usage_errors[what]
    assert re.fullmatch(USAGE[what][1], done.complaint)
    assert (done.code, done.out) == (2, b"")


@pytest.mark.parametrize("group", [(), ("config",)], ids=["echokit", "echokit config"])
def test_without_a_command_the_line_says_what_is_missing(group: tuple[str, ...]) -> None:
    done = run(*group)
    assert done.code == 2
    # A reason stands before the pointer to the help.
    assert re.match(r"\w", done.complaint)
    assert "--help" in done.complaint


def test_several_wrong_options_are_told_together_a_line_each() -> None:
    done = run("serve", "--port", "-1", "--chunk-size", "x", "--drain-timeout", "soon")
    assert (done.code, done.out) == (2, b"")
    told = [line.partition(": ")[2] for line in done.err.decode().splitlines()]
    assert [line.partition(":")[0] for line in told] == [
        "--port",
        "--chunk-size",
        "--drain-timeout",
    ]


# Hosts that do not resolve.


@pytest.mark.parametrize("host", ["nosuch.invalid", "ñandú.invalid"])
def test_a_host_that_is_not_there_is_named(host: str) -> None:
    done = run("send", *NOWHERE, "--host", host, "x")
    assert done.code == 3
    assert done.complaint.startswith(f"cannot resolve {host}: ")
    assert done.lines == [f"connecting to {host} port 1"]


def test_a_server_cannot_listen_on_a_host_that_is_not_there() -> None:
    done = run("serve", "--port", "0", "--host", "nosuch.invalid")
    assert (done.code, done.out) == (3, b"")
    assert done.complaint.startswith("cannot resolve nosuch.invalid: ")


@pytest.mark.parametrize(
    "host", [b"\xff\xfe", "\x9b31m".encode(), "\u202ea.b".encode()], ids=["bytes", "CSI", "bidi"]
)
def test_a_host_that_is_no_text_cannot_drive_the_terminal(host: bytes) -> None:
    done = run("send", *NOWHERE, "--host", host, "x")
    assert done.code in (2, 3)
    assert done.complaint
    assert done.out.decode().replace("\n", "").isprintable()


@pytest.mark.parametrize("command", ["serve", "send"])
@pytest.mark.parametrize(
    ("flag", "host", "offer"),
    [("-6", "127.0.0.1", "name the host ::1"), ("-4", "::1", "name the host 127.0.0.1")],
    ids=["-6", "-4"],
)
def test_a_host_without_the_forced_family_is_offered_the_other_literal(
    command: str, flag: str, host: str, offer: str
) -> None:
    done = run(command, flag, "--host", host, "--port", "1")
    assert done.code == 3
    family = {"-4": "IPv4", "-6": "IPv6"}[flag]
    assert f"cannot resolve {host}: it is no {family} address" in done.complaint
    assert offer in done.complaint


# Servers that are not there, or do not do what they should.


def test_when_nobody_listens_every_address_is_named_with_its_reason() -> None:
    with reserved_port("127.0.0.1") as port:
        done = run("send", "--host", "localhost", "--port", str(port), "x")
        addresses = resolve("localhost", port)
    assert done.code == 3
    tried, _, advice = done.complaint.rpartition("; ")
    assert advice == "is a server listening there?"
    start = f"cannot connect to localhost:{port}: "
    assert tried.startswith(start)
    assert set(tried.removeprefix(start).split("; ")) == {
        f"{address}: connection refused" for address in addresses
    }
    assert done.lines == [f"connecting to localhost port {port}"]


def _closes_early(sock: socket.socket) -> None:
    assert receive(sock, 20) == b"x" * 20
    sock.sendall(b"x" * 7)


def _answers_otherwise(sock: socket.socket) -> None:
    assert receive(sock, 20) == b"x" * 20
    sock.sendall(b"xxxY")
    sock.recv(1)


def _answers_too_much(sock: socket.socket) -> None:
    assert receive(sock, 20) == b"x" * 20
    sock.sendall(b"x" * 20 + b"!")
    sock.recv(1)


def _says_nothing(sock: socket.socket) -> None:
    assert receive(sock, 20) == b"x" * 20
    sock.recv(1)


def _resets(sock: socket.socket) -> None:
    assert receive(sock, 20) == b"x" * 20
    reset(sock)


@pytest.mark.one_family
@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (_closes_early, "the server closed the connection after 7 of 20 bytes"),
        (_answers_otherwise, "echo differs at byte 3: sent 0x78, received 0x59"),
        (_answers_too_much, "echo differs at byte 20: sent nothing, received 0x21"),
        (_says_nothing, "no answer for 0.3s after 0 of 20 bytes"),
        (_resets, "connection reset by peer after 0 of 20 bytes"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_an_exchange_that_fails_is_told_with_its_numbers(
    answer: Callable[[socket.socket], None], complaint: str, host: str
) -> None:
    args = ("--host", host, "--timeout", "300ms", "--chunk-size", "64k", "--output", "raw")
    with serving_once(host, answer) as port:
        done = run("send", *args, "--port", str(port), "x" * 20)
    assert (done.code, done.complaint) == (1, complaint)
    # What came back before it went wrong was right, and is there.
    assert done.out + b"x" * (20 - len(done.out)) == b"x" * 20


def test_an_answer_over_the_limit_ends_the_exchange(host: str) -> None:
    def answer(sock: socket.socket) -> None:
        assert receive(sock, 6) == b"\0\0\0\2hi"
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n")
        sock.recv(1)

    with serving_once(host, answer) as port:
        args = ("--host", host, "--port", str(port), "--framing", "length-prefixed")
        done = run("send", *args, "hi")
    assert done.code == 1
    assert done.complaint == "message of 1213486160 bytes is over the limit of 16777216"


# Errors in JSON.


def _last_event(done: Done) -> dict[str, object]:
    events = [json.loads(line) for line in done.lines]
    assert [event["event"] for event in events].count("error") == 1
    last: dict[str, object] = events[-1]
    return last


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("send", "--port", "0", "x"), 2),
        (("serve", "--port", "66666"), 2),
        (("send", "--host", "nosuch.invalid", *NOWHERE, "x"), 3),
        (("serve", "--host", "nosuch.invalid"), 3),
    ],
    ids=["send-2", "serve-2", "send-3", "serve-3"],
)
def test_in_json_an_error_is_the_last_event_too(args: tuple[str, ...], code: int) -> None:
    done = run(*args, "--output", "json")
    assert done.code == code
    event = _last_event(done)
    assert (event["event"], event["exit_code"]) == ("error", code)
    assert event["message"] == done.complaint


def test_in_json_a_failed_exchange_is_the_last_event(host: str) -> None:
    with serving_once(host, _closes_early) as port:
        args = ("--host", host, "--port", str(port), "--output", "json")
        done = run("send", *args, "x" * 20)
    event = _last_event(done)
    assert event["message"] == "the server closed the connection after 7 of 20 bytes"
    assert event["exit_code"] == done.code == 1
    # As every event has.
    assert isinstance(event.get("time"), str)


# Configs.

BROKEN = """\
hots: localhost
port: "7"
chunk_size: 17MiB
server:
  output: raw
"""


@pytest.mark.parametrize("command", [("serve",), ("send", "x"), ("config", "show"), ()])
def test_every_problem_of_a_config_is_told_a_line_each(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    config = tmp_path / "broken.yaml"
    config.write_text(BROKEN)
    done = (
        run(*command, "--config", str(config)) if command else run("config", "check", str(config))
    )
    assert (done.code, done.out) == (2, b"")
    assert done.err.decode().splitlines() == [
        f"echokit: {config}:1:1: hots: unknown key; did you mean 'host'?",
        f"echokit: {config}:2:7: port: should be a whole number; found '7'",
        f"echokit: {config}:3:13: chunk_size: should be less than or equal to 16777216; "
        "found '17MiB'",
        f"echokit: {config}:5:11: server.output: should be 'transcript', 'json' or 'quiet'; "
        "found 'raw'",
    ]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("missing.yaml", None, "cannot be read: no such file or directory"),
        ("config.ini", "", "unknown kind of file: name it .yaml, .yml or .toml"),
        ("unclosed.toml", 'host = "localhost\n', ""),
        ("unclosed.yaml", "host: [\n", ""),
    ],
)
def test_a_config_that_cannot_be_read_is_one_line_with_its_name(
    name: str, content: str | None, complaint: str, tmp_path: Path
) -> None:
    config = tmp_path / name
    if content is not None:
        config.write_text(content)
    done = run("serve", "--config", str(config))
    assert (done.code, done.out) == (2, b"")
    assert done.complaint.startswith(str(config))
    assert done.complaint.endswith(complaint)


# Stdout and stderr themselves.


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("args", [("--version",), ("config", "show"), ("serve", "--port", "0")])
def test_a_stdout_that_takes_nothing_is_one_line(args: tuple[str, ...]) -> None:
    shell = ("sh", "-c", 'exec "$@" >/dev/full', "sh")
    done = start(*COMMAND, *args, command=shell)
    assert done.code == 1
    assert done.complaint == "cannot write to stdout: no space left on device"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_stderr_that_takes_nothing_does_not_change_the_exit_code() -> None:
    shell = ("sh", "-c", 'exec "$@" 2>/dev/full', "sh")
    assert start(*COMMAND, "srve", command=shell).code == 2


def test_a_reader_that_leaves_early_ends_it_without_a_word() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = start("framings", stdout=writing)
    finally:
        os.close(writing)
    assert done.code in (0, 141)
    assert done.err == b""


def test_a_server_whose_streams_are_closed_serves_all_the_same() -> None:
    host = "127.0.0.1"
    shell = ("sh", "-c", 'exec "$@" <&- 2>&-', "sh")
    with Running(*COMMAND, "serve", "--host", host, "--port", "0", command=shell) as server:
        port = server.port()
        done = run("send", "--host", host, "--port", str(port), "--output", "raw", "hello")
        assert (done.code, done.out) == (0, b"hello")
        assert server.end(signal.SIGTERM).code == 0
