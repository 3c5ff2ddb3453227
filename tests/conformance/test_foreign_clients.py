"""Others' clients of our server: socat, ncat and OpenBSD's nc."""

import hashlib
import os
import socket
import subprocess
from collections.abc import Callable

import pytest

from echokit.framing.length_prefixed import LengthPrefixed
from echokit.net.handler import Ending
from echokit.testing import RunningServer
from tests.conformance.programs import DEADLINE, tool

Command = Callable[[socket.AddressFamily, str, int], list[str]]

BULK = 5_000_000


def _socat(family: socket.AddressFamily, host: str, port: int) -> list[str]:
    version = "6" if family == socket.AF_INET6 else "4"
    target = f"[{host}]" if version == "6" else host
    # -t: how long the other direction may go on once stdin has ended.
    return [tool("socat"), "-t", f"{DEADLINE:g}", "STDIO", f"TCP{version}:{target}:{port}"]


def _ncat(family: socket.AddressFamily, host: str, port: int) -> list[str]:
    version = "-6" if family == socket.AF_INET6 else "-4"
    return [tool("ncat"), version, host, str(port)]


def _nc(family: socket.AddressFamily, host: str, port: int) -> list[str]:
    version = "-6" if family == socket.AF_INET6 else "-4"
    # Debian's name for it, since `nc` may be any of three. -N: half-close when stdin has ended.
    return [tool("nc.openbsd"), "-N", version, host, str(port)]


every_client = pytest.mark.parametrize("command", [_socat, _ncat, _nc], ids=["socat", "ncat", "nc"])


def _echoed(command: list[str], data: bytes) -> None:
    """The client sends `data`, half-closes, gets all of it back and nothing to complain of."""
    done = subprocess.run(command, input=data, capture_output=True, check=True, timeout=DEADLINE)
    # Not compared by ==, whose explanation of a difference would be endless.
    assert len(done.stdout) == len(data)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()
    assert done.stderr == b""


@every_client
@pytest.mark.echokit(chunk_size="64k")
def test_five_megabytes_and_a_half_close_come_back_whole(
    family: socket.AddressFamily, echokit_server: RunningServer, command: Command
) -> None:
    _echoed(command(family, echokit_server.host, echokit_server.port), os.urandom(BULK))
    echokit_server.close()
    [record] = echokit_server.connections
    end = record.end
    assert end is not None
    assert (end.ending, end.bytes_in, end.bytes_out) == (Ending.CLEAN, BULK, BULK)


@every_client
@pytest.mark.echokit(framing="length-prefixed", chunk_size="64k")
def test_a_framed_server_gives_them_their_frames_back(
    family: socket.AddressFamily, echokit_server: RunningServer, command: Command
) -> None:
    framing = LengthPrefixed()
    wire = b"".join(framing.encode(b"x" * size) for size in (0, 1, 1000, 100_000)) * 10
    _echoed(command(family, echokit_server.host, echokit_server.port), wire)
