"""The echo server: every message that comes goes back to where it came from."""

import errno
import socket
import threading
from typing import Self

from echokit.errors import reason
from echokit.framing.base import Framing
from echokit.framing.raw import Raw
from echokit.net.address import EVERY_ADDRESS, Address
from echokit.net.connection import Connection
from echokit.net.handler import End, Ending
from echokit.net.listen import bind_listeners
from echokit.net.reactor import READ, Reactor
from echokit.net.segment import Segmentation
from echokit.net.segmented import open_connection
from echokit.observe.observer import Observer

__all__ = ["EchoServer"]

# How many connections are accepted before those that are open get their turn again.
_ACCEPT_BATCH = 64
# accept() failing with these means that one connection is gone, or was refused by a firewall, and
# the next may be well (accept(2)). All else, a shortage of descriptors or memory above all, would
# come again at once and spin: then the queue waits a little, and nothing in it is lost.
_GONE = tuple(
    getattr(errno, name)
    for name in (
        "ECONNABORTED", "EPERM", "EPROTO", "ENETDOWN", "ENOPROTOOPT", "EHOSTDOWN", "ENONET",
        "EHOSTUNREACH", "EOPNOTSUPP", "ENETUNREACH",
    )
    if hasattr(errno, name)
)  # fmt: skip
_SHORTAGE_PAUSE = 0.1
_SHORTAGE_WORD_EVERY = 1.0
# While draining: a connection on which nothing has moved for this long, in seconds, has nothing
# more in flight, and is ended. Longer than a lost segment takes to come again (Linux: 0.2 s).
QUIET = 0.5


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
        drain_timeout: How long `stop` lets connections finish, in seconds.
        segmentation: How what is sent is cut into pieces on purpose; None leaves it to the system.
        observer: Is told what happens.

    Attributes:
        addresses: Every address that it listens on, with the real port.
        port: That port.

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
        drain_timeout: float = 5.0,
        segmentation: Segmentation | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._host = host
        self._chunk_size = chunk_size
        self._framing = framing if framing is not None else Raw()
        self._observer = observer if observer is not None else Observer()
        # Telling of every message costs something even if nobody listens: None if nobody does.
        overridden = type(self._observer).received is not Observer.received
        self._tell_received = self._observer.received if overridden else None
        self._segmentation = segmentation
        self._accepted = 0
        self._connections: set[Connection] = set()
        self._backlog = backlog
        self._drain_timeout = drain_timeout
        # Counted where it is asked for, from any thread; begun in the thread that serves.
        self._stops = 0
        self._draining = False
        # How much had moved on each connection at the last look, while draining.
        self._moved: dict[Connection, tuple[int, int]] = {}
        self._cut = 0
        self._shortage_told = float("-inf")
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._closed = False
        self._listeners = bind_listeners(host, port, family, backlog=backlog)
        self.addresses = self._listeners.addresses
        self.port = self._listeners.port
        try:
            self._reactor = Reactor()
        except BaseException:
            self._listeners.close()
            raise
        for sock in self._listeners.sockets:
            self._listen_to(sock)

    # Its life.

    def serve(self) -> int:
        """Echo until `stop` is called and what was owed then is finished; then close.

        Returns:
            How many connections had to be cut at the end, as they did not finish in time.
        """
        try:
            for error in self._listeners.skipped:
                self._observer.warned(f"{error}; serving without it")
            self._observer.listening(self._host or EVERY_ADDRESS, self.addresses)
            self._observer.waiting()
            self._reactor.run()
        finally:
            self.close()
        return self._cut

    @property
    def wakeup_fd(self) -> int:
        """What `signal.set_wakeup_fd` takes, so that a signal ends the wait for events at once."""
        return self._reactor.wakeup_fd

    def stop(self) -> None:
        """Accept no more, finish what is owed, let `serve` return. A second call cuts what is left.

        From any thread, and from signal handlers.
        """
        self._stops += 1
        self._reactor.call_soon(self._drain if self._stops == 1 else self._cut_all)

    def close(self) -> None:
        """Give every socket back at once. To be called if it never served; `serve` does it too."""
        if self._closed:
            return
        self._closed = True
        # What is still open now is torn down: after an error, perhaps the observer's own.
        self._observer = Observer()
        self._stop_listening()
        for connection in list(self._connections):
            connection.close(Ending.CUT)
        self._reactor.close()

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

    # Accepting.

    def _listen_to(self, listener: socket.socket) -> None:
        self._reactor.add(listener.fileno(), READ, lambda _events: self._accept(listener))

    def _accept(self, listener: socket.socket) -> bool:
        """Take the connections that wait, a batch at a time; whether more may wait."""
        for _ in range(_ACCEPT_BATCH):
            try:
                sock, sockaddr = listener.accept()
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno in _GONE:
                    continue
                self._pause(listener, error)
                return False
            self._open(sock, Address(listener.family, sockaddr))
        return True

    def _open(self, sock: socket.socket, peer: Address) -> None:
        """Begin to serve a client."""
        sock.setblocking(False)
        self._accepted += 1
        try:
            connection = open_connection(
                self._reactor,
                sock,
                peer,
                self._framing,
                self._chunk_size,
                self,
                segmentation=self._segmentation,
                number=self._accepted,
            )
        except Exception as error:  # noqa: BLE001 - a plugin's bug costs its own connection only
            sock.close()
            self._observer.accepted(peer)
            self._tell_end(peer, End(Ending.ERROR, error, 0, 0, 0))
        else:
            self._connections.add(connection)
            self._observer.accepted(peer)

    def _pause(self, listener: socket.socket, error: OSError) -> None:
        """Let the queue wait until the system may have what it was short of."""
        self._reactor.discard(listener.fileno())

        def go_on() -> None:
            if not self._draining:
                self._listen_to(listener)

        self._reactor.call_later(_SHORTAGE_PAUSE, go_on)
        now = self._reactor.clock()
        if now - self._shortage_told >= _SHORTAGE_WORD_EVERY:
            self._shortage_told = now
            self._observer.warned(
                f"cannot accept: {reason(error)}, with {len(self._connections)} connections open;"
                " those that come wait until some end"
            )

    def _stop_listening(self) -> None:
        for sock in self._listeners.sockets:
            self._reactor.discard(sock.fileno())
            sock.close()
        self._listeners.sockets.clear()

    # What connections meet.

    def message_received(self, connection: Connection, message: bytes) -> None:
        """Send it back."""
        if self._tell_received is not None:
            self._tell_received(connection.peer, message)
        try:
            connection.send(message)
        except Exception as error:  # noqa: BLE001 - a plugin's bug costs its own connection only
            connection.fail(error)

    def all_sent(self, connection: Connection) -> None:
        """Reading goes on by itself."""

    def eof_received(self, connection: Connection) -> None:
        """The client has finished: so do we."""
        connection.finish()

    def connection_ended(self, connection: Connection, end: End) -> None:
        """Forget it."""
        self._connections.discard(connection)
        self._tell_end(connection.peer, end)

    def _tell_end(self, peer: Address, end: End) -> None:
        self._observer.ended(peer, end)
        if self._connections:
            return
        if self._draining:
            self._reactor.stop()
        else:
            self._observer.waiting()

    # Stopping.

    def _drain(self) -> None:
        """Accept no more, and let every connection finish what is in flight."""
        for sock in self._listeners.sockets:
            # Those in the queue have connected, and may have sent something. Not more than it
            # holds: a storm of new ones must not keep the server from stopping.
            for _ in range(self._backlog // _ACCEPT_BATCH + 1):
                if not self._accept(sock):
                    break
        self._draining = True
        self._stop_listening()
        if not self._connections:
            self._reactor.stop()
            return
        self._observer.draining(len(self._connections))
        self._reactor.call_later(self._drain_timeout, self._cut_all)
        self._end_quiet_ones()

    def _end_quiet_ones(self) -> None:
        """End the connections on which nothing has moved since the last look.

        One that is amid a message is ended too, as truncated, and counts as cut: that message is
        not coming back.
        """
        for connection in list(self._connections):
            moved = (connection.bytes_in, connection.bytes_out)
            if self._moved.get(connection) == moved and not connection.sending:
                self._cut += not connection.drain()
            self._moved[connection] = moved
        quiet = min(QUIET, self._drain_timeout / 2)
        self._reactor.call_later(quiet, self._end_quiet_ones)

    def _cut_all(self) -> None:
        for connection in list(self._connections):
            # One that has had all its bytes and our FIN loses nothing.
            self._cut += not connection.finished
            connection.close(Ending.DRAINED if connection.finished else Ending.CUT)
        self._reactor.stop()
