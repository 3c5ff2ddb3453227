"""`echokit send` as a process: what it sends, what it hands back, and that the two are the same."""

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

import pytest

from echokit import Delimited, EchoServer
from tests.cli.peers import receive, reset, serving_once
from tests.cli.processes import DEADLINE, Running, run, start
from tests.conftest import AVAILABLE

# Each address once, also where there is only one.
HOSTS = list(AVAILABLE.values())
# A locale that knows ASCII alone.
PLAIN = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": ""}


def _to(server: EchoServer, host: str = HOSTS[0]) -> list[str]:
    return ["--host", host, "--port", str(server.port)]


# Streams.


def _copy(data: bytes, *args: str) -> None:
    """Send `data` from a file over one family, and from a pipe over the other: both come back."""
    options = ("--output", "raw", "--chunk-size", "64k", *args)
    for piped, host in ((False, HOSTS[0]), (True, HOSTS[-1])):
        done = run("send", "--host", host, *options, stdin=data, piped=piped)
        assert (done.code, done.err) == (0, b"")
        # Not compared by ==, whose explanation of a difference would be endless.
        assert len(done.out) == len(data)
        assert hashlib.sha256(done.out).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("size", [0, 1, 70_000, 5_000_000])
def test_a_stream_comes_back_byte_for_byte(
    size: int, framing: str, framed_server: EchoServer
) -> None:
    _copy(os.urandom(size), "--port", str(framed_server.port), "--framing", framing)


@pytest.mark.parametrize(
    "text", [b"one\r\ntwo\r\n", b"one\r\n\r\ntwo\n", b"\r\n", b"\r\r\n\n"], ids=repr
)
def test_lines_come_back_with_the_delimiters_that_stood_between_them(
    text: bytes, tmp_path: Path
) -> None:
    config = tmp_path / "crlf.yaml"
    config.write_text('framing:\n  type: delimited\n  delimiter: "\\r\\n"\n')
    with EchoServer("*", 0, framing=Delimited(delimiter="\r\n")) as server:
        _copy(text, "--config", str(config), "--port", str(server.port))


def test_a_line_comes_back_before_stdin_is_closed(framing: str, framed_server: EchoServer) -> None:
    args = (*_to(framed_server), "--framing", framing, "--output", "raw")
    with Running("send", *args, stdin=subprocess.PIPE) as client:
        for line in (b"one\n", b"\n", b"three\n"):
            client.stdin.write(line)
            assert client.out.read_until(b"\n") == line
        client.stdin.write(b"the end")
        client.stdin.close()
        client.process.stdin = None
        done = client.end()
    assert (done.code, done.out, done.err) == (0, b"the end", b"")


def _peak(pid: int) -> int:
    """The most memory that a process has had in RAM at a time, in bytes."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return 0
    peaks = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    # A process that has ended has no memory any more.
    return int(peaks[0]) * 1024 if peaks else 0


def _feed(stdin: IO[bytes], block: bytes, times: int) -> None:
    with contextlib.suppress(BrokenPipeError):
        for _ in range(times):
            view = memoryview(block)
            while view:
                view = view[stdin.write(view) :]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from /proc")
@pytest.mark.parametrize("framing", ["raw", "length-prefixed"], indirect=True)
def test_a_stream_takes_memory_for_what_is_on_its_way_and_not_for_its_length(
    framing: str, framed_server: EchoServer
) -> None:
    block, times = os.urandom(1 << 20), 100
    args = (*_to(framed_server), "--framing", framing, "--output", "raw", "--chunk-size", "1MiB")
    with Running("send", *args, stdin=subprocess.PIPE) as client:
        client.stdin.write(b"!")
        assert client.out.read_until(b"!") == b"!"
        before = _peak(client.process.pid)
        feeder = threading.Thread(target=_feed, args=(client.stdin, block, times))
        feeder.start()
        try:
            back, count = hashlib.sha256(), 0
            while count < len(block) * times:
                data = os.read(client.out.pipe.fileno(), 1 << 20)
                assert data, client.err.pipe.read()
                back.update(data)
                count += len(data)
            peak = _peak(client.process.pid)
        finally:
            client.process.kill()
            feeder.join()
    sent = hashlib.sha256()
    for _ in range(times):
        sent.update(block)
    assert back.digest() == sent.digest()
    # The window holds 16 MiB, once to be sent and once to be compared.
    assert peak - before < 64 << 20


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from /proc")
def test_a_stream_without_a_delimiter_is_given_up_at_the_limit_for_a_message() -> None:
    with EchoServer("127.0.0.1", 0, framing=Delimited()) as server:
        args = (*_to(server, "127.0.0.1"), "--framing", "delimited", "--output", "quiet")
        with Running("send", *args, stdin=subprocess.PIPE) as client:
            peaks = []
            # It may end by itself when the limit is passed, or else take all of it.
            for _ in range(100):
                _feed(client.stdin, bytes(1 << 20), 1)
                peaks.append(_peak(client.process.pid))
            client.stdin.close()
            client.process.stdin = None
            done = client.end()
    assert done.code in (1, 2)
    assert "is over the limit of 16777216" in done.complaint
    assert max(peaks) - peaks[0] < 64 << 20


def test_stdin_is_cut_into_messages_that_the_framing_can_carry(tmp_path: Path) -> None:
    config = tmp_path / "short.yaml"
    config.write_text(
        "chunk_size: 4k\nframing: {type: length-prefixed, prefix_bytes: 1}\n"
        "server: {output: json}\nclient: {output: raw}\n"
    )
    data = os.urandom(10_000)
    with Running("serve", "--config", str(config), "--port", "0", "--host", HOSTS[0]) as server:
        port = str(json.loads(server.line())["port"])
        done = run("send", "--config", str(config), "--port", port, "--host", HOSTS[0], stdin=data)
    assert (done.code, done.err) == (0, b"")
    assert done.out == data


# What to send.


@pytest.mark.parametrize(
    "message",
    [b"hello", b"", "¡hola, ñandú! 日本".encode(), b"\xff\xfe\x80", b"-x --count", b"--", b"-\n"],
    ids=repr,
)
def test_a_message_goes_out_as_the_bytes_that_were_given(
    message: bytes, echo_server: EchoServer
) -> None:
    done = run("send", *_to(echo_server, HOSTS[-1]), "--output", "raw", "--", message)
    assert (done.code, done.out, done.err) == (0, message, b"")


def test_a_locale_changes_no_byte_of_it(echo_server: EchoServer) -> None:
    message = "ñ".encode() + b"\xff"
    done = start("send", *_to(echo_server), "--output", "raw", message, env=PLAIN)
    assert (done.code, done.out, done.err) == (0, message, b"")


def test_a_locale_without_a_character_shows_its_escape(echo_server: EchoServer) -> None:
    args = (*_to(echo_server), "--chunk-size", "64k")
    done = start("send", *args, "ñ", env=PLAIN)
    assert (done.code, done.err) == (0, b"")
    assert done.out.isascii()
    shown = done.lines[1].removeprefix('sending "').removesuffix('"')
    assert shown.startswith("\\")
    assert done.lines[1:] == [f'sending "{shown}"', f'received "{shown}"', "closing socket"]


@pytest.mark.parametrize("args", [("-",), ()], ids=["dash", "nothing"])
def test_stdin_is_sent_where_it_is_asked_for_or_piped(
    args: tuple[str, ...], echo_server: EchoServer
) -> None:
    done = run("send", *_to(echo_server), "--chunk-size", "64k", *args, stdin=b"from a pipe\n")
    assert done.lines[1:] == [
        'sending "from a pipe\\n"',
        'received "from a pipe\\n"',
        "closing socket",
    ]
    assert (done.code, done.err) == (0, b"")


def _sizes(done_out: list[str], event: str) -> list[int]:
    events = [json.loads(line) for line in done_out]
    return [found["size"] for found in events if found["event"] == event]


def test_a_file_is_one_message_where_there_are_messages_and_a_stream_where_not(
    framing: str, framed_server: EchoServer, tmp_path: Path
) -> None:
    data = os.urandom(200_000).replace(b"\n", b"-")
    (tmp_path / "file").write_bytes(data)
    args = (*_to(framed_server), "--framing", framing, "--chunk-size", "64k")
    done = run("send", *args, "--file", str(tmp_path / "file"), "--output", "json")
    assert (done.code, done.err) == (0, b"")
    received = _sizes(done.lines, "received")
    assert sum(received) == sum(_sizes(done.lines, "sending")) == len(data)
    assert (len(received) == 1) == (framing != "raw")


def test_each_of_a_count_goes_when_the_one_before_it_has_come_back(
    framing: str, framed_server: EchoServer
) -> None:
    args = (*_to(framed_server, HOSTS[-1]), "--framing", framing, "--chunk-size", "64k")
    done = run("send", *args, "--count", "3", "again")
    assert (done.code, done.err) == (0, b"")
    assert done.lines[1:] == ['sending "again"', 'received "again"'] * 3 + ["closing socket"]


@pytest.mark.parametrize("size", [5, 200_000])
def test_a_file_is_sent_again_when_all_of_it_has_come_back(
    framing: str, framed_server: EchoServer, tmp_path: Path, size: int
) -> None:
    (tmp_path / "file").write_bytes(os.urandom(size).replace(b"\n", b"-"))
    args = (*_to(framed_server), "--framing", framing, "--chunk-size", "64k")
    file = ("--file", str(tmp_path / "file"), "--count", "3")
    done = run("send", *args, *file, "--output", "json")
    assert (done.code, done.err) == (0, b"")
    sent = received = 0
    for event in map(json.loads, done.lines):
        if event["event"] == "sending":
            # A new copy begins with nothing under way.
            assert sent % size or received == sent
            sent += event["size"]
        elif event["event"] == "received":
            received += event["size"]
    assert sent == received == 3 * size
    assert (event["event"], event["payload_bytes"]) == ("result", 3 * size)


def test_an_empty_message_is_a_message_where_there_are_messages(
    framing: str, framed_server: EchoServer
) -> None:
    done = run("send", *_to(framed_server), "--framing", framing, "--output", "json", "")
    assert (done.code, done.err) == (0, b"")
    assert _sizes(done.lines, "sending") == [0]
    assert _sizes(done.lines, "received") == ([] if framing == "raw" else [0])
    assert json.loads(done.lines[-1])["messages"] == 1


def test_a_message_over_the_limit_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    config = tmp_path / "short.yaml"
    config.write_text(
        "host: 127.0.0.1\nframing: {type: length-prefixed, prefix_bytes: 1, max_message: 5}\n"
    )
    (tmp_path / "file").write_bytes(b"sixsix")
    for what in (["sixsix"], ["--file", str(tmp_path / "file")]):
        # No port is named that anybody listens on: it does not come to that.
        done = run("send", "--config", str(config), "--port", "1", *what)
        assert (done.code, done.out) == (2, b"")
        assert done.complaint.endswith("message of 6 bytes is over the limit of 5")


def test_a_message_with_the_delimiter_in_it_is_refused_before_anything_is_sent() -> None:
    done = run("send", "--port", "1", "--framing", "delimited", "two\nlines")
    assert (done.code, done.out) == (2, b"")
    assert done.complaint == (
        "cannot send this with delimited framing: message contains the delimiter '\\n' at byte 3"
    )


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no /dev/zero")
def test_a_file_without_an_end_is_refused_where_it_would_be_one_message() -> None:
    shell = ["sh", "-c", 'ulimit -v 1000000; exec "$@"', "sh", sys.executable, "-m", "echokit"]
    args = ("--port", "1", "--framing", "length-prefixed", "--file", "/dev/zero")
    done = start("send", *args, command=shell)
    assert done.code == 2
    assert done.complaint.startswith("--file: /dev/zero: ")


# Its outputs.


@pytest.fixture
def answers(echo_server: EchoServer) -> dict[str, list[str]]:
    """The lines of stdout in each output, for the same exchange."""
    args = ("send", *_to(echo_server, HOSTS[-1]), "--chunk-size", "64k", "--count", "2", "hello")
    outputs = ("quiet", "raw", "json")
    done = [run(*args, "--output", output) for output in outputs]
    assert {(one.code, one.err) for one in done} == {(0, b"")}
    return {output: one.lines for output, one in zip(outputs, done, strict=True)}


def test_quiet_says_nothing_raw_the_bytes_and_json_an_object_a_line(
    answers: dict[str, list[str]], echo_server: EchoServer
) -> None:
    assert answers["quiet"] == []
    assert answers["raw"] == ["hellohello"]
    events = [json.loads(line) for line in answers["json"]]
    assert [event["event"] for event in events] == [
        "connecting",
        "connected",
        *["sending", "received"] * 2,
        "closing",
        "result",
    ]
    assert all(isinstance(event["time"], str) for event in events)
    assert (events[0]["host"], events[0]["port"]) == (HOSTS[-1], echo_server.port)
    (attempt,) = events[1]["attempts"]
    assert attempt["connected"]
    assert (
        attempt["address"]
        == events[1]["address"]
        == str(echo_server.addresses[-1]).replace("::", "::1")
    )
    assert events[2]["size"] == events[3]["size"] == 5
    result = events[-1]
    assert (result["ok"], result["messages"], result["payload_bytes"]) == (True, 2, 10)
    assert 0 < result["elapsed_ms"] < 20_000


# Signals.


def test_ctrl_c_while_it_waits_ends_it_with_one_line(host: str) -> None:
    heard, over = threading.Event(), threading.Event()

    def listen(sock: socket.socket) -> None:
        assert receive(sock, 5) == b"hello"
        heard.set()
        over.wait(DEADLINE)

    with serving_once(host, listen) as port:
        args = ("--host", host, "--port", str(port))
        with contextlib.ExitStack() as stack:
            stack.callback(over.set)
            client = stack.enter_context(Running("send", *args, "hello"))
            assert heard.wait(DEADLINE)
            done = client.end(signal.SIGINT)
    assert (done.code, done.err) == (130, b"echokit: interrupted\n")


# Its streams.


def test_a_full_disk_is_one_line(echo_server: EchoServer) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    shell = ["sh", "-c", 'exec "$@" >/dev/full', "sh", sys.executable, "-m", "echokit"]
    done = start("send", *_to(echo_server), "--output", "raw", "hello", command=shell)
    assert done.code == 1
    assert done.complaint == "cannot write to stdout: no space left on device"


@pytest.mark.parametrize("closed", [">&-", "<&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_from_the_start_is_no_reason_to_fail(
    closed: str, echo_server: EchoServer
) -> None:
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "echokit"]
    done = start("send", *_to(echo_server), "--chunk-size", "64k", "hello", command=shell)
    assert (done.code, done.err) == (0, b"")
    assert done.lines[1:] == (
        [] if ">&-" in closed.split() else ['sending "hello"', 'received "hello"', "closing socket"]
    )


def test_without_a_message_and_with_stdin_closed_there_is_nothing_to_send() -> None:
    shell = ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-m", "echokit"]
    done = start("send", "--port", "1", command=shell)
    assert (done.code, done.out) == (2, b"")
    assert done.complaint == "nothing to send: give a MESSAGE, --file, or pipe it in"


def test_when_nobody_reads_what_comes_back_it_ends_without_a_word(
    echo_server: EchoServer,
) -> None:
    args = (*_to(echo_server), "--chunk-size", "64k", "--output", "raw")
    with Running("send", *args, stdin=subprocess.PIPE) as client:
        client.stdin.write(b"a\n")
        assert client.out.read_until(b"\n") == b"a\n"
        client.out.pipe.close()
        client.stdin.write(b"b\n")
        client.process.wait(DEADLINE)
        assert client.process.returncode == 141
        assert client.err.pipe.read() == b""


def test_the_end_of_input_at_a_terminal_ends_it(echo_server: EchoServer) -> None:
    # A terminal tells its end once: whoever waits for it to be readable again waits for ever.
    ours, theirs = os.openpty()
    try:
        args = (*_to(echo_server), "--output", "raw", "-")
        with Running("send", *args, stdin=theirs) as sending:
            os.write(ours, b"abc\n\x04")
            done = sending.end()
        assert (done.code, done.out, done.err) == (0, b"abc\n", b"")
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_named_pipe_is_read_once(echo_server: EchoServer, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    args = ("--output", "raw", "--file", str(pipe))
    # Opening for writing waits for the reader.
    with Running("send", *_to(echo_server), *args) as sending:
        with pipe.open("wb", buffering=0) as writing:
            # Who writes may wait for the echo, and go on after it.
            for line in (b"one\n", b"two\n"):
                writing.write(line)
                assert sending.out.read_until(b"\n") == line
            writing.write(b"the end")
        done = sending.end()
    assert (done.code, done.out, done.err) == (0, b"the end", b"")
    twice = Running("send", *_to(echo_server), *args, "--count", "2")
    with twice as sending:
        pipe.write_bytes(b"")
        done = sending.end()
    assert done.code == 2
    assert "can be sent only once" in done.complaint


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that fails")
def test_a_file_that_cannot_be_read_is_told_by_its_name(echo_server: EchoServer) -> None:
    done = run("send", *_to(echo_server), "--file", "/proc/self/mem")
    assert (done.code, done.complaint) == (1, "/proc/self/mem: input/output error")


def test_raw_output_without_a_stdout_is_refused(echo_server: EchoServer) -> None:
    close = ("sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "echokit")
    done = start("send", *_to(echo_server), "--output", "raw", "x", command=close)
    assert done.code == 2
    assert "stdout is closed" in done.complaint


@pytest.mark.parametrize("host", HOSTS)
def test_a_peer_that_resets_whoever_connects_is_a_failed_exchange_however_soon_it_does(
    host: str,
) -> None:
    for _ in range(5):
        with serving_once(host, reset) as port:
            done = run("send", "--host", host, "--port", str(port), "hello")
        assert done.code == 1
        assert done.complaint == "connection reset by peer after 0 of 5 bytes"
