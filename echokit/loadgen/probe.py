"""How late a reactor's timers are: what is ready had to wait as long."""

from typing import TYPE_CHECKING

from echokit.net.reactor import Reactor, Timer

if TYPE_CHECKING:
    from array import array

__all__ = ["Probe"]

# How often it looks, in seconds.
_EVERY = 0.01


class Probe:
    """Samples the lateness of a timer, in nanoseconds, into `lateness`."""

    def __init__(self, reactor: Reactor, lateness: "array[int]") -> None:
        self._reactor = reactor
        self._lateness = lateness
        self._timer: Timer | None = None
        self._due = 0.0

    def start(self) -> None:
        """Look now and then, until `stop`."""
        self._due = self._reactor.clock() + _EVERY
        self._timer = self._reactor.call_later(_EVERY, self._look)

    def _look(self) -> None:
        self._lateness.append(max(0, int((self._reactor.clock() - self._due) * 1e9)))
        self.start()

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
