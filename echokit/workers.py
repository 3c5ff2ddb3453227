"""Several processes that serve the same ports, and the parent that looks after them.

The parent binds every socket and keeps all of them open: a worker is handed its own ones, so that
those who wait in its queue when it dies wait for its successor, and are not reset. The system
spreads the connections over the workers' sockets, each by its addresses and ports. One socket for
all, with EPOLLEXCLUSIVE, would be simpler, but leaves the spreading to who wakes first: the first
of four workers took 875 of 1000 connections.
"""

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from echokit.config.limits import Limits
from echokit.errors import WorkerError
from echokit.net.address import EVERY_ADDRESS
from echokit.net.listen import Listeners, bind_listeners, share
from echokit.net.reactor import READ, Reactor
from echokit.observe.counters import Counters
from echokit.observe.observer import Observer
from echokit.server import EchoServer, socket_options, warnings
from echokit.worker import BROKEN_PIPE, REPORT, SIGNALS, STOP, work

__all__ = ["Workers", "worker_count"]

# A worker from which nothing was heard for so long is stopped, or stuck, and is replaced.
UNRESPONSIVE = 5.0
# A worker that ends so soon after its start has ended at its start.
AT_ONCE = 1.0
# After so many of these in a row there is no use in another.
DEATHS_AT_ONCE = 4
_FIRST_PAUSE = 0.25
# How long after the end of the time to drain the workers may take to end.
_GRACE = 2.0
_ANSWER_TIME = 1.0


def worker_count(asked: int) -> int:
    """How many processes are to serve where `asked` were asked for; 0: as many as cores.

    Only Linux spreads connections over sockets that share a port: elsewhere it is one.
    """
    if sys.platform != "linux":
        return 1
    return asked or len(os.sched_getaffinity(0))


@dataclass(slots=True, eq=False)
class _Worker:
    """The parent's knowledge of one worker.

    Attributes:
        number: Which of them, from 1; its successors have the same.
        listeners: Its sockets.
        pid: Its process; 0 while there is none.
        channel: To it.
        started: When, by the reactor's clock.
        heard: When something was last heard of it.
        counters: What it had counted then.
        before: What its predecessors had.
    """

    number: int
    listeners: Listeners
    pid: int = 0
    channel: socket.socket | None = None
    started: float = 0.0
    heard: float = 0.0
    counters: Counters = field(default_factory=Counters)
    before: Counters = field(default_factory=Counters)

    def say(self, word: bytes) -> None:
        """Tell it something, if it is there."""
        if self.channel is not None:
            with contextlib.suppress(OSError):
                self.channel.send(word)

    def __str__(self) -> str:
        return f"worker {self.number} (pid {self.pid})"


class Workers:
    """Echo servers in `count` processes of their own, over the same ports (Linux).

    Made, they listen; `serve` starts them. Used as an EchoServer is, but in the main thread only,
    of a process without other threads: it forks.

    Args:
        count: How many.
        make: Makes a server with the given listeners and limits, in the worker's process.
        host: As for EchoServer; so are `port`, `family`, `backlog` and `observer`.
        limits: `max_connections` is divided among them; the others are each one's.

    Raises:
        ResolveError: The host has no address (of that family).
        ListenError: An address is taken or not allowed, or none could be had.
    """

    def __init__(
        self,
        count: int,
        make: Callable[[Listeners, Limits], EchoServer],
        host: str = "localhost",
        port: int = 10000,
        *,
        family: socket.AddressFamily = socket.AF_UNSPEC,
        backlog: int = 4096,
        limits: Limits | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._make = make
        self._host = host
        self._limits = limits if limits is not None else Limits()
        self._observer = observer if observer is not None else Observer()
        options = socket_options(self._limits)
        listeners = bind_listeners(host, port, family, backlog=backlog, options=options)
        self.addresses = listeners.addresses
        self.port = listeners.port
        self._skipped = listeners.skipped
        shared = share(listeners, count, backlog=backlog, options=options)
        self._workers = [_Worker(number, each) for number, each in enumerate(shared, 1)]
        self._reactor = Reactor()
        self._stops = 0
        self._cut = 0
        self._deaths_at_once = 0
        self._failure: Exception | None = None
        # Those that have not yet answered how much they have counted.
        self._asked: set[_Worker] = set()

    # Its life.

    def serve(self) -> int:
        """Let the workers echo until `stop` is called and all have finished.

        Returns:
            How many connections had to be cut at the end.

        Raises:
            WorkerError: They end as soon as they have started, again and again.
        """
        try:
            self._observer.listening(self._host or EVERY_ADDRESS, self.addresses)
            for warning in warnings(self._skipped, self.addresses, self._limits):
                self._observer.warned(warning)
            self._observer.waiting()
            for worker in self._workers:
                self._start(worker)
            self._look_after_them()
            self._reactor.run()
        finally:
            self.close()
        if self._failure is not None:
            raise self._failure
        return self._cut

    @property
    def wakeup_fd(self) -> int:
        """What `signal.set_wakeup_fd` takes, so that a signal ends the wait for events at once."""
        return self._reactor.wakeup_fd

    @property
    def counters(self) -> Counters:
        """What all of them had counted when they last said so, at most a second ago."""
        return sum((each.before + each.counters for each in self._workers), Counters())

    def stop(self) -> None:
        """As EchoServer.stop, of all of them."""
        self._stops += 1
        self._reactor.call_soon(self._stop)

    def report(self) -> None:
        """Ask all of them what they have counted, and tell the observer."""
        self._reactor.call_soon(self._ask)

    def close(self) -> None:
        """Give every socket back, and end what still runs."""
        for worker in self._workers:
            worker.listeners.close()
            if worker.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, signal.SIGKILL)
                self._cut += worker.counters.open
                self._bury(worker)
        self._reactor.close()

    # The workers' lives.

    def _start(self, worker: _Worker) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setblocking(False)
        # What waits in a buffer would be written by both.
        sys.stdout.flush()
        sys.stderr.flush()
        # Until the worker has handlers of its own, a signal would find the parent's.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        pid = os.fork()
        if not pid:
            try:
                os._exit(self._become(worker, ours, theirs))
            finally:
                # Whatever happens, this process does not return into the parent's code.
                os._exit(1)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        worker.pid, worker.channel = pid, ours
        worker.started = worker.heard = self._reactor.clock()
        self._reactor.add(ours.fileno(), READ, lambda _events: self._on_channel(worker))

    def _become(self, worker: _Worker, ours: socket.socket, theirs: socket.socket) -> int:
        """In the new process: be that worker, to its end."""
        signal.set_wakeup_fd(-1)
        # An end of a channel that a brother holds would keep his death, and the parent's, secret.
        ours.close()
        for other in self._workers:
            if other.channel is not None:
                other.channel.close()
            if other is not worker:
                other.listeners.close()
        self._reactor.close()
        return work(lambda: self._make(worker.listeners, self._limits_of(worker)), theirs)

    def _limits_of(self, worker: _Worker) -> Limits:
        """The limits with this worker's share of the connections."""
        most, count = self._limits.max_connections, len(self._workers)
        if not most:
            return self._limits
        part = most // count + (worker.number <= most % count)
        return self._limits.model_copy(update={"max_connections": max(1, part)})

    def _on_channel(self, worker: _Worker) -> None:
        """A worker says something, or has ended."""
        try:
            said = b"" if worker.channel is None else worker.channel.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if not said:
            self._ended(worker)
            return
        worker.heard = self._reactor.clock()
        words: dict[str, Any] = json.loads(said)
        if "error" in words:
            self._observer.warned(f"{worker} failed: {words['error']}")
        if "counters" in words:
            worker.counters = Counters.from_dict(words["counters"])
        self._cut += words.get("cut", 0)
        if "report" in words:
            self._answered(worker)

    def _bury(self, worker: _Worker) -> int:
        """Take leave of a worker whose process has ended, or is ending; its exit code."""
        _, status = os.waitpid(worker.pid, 0)
        worker.pid = 0
        if worker.channel is not None:
            self._reactor.discard(worker.channel.fileno())
            worker.channel.close()
            worker.channel = None
        worker.before += worker.counters.with_open_cut()
        worker.counters = Counters()
        return os.waitstatus_to_exitcode(status)

    def _ended(self, worker: _Worker) -> None:
        name, left = str(worker), worker.counters.open
        at_once = self._reactor.clock() - worker.started < AT_ONCE
        code = self._bury(worker)
        self._answered(worker)
        if self._stops:
            # One that ended by itself has told what it had to cut.
            self._cut += left if code else 0
            if not any(each.pid for each in self._workers):
                self._reactor.stop()
            return
        if code == BROKEN_PIPE:
            self._fail(BrokenPipeError())
            return
        how = (
            f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        )
        self._deaths_at_once = self._deaths_at_once + 1 if at_once else 0
        if self._deaths_at_once >= DEATHS_AT_ONCE:
            self._fail(WorkerError(f"{name} {how} as soon as it had started, like those before it"))
            return
        self._observer.warned(f"{name} {how}, with {left} connections open; another follows it")
        pause = _FIRST_PAUSE * 2 ** (self._deaths_at_once - 1) if at_once else 0.0
        self._reactor.call_later(pause, lambda: self._restart(worker))

    def _restart(self, worker: _Worker) -> None:
        if not self._stops:
            self._start(worker)

    def _fail(self, error: Exception) -> None:
        """There is no use in going on."""
        self._failure = error
        self._stops += 1
        self._stop()

    def _look_after_them(self) -> None:
        """Replace those that do not answer."""
        now = self._reactor.clock()
        for worker in self._workers:
            if worker.pid and now - worker.heard > UNRESPONSIVE:
                self._observer.warned(
                    f"{worker} has not answered for {UNRESPONSIVE:g}s: it is replaced"
                )
                os.kill(worker.pid, signal.SIGKILL)
                # Its end is heard soon; it is not to be killed again meanwhile.
                worker.heard = now
        self._reactor.call_later(1.0, self._look_after_them)

    # Stopping and asking.

    def _stop(self) -> None:
        """Listen no more, and have every worker finish; the second time, have it cut."""
        for worker in self._workers:
            worker.listeners.close()
            worker.say(STOP)
        if not any(worker.pid for worker in self._workers):
            self._reactor.stop()
        elif self._stops == 1:
            patience = self._limits.drain_timeout + _GRACE
            self._reactor.call_later(patience, self._reactor.stop)

    def _ask(self) -> None:
        self._asked = {worker for worker in self._workers if worker.pid}
        for worker in self._asked:
            worker.say(REPORT)
        # One that does not answer in time is counted as it was last heard.
        asked = self._asked
        self._reactor.call_later(_ANSWER_TIME, lambda: self._tell(asked))

    def _answered(self, worker: _Worker) -> None:
        if worker in self._asked:
            self._asked.discard(worker)
            if not self._asked:
                self._tell(self._asked)

    def _tell(self, asked: set[_Worker]) -> None:
        """Tell what has been counted, once for each time that it was asked."""
        if asked is self._asked:
            self._asked = set()
            self._observer.counted(self.counters)
