"""Together with what others wrote: socat and ncat as clients, and socat as the server."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest

from echokit.client import EchoClient
from echokit.exchange import Messages
from echokit.framing.base import Framing
from echokit.framing.delimited import Delimited
from echokit.framing.length_prefixed import LengthPrefixed
from echokit.framing.raw import Raw
from echokit.net.handler import Ending
from echokit.testing import RunningServer

Command = Callable[[socket.AddressFamily, str, int], list[str]]

BULK = 10_000_000
FRAMINGS: list[Framing] = [Raw(), LengthPrefixed(), Delimited()]


def _tool(name: str) -> str:
    """The path of a tool, or a skipped test."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def _socat(family: socket.AddressFamily, host: str, port: int) -> list[str]:
    version = "6" if family == socket.AF_INET6 else "4"
    target = f"[{host}]" if version == "6" else host
    # -t: how long the other direction may go on once stdin has ended.
    return [_tool("socat"), "-t", "30", "STDIO", f"TCP{version}:{target}:{port}"]


def _ncat(family: socket.AddressFamily, host: str, port: int) -> list[str]:
    version = "-6" if family == socket.AF_INET6 else "-4"
    return [_tool("ncat"), version, host, str(port)]


@pytest.mark.parametrize("command", [_socat, _ncat], ids=["socat", "ncat"])
@pytest.mark.echokit(chunk_size="64k")
def test_ten_megabytes_and_a_half_close_come_back_whole_to_foreign_clients(
    family: socket.AddressFamily, echokit_server: RunningServer, command: Command
) -> None:
    data = os.urandom(BULK)
    done = subprocess.run(
        command(family, echokit_server.host, echokit_server.port),
        input=data,
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert done.stdout == data
    assert done.stderr == b""
    echokit_server.close()
    [record] = echokit_server.connections
    end = record.end
    assert end is not None
    assert (end.ending, end.bytes_in, end.bytes_out) == (Ending.CLEAN, BULK, BULK)


@pytest.mark.parametrize("command", [_socat, _ncat], ids=["socat", "ncat"])
@pytest.mark.echokit(framing="length-prefixed", chunk_size="64k")
def test_a_framed_server_gives_foreign_clients_their_frames_back(
    family: socket.AddressFamily, echokit_server: RunningServer, command: Command
) -> None:
    framing = LengthPrefixed()
    wire = b"".join(framing.encode(b"x" * size) for size in (0, 1, 1000, 100_000)) * 10
    done = subprocess.run(
        command(family, echokit_server.host, echokit_server.port),
        input=wire,
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert done.stdout == wire


@pytest.fixture
def socat_server(family: socket.AddressFamily, host: str) -> Iterator[int]:
    """A socat that echoes, for each connection in a process of its own; its port."""
    kind = "TCP6-LISTEN:0,bind=[::1]" if family == socket.AF_INET6 else "TCP4-LISTEN:0,bind=" + host
    # -dd makes it tell the port that it was given. -b: with larger blocks, it can wait for ever for
    # room in a pipe that nobody but itself would empty.
    command = [_tool("socat"), "-dd", "-b", "4096", "-t", "30", f"{kind},fork", "PIPE"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stderr is not None
            found = (
                re.search(r"listening on AF=\d+ .*:(\d+)$", line.rstrip())
                for line in process.stderr
            )
            yield next(int(match[1]) for match in found if match)
        finally:
            # It and the processes that it made, which are a session of their own.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("framing", FRAMINGS, ids=lambda framing: framing.type)
def test_our_client_gets_ten_megabytes_back_from_a_foreign_server(
    host: str, socat_server: int, framing: Framing
) -> None:
    # Whoever echoes the bytes echoes the frames.
    data = os.urandom(BULK).replace(b"\n", b"\r")
    messages = [data[at : at + 1_000_000] for at in range(0, BULK, 1_000_000)]
    back = bytearray()
    with EchoClient(host, socat_server, framing=framing, chunk_size=65536) as client:
        done = client.exchange(Messages(messages), back.extend)
    assert back == data
    assert (done.messages, done.payload_bytes) == (10, BULK)


def test_a_foreign_server_serves_our_clients_one_after_the_other(
    host: str, socat_server: int
) -> None:
    for number in range(3):
        with EchoClient(host, socat_server) as client:
            assert client.echo(b"hello %d" % number) == b"hello %d" % number
