"""The exercise's two transcripts, from real processes, compared whole."""

import signal
import socket

import pytest

from echokit.observe.escape import escaped
from tests.cli.peers import client
from tests.cli.processes import COMMAND, Running, run, start
from tests.conftest import ROOT

CLASSIC = str(ROOT / "configs" / "classic.yaml")
MESSAGE = "This is the message.  It will be repeated."

SERVER = """\
starting up on localhost port {port}
waiting for a connection
connection from ('127.0.0.1', {client_port})
received "This is the mess"
sending data back to the client
received "age.  It will be"
sending data back to the client
received " repeated."
sending data back to the client
received ""
no more data from ('127.0.0.1', {client_port})
waiting for a connection
"""
CLIENT = """\
connecting to localhost port {port}
sending "This is the message.  It will be repeated."
received "This is the mess"
received "age.  It will be"
received " repeated."
closing socket
"""


def _port_of(line: str) -> str:
    """The port in `connection from ('127.0.0.1', 52186)`."""
    return line.rpartition(" ")[2].removesuffix(")")


def test_the_exercise_prints_its_two_transcripts_and_nothing_else() -> None:
    with Running("serve", "--config", CLASSIC, "--port", "0", command=COMMAND) as server:
        # Each line is there as soon as it is true, while the server runs on.
        told = server.lines(2)
        port = told[0].rpartition(" ")[2]
        sent = start("send", "--config", CLASSIC, "--port", port, MESSAGE)
        told += server.lines(10)
        done = server.end(signal.SIGINT)
    assert sent.out.decode() == CLIENT.format(port=port)
    assert (sent.code, sent.err) == (0, b"")
    expected = SERVER.format(port=port, client_port=_port_of(told[2]))
    assert told == expected.splitlines()
    assert (done.code, done.out, done.told) == (0, b"", [])


def test_with_one_space_the_chunks_are_what_truly_arrives() -> None:
    with Running("serve", "--config", CLASSIC, "--port", "0") as server:
        port = str(server.port())
        sent = run("send", "--config", CLASSIC, "--port", port, MESSAGE.replace("  ", " "))
        received = [line for line in server.lines(10) if line.startswith("received")]
    chunks = ['received "This is the mess"', 'received "age. It will be "', 'received "repeated."']
    assert sent.lines[2:-1] == chunks
    assert received == [*chunks, 'received ""']


def test_the_server_waits_again_only_when_the_last_of_several_clients_has_gone(host: str) -> None:
    with Running("serve", "--host", host, "--port", "0") as server:
        port = server.port()
        assert server.line() == "waiting for a connection"
        with client(host, port) as first, client(host, port) as second:
            names = [sock.getsockname()[:2] for sock in (first, second)]
            told = server.lines(2)
            assert told == [f"connection from {name}" for name in names]
            first.shutdown(socket.SHUT_WR)
            assert first.recv(1) == b""
            assert server.lines(2) == ['received ""', f"no more data from {names[0]}"]
            second.sendall(b"still here")
            assert server.lines(2) == [
                'received "still here"',
                "sending data back to the client",
            ]
            second.shutdown(socket.SHUT_WR)
            assert server.lines(3) == [
                'received ""',
                f"no more data from {names[1]}",
                "waiting for a connection",
            ]


# What was sent, and what the transcript may show of it.
HOSTILE = {
    "clears the screen": (b"\x1b[2J\x1b[H", r"\x1b[2J\x1b[H"),
    "sets the title": (b"\x1b]0;owned\x07", r"\x1b]0;owned\x07"),
    "one-byte CSI": ("\x9b31m".encode(), escaped("\x9b31m".encode())),
    "NULs": (b"a\0\0b", r"a\x00\x00b"),
    "not UTF-8": (b"\xff\xfe caf\xe9", r"\xff\xfe caf\xe9"),
    "forges a line": (b'"\nno more data from root\n', r"\"\nno more data from root\n"),
    "overwrites its line": (b"secret\rnothing", r"secret\rnothing"),
    "line separators": ("a\u2028b\x85c".encode(), escaped("a\u2028b\x85c".encode())),
    "turns the text around": ("\u202egnp.exe".encode(), r"\u202egnp.exe"),
    "looks like an escape": (rb"\x1b", r"\\x1b"),
    "printable": ("ñandú 日本".encode(), "ñandú 日本"),
}


def test_no_payload_can_drive_the_terminal_of_a_server_or_forge_a_line(host: str) -> None:
    with Running("serve", "--host", host, "--port", "0", "--chunk-size", "64k") as server:
        port = server.port()
        assert server.line() == "waiting for a connection"
        for payload, shown in HOSTILE.values():
            assert shown.isprintable()
            with client(host, port) as sock:
                name = sock.getsockname()[:2]
                sock.sendall(payload)
                sock.shutdown(socket.SHUT_WR)
                assert sock.recv(65536) == payload
                assert server.lines(6) == [
                    f"connection from {name}",
                    f'received "{shown}"',
                    "sending data back to the client",
                    'received ""',
                    f"no more data from {name}",
                    "waiting for a connection",
                ]
        done = server.end(signal.SIGTERM)
    assert (done.code, done.out, done.told) == (0, b"", [])


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (b"\x1b]0;owned\x07\xff\r\n\"'", b"\\x1b]0;owned\\x07\\xff\\r\\n\\\"'"),
        ("\u202eñ".encode(), b"\\u202e\xc3\xb1"),
    ],
    ids=["controls", "unicode"],
)
def test_nor_of_a_client(message: bytes, shown: bytes) -> None:
    with Running("serve", "--host", "127.0.0.1", "--port", "0", "--chunk-size", "64k") as server:
        port = str(server.port())
        args = ("--host", "127.0.0.1", "--port", port, "--chunk-size", "64k")
        done = run("send", *args, "--", message)
    assert done.out.splitlines()[1:] == [
        b'sending "' + shown + b'"',
        b'received "' + shown + b'"',
        b"closing socket",
    ]
    assert (done.code, done.err) == (0, b"")
