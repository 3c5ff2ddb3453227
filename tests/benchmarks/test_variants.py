"""Our own server started in several ways: with one worker and two, and with each framing."""

import pytest

from benchmarks.cases import Bench, Case
from benchmarks.generator import Load, choose_generator
from benchmarks.measure import Results, Sample, measure
from benchmarks.peers import start
from benchmarks.processes import Cores, choose_cores, tree
from benchmarks.summary import tables
from benchmarks.variants import VARIANTS


def _case(name: str) -> Case:
    [case] = (case for case in VARIANTS if case.name == name)
    return case


@pytest.mark.slow
@pytest.mark.parametrize("case", VARIANTS, ids=lambda case: case.name)
@pytest.mark.usefixtures("c_compiler", "family")
def test_each_way_is_measured_with_all_that_it_takes(case: Case, host: str) -> None:
    results = Results()
    bench = Bench(choose_generator("c"), choose_cores(), warmup=0.02, seconds=0.1)
    measure(case, "family", host, case.peers, 2, bench, results, lambda _where: None)
    assert [sample.failure for sample in results.samples] == [None] * 4
    assert {sample.peer for sample in results.samples} == {peer.name for peer in case.peers}
    for sample in results.samples:
        figures = sample.figures
        assert figures["total_cpu_us"] == figures["cpu_us"] + figures["load_cpu_us"]
        assert figures["cpu_us"] > 0.1
        assert figures["load_cpu_us"] > 0.1


@pytest.mark.slow
@pytest.mark.usefixtures("family")
def test_two_workers_are_processes_of_the_server_that_is_measured(host: str) -> None:
    one, two = _case("workers-64B-50").peers
    with start(one, "raw", host, None) as single, start(two, "raw", host, None) as double:
        # The port is open before the workers are there: once so many connections have been served,
        # both are, as each has some of them.
        load = Load(connections=50, count=100)
        choose_generator("python").run(load, host, double.port, warmup=0, seconds=20)
        assert len(tree(double.pid)) >= len(tree(single.pid)) + 2


def _figures(scale: float) -> dict[str, float]:
    names = ("requests_per_s", "bytes_per_s", "p50_us", "p99_us", "cpu_us", "load_busy")
    return {**dict.fromkeys(names, scale), "total_cpu_us": 2 * scale}


def test_the_table_holds_two_workers_against_one_and_says_where_they_ran() -> None:
    case = _case("workers-64B-50")
    results = Results(notes={case.name: case.note(Cores(0, 1))})
    for number in range(3):
        for scale, peer in zip((1.0, 1.1), case.peers, strict=True):
            figures = _figures(scale * (1 + number))
            results.samples.append(Sample(case.name, "IPv4", peer.name, number, figures))
    [table] = tables(results)
    at = table.headings.index("CPU : --workers 1")
    assert [row[at] for row in table.rows] == ["1.00 [1.00-1.00]", "1.10 [1.10-1.10]"]
    assert "a second worker shares that one with the load" in table.note


def test_both_may_use_two_cores_and_the_note_says_which_and_what_that_means() -> None:
    case = _case("workers-64KiB-50")
    assert case.server_cores(Cores(0, 1)) == [0, 1]
    assert "cores 0, 1, and the load runs on core 1" in case.note(Cores(0, 1))
    assert case.server_cores(Cores(0, 2, (4, 1))) == [0, 4]
    assert "cores 0, 4, and the load has core 2 for itself" in case.note(Cores(0, 2, (4, 1)))
    assert case.server_cores(Cores(None, None)) == []
    assert "share one core" in case.note(Cores(None, None))
