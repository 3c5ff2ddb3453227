"""`echokit load` as a process: its table, its codes, and what it refuses."""

import os
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from echokit import EchoServer
from echokit.cli import load_options
from echokit.units import parse_duration, parse_size
from tests.cli.loads import HOST, QUICK, document_in, written
from tests.cli.peers import reserved_port
from tests.cli.processes import COMMAND, Done, run, start
from tests.conftest import AVAILABLE
from tests.loadgen.servers import (
    Answer,
    FakeServer,
    closes_at_random,
    garbles,
    never_answers,
)

# What it tells.


@pytest.mark.slow
def test_the_first_try_needs_nothing_else() -> None:
    done = run("load", "-d", "300ms", "--warmup", "50ms", "--seed", "5")
    assert done.code == 0
    assert re.fullmatch(r"no target given: measuring echokit's own server on .*", done.complaint)
    table = done.out.decode()
    assert "closed loop, for 300ms, 1 connection, 64 bytes, raw" in table
    assert "seed 5" in table
    for row in ("requests/s", "came back well", "response time", "  p50 ", "  p99.99 ", "  max "):
        assert row in table
    assert "against echokit's own server it reaches" in table
    assert re.search(r"^verdict: .+", table, re.MULTILINE)


@pytest.mark.skipif(len(AVAILABLE) < 2, reason="needs both families")
def test_both_families_stand_side_by_side_with_their_ratio() -> None:
    done = run("load", *QUICK, "-n", "50")
    lines = done.lines
    assert ["IPv4", "IPv6", "IPv6/IPv4"] in [line.split() for line in lines]
    row = next(line.split() for line in lines if line.startswith("exchanges"))
    assert row == ["exchanges", "50", "50", "1.00"]


def test_a_forced_family_is_measured_alone(echo_server: EchoServer, host: str) -> None:
    flag = "-6" if ":" in host else "-4"
    done = run("load", written(host, echo_server.port), flag, *QUICK, "--json", "-")
    document = document_in(done.out)
    assert list(document["families"]) == [f"ipv{flag[1]}"]
    assert done.err == b""


def test_quiet_says_nothing(echo_server: EchoServer) -> None:
    done = run("load", written(HOST, echo_server.port), *QUICK, "--output", "quiet")
    assert done == Done(0, b"", b"")


def test_the_help_tells_what_is_true_of_load() -> None:
    shown = run("load", "--help", env={"COLUMNS": "300"}).out.decode()
    assert "--family" not in shown
    settings = document_in(run("load", *QUICK, "-n", "1", "--json", "-").out)["settings"]
    defaults = dict(re.findall(r"(--[a-z-]+) .*Default: (\w+)\.", shown))
    assert parse_duration(defaults["--timeout"]) == settings["timeout_s"]
    assert parse_duration(defaults["--connect-timeout"]) == settings["connect_timeout_s"]
    assert parse_size(defaults["--chunk-size"]) == vars(load_options)["_CHUNK_SIZE"]
    assert "errors<3, without %, is a number of exchanges" in shown
    (seed,) = re.findall(r"--seed .*", shown)
    assert "sizes and payloads" in seed


# Objectives.


def test_objectives_are_shown_with_what_was_measured_and_decide_the_code(tmp_path: Path) -> None:
    junit = tmp_path / "junit.xml"
    terms = "p50<1h,p99.9<1us,errors<=0%,rate>1"
    done = run("load", *QUICK, "--objective", terms, "--junit", str(junit), "-4")
    assert done.code == 4
    shown = [line.split()[:2] for line in done.lines if line.startswith(("met", "MISSED"))]
    assert shown == [
        ["met", "p50<1h"], ["MISSED", "p99.9<1us"], ["met", "errors<=0%"], ["met", "rate>1"]
    ]  # fmt: skip
    suite = ET.fromstring(junit.read_text())  # noqa: S314 - it is our own
    assert suite.attrib["failures"] == "1"
    assert int(suite.attrib["tests"]) == len(suite.findall("testcase")) == 6
    (failed,) = (case for case in suite if case.find("failure") is not None)
    assert failed.attrib == {"classname": "echokit.load.ipv4", "name": "p99.9<1us"}


def test_objectives_may_be_given_apart_and_all_of_them_count() -> None:
    done = run("load", *QUICK, "-4", "--objective", "p99<1us, min>1h", "--objective", "p50<1h")
    assert done.code == 4
    shown = [line.split()[:2] for line in done.lines if line.startswith(("met", "MISSED"))]
    assert shown == [["MISSED", "p99<1us"], ["MISSED", "min>1h"], ["met", "p50<1h"]]


def test_objectives_in_a_variable_may_have_spaces() -> None:
    done = run("load", *QUICK, "-4", env={"ECHOKIT_OBJECTIVE": "p99 < 1h, rate > 1"})
    assert done.code == 0
    assert sum(line.startswith("met") for line in done.lines) == 2
    wrong = run("load", env={"ECHOKIT_OBJECTIVE": "p99 < 1h, rate"})
    assert (wrong.code, wrong.err.decode().splitlines()[1:]) == (
        2, ["echokit:   p99 < 1h, rate", "echokit:                 ^"]
    )  # fmt: skip


def test_an_objective_that_does_not_parse_is_pointedat() -> None:
    done = run("load", "--objective", "p99<5ms,errors<x")
    assert (done.code, done.out) == (2, b"")
    reason, text, mark = done.err.decode().splitlines()
    assert "expected a percentage like 0.1%" in reason
    assert text[mark.index("^") :] == "x"


@pytest.mark.parametrize(
    ("answer", "objective", "code"),
    [
        (closes_at_random(1), None, 1),
        (closes_at_random(1), "p50<1h", 1),
        (closes_at_random(1), "errors<=99%", 0),
        (closes_at_random(1), "errors<1%", 4),
        (garbles, "errors<=100%", 1),
        (never_answers, None, 1),
    ],
)
def test_failed_exchanges_decide_the_code_unless_an_objective_allows_them(
    answer: Answer, objective: str | None, code: int
) -> None:
    with FakeServer(HOST, answer) as server:
        given = () if objective is None else ("--objective", objective)
        done = run("load", written(HOST, server.port), *QUICK, "--timeout", "100ms", *given)
    assert (done.code, done.err) == (code, b"")
    assert "verdict: " in done.out.decode()


# What cannot be.


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--rate", "0.4", "-d", "1s", "-4"), "at 0.4 a second nothing falls due in the 1s:"),
        (("--rate", "0.5", "-d", "1s", "-n", "3", "-4"), "at 0.5 a second nothing falls due in"),
        pytest.param(
            ("--rate", "1", "-d", "1s"),
            "at 1 a second nothing falls due in the 500ms of each family:",
            marks=pytest.mark.skipif(len(AVAILABLE) < 2, reason="needs both families"),
        ),
    ],
)
def test_a_rate_at_which_nothing_falls_due_is_refused(args: tuple[str, ...], told: str) -> None:
    done = run("load", *args, "--no-calibrate")
    assert (done.code, done.out) == (2, b"")
    assert done.complaint.startswith(f"--rate: {told}")
    assert done.complaint.endswith("use a longer --duration or a higher --rate")


def test_the_least_rate_that_is_taken_has_something_due(echo_server: EchoServer, host: str) -> None:
    target = written(host, echo_server.port)
    # Wherever the warm-up leaves it in the interval.
    for warmup in ("0", "10ms", "40ms"):
        flags = ("--rate", "20", "-d", "50ms", "--warmup", warmup, "--no-calibrate")
        done = run("load", target, *flags, "--json", "-")
        (family,) = document_in(done.out)["families"].values()
        assert (done.code, family["requests"] > 0) == (0, True)


def test_nothing_listening_is_told_at_once(host: str) -> None:
    with reserved_port(host) as port:
        done = run("load", written(host, port))
    assert (done.code, done.out) == (3, b"")
    assert done.complaint == (
        f"cannot connect to {written(host, port)}: {written(host, port)}: connection refused;"
        " is a server listening there?"
    )


USAGE: dict[tuple[str, ...], str] = {
    ("x",): r"the target: 'x' has no port: .*",
    ("x:0",): "port 0 means any free port, which is for serve: .*",
    (":7",): "the target is every address, which is for serve: .*",
    ("::1:7",): "the target: an IPv6 address with a port stands in brackets: .*",
    ("-c", "0"): "--connections: should be a number from 1 to .*; found '0'",
    ("-c", "many"): "--connections: should be a number .*",
    ("-d", "soon"): "--duration: write a time .*; found 'soon'",
    ("-d", "0"): "--duration: should be a time from .*",
    ("-n", "0"): "--count: should be a number from 1 .*",
    ("-n", "9" * 30): "--count: should be a number from 1 .*",
    ("--size", "0"): "--size: should be from 1 to 16MiB.*",
    ("--size", "64-1"): "--size: should be from 1 to 16MiB, the smaller before the larger; .*",
    ("--size", "17MiB"): "--size: should be from 1 to 16MiB.*",
    ("--size", "1-"): "--size: write a size .*; found '1-'",
    ("--rate", "0"): "--rate: should be a number of exchanges a second.*",
    ("--rate", "1e3"): "--rate: should be a number of exchanges a second.*",
    ("--rate", "nan"): "--rate: should be a number of exchanges a second.*",
    ("--in-flight", "-1"): "--in-flight: should be a number from 1.*",
    ("--warmup", "-1s"): "--warmup: write a time .*",
    ("--workers", "2"): "--workers: 2 workers have 1 connection between them.*",
    ("--workers", "1000"): "--workers: should be a number from 0 to 256.*",
    ("--workers", "1025"): "--workers: should be a number from 0 to 256.*",
    ("--churn", "--in-flight", "2"): "--churn and --in-flight do not go together.*",
    ("--label", "x"): "--label: write it like run=nightly; found 'x'",
    ("--label", "a=1", "--label", "a=2"): "--label: 'a' is given twice",
    ("--output", "loud"): "--output: should be 'table' or 'quiet'; found 'loud'",
    ("-4", "-6"): "-4 and -6 do not go together",
    ("--seed", "x"): "--seed: .*",
    ("--json", "/no/such/run.json"): "--json: cannot write to /no/such/run.json: no such file.*",
    ("--junit", "/"): "--junit: cannot write to /: is a directory",
}


@pytest.mark.parametrize("args", USAGE, ids=" ".join)
def test_what_cannot_be_meant_is_told_in_one_line_before_anything_runs(
    args: tuple[str, ...],
) -> None:
    done = run("load", *args)
    assert re.fullmatch(USAGE[args], done.complaint)
    assert (done.code, done.out) == (2, b"")


def test_everything_that_is_wrong_is_told_at_once() -> None:
    config = ("--framing", "bogus", "--chunk-size", "0")
    done = run("load", "x", "-c", "0", "--rate", "-1", "--objective", "p1<1", *config)
    told = {line.split(":")[1].strip() for line in done.err.decode().splitlines()}
    assert {"the target", "--connections", "--rate", "--objective"} <= told
    assert {"--framing", "--chunk-size"} <= told
    assert done.code == 2


@pytest.mark.skipif(shutil.which("taskset") is None, reason="needs taskset")
def test_workers_are_as_many_as_this_process_may_use_cores(
    echo_server: EchoServer, host: str
) -> None:
    core = str(min(os.sched_getaffinity(0)))
    one = ["taskset", "-c", core, *COMMAND]
    to = written(host, echo_server.port)
    done = start("load", to, *QUICK, "--workers", "0", "-c", "8", "--json", "-", command=one)
    assert document_in(done.out)["settings"]["workers"] == 1


def test_a_variable_is_named_where_it_is_wrong() -> None:
    done = run("load", env={"ECHOKIT_RATE": "x"})
    assert done.complaint.startswith("ECHOKIT_RATE: ")


def test_a_label_that_is_no_text_is_told_before_anything_runs() -> None:
    done = start("load", b"--label", b"k=\xff", "--json", "-")
    assert (done.code, done.complaint) == (2, "--label: should be UTF-8 text; found 'k=\\udcff'")
    assert document_in(done.out)["error"] == done.complaint


def test_the_target_may_stand_in_a_config(tmp_path: Path, echo_server: EchoServer) -> None:
    config = tmp_path / "target.yaml"
    config.write_text(f'host: "{HOST}"\nport: {echo_server.port}\n')
    done = run("load", "--config", str(config), *QUICK, "--json", "-")
    target = document_in(done.out)["target"]
    assert target == {"host": HOST, "port": echo_server.port, "own_server": False}


# Without the extra.


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "hdrh.py").write_text("raise ImportError('not here')\n")
    done = start("load", env={"PYTHONPATH": str(tmp_path)})
    assert done.code == 2
    assert done.complaint.startswith("echokit load, compare and merge need hdrhistogram: install ")
    # The others that want it say no "load" alone.
    example = str(Path(__file__).parents[1] / "loadgen" / "example.json")
    other = start("compare", example, example, env={"PYTHONPATH": str(tmp_path)})
    assert (other.code, other.complaint) == (2, done.complaint)
    document = start("load", "--json", "-", env={"PYTHONPATH": str(tmp_path)})
    assert document_in(document.out)["error"] == document.complaint


def test_connections_count_for_the_families_and_workers_that_there_are(
    echo_server: EchoServer,
) -> None:
    limited = ["sh", "-c", 'ulimit -n 200; exec "$@"', "sh", *COMMAND]
    at = written(HOST, echo_server.port)
    for more in (("-c", "100"), ("-c", "200", "--workers", "2")):
        flags = ("-n", "300", "--warmup", "0", "--no-calibrate", "--json", "-")
        done = start("load", at, *flags, *more, command=limited)
        assert done.code == 0, done.err
        (family,) = document_in(done.out)["families"].values()
        assert family["connect"]["count"] == int(more[1])


def test_more_connections_than_a_process_may_have_are_told() -> None:
    limited = ["sh", "-c", 'ulimit -n 200; exec "$@"', "sh", *COMMAND]
    done = start("load", "-c", "1000", command=limited)
    assert done.code == 2
    told = done.err.decode().splitlines()[-1]
    assert re.fullmatch(
        r"echokit: --connections: \d+ connections, .* room for here, 136: raise .*", told
    )
