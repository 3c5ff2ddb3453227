"""`python -m benchmarks` as people run it, and servers that fail under it."""

import json
import os
import re
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks.build import UnavailableError, compiled
from benchmarks.cases import CASES, Bench, Case
from benchmarks.catalogue import EVERY
from benchmarks.generator import choose_generator
from benchmarks.measure import Results, measure
from benchmarks.options import parse
from benchmarks.peers import PEERS, Peer, Server
from benchmarks.processes import Cores
from tests.conftest import ROOT

COMMAND = [sys.executable, "-W", "error", "-m", "benchmarks"]
TINY = ["--rounds", "1", "--seconds", "0.1", "--warmup", "0.01"]


def _run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *args], capture_output=True, text=True, check=False, timeout=50, cwd=ROOT
    )


@pytest.mark.slow
@pytest.mark.parametrize("load", ["c", "python"])
@pytest.mark.usefixtures("c_compiler")
def test_a_tiny_run_prints_a_table_and_writes_the_same_as_json(load: str, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    names = ["--case", "64B-1", "--case", "churn", "--peer", "echokit", "--family", "4"]
    done = _run(*names, *TINY, "--load", load, "--json", str(file))
    assert done.returncode == 0, done.stderr
    assert re.search(r"This takes about 0\.\d minutes", done.stderr)
    assert str(file) in done.stdout
    lines = done.stdout.splitlines()
    rows = [line for line in lines if re.match(r"(c|echokit) +IPv4 ", line)]
    assert len(rows) == 4
    document = json.loads(file.read_text())
    samples = document["samples"]
    assert [(s["case"], s["peer"]) for s in samples] == [
        ("64B-1", "c"), ("64B-1", "echokit"), ("churn", "c"), ("churn", "echokit"),
    ]  # fmt: skip
    for sample in samples:
        figures = sample["figures"]
        assert sample["failure"] is None
        assert 10 < figures["requests_per_s"] < 1e7
        assert figures["bytes_per_s"] == pytest.approx(64 * figures["requests_per_s"])
        # A request costs something, and cannot have cost more than there was.
        assert 0.1 < figures["cpu_us"] < 1.1e6 / figures["requests_per_s"] + 1000
        assert 0 < figures["p50_us"] <= figures["p99_us"]
        assert 0 < figures["load_busy"] <= 1.1
    ours = next(row for row in document["summary"] if row["peer"] == "echokit")
    ratio = samples[1]["figures"]["cpu_us"] / samples[0]["figures"]["cpu_us"]
    assert ours["cpu_us_to_c"]["median"] == pytest.approx(ratio)
    assert document["versions"]["Python"] == sys.version.split()[0]
    told = "in C" if load == "c" else "echokit's own engine"
    assert told in document["settings"]["load generator"]
    assert told in done.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("c_compiler")
def test_memory_and_start_up_are_measured_too(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    args = ["--case", "startup-*", "--rounds", "1", "--json", str(file)]
    done = _run(*args)
    assert done.returncode == 0, done.stderr
    samples = json.loads(file.read_text())["samples"]
    assert len(samples) == 5
    assert all(1 < sample["figures"]["wall_ms"] < 30_000 for sample in samples)
    assert "echokit --version" in done.stdout


def test_the_list_names_every_case_and_server() -> None:
    done = _run("--list")
    assert done.returncode == 0
    words = done.stdout.split()
    assert all(case.name in words for case in EVERY)
    assert all(peer.name in words for peer in PEERS)


def test_whoever_stops_reading_is_not_answered_with_a_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*COMMAND, "--list"], stdout=writing, stderr=subprocess.PIPE, check=False, cwd=ROOT
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_list_tells_how_long_what_is_asked_for_takes() -> None:
    args = ["--list", "--case", "startup-*", "--rounds", "59"]
    lines = _run(*args).stdout.splitlines()
    takes = {line.split()[0]: line.split()[1] for line in lines if " min " in line}
    assert takes == {"startup-version": "0.5", "startup-send": "0.8"}
    assert "  all that is asked for   1.2 min, about" in lines


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["--case", "64B-2"], "no case is called '64B-2'"),
        (["--peer", "nginx"], "no peer is called 'nginx'"),
        (["--rounds", "0"], "should be more than 0"),
        (["--rounds", "many"], "invalid int value"),
        (["--seconds", "nan"], "should be more than 0"),
        (["--seconds", "inf"], "less than a million"),
        (["--family", "5"], "invalid choice"),
    ],
)
def test_bad_usage_is_told_and_ends_with_code_2(
    args: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(args)
    assert ended.value.code == 2
    assert word in capsys.readouterr().err


def _processes_with(mark: str) -> list[int]:
    """The processes that have `mark` in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                environment = (folder / "environ").read_bytes()
            except OSError:
                continue
            if mark.encode() in environment:
                found.append(int(folder.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("c_compiler")
def test_interrupted_it_tells_what_it_has_and_leaves_nobody_behind(
    number: signal.Signals, tmp_path: Path
) -> None:
    file = tmp_path / "results.json"
    mark = uuid.uuid4().hex
    args = ["--case", "64B-1", "--case", "1KiB-1", "--peer", "echokit", "--family", "4"]
    # Between Python's own opening of a file and its `with` an interrupt leaves it to the collector,
    # which warns of it, if it is asked to.
    command = [*COMMAND[:-2], "-W", "ignore::ResourceWarning", *COMMAND[-2:]]
    with subprocess.Popen(
        [*command, *args, "--rounds", "3", "--seconds", "0.3", "--json", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "MARK": mark},
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "1KiB-1" in line:
                break
        assert len(_processes_with(mark)) >= 3
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "64B-1: 64B messages" in out
    document = json.loads(file.read_text())
    samples = document["samples"]
    assert len([sample for sample in samples if sample["case"] == "64B-1"]) == 6
    assert document["interrupted"] is True
    told = f"interrupted after {len(samples)} samples, the last in round "
    assert f"benchmarks: {told}" in err
    assert f"\nrounds: 3, {told}" in out
    assert "Traceback" not in err
    assert _processes_with(mark) == []


@pytest.mark.slow
@pytest.mark.usefixtures("sigterm")
def test_write_leaves_the_tables_and_how_they_came_about(
    c_peer: Peer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(command, "HERE", tmp_path)
    args = ["--case", "64B-1", "--peer", c_peer.name, "--write", "--json", str(tmp_path / "json")]
    assert command.main([*args, *TINY]) == 0
    text = (tmp_path / "RESULTS.md").read_text()
    assert f"Written by `python -m benchmarks --case 64B-1 --peer {c_peer.name} --write" in text
    assert "- processor: " in text
    assert "- kernel: Linux " in text
    assert "UTC" in text
    assert re.search(r"^\| c \| IPv4 \| [0-9,]+ \|", text, re.MULTILINE)
    assert "| not measured |" in text


# Servers that fail.


def _python(code: str, name: str = "broken") -> Peer:
    return Peer(name, "", lambda _framing, host: [sys.executable, "-c", code, host])


SERVING = """
import socket, sys
host = sys.argv[1]
family = socket.AF_INET6 if ":" in host else socket.AF_INET
listener = socket.create_server((host, 0), family=family)
connection, _ = listener.accept()
while data := connection.recv(65536):
    {answer}
"""
BROKEN = {
    "wrong bytes": (SERVING.format(answer="connection.sendall(b'?' * len(data))"), "wrong byte"),
    "a crash": (SERVING.format(answer="raise SystemExit('out of paper')"), "out of paper"),
    "a death": (
        SERVING.format(answer="import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"),
        "SIGSEGV",
    ),
    "no start": ("raise SystemExit('no such thing')", "no such thing"),
}


@pytest.mark.one_family
@pytest.mark.parametrize(
    "name",
    [
        "wrong bytes",
        pytest.param("a crash", marks=pytest.mark.slow),
        pytest.param("a death", marks=pytest.mark.slow),
        pytest.param("no start", marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures("family")
def test_a_server_that_fails_is_told_and_does_not_stop_the_others(
    name: str, c_peer: Peer, host: str
) -> None:
    code, word = BROKEN[name]
    results = Results()
    bench = Bench(choose_generator("c"), Cores(None, None), warmup=0.01, seconds=0.05)
    [case] = (case for case in CASES if case.name == "64B-1")
    told: list[str] = []
    measure(case, "family", host, [_python(code), c_peer], 3, bench, results, told.append)
    failures = [sample for sample in results.samples if sample.failure is not None]
    assert len(failures) == 1
    assert failures[0].peer == "broken"
    assert word in str(failures[0].failure)
    assert [s.round for s in results.samples if s.peer == c_peer.name] == [0, 1, 2]


def test_a_server_that_cannot_be_had_is_missing_and_has_not_failed(c_peer: Peer, host: str) -> None:
    def unavailable(_framing: str, _host: str) -> list[str]:
        raise UnavailableError("it is not installed")

    results = Results()
    bench = Bench(choose_generator("c"), Cores(None, None), warmup=0.01, seconds=0.05)
    peers = [Peer("absent", "", unavailable), c_peer]
    measure(CASES[0], "family", host, peers, 1, bench, results, lambda _where: None)
    assert results.missing == {"absent": "it is not installed"}
    assert not results.failed
    assert [sample.peer for sample in results.samples] == [c_peer.name]


@pytest.mark.one_family
@pytest.mark.parametrize(
    "peer",
    [
        pytest.param(peer, marks=[] if peer.name == "echokit" else pytest.mark.slow)
        for peer in PEERS
    ],
    ids=lambda peer: peer.name,
)
@pytest.mark.usefixtures("c_compiler", "family")
def test_every_server_that_is_installed_echoes(peer: Peer, host: str) -> None:
    framing = peer.framings[-1]
    results = Results()
    bench = Bench(choose_generator("c"), Cores(None, None), warmup=0.01, seconds=0.05)
    for name in ("64B-1", "64KiB-1") if framing == "raw" else ("framed-64B-64", "framed-64KiB-1"):
        [case] = (case for case in CASES if case.name == name)
        measure(case, "family", host, [peer], 1, bench, results, lambda _where: None)
    if results.missing:
        pytest.skip(str(results.missing))
    assert [sample.failure for sample in results.samples] == [None, None]


def test_each_sample_of_memory_has_a_server_of_its_own(c_peer: Peer, host: str) -> None:
    seen: list[int] = []

    class Fresh(Case):
        fresh = True

        def sample(self, bench: Bench, server: Server) -> dict[str, float]:  # noqa: ARG002
            seen.append(server.pid)
            return {"base_bytes": 1}

    case = Fresh("fresh", "", CASES[0].load)
    bench = Bench(choose_generator("c"), Cores(None, None), warmup=0.01, seconds=0.05)
    measure(case, "family", host, [c_peer], 2, bench, Results(), lambda _where: None)
    assert len(set(seen)) == 2


@pytest.mark.usefixtures("c_compiler")
def test_what_does_not_compile_is_told_in_the_compilers_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("benchmarks.build.HERE", tmp_path)
    source = tmp_path / "echo.c"
    source.write_text("int main(void) { return nonsense; }\n")
    with pytest.raises(UnavailableError, match="nonsense"):
        compiled("echo")
    source.write_text("int main(void) { return 0; }\n")
    first = compiled("echo")
    made = first.stat().st_mtime_ns
    assert compiled("echo") == first
    assert first.stat().st_mtime_ns == made
    source.write_text("int main(void) { return 1; }\n")
    assert compiled("echo") != first
