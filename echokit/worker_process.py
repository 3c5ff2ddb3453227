"""One worker as its parent knows it: its sockets, its process, its channel, its counters."""

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from echokit.net.listen import Listeners
from echokit.observe.counters import Counters
from echokit.worker import SIGNALS

__all__ = ["WorkerProcess", "ending_in_words"]

# A message is some hundred bytes.
_LONGEST_MESSAGE = 1 << 16


class WorkerProcess:
    """A worker's place: one process after another lives in it, over the same sockets.

    Args:
        number: Which of the workers, from 1.
        listeners: The sockets.

    Attributes:
        pid: Its process; 0 while there is none.
        channel: To that process, while there is one.
        started: When it was, by its parent's clock.
        silent: How often its parent has looked since it was last heard.
        failure: What it has said of its own end.
        errno: What the system said as it could not go on telling; 0: nothing.
        cut: How many connections it has said that it had to cut.
        told: Whether it has answered what it was last asked.
        counters: What the process had counted when it was last heard.
        before: What those before it had.
    """

    def __init__(self, number: int, listeners: Listeners) -> None:
        self.number = number
        self.listeners = listeners
        self.pid = 0
        self.channel: socket.socket | None = None
        self.started = 0.0
        self.silent = 0
        self.failure = ""
        self.errno = 0
        self.cut = 0
        self.told = True
        self.counters = Counters()
        self.before = Counters()

    def __str__(self) -> str:
        return f"worker {self.number} (pid {self.pid})" if self.pid else f"worker {self.number}"

    def start(self, life: Callable[[socket.socket], int], now: float) -> socket.socket:
        """Start its process.

        Args:
            life: What the process does, given its end of the channel; returns its exit code.
            now: By the parent's clock.

        Returns:
            The parent's end of the channel.

        Raises:
            OSError: The system has no room for another process, or the channel.
        """
        # What waits in a buffer would be written by both.
        sys.stdout.flush()
        # A stderr that takes nothing keeps what it was told, and is no reason to serve no more.
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        theirs.setblocking(False)
        # Until the worker has handlers of its own, a signal would find the parent's.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            pid = os.fork()
            if not pid:
                ours.close()
                _live(life, theirs)
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        self.pid, self.channel, self.started = pid, ours, now
        self.silent, self.failure, self.told = 0, "", True
        return ours

    def say(self, word: bytes) -> None:
        """Tell it something, if it is there."""
        if self.channel is not None:
            with contextlib.suppress(OSError):
                self.channel.send(word)

    def hear(self) -> bool:
        """Take all that it has said since; False once it can say nothing more."""
        while self.channel is not None:
            try:
                said = self.channel.recv(_LONGEST_MESSAGE)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not said:
                return False
            self._take(json.loads(said))
        return False

    def _take(self, words: dict[str, Any]) -> None:
        self.silent = 0
        self.failure = words.get("error", self.failure)
        self.errno = words.get("errno") or self.errno
        self.cut += words.get("cut", 0)
        self.told = self.told or "report" in words
        if "counters" in words:
            self.counters = Counters.from_dict(words["counters"])

    def kill(self) -> None:
        """End its process, whatever it does."""
        # It is there until it is buried, so the number is no other's.
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)

    def has_ended(self) -> bool:
        """Whether its process has ended, though its channel may be open in a child of its own."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def bury(self) -> int:
        """Take leave of the process: its exit code, or minus the signal that ended it.

        One that still runs, having closed its channel, is ended.
        """
        # Without effect on one that is already on its way out.
        self.kill()
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        self.hear()
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        self.before += self.counters.with_open_cut()
        self.counters = Counters()
        self.told = True
        return os.waitstatus_to_exitcode(status)


def _live(life: Callable[[socket.socket], int], channel: socket.socket) -> NoReturn:
    """Be a worker to its end. Whatever happens, it does not return into the parent's code."""
    try:
        signal.set_wakeup_fd(-1)
        os._exit(life(channel))
    finally:
        os._exit(1)


def ending_in_words(code: int, failure: str) -> str:
    """How a process ended, by its exit code, or minus a signal, and what it has said itself."""
    if failure:
        return f"failed: {failure}"
    if code >= 0:
        return f"ended with code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        # Those between SIGRTMIN and SIGRTMAX have no names.
        return f"was ended by signal {-code}"
