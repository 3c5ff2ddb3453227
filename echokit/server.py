"""The echo server: every message that comes goes back to where it came from."""

import contextlib
import itertools
import socket
import threading
from typing import Self

from echokit.config.limits import Limits
from echokit.framing.base import Framing
from echokit.framing.raw import Raw
from echokit.net.accept import Acceptor
from echokit.net.address import EVERY_ADDRESS, Address, Sockaddr
from echokit.net.admission import Admission
from echokit.net.connection import Connection
from echokit.net.deadlines import Deadlines
from echokit.net.descriptors import room_for_connections
from echokit.net.drain import Drain
from echokit.net.handler import End, Ending
from echokit.net.listen import Listeners, bind_listeners
from echokit.net.reactor import Reactor
from echokit.net.segment import Segmentation
from echokit.net.segmented import open_connection
from echokit.net.socket_calls import close
from echokit.net.straight import Straight
from echokit.net.stream import Stream
from echokit.observe.counters import Counters
from echokit.observe.notices import Notices, warnings
from echokit.observe.observer import Observer

__all__ = ["EchoServer"]

# While draining: a connection on which nothing has moved for this long, in seconds, is taken to
# have nothing more in flight, and is ended. Linux sends a lost segment again after 0.2 s, and 0.6 s
# and 1.4 s after the first time if it is lost again: two of them come in time. To wait for the
# third would hold up every stop that finds an idle client.
QUIET = 1.0
# How often the loop shows that it turns, and how late it may be before that is told, in seconds.
BEAT = 1.0


class EchoServer:
    """A TCP echo server on every address of a host, in one thread.

    Made, it listens. `serve()` then serves in the calling thread until `stop`; and
    `with EchoServer(...) as server:` serves in a thread of its own until the block ends.

    Args:
        host: A name or literal to listen on; empty or `*` is every address.
        port: 0 to 65535; 0 is a free port.
        family: AF_INET or AF_INET6 to listen on only those.
        chunk_size: The most bytes that one recv() asks for.
        framing: How messages stand on the wire.
        backlog: How many connections may wait to be accepted.
        limits: How many, how large, how long, and whom it serves.
        segmentation: How what is sent is cut into pieces on purpose; None leaves it to the system.
        observer: Is told what happens.
        listeners: Bound for this server, which closes them, by one who serves the same ports in
            other processes, and has told of it; `host`, `port`, `family` and `backlog` are theirs.

    Attributes:
        addresses: Every address that it listens on, with the real port.
        port: That port.
        reactor: Runs it; what else is to happen in its thread may be added there.

    Raises:
        ResolveError: The host has no address (of that family).
        ListenError: An address is taken or not allowed, or none could be had.
    """

    def __init__(
        self,
        host: str = "localhost",
        port: int = 10000,
        *,
        family: socket.AddressFamily = socket.AF_UNSPEC,
        chunk_size: int = 16,
        framing: Framing | None = None,
        backlog: int = 4096,
        limits: Limits | None = None,
        segmentation: Segmentation | None = None,
        observer: Observer | None = None,
        listeners: Listeners | None = None,
    ) -> None:
        limits = limits if limits is not None else Limits()
        self._host = host
        self._chunk_size = chunk_size
        self._framing = framing if framing is not None else Raw()
        if limits.max_message is not None:
            self._framing = self._framing.limited(limits.max_message)
        self._segmentation = segmentation
        self._limits = limits
        self._most = limits.max_connections or room_for_connections()
        self._admission = limits.admission()
        self._tell_to(observer if observer is not None else Observer())
        # Then connections echo by themselves, unless a subclass has another mind.
        plain = type(self).message_received is EchoServer.message_received
        self._echo = plain and self._tell_received is None
        self._straight = self._echo and self._framing.transparent and segmentation is None
        # A dict for its keys: it takes a third of the memory of a set.
        self._connections: dict[Stream, None] = {}
        # Of those that have ended; what is open counts for itself. Where both change, a look from
        # another thread waits, and one from a signal handler does not. One more that is open
        # changes only one of them.
        self._counted = Counters()
        self._counting = threading.RLock()
        self._numbers = itertools.count(1)
        self._backlog = backlog
        # Counted where it is asked for, from any thread; begun in the thread that serves.
        self._stops = 0
        self._drain: Drain | None = None
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._closed = False
        # One of several does not speak for all of them.
        self._alone = listeners is None
        if listeners is None:
            options = limits.socket_options
            listeners = bind_listeners(host, port, family, backlog=backlog, options=options)
        self._skipped = listeners.skipped
        self.addresses = listeners.addresses
        self.port = listeners.port
        with contextlib.ExitStack() as undo:
            undo.callback(listeners.close)
            self.reactor = Reactor()
            undo.callback(self.reactor.close)
            self._acceptor = Acceptor(
                self.reactor, listeners, self._room, self._open, self._full, self._accept_failed
            )
            undo.pop_all()
        self._beat = self.reactor.call_later(BEAT, self._on_beat)
        Deadlines(
            self.reactor,
            self._connections,
            idle=limits.idle_timeout,
            message=limits.message_timeout,
            send=limits.send_timeout,
            lifetime=limits.max_lifetime,
        )

    def _tell_to(self, observer: Observer) -> None:
        """Telling of each message and connection costs something: None where nobody listens."""
        kind = type(observer)
        self._observer = observer
        self._notices = Notices(observer)
        told = kind.accepted is not Observer.accepted
        self._tell_accepted = observer.accepted if told else None
        told = kind.received is not Observer.received
        self._tell_received = observer.received if told else None
        told = kind.ended is not Observer.ended
        self._tell_ended = observer.ended if told else None
        self._tells_clean_ends = observer.hears_clean_ends

    # Its life.

    def serve(self) -> int:
        """Echo until `stop` is called and what was owed then is finished; then close.

        Returns:
            How many connections had to be cut at the end, as they did not finish in time.
        """
        try:
            if self._alone:
                self._observer.listening(self._host or EVERY_ADDRESS, self.addresses)
                for warning in warnings(self._skipped, self.addresses, self._limits):
                    self._observer.warned(warning)
                self._observer.waiting()
            self.reactor.run()
            self._notices.tell_left_out(at_end=True)
        finally:
            self.close()
        return 0 if self._drain is None else self._drain.cut

    @property
    def counters(self) -> Counters:
        """What has been counted so far: as many are accepted as are open and have ended.

        From any thread. The bytes and messages of connections that are open may move on meanwhile.
        """
        with self._counting:
            counted, connections = self._counted + Counters(), list(self._connections)
        return counted.with_open(connections)

    def report(self) -> None:
        """Tell the observer what has been counted so far. From any thread, and from handlers."""
        self.reactor.call_soon(lambda: self._observer.counted(self.counters))

    def wake_at_signals(self) -> None:
        """Let a signal end the wait for events at once, until `serve` ends; for the main thread."""
        self.reactor.wake_at_signals()

    def stop(self) -> None:
        """Accept no more, finish what is owed, let `serve` return. A second call cuts what is left.

        From any thread, and from signal handlers.
        """
        self._stops += 1
        self.reactor.call_soon(self._begin_drain if self._stops == 1 else self._cut_all)

    def close(self) -> None:
        """Give every socket back at once. To be called if it never served; `serve` does it too."""
        if self._closed:
            return
        self._closed = True
        # What is still open now is torn down: after an error, perhaps the observer's own.
        self._tell_to(Observer())
        self._acceptor.close()
        for connection in list(self._connections):
            connection.close(Ending.CUT)
        self.reactor.close()

    def __enter__(self) -> Self:
        """Serve in a thread of its own."""
        self._thread = threading.Thread(target=self._serve_in_thread, name="echokit-server")
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop, and wait until it has.

        Raises:
            BaseException: What ended the serving, if it was not this.
        """
        if not self._stops:
            self.stop()
        if self._thread is not None:
            self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _serve_in_thread(self) -> None:
        try:
            self.serve()
        except BaseException as error:  # noqa: BLE001 - raised where the server was started
            self._failure = error

    # Letting in.

    def _room(self) -> int:
        """How many more connections may be taken."""
        return self._most - len(self._connections)

    def _open(self, fd: int, peer: Sockaddr) -> None:
        """Begin to serve a client, if it may be served."""
        if self._admission is not None and not self._enters(self._admission, fd, Address.of(peer)):
            return
        try:
            connection = self._connection(fd, peer)
        except Exception as error:  # noqa: BLE001 - a plugin's bug costs its own connection only
            close(fd)
            self._could_not_open(Address.of(peer), End(Ending.ERROR, error, 0, 0, 0))
        else:
            self._connections[connection] = None
            if self._tell_accepted is not None:
                self._tell_accepted(connection.peer)

    def _could_not_open(self, peer: Address, end: End) -> None:
        with self._counting:
            self._counted.add_end(end.ending, end)
        if self._tell_accepted is not None:
            self._tell_accepted(peer)
        if self._admission is not None:
            self._admission.leave(peer)
        if self._tell_ended is not None:
            self._tell_ended(peer, end)
        if not self._connections:
            self._none_is_open()

    def _enters(self, admission: Admission, fd: int, peer: Address) -> bool:
        """Whether a client may be served; if not, its connection is closed."""
        refusal = admission.enter(peer)
        if refusal is None:
            return True
        with self._counting:
            self._counted.refused[refusal] += 1
        close(fd)
        self._notices.refused(peer, refusal)
        return False

    def _connection(self, fd: int, peer: Sockaddr) -> Stream:
        """What serves a client: chunks that nobody looks at go straight back."""
        if self._straight:
            return Straight(self.reactor, fd, peer, self._chunk_size, self)
        return open_connection(
            self.reactor,
            fd,
            peer,
            self._framing,
            self._chunk_size,
            self,
            echo=self._echo,
            segmentation=self._segmentation,
            number=next(self._numbers),
        )

    def _full(self) -> None:
        """Some wait while as many as may be are open: they wait until some of those end."""
        self._counted.pauses += 1
        self._notices.full(self._most)

    def _accept_failed(self, error: OSError, short: bool) -> None:
        self._counted.accept_failures += 1
        if short:
            self._notices.cannot_accept(error, len(self._connections), stopping=bool(self._stops))

    def _on_beat(self) -> None:
        """Say so where nobody was served for a while: a framing or observer takes too long."""
        self._notices.tell_left_out(at_end=False)
        late = self.reactor.clock() - self._beat.due
        if late > BEAT:
            self._notices.held_up(late)
        self._beat = self.reactor.call_later(BEAT, self._on_beat)

    # What connections meet.

    def message_received(self, connection: Connection, message: bytes) -> None:
        """Send it back."""
        if self._tell_received is not None:
            self._tell_received(connection.peer, message)
        try:
            connection.send(message)
        except Exception as error:  # noqa: BLE001 - a plugin's bug costs its own connection only
            connection.fail(error)

    def all_sent(self, connection: Stream) -> None:
        """Reading goes on by itself."""

    def eof_received(self, connection: Stream) -> None:
        """The client has finished: so do we."""
        connection.finish()

    def connection_ended(self, connection: Stream) -> None:
        """Forget it, and let in one that waits."""
        ending = connection.ending
        with self._counting:
            self._connections.pop(connection, None)
            self._counted.add_end(ending, connection)
        if self._acceptor.paused and self._drain is None and self._room() > 0:
            self._acceptor.resume()
        if self._admission is not None:
            self._admission.leave(connection.peer)
        if self._tell_ended is not None and (self._tells_clean_ends or ending is not Ending.CLEAN):
            self._tell_ended(connection.peer, connection.end)
        if not self._connections:
            self._none_is_open()

    def _none_is_open(self) -> None:
        if self._drain is not None:
            self.reactor.stop()
        elif self._alone:
            self._observer.waiting()

    # Stopping.

    def _begin_drain(self) -> None:
        """Accept no more, and let every connection finish what is in flight."""
        # Those in the queue have connected, and may have sent something. They are only finished
        # off, so they may be more than max_connections.
        self._acceptor.drain(self._backlog)
        self._drain = Drain(self.reactor, self._connections)
        if not self._connections:
            self.reactor.stop()
            return
        self._observer.draining(len(self._connections))
        self.reactor.call_later(self._limits.drain_timeout, self._cut_all)
        self._drain.end_quiet_ones(min(QUIET, self._limits.drain_timeout / 2))

    def _cut_all(self) -> None:
        if self._drain is not None:
            self._drain.cut_all()
        self.reactor.stop()
