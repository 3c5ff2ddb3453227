"""`echokit load` in the hands of a person: its progress, and what ends it early."""

import os
import pty
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from echokit import EchoServer
from tests.cli.loads import HOST, QUICK, document_in, written
from tests.cli.processes import COMMAND, DEADLINE, Done, Running, environment
from tests.loadgen.servers import (
    FakeServer,
    echoes,
)


class _Once:
    """Set by the server's thread when the first exchange has come."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.set = self._event.set

    def wait(self) -> None:
        """Until it is set."""
        assert self._event.wait(10)


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("number", "code", "objective"),
    [(signal.SIGINT, 130, "p50<1h"), (signal.SIGTERM, 143, "p50<1us")],
    ids=["SIGINT", "SIGTERM"],
)
def test_an_interrupt_ends_it_with_everything_so_far(
    workers: str, number: signal.Signals, code: int, objective: str, tmp_path: Path
) -> None:
    path, junit = tmp_path / "run.json", tmp_path / "run.xml"
    began = _Once()

    def answer(sock: Any, data: bytes) -> bytes:
        began.set()
        return echoes(sock, data)

    with FakeServer(HOST, answer) as server:
        flags = ("-d", "60s", "-c", "2", "--workers", workers, "--no-calibrate", "--warmup", "0")
        files = ("--json", str(path), "--junit", str(junit), "--objective", objective)
        with Running("load", written(HOST, server.port), *flags, *files) as running:
            began.wait()
            done = running.end(number)
    document = document_in(path.read_bytes())
    assert document["status"] == "interrupted"
    # It goes over objectives, met or missed.
    assert done.code == document["exit_code"] == code
    assert _cut_short(junit) == "interrupted"
    assert done.lines[-1] == "interrupted: these are the figures until then"
    (family,) = document["families"].values()
    assert sum(family["outcomes"].values()) == family["requests"] > 0


def _cut_short(junit: Path) -> str:
    """Why the run of that JUnit file is an error, and the only one."""
    suite = ET.fromstring(junit.read_text())  # noqa: S314 - it is our own
    assert suite.attrib["errors"] == "1"
    (run,) = (case for case in suite if case.find("error") is not None)
    assert run.attrib == {"classname": "echokit.load.run", "name": "run"}
    return run[0].attrib["message"]


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="connects are seen in /proc/net")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_an_interrupt_before_anything_is_measured_ends_it_at_once_and_still_writes(
    number: signal.Signals, code: int, tmp_path: Path, host: str
) -> None:
    path, junit = tmp_path / "run.json", tmp_path / "run.xml"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        # Its queue has one place, which is taken: the next connect hangs.
        listener.bind((host, 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        flags = ("--connect-timeout", "1h", "--json", str(path), "--junit", str(junit))
        with (
            socket.create_connection((host, port)),
            Running("load", written(host, port), *flags) as running,
        ):
            _wait_for_connect(port)
            done = running.end(number)
    assert (done.code, done.complaint, done.out) == (code, "interrupted", b"")
    document = document_in(path.read_bytes())
    assert (document["status"], document["exit_code"]) == ("interrupted", code)
    assert _cut_short(junit) == "interrupted"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_an_interrupt_while_outputs_are_opened_leaves_its_documents_too(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    path, junit, page = tmp_path / "run.json", tmp_path / "run.xml", tmp_path / "run.html"
    os.mkfifo(junit)
    flags = ("--json", str(path), "--junit", str(junit), "--html", str(page))
    with Running("load", *flags) as running:
        deadline = time.monotonic() + DEADLINE
        while not path.exists():
            assert time.monotonic() < deadline
            os.sched_yield()
        # The next file is a pipe that nobody reads as yet.
        running.signal(number)
        with junit.open("rb") as reading:
            suite = reading.read().decode()
        done = running.end()
    assert (done.code, done.complaint, done.out) == (code, "interrupted", b"")
    document = document_in(path.read_bytes())
    assert (document["status"], document["exit_code"]) == ("interrupted", code)
    assert document["families"] == {}
    assert 'errors="1"' in suite
    assert "The run was interrupted. Nothing was measured until then." in page.read_text()


def test_an_interrupt_while_the_result_is_written_cuts_nothing_short(
    tmp_path: Path, echo_server: EchoServer
) -> None:
    page = tmp_path / "page"
    os.mkfifo(page)
    flags = (*QUICK, "-o", "quiet", "--html", str(page))
    with (
        Running("load", written(HOST, echo_server.port), *flags) as running,
        page.open("rb", buffering=0) as reading,
    ):
        # More than a pipe holds: the rest is being written.
        read = reading.read(100)
        running.signal(signal.SIGINT)
        read += reading.readall()
        done = running.end()
    assert done == Done(0, b"", b"")
    assert read.rstrip().endswith(b"</html>")


def _wait_for_connect(port: int) -> None:
    """Until somebody is connecting to `port`: state 02 is SYN_SENT."""
    deadline = time.monotonic() + DEADLINE
    pattern = re.compile(rf":{port:04X} 02 ")
    while not any(pattern.search(Path(f"/proc/net/tcp{v}").read_text()) for v in ("", "6")):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _read_all(fd: int) -> bytes:
    """Everything that is written to the other end of a terminal, until that is closed."""
    data = b""
    while True:
        try:
            more = os.read(fd, 65536)
        except OSError:
            return data
        if not more:
            return data
        data += more


def _on_a_terminal(columns: int, *args: str) -> tuple[str, bytes]:
    """What a load shows on a terminal so wide, and what it tells on stdout."""
    ours, theirs = pty.openpty()
    variables = {"TERM": "xterm", "COLUMNS": str(columns), "LINES": "30"}
    with subprocess.Popen(
        [*COMMAND, "load", *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment(variables),
    ) as process:
        os.close(theirs)
        shown = _read_all(ours)
        out, _ = process.communicate(timeout=DEADLINE)
    os.close(ours)
    assert process.returncode == 0
    return shown.decode(), out


@pytest.mark.slow
@pytest.mark.parametrize("quiet", [False, True])
def test_progress_is_shown_on_a_terminal_only(quiet: bool, echo_server: EchoServer) -> None:
    flags = ("-d", "500ms", "--no-calibrate", *(("--output", "quiet") if quiet else ()))
    shown, out = _on_a_terminal(100, written(HOST, echo_server.port), *flags)
    assert b"\x1b" not in out
    if quiet:
        assert (shown, out) == ("", b"")
        return
    lines = re.findall(r"IPv[46]  [\d,]+/s  0 errors  p50 [\d.]+\w+  p99 [\d.]+\w+", shown)
    assert len(lines) >= 3
    # The bar has a line of its own.
    assert re.search(r"\d+%[^\r\nI]*\r?\n", shown)
    assert b"requests/s" in out


@pytest.mark.slow
def test_a_narrow_terminal_still_shows_the_errors(echo_server: EchoServer) -> None:
    flags = ("-d", "500ms", "--no-calibrate")
    shown, _ = _on_a_terminal(40, written(HOST, echo_server.port), *flags)
    lines = re.findall(r"IPv[46]  [\d,]+/s[^\r\n]*", shown)
    assert len(lines) >= 3
    assert all("  0 errors" in line for line in lines)
