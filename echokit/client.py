"""The echo client: sends messages, and holds what comes back against what went out.

It sends and receives at once: a client that first writes all and then reads would wait for ever
with a server that does not read on until it has written. And it never half-closes before all has
come back, since there are servers that end at the client's FIN and lose what they still owe.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Callable
from typing import Self

from echokit.errors import EchoIncomplete, EchoMismatch, FramingError, reason
from echokit.exchange import Exchange, Messages, Outstanding, Source
from echokit.framing.base import Framing
from echokit.framing.raw import Raw
from echokit.net.connection import Connection
from echokit.net.dial import Dialed, dial
from echokit.net.handler import Ending
from echokit.net.reactor import READ, Reactor, Timer
from echokit.net.segment import Segmentation
from echokit.net.segmented import open_connection
from echokit.net.socket_calls import close
from echokit.net.stream import Stream
from echokit.observe.observer import Observer

__all__ = ["WINDOW", "EchoClient"]

# How many bytes may be on their way, sent and not yet come back, before the next message waits:
# more than the buffers of both systems hold on a fast network, and a bound on what is kept to
# compare.
WINDOW = 16 << 20
# How long a server may take to answer our FIN before we close without its own.
FIN_PATIENCE = 1.0


class EchoClient:
    """A client of a TCP echo server; a context manager. One exchange at a time.

    Args:
        host: A name or literal.
        port: 1 to 65535.
        family: AF_INET or AF_INET6 to use only those.
        chunk_size: The most bytes that one recv() asks for.
        framing: How messages stand on the wire.
        connect_timeout: The longest that resolving and connecting may take, in seconds.
        timeout: The longest silence while something is owed, in seconds.
        segmentation: How what is sent is cut into pieces on purpose; None leaves it to the system.
        observer: Is told what happens.

    Attributes:
        dialed: How the connection came about.

    Raises:
        ResolveError: The host has no address (of that family).
        DialError: No address could be connected to.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        family: socket.AddressFamily = socket.AF_UNSPEC,
        chunk_size: int = 16,
        framing: Framing | None = None,
        connect_timeout: float = 5.0,
        timeout: float = 30.0,
        segmentation: Segmentation | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._observer = observer if observer is not None else Observer()
        self._framing = framing if framing is not None else Raw()
        self._timeout = timeout
        self._closed = False
        self._observer.connecting(host, port)
        self.dialed: Dialed = dial(host, port, family, timeout=connect_timeout)
        with contextlib.ExitStack() as undo:
            undo.callback(self.dialed.sock.close)
            self._observer.connected(self.dialed)
            self._reactor = Reactor()
            undo.callback(self._reactor.close)
            fd = self.dialed.sock.detach()
            undo.callback(close, fd)
            self._connection = open_connection(
                self._reactor,
                fd,
                self.dialed.address.sockaddr,
                self._framing,
                chunk_size,
                self,
                full_duplex=True,
                segmentation=segmentation,
            )
            undo.pop_all()
        self._outstanding = Outstanding(stream=self._framing.transparent)
        # The exchange that runs.
        self._source: Source = Messages([])
        self._exhausted = True
        self._watched: int | None = None
        self._received: Callable[[bytes], object] | None = None
        self._window = 0
        self._failure: Exception | None = None
        self._refused: Exception | None = None
        self._finishing = False
        # When something last moved, and how much had by then.
        self._moved_at = 0.0
        self._moved = (0, 0)
        self._look: Timer | None = None

    def echo(self, message: bytes) -> bytes:
        """Send `message`, and wait until it has come back.

        Returns:
            What came back, which is what was sent.

        Raises:
            EchoMismatch: Something else came back.
            EchoIncomplete: The server closed, reset or was silent before all had come back.
            FramingError: The framing cannot carry `message`, or what came breaks it.
        """
        back: list[bytes] = []
        self.exchange(Messages([message]), back.append)
        return b"".join(back)

    def exchange(
        self,
        source: Source,
        received: Callable[[bytes], object] | None = None,
        *,
        window: int = WINDOW,
    ) -> Exchange:
        """Send every message of `source`, and wait until all have come back.

        Args:
            source: The messages.
            received: Is given each message (raw: each chunk) that has come back as it was sent.
            window: How many bytes may be on their way before the next message waits, where each
                message counts for 64 more than it has; 0 sends each message only when the one
                before it has come back.

        Raises:
            EchoMismatch: Something else came back.
            EchoIncomplete: The server closed, reset or was silent before all had come back.
            FramingError: The framing cannot carry a message, or what came breaks it.
        """
        if self._outstanding.waiting:
            # An exchange that was broken off has left something to come back: not to this one.
            self._go(Messages([]), None, 0)
        began = self._reactor.clock()
        before = (self._outstanding.messages, self._outstanding.sent)
        self._go(source, received, window)
        if self._refused is not None:
            raise self._refused
        return Exchange(
            self._outstanding.messages - before[0],
            self._outstanding.sent - before[1],
            self._reactor.clock() - began,
        )

    def _go(self, source: Source, received: Callable[[bytes], object] | None, window: int) -> None:
        """Send all of `source`, and wait until everything that was sent has come back."""
        self._source, self._exhausted, self._refused = source, False, None
        self._received, self._window = received, window
        try:
            if self._connection.closed:
                self._fail("the connection had ended")
            self._moved_at = self._reactor.clock()
            self._look_for_silence()
            self._connection.go_on()
            self._pull()
            self._run()
        finally:
            self._unwatch()
            if self._look is not None:
                self._look.cancel()

    def finish(self) -> None:
        """Say that no more will come, wait a little for the server to say so too, and close.

        Raises:
            EchoMismatch: The server sent more than had been sent to it.
            FramingError: The same, and it was no whole message.
        """
        self._tell_closing()
        self._finishing = True
        try:
            if not self._connection.closed:
                self._connection.send_fin()
            if not self._connection.closed:
                self._reactor.call_later(FIN_PATIENCE, self._reactor.stop)
                self._run()
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection at once."""
        self._tell_closing()
        self._connection.close()
        self._reactor.close()

    def _tell_closing(self) -> None:
        if not self._closed:
            self._closed = True
            self._observer.closing()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            if kind is None:
                self.finish()
        finally:
            self.close()

    def _run(self) -> None:
        """Let things happen until what runs is done or has failed."""
        if self._failure is None and (self._finishing or not self._done):
            self._reactor.run()
        if self._failure is not None:
            raise self._failure

    @property
    def _done(self) -> bool:
        return self._exhausted and not self._outstanding.waiting

    # Sending.

    def _pull(self) -> None:
        """Send what the source has, for as long as the window and the socket take it."""
        while self._may_send():
            if self._waits_for_source():
                return
            self._send_next()
        self._unwatch()
        if self._done:
            self._reactor.stop()

    def _may_send(self) -> bool:
        room = not self._outstanding.waiting or self._outstanding.held < self._window
        return room and not (self._exhausted or self._connection.sending or self._connection.closed)

    def _waits_for_source(self) -> bool:
        """Whether the reactor tells when the source can be read, rather than we go and read."""
        fd = self._source.fileno()
        if fd is None:
            return False
        if self._watched is None:
            try:
                self._reactor.add(fd, READ, self._on_source_ready)
            except PermissionError:
                # A regular file cannot be waited for, and need not be.
                return False
            self._watched = fd
        return True

    def _unwatch(self) -> None:
        if self._watched is not None:
            self._reactor.remove(self._watched)
            self._watched = None

    def _on_source_ready(self, _events: int) -> None:
        self._send_next()
        self._pull()

    def _send_next(self) -> None:
        messages = self._source.read()
        if messages is None:
            self._exhausted = True
            return
        for message in messages:
            self._observer.sending(message)
            self._outstanding.add(message)
            try:
                self._connection.send(message)
            except Exception as error:  # noqa: BLE001 - a plugin's encode may raise anything
                # It has not left, and will not come back. What left before it still does.
                self._outstanding.take_back(message)
                self._exhausted, self._refused = True, error
                return

    # What the connection meets.

    def message_received(self, connection: Connection, message: bytes) -> None:
        """Hold it against what was sent."""
        self._observer.echoed(message)
        try:
            self._outstanding.match(message)
        except EchoMismatch as error:
            self._failure = error
            connection.close()
            return
        if self._received is not None:
            self._received(message)
        self._pull()

    def all_sent(self, connection: Stream) -> None:  # noqa: ARG002 - there is only one
        """There is room for more."""
        self._pull()

    def eof_received(self, connection: Stream) -> None:
        """The server has finished: with us, or too early."""
        if self._finishing:
            connection.close()
        else:
            self._fail("the server closed the connection")

    def connection_ended(self, connection: Stream) -> None:
        """Whatever ended it, there is nothing more to wait for."""
        end = connection.end
        self._reactor.stop()
        if self._failure is not None or end.error is None:
            return
        if self._finishing and isinstance(end.error, OSError):
            # All had come back: how the server leaves is its own affair.
            return
        if end.ending is Ending.TRUNCATED and self._outstanding.waiting:
            self._fail("the server closed the connection", end.error)
        elif isinstance(end.error, OSError):
            # Nothing is sent after our FIN: a pipe breaks only where a reset was not read in time.
            broken = isinstance(end.error, BrokenPipeError)
            why = os.strerror(errno.ECONNRESET).lower() if broken else reason(end.error)
            self._fail(why, end.error)
        elif isinstance(end.error, FramingError):
            self._failure = end.error
        else:
            kind = type(end.error).__name__
            self._failure = FramingError(f"the framing failed with {kind}: {end.error}")
            self._failure.__cause__ = end.error

    def _look_for_silence(self) -> None:
        """Give up if something is owed and nothing has moved for the timeout."""
        now = self._reactor.clock()
        moved = (self._connection.bytes_in, self._connection.bytes_out)
        owed = self._outstanding.waiting or self._connection.sending
        if moved != self._moved or not owed or self._connection.pausing:
            self._moved_at, self._moved = now, moved
        elif now - self._moved_at >= self._timeout:
            self._fail(f"no answer for {self._timeout:g}s")
            return
        # A look now and then costs less than a timer set anew by every byte.
        interval = min(1.0, self._timeout / 10)
        self._look = self._reactor.call_later(interval, self._look_for_silence)

    def _fail(self, why: str, cause: Exception | None = None) -> None:
        self._failure = EchoIncomplete(why, self._outstanding.received, self._outstanding.sent)
        self._failure.__cause__ = cause
        self._connection.close()
        self._reactor.stop()
