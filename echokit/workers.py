"""Several processes that serve the same ports, and the parent that looks after them.

The parent binds every socket and keeps all of them open: a worker is handed its own ones, so that
those who wait in its queue when it dies wait for its successor, and are not reset. The system
spreads the connections over the workers' sockets, each by its addresses and ports. One socket for
all, with EPOLLEXCLUSIVE, would be simpler, but leaves the spreading to who wakes first: the first
of four workers took 875 of 1000 connections.
"""

import contextlib
import os
import select
import signal
import socket
import sys
from collections.abc import Callable

from echokit.config.limits import Limits
from echokit.cores import usable_cores
from echokit.errors import WorkerError, reason
from echokit.net.address import EVERY_ADDRESS
from echokit.net.listen import Listeners, bind_listeners, share
from echokit.net.reactor import READ, Reactor, Timer
from echokit.observe.counters import Counters
from echokit.observe.notices import warnings
from echokit.observe.observer import Observer
from echokit.server import EchoServer
from echokit.worker import CUT, REPORT, STOP, work
from echokit.worker_process import WorkerProcess, ending_in_words

__all__ = ["Workers", "worker_count"]

# How often the parent looks after the workers, in seconds.
LOOK = 1.0
# A worker from which so many looks have heard nothing is stopped, or stuck, and is replaced. Looks
# are counted, and not seconds: where all were stopped together (Ctrl-Z), nobody was silent.
UNRESPONSIVE = 5
# A worker that ends so soon after its start has ended at its start, in seconds.
AT_ONCE = 1.0
# After so many of these in a row there is no use in another.
DEATHS_AT_ONCE = 4
_FIRST_PAUSE = 0.25
# How long before a process that could not be started is tried again.
_FORK_PAUSE = 1.0
# How much longer the workers may take to end than their connections, in seconds.
_GRACE = 2.0
_ANSWER_TIME = 1.0


def worker_count(asked: int, most: int = 0) -> int:
    """How many processes are to serve where `asked` were asked for; 0: as many as cores.

    Not more than the `most` connections that may be open at once (0: any number). Only Linux
    spreads connections over sockets that share a port: elsewhere it is one.
    """
    if sys.platform != "linux":
        return 1
    count = asked or usable_cores()
    return min(count, most) if most else count


def _is_read() -> bool:
    """Whether somebody reads what is told: while nobody does, whoever tells something waits."""
    streams = select.poll()
    for descriptor in (1, 2):
        streams.register(descriptor, select.POLLOUT)
    return len(streams.poll(0)) == 2  # noqa: PLR2004 - both


class Workers:
    """Echo servers in `count` processes of their own, over the same ports (Linux).

    Made, they listen; `serve` starts them. Used as an EchoServer is, but in the main thread only,
    of a process without other threads: it forks.

    Args:
        count: How many.
        make: Makes a server with the given listeners and limits, in the worker's process.
        host: As for EchoServer; so are `port`, `family`, `backlog` and `observer`.
        limits: `max_connections`, where it is not 0, is divided among them, and is to be at least
            `count`; the others are each one's.

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
        options = self._limits.socket_options
        listeners = bind_listeners(host, port, family, backlog=backlog, options=options)
        self.addresses = listeners.addresses
        self.port = listeners.port
        self._skipped = listeners.skipped
        shared = share(listeners, count, backlog=backlog, options=options)
        self._workers = [WorkerProcess(number, each) for number, each in enumerate(shared, 1)]
        try:
            self._reactor = Reactor()
        except BaseException:
            for worker in self._workers:
                worker.listeners.close()
            raise
        self._stops = 0
        # How many connections were lost with processes that were to finish them, and did not.
        self._cut = 0
        self._deaths_at_once = 0
        self._failure: Exception | None = None
        # How often what has been counted is to be told: 2 if it was asked for again meanwhile.
        self._reports = 0
        self._answers_due: Timer | None = None

    # Its life.

    def serve(self) -> int:
        """Let the workers echo until `stop` is called and all have finished.

        Returns:
            How many connections had to be cut at the end.

        Raises:
            WorkerError: They cannot be started, or end as soon as they have started, again and
                again.
            OSError: What is told cannot be written.
        """
        # Where it is ignored, as it may have been handed down, nobody hears how a child has ended.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            self._observer.listening(self._host or EVERY_ADDRESS, self.addresses)
            limits = self._limits_of(self._workers[0])
            for warning in warnings(self._skipped, self.addresses, limits):
                self._observer.warned(warning)
            self._observer.waiting()
            for worker in self._workers:
                # Very many take their time: a stop need not wait until all are there.
                if not self._stops:
                    self._start(worker)
            self._reactor.call_later(LOOK, self._look_after_them)
            self._reactor.run()
        finally:
            self.close()
        if self._failure is not None:
            raise self._failure
        return self._cut + sum(worker.cut for worker in self._workers)

    def wake_at_signals(self) -> None:
        """Let a signal end the wait for events at once, until `serve` ends; for the main thread."""
        self._reactor.wake_at_signals()

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
            worker.kill()
        for worker in self._workers:
            if worker.pid:
                worker.hear()
                self._cut += worker.counters.open
                self._bury(worker)
        self._reactor.close()

    # The workers' lives.

    def _start(self, worker: WorkerProcess) -> None:
        def live(channel: socket.socket) -> int:
            # An end of a channel that a brother holds would keep his death, and the parent's,
            # secret; and a socket of his would keep the port.
            for other in self._workers:
                if other is not worker:
                    other.listeners.close()
                    if other.channel is not None:
                        other.channel.close()
            self._reactor.close()
            limits = self._limits_of(worker)
            return work(lambda: self._make(worker.listeners, limits), channel)

        try:
            channel = worker.start(live, self._reactor.clock())
        except BrokenPipeError:
            raise
        except OSError as error:
            raise WorkerError(f"cannot start {worker}: {reason(error)}") from error
        self._reactor.add(channel.fileno(), READ, lambda _events: self._on_channel(worker))

    def _limits_of(self, worker: WorkerProcess) -> Limits:
        """The limits with this worker's share of the connections."""
        most, count = self._limits.max_connections, len(self._workers)
        if not most:
            return self._limits
        part = most // count + (worker.number <= most % count)
        return self._limits.model_copy(update={"max_connections": max(1, part)})

    def _on_channel(self, worker: WorkerProcess) -> None:
        """A worker says something, or has ended."""
        if not worker.hear():
            self._ended(worker)
        self._tell_if_all_answered()

    def _bury(self, worker: WorkerProcess) -> int:
        if worker.channel is not None:
            self._reactor.discard(worker.channel.fileno())
        return worker.bury()

    def _ended(self, worker: WorkerProcess) -> None:
        """A worker's process has ended, or is ending: another takes its place."""
        worker.hear()
        name, left = str(worker), worker.counters.open
        at_once = self._reactor.clock() - worker.started < AT_ONCE
        code = self._bury(worker)
        if self._stops:
            # One that ended by itself has told what it had to cut.
            self._cut += left if code else 0
            if not any(each.pid for each in self._workers):
                self._reactor.stop()
            return
        if worker.errno:
            self._fail(OSError(worker.errno, os.strerror(worker.errno)))
            return
        how = ending_in_words(code, worker.failure)
        self._deaths_at_once = self._deaths_at_once + 1 if at_once else 0
        if self._deaths_at_once >= DEATHS_AT_ONCE:
            self._fail(
                WorkerError(
                    f"{name} {how} as soon as it had started, like those before it: the server ends"
                )
            )
            return
        some = "1 connection" if left == 1 else f"{left} connections"
        self._observer.warned(f"{name} {how}; it last told of {some}; another takes its place")
        pause = _FIRST_PAUSE * 2 ** (self._deaths_at_once - 1) if at_once else 0.0
        self._reactor.call_later(pause, lambda: self._restart(worker))

    def _restart(self, worker: WorkerProcess) -> None:
        if self._stops:
            return
        try:
            self._start(worker)
        except WorkerError as error:
            self._observer.warned(f"{error}; what comes to it waits, and it is tried again")
            self._reactor.call_later(_FORK_PAUSE, lambda: self._restart(worker))

    def _fail(self, error: Exception) -> None:
        """There is no use in going on."""
        self._failure = error
        self._stops += 1
        self._stop()

    def _look_after_them(self) -> None:
        """End those that do not answer, so that others take their places."""
        read = _is_read()
        for worker in self._workers:
            if not worker.pid:
                continue
            if worker.has_ended():
                self._ended(worker)
                continue
            worker.silent += read
            if worker.silent > UNRESPONSIVE:
                self._observer.warned(f"{worker} has not answered for {UNRESPONSIVE}s: it is ended")
                worker.kill()
                worker.silent = 0
        self._tell_if_all_answered()
        now = self._reactor.clock()
        if all(worker.pid and now - worker.started > AT_ONCE for worker in self._workers):
            # All live: what there was at the start is over.
            self._deaths_at_once = 0
        self._reactor.call_later(LOOK, self._look_after_them)

    # Stopping and asking.

    def _stop(self) -> None:
        """Listen no more, and have every worker finish; the second time, have it cut."""
        word, patience = STOP, self._limits.drain_timeout + _GRACE
        if self._stops > 1:
            word, patience = CUT, _GRACE
        elif self._failure is None:
            self._fill_places()
        for worker in self._workers:
            worker.listeners.close()
            worker.say(word)
        if any(worker.pid for worker in self._workers):
            self._reactor.call_later(patience, self._reactor.stop)
        else:
            self._reactor.stop()

    def _fill_places(self) -> None:
        """Those that wait for a successor are served before the end, too."""
        for worker in self._workers:
            if not worker.pid and worker.started:
                with contextlib.suppress(WorkerError):
                    self._start(worker)

    def _ask(self) -> None:
        # Whoever asks while answers are awaited is told by the next ones; one more will do for
        # all of them.
        self._reports = min(self._reports + 1, 2)
        if self._reports == 1:
            self._ask_them()

    def _ask_them(self) -> None:
        for worker in self._workers:
            worker.told = not worker.pid
            worker.say(REPORT)
        # One that does not answer in time is counted as it was last heard.
        self._answers_due = self._reactor.call_later(_ANSWER_TIME, self._tell)
        self._tell_if_all_answered()

    def _tell_if_all_answered(self) -> None:
        if self._reports and all(worker.told for worker in self._workers):
            self._tell()

    def _tell(self) -> None:
        if self._answers_due is not None:
            self._answers_due.cancel()
        self._reports -= 1
        self._observer.counted(self.counters)
        if self._reports:
            self._ask_them()
