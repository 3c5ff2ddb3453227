"""Letting the connections of a server that stops finish what is in flight."""

from collections.abc import Collection

from echokit.net.connection import Connection
from echokit.net.handler import Ending
from echokit.net.reactor import Reactor

__all__ = ["Drain"]


class Drain:
    """Ends connections as they fall quiet, and at last those that do not.

    Attributes:
        cut: How many were ended with something owed, or amid a message.
    """

    def __init__(self, reactor: Reactor, connections: Collection[Connection]) -> None:
        self._reactor = reactor
        self._connections = connections
        # How much had moved on each connection at the last look.
        self._moved: dict[Connection, tuple[int, int]] = {}
        self.cut = 0

    def end_quiet_ones(self, quiet: float) -> None:
        """End the connections on which nothing has moved for `quiet` seconds, now and from now on.

        One that is amid a message is ended too, as truncated, and counts as cut: that message is
        not coming back.
        """
        for connection in list(self._connections):
            moved = (connection.bytes_in, connection.bytes_out)
            if self._moved.get(connection) == moved and not connection.sending:
                self.cut += not connection.drain()
            self._moved[connection] = moved
        self._reactor.call_later(quiet, lambda: self.end_quiet_ones(quiet))

    def cut_all(self) -> None:
        """End what is left at once."""
        for connection in list(self._connections):
            # One that has had all its bytes and our FIN loses nothing.
            self.cut += not connection.finished
            connection.close(Ending.DRAINED if connection.finished else Ending.CUT)
