"""Connections that cut, or join, what they send on purpose: see `segment`."""

import errno
import os
from os import write

from echokit.framing.base import Framing
from echokit.net.address import Sockaddr
from echokit.net.connection import Connection
from echokit.net.handler import Ending, Handler
from echokit.net.reactor import WRITE, Reactor, Timer
from echokit.net.segment import JOINED, Segmentation, Segments

__all__ = ["open_connection"]

# How much is gathered at most where what is sent is to be joined.
JOIN_BYTES = 1 << 20


def open_connection(
    reactor: Reactor,
    fd: int,
    peer: Sockaddr,
    framing: Framing,
    chunk_size: int,
    handler: Handler,
    *,
    full_duplex: bool = False,
    echo: bool = False,
    segmentation: Segmentation | None = None,
    number: int = 0,
) -> Connection:
    """A connection on the socket `fd`: see `Connection` for what is given.

    With `segmentation` it sends as that has it; `number` tells it from others.
    """
    if segmentation is not None:
        kind = _Joined if segmentation.how == JOINED else _Cut
        segments = Segments(segmentation, number)
        return kind(
            reactor, fd, peer, framing, chunk_size, handler, segments, full_duplex=full_duplex
        )
    return Connection(
        reactor, fd, peer, framing, chunk_size, handler, full_duplex=full_duplex, echo=echo
    )


class _Paced(Connection):
    """What both have: times at which nothing is sent although something waits."""

    __slots__ = ("_pause", "_segments")

    def __init__(
        self,
        reactor: Reactor,
        fd: int,
        peer: Sockaddr,
        framing: Framing,
        chunk_size: int,
        handler: Handler,
        segments: Segments,
        *,
        full_duplex: bool,
    ) -> None:
        self._segments = segments
        self._pause: Timer | None = None
        super().__init__(reactor, fd, peer, framing, chunk_size, handler, full_duplex=full_duplex)

    def on_ready(self, events: int) -> None:
        """As ever; and in a pause, when nothing is asked for, a reset comes unasked."""
        if self._interest or events & WRITE:
            super().on_ready(events)
        else:
            self._lose(ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)))

    @property
    def pausing(self) -> bool:
        """Whether a pause between two pieces runs."""
        return self._pause is not None

    def _may_write(self) -> bool:
        return self._unsent is not None and self._pause is None

    def _wait(self) -> None:
        self._pause = self._reactor.call_later(self._segments.delay, self._go_on)

    def _go_on(self) -> None:
        """The pause is over."""
        self._pause = None
        self._watch()

    def _close(self, ending: Ending, error: Exception | None) -> None:
        if self._pause is not None:
            self._pause.cancel()
        super()._close(ending, error)


class _Cut(_Paced):
    """Sends piece by piece, each in a turn of its own."""

    __slots__ = ()

    def _transmit(self, data: bytes) -> None:
        if data and not self.closed:
            self._unsent = memoryview(data)
            self._watch()

    def _send_piece(self, unsent: memoryview) -> int:
        sent = write(self._fd, unsent[: self._segments.left])
        if self._segments.sent(sent) and self._segments.delay:
            self._wait()
        return sent


class _Joined(_Paced):
    """Gathers what there is to send for a while, and sends it in one piece."""

    __slots__ = ()

    def send(self, message: bytes) -> None:
        """Gather `message`, framed."""
        if self._outgoing is None:
            self._outgoing = []
        super().send(message)
        self._flush()

    def finish(self, ending: Ending = Ending.CLEAN, error: Exception | None = None) -> None:
        """End in good order; what has gathered is sent first, however short the time."""
        super()._flush()
        super().finish(ending, error)

    def _flush(self) -> None:
        """Send what has gathered once it is much, or begin to wait."""
        if self._outgoing_size >= JOIN_BYTES:
            super()._flush()
        elif self._outgoing and self._pause is None:
            self._wait()

    def _go_on(self) -> None:
        self._pause = None
        super()._flush()
        self._watch()
