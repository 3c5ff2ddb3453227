"""Commands beside each other: rounds, failures, and `echokit load` beside the generator in C."""

import contextlib
import inspect
import itertools
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from benchmarks.build import ROOT, UnavailableError
from benchmarks.cases import Bench
from benchmarks.comparison import Commands, Comparison, compare
from benchmarks.generator import LoadFailedError, choose_generator, finished
from benchmarks.load_checks import LOAD_CHECKS, ONE, TWO, C, Throughput
from benchmarks.measure import Results
from benchmarks.peers import ServerFailedError
from benchmarks.processes import Cores, choose_cores
from benchmarks.startup import STARTUPS
from benchmarks.typer_send import signature
from echokit.cli.send import send
from echokit.testing import RunningServer

BENCH = Bench(choose_generator("python"), Cores(None, None), warmup=0.02, seconds=0.1)


class Counted(Comparison):
    """Two commands whose figure is how many have been run before; the first can be made to fail."""

    trouble: Exception | None = None
    absent: Exception | None = None

    def estimate(self, bench: Bench) -> float:  # noqa: ARG002 - it takes no time
        """None."""
        return 0

    @contextlib.contextmanager
    def commands(self, bench: Bench, host: str) -> Iterator[Commands]:  # noqa: ARG002 - no network
        """Both."""
        if self.absent is not None:
            raise self.absent
        numbers = itertools.count()

        def first() -> dict[str, float]:
            number = next(numbers)
            if self.trouble is not None and number >= 3:
                raise self.trouble
            return {"number": number}

        yield {"first": first, "second": lambda: {"number": next(numbers)}}


def _compared(case: Comparison, rounds: int = 3) -> Results:
    results = Results()
    compare(case, "IPv4", "127.0.0.1", rounds, BENCH, results, lambda _where: None)
    return results


def test_each_round_runs_each_in_an_order_that_turns_and_the_first_does_not_count() -> None:
    samples = _compared(Counted("counted", "")).samples
    assert [(s.round, s.peer, s.figures["number"]) for s in samples] == [
        (0, "first", 2), (0, "second", 3),
        (1, "second", 4), (1, "first", 5),
        (2, "first", 6), (2, "second", 7),
    ]  # fmt: skip
    assert {(s.case, s.family) for s in samples} == {("counted", "IPv4")}


def test_what_fails_is_told_once_and_the_other_goes_on() -> None:
    class Failing(Counted):
        trouble = LoadFailedError("wrong bytes")

    results = _compared(Failing("failing", ""))
    failures = [s for s in results.samples if s.failure is not None]
    assert [(s.peer, s.round, s.failure) for s in failures] == [("first", 1, "wrong bytes")]
    assert [s.round for s in results.samples if s.peer == "second"] == [0, 1, 2]
    assert results.failed


@pytest.mark.slow
def test_a_command_that_fails_is_told_in_its_own_words() -> None:
    [version] = (case for case in STARTUPS if case.args == ("--version",))
    results = _compared(replace(version, args=("--vision",)), rounds=1)
    told = {sample.peer: sample.failure for sample in results.samples}
    assert told[version.bare] is None
    assert "--vision" in str(told["echokit --vision"])


def test_the_least_program_that_sends_takes_as_many_arguments_as_the_command() -> None:
    theirs = signature().parameters.values()
    # But its context, which no user gives.
    ours = [p for p in inspect.signature(send).parameters.values() if p.name != "ctx"]
    flags = [sum(p.default is False for p in parameters) for parameters in (theirs, ours)]
    assert (len(theirs), flags[0]) == (len(ours), flags[1])


@pytest.mark.slow
def test_the_least_program_that_sends_does_send(echokit_server: RunningServer) -> None:
    [case] = (case for case in STARTUPS if case.least)
    where = ["--host", echokit_server.host, "--port", str(echokit_server.port)]
    done = finished(
        [sys.executable, str(ROOT / "benchmarks" / case.least), "hello", *where], None, 30
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")


def test_what_takes_too_long_is_ended() -> None:
    with pytest.raises(LoadFailedError, match=r"did not end within 0\.1 s"):
        finished([sys.executable, "-c", "import time; time.sleep(60)"], None, 0.1)


def test_what_is_not_there_is_skipped_and_has_not_failed() -> None:
    class Absent(Counted):
        absent = UnavailableError("it is not installed")

    results = _compared(Absent("absent", ""))
    assert results.samples == []
    assert results.skipped == {"it is not installed": ["absent IPv4"]}
    assert not results.failed


def test_a_server_that_does_not_start_is_a_failure() -> None:
    class Silent(Counted):
        absent = ServerFailedError("it did not listen")

    results = _compared(Silent("silent", ""))
    assert [(s.peer, s.failure) for s in results.samples] == [("server", "it did not listen")]
    assert results.failed


def _throughput() -> Throughput:
    [case] = (case for case in LOAD_CHECKS if isinstance(case, Throughput))
    return case


@pytest.mark.slow
@pytest.mark.usefixtures("c_compiler", "family")
def test_the_load_makes_requests_as_the_generator_in_c_does(host: str) -> None:
    results = Results()
    bench = Bench(BENCH.generator, choose_cores(), warmup=0.05, seconds=0.2)
    compare(_throughput(), "family", host, 1, bench, results, lambda _where: None)
    assert [sample.failure for sample in results.samples] == [None] * 3
    assert {sample.peer for sample in results.samples} == {C, ONE, TWO}
    for sample in results.samples:
        figures = sample.figures
        assert 10 < figures["requests_per_s"] < 1e7
        assert 0 < figures["p50_us"] <= figures["p99_us"]
        # Fifty at a time, and half of them cannot take more than twice the mean.
        assert figures["p50_us"] - 1 <= 50 * 2e6 / figures["requests_per_s"]
        assert 0 < figures["load_busy"] <= 1.1


@pytest.mark.parametrize(
    ("cores", "words"),
    [
        (Cores(None, None), "All of them share one core"),
        (Cores(0, 1), "with two cores in all, two workers share the one that one worker has"),
        (Cores(0, 2, (4, 1)), "on cores 2, 4, the others on core 2"),
    ],
)
def test_the_table_says_what_the_cores_allow_to_be_seen(cores: Cores, words: str) -> None:
    assert words in _throughput().note(cores)
