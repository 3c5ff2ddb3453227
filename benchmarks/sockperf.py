"""sockperf's server and client for TCP, and its messages as a framing of echokit's.

A message of sockperf stands behind a header of 14 bytes, all in network order: a sequence number
(64 bits), flags (16 bits) and the length of header and payload together (32 bits). Its server
answers what has the flags of a client and of a request for an answer, and sends the message back
with the client's flag taken away: the header comes back changed, the payload as it was.
"""

import contextlib
import re
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from benchmarks.build import UnavailableError
from benchmarks.generator import LoadFailedError, finished
from benchmarks.peers import Peer, Server, tool
from echokit import FramingError, IncompleteMessage, MessageTooLarge
from echokit.framing.base import Framing

__all__ = ["FRAMING", "HEADER", "SERVER", "Sockperf", "can_use", "installed", "ping_pong"]

HEADER = struct.Struct("!QHI")
# The framing's name, as echokit knows it.
FRAMING: Literal["sockperf"] = "sockperf"
_CLIENT = 1
_ANSWER = 2
# Any number will do: the server looks at it only where it was told to look for gaps.
_SEQUENCE = 0x0123456789ABCDEF
# As many as the server takes by default.
_LONGEST = 65507
# Beside the measured time: its warm-up, and what it waits at the end.
_PATIENCE = 20.0


class SockperfDecoder:
    """What comes from the server."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = b""
        self._error: FramingError | None = None

    def receive_data(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        if self._error is None:
            self._data = self._data + data if self._data else bytes(data)

    def next_message(self) -> bytes | None:
        """The next whole payload; None where more bytes are needed.

        Raises:
            FramingError: The header is not the one that an answer to ours has.
            MessageTooLarge: The message is longer than the server could have had it.
        """
        if self._error is not None:
            raise self._error
        if len(self._data) < HEADER.size:
            return None
        sequence, flags, length = HEADER.unpack_from(self._data)
        if (sequence, flags) != (_SEQUENCE, _ANSWER) or length < HEADER.size:
            self._error = FramingError(
                f"no answer of sockperf's: sequence {sequence:#x}, flags {flags:#x},"
                f" length {length}"
            )
        elif length - HEADER.size > self._limit:
            self._error = MessageTooLarge(length - HEADER.size, self._limit)
        if self._error is not None:
            self._data = b""
            raise self._error
        if len(self._data) < length:
            return None
        message = self._data[HEADER.size : length]
        self._data = self._data[length:]
        return message

    def receive_eof(self) -> None:
        """Note the end of the stream.

        Raises:
            IncompleteMessage: It ended inside a message.
        """
        if self._error is None and self._data:
            self._error = IncompleteMessage(len(self._data), None)
        if self._error is not None:
            raise self._error


class Sockperf(Framing):
    """A client of sockperf's, that asks for an answer to each message."""

    type: Literal["sockperf"] = FRAMING
    max_message: int = _LONGEST - HEADER.size

    def decoder(self) -> SockperfDecoder:
        """A fresh decoder, for one connection."""
        return SockperfDecoder(self.max_message)

    def encode(self, message: bytes) -> bytes:
        """The header, as a client sets it, and `message`.

        Raises:
            MessageTooLarge: `message` is over the limit.
        """
        if len(message) > self.max_message:
            raise MessageTooLarge(len(message), self.max_message)
        length = HEADER.size + len(message)
        return HEADER.pack(_SEQUENCE, _CLIENT | _ANSWER, length) + message


@contextlib.contextmanager
def installed() -> Iterator[Path]:
    """A folder for PYTHONPATH, with which `echokit --framing sockperf` is there, as by a plugin."""
    with tempfile.TemporaryDirectory() as folder:
        info = Path(folder) / "echokit_benchmarks-0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: echokit-benchmarks\nVersion: 0\n"
        )
        point = f"{FRAMING} = {Sockperf.__module__}:{Sockperf.__name__}"
        (info / "entry_points.txt").write_text(f"[echokit.framings]\n{point}\n")
        yield Path(folder)


def can_use(host: str) -> None:
    """Do nothing.

    Raises:
        UnavailableError: sockperf is not installed, or cannot talk to `host`: versions before 3.8
            know no IPv6.
    """
    # Nobody listens on that port, or whoever does is left at once: the address is looked at first.
    command = [tool("sockperf"), "ping-pong", "--tcp", "-i", host, "-p", "1", "-t", "1"]
    done = finished(command, None, _PATIENCE)
    if "Invalid address" in done.stdout + done.stderr:
        raise UnavailableError(f"this version of sockperf takes no address like {host}")


def _serve(_framing: str, host: str) -> list[str]:
    return [tool("sockperf"), "server", "--tcp", "-i", host, "-p", "0"]


# It serves one connection at a time, and waits in recvfrom().
SERVER = Peer("sockperf server", "", _serve, (FRAMING,))


def ping_pong(server: Server, size: int, seconds: float, core: int | None) -> dict[str, float]:
    """Run sockperf's own client, one connection; latencies are of the whole way there and back.

    Args:
        server: sockperf's.
        size: Of a message with its header, in bytes.
        seconds: How long; at least one and in whole seconds, as it knows no others.
        core: The one that it may use; None for any.

    Raises:
        LoadFailedError: It failed, or messages were lost.
    """
    # Without --full-rtt it tells half of the time.
    command = [tool("sockperf"), "ping-pong", "--tcp", "--full-rtt", "-i", server.host]
    command += ["-p", str(server.port), "-m", str(size), "-t", str(max(1, round(seconds)))]
    done = finished(command, core, seconds + _PATIENCE)
    found = {
        name: re.search(pattern, done.stdout)
        for name, pattern in {
            "window": r"\[Valid Duration\] RunTime=([\d.]+) sec; .*ReceivedMessages=(\d+)",
            "errors": r"dropped messages = (\d+); .*duplicated.* = (\d+); .*out-of-order.* = (\d+)",
            "p50": r"percentile 50\.000 = +([\d.]+)",
            "p99": r"percentile 99\.000 = +([\d.]+)",
        }.items()
    }
    window, errors, p50, p99 = found.values()
    if window is None or errors is None or p50 is None or p99 is None:
        lines = (done.stdout + done.stderr).strip().splitlines()
        raise LoadFailedError(f"sockperf ping-pong: {lines[-1] if lines else 'no result'}")
    if any(map(int, errors.groups())):
        raise LoadFailedError(f"sockperf ping-pong: {errors[0]}")
    return {
        "requests_per_s": int(window[2]) / float(window[1]),
        "p50_us": float(p50[1]),
        "p99_us": float(p99[1]),
    }
