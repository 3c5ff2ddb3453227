"""Who takes part in a run, and why others do not."""

import pytest

from benchmarks.options import parse
from benchmarks.report import as_text
from benchmarks.run import Run


def _run(*args: str) -> Run:
    return Run(parse([*args, "--load", "python", "--rounds", "1"]))


@pytest.mark.slow
@pytest.mark.usefixtures("c_compiler")
def test_a_server_that_is_asked_for_is_measured_beside_c_and_echokit() -> None:
    run = _run("--case", "64B-1", "--peer", "asyncio", "--seconds", "0.02", "--warmup", "0.01")
    run.measure(lambda _where: None)
    assert {sample.peer for sample in run.results.samples} == {"c", "echokit", "asyncio"}
    assert not run.results.failed


def test_whoever_does_not_speak_the_framing_is_told_of_if_it_was_asked_for() -> None:
    cases = ["--case", "framed-64B-1", "--case", "framed-64KiB-1", "--case", "64B-1"]
    told = as_text(_run(*cases, "--peer", "asyncio").results, {})
    skipped = "asyncio in framed-64B-1, asyncio in framed-64KiB-1: does not speak length-prefixed."
    assert told.splitlines()[-1] == f"Skipped: {skipped}"
    assert "asyncio" not in as_text(_run(*cases).results, {})
