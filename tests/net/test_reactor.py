"""The readiness loop: the same claims for both of the ways to ask the system."""

import contextlib
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from echokit.net.reactor import READ, WRITE, Poller, Reactor, Timer
from tests.net.clocks import Clock, Skipping
from tests.net.conftest import POLLERS


@pytest.fixture
def reactor(poller: Poller) -> Iterator[Reactor]:
    """A reactor in real time."""
    with Reactor(poller=poller) as made:
        yield made


@pytest.fixture
def clock() -> Clock:
    """The time of `timed`."""
    return Clock()


@pytest.fixture
def timed(poller: Poller, clock: Clock) -> Iterator[Reactor]:
    """A reactor for which no time passes but while it waits."""
    with Reactor(poller=Skipping(poller, clock), clock=clock) as made:
        yield made


@pytest.fixture
def pairs() -> Iterator[Callable[[], tuple[socket.socket, socket.socket]]]:
    """Makes connected pairs of sockets."""
    with contextlib.ExitStack() as stack:

        def pair() -> tuple[socket.socket, socket.socket]:
            one, other = socket.socketpair()
            one.setblocking(False)
            other.setblocking(False)
            return stack.enter_context(one), stack.enter_context(other)

        yield pair


Pairs = Callable[[], tuple[socket.socket, socket.socket]]


# Timers.


def test_timers_run_when_they_are_due_in_order(timed: Reactor, clock: Clock) -> None:
    ran: list[tuple[str, float]] = []

    def note(name: str) -> Callable[[], None]:
        return lambda: ran.append((name, clock.now))

    timed.call_later(3, note("third"))
    timed.call_later(1, note("first"))
    timed.call_later(2, note("second"))
    timed.call_later(4, timed.stop)
    timed.run()
    assert ran == [
        ("first", 101.0),
        ("second", 102.0),
        ("third", 103.0),
    ]


def test_timers_for_the_same_time_run_in_the_order_in_which_they_were_made(
    timed: Reactor,
) -> None:
    ran: list[int] = []
    for number in range(20):
        timed.call_later(1, lambda number=number: ran.append(number))  # type: ignore[misc]
    timed.call_later(1, timed.stop)
    timed.run()
    assert ran == list(range(20))


def test_a_cancelled_timer_is_neither_run_nor_waited_for(timed: Reactor, clock: Clock) -> None:
    ran: list[str] = []
    timed.call_later(1, lambda: ran.append("cancelled")).cancel()
    later = timed.call_later(3, lambda: ran.append("cancelled by a timer"))
    timed.call_later(2, later.cancel)
    timed.call_later(2, timed.stop)
    timed.run()
    assert ran == []
    assert clock.now == 102.0


def test_a_timer_can_cancel_another_that_is_due_at_the_same_time(timed: Reactor) -> None:
    ran: list[str] = []
    timers: list[Timer] = []

    def cancel_the_next() -> None:
        timers.pop().cancel()

    timed.call_later(1, cancel_the_next)
    timers.append(timed.call_later(1, lambda: ran.append("cancelled")))
    timed.call_later(2, timed.stop)
    timed.run()
    assert ran == []


def test_cancelling_after_it_has_run_does_nothing(timed: Reactor) -> None:
    timer = timed.call_later(1, timed.stop)
    timed.run()
    timer.cancel()


def test_a_timer_that_sets_itself_anew_without_delay_lets_sockets_have_their_turn(
    timed: Reactor, pairs: Pairs
) -> None:
    one, other = pairs()
    rounds: list[int] = []

    def again() -> None:
        rounds.append(1)
        assert len(rounds) < 100, "the socket never had its turn"
        timed.call_later(0, again)

    timed.add(one.fileno(), READ, lambda _events: timed.stop())
    timed.call_later(0, again)
    other.send(b"x")
    timed.run()
    timed.remove(one.fileno())


def test_what_came_goes_before_what_is_due_however_much_it_is(timed: Reactor, pairs: Pairs) -> None:
    ran: list[str] = []
    made = [pairs() for _ in range(200)]

    def reader(ours: socket.socket) -> Callable[[int], None]:
        def came(_events: int) -> None:
            ran.append("came")
            ours.recv(1)

        return came

    for ours, theirs in made:
        timed.add(ours.fileno(), READ, reader(ours))
        theirs.send(b"x")

    def due() -> None:
        ran.append("due")
        timed.stop()

    timed.call_later(0, due)
    timed.run()
    for ours, _ in made:
        timed.remove(ours.fileno())
    assert ran == ["came"] * 200 + ["due"]


def test_what_came_while_the_process_stood_still_goes_before_what_is_due(
    poller: Poller, clock: Clock, pairs: Pairs
) -> None:
    ours, theirs = pairs()
    ran: list[str] = []

    class Stopped(Skipping):
        def poll(
            self, timeout: float | None = None, maxevents: int = -1, /
        ) -> list[tuple[int, int]]:
            ready = super().poll(timeout, maxevents)
            if timeout:
                # Stopped in the wait, which was over when it went on.
                theirs.send(b"x")
            return ready

    with Reactor(poller=Stopped(poller, clock), clock=clock) as reactor:

        def on_ready(_events: int) -> None:
            ran.append("came")
            ours.recv(1)

        def on_due() -> None:
            ran.append("due")
            reactor.stop()

        reactor.add(ours.fileno(), READ, on_ready)
        reactor.call_later(1, on_due)
        reactor.run()
        reactor.remove(ours.fileno())
    assert ran == ["came", "due"]


def test_what_came_while_something_was_handled_goes_before_what_is_due(
    timed: Reactor, clock: Clock, pairs: Pairs
) -> None:
    (slow, first), (other, second) = pairs(), pairs()
    ran: list[str] = []

    def handled_for_long(_events: int) -> None:
        slow.recv(1)
        # As it would be for a process that is stopped here and goes on later.
        clock.now += 10
        second.send(b"x")
        ran.append("slow")

    def came(_events: int) -> None:
        other.recv(1)
        ran.append("came")

    def due() -> None:
        ran.append("due")
        timed.stop()

    timed.add(slow.fileno(), READ, handled_for_long)
    timed.add(other.fileno(), READ, came)
    timed.call_later(1, due)
    first.send(b"x")
    timed.run()
    timed.remove(slow.fileno())
    timed.remove(other.fileno())
    assert ran == ["slow", "came", "due"]


def test_events_are_taken_from_the_system_in_small_numbers(pairs: Pairs) -> None:
    epoll = POLLERS["epoll"]
    if epoll is None:
        pytest.skip("this system has no epoll")
    taken = []

    class Counted(Skipping):
        def poll(
            self, timeout: float | None = None, maxevents: int = -1, /
        ) -> list[tuple[int, int]]:
            ready = super().poll(timeout, maxevents)
            taken.append(len(ready))
            return ready

    clock = Clock()
    made = [pairs() for _ in range(150)]
    with Reactor(poller=Counted(epoll(), clock), clock=clock) as reactor:
        for ours, theirs in made:
            reactor.add(ours.fileno(), READ, lambda _events: None)
            theirs.send(b"x")
        reactor.call_later(0, reactor.stop)
        reactor.run()
        for ours, _ in made:
            reactor.remove(ours.fileno())
    assert sum(taken) >= 150
    # Not one by one either: each time is a call to the system.
    assert max(taken) == 64


def test_a_timer_is_not_early_by_the_real_clock(reactor: Reactor) -> None:
    began = reactor.clock()
    reactor.call_later(0.0305, reactor.stop)
    reactor.run()
    assert reactor.clock() - began >= 0.0305


# Calls.


def test_calls_run_in_the_order_in_which_they_were_made(reactor: Reactor) -> None:
    ran: list[int] = []
    for number in range(5):
        reactor.call_soon(lambda number=number: ran.append(number))  # type: ignore[misc]
    reactor.call_soon(reactor.stop)
    reactor.run()
    assert ran == [0, 1, 2, 3, 4]


def test_a_call_that_makes_another_gives_sockets_their_turn(reactor: Reactor, pairs: Pairs) -> None:
    one, other = pairs()
    calls: list[int] = []

    def again() -> None:
        calls.append(1)
        assert len(calls) < 1000, "the socket never had its turn"
        reactor.call_soon(again)

    reactor.add(one.fileno(), READ, lambda _events: reactor.stop())
    reactor.call_soon(again)
    other.send(b"x")
    reactor.run()
    reactor.remove(one.fileno())
    assert calls


def test_a_call_from_another_thread_ends_the_wait_and_runs_in_the_loops_thread(
    reactor: Reactor,
) -> None:
    ran_in: list[threading.Thread] = []
    waiting = threading.Event()

    def note() -> None:
        ran_in.append(threading.current_thread())
        reactor.stop()

    def call() -> None:
        assert waiting.wait(10)
        reactor.call_soon(note)

    caller = threading.Thread(target=call)
    caller.start()
    reactor.call_later(0, waiting.set)
    reactor.run()
    caller.join(10)
    assert ran_in == [threading.current_thread()]


@pytest.mark.slow
def test_more_calls_than_the_waking_bytes_find_room_for_all_run(reactor: Reactor) -> None:
    ran: list[int] = []
    for number in range(50_000):
        reactor.call_soon(lambda number=number: ran.append(number))  # type: ignore[misc]
    reactor.call_soon(reactor.stop)
    reactor.run()
    assert ran == list(range(50_000))


def test_calls_from_many_threads_are_all_run(reactor: Reactor) -> None:
    ran: list[int] = []

    def note() -> None:
        ran.append(1)
        if len(ran) == 4000:
            reactor.stop()

    def call() -> None:
        for _ in range(1000):
            reactor.call_soon(note)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    reactor.run()
    for caller in callers:
        caller.join(10)
    assert len(ran) == 4000


def test_a_call_to_a_reactor_that_is_closed_is_dropped(poller: Poller) -> None:
    reactor = Reactor(poller=poller)
    reactor.close()
    reactor.call_soon(lambda: pytest.fail("nobody is left to call"))


# Stopping.


def test_stop_lets_run_return_and_it_can_run_again(timed: Reactor) -> None:
    ran: list[str] = []
    timed.call_later(1, timed.stop)
    timed.call_later(1, lambda: ran.append("left for the next run"))
    timed.call_later(2, timed.stop)
    timed.run()
    assert ran == []
    timed.run()
    assert ran == ["left for the next run"]


def test_an_error_of_a_handler_comes_out_of_run(reactor: Reactor, pairs: Pairs) -> None:
    one, other = pairs()

    def fails(_events: int) -> None:
        raise ZeroDivisionError

    reactor.add(one.fileno(), READ, fails)
    other.send(b"x")
    with pytest.raises(ZeroDivisionError):
        reactor.run()
    reactor.remove(one.fileno())


# Readiness.


def test_a_handler_is_told_which_readiness_it_asked_for(reactor: Reactor, pairs: Pairs) -> None:
    one, other = pairs()
    told: list[int] = []

    def note(events: int) -> None:
        told.append(events)
        reactor.stop()

    reactor.add(one.fileno(), WRITE, note)
    reactor.run()
    other.send(b"x")
    reactor.run()
    reactor.modify(one.fileno(), READ)
    reactor.run()
    reactor.modify(one.fileno(), READ | WRITE)
    reactor.run()
    reactor.remove(one.fileno())
    assert told == [WRITE, WRITE, READ, READ | WRITE]


def test_what_is_left_unread_is_told_again(reactor: Reactor, pairs: Pairs) -> None:
    one, other = pairs()
    read: list[bytes] = []

    def note(_events: int) -> None:
        read.append(one.recv(1))
        if len(read) == 3:
            reactor.stop()

    reactor.add(one.fileno(), READ, note)
    other.send(b"abc")
    reactor.run()
    reactor.remove(one.fileno())
    assert read == [b"a", b"b", b"c"]


def test_a_peer_that_is_gone_is_told_to_who_reads(reactor: Reactor, pairs: Pairs) -> None:
    one, other = pairs()
    told: list[int] = []

    def note(events: int) -> None:
        told.append(events)
        reactor.stop()

    reactor.add(one.fileno(), READ, note)
    other.close()
    reactor.run()
    reactor.remove(one.fileno())
    assert told[0] & ~WRITE


def test_a_handler_that_removes_another_of_the_same_round_is_the_last_word(
    reactor: Reactor, pairs: Pairs
) -> None:
    fds: list[int] = []
    told: list[int] = []

    def handler_of(fd: int) -> Callable[[int], None]:
        def handle(_events: int) -> None:
            told.append(fd)
            for other in fds:
                reactor.discard(other)
            reactor.stop()

        return handle

    for _ in range(3):
        one, other = pairs()
        fds.append(one.fileno())
        reactor.add(one.fileno(), READ, handler_of(one.fileno()))
        other.send(b"x")
    reactor.run()
    assert len(told) == 1


def test_a_number_that_is_closed_and_given_out_again_in_one_round_does_no_harm(
    reactor: Reactor, pairs: Pairs
) -> None:
    told: list[str] = []
    victims = [pairs(), pairs()]
    replaced: list[int] = []

    def replace(index: int) -> None:
        # Which of the two is told first is the system's choice: it replaces the other.
        told.append("first")
        reactor.remove(victims[index][0].fileno())
        number = victims[1 - index][0].fileno()
        reactor.remove(number)
        victims[1 - index][0].close()
        fresh, peer = pairs()
        assert number in (fresh.fileno(), peer.fileno())
        reactor.add(number, READ, lambda _events: told.append("for nothing"))
        replaced.append(number)
        reactor.call_later(0, reactor.stop)

    for index, (one, other) in enumerate(victims):
        reactor.add(one.fileno(), READ, lambda _events, index=index: replace(index))  # type: ignore[misc]
        other.send(b"x")
    reactor.run()
    reactor.remove(replaced[0])
    assert told in (["first"], ["first", "for nothing"])


def test_what_is_removed_is_told_no_more_and_can_be_added_again(
    reactor: Reactor, pairs: Pairs
) -> None:
    one, other = pairs()
    other.send(b"x")
    reactor.add(one.fileno(), READ, lambda _events: pytest.fail("it was removed"))
    reactor.remove(one.fileno())
    reactor.call_later(0, reactor.stop)
    reactor.run()
    reactor.add(one.fileno(), READ, lambda _events: reactor.stop())
    reactor.run()
    reactor.remove(one.fileno())


def test_discarding_what_is_not_there_does_nothing(reactor: Reactor, pairs: Pairs) -> None:
    one, _ = pairs()
    reactor.discard(one.fileno())
    reactor.add(one.fileno(), READ, lambda _events: None)
    reactor.discard(one.fileno())
    reactor.discard(one.fileno())


def test_a_regular_file_cannot_be_waited_for_and_leaves_no_trace(
    reactor: Reactor, tmp_path: Path
) -> None:
    if not hasattr(select, "epoll"):
        pytest.skip("only epoll refuses regular files")
    path = tmp_path / "regular"
    path.write_bytes(b"x")
    with path.open("rb") as file:
        fd = file.fileno()
        # Had the first try left anything, the second would find it there already.
        for _ in range(2):
            with pytest.raises(PermissionError):
                reactor.add(fd, READ, lambda _events: None)
            reactor.discard(fd)


def test_a_signal_wakes_it_until_it_is_closed(poller: Poller) -> None:
    reactor = Reactor(poller=poller)
    reactor.wake_at_signals()
    before = signal.signal(signal.SIGUSR1, lambda *_: reactor.stop())
    try:
        # As it comes where the handler has run by the time the wait begins.
        reactor.call_later(0, lambda: signal.raise_signal(signal.SIGUSR1))
        reactor.run()
        assert reactor._wakened.recv(1) == bytes([signal.SIGUSR1])
    finally:
        signal.signal(signal.SIGUSR1, before)
        reactor.close()
    # A byte to a number that is another's by then would be a fault of ours.
    assert signal.set_wakeup_fd(-1) == -1
