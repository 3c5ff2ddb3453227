"""Time that passes only while a reactor waits."""

from echokit.net.reactor import Poller

__all__ = ["Clock", "Skipping"]


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """The time."""
        return self.now


class Skipping:
    """A poller that moves the clock on where the real one would wait."""

    def __init__(self, poller: Poller, clock: Clock) -> None:
        self._poller = poller
        self._clock = clock
        self.register = poller.register
        self.modify = poller.modify
        self.unregister = poller.unregister
        self.close = poller.close

    def poll(self, timeout: float | None = None, maxevents: int = -1, /) -> list[tuple[int, int]]:
        """What is ready; where nothing is, the time is over."""
        ready = self._poller.poll(0, maxevents)
        if not ready:
            assert timeout is not None, "this would wait for ever"
            self._clock.now += timeout
        return ready
