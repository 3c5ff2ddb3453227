"""The load generator of load.c on echokit's own engine, for where no C compiler is at hand.

Its command line, its lines on stdout and its checks are those of load.c; see there.
"""

import argparse
import ipaddress
import json
import resource
import socket
import sys
import time
from array import array
from collections import deque
from typing import NoReturn

from echokit.framing.length_prefixed import LengthPrefixed
from echokit.framing.raw import Raw
from echokit.net import stream as net
from echokit.net.address import Address
from echokit.net.connection import Connection
from echokit.net.reactor import Reactor

PLACES = 4093
OPENING = 8
CHUNK = 256 << 10


def fail(text: str) -> NoReturn:
    """Tell what was wrong, and end."""
    print(json.dumps({"error": text}), flush=True)
    sys.exit(1)


class Stream:
    """One connection: what it has sent, and what has come back of that."""

    def __init__(self, load: "Load", number: int) -> None:
        self._load = load
        self._number = number
        self._next = 0
        # The messages in flight, when each was begun, and how much of the first has come back.
        self._waiting: deque[tuple[int, int]] = deque()
        self._matched = 0
        self._opened_at = 0
        self._connection: Connection | None = None

    def open(self) -> None:
        """Connect, and send the first message."""
        load = self._load
        self._opened_at = time.monotonic_ns()
        try:
            sock = socket.create_connection(load.target.sockaddr[:2], load.patience)
        except OSError as error:
            fail(f"connecting: {error}")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if load.buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, load.buffer)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, load.buffer)
        sock.setblocking(False)
        load.opened += 1
        self._connection = Connection(
            load.reactor,
            sock.detach(),
            load.target.sockaddr,
            load.framing,
            CHUNK,
            self,
            full_duplex=True,
        )
        self.send_more(1)

    def send_more(self, most: int) -> None:
        """Send until `most` messages are in flight, or no more may be begun."""
        load = self._load
        while self._connection and len(self._waiting) < most and load.begun < load.quota:
            now = self._opened_at if load.churn else time.monotonic_ns()
            self._waiting.append((self._next, now))
            load.begun += 1
            self._connection.send(load.payload(self._number, self._next))
            self._next += 1

    def message_received(self, connection: Connection, message: bytes) -> None:
        """Hold it against what was sent."""
        load = self._load
        load.moved = True
        at = 0
        while at < len(message):
            if not self._waiting:
                fail(f"connection {self._number}: bytes came back that had not been sent")
            number, begun = self._waiting[0]
            sent = load.payload(self._number, number)
            came = message[at : at + len(sent) - self._matched]
            if came != sent[self._matched : self._matched + len(came)]:
                fail(f"connection {self._number}: wrong bytes in message {number}")
            at += len(came)
            self._matched += len(came)
            if self._matched == len(sent):
                self._waiting.popleft()
                self._matched = 0
                load.latencies.append(time.monotonic_ns() - begun)
                load.returned += 1
        if not self._waiting and load.churn and load.running:
            self._connection = None
            connection.close()
            if load.begun < load.quota:
                self.open()
        elif load.running:
            self.send_more(load.in_flight)
        load.look()

    def all_sent(self, connection: net.Stream) -> None:
        """There is nothing to do: what may be sent has been."""

    def eof_received(self, connection: net.Stream) -> None:  # noqa: ARG002 - we know ours
        """The server has gone."""
        fail(f"connection {self._number}: the server closed it")

    def connection_ended(self, connection: net.Stream) -> None:
        """By us, in churn and at the end; else by an error."""
        error = connection.end.error
        if connection is self._connection and error is not None:
            fail(f"connection {self._number}: {error}")


class Load:
    """A whole run."""

    def __init__(self, options: argparse.Namespace) -> None:
        ip = ipaddress.ip_address(options.address)
        family = socket.AF_INET if ip.version == 4 else socket.AF_INET6  # noqa: PLR2004
        self.target = Address(family, (options.address, options.port))
        self.framing = Raw() if options.f == "raw" else LengthPrefixed()
        self.size: int = options.s
        self.in_flight: int = options.m
        self.churn: bool = options.k
        self.buffer: int = options.b
        self.patience: float = options.T
        self.reactor = Reactor()
        self.running = False
        self.moved = False
        self.begun = self.returned = self.opened = 0
        self.quota = 0
        self.latencies = array("q")
        self._options = options
        self._sequence = _random_bytes(self.size + PLACES)
        self._goal = 0
        self._streams = [Stream(self, number) for number in range(options.c + options.i)]
        self._look_for_silence()

    def payload(self, connection: int, message: int) -> bytes:
        """The message: a piece of the random sequence."""
        place = (connection * 2654435761 + message * 40503) % PLACES
        return self._sequence[place : place + self.size]

    def look(self) -> None:
        """End the phase if all that may be begun has come back."""
        if self.returned >= self._goal and self.returned == self.begun:
            self.reactor.stop()

    def _look_for_silence(self) -> None:
        if self.begun > self.returned and not self.moved:
            fail(f"nothing came back for {self.patience:g} s")
        self.moved = False
        self.reactor.call_later(self.patience, self._look_for_silence)

    def open_all(self) -> None:
        """Let each connection echo one message, a few at a time."""
        streams = self._streams[self._options.c :] if self.churn else self._streams
        for first in range(0, len(streams), OPENING):
            batch = streams[first : first + OPENING]
            self.quota = self._goal = self.begun + len(batch)
            for stream in batch:
                stream.open()
            self.reactor.run()

    def run(self, seconds: float, count: int = 0) -> float:
        """Send until the time is over or the messages are; how long it took, in seconds."""
        start = time.monotonic()
        self.latencies = array("q")
        active = self._streams[: self._options.c]
        if not active:
            return 0
        self.running = True
        self.quota = self._goal = self.begun + count if count else sys.maxsize
        timer = self.reactor.call_later(seconds, self._end_phase)
        for stream in active:
            if self.churn and self.begun < self.quota:
                stream.open()
            else:
                stream.send_more(self.in_flight)
        self.reactor.run()
        timer.cancel()
        self.running = False
        return time.monotonic() - start

    def _end_phase(self) -> None:
        self.quota = self._goal = self.begun
        self.look()

    def tell(self, moment: str) -> None:
        """Say where we are, and wait to be told to go on."""
        print(moment, flush=True)
        if self._options.g and not sys.stdin.readline():
            sys.exit(1)

    def measure(self) -> dict[str, float]:
        """The measured window."""
        self.tell("begin")
        before, cpu = self.opened, time.process_time()
        seconds = self.run(self._options.t, self._options.n)
        cpu = time.process_time() - cpu
        self.tell("end")
        ordered = sorted(self.latencies)
        total = len(ordered)
        shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99_9": 0.999, "max": 1.0}
        return {
            "messages": total,
            "payload_bytes": total * self.size,
            "connects": self.opened - before,
            "seconds": seconds,
            "cpu_us": cpu * 1e6,
            "mean_us": sum(ordered) / total / 1e3 if total else 0,
            **{
                f"{name}_us": ordered[max(0, round(share * total) - 1)] / 1e3 if total else 0
                for name, share in shares.items()
            },
        }


def _random_bytes(size: int) -> bytes:
    """The same ones each time."""
    state = 0x9E3779B97F4A7C15
    found = bytearray()
    for _ in range(min(size, 1 << 16)):
        state ^= state << 13 & (1 << 64) - 1
        state ^= state >> 7
        state ^= state << 17 & (1 << 64) - 1
        found.append(state >> 32 & 0xFF)
    # More than enough to tell places apart: what follows repeats it.
    return bytes(found) * (size // len(found) + 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in {"c": 1, "i": 0, "m": 1, "s": 64, "n": 0, "b": 0}.items():
        parser.add_argument(f"-{name}", type=int, default=default)
    for name, seconds in {"w": 0.0, "t": 1.0, "T": 10.0}.items():
        parser.add_argument(f"-{name}", type=float, default=seconds)
    parser.add_argument("-f", choices=["raw", "length-prefixed"], default="raw")
    parser.add_argument("-k", action="store_true")
    parser.add_argument("-g", action="store_true")
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    return parser.parse_args()


def main() -> None:
    """Run as asked."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    options = _options()
    load = Load(options)
    load.open_all()
    load.tell("connected")
    if options.w:
        load.run(options.w)
    print(json.dumps(load.measure()), flush=True)


if __name__ == "__main__":
    main()
