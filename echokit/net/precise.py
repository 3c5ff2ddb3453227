"""Waiting to the microsecond: epoll, whose own timeouts are whole milliseconds, inside select."""

import select

from echokit.net.reactor import Poller

__all__ = ["precise_poller"]

# Waits longer than this leave the last part to a second, precise wait.
_COARSE = 0.002
# select(2) takes no higher descriptors (FD_SETSIZE).
_SELECTABLE = 1024
# epoll_wait's unit, by which Python rounds up.
_MILLISECOND = 0.001


class _PreciseEpoll:
    """`Poller` over epoll whose timeouts are kept to the precision of select(2).

    In a process that had more than a thousand files open before, to milliseconds.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._waited_for = [self._epoll.fileno()]
        self._selectable = self._epoll.fileno() < _SELECTABLE
        self.register = self._epoll.register
        self.modify = self._epoll.modify
        self.unregister = self._epoll.unregister
        self.close = self._epoll.close

    def poll(self, timeout: float | None = None, maxevents: int = -1, /) -> list[tuple[int, int]]:
        """Wait up to `timeout` seconds (None: for ever); what is ready, `maxevents` of it.

        It may return early with nothing, which a loop with timers takes for a wait in two parts.
        """
        if not timeout or not self._selectable:
            return self._epoll.poll(timeout, maxevents)
        if timeout > _COARSE:
            return self._epoll.poll(timeout - _MILLISECOND, maxevents)
        if events := self._epoll.poll(0, maxevents):
            return events
        ready, _, _ = select.select(self._waited_for, (), (), timeout)
        return self._epoll.poll(0, maxevents) if ready else []


def precise_poller() -> Poller | None:
    """A poller for timers that are due to the microsecond; None where the system has no epoll."""
    return _PreciseEpoll() if hasattr(select, "epoll") else None
