"""One of several processes that serve the same ports: what the worker itself does.

A channel (a pair of sockets that keeps messages apart) joins it to its parent. It says every
second what it has counted, by which the parent knows that it lives; it is told there to stop, and
sees there that its parent has gone. Signals are the parent's affair: a Ctrl-C reaches every process
of a terminal, and a worker that heeded it too would take it for the second one.
"""

import contextlib
import json
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from echokit.net.reactor import READ
from echokit.server import EchoServer

__all__ = ["BEAT", "CUT", "REPORT", "SIGNALS", "STOP", "work"]

# What the parent heeds. They are blocked when a worker begins.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
# What the parent says.
STOP = b"stop"
CUT = b"cut"
REPORT = b"report"
# How often the worker says that it lives, in seconds.
BEAT = 1.0
# How long connections may finish when the parent was killed, in seconds.
ORPHAN_PATIENCE = 1.0

# How much is told of an error: a message that the channel cannot hold would not come at all.
_LONGEST_ERROR = 400


def work(make: Callable[[], EchoServer], channel: socket.socket) -> int:
    """Serve until the parent says stop, or has gone; the exit code of the process.

    Args:
        make: Makes the server.
        channel: To the parent; non-blocking.
    """
    try:
        with contextlib.closing(make()) as server:
            worker = _Worker(server, channel)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            # Whoever ends a whole group of processes sends it to this one, too.
            signal.signal(signal.SIGTERM, lambda *_: worker.drain())
            server.wake_at_signals()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            try:
                cut = server.serve()
                sys.stdout.flush()
            except OSError as error:
                # What the network says ends connections only. So this is of what is told on
                # stdout, which another worker could not write, either.
                worker.tell(errno=error.errno)
                return 1
            worker.tell(cut=cut)
    except Exception as error:  # noqa: BLE001 - the parent tells it
        words = f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]
        with contextlib.suppress(OSError):
            channel.send(json.dumps({"error": words}).encode())
        return 1
    return 0


class _Worker:
    """What joins a server to the channel."""

    def __init__(self, server: EchoServer, channel: socket.socket) -> None:
        self._server = server
        self._channel = channel
        self._draining = False
        server.reactor.add(channel.fileno(), READ, self._on_channel)
        self._beat()

    def tell(self, **more: Any) -> None:
        """Say what has been counted, and `more`.

        A parent that has gone misses nothing; one that has stood still for minutes, until the
        channel was full, what was to be `more`.
        """
        counters = self._server.counters.as_dict()
        with contextlib.suppress(OSError):
            self._channel.send(json.dumps({"counters": counters, **more}).encode())

    def drain(self) -> None:
        """Let what is open finish; said twice, it is still no reason to cut."""
        if not self._draining:
            self._draining = True
            self._server.stop()
            # Whatever becomes of it from now on: its parent knows what it was to finish.
            self._server.reactor.call_soon(self.tell)

    def _cut(self) -> None:
        self.drain()
        self._server.stop()

    def _beat(self) -> None:
        self.tell()
        self._server.reactor.call_later(BEAT, self._beat)

    def _on_channel(self, _events: int) -> None:
        try:
            word = self._channel.recv(64)
        except BlockingIOError:
            return
        except OSError:
            word = b""
        if word == STOP:
            self.drain()
        elif word == CUT:
            self._cut()
        elif word == REPORT:
            self.tell(report=True)
        elif not word:
            # Nobody is left to restart us, or to be told. The port is to be free soon.
            self._server.reactor.remove(self._channel.fileno())
            self.drain()
            self._server.reactor.call_later(ORPHAN_PATIENCE, self._cut)
