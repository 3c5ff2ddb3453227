"""What a server and a client can be asked to tell while they run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from echokit.net.address import Address
from echokit.net.dial import Dialed
from echokit.net.handler import End

if TYPE_CHECKING:
    # A client is told of no counters and no refusals, and need not import them.
    from echokit.net.admission import Refusal
    from echokit.observe.counters import Counters

__all__ = ["Observer"]


class Observer:
    """Is told what happens. Every method does nothing; a subclass overrides what it wants.

    Called in the thread that serves, between two events: what takes long here holds up everyone.
    What a method raises ends the run. What is not overridden of `accepted`, `received` and `ended`
    is not told at all, and costs nothing.
    """

    # Whether `ended` is to be told of connections that ended in good order, too.
    hears_clean_ends = True

    # The server.

    def listening(self, host: str, addresses: Sequence[Address]) -> None:
        """Every address is bound; they share a port."""

    def waiting(self) -> None:
        """No connection is open: at the start, and whenever the last one has ended."""

    def accepted(self, peer: Address) -> None:
        """A client has connected."""

    def received(self, peer: Address, message: bytes) -> None:
        """A message (raw: a chunk) has come; it is sent back next."""

    def ended(self, peer: Address, end: End) -> None:
        """A connection has ended."""

    def warned(self, text: str) -> None:
        """Something is not as it should be, and serving goes on."""

    def refused(self, peer: Address, why: "Refusal", left_out: int) -> None:
        """A client was closed at once. Told once a second for each reason; `left_out` were not."""

    def tell_left_out(self, *, at_end: bool) -> None:
        """A second has passed, or serving is at its end: the time to tell how much was not told."""

    def counted(self, counters: "Counters") -> None:
        """What has been counted so far was asked for."""

    def draining(self, connections: int) -> None:
        """The server was asked to stop, and finishes what it owes."""

    # The client.

    def connecting(self, host: str, port: int) -> None:
        """The client begins to connect."""

    def connected(self, dialed: Dialed) -> None:
        """The client has connected."""

    def sending(self, message: bytes) -> None:
        """A message is sent."""

    def echoed(self, message: bytes) -> None:
        """A message (raw: a chunk) has come back; it is held against what was sent next."""

    def closing(self) -> None:
        """The client closes its connection."""
