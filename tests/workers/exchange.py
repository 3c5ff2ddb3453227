"""Many clients at once, that check every byte: an epoll loop, to be run in a process of its own.

`python -m tests.workers.exchange PORT CONNECTIONS SECONDS SEED HOST...` prints what it saw as JSON.
"""

import json
import random
import select
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field

__all__ = ["Clients", "Seen"]

_SIZES = (1, 64, 1000, 16 << 10, 100 << 10, 1 << 20)
_WEIGHTS = (30, 30, 25, 10, 4, 1)
_READ = 64 << 10


@dataclass
class Seen:
    """What the clients saw.

    Attributes:
        connections: How many there were in all.
        messages: How many came back whole.
        bytes: How many bytes came back.
        wrong: How many connections got other bytes than they had sent.
        faults: How often each thing happened that is none of good order.
    """

    connections: int = 0
    messages: int = 0
    bytes: int = 0
    wrong: int = 0
    faults: Counter[str] = field(default_factory=Counter)


class _Client:
    """One connection: what it still has to send, and what is still to come back."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.unsent = memoryview(b"")
        self.owed = bytearray()
        # How many messages it is to send before it ends and another takes its place.
        self.left = 0
        self.finished = False
        self.interest = 0


class Clients:
    """Clients of an echo server of raw streams, each of which sends one message after another.

    Args:
        addresses: Where the server listens, taken in turn.
        count: How many there are at once.
        size: How large the next message is to be; None: sizes of all kinds.
        lives: How many messages a client sends before another takes its place, about; 0: it stays.
        seed: Of what is sent.
    """

    def __init__(
        self,
        addresses: Sequence[tuple[str, int]],
        count: int,
        *,
        size: int | None = None,
        lives: int = 0,
        seed: int = 0,
    ) -> None:
        self.seen = Seen()
        self._addresses = addresses
        self._size = size
        self._lives = lives
        self._random = random.Random(seed)  # noqa: S311 - to be had again, not to be secret
        self._data = self._random.randbytes(2 << 20)
        self._finishing = False
        self._poll = select.epoll()
        self._clients: dict[int, _Client] = {}
        for _ in range(count):
            self._open()

    def run(self, enough: Callable[[Seen], bool]) -> Seen:
        """Exchange until `enough`; then let every message that was begun come back, and end."""
        with self._poll:
            while self._clients:
                if not self._finishing and enough(self.seen):
                    self._finishing = True
                    for client in list(self._clients.values()):
                        self._next(client)
                        self._watch(client)
                for fd, events in self._poll.poll(0.1):
                    if fd in self._clients:
                        self._on_ready(self._clients[fd], events)
        return self.seen

    def _open(self) -> None:
        host, port = self._addresses[self.seen.connections % len(self._addresses)]
        client = _Client(socket.create_connection((host, port), timeout=10))
        client.sock.setblocking(False)
        client.left = self._random.randint(1, 2 * self._lives) if self._lives else -1
        self.seen.connections += 1
        self._clients[client.sock.fileno()] = client
        self._poll.register(client.sock.fileno(), 0)
        self._next(client)
        self._watch(client)

    def _next(self, client: _Client) -> None:
        """Begin another message, or finish, if the last one has come back."""
        if client.unsent or client.owed or client.finished:
            return
        if self._finishing or not client.left:
            client.finished = True
            client.sock.shutdown(socket.SHUT_WR)
            return
        size = self._size or self._random.choices(_SIZES, _WEIGHTS)[0]
        start = self._random.randrange(len(self._data) - size)
        client.unsent = memoryview(self._data)[start : start + size]
        client.left -= 1

    def _watch(self, client: _Client) -> None:
        wanted = select.EPOLLIN | (select.EPOLLOUT if client.unsent else 0)
        if wanted != client.interest and client.sock.fileno() in self._clients:
            client.interest = wanted
            self._poll.modify(client.sock.fileno(), wanted)

    def _on_ready(self, client: _Client, events: int) -> None:
        try:
            if events & select.EPOLLOUT and client.unsent:
                sent = client.sock.send(client.unsent[:_READ])
                client.owed += client.unsent[:sent]
                client.unsent = client.unsent[sent:]
            if events & ~select.EPOLLOUT:
                self._receive(client)
        except BlockingIOError:
            pass
        except OSError as error:
            self._end(client, type(error).__name__)
        self._watch(client)

    def _receive(self, client: _Client) -> None:
        data = client.sock.recv(_READ)
        if not data:
            unfinished = client.unsent or client.owed or not client.finished
            self._end(client, "ended before all had come back" if unfinished else "")
            return
        self.seen.bytes += len(data)
        if not client.owed.startswith(data):
            self.seen.wrong += 1
            self._end(client, "other bytes")
            return
        del client.owed[: len(data)]
        if not client.unsent and not client.owed:
            self.seen.messages += 1
            self._next(client)

    def _end(self, client: _Client, fault: str) -> None:
        del self._clients[client.sock.fileno()]
        client.sock.close()
        if fault:
            self.seen.faults[fault] += 1
        if not self._finishing:
            self._open()


def main(port: str, connections: str, seconds: str, seed: str, *hosts: str) -> None:
    """Exchange for so long, and print what was seen."""
    addresses = [(host, int(port)) for host in hosts]
    clients = Clients(addresses, int(connections), lives=50, seed=int(seed))
    end = time.monotonic() + float(seconds)
    print(json.dumps(asdict(clients.run(lambda _: time.monotonic() >= end))))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
