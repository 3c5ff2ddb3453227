"""The generator on sockets: what it counts, what it measures, and that it tells the truth."""

import itertools
import resource
import socket
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from time import monotonic_ns

import pytest

from echokit import Delimited, EchoServer, LengthPrefixed, Raw
from echokit.framing.base import Framing
from echokit.loadgen.account import Account
from echokit.loadgen.generator import Generator
from echokit.loadgen.histogram import Histogram
from echokit.loadgen.lane import Lane
from echokit.loadgen.records import Tally
from echokit.loadgen.schedule import NEVER
from echokit.net.reactor import READ
from tests.cli.peers import reserved_port
from tests.loadgen.conftest import Loading
from tests.loadgen.servers import (
    Answer,
    FakeServer,
    closes_at_random,
    delays,
    echoes,
    echoes_twice,
    ends_at_once,
    garbles,
    never_answers,
    resets,
    stalls_once,
    stalls_twice,
)


def _turn(generator: Generator, seconds: float = 0.2, count: int | None = None) -> Tally:
    generator.open()
    return generator.turn(seconds, count)


def _turns(generator: Generator, count: int, seconds: float = 0.06) -> list[Tally]:
    """So many turns, the last of which is followed by none."""
    generator.open()
    return [generator.turn(seconds, last=number == count - 1) for number in range(count)]


def _one(tallies: list[Tally]) -> Tally:
    whole = Tally()
    for tally in tallies:
        whole.add(tally)
    return whole


def _percentile(times: dict[int, int], name: str) -> int:
    """A percentile of counted times, in microseconds."""
    histogram = Histogram()
    histogram.add(times)
    value = getattr(histogram.figure(), f"{name}_us")
    assert isinstance(value, int)
    return value


def _name(framing: Framing) -> str:
    return framing.type


# What is right.


@pytest.mark.parametrize("in_flight", [1, 16])
@pytest.mark.parametrize("framing", [Raw(), LengthPrefixed(), Delimited()], ids=_name)
def test_a_closed_loop_sends_exactly_as_many_as_it_may(
    loading: Loading, host: str, framing: Framing, in_flight: int
) -> None:
    with EchoServer(host, 0, chunk_size=65536, framing=framing) as server:
        plan = {"connections": 3, "in_flight": in_flight, "framing": framing}
        generator = loading(server.port, (1, 3000), **plan)
        tally = _turn(generator, 5.0, 1000)
        # The server would wait for those that do not close.
        generator.close()
    assert (tally.requests, dict(tally.outcomes)) == (1000, {"ok": 1000})
    assert tally.service.total() == tally.response.total() == 1000
    assert tally.bytes_sent == tally.bytes_received > 0


def test_messages_larger_than_every_buffer_come_back_whole(loading: Loading) -> None:
    tally = _turn(loading(echoes, (3 << 20, 3 << 20), connections=2), 10.0, 4)
    assert dict(tally.outcomes) == {"ok": 4}
    assert tally.bytes_received == 4 * (3 << 20)


@pytest.mark.one_family
def test_large_messages_in_flight_come_back_whole_and_are_no_copies(loading: Loading) -> None:
    generator = loading(echoes, (1 << 20, 1 << 20), connections=2, in_flight=40)
    tracemalloc.start()
    try:
        tally = _turn(generator, 30.0, 100)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert dict(tally.outcomes) == {"ok": 100}
    # 80 MiB are in flight; the server of this test, too, has a buffer of its own.
    assert peak < 16 << 20


@pytest.mark.one_family
def test_an_open_loop_keeps_its_rate_over_turns_shorter_than_an_interval(loading: Loading) -> None:
    generator = loading(echoes, connections=2, rate=25.0)
    generator.open()
    tallies = [generator.turn(0.02) for _ in range(30)]
    # 25 a second for 0.6 seconds, the one at the very beginning included.
    assert sum(tally.requests for tally in tallies) == 15
    assert sum(tally.outcomes["ok"] for tally in tallies) == 15


def test_an_open_loop_stops_at_a_count(loading: Loading) -> None:
    tally = _turn(loading(echoes, connections=2, rate=1000.0), 5.0, 40)
    assert dict(tally.outcomes) == {"ok": 40}
    assert tally.seconds < 2


def test_churn_has_a_connection_for_every_exchange(loading: Loading) -> None:
    tally = _turn(loading(echoes, connections=4, churn=True), 5.0, 200)
    assert dict(tally.outcomes) == {"ok": 200}
    assert tally.connect.total() == 200
    # Its response time has the connect in it.
    assert _percentile(tally.response, "p50") > _percentile(tally.service, "p50")


@pytest.mark.parametrize("rate", [None, 500.0], ids=["closed loop", "open loop"])
def test_churn_has_a_connection_for_every_exchange_of_every_turn(
    loading: Loading, rate: float | None
) -> None:
    generator = loading(echoes, connections=4, churn=True, rate=rate)
    tallies = [generator.turn(5.0, 20) for _ in range(5)]
    assert [dict(tally.outcomes) for tally in tallies] == [{"ok": 20}] * 5
    assert [tally.connect.total() for tally in tallies] == [20] * 5


def test_connections_stay_from_turn_to_turn(loading: Loading) -> None:
    generator = loading(echoes, connections=5)
    generator.open()
    tallies = [generator.turn(0.05) for _ in range(3)]
    assert [tally.connect.total() for tally in tallies] == [5, 0, 0]
    assert all(tally.outcomes["ok"] == tally.requests > 0 for tally in tallies)


def test_the_kernel_tells_of_each_connection_at_its_end(loading: Loading) -> None:
    generator = loading(echoes, connections=3)
    _turn(generator, 0.05)
    last = generator.close()
    assert last.rtt.total() == 3
    assert all(0 < rtt < 1_000_000 for rtt in last.rtt)


# The truth.


@pytest.mark.slow
def test_a_known_delay_is_measured(loading: Loading) -> None:
    took: list[float] = []
    sleep = delays(0.010)

    def answer(sock: socket.socket, data: bytes) -> bytes | None:
        began = time.monotonic()
        answered = sleep(sock, data)
        took.append(time.monotonic() - began)
        return answered

    generator = loading(answer)
    generator.open()
    # The nearest of three: on a busy machine the server itself is late, or we are.
    off = []
    for _ in range(3):
        took.clear()
        tally = generator.turn(0.5)
        off.append(_percentile(tally.service, "p50") - statistics.median(took) * 1e6)
    assert abs(min(off, key=abs)) <= 500


@pytest.mark.slow
def test_a_stall_shows_in_the_response_times_of_all_that_were_due(loading: Loading) -> None:
    # At 500 a second, a hundred are due while the server does nothing for 200 ms: a fifth of all.
    stalling = stalls_once(0.2, after=150)
    tally = _turn(loading(stalling, connections=4, rate=500.0), 1.0)
    # And what falls due while the last is on its way.
    assert dict(tally.outcomes) == {"ok": tally.requests}
    assert 500 <= tally.requests < 550
    # Only those few that were on their way can see it from their send.
    assert _percentile(tally.service, "p90") < 50_000
    assert _percentile(tally.response, "p90") > 80_000
    assert 190_000 < max(tally.response) < 1_000_000
    assert sum(count for time, count in tally.response.items() if time > 20_000) >= 80


@pytest.mark.slow
@pytest.mark.parametrize("churn", [False, True])
def test_a_stall_at_the_end_of_a_turn_shows_in_all_that_were_due_meanwhile(
    loading: Loading, churn: bool
) -> None:
    # The stall begins with the last of a turn's fifty, and a hundred more are due until it ends.
    # The next turn has what could not be sent in that one.
    stalling = stalls_once(0.2, after=50)
    tally = _one(_turns(loading(stalling, connections=4, rate=500.0, churn=churn), 2, 0.1))
    assert dict(tally.outcomes) == {"ok": tally.requests}
    assert tally.unsent == 0
    assert tally.requests >= 190
    assert sum(count for time, count in tally.response.items() if time > 20_000) >= 80
    assert 190_000 < max(tally.response) < 1_000_000


@pytest.mark.slow
def test_a_closed_loop_is_blind_to_what_a_stall_holds_up(loading: Loading) -> None:
    tally = _turn(loading(stalls_once(0.2, after=150), connections=4), 1.0)
    held_up = sum(count for time, count in tally.response.items() if time > 100_000)
    # One for each connection, and few even where the machine holds everything up.
    assert 4 <= held_up <= tally.requests / 100


def _as_far_behind(tally: Tally, rate: float) -> bool:
    """Whether the longest response is what theory has for a target that cannot keep `rate`.

    The last that was sent has waited since as many were due as are left, and then took its time.
    """
    wait, slack = tally.unsent / rate * 1e6, 0.1 * max(tally.response)
    return wait - slack <= max(tally.response) <= wait + max(tally.service) + slack


@pytest.mark.one_family
def test_a_rate_that_cannot_be_reached_leaves_some_unsent(loading: Loading) -> None:
    (tally,) = _turns(loading(delays(0.010), rate=1000.0), 1, 0.3)
    assert tally.outcomes["ok"] == tally.requests
    # The schedule has 300, and what falls due while the last that was in flight comes back.
    assert tally.requests + tally.unsent >= 300
    assert tally.unsent > 200
    assert tally.rate < 110
    assert _as_far_behind(tally, 1000.0)


@pytest.mark.slow
def test_what_is_behind_at_a_turns_end_stays_behind_as_in_one_long_turn(loading: Loading) -> None:
    tallies = _turns(loading(delays(0.010), rate=500.0), 10)
    whole = _one(tallies)
    assert dict(whole.outcomes) == {"ok": whole.requests}
    assert [tally.unsent for tally in tallies[:-1]] == [0] * 9
    # Everything that was due in the time that rates are by has been sent, or is told.
    assert whole.requests + whole.unsent == pytest.approx(500 * whole.sending_seconds, rel=0.05)
    assert _as_far_behind(whole, 500.0)
    assert _percentile(whole.response, "p50") == pytest.approx(max(whole.response) / 2, rel=0.2)
    # It only grows, and nobody else's turn is counted: there is nothing but the one connection's
    # time in it.
    assert all(
        min(later.response) > max(earlier.response) - max(earlier.service)
        for earlier, later in itertools.pairwise(tallies)
    )
    busy = sum(time * count for time, count in whole.service.items()) / 1e6
    assert whole.sending_seconds == pytest.approx(busy, rel=0.1)
    # What had to wait for the connection was not late for want of the generator's time.
    assert not any(tally.lateness for tally in tallies[1:])


def test_a_turn_that_ends_by_its_count_ends_the_schedule_with_it(loading: Loading) -> None:
    generator = loading(echoes, connections=2, rate=500.0)
    generator.open()
    assert generator.turn(60.0, 20).requests == 20
    following = generator.turn(0.1, last=True)
    assert 50 <= following.requests + following.unsent < 500


def test_the_wait_between_turns_is_in_no_response_time(loading: Loading) -> None:
    generator = loading(delays(0.010), rate=500.0)
    generator.open()
    first = generator.turn(0.1)
    time.sleep(0.5)
    second = generator.turn(0.01, last=True)
    assert second.unsent > 0
    assert _as_far_behind(_one([first, second]), 500.0)
    assert max(second.response) < 500_000


def test_what_only_waits_for_its_turn_as_the_last_turn_ends_is_still_sent(
    loading: Loading,
) -> None:
    # The last of the turn's forty, and what is sent meanwhile, as far as there is room.
    stalling = stalls_twice(0.025, 40 * 64)
    (tally,) = _turns(loading(stalling, rate=400.0, in_flight=8), 1, 0.1)
    assert tally.requests >= 48
    assert (tally.unsent, dict(tally.outcomes)) == (0, {"ok": tally.requests})


@pytest.mark.parametrize("between", [False, True])
def test_an_interrupt_counts_what_was_due_and_could_not_be_sent(
    loading: Loading, between: bool
) -> None:
    generator = loading(delays(0.010), rate=500.0)
    generator.open()
    if between:
        tally = _one([generator.turn(0.2), generator.close()])
    else:
        generator.reactor.call_later(0.2, generator.interrupt)
        tally = generator.turn(60.0)
    # The turn begins a moment after the clock of the interrupt does.
    assert tally.requests + tally.unsent >= 500.0 * tally.sending_seconds - 1
    assert tally.unsent > 50
    assert _as_far_behind(tally, 500.0)
    assert generator.records.unsent == 0


def test_sends_that_are_late_for_what_the_generator_reads_first_are_known_to_be(
    loading: Loading, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = loading(echoes, connections=50, rate=1000.0)
    schedule, on_ready = generator._loop._schedule, Lane.on_ready  # type: ignore[union-attr]

    def busy_until_the_next_is_due(lane: Lane, events: int) -> None:
        while monotonic_ns() < schedule.next_due != NEVER:
            pass
        on_ready(lane, events)

    monkeypatch.setattr(Lane, "on_ready", busy_until_the_next_is_due)
    tally = _turn(generator, 5.0, 50)
    assert dict(tally.outcomes) == {"ok": 50}
    # There is nearly always a lane that is free, and sends were late for want of time only.
    assert tally.lateness.total() > 40


# What is wrong.


@pytest.mark.one_family
@pytest.mark.parametrize(
    ("answer", "outcome", "timeout"),
    # Only where it is what ends an exchange may it be short: a busy machine takes its time.
    [(garbles, "mismatch", 10.0), (resets, "reset", 10.0), (never_answers, "timeout", 0.1)],
    ids=["garbles", "resets", "never_answers"],
)
def test_what_fails_is_counted_by_kind(
    loading: Loading, answer: Answer, outcome: str, timeout: float
) -> None:
    tally = _turn(loading(answer, connections=2, timeout=timeout), 0.2)
    assert set(tally.outcomes) == {outcome}
    assert tally.outcomes[outcome] == tally.requests >= 2
    assert not tally.service
    assert tally.bytes_received == 0


@pytest.mark.parametrize("framing", [LengthPrefixed(), Delimited()], ids=_name)
def test_garbage_that_breaks_the_framing_is_a_mismatch(loading: Loading, framing: Framing) -> None:
    def answer(_sock: object, data: bytes) -> bytes:
        return b"\xff" * len(data) + b"\n"

    tally = _turn(loading(answer, framing=framing), 5.0, 5)
    assert dict(tally.outcomes) == {"mismatch": 5}


def test_what_stands_behind_a_wrong_answer_is_abandoned(loading: Loading) -> None:
    tally = _turn(loading(garbles, in_flight=8), 5.0, 8)
    assert dict(tally.outcomes) == {"mismatch": 1, "abandoned": 7}


@pytest.mark.one_family
@pytest.mark.parametrize(
    ("rate", "in_flight"),
    [
        (None, 1),
        (500.0, 4),
        pytest.param(None, 4, marks=pytest.mark.slow),
        pytest.param(500.0, 1, marks=pytest.mark.slow),
    ],
)
def test_a_target_that_closes_at_random_is_survived_and_all_is_counted(
    loading: Loading, rate: float | None, in_flight: int
) -> None:
    answer = closes_at_random(3)
    tally = _turn(loading(answer, connections=4, rate=rate, in_flight=in_flight), 5.0, 300)
    assert tally.requests == tally.outcomes.total() == 300
    # A close with input unread comes as a reset.
    assert set(tally.outcomes) <= {"ok", "early_close", "reset"}
    assert tally.outcomes["ok"] > 50
    assert tally.outcomes["early_close"] > 0
    # A close after the answer is nobody's failure.
    assert tally.service.total() == tally.outcomes["ok"]


@pytest.mark.skipif(not hasattr(socket, "MSG_MORE"), reason="no MSG_MORE here")
def test_an_end_that_comes_along_with_an_answer_is_seen_at_once(loading: Loading) -> None:
    def answer(sock: socket.socket, data: bytes) -> None:
        # Held back until the end goes, so that both are one segment.
        sock.send(data[: len(data) // 2], socket.MSG_MORE)

    tally = _turn(loading(answer, in_flight=2), 5.0, 2)
    assert dict(tally.outcomes) == {"ok": 1, "early_close": 1}


def test_urgent_bytes_between_answers_change_nothing(loading: Loading) -> None:
    def answer(sock: socket.socket, data: bytes) -> bytes:
        sock.send(b"!", socket.MSG_OOB)
        return data

    tally = _turn(loading(answer), 5.0, 20)
    assert dict(tally.outcomes) == {"ok": 20}


def test_bytes_that_nobody_asked_for_are_told_apart(loading: Loading) -> None:
    tally = _turn(loading(echoes_twice), 5.0, 20)
    assert tally.requests == tally.outcomes.total() == 20
    assert tally.surplus_bytes > 0


@pytest.mark.one_family
@pytest.mark.parametrize(
    ("churn", "rate"),
    [
        (False, None),
        (True, 100.0),
        pytest.param(True, None, marks=pytest.mark.slow),
        pytest.param(False, 100.0, marks=pytest.mark.slow),
    ],
)
def test_a_target_that_refuses_is_counted_and_not_pounded(
    loading: Loading, host: str, churn: bool, rate: float | None
) -> None:
    with reserved_port(host) as port:
        generator = loading(port, connections=2, churn=churn, rate=rate)
        tally = _turn(generator, 0.3)
    assert generator.connected == 0
    assert generator.last_error is not None
    assert set(tally.outcomes) == {"refused"}
    # With a pause that doubles: at once, after 10 ms, 30, 70, 150, 310.
    assert 2 <= tally.requests <= 20
    assert tally.seconds < 1


@pytest.mark.parametrize("count", [1, 3, 8])
def test_a_count_is_reached_exactly_also_where_connections_failed_before(
    loading: Loading, host: str, count: int
) -> None:
    with reserved_port(host) as port:
        generator = loading(port, connections=3)
        generator.open()
        tally = generator.turn(60.0, count)
        idle = loading(port, connections=3)
        idle.open()
    assert dict(tally.outcomes) == {"refused": count}
    assert tally.requests == count
    # One that has no share of the count has none of what failed either.
    assert idle.close().requests == 0


@pytest.mark.one_family
def test_an_open_loop_counts_of_a_target_that_is_gone_only_what_was_due(
    loading: Loading, host: str
) -> None:
    with FakeServer(host, echoes) as server:
        generator = loading(server.port, connections=20, rate=50.0)
        generator.open()
    # Each of the twenty tries to connect several times, while fifteen exchanges are due.
    tally = generator.turn(0.3, last=True)
    assert tally.requests + tally.unsent == 15
    assert dict(tally.outcomes) == {"refused": tally.requests}
    assert tally.requests > 0
    assert generator.last_error is not None


@pytest.mark.one_family
def test_a_connect_that_is_not_answered_times_out(
    loading: Loading, full_queue: Callable[[], int]
) -> None:
    generator = loading(full_queue(), connections=2, connect_timeout=0.2)
    began = time.monotonic()
    generator.open()
    assert time.monotonic() - began < 2
    tally = generator.turn(0.05)
    assert tally.outcomes["connect_timeout"] == tally.requests == 2


def test_a_target_that_ends_connections_unasked_is_not_stormed(loading: Loading) -> None:
    tally = _turn(loading(ends_at_once, rate=10.0), 1.0)
    assert tally.outcomes["ok"] == 0
    # With a pause that doubles before each; without, thousands.
    assert 2 <= tally.idle_closes < 50


@pytest.mark.one_family
def test_an_event_of_another_that_had_its_number_decides_no_connect(
    loading: Loading, full_queue: Callable[[], int]
) -> None:
    generator = loading(full_queue())
    (lane,) = generator._lanes
    lane.open()
    lane._on_decided(READ)
    assert not lane.idle
    assert (generator.records.requests, lane.failures_in_a_row) == (0, 0)


@pytest.mark.one_family
def test_a_connect_that_outlasts_a_turn_times_out_in_a_later_one(
    loading: Loading, full_queue: Callable[[], int]
) -> None:
    generator = loading(full_queue(), connect_timeout=0.2)
    whole = _one(_turns(generator, 12, seconds=0.1))
    # The one before the turns, and those of 1.2 s.
    assert whole.requests == whole.outcomes["connect_timeout"] >= 3


@pytest.mark.one_family
def test_an_interrupt_ends_a_turn_and_abandons_what_is_in_flight(loading: Loading) -> None:
    generator = loading(never_answers, connections=3, timeout=60.0)
    generator.open()
    generator.reactor.call_later(0.1, generator.interrupt)
    tally = generator.turn(60.0)
    assert dict(tally.outcomes) == {"abandoned": 3}
    assert tally.requests == 3
    assert tally.seconds < 10
    assert generator.turn(60.0).requests == 0


@pytest.mark.parametrize("rate", [None, 1000.0], ids=["closed loop", "open loop"])
def test_an_interrupt_lets_what_is_in_flight_come_back(
    loading: Loading, monkeypatch: pytest.MonkeyPatch, rate: float | None
) -> None:
    monkeypatch.setattr("echokit.loadgen.generator._GRACE", 60.0)
    generator = loading(echoes, connections=3, in_flight=4, rate=rate)
    generator.open()
    generator.reactor.call_later(0.1, generator.interrupt)
    tally = generator.turn(60.0)
    assert dict(tally.outcomes) == {"ok": tally.requests}
    assert tally.requests > 0
    assert tally.seconds < 10


def test_an_interrupt_between_turns_leaves_the_next_one_empty(loading: Loading) -> None:
    generator = loading(echoes, connections=3)
    generator.open()
    assert generator.turn(0.05).requests > 0
    generator.interrupt()
    tally = generator.turn(60.0)
    assert (tally.requests, tally.outcomes.total()) == (0, 0)
    assert tally.sending_seconds == 0
    assert generator.turn(60.0).seconds == 0


@pytest.mark.one_family
def test_a_target_that_goes_and_comes_back_is_found_again(loading: Loading, host: str) -> None:
    with FakeServer(host, echoes) as first:
        generator = loading(first.port, connections=2)
        generator.open()
        before = generator.turn(0.1)
    away = generator.turn(0.2)
    assert away.outcomes["refused"] >= 2
    assert away.outcomes.total() == away.requests
    with FakeServer(host, echoes, generator.plan.address.port):
        after = generator.turn(0.3)
    assert before.outcomes["ok"] > 0
    assert after.outcomes["ok"] > 0
    assert generator.connected == 2


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_stays_flat_however_long_it_runs(loading: Loading) -> None:
    account = Account()
    generator = loading(echoes, connections=20, in_flight=8)
    generator.open()

    def taken(turns: int) -> tuple[int, int]:
        for _ in range(turns):
            account.add(0.0, generator.turn(0.05))
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return sys.getallocatedblocks(), pages * resource.getpagesize()

    # Enough for every slice to stand, and to be joined with its neighbours.
    blocks, memory = taken(70)
    requests = account.total.requests
    more_blocks, more_memory = taken(140)
    assert account.total.requests > 1.5 * requests > 10_000
    # Less than one for each exchange. What the process has beside them goes up and down by as much
    # as a turn needs.
    assert more_blocks - blocks < 3000
    assert more_memory - memory < 32 << 20


@pytest.mark.one_family
def test_a_turn_that_goes_on_for_one_lane_does_not_look_at_the_others_over_and_over(
    loading: Loading, monkeypatch: pytest.MonkeyPatch
) -> None:
    lanes = 200
    seen: list[socket.socket] = []

    def but_the_last(sock: socket.socket, data: bytes) -> bytes:
        if sock not in seen:
            seen.append(sock)
        return b"" if seen.index(sock) == lanes - 1 else data

    looks = 0
    since: property = vars(Lane)["since"]

    def counted(lane: Lane) -> int | None:
        nonlocal looks
        looks += 1
        found: int | None = since.__get__(lane)
        return found

    monkeypatch.setattr(Lane, "since", property(counted))
    generator = loading(but_the_last, connections=lanes, rate=4000.0, timeout=0.3)
    tally = _turn(generator, 0.1)
    assert tally.outcomes["timeout"] == 1
    # It goes on for 0.3 s, in steps of a millisecond.
    assert looks < lanes + 400
