"""An echo of chunks: what has come goes straight back, and nobody looks at it.

This is the whole way of a message where the framing is transparent and no observer asks for
messages, so it is kept short: one read, one write, and what they come to. What happens seldom is
left to `stream`.
"""

from os import read, write

from echokit.net.address import Sockaddr
from echokit.net.handler import Handler
from echokit.net.reactor import ARRIVAL, READ, Reactor
from echokit.net.stream import SMALL, Stream

__all__ = ["Straight"]


class Straight(Stream):
    """A connection whose chunks go straight back.

    Args:
        reactor: Tells when the socket is ready.
        fd: The descriptor of a connected, non-blocking socket.
        peer: Its peer's address, as accept() has it.
        chunk_size: The most bytes that are taken at once.
        handler: Is told of its ends.
    """

    __slots__ = ("_behind",)

    _READING = ARRIVAL

    def __init__(
        self, reactor: Reactor, fd: int, peer: Sockaddr, chunk_size: int, handler: Handler
    ) -> None:
        self._ask = min(chunk_size, SMALL)
        # How much has come and not gone, as it waits or was lost at the end: so the way of a
        # message need not count both.
        self._behind = 0
        super().__init__(reactor, fd, peer, chunk_size, handler)

    @property
    def bytes_out(self) -> int:
        """Bytes that the socket took."""
        return self.bytes_in - self._behind

    def on_ready(self, events: int) -> None:
        """The reactor's call: the socket is ready for some of `events`."""
        ask = self._ask
        if events != READ or not ask:
            ask = self._aside(events)
            if not ask:
                return
        try:
            data = read(self._fd, ask)
        except OSError as error:
            self._not_read(error)
            return
        size = len(data)
        if not size:
            self._on_eof()
            return
        try:
            sent = write(self._fd, data)
        except OSError as error:
            self._count_in(size, data, error)
            return
        if sent == size:
            self.messages += 1
            self.bytes_in += size
        else:
            self._count_in(size, data[sent:])
        if (size == ask or events != READ) and self._interest == ARRIVAL:
            self._let_it_tell_again(size)

    def _let_it_tell_again(self, size: int) -> None:
        """There may be more, of which the system has told already; and more may be asked for."""
        if size >= SMALL:
            # As much may come again, or more.
            self._ask = self._chunk_size
        # Where chunks are filled it is to tell for as long as there is more: to ask it each time
        # would cost more than is spared.
        self._interest = ARRIVAL if size < self._chunk_size else READ
        self._reactor.modify(self._fd, self._interest)

    def _aside(self, events: int) -> int:
        """Do what is not the usual; how much is to be read then, 0 where that has been done."""
        if events != READ and not self._also_readable(events):
            return 0
        if not self._ask:
            self._drop()
        return self._ask

    def _count_in(self, size: int, rest: bytes, error: OSError | None = None) -> None:
        """So many bytes have come, of which the socket did not take `rest`: that waits.

        With an `error` that ends the connection it is only counted.
        """
        behind = len(rest)
        self.messages += 1
        # Side by side: no other thread sees the one without the other, and takes for sent what has
        # not been.
        self.bytes_in += size
        self._behind += behind
        if error is not None and not isinstance(error, BlockingIOError):
            self._lose(error)
        self._keep(rest)

    def _count_out(self, size: int) -> None:
        self._behind -= size

    def _not_read(self, error: OSError) -> None:
        """Nothing has come after all, or the connection is lost."""
        if isinstance(error, BlockingIOError):
            # Woken for another that had the same number, mostly. But Linux says so also where a
            # signal comes while the next byte is an urgent one.
            self._reactor.modify(self._fd, self._interest)
        else:
            self._lose(error)
