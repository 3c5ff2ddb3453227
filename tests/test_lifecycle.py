"""Connections in any order of what can happen to them, against a model of what must come back.

Hypothesis opens, sends, half-closes, resets, stops reading, resumes and closes, on several
connections at once, at a server on real sockets. The model is small: what a client has sent, up to
the end of its last whole message, comes back, and nothing else; after a half-close all of it, and
then the end; and whatever one connection does, the others do not notice.
"""

import bisect
import contextlib
import os
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from echokit import EchoServer, Framing, LengthPrefixed, Raw
from echokit.config import Limits
from echokit.net.address import Address
from echokit.net.connection import Connection
from echokit.net.handler import End, Ending
from echokit.net.segment import JOINED, Segmentation
from echokit.net.stream import Stream
from echokit.observe.observer import Observer

MOST_CONNECTIONS = 4
LIMIT = 100_000
FRAMINGS: list[Framing] = [Raw(), LengthPrefixed(max_message=LIMIT)]
every_framing = pytest.mark.parametrize("framing", FRAMINGS, ids=lambda framing: framing.type)
# How the server sends: as it comes, cut small and large, or gathered.
WAYS = {
    "uncut": None,
    "cut": Segmentation((1, 3, 4096)),
    "joined": Segmentation(JOINED, 0.002),
}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
_Rule = TypeVar("_Rule", bound=Callable[..., object])
# Which of the clients that fit.
WHICH = st.integers(0, MOST_CONNECTIONS - 1)
# Small enough that a client that does not read is soon not read from.
_BUFFER = 16 << 10
_PATTERN = bytes(range(251)) * 800


class _Told(Observer):
    """Notes which connections began and how they ended, by number, in the order of their accept."""

    def __init__(self) -> None:
        self.accepted_count = 0
        self.ends: dict[int, End] = {}
        self._open: dict[Address, list[int]] = {}
        self._changed = threading.Condition()

    def accepted(self, peer: Address) -> None:
        with self._changed:
            # An address may come again before the end of its last connection has been told.
            self._open.setdefault(peer, []).append(self.accepted_count)
            self.accepted_count += 1
            self._changed.notify_all()

    def ended(self, peer: Address, end: End) -> None:
        with self._changed:
            self.ends[self._open[peer].pop(0)] = end
            self._changed.notify_all()

    def wait_for_ends(self, count: int, patience: float) -> None:
        """Wait until so many connections have come and have ended."""
        with self._changed:
            done = self._changed.wait_for(lambda: len(self.ends) >= count, patience)
        assert done, f"{len(self.ends)} of {count} connections have ended after {patience:g}s"
        assert self.accepted_count == count


class _Client:
    """A client and the model of its connection.

    Attributes:
        number: Which one it is, from 0, in the order of connecting.
        reading: Whether it reads what has come; as long as it does not, it waits.
        half_closed: Whether it has said that it has finished.
        broken: Whether it has sent a length over the limit, after which nothing is owed.
        ended: Whether the server has said that it has finished.
        received: How many bytes have come back, each of them right.
    """

    def __init__(self, number: int, framing: Framing, address: Address, patience: float) -> None:
        self.number = number
        self.reading = True
        self.half_closed = False
        self.broken = False
        self.ended = False
        self.received = 0
        self.sock = socket.socket(address.family)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            self.sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        self.sock.settimeout(patience)
        self.sock.connect(address.sockaddr)
        self.sock.setblocking(False)
        self._framing = framing
        self._patience = patience
        # What it was asked to send, how much of that the system has taken, and where messages end.
        self._wire = bytearray()
        self._sent = 0
        self._ends = [0]

    @property
    def owed(self) -> int:
        """How many bytes must come back of what has been sent so far."""
        if self._framing.transparent:
            return self._sent
        return self._ends[bisect.bisect_right(self._ends, self._sent) - 1]

    @property
    def sent(self) -> int:
        """How many bytes the system has taken."""
        return self._sent

    @property
    def waiting(self) -> bool:
        """Whether there is something that the system has not taken."""
        return self._sent < len(self._wire) and not self.half_closed

    @property
    def expected_end(self) -> Ending:
        """How the server should see it end, once it has half-closed and read all."""
        if self.broken and self._sent >= self._ends[-1] + 4:
            return Ending.TOO_LARGE
        return Ending.CLEAN if self.owed == self._sent else Ending.TRUNCATED

    def send(self, size: int) -> None:
        """Send a message of `size` bytes, as far as the system takes it now."""
        # Each connection's bytes differ from every other's, and from its own elsewhere.
        at = (self.number * 37 + len(self._wire)) % 251
        self._wire += self._framing.encode(_PATTERN[at : at + size])
        self._ends.append(len(self._wire))
        self.push()

    def send_too_large(self) -> None:
        """Send a length over the limit, and a little more."""
        self._wire += struct.pack(">I", LIMIT + 1) + b"over"
        self.broken = True
        self.push()

    def push(self) -> None:
        """Give the system what it takes now of what waits."""
        with contextlib.suppress(BlockingIOError):
            while self.waiting:
                self._sent += self.sock.send(memoryview(self._wire)[self._sent :])

    def half_close(self) -> None:
        """Say that no more comes; what the system has not taken does not."""
        self.half_closed = True
        self.sock.shutdown(socket.SHUT_WR)

    def pull(self) -> None:
        """Read what has come, and hold it against the model."""
        with contextlib.suppress(BlockingIOError):
            while not self.ended:
                data = self.sock.recv(65536)
                end = self.received + len(data)
                assert end <= self.owed, f"{end} bytes came back where {self.owed} are owed"
                # Not compared in the assertion: pytest would look for minutes for how they differ.
                right = data == self._wire[self.received : end]
                assert right, "other bytes came back"
                self.received = end
                self.ended = not data
        if self.ended:
            assert self.half_closed or self.broken, "the server ended it"
            assert self.received == self.owed, f"it ended after {self.received} of {self.owed}"

    def wait_until(self, done: Callable[[], bool]) -> None:
        """Send what waits and read what comes until it is done; as long as something moves."""
        moved, deadline = (0, 0), 0.0
        while not done():
            if moved != (moved := (self._sent, self.received)) or not deadline:
                deadline = time.monotonic() + self._patience
            left = deadline - time.monotonic()
            assert left > 0, f"{self.received} of {self.owed} bytes came, and then no more"
            select.select([self.sock], [self.sock] if self.waiting else [], [], left)
            self.push()
            self.pull()

    def finish(self) -> None:
        """Send all that waits, and half-close."""
        self.wait_until(lambda: not self.waiting)
        self.half_close()

    def close(self, *, reset: bool) -> None:
        """Close at once; `reset`: so that the server gets a reset and no FIN."""
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def _any(_client: _Client) -> bool:
    return True


def _is_open(client: _Client) -> bool:
    return not client.half_closed


def _may_send(client: _Client) -> bool:
    return not (client.half_closed or client.broken)


def _will_end(client: _Client) -> bool:
    return client.half_closed or client.broken


def _reads(client: _Client) -> bool:
    return client.reading


def _does_not_read(client: _Client) -> bool:
    return not client.reading


def _is_owed_all(client: _Client) -> bool:
    return client.reading and not client.broken


def _for(fits: Callable[[_Client], bool]) -> Callable[[_Rule], _Rule]:
    """A rule for when there is a client that fits."""
    return precondition(lambda self: any(map(fits, self._clients)))


class _Lifecycle(RuleBasedStateMachine):
    """What can happen to connections, in any order."""

    # Which server, where, and how it sends.
    kind: type[EchoServer] = EchoServer
    host: str
    framing: Framing
    way: Segmentation | None
    # How long anything may take, in seconds.
    patience = 10.0
    # What failed, in the order in which it did.
    failures: list[AssertionError | OSError]

    def __init__(self) -> None:
        super().__init__()
        self._told = _Told()
        self._clients: list[_Client] = []
        self._opened = 0
        self._in_order: list[_Client] = []
        self._stack = contextlib.ExitStack()
        self._before = _descriptors()

    @initialize(chunk_size=st.sampled_from([500, 4096, 65536]))
    def serve(self, chunk_size: int) -> None:
        """A server of its own for each run."""
        server = self.kind(
            self.host,
            0,
            framing=self.framing,
            chunk_size=chunk_size,
            segmentation=self.way,
            observer=self._told,
            # At the end no connection is left, unless something has failed.
            limits=Limits(drain_timeout=0.1),
        )
        self._stack.enter_context(server)
        self._address = server.addresses[0]
        self._serving = _descriptors()

    def _pick(self, which: int, fits: Callable[[_Client], bool]) -> _Client:
        """One of the clients that fit."""
        fitting = [client for client in self._clients if fits(client)]
        return fitting[which % len(fitting)]

    @precondition(lambda self: len(self._clients) < MOST_CONNECTIONS)
    @rule()
    def connect(self) -> None:
        """One client more."""
        client = _Client(self._opened, self.framing, self._address, self.patience)
        self._stack.callback(client.sock.close)
        self._opened += 1
        self._clients.append(client)

    @_for(_may_send)
    @rule(which=WHICH, sizes=st.lists(st.integers(0, 200) | st.just(5000), min_size=1, max_size=3))
    def send(self, which: int, sizes: list[int]) -> None:
        """Messages, short mostly."""
        client = self._pick(which, _may_send)
        for size in sizes:
            client.send(size)

    @_for(_may_send)
    @rule(which=WHICH, times=st.integers(1, 8))
    def send_much(self, which: int, times: int) -> None:
        """More than goes into the buffers, if nobody reads."""
        client = self._pick(which, _may_send)
        for _ in range(times):
            client.send(LIMIT)

    @precondition(lambda self: not self.framing.transparent and any(map(_may_send, self._clients)))
    @rule(which=WHICH)
    def send_too_large(self, which: int) -> None:
        """A length over the limit."""
        self._pick(which, _may_send).send_too_large()

    @_for(_reads)
    @rule(which=WHICH)
    def stop_reading(self, which: int) -> None:
        """From now on what comes is left where it is."""
        self._pick(which, _reads).reading = False

    @_for(_does_not_read)
    @rule(which=WHICH)
    def resume(self, which: int) -> None:
        """And now it is read again."""
        self._pick(which, _does_not_read).reading = True

    @_for(_is_owed_all)
    @rule(which=WHICH)
    def wait_for_all(self, which: int) -> None:
        """What has been sent comes back without an end, too."""
        client = self._pick(which, _is_owed_all)
        client.wait_until(lambda: client.received == client.owed and not client.waiting)

    @_for(_is_open)
    @rule(which=WHICH)
    def half_close(self, which: int) -> None:
        """A client has finished, and waits for what is owed."""
        self._pick(which, _is_open).half_close()

    @_for(_will_end)
    @rule(which=WHICH)
    def read_to_the_end(self, which: int) -> None:
        """All comes, then the end; then the client closes, too."""
        self._end_in_order(self._pick(which, _will_end))

    @_for(_any)
    @rule(which=WHICH, reset=st.booleans())
    def leave(self, which: int, reset: bool) -> None:
        """A client closes, whatever is owed to it, with a reset or without."""
        client = self._pick(which, _any)
        client.close(reset=reset)
        self._clients.remove(client)

    @invariant()
    def what_has_come_back_is_what_was_sent(self) -> None:
        """At each step, for all clients that read."""
        for client in self._clients:
            client.push()
            if client.reading:
                client.pull()

    def _end_in_order(self, client: _Client) -> None:
        client.wait_until(lambda: client.ended)
        client.sock.close()
        self._clients.remove(client)
        self._in_order.append(client)

    def teardown(self) -> None:
        """In the end everything has come back, and the server holds nothing any more."""
        failure: BaseException | None = None
        try:
            with self._stack:
                # After a failure there is nothing more to be seen, nor where Hypothesis broke off.
                if (failure := sys.exc_info()[1]) is None:
                    self._all_end_well()
            assert failure or _descriptors() == self._before, "descriptors are left"
        except (AssertionError, OSError) as error:
            failure = error
            raise
        finally:
            if isinstance(failure, AssertionError | OSError):
                self.failures.append(failure)

    def _all_end_well(self) -> None:
        for client in list(self._clients):
            if not (client.half_closed or client.broken):
                client.finish()
            self._end_in_order(client)
        self._told.wait_for_ends(self._opened, self.patience)
        assert _descriptors() == self._serving, "the server holds descriptors of connections"
        for client in self._in_order:
            end = self._told.ends[client.number]
            assert end.ending is client.expected_end
            assert end.bytes_out == client.owed
            assert client.broken or end.bytes_in == client.sent


def _descriptors() -> list[str] | None:
    """The open descriptors by number, where the system tells."""
    folder = Path("/proc/self/fd")
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else None


def _machine(
    served: str, framed: Framing, sends: Segmentation | None, **changed: object
) -> type[_Lifecycle]:
    settled = {"host": served, "framing": framed, "way": sends, "failures": [], **changed}
    return type("Lifecycle", (_Lifecycle,), settled)


def _run(machine: type[_Lifecycle], examples: int, steps: int) -> None:
    run_settings = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        # No shrinking: it would wait out the patience again and again, up to the test's own limit.
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(machine, settings=run_settings)
    except Flaky as flaky:
        # A server has its own time: what failed once need not fail again, and has failed.
        if machine.failures:
            raise machine.failures[0] from flaky
        raise


@every_way
@every_framing
def test_whatever_happens_to_connections_each_gets_its_own_back(
    host: str, framing: Framing, way: Segmentation | None
) -> None:
    _run(_machine(host, framing, way), examples=5, steps=40)


@pytest.mark.slow
@pytest.mark.timeout(600)
@every_way
@every_framing
def test_whatever_happens_to_connections_for_long(
    host: str, framing: Framing, way: Segmentation | None
) -> None:
    _run(_machine(host, framing, way), examples=300, steps=50)


# The model is no good if it lets these through. Each is a server with one fault, as they happen.


class _LosesAMessage(EchoServer):
    """Leaves out the seventh message of its life."""

    _seen = 0

    def message_received(self, connection: Connection, message: bytes) -> None:
        self._seen += 1
        if self._seen != 7:
            super().message_received(connection, message)


class _SendsTwice(EchoServer):
    """Sends the seventh message of its life once more."""

    _seen = 0

    def message_received(self, connection: Connection, message: bytes) -> None:
        self._seen += 1
        super().message_received(connection, message)
        if self._seen == 7:
            super().message_received(connection, message)


class _Crosses(EchoServer):
    """Sends to the client that spoke before this one, if it is still there."""

    _last: Connection | None = None

    def message_received(self, connection: Connection, message: bytes) -> None:
        last, self._last = self._last, connection
        super().message_received(last if last and not last.closed else connection, message)


class _ResetsAtEof(EchoServer):
    """Is in a hurry when the client has finished."""

    def eof_received(self, connection: Stream) -> None:
        connection.abort(Ending.CLEAN)


class _IgnoresEof(EchoServer):
    """Does not answer a half-close."""

    def eof_received(self, connection: Stream) -> None:
        """Nothing."""


class _ClosesOthers(EchoServer):
    """Takes one client's reset for everybody's."""

    def connection_ended(self, connection: Stream) -> None:
        super().connection_ended(connection)
        if connection.ending is Ending.RESET:
            for other in list(self._connections):
                other.close()


class _Leaks(EchoServer):
    """Keeps a descriptor for each connection that it has had."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._kept: list[int] = []

    def connection_ended(self, connection: Stream) -> None:
        self._kept.append(os.open(os.devnull, os.O_RDONLY))
        super().connection_ended(connection)

    def close(self) -> None:
        super().close()
        while self._kept:
            os.close(self._kept.pop())


class _ForgetsToTell(EchoServer):
    """Holds on to a connection that was reset."""

    def connection_ended(self, connection: Stream) -> None:
        if connection.ending is not Ending.RESET:
            super().connection_ended(connection)


FAULTY = {
    _LosesAMessage: "other bytes came back|and then no more|it ended after",
    _SendsTwice: "bytes came back where|other bytes came back",
    _Crosses: "other bytes came back|bytes came back where|and then no more|it ended after",
    _ResetsAtEof: "it ended after|Connection reset|Broken pipe|not connected",
    _IgnoresEof: "and then no more",
    _ClosesOthers: "the server ended it|it ended after|Connection reset|Broken pipe|not connected",
    _Leaks: "the server holds descriptors",
    _ForgetsToTell: "connections have ended",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAULTY, ids=lambda kind: kind.__name__)
def test_a_server_with_a_fault_is_found_out(host: str, kind: type[EchoServer]) -> None:
    faulty = _machine(host, Raw(), None, kind=kind, patience=0.5)
    with pytest.raises((AssertionError, OSError), match=FAULTY[kind]):
        _run(faulty, examples=60, steps=40)
