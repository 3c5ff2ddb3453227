"""`echokit load` as a process: its table, its documents, its codes, and what it refuses."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest

import echokit
from echokit import EchoServer
from tests.cli.peers import reserved_port
from tests.cli.processes import COMMAND, DEADLINE, Done, Running, environment, run, start
from tests.conftest import AVAILABLE
from tests.loadgen.servers import (
    Answer,
    FakeServer,
    closes_at_random,
    echoes,
    garbles,
    never_answers,
)

SCHEMA = json.loads((Path(echokit.__file__).parent / "loadgen" / "result.schema.json").read_bytes())
# A run as short as can be.
QUICK = ("-d", "200ms", "--warmup", "50ms", "--no-calibrate")
HOST = next(iter(AVAILABLE.values()))


def _at(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _document(data: bytes) -> dict[str, Any]:
    """One document, and nothing else, that keeps the schema."""
    document: dict[str, Any] = json.loads(data)
    jsonschema.validate(document, SCHEMA)
    return document


class _Once:
    """Set by the server's thread when the first exchange has come."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.set = self._event.set

    def wait(self) -> None:
        """Until it is set."""
        assert self._event.wait(10)


# What it tells.


@pytest.mark.slow
def test_the_first_try_needs_nothing_else() -> None:
    done = run("load", "-d", "300ms", "--warmup", "50ms", "--seed", "5")
    assert done.code == 0
    assert re.fullmatch(r"no target given: measuring echokit's own server on .*", done.complaint)
    table = done.out.decode()
    assert "closed loop, 1 connection, 64 bytes, raw" in table
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
    done = run("load", _at(host, echo_server.port), flag, *QUICK, "--json", "-")
    document = _document(done.out)
    assert list(document["families"]) == [f"ipv{flag[1]}"]
    assert done.err == b""


def test_quiet_says_nothing(echo_server: EchoServer) -> None:
    done = run("load", _at(HOST, echo_server.port), *QUICK, "--output", "quiet")
    assert done == Done(0, b"", b"")


# The document.


def test_the_document_has_what_was_asked_and_what_was_found(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    flags = ("--size", "10-2k", "-c", "3", "--in-flight", "4", "--rate", "300", "--seed", "9")
    labels = ("--label", "site=lab", "--label", "note=a=b")
    framing = ("--framing", "length-prefixed")
    done = run("load", *QUICK, *flags, *labels, *framing, "--json", str(path))
    assert done.code == 0
    document = _document(path.read_bytes())
    assert document["status"] == "complete"
    assert document["seed"] == 9
    assert document["labels"] == {"site": "lab", "note": "a=b"}
    settings = document["settings"]
    assert settings["framing"]["type"] == "length-prefixed"
    asked = {"connections": 3, "in_flight": 4, "rate_per_s": 300, "size_min": 10, "size_max": 2048}
    assert settings | asked == settings
    for family in document["families"].values():
        assert family["requested_rate_per_s"] == 300
        assert sum(family["outcomes"].values()) == family["requests"] == family["outcomes"]["ok"]
        for span in ("connect", "service", "response"):
            assert 0 < family[span]["p50_us"] <= family[span]["p99_9_us"] <= family[span]["max_us"]
    assert document["self_audit"]["lateness"]["count"] > 0


def test_a_document_on_stdout_stands_alone() -> None:
    done = run("load", *QUICK, "--json", "-")
    assert _document(done.out)["exit_code"] == done.code == 0


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("nosuch.invalid:7",), 3),
        (("nonsense",), 2),
        (("--rate", "fast"), 2),
        (("--framing", "nope"), 2),
        (("--config", "/no/such.yaml"), 2),
        (("--objective", "p99"), 2),
    ],
    ids=str,
)
@pytest.mark.parametrize("to_file", [False, True])
def test_an_error_is_a_whole_document_too(
    args: tuple[str, ...], code: int, to_file: bool, tmp_path: Path
) -> None:
    path = tmp_path / "run.json"
    done = run("load", *args, "--json", str(path) if to_file else "-")
    assert done.code == code
    document = _document(path.read_bytes() if to_file else done.out)
    told = [line.removeprefix("echokit: ") for line in done.err.decode().splitlines()]
    assert document["error"] == "; ".join(told)
    assert (document["status"], document["exit_code"]) == ("failed", code)


def test_a_document_replaces_what_stood_there_only_when_there_is_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text("x" * 1_000_000)
    assert run("load", *QUICK, "-o", "quiet", "--json", str(path)).code == 0
    _document(path.read_bytes())


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


def test_an_objective_that_does_not_parse_is_pointed_at() -> None:
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
        done = run("load", _at(HOST, server.port), *QUICK, "--timeout", "100ms", *given)
    assert (done.code, done.err) == (code, b"")
    assert "verdict: " in done.out.decode()


# What cannot be.


def test_nothing_listening_is_told_at_once(host: str) -> None:
    with reserved_port(host) as port:
        done = run("load", _at(host, port))
    assert (done.code, done.out) == (3, b"")
    assert done.complaint == (
        f"cannot connect to {_at(host, port)}: {_at(host, port)}: connection refused;"
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
    ("--workers", "2"): "--workers: 2 workers have 1 connections between them.*",
    ("--workers", "1000"): "--workers: should be a number from 0 to 256.*",
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
    done = run("load", "x", "-c", "0", "--rate", "-1", "--objective", "p1<1")
    told = [line.split(":")[1].strip() for line in done.err.decode().splitlines()]
    assert {"the target", "--connections", "--rate", "--objective"} <= set(told)


def test_a_variable_is_named_where_it_is_wrong() -> None:
    done = run("load", env={"ECHOKIT_RATE": "x"})
    assert done.complaint.startswith("ECHOKIT_RATE: ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told() -> None:
    done = run("load", *QUICK, "-o", "quiet", "--json", "/dev/full", "-4")
    assert done.code == 1
    assert done.err.decode().splitlines()[-1] == "echokit: /dev/full: no space left on device"


def test_the_target_may_stand_in_a_config(tmp_path: Path, echo_server: EchoServer) -> None:
    config = tmp_path / "target.yaml"
    config.write_text(f'host: "{HOST}"\nport: {echo_server.port}\n')
    done = run("load", "--config", str(config), *QUICK, "--json", "-")
    target = _document(done.out)["target"]
    assert target == {"host": HOST, "port": echo_server.port, "own_server": False}


# Interrupts.


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_an_interrupt_ends_it_with_everything_so_far(
    workers: str, number: signal.Signals, tmp_path: Path
) -> None:
    path = tmp_path / "run.json"
    began = _Once()

    def answer(sock: Any, data: bytes) -> bytes:
        began.set()
        return echoes(sock, data)

    with FakeServer(HOST, answer) as server:
        flags = ("-d", "60s", "-c", "2", "--workers", workers, "--no-calibrate", "--warmup", "0")
        with Running("load", _at(HOST, server.port), *flags, "--json", str(path)) as running:
            began.wait()
            done = running.end(number)
    document = _document(path.read_bytes())
    assert document["status"] == "interrupted"
    assert done.code == document["exit_code"]
    assert done.lines[-1] == "interrupted: these are the figures until then"
    (family,) = document["families"].values()
    assert sum(family["outcomes"].values()) == family["requests"] > 0


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="connects are seen in /proc/net")
def test_a_second_interrupt_ends_it_at_once_and_still_writes(tmp_path: Path, host: str) -> None:
    path = tmp_path / "run.json"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        # Its queue has one place, which is taken: the next connect hangs.
        listener.bind((host, 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        flags = ("--connect-timeout", "1h", "--json", str(path))
        with (
            socket.create_connection((host, port)),
            Running("load", _at(host, port), *flags) as running,
        ):
            _wait_for_connect(port)
            running.signal(signal.SIGINT)
            done = running.end(signal.SIGTERM)
    assert (done.code, done.complaint, done.out) == (130, "interrupted", b"")
    document = _document(path.read_bytes())
    assert (document["status"], document["exit_code"]) == ("failed", 130)


def _wait_for_connect(port: int) -> None:
    """Until somebody is connecting to `port`: state 02 is SYN_SENT."""
    deadline = time.monotonic() + DEADLINE
    pattern = re.compile(rf":{port:04X} 02 ")
    while not any(pattern.search(Path(f"/proc/net/tcp{v}").read_text()) for v in ("", "6")):
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Compare and merge.


def _save(path: Path, *args: str) -> str:
    done = run("load", *QUICK, *args, "-o", "quiet", "--json", str(path))
    assert done.code == 0
    return str(path)


@pytest.mark.slow
def test_runs_are_compared_and_merged(tmp_path: Path) -> None:
    runs = [_save(tmp_path / f"{number}.json", "-4") for number in range(2)]
    compared = run("compare", *runs, "--tolerance", "100000%", "--json")
    document = json.loads(compared.out)
    assert (compared.code, document["exit_code"]) == (0, 0)
    figures = [change["figure"] for change in document["changes"]]
    assert "response p99" in figures
    table = run("compare", *runs, "--tolerance", "100000%")
    assert [line.split()[0] for line in table.lines if line.startswith("IP")] == ["IPv4"]
    out = tmp_path / "merged.json"
    merged = run("merge", str(out), *runs)
    assert (merged.code, merged.complaint) == (0, f"2 runs merged into {out}")
    found = _document(out.read_bytes())
    requests = [json.loads(Path(r).read_bytes())["families"]["ipv4"]["requests"] for r in runs]
    assert found["families"]["ipv4"]["requests"] == sum(requests)
    assert _document(run("merge", "-", *runs).out) == found


def test_a_regression_has_a_code_of_its_own(tmp_path: Path) -> None:
    with FakeServer(HOST, echoes) as server:
        good = _save(tmp_path / "good.json", _at(HOST, server.port), "--rate", "100")
    document = json.loads(Path(good).read_bytes())
    (family,) = document["families"].values()
    # The same run, in which half had failed.
    half = family["requests"] // 2
    family["outcomes"] |= {"ok": family["requests"] - half, "timeout": half}
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(document))
    done = run("compare", good, str(bad))
    assert done.code == 4
    row = next(line for line in done.lines if line.startswith("  errors"))
    assert row.split()[-1] == "REGRESSION"
    assert run("compare", str(bad), good).code == 0


@pytest.mark.parametrize("command", [("compare",), ("merge", "out.json")], ids=" ".join)
def test_files_that_are_no_results_are_told(command: tuple[str, ...], tmp_path: Path) -> None:
    good = Path(__file__).parents[1] / "loadgen" / "example.json"
    cut, other, foreign = (tmp_path / f"{name}.json" for name in ("cut", "other", "foreign"))
    cut.write_bytes(good.read_bytes()[:4000])
    other.write_text(good.read_text().replace('"schema_version": 1', '"schema_version": 7'))
    foreign.write_text("[1, 2]")
    for path, problem in (
        (cut, "it is cut short"),
        (other, "a result of schema version 7"),
        (foreign, "it is JSON, but no result of echokit load"),
        (tmp_path / "none.json", "no such file or directory"),
    ):
        done = run(*command, str(good), str(path))
        assert (done.code, done.out) == (2, b"")
        assert done.complaint.startswith(f"{path}: {problem}")
    assert not Path("out.json").exists()


def test_a_tolerance_that_is_none_is_told() -> None:
    good = str(Path(__file__).parents[1] / "loadgen" / "example.json")
    done = run("compare", good, good, "--tolerance", "much", "--json")
    assert done.complaint == "--tolerance: should be a percentage like 5%; found 'much'"
    assert json.loads(done.out) == {"error": done.complaint, "exit_code": done.code}


# Without the extra.


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "hdrh.py").write_text("raise ImportError('not here')\n")
    done = start("load", env={"PYTHONPATH": str(tmp_path)})
    assert done.code == 2
    assert done.complaint.startswith("echokit load needs hdrhistogram: install echokit from its")
    document = start("load", "--json", "-", env={"PYTHONPATH": str(tmp_path)})
    assert _document(document.out)["error"] == document.complaint


# On a terminal.


def _read_all(fd: int) -> bytes:
    """Everything that is written to the other end of a terminal, until that is closed."""
    data = b""
    while True:
        try:
            more = os.read(fd, 65536)
        except OSError:
            return data
        if not more:
            return data
        data += more


@pytest.mark.slow
@pytest.mark.parametrize("quiet", [False, True])
def test_progress_is_shown_on_a_terminal_only(quiet: bool, echo_server: EchoServer) -> None:
    ours, theirs = pty.openpty()
    flags = ("-d", "500ms", "--no-calibrate", *(("--output", "quiet") if quiet else ()))
    variables = {"TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    with subprocess.Popen(
        [*COMMAND, "load", _at(HOST, echo_server.port), *flags],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=environment(variables),
    ) as process:
        os.close(theirs)
        shown = _read_all(ours)
        out, _ = process.communicate(timeout=DEADLINE)
    os.close(ours)
    assert process.returncode == 0
    assert b"\x1b" not in out
    if quiet:
        assert (shown, out) == (b"", b"")
        return
    lines = re.findall(r"IPv[46]  [\d,]+/s  p50 [\d.]+\w+  p99 [\d.]+\w+  0 errors", shown.decode())
    assert len(lines) >= 3
    assert b"requests/s" in out


def test_more_connections_than_a_process_may_have_are_told() -> None:
    limited = ["sh", "-c", 'ulimit -n 200; exec "$@"', "sh", *COMMAND]
    done = start("load", "-c", "1000", command=limited)
    assert done.code == 2
    told = done.err.decode().splitlines()[-1]
    assert re.fullmatch(
        r"echokit: --connections: \d+ connections, .* room for here, 136: raise .*", told
    )
