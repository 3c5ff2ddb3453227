"""Whole loads: both families in turns, workers, targets of every kind, interrupts."""

import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from typing import Any

import pytest

from echokit import ConfigError, DialError, EchoServer, Endpoint, LengthPrefixed, Raw, ResolveError
from echokit.errors import ListenError
from echokit.loadgen.child import Child, ChildDied
from echokit.loadgen.crew import Crew, Turn
from echokit.loadgen.histogram import Histogram
from echokit.loadgen.junit import junit_xml
from echokit.loadgen.measured import FAMILIES, FAMILY_TITLES, FamilyName
from echokit.loadgen.objectives import parse_objectives
from echokit.loadgen.own_server import OwnServer
from echokit.loadgen.records import Tally
from echokit.loadgen.result import Result
from echokit.loadgen.run import LoadRun, NothingCameBack, Progress
from echokit.loadgen.session import Session, Wish
from echokit.loadgen.settings import SOCKET_FAMILIES, LoadSettings
from echokit.loadgen.targets import own_targets
from echokit.net.address import Address, resolve
from tests.cli.peers import reserved_port
from tests.conftest import AVAILABLE
from tests.loadgen.servers import (
    FakeServer,
    delays,
    echoes,
    garbles,
    never_answers,
    stalls_once,
    stalls_twice,
    stops_answering,
)

NAMES: dict[int, FamilyName] = {socket.AF_INET: "ipv4", socket.AF_INET6: "ipv6"}
ANYWHERE = Address(socket.AF_INET, ("192.0.2.1", 7))
EVERY = [NAMES[family] for family in AVAILABLE]


def _settings(**given: Any) -> LoadSettings:
    quick: dict[str, Any] = {
        "seed": 1,
        "framing": Raw(),
        "duration": 0.2,
        "warmup": 0.05,
        "calibrate": False,
    }
    return LoadSettings(**(quick | given))


def _session(target: Endpoint | None, objectives: str = "", **given: Any) -> Session:
    terms = parse_objectives(objectives) if objectives else []
    return Session(Wish(target=target, settings=_settings(**given), objectives=terms))


def _load(target: Endpoint | None, objectives: str = "", **given: Any) -> Result:
    session = _session(target, objectives, **given)
    session.run()
    return session.result()


def _address(server: FakeServer | EchoServer, host: str) -> Address:
    (address,) = resolve(host, server.port)
    return address


@pytest.fixture
def both() -> Iterator[EchoServer]:
    """A good server on every address of this host."""
    with EchoServer("*", 0, chunk_size=65536) as server:
        yield server


@pytest.mark.slow
def test_without_a_target_an_own_server_is_measured_over_every_family() -> None:
    told: list[str] = []
    session = Session(Wish(target=None, settings=_settings(calibrate=True)), tell=told.append)
    session.run()
    result = session.result()
    assert list(result.families) == EVERY
    assert result.target is not None
    assert result.target.own_server
    assert len(told) == 1
    assert all(family.addresses[0] in told[0] for family in result.families.values())
    assert all(family.outcomes.ok == family.requests > 0 for family in result.families.values())
    assert result.self_audit is not None
    calibration = result.self_audit.calibration
    assert calibration is not None
    assert calibration.requests_per_s > 0
    assert (result.status, result.exit_code) == ("complete", 0)


@pytest.mark.slow
@pytest.mark.skipif(len(AVAILABLE) < 2, reason="needs both families")
def test_the_families_take_turns_in_an_order_that_turns_round() -> None:
    turns: list[str] = []
    seen = dict.fromkeys(EVERY, 0)

    def progress(now: Progress) -> None:
        for name, account in now.accounts.items():
            if account.total.requests > seen[name]:
                seen[name] = account.total.requests
                turns.append(name)

    wish = Wish(target=None, settings=_settings(duration=0.8))
    session = Session(wish, progress=progress)
    session.run()
    a, b = EVERY
    assert turns[:8] == [a, b, b, a, a, b, b, a]
    starts = sorted(
        (slice_.start_s, name)
        for name, family in session.result().families.items()
        for slice_ in family.slices
    )
    assert [name for _, name in starts] == turns


def test_a_long_warm_up_is_told_and_what_it_notes_is_folded_meanwhile(
    both: EchoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("echokit.loadgen.run._WARM_UP_TURN", 0.05)
    turns: list[tuple[FamilyName | None, float]] = []

    def progress(now: Progress) -> None:
        turns.append((now.warming_up, now.share))

    settings = _settings(warmup=1.0, duration=0.2)
    addresses = {NAMES[family]: _address(both, host) for family, host in AVAILABLE.items()}
    run = LoadRun(settings, addresses, progress)
    run.measure()
    told = [family for family, _ in turns]
    # Twenty turns where nothing holds the machine up.
    count = told.index(None)
    assert told[:count] == [family for family in EVERY for _ in range(told.count(family))]
    assert all(2 < told.count(family) <= 20 for family in EVERY)
    assert not any(share for _, share in turns[: count + 1])
    assert turns[count + 1 :]
    assert set(told[count:]) == {None}
    assert turns[-1] == (None, 1.0)
    total = run.warm_up.total
    assert total.outcomes["ok"] == total.requests > 0
    assert total.seconds >= len(EVERY)


@pytest.mark.one_family
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_a_target_left_of_a_warm_up_is_in_no_figure(
    host: str, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("echokit.loadgen.run._WARM_UP_TURN", 0.1)
    with FakeServer(host, stalls_once(0.4, 10)) as server:
        given: dict[str, Any] = {"connections": 2, "workers": workers}
        settings = _settings(rate=200.0, warmup=0.3, duration=0.5, **given)
        (family,) = (name for name in EVERY if AVAILABLE[SOCKET_FAMILIES[name]] == host)
        run = LoadRun(settings, {family: _address(server, host)})
        run.measure()
    account = run.accounts[family]
    assert account.total.requests + account.total.unsent == pytest.approx(100, abs=workers)
    assert run.warm_up.total.unsent > 20


@pytest.mark.parametrize("workers", [1, 2])
def test_a_count_is_reached_exactly_whatever_the_workers(both: EchoServer, workers: int) -> None:
    target = Endpoint(next(iter(AVAILABLE.values())), both.port)
    given: dict[str, Any] = {"size_min": 10, "size_max": 3000, "connections": 5, "in_flight": 3}
    result = _load(target, duration=None, count=501, workers=workers, **given)
    (family,) = result.families.values()
    assert (family.requests, family.outcomes.ok) == (501, 501)
    assert family.response.count == Histogram.of(family.response).count == 501
    assert family.connect.count == 5
    assert family.tcp_info is not None
    assert family.tcp_info.rtt.count == 5


@pytest.mark.parametrize("rate", [None, 500.0], ids=["closed loop", "open loop"])
def test_the_connects_of_a_warm_up_are_in_no_figure(both: EchoServer, rate: float | None) -> None:
    target = Endpoint(next(iter(AVAILABLE.values())), both.port)
    given: dict[str, Any] = {"duration": None, "count": 30, "connections": 3, "rate": rate}
    churning = _load(target, churn=True, **given)
    assert churning.self_audit is not None
    assert churning.self_audit.warm_up.requests > 0
    assert [family.connect.count for family in churning.families.values()] == [30]
    # Those that are made before it, and stay, are.
    staying = _load(target, **given)
    assert [family.connect.count for family in staying.families.values()] == [3]


@pytest.mark.slow
def test_workers_share_a_rate(both: EchoServer) -> None:
    target = Endpoint(next(iter(AVAILABLE.values())), both.port)
    result = _load(target, rate=200.0, connections=2, workers=2, duration=1.0)
    (family,) = result.families.values()
    assert abs(family.requests - 200) <= 2
    assert family.requested_rate_per_s == 200.0
    assert abs(family.actual_rate_per_s - 200) < 20


def test_a_framing_that_workers_cannot_use_is_told_by_the_run() -> None:
    framing = LengthPrefixed(max_message=10)
    for workers in (1, 2):
        with pytest.raises(ConfigError, match="--size: framing length-prefixed cannot carry"):
            _load(None, framing=framing, connections=2, workers=workers)


def test_a_family_that_does_not_answer_is_left_out_and_told(
    monkeypatch: pytest.MonkeyPatch, host: str, family: socket.AddressFamily
) -> None:
    if len(AVAILABLE) < 2:
        pytest.skip("needs both families")

    def getaddrinfo(_node: str, port: int, asked: int, *rest: int) -> list[Any]:
        if rest[-1] & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not a number")
        found = {socket.AF_INET: ("127.0.0.1", port), socket.AF_INET6: ("::1", port, 0, 0)}
        kind = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(each, *kind, at) for each, at in found.items() if asked in (0, each)]

    with FakeServer(host, echoes) as server:
        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        told: list[str] = []
        wish = Wish(target=Endpoint("two.example", server.port), settings=_settings())
        session = Session(wish, tell=told.append)
        session.run()
        result = session.result()
    assert list(result.families) == [NAMES[family]]
    (other,) = result.skipped
    assert other != NAMES[family]
    assert "connection refused" in result.skipped[other]
    assert told == [f"{result.skipped[other]}; measuring without it"]
    assert result.exit_code == 0


def test_a_literal_has_one_family_and_what_is_missing_is_told(host: str) -> None:
    with FakeServer(host, echoes) as server:
        result = _load(Endpoint(host, server.port), duration=None, count=1)
    (measured,) = result.families
    other = next(name for name in FAMILIES if name != measured)
    assert result.skipped == {other: f"{host} is an {FAMILY_TITLES[measured]} address"}


def test_a_name_that_lacks_a_family_is_told(
    monkeypatch: pytest.MonkeyPatch, host: str, family: socket.AddressFamily
) -> None:
    def getaddrinfo(_node: str, port: int, asked: int, *rest: int) -> list[Any]:
        if rest[-1] & socket.AI_NUMERICHOST or asked not in (0, family):
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        sockaddr = (host, port, 0, 0) if ":" in host else (host, port)
        return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", sockaddr)]

    with FakeServer(host, echoes) as server:
        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        result = _load(Endpoint("one.example", server.port), duration=None, count=1)
    other = next(name for name in FAMILIES if name != NAMES[family])
    assert list(result.families) == [NAMES[family]]
    assert result.skipped == {other: f"the name one.example has no {FAMILY_TITLES[other]} address"}


@pytest.mark.parametrize("own", [True, False])
def test_a_family_that_was_not_asked_for_is_told(
    own: bool, host: str, family: socket.AddressFamily
) -> None:
    with FakeServer(host, echoes) as server:
        target = None if own else Endpoint(host, server.port)
        result = _load(target, duration=None, count=1, family=family)
    other = next(name for name in FAMILIES if name != NAMES[family])
    assert list(result.families) == [NAMES[family]]
    assert result.skipped == {other: f"only {FAMILY_TITLES[NAMES[family]]} was asked for"}


def test_a_family_that_this_machine_lacks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    only = [(socket.AF_INET, "127.0.0.1")]
    monkeypatch.setattr("echokit.loadgen.targets.loopback_families", lambda: only)
    with pytest.raises(ListenError, match=r"cannot listen on ::1: this machine has no"):
        _load(None, family=socket.AF_INET6)
    address = Address(socket.AF_INET, ("127.0.0.1", 7))
    found = own_targets({"ipv4": address}, _settings())
    assert found.addresses == {"ipv4": address}
    assert found.skipped == {"ipv6": "this machine has no address of it"}


def test_a_target_where_nobody_listens_is_an_error_that_names_every_address(host: str) -> None:
    with reserved_port(host) as port:
        session = _session(Endpoint(host, port))
        with pytest.raises(DialError, match="connection refused"):
            session.run()
    result = session.result("cannot connect", 3)
    assert (result.status, result.error, result.exit_code) == ("failed", "cannot connect", 3)
    assert result.families == {}


def test_a_host_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ResolveError):
        _session(Endpoint("nosuch.invalid", 7)).run()


def test_a_target_that_fails_every_exchange_is_measured_to_the_end(host: str) -> None:
    with FakeServer(host, garbles) as server:
        result = _load(Endpoint(host, server.port), "errors<100%", connections=2)
    (family,) = result.families.values()
    assert family.outcomes.mismatch == family.requests > 0
    assert result.status == "complete"
    # That all failed goes over what the objectives say.
    assert not result.objectives[0].met
    assert result.exit_code == 1


def _died(result: Result) -> None:
    """That of the one family nothing came back in the end is a failure, and told everywhere."""
    ((name, family),) = result.families.items()
    assert family.outcomes.ok > 0
    assert family.measured_s >= family.silent_s >= family.measured_s / 10
    assert result.exit_code == 1
    assert result.self_audit is not None
    (told,) = (line for line in result.self_audit.findings if "nothing came back for" in line)
    assert re.fullmatch(rf"{FAMILY_TITLES[name]}: .* the last [\d.]+m?s of [\d.]+m?s", told)
    assert "nothing came back for the last" in junit_xml(result)
    assert 'failures="1"' in junit_xml(result)


@pytest.mark.parametrize("rate", [None, 1000.0], ids=["closed loop", "open loop"])
@pytest.mark.parametrize("objectives", ["", "p99<5m,errors<100%"])
def test_a_target_that_dies_fails_the_run_whatever_objectives_say(
    host: str, rate: float | None, objectives: str
) -> None:
    with ExitStack() as opened:
        server = opened.enter_context(FakeServer(host, echoes))
        session = _session(Endpoint(host, server.port), objectives, rate=rate, duration=0.5)
        # After the first of ten turns.
        session.progress = lambda now: opened.close() if now.share else None
        session.run()
    result = session.result()
    _died(result)
    assert all(verdict.met for verdict in result.objectives)


@pytest.mark.one_family
@pytest.mark.parametrize("rate", [None, 1000.0], ids=["closed loop", "open loop"])
def test_a_target_that_falls_silent_within_a_turn_fails_the_run(
    host: str, rate: float | None
) -> None:
    with FakeServer(host, stops_answering(70)) as server:
        given: dict[str, Any] = {"rate": rate, "timeout": 0.3, "connections": 2, "warmup": 0.0}
        _died(_load(Endpoint(host, server.port), "errors<100%", **given))


def test_one_exchange_that_is_lost_in_the_end_is_no_silence(host: str) -> None:
    lost: list[socket.socket] = []

    def loses_one(sock: socket.socket, data: bytes) -> bytes:
        if not lost:
            lost.append(sock)
        return b"" if sock is lost[0] else data

    with FakeServer(host, loses_one) as server:
        given: dict[str, Any] = {"timeout": 0.3, "connections": 3, "duration": 0.1, "warmup": 0.0}
        result = _load(Endpoint(host, server.port), "errors<100%", **given)
    (family,) = result.families.values()
    assert family.outcomes.timeout == 1
    assert (family.silent_s, result.exit_code) == (0.0, 0)


@pytest.mark.one_family
def test_a_rate_that_has_little_to_send_is_no_silence(host: str) -> None:
    with FakeServer(host, echoes) as server:
        result = _load(Endpoint(host, server.port), rate=3.0, duration=0.6, warmup=0.0)
    (family,) = result.families.values()
    assert (family.silent_s, result.exit_code) == (0.0, 0)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("answered", [0, 60])
def test_no_more_falls_due_than_the_duration_has_whatever_is_waited_for(
    host: str, answered: int, workers: int
) -> None:
    with FakeServer(host, stops_answering(answered)) as server:
        given: dict[str, Any] = {"rate": 1000.0, "timeout": 0.5, "connections": 2}
        result = _load(Endpoint(host, server.port), workers=workers, **given)
    (family,) = result.families.values()
    assert abs(family.due - 200) <= 1
    # Its share, and a timeout.
    assert family.measured_s < 5
    assert result.self_audit is not None
    assert result.self_audit.warm_up.requests <= 51


@pytest.mark.skipif(len(AVAILABLE) < 2, reason="needs both families")
def test_a_family_that_never_answers_has_its_share_and_leaves_the_other_its_own() -> None:
    with ExitStack() as opened:
        addresses = {
            NAMES[family]: _address(opened.enter_context(FakeServer(host, never_answers)), host)
            for family, host in AVAILABLE.items()
        }
        run = LoadRun(_settings(rate=1000.0, duration=0.3, warmup=0.0, timeout=0.4), addresses)
        run.measure()
    for account in run.accounts.values():
        assert abs(account.total.requests + account.total.unsent - 150) <= 1
        assert len(account.slices()) == 1


@pytest.mark.one_family
def test_a_rate_that_a_target_cannot_keep_misses_an_objective_of_errors(host: str) -> None:
    with FakeServer(host, delays(0.02)) as server:
        target = Endpoint(host, server.port)
        result = _load(target, "errors<1%", rate=1000.0, connections=1, warmup=0.0)
    (family,) = result.families.values()
    assert family.outcomes.ok == family.requests > 0
    assert family.unsent > family.requests
    assert result.exit_code == 4
    assert result.self_audit is not None
    assert f"{family.unsent:,} were never sent" in result.self_audit.verdict


@pytest.mark.slow
@pytest.mark.skipif(len(AVAILABLE) < 2, reason="needs both families")
def test_a_rate_that_cannot_be_kept_makes_waits_grow_over_the_whole_run_in_every_family() -> None:
    with ExitStack() as opened:
        addresses = {
            NAMES[family]: _address(opened.enter_context(FakeServer(host, delays(0.01))), host)
            for family, host in AVAILABLE.items()
        }
        run = LoadRun(_settings(rate=400.0, duration=1.6, warmup=0.3), addresses)
        run.measure()
    assert run.turn_s < 0.8
    for account in run.accounts.values():
        result, total = account.result([], 400.0), account.total
        assert result.outcomes.ok == result.requests > 0
        assert result.due == pytest.approx(400 * total.sending_seconds, rel=0.05)
        # At the end each has waited for as many as are left, in its own turns.
        assert result.response.max_us == pytest.approx(1e6 * result.unsent / 400, rel=0.15)
        median = result.response.p50_us
        assert median == pytest.approx(1e6 * result.unsent / 400 / 2, rel=0.25)
        # The warm-up's backlog, of 200 ms and more, is none of it.
        assert result.response.min_us is not None
        assert result.response.min_us < 100_000
    assert run.warm_up.total.unsent > 100
    assert run.warm_up.total.requests == run.warm_up.total.outcomes.total()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_count_is_sent_whole_however_far_behind_it_is(host: str, workers: int) -> None:
    with FakeServer(host, delays(0.01)) as server:
        target = Endpoint(host, server.port)
        given: dict[str, Any] = {"rate": 1000.0, "connections": 2, "workers": workers}
        result = _load(target, duration=None, count=101, **given)
        cut = _load(target, duration=0.3, count=101, **given)
    (family,) = result.families.values()
    assert (family.requests, family.outcomes.ok, family.unsent) == (101, 101, 0)
    # Behind by all of them but the first, as it was over within half a second.
    assert family.response.max_us is not None
    assert family.response.max_us > 500_000
    # Where its time ends it before, there were no more than that.
    (family,) = cut.families.values()
    assert family.requests < 101 == family.due


@pytest.mark.one_family
@pytest.mark.parametrize(("rate", "count"), [(1000.0, 1), (40.0, 5)])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_count_is_begun_no_faster_than_was_asked_for(
    host: str, rate: float, count: int, workers: int
) -> None:
    with FakeServer(host, echoes) as server:
        given: dict[str, Any] = {"rate": rate, "count": count, "duration": None}
        result = _load(Endpoint(host, server.port), connections=2, workers=workers, **given)
    (family,) = result.families.values()
    assert family.requests == count
    assert 0 < family.actual_rate_per_s <= rate * 1.001
    assert family.requests_per_s == family.actual_rate_per_s


def test_what_only_waits_for_its_turn_as_a_run_ends_is_still_sent(host: str) -> None:
    # The last of forty finds both places taken.
    with FakeServer(host, stalls_twice(0.025, 38 * 64)) as server:
        # Two turns.
        given: dict[str, Any] = {"duration": 0.1, "warmup": 0.0, "rate": 400.0, "in_flight": 2}
        result = _load(Endpoint(host, server.port), **given)
    (family,) = result.families.values()
    assert len(family.slices) == 2
    assert abs(family.outcomes.ok - 40) <= 1
    assert family.outcomes.ok == family.requests
    assert family.unsent == 0


def test_no_more_is_unsent_than_a_count_has_left(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As workers that had more to do in an earlier turn than in the last.
    name: FamilyName = "ipv6" if ":" in host else "ipv4"
    monkeypatch.setattr(Crew, "finish", lambda _crew: {name: Tally(unsent=5)})
    with FakeServer(host, echoes) as server:
        result = _load(Endpoint(host, server.port), rate=1000.0, duration=None, count=20)
        assert [(f.requests, f.unsent) for f in result.families.values()] == [(20, 0)]
        # Nor where the last turn has left some itself.
        turn = Crew.turn

        def leaves_some(
            crew: Crew, family: FamilyName, seconds: float, count: int, **given: Any
        ) -> Turn:
            found = turn(crew, family, seconds, max(0, count - 3), **given)
            found.tally.unsent = min(count, 3)
            return found

        monkeypatch.setattr(Crew, "turn", leaves_some)
        given: dict[str, Any] = {"duration": None, "count": 20, "warmup": 0.0}
        result = _load(Endpoint(host, server.port), rate=1000.0, **given)
    (family,) = result.families.values()
    assert family.unsent >= 3
    assert family.due == 20


@pytest.mark.one_family
def test_a_rate_that_a_slow_target_keeps_is_told_whole(host: str) -> None:
    with FakeServer(host, delays(0.01)) as server:
        given: dict[str, Any] = {"rate": 50.0, "connections": 10, "duration": None, "count": 20}
        result = _load(Endpoint(host, server.port), "errors<=0", **given)
    (family,) = result.families.values()
    # All that began came back, and the last turn's last wait is no time of the rate's.
    assert result.objectives[0].met
    assert family.requests_per_s == family.actual_rate_per_s
    assert family.outcomes.ok == 20
    assert family.requests_per_s == pytest.approx(50, rel=0.1)


@pytest.mark.one_family
def test_a_target_that_never_answers_ends_in_time(host: str) -> None:
    with FakeServer(host, never_answers) as server:
        result = _load(Endpoint(host, server.port), timeout=0.2, warmup=0.0)
    (family,) = result.families.values()
    assert family.outcomes.timeout == family.requests > 0
    assert result.duration_s < 3


@pytest.mark.parametrize("rate", [None, 500.0], ids=["closed loop", "open loop"])
@pytest.mark.one_family
def test_a_count_of_exchanges_that_nobody_answers_is_given_up(
    host: str, rate: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("echokit.loadgen.run._SILENCE", 0.2)
    with FakeServer(host, never_answers) as server:
        given: dict[str, Any] = {"duration": None, "count": 10**9, "timeout": 0.2, "warmup": 0.0}
        session = _session(Endpoint(host, server.port), rate=rate, **given)
        with pytest.raises(NothingCameBack, match=r"nothing came back from .* for "):
            session.run()
    (family,) = session.result("gave up", 1).families.values()
    assert family.outcomes.timeout == family.requests > 0
    assert (family.unsent > 10) == (rate is not None)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupt_keeps_everything_until_then(workers: int) -> None:
    enough = threading.Event()

    def progress(now: Progress) -> None:
        if now.share > 0:
            enough.set()

    wish = Wish(target=None, settings=_settings(duration=60.0, connections=2, workers=workers))
    session = Session(wish, progress=progress)

    def interrupt() -> None:
        enough.wait(10)
        session.interrupt()

    thread = threading.Thread(target=interrupt)
    thread.start()
    session.run()
    thread.join()
    result = session.result()
    assert (result.status, result.exit_code) == ("interrupted", 130)
    assert result.duration_s < 30
    assert any(family.outcomes.ok > 0 for family in result.families.values())


def test_the_own_server_goes_when_nobody_needs_it(family: socket.AddressFamily) -> None:
    with OwnServer(Raw()) as server:
        address = next(a for a in server.addresses.values() if a.family == family)
        with socket.create_connection(address.sockaddr[:2], timeout=5) as sock:
            sock.sendall(b"hello")
            assert sock.recv(5) == b"hello"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address.sockaddr[:2], timeout=5)


def test_a_child_that_dies_is_told_with_how_it_did() -> None:
    told = pytest.raises(ChildDied, match=r"^a child ended with code 1$")
    with Child("echokit.loadgen.no_such_module", "a child") as child, told:
        child.receive()


@pytest.mark.slow
def test_a_turn_is_longer_where_the_way_is(host: str) -> None:
    with FakeServer(host, delays(0.005)) as server:
        result = _load(Endpoint(host, server.port), duration=1.0, warmup=0.1)
    assert result.settings is not None
    # Fifty exchanges of about 5 ms.
    assert 0.25 <= result.settings.turn_s <= 0.5


def test_what_is_left_for_want_of_a_little_has_a_turn_where_exchanges_are_due_in_it() -> None:
    turns = []
    for rate in (None, 2000.0, 20.0):
        run = LoadRun(_settings(duration=5.0, rate=rate), {"ipv4": ANYWHERE})
        total = run.accounts["ipv4"].total
        total.seconds = total.sending_seconds = 4.997
        turns.append(run._remains("ipv4"))
    assert (turns[0], turns[2]) == (None, None)
    assert turns[1] is not None
    assert turns[1].last
    assert turns[1].seconds == pytest.approx(0.003)


def test_turns_have_room_for_connects_that_take_long() -> None:
    class Slow(Crew):
        def __init__(self) -> None:
            pass

        def open(self, family: FamilyName) -> tuple[Counter[int], OSError | None]:  # noqa: ARG002
            # In us.
            return Counter({200_000: 3}), None

    run = LoadRun(_settings(duration=10.0), {"ipv4": ANYWHERE})
    run._open(Slow())
    assert run.turn_s == pytest.approx(2.0, rel=0.01)


@pytest.mark.parametrize("interrupted", [False, True])
def test_an_interrupt_is_an_end_of_its_own_also_where_nothing_comes_back(interrupted: bool) -> None:
    run = LoadRun(_settings(duration=None, count=100, timeout=3.0), {"ipv4": ANYWHERE})
    run.accounts["ipv4"].silent_seconds = 14.0
    run.interrupted = interrupted
    told = pytest.raises(NothingCameBack, match="for 14s")
    with nullcontext() if interrupted else told:
        run._look_for_silence("ipv4")
