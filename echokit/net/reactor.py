"""The readiness loop: sockets that are ready, timers that are due, calls from other threads.

Everything that moves bytes runs here, in one thread, on non-blocking sockets: epoll where the
system has it, `selectors` elsewhere. Level-triggered, unless asked for otherwise: what a handler
leaves unread is reported again. A handler runs to its end before the next, so there are no locks.
"""

import contextlib
import heapq
import itertools
import select
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol, Self

__all__ = ["ARRIVAL", "READ", "WRITE", "Reactor", "Timer"]

# Readiness to read and to write: epoll's own numbers (EPOLLIN, EPOLLOUT), so that its events need
# no translation. Errors and hang-ups come as further bits, asked for or not.
READ = 1
WRITE = 4
# READ, told once for what has come (EPOLLET), which spares the system a second look at the socket;
# where there is no epoll it is READ. What a read may stop short of comes as a further bit: urgent
# data (EPOLLPRI), the peer's end (EPOLLRDHUP). So where an event is READ alone, a read that takes
# less than it asks for leaves nothing behind. After any other, `modify` to the same events lets the
# system look again.
ARRIVAL = READ | 0x2 | 0x2000 | 0x80000000

# How many events are taken from the system at once. Those of thousands, each a tuple, would have
# left the processor's caches before their turn.
_AT_ONCE = 64


class Poller(Protocol):
    """What the loop asks of the system: the shape of `select.epoll`."""

    def register(self, fd: int, eventmask: int, /) -> None:
        """Report `fd` from now on."""

    def modify(self, fd: int, eventmask: int, /) -> None:
        """Report other events of `fd`."""

    def unregister(self, fd: int, /) -> None:
        """Report `fd` no more."""

    def poll(self, timeout: float | None = None, maxevents: int = -1, /) -> list[tuple[int, int]]:
        """Wait up to `timeout` seconds (None: for ever); what is ready, `maxevents` of it."""

    def close(self) -> None:
        """Give back what the system lent."""


class Ready(Protocol):
    """Who is told that a descriptor is ready."""

    def on_ready(self, events: int, /) -> object:
        """It is ready for some of `events`."""


class _Call:
    """A function as a `Ready`."""

    __slots__ = ("on_ready",)

    def __init__(self, function: Callable[[int], object]) -> None:
        self.on_ready = function


class _Nobody:
    """Stands where a descriptor has no handler, or has none any more."""

    def on_ready(self, events: int, /) -> object:
        """Nothing."""


_NOBODY = _Nobody()


class SelectorPoller:
    """`Poller` over `selectors`, for systems without epoll (kqueue on macOS and the BSDs)."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def register(self, fd: int, eventmask: int, /) -> None:
        """Report `fd` from now on."""
        self._selector.register(fd, _to_selectors(eventmask))

    def modify(self, fd: int, eventmask: int, /) -> None:
        """Report other events of `fd`; `selectors` does not know of none."""
        if fd in self._selector.get_map():
            self._selector.unregister(fd)
        if eventmask:
            self._selector.register(fd, _to_selectors(eventmask))

    def unregister(self, fd: int, /) -> None:
        """Report `fd` no more."""
        self.modify(fd, 0)

    def poll(self, timeout: float | None = None, _maxevents: int = -1, /) -> list[tuple[int, int]]:
        """Wait up to `timeout` seconds (None: for ever); all that is ready."""
        return [
            (
                key.fd,
                (READ if events & selectors.EVENT_READ else 0)
                | (WRITE if events & selectors.EVENT_WRITE else 0),
            )
            for key, events in self._selector.select(timeout)
        ]

    def close(self) -> None:
        """Give back what the system lent."""
        self._selector.close()


def _to_selectors(events: int) -> int:
    return (selectors.EVENT_READ if events & READ else 0) | (
        selectors.EVENT_WRITE if events & WRITE else 0
    )


def _system_poller() -> Poller:
    return select.epoll() if hasattr(select, "epoll") else SelectorPoller()


class Timer:
    """A call that is due at a time of the reactor's clock."""

    __slots__ = ("_order", "callback", "due")

    def __init__(self, due: float, order: int, callback: Callable[[], None]) -> None:
        self.due = due
        self._order = order
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Do not call after all."""
        self.callback = None

    def __lt__(self, other: Self) -> bool:
        return (self.due, self._order) < (other.due, other._order)


class Reactor:
    """A readiness loop with timers.

    Not thread-safe but for `call_soon`, which other threads and signal handlers may use.
    """

    def __init__(
        self, *, poller: Poller | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.clock = clock
        # A byte on this pair ends the wait when a call comes from elsewhere.
        self._waker, self._wakened = socket.socketpair()
        # By descriptor: the system hands out the lowest number that is free.
        self._handlers: list[Ready] = []
        self._timers: list[Timer] = []
        self._orders = itertools.count()
        self._calls: deque[Callable[[], None]] = deque()
        self._stopped = False
        self._wakes_at_signals = False
        with contextlib.ExitStack() as undo:
            undo.callback(self._waker.close)
            undo.callback(self._wakened.close)
            self._poller = poller if poller is not None else _system_poller()
            undo.callback(self._poller.close)
            self._waker.setblocking(False)
            self._wakened.setblocking(False)
            self.add(self._wakened.fileno(), READ, self._on_woken)
            undo.pop_all()

    def wake_at_signals(self) -> None:
        """Let a signal end the wait for events at once; for the main thread.

        A signal between the last look at the handlers and the wait would else be handled only
        after it.
        """
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        self._wakes_at_signals = True

    def add(self, fd: int, events: int, handler: Callable[[int], object]) -> None:
        """Call `handler(events)` whenever `fd` is ready for some of `events`.

        Raises:
            PermissionError: The system cannot wait for such a descriptor (a regular file).
        """
        self.add_ready(fd, events, _Call(handler))

    def add_ready(self, fd: int, events: int, handler: Ready) -> None:
        """As `add`, and calls `handler.on_ready`: one object less for each of many connections."""
        self._poller.register(fd, events)
        if fd >= len(self._handlers):
            self._handlers.extend([_NOBODY] * (fd + 1 - len(self._handlers)))
        self._handlers[fd] = handler

    def modify(self, fd: int, events: int) -> None:
        """Wait for other `events` of `fd`."""
        self._poller.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Forget `fd`; to be called before it is closed."""
        self._handlers[fd] = _NOBODY
        self._poller.unregister(fd)

    def discard(self, fd: int) -> None:
        """Forget `fd` if it is there."""
        if 0 <= fd < len(self._handlers) and self._handlers[fd] is not _NOBODY:
            self.remove(fd)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` once, `delay` seconds from now."""
        timer = Timer(self.clock() + delay, next(self._orders), callback)
        heapq.heappush(self._timers, timer)
        return timer

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call `callback` in the loop's thread. From any thread, and from signal handlers."""
        self._calls.append(callback)
        try:
            self._waker.send(b"\0")
        except BlockingIOError:
            # So many calls wait that the pair is full: the loop is awake anyway.
            pass
        except OSError:
            # The reactor was closed meanwhile: nobody is left to call.
            pass

    def stop(self) -> None:
        """Let `run` return after what is being handled now."""
        self._stopped = True

    def run(self) -> None:
        """Handle what is ready and what is due until `stop` is called."""
        self._stopped = False
        poll = self._poller.poll
        handlers = self._handlers
        while not self._stopped:
            # What has come goes before what is due. So only that is due in this round which was
            # when the sockets were looked at: a process that is stopped in the wait, or while it
            # handles something, looks again before it takes what came meanwhile for late.
            looked = self.clock()
            patience = self._patience(looked)
            ready = poll(patience, _AT_ONCE)
            if patience and not ready:
                looked = self.clock()
                ready = poll(0, _AT_ONCE)
            # All of it, but no more than all descriptors could have at once.
            more = len(handlers) // _AT_ONCE
            while True:
                # What was taken from the system is handled, whatever comes: an ARRIVAL is not
                # told again.
                for fd, events in ready:
                    # An earlier handler of this round may have closed `fd`, or closed it and
                    # opened another under the same number: then this wakes the new one for
                    # nothing, which non-blocking sockets bear.
                    handlers[fd].on_ready(events)
                if len(ready) < _AT_ONCE or not more or self._stopped:
                    break
                more -= 1
                ready = poll(0, _AT_ONCE)
            if self._timers:
                self._call_due(looked)

    def _patience(self, now: float) -> float | None:
        """How long the next wait may last."""
        timers = self._timers
        while timers and timers[0].callback is None:
            heapq.heappop(timers)
        return max(0.0, timers[0].due - now) if timers else None

    def _call_due(self, now: float) -> None:
        while self._timers and self._timers[0].due <= now and not self._stopped:
            callback = heapq.heappop(self._timers).callback
            if callback is not None:
                callback()

    def _on_woken(self, _events: int) -> None:
        self._wakened.recv(4096)
        # Only those that wait now: a call that queues another must not keep the loop here.
        for _ in range(len(self._calls)):
            self._calls.popleft()()

    def close(self) -> None:
        """Give everything back. What was added must have been removed."""
        if self._wakes_at_signals:
            # Before its number is nobody's, or another's.
            signal.set_wakeup_fd(-1)
            self._wakes_at_signals = False
        self._poller.close()
        self._waker.close()
        self._wakened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
