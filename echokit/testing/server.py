"""A server for tests: it runs in a thread, and remembers what it received."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from echokit.config import Config
from echokit.net.address import Address
from echokit.net.handler import End, Ending
from echokit.observe.observer import Observer
from echokit.server import EchoServer

__all__ = ["RecordedConnection", "RunningServer", "ServerFailed"]

# How long a server that was told to end at once may take for it.
_END_TIMEOUT = 10.0
# How long its thread may take until it has looked at what clients sent; a busy machine does not
# give it its turn at once.
_TURN_TIMEOUT = 1.0
# How long connections that the test left open may then still end by themselves.
_LAST_WORDS = 0.1


class ServerFailed(AssertionError):
    """Something went wrong inside the server, in its own words."""


@dataclass(slots=True)
class RecordedConnection:
    """One connection that the server accepted.

    Attributes:
        peer: The client's address.
        messages: What came over it, in order (raw: chunk by chunk).
        end: How it ended; None while it is open.
    """

    peer: Address
    messages: list[bytes] = field(default_factory=list)
    end: End | None = None


class _Recorder(Observer):
    """Writes down what the server tells, for another thread to read."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.connections: list[RecordedConnection] = []
        # By peer, oldest first: an address may come again before its old end has been seen.
        self._open: dict[Address, list[RecordedConnection]] = {}
        self.failure: BaseException | None = None

    def accepted(self, peer: Address) -> None:
        """A new record."""
        with self.changed:
            record = RecordedConnection(peer)
            self._open.setdefault(peer, []).append(record)
            self.connections.append(record)
            self.changed.notify_all()

    def received(self, peer: Address, message: bytes) -> None:
        """One more message."""
        with self.changed:
            self._open[peer][-1].messages.append(message)
            self.changed.notify_all()

    def ended(self, peer: Address, end: End) -> None:
        """The record is complete."""
        with self.changed:
            records = self._open[peer]
            records.pop(0).end = end
            if not records:
                del self._open[peer]
            self.changed.notify_all()


class RunningServer:
    """An echo server that runs in a thread of its own, and remembers what it received.

    Args:
        config: Its settings, of which host, port and family say where it listens.

    Attributes:
        config: The same.
        segmentation: How it cuts what it sends, with the seed if it does so at random.
        host: The literal that it listens on.
        port: The port that it listens on.
        address: Both, as people write it: `127.0.0.1:40000`, `[::1]:40000`.

    Raises:
        ResolveError: The host has no address (of that family).
        ListenError: An address is taken or not allowed.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.segmentation = config.segmentation
        self._recorder = _Recorder()
        self._server = EchoServer(
            config.host,
            config.port,
            family=config.address_family,
            chunk_size=config.chunk_size,
            framing=config.framing,
            backlog=config.server.backlog,
            limits=config.server.limits,
            segmentation=self.segmentation,
            observer=self._recorder,
        )
        first = self._server.addresses[0]
        self.host = first.host
        self.port = first.port
        self.address = str(first)
        # Once it stops: its sockets have been looked at, or it has ended.
        self._looked = threading.Event()
        self._thread = threading.Thread(
            target=self._serve, name=f"echokit-server {self.address}", daemon=True
        )
        self._thread.start()

    def _serve(self) -> None:
        try:
            self._server.serve()
        except BaseException as error:  # noqa: BLE001 - told by `close`, in the test's thread
            with self._recorder.changed:
                self._recorder.failure = error
                self._recorder.changed.notify_all()
        finally:
            self._looked.set()

    def _look(self) -> None:
        """Note that the sockets were looked at: what is due comes after those that are ready."""
        self._server.reactor.call_later(0, self._looked.set)

    @property
    def connections(self) -> Sequence[RecordedConnection]:
        """Every connection so far, in the order in which they were accepted."""
        with self._recorder.changed:
            return list(self._recorder.connections)

    @property
    def messages(self) -> list[list[bytes]]:
        """What it received so far: a list for each connection, in order."""
        with self._recorder.changed:
            return [list(record.messages) for record in self._recorder.connections]

    def wait_for(self, n_messages: int, timeout: float = 5.0) -> list[list[bytes]]:
        """Wait until `n_messages` have come, over all connections together.

        Args:
            n_messages: How many.
            timeout: How long to wait, in seconds.

        Returns:
            `messages`.

        Raises:
            TimeoutError: They have not come in time; it says what has.
            ServerFailed: The server has failed meanwhile.
        """
        deadline = time.monotonic() + timeout
        with self._recorder.changed:
            while (have := sum(len(c.messages) for c in self._recorder.connections)) < n_messages:
                self.check()
                left = deadline - time.monotonic()
                if left <= 0 or not self._recorder.changed.wait(left):
                    raise TimeoutError(
                        f"{have} of {n_messages} messages came to {self.address} within "
                        f"{timeout:g}s: {self.messages_shown()}"
                    )
        return self.messages

    def messages_shown(self) -> str:
        """What it received, in short."""
        shown = [[message[:32] for message in record[-8:]] for record in self.messages]
        return repr(shown)

    def check(self) -> None:
        """See whether all is well inside the server.

        Raises:
            ServerFailed: It is not; in the server's own words.
        """
        with self._recorder.changed:
            failure = self._recorder.failure
            records = list(self._recorder.connections)
        if failure is not None:
            words = f"the server on {self.address} failed: {type(failure).__name__}: {failure}"
            raise ServerFailed(words) from failure
        for record in records:
            if record.end is not None and record.end.ending is Ending.ERROR:
                raise ServerFailed(
                    f"the server on {self.address} failed on the connection from {record.peer}: "
                    f"{record.end.why}"
                ) from record.end.error

    def close(self) -> None:
        """End at once, and wait until it has.

        Raises:
            ServerFailed: It did not end, or something had gone wrong inside it.
        """
        # What clients had sent is still read, so that what goes wrong with it is told.
        self._server.stop()
        self._server.reactor.call_soon(self._look)
        self._looked.wait(_TURN_TIMEOUT)
        self._thread.join(_LAST_WORDS)
        self._server.stop()
        self._thread.join(_END_TIMEOUT)
        if self._thread.is_alive():
            raise ServerFailed(f"the server on {self.address} does not end")
        self.check()
        left = [str(record.peer) for record in self._recorder.connections if record.end is None]
        if left:
            raise ServerFailed(f"the server on {self.address} left connections open: {left}")

    def __repr__(self) -> str:
        return f"<RunningServer {self.address} {self.messages_shown()}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
