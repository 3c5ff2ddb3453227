"""Letting the connections of a server that stops finish what is in flight."""

from collections.abc import Collection

from echokit.net.handler import Ending
from echokit.net.reactor import Reactor
from echokit.net.stream import Stream

__all__ = ["Drain"]


class Drain:
    """Ends connections as they fall quiet, and at last those that do not.

    One that is owed something, or is amid a message, is waited for until `cut_all`. Any other has
    nothing in flight that could be known of: it is ended, in good order, once nothing has come,
    gone or been acknowledged by its peer for a while. So it is with every pause of a client of a
    framing without messages.

    Attributes:
        cut: How many were ended with something owed, or amid a message.
    """

    def __init__(self, reactor: Reactor, connections: Collection[Stream]) -> None:
        self._reactor = reactor
        self._connections = connections
        # How much had moved on each connection at the last look.
        self._moved: dict[Stream, tuple[int, int, int]] = {}
        self.cut = 0

    def end_quiet_ones(self, quiet: float) -> None:
        """End the connections on which nothing has moved for `quiet` seconds, now and from now on.

        Those that are owed something, or amid a message, are left.
        """
        for connection in list(self._connections):
            # A peer that reads slowly takes what the system holds, though nothing more is sent.
            moved = (connection.bytes_in, connection.bytes_out, connection.unacknowledged)
            waits = connection.sending or connection.unfinished
            if not waits and self._moved.get(connection) == moved:
                self.cut += not connection.drain()
            self._moved[connection] = moved
        self._reactor.call_later(quiet, lambda: self.end_quiet_ones(quiet))

    def cut_all(self) -> None:
        """End what is left at once."""
        for connection in list(self._connections):
            # One that has had all its bytes and our FIN loses nothing.
            self.cut += not connection.finished
            connection.close(Ending.DRAINED if connection.finished else Ending.CUT)
