"""Servers to be measured, good and bad, each in one thread."""

import contextlib
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable
from random import Random
from typing import Self

__all__ = [
    "Answer",
    "FakeServer",
    "closes_at_random",
    "delays",
    "echoes",
    "echoes_twice",
    "ends_at_once",
    "garbles",
    "never_answers",
    "resets",
    "stalls_once",
    "stalls_twice",
    "stops_answering",
]

# What a server does with a chunk that came: answers it with something, maybe nothing; None closes.
Answer = Callable[[socket.socket, bytes], bytes | None]


class FakeServer:
    """A server on a port of `host`, that answers each chunk as `answer` has it; 0 is a free port.

    Attributes:
        port: Where it listens.
        accepted: How many connections it has taken.
    """

    def __init__(self, host: str, answer: Answer, port: int = 0) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._answer = answer
        self._listener = socket.create_server((host, port), family=family, backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self.accepted = 0
        self._selector = selectors.DefaultSelector()
        self._ours, self._theirs = socket.socketpair()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def _closes(self) -> bool:
        """Whether it ends every connection as soon as it has taken it."""
        return self._answer is ends_at_once

    def _serve(self) -> None:
        self._selector.register(self._theirs, selectors.EVENT_READ)
        self._selector.register(self._listener, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if sock is self._theirs:
                    return
                if sock is self._listener:
                    sock, _ = self._listener.accept()
                    if self._closes:
                        sock.close()
                        continue
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._selector.register(sock, selectors.EVENT_READ)
                    self.accepted += 1
                elif not self._goes_on(sock):
                    self._selector.unregister(sock)
                    sock.close()

    def _goes_on(self, sock: socket.socket) -> bool:
        try:
            data = sock.recv(65536)
            answer = self._answer(sock, data) if data else None
            if answer:
                sock.sendall(answer)
        except OSError:
            return False
        return answer is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ours.close()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()


def echoes(_sock: socket.socket, data: bytes) -> bytes:
    """A good server."""
    return data


def ends_at_once(_sock: socket.socket, _data: bytes) -> None:
    """Whoever connects is taken, and closed: as a proxy that has nobody behind it does."""


def never_answers(_sock: socket.socket, _data: bytes) -> bytes:
    """Takes everything, and says nothing."""
    return b""


def garbles(_sock: socket.socket, data: bytes) -> bytes:
    """Answers as much, and something else."""
    return bytes(byte ^ 1 for byte in data)


def echoes_twice(_sock: socket.socket, data: bytes) -> bytes:
    """Answers too much."""
    return data + data


def resets(sock: socket.socket, _data: bytes) -> None:
    """Ends every connection with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def delays(seconds: float) -> Answer:
    """Answers each chunk only after a while."""

    def answer(_sock: socket.socket, data: bytes) -> bytes:
        time.sleep(seconds)
        return data

    return answer


def stalls_once(seconds: float, after: int) -> Answer:
    """Echoes, but once, after so many chunks, does nothing at all for a while."""
    seen = 0

    def answer(_sock: socket.socket, data: bytes) -> bytes:
        nonlocal seen
        seen += 1
        if seen == after:
            time.sleep(seconds)
        return data

    return answer


def stalls_twice(seconds: float, size: int) -> Answer:
    """Echoes, but takes a while for each of the first two chunks with which `size` bytes came."""
    seen = stalls = 0

    def answer(_sock: socket.socket, data: bytes) -> bytes:
        nonlocal seen, stalls
        seen += len(data)
        if seen >= size and stalls < 2:
            stalls += 1
            time.sleep(seconds)
        return data

    return answer


def stops_answering(after: int) -> Answer:
    """Echoes so many chunks, and says nothing more."""
    seen = 0

    def answer(_sock: socket.socket, data: bytes) -> bytes:
        nonlocal seen
        seen += 1
        return data if seen <= after else b""

    return answer


def closes_at_random(seed: int) -> Answer:
    """Echoes, and closes one time in four, before or after it has answered."""
    dice = Random(seed)  # noqa: S311 - to be drawn again

    def answer(sock: socket.socket, data: bytes) -> bytes | None:
        if dice.random() < 0.75:
            return data
        if dice.random() < 0.5:
            with contextlib.suppress(OSError):
                sock.sendall(data)
        return None

    return answer
