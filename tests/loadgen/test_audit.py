"""The self-audit: what speaks against the figures is said, and nothing else."""

import socket
import time
from collections import Counter
from typing import Any

import pytest

from echokit import Raw
from echokit.loadgen.audit import audit
from echokit.loadgen.measured import FamilyName
from echokit.loadgen.records import Tally
from echokit.loadgen.result import SelfAudit
from echokit.loadgen.run import LoadRun
from echokit.loadgen.settings import LoadSettings
from echokit.loadgen.surroundings import environment
from echokit.net.address import Address
from tests.loadgen.conftest import Loading
from tests.loadgen.servers import echoes

QUIET = environment().model_copy(update={"load_average": (0.1, 0.1, 0.1), "cpu_count": 4})


ADDRESSES: dict[FamilyName, Address] = {
    "ipv4": Address(socket.AF_INET, ("127.0.0.1", 7)),
    "ipv6": Address(socket.AF_INET6, ("::1", 7, 0, 0)),
}


def _audit(tally: Tally, cpu: float = 0.1, where: Any = QUIET, **given: Any) -> SelfAudit:
    """The audit of a run that has had one turn."""
    run = LoadRun(LoadSettings(seed=1, framing=Raw(), **given), {"ipv4": ADDRESSES["ipv4"]})
    run.accounts["ipv4"].add(0.0, tally)
    run._cpu_seconds = cpu * tally.seconds
    return audit(run, where, None)


def _tally(**given: Any) -> Tally:
    counts = Counter({1000: 100})
    made: dict[str, Any] = {
        "seconds": 1.0, "sending_seconds": 1.0, "requests": 100, "outcomes": Counter(ok=100),
        "service": counts, "response": counts, "lateness": Counter({50: 100}),
    }  # fmt: skip
    return Tally(**(made | given))


def test_nothing_is_said_against_a_quiet_run() -> None:
    found = _audit(_tally())
    assert (found.trustworthy, found.findings) == (True, [])
    assert found.verdict == "the figures tell of the target"
    assert found.lateness_of == "timer"
    assert found.cpu_share == pytest.approx(0.1)


def test_a_family_that_an_interrupt_kept_from_its_turn_has_not_failed() -> None:
    run = LoadRun(LoadSettings(seed=1, framing=Raw()), ADDRESSES)
    run.accounts["ipv4"].add(0.0, _tally())
    assert audit(run, QUIET, None).findings == ["IPv6: nothing came back well: there are no times"]
    run.interrupted = True
    assert audit(run, QUIET, None).findings == ["IPv6: it had not had its turn yet"]


def test_a_busy_generator_is_told_with_what_to_do() -> None:
    found = _audit(_tally(), cpu=0.97)
    assert not found.trustworthy
    assert found.verdict.startswith("the generator was saturated: 97% CPU; ")


def test_a_rate_that_was_not_reached_is_told_with_what_was() -> None:
    found = _audit(_tally(unsent=50), rate=150.0)
    assert found.verdict == (
        "IPv4: the rate of 150 a second was not reached: 100 a second, 50 were never sent;"
        " response times grow for as long as a rate is not reached"
    )
    assert _audit(_tally(requests=2, sending_seconds=0.25), rate=10.0).trustworthy
    assert ", 1 was never sent" in _audit(_tally(unsent=1), rate=150.0).verdict
    assert _audit(_tally(), rate=101.0).trustworthy


def test_lateness_counts_where_it_is_much_of_the_response_time() -> None:
    late = _audit(_tally(lateness=Counter({900: 100})), rate=100.0)
    assert late.findings == [
        "IPv4: sends were late by 900us in the median, of a response time of 1ms"
    ]
    assert late.lateness_of == "sends"
    slow = Counter({100_000: 100})
    assert _audit(_tally(lateness=Counter({900: 100}), response=slow), rate=100.0).trustworthy


def test_lateness_in_the_tail_counts_where_the_tail_is_made_of_it() -> None:
    late = Counter({10: 980, 30_000: 20})
    times = Counter({1000: 980, 40_000: 20})
    given: dict[str, Any] = {"requests": 1000, "outcomes": Counter(ok=1000), "sending_seconds": 10}
    found = _audit(_tally(lateness=late, response=times, **given), rate=100.0)
    assert found.findings == ["IPv4: sends were late by 30ms at p99, of a response time of 40ms"]
    slow = Counter({1000: 980, 400_000: 20})
    assert _audit(_tally(lateness=late, response=slow, **given), rate=100.0).trustworthy
    # Of so few, one says nothing of a hundredth.
    few = Counter({10: 50, 30_000: 1})
    assert _audit(_tally(lateness=few, response=times, **given), rate=100.0).trustworthy


def test_a_machine_that_was_busy_before_is_told() -> None:
    where = QUIET.model_copy(update={"load_average": (5.2, 1.0, 1.0)})
    assert _audit(_tally(), where=where).findings == [
        "the machine was busy before: load average 5.2 on 4 CPUs"
    ]


@pytest.mark.one_family
def test_lateness_is_measured_where_the_loop_is_held_up(loading: Loading) -> None:
    generator = loading(echoes, rate=200.0, connections=2)
    generator.open()
    # A handler that takes 100 ms, in which twenty become due.
    generator.reactor.call_later(0.2, lambda: time.sleep(0.1))
    tally = generator.turn(0.5)
    assert 80_000 < max(tally.lateness) < 1_000_000
    assert sum(count for late, count in tally.lateness.items() if late > 10_000) >= 2
    assert tally.lateness.total() <= tally.requests == 100
