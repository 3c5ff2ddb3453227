"""An echo of chunks: what has come goes straight back, and nobody looks at it.

This is the whole way of a message where the framing is transparent and no observer asks for
messages, so it is kept short: one read, one write, and what they come to. What happens seldom is
left to `stream`.

Much at once does not come into this process at all: splice(2) moves the pages that the kernel
holds from the socket into a pipe, and from the pipe back into the socket. Only what the socket
does not take is read out of the pipe, and waits as ever.
"""

import contextlib
import errno
import os
from os import read, write
from typing import Self

from echokit.net.address import Sockaddr
from echokit.net.handler import Handler
from echokit.net.reactor import READ, Reactor
from echokit.net.stream import SMALL, State, Stream

__all__ = ["BULK", "Pipe", "Straight"]

_OPEN = State.OPEN
# From how many bytes at once on the pipe pays: below, two system calls more cost what is saved.
BULK = 16 << 10
# What a pipe may hold at most, where the system's administrator has not changed that (pipe(7)).
_PIPE_BYTES = 1 << 20
# splice() failing with these means that it cannot be had for this socket, or in this process, and
# nothing has moved.
_UNFIT = (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP)


class Pipe:
    """Where bytes are between coming and going, for all connections of a loop. Linux only.

    It is empty between two events: one is enough.
    """

    def __init__(self) -> None:
        self.outlet, self.inlet = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # A user's pipes together may hold only so much: then it stays as small as it was made.
        with contextlib.suppress(OSError):
            import fcntl  # noqa: PLC0415 - not on every system

            fcntl.fcntl(self.inlet, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    @classmethod
    def made(cls) -> Self | None:
        """One; None where the system has no splice(), or no descriptors left."""
        if not hasattr(os, "splice"):
            return None
        try:
            return cls()
        except OSError:
            return None

    def close(self) -> None:
        """Give it back."""
        os.close(self.inlet)
        os.close(self.outlet)


class Straight(Stream):
    """A connection whose chunks go straight back.

    Args:
        reactor: Tells when the socket is ready.
        fd: The descriptor of a connected, non-blocking socket.
        peer: Its peer's address, as accept() has it.
        chunk_size: The most bytes that are taken at once.
        handler: Is told of its ends.
        pipe: For much at once; None is without.
    """

    __slots__ = ("_behind", "_pipe")

    def __init__(
        self,
        reactor: Reactor,
        fd: int,
        peer: Sockaddr,
        chunk_size: int,
        handler: Handler,
        pipe: Pipe | None,
    ) -> None:
        self._ask = min(chunk_size, SMALL)
        self._pipe = pipe
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
            self._trouble(error)
            return
        size = len(data)
        if not size:
            self._on_eof()
            return
        try:
            sent = write(self._fd, data)
        except OSError as error:
            self._count_in(size, data, error)
        else:
            if sent == size:
                self.messages += 1
                self.bytes_in += size
            else:
                self._count_in(size, data[sent:])
        if size >= SMALL:
            self._expect_as_much(size)

    def _aside(self, events: int) -> int:
        """Do what is not the usual; how much is to be read then, 0 where that has been done."""
        if events != READ and not self._also_readable(events):
            return 0
        if self._ask:
            return self._ask
        if self._state is _OPEN and self._pipe is not None:
            self._pass_on(self._pipe)
        else:
            self._drop()
        return 0

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
        if error is not None:
            self._trouble(error)
        if behind:
            self._keep(rest)

    def _count_out(self, size: int) -> None:
        self._behind -= size

    def _trouble(self, error: OSError) -> None:
        """Something was not done: the socket is not ready, or lost."""
        if not isinstance(error, BlockingIOError):
            self._lose(error)

    def _expect_as_much(self, size: int) -> None:
        """Be ready for as much as has come, or more: through the pipe, or by a read."""
        if self._pipe is None:
            self._ask = self._chunk_size
        else:
            self._ask = 0 if size >= BULK else min(self._chunk_size, 4 * BULK)

    def _pass_on(self, pipe: Pipe) -> None:
        """Let much go back through the pipe."""
        try:
            size = os.splice(self._fd, pipe.inlet, self._chunk_size, flags=os.SPLICE_F_NONBLOCK)
        except OSError as error:
            # An urgent byte, which read() leaves out, would stop splice() for ever.
            self._expect_as_much(0)
            if error.errno in _UNFIT:
                self._pipe = None
            else:
                self._trouble(error)
            return
        if not size:
            # Mostly the peer's end, which read() sees as well. But an urgent byte before a FIN
            # looks the same from here, and what stands behind it has still to be read.
            self._expect_as_much(0)
            return
        try:
            sent = os.splice(pipe.outlet, self._fd, size, flags=os.SPLICE_F_NONBLOCK)
        except OSError as error:
            self._count_in(size, read(pipe.outlet, size), error)
        else:
            self._count_in(size, read(pipe.outlet, size - sent) if sent < size else b"")
        self._expect_as_much(size)
