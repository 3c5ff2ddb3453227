"""What a server tells of what is not as it should be: in words, and not too often."""

from collections.abc import Iterator, Sequence

from echokit.config.limits import Limits
from echokit.errors import ListenError, reason
from echokit.net.address import Address
from echokit.net.admission import Refusal
from echokit.net.descriptors import room_for_connections
from echokit.observe.observer import Observer
from echokit.observe.rate_limit import RateLimits, with_left_out

__all__ = ["Notices", "warnings"]


class Notices:
    """Tells an observer what peers can cause: once a second at most, each kind by itself.

    Args:
        observer: Is told.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._limits = RateLimits()

    def refused(self, peer: Address, refusal: Refusal) -> None:
        """A client was closed at once."""
        left_out = self._limits.ask(f"connections refused as {refusal.value}")
        if left_out is not None:
            self._observer.refused(peer, refusal, left_out)

    def full(self, most: int) -> None:
        """Some wait while `most` are open, as many as may be."""
        are_open = "1 connection is" if most == 1 else f"{most} connections are"
        self._warn("max_connections reached", f"{are_open} open, as many as may be: others wait")

    def cannot_accept(self, error: OSError, are_open: int, *, stopping: bool) -> None:
        """The system is short of something."""
        others = "that still wait are reset" if stopping else "that come wait until some end"
        self._warn(
            "accept failed",
            f"cannot accept: {reason(error)}, with {are_open}"
            f" connection{'' if are_open == 1 else 's'} open; those {others}",
        )

    def held_up(self, seconds: float) -> None:
        """The loop did not turn for so long."""
        self._warn(
            "nobody served",
            f"nobody was served for {seconds:.1f}s: the process was stopped, or a framing or an"
            " observer held it up",
        )

    def tell_left_out(self, *, at_end: bool) -> None:
        """Tell how much was not told, where nothing more of its kind has come that would."""
        for line in self._limits.overdue(at_end=at_end):
            self._observer.warned(line)
        self._observer.tell_left_out(at_end=at_end)

    def _warn(self, kind: str, text: str) -> None:
        left_out = self._limits.ask(kind)
        if left_out is not None:
            self._observer.warned(with_left_out(text, left_out))


def warnings(
    skipped: Sequence[ListenError], addresses: Sequence[Address], limits: Limits
) -> Iterator[str]:
    """What whoever starts a server should know."""
    for error in skipped:
        yield f"{error}; serving without it"
    if any(address.is_every for address in addresses) and not limits.allow:
        yield (
            "listening on every address: anyone who reaches this host can use it;"
            " limit that with --allow"
        )
    if limits.max_connections > (room := room_for_connections()):
        yield (
            f"max_connections {limits.max_connections} is more than this process may have"
            f" descriptors for: room is for {room}"
        )
