"""Accepting: what waits in the queues of listening sockets becomes connected sockets.

accept() fails for two kinds of reason. Either one connection is gone, or a firewall refused it:
the next may be well. Or the system is short of something, descriptors or memory above all: then
the next call would fail at once again, so the queue waits a little, and nothing in it is lost.

What is accepted is handed on as a descriptor. `socket.accept` would make an object of it, which
costs as much as all else that is done for a connection of one small message: see `_accept`.
"""

import errno
import os
import socket
from collections.abc import Callable

from echokit.net.address import Sockaddr
from echokit.net.listen import Listeners
from echokit.net.reactor import READ, Reactor
from echokit.net.socket_calls import close

__all__ = ["Acceptor"]

# How many connections are accepted before those that are open get their turn again.
_BATCH = 64
# accept() failing with these speaks of one connection (accept(2)).
_GONE = tuple(
    getattr(errno, name)
    for name in (
        "ECONNABORTED", "EPERM", "EPROTO", "ENETDOWN", "ENOPROTOOPT", "EHOSTDOWN", "ENONET",
        "EHOSTUNREACH", "EOPNOTSUPP", "ENETUNREACH",
    )
    if hasattr(errno, name)
)  # fmt: skip
_SHORTAGE_PAUSE = 0.1


class Acceptor:
    """Takes connections from listening sockets as they come, for as long as there is room.

    Args:
        reactor: Tells when some wait.
        listeners: Where they wait. They are closed here.
        room: How many more may be taken now.
        take: Is given the descriptor of each connected, non-blocking socket, which is its own from
            then on, with its peer's address.
        full: Is told that some wait for whom there is no room: it takes none until `resume`.
        failed: Is told what accept() said: True with it where the system is short of something.
    """

    def __init__(
        self,
        reactor: Reactor,
        listeners: Listeners,
        room: Callable[[], int],
        take: Callable[[int, Sockaddr], None],
        full: Callable[[], None],
        failed: Callable[[OSError, bool], None],
    ) -> None:
        self._reactor = reactor
        self._listeners = listeners
        self._room = room
        self._take = take
        self._full = full
        self._failed = failed
        self.paused = False
        # Those whose queue waits for the system to have again what it was short of.
        self._resting: set[socket.socket] = set()
        for sock in listeners.sockets:
            self._listen_to(sock)

    def _listen_to(self, sock: socket.socket) -> None:
        self._reactor.add(sock.fileno(), READ, lambda _events: self._on_waiting(sock))

    # A listener that waits stays with the reactor, asked for nothing: to give it up and come again
    # would need memory, of which the system may be short just then.

    def resume(self) -> None:
        """Take connections again."""
        self.paused = False
        for sock in self._listeners.sockets:
            if sock not in self._resting:
                self._reactor.modify(sock.fileno(), READ)

    def drain(self, most: int) -> None:
        """Take those that wait now, `most` at most of each queue, and close.

        Also those for whom there is no room: closing resets whoever is left in a queue. A
        shortage ends it.
        """
        for sock in self._listeners.sockets:
            # Not more than the queue holds, which on Linux is one more than it was made for: a
            # storm of new ones must not keep us here.
            self._accept(sock, most + 1)
        self.close()

    def close(self) -> None:
        """Listen no more."""
        for sock in self._listeners.sockets:
            self._reactor.discard(sock.fileno())
        self._listeners.close()
        self._listeners.sockets.clear()

    def _on_waiting(self, listener: socket.socket) -> None:
        """Some wait: take them, or pause if there is no room for any."""
        if self.paused or listener in self._resting:
            # Its event came with that of another.
            return
        room = self._room()
        if room > 0:
            self._accept(listener, min(_BATCH, room))
        else:
            # Not as soon as the last place is taken: perhaps nobody else comes.
            self._pause()
            self._full()

    def _accept(self, listener: socket.socket, most: int) -> None:
        """Take what waits, `most` at most."""
        # What `socket.accept` itself calls, in CPython and PyPy, before it makes the object. It is
        # no public name, so the stubs lack it.
        accept: Callable[[], tuple[int, Sockaddr]] = listener._accept  # type: ignore[attr-defined]  # noqa: SLF001
        for _ in range(most):
            try:
                fd, peer = accept()
            except BlockingIOError:
                return
            except OSError as error:
                short = error.errno not in _GONE
                self._failed(error, short)
                if not short:
                    continue
                self._rest(listener)
                return
            if not peer:
                # Some systems hand out one that has gone by now, without its address.
                close(fd)
                continue
            os.set_blocking(fd, False)
            self._take(fd, peer)

    def _pause(self) -> None:
        """Take no more until `resume`: those that come wait in the queue."""
        self.paused = True
        for sock in self._listeners.sockets:
            self._reactor.modify(sock.fileno(), 0)

    def _rest(self, listener: socket.socket) -> None:
        """Let the queue wait until the system may have what it was short of."""
        self._reactor.modify(listener.fileno(), 0)
        self._resting.add(listener)

        def go_on() -> None:
            self._resting.discard(listener)
            if not self.paused and listener in self._listeners.sockets:
                self._reactor.modify(listener.fileno(), READ)

        self._reactor.call_later(_SHORTAGE_PAUSE, go_on)
