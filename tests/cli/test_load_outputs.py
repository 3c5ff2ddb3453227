"""The documents of `echokit load`: whole, whatever happens, or told why they are not."""

import os
import sys
from pathlib import Path

import pytest

from echokit import ConfigError
from echokit.cli.load_outputs import Outputs
from tests.cli.loads import QUICK, document_in
from tests.cli.processes import COMMAND, Running, run, start


def test_the_document_has_what_was_asked_and_what_was_found(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    flags = ("--size", "10-2k", "-c", "3", "--in-flight", "4", "--rate", "300", "--seed", "9")
    labels = ("--label", "site=lab", "--label", "note=a=b")
    framing = ("--framing", "length-prefixed")
    done = run("load", *QUICK, *flags, *labels, *framing, "--json", str(path))
    assert done.code == 0
    document = document_in(path.read_bytes())
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
    assert document_in(done.out)["exit_code"] == done.code == 0


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
    document = document_in(path.read_bytes() if to_file else done.out)
    told = [line.removeprefix("echokit: ") for line in done.err.decode().splitlines()]
    assert document["error"] == "; ".join(told)
    assert (document["status"], document["exit_code"]) == ("failed", code)


def test_a_document_replaces_what_stood_there_only_when_there_is_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text("x" * 1_000_000)
    assert run("load", *QUICK, "-o", "quiet", "--json", str(path)).code == 0
    document_in(path.read_bytes())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told() -> None:
    done = run("load", *QUICK, "-o", "quiet", "--json", "/dev/full", "-4")
    assert done.code == 1
    told = "echokit: --json: cannot write to /dev/full: no space left on device"
    assert done.err.decode().splitlines()[-1] == told


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_what_cannot_be_written_keeps_nothing_else_from_being_written(tmp_path: Path) -> None:
    path, page = tmp_path / "run.json", tmp_path / "run.html"
    files = ("--json", str(path), "--junit", "/dev/full", "--html", str(page))
    done = run("load", *QUICK, "-n", "10", *files)
    assert done.code == 1
    told = "echokit: --junit: cannot write to /dev/full: no space left on device"
    assert done.err.decode().splitlines()[-1] == told
    assert "requests/s" in done.out.decode()
    assert document_in(path.read_bytes())["status"] == "complete"
    assert page.read_text().rstrip().endswith("</html>")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_what_was_written_says_that_something_else_could_not_be(tmp_path: Path) -> None:
    path, junit, page = (tmp_path / name for name in ("run.json", "run.xml", "run.html"))
    told = "cannot write to /dev/full: no space left on device"
    flags = (*QUICK, "-n", "10", "-o", "quiet")
    # Those before it, and those after.
    done = run("load", *flags, "--json", "/dev/full", "--junit", str(junit), "--html", str(page))
    assert done.code == 1
    assert f'<error message="--json: {told}"' in junit.read_text()
    told_on_page = f'<p class="remark bad">--json: {told}</p>'
    assert "exit code 1" in page.read_text()
    assert told_on_page in page.read_text()
    done = run("load", *flags, "--json", str(path), "--junit", str(junit), "--html", "/dev/full")
    assert done.code == 1
    assert f'<error message="--html: {told}"' in junit.read_text()
    document = document_in(path.read_bytes())
    assert (document["exit_code"], document["error"]) == (1, f"--html: {told}")
    # One on stdout cannot be written anew.
    done = run("load", *flags, "--json", "-", "--junit", "/dev/full")
    document = document_in(done.out)
    assert (document["exit_code"], document["error"]) == (done.code, f"--junit: {told}")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_table_that_cannot_be_shown_is_told_in_the_document(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    full = ["sh", "-c", 'exec "$@" > /dev/full', "sh", *COMMAND]
    done = start("load", *QUICK, "-n", "10", "--json", str(path), command=full)
    document = document_in(path.read_bytes())
    assert (done.code, document["exit_code"]) == (1, 1)
    assert document["error"] == "cannot write to stdout: no space left on device"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_device_under_stderr_costs_no_measurement(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    shell = ("sh", "-c", 'exec "$@" 2>/dev/full', "sh", *COMMAND)
    done = start("load", *QUICK, "--json", str(path), command=shell)
    document = document_in(path.read_bytes())
    assert (done.code, document["status"], document["error"]) == (0, "complete", None)


def test_a_reader_of_a_document_that_leaves_is_told(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with Running("load", *QUICK, "--json", str(pipe)) as running:
        # Opening waits for the other side; nobody reads on.
        pipe.open("rb").close()
        done = running.end()
    assert done.code == 1
    assert f"{pipe}: broken pipe" in done.told[-1]


def test_modules_where_the_user_stands_are_not_run(tmp_path: Path) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('this is somebody else')\n")
    stand = ("sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(tmp_path))
    console = (sys.executable, "-P", "-W", "error", "-m", "echokit")
    done = start("load", *QUICK, "--workers", "2", "-c", "2", command=(*stand, *console))
    assert (done.code, b"somebody else" in done.err) == (0, False)


def test_two_results_do_not_go_to_one_file(tmp_path: Path) -> None:
    path, link = tmp_path / "run", tmp_path / "link"
    link.symlink_to(path)
    done = run("load", "--json", str(path), "--html", str(link))
    assert (done.code, done.complaint) == (2, f"--json and --html: both would be written to {link}")
    assert document_in(path.read_bytes())["error"] == done.complaint
    done = run("load", "--json", "-", "--junit", "-")
    assert done.code == 2
    assert document_in(done.out)["error"] == "--json and --junit: only one of them can go to stdout"


def test_a_disk_that_is_full_before_the_run_is_told_before_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = os.fstatvfs

    def full(fd: int) -> os.statvfs_result:
        found = list(real(fd))
        # f_bfree
        found[3] = 0
        return os.statvfs_result(found)

    path, page = tmp_path / "run.json", tmp_path / "run.html"
    Outputs(str(path), None, "quiet", html=str(page)).close()
    monkeypatch.setattr(os, "fstatvfs", full)
    with pytest.raises(ConfigError, match=r"^--json: cannot write to .*: no space left on device$"):
        Outputs(str(path), None, "quiet")
    # What stands there makes room.
    path.write_bytes(bytes(100_000))
    with pytest.raises(ConfigError, match=r"^--html: cannot write to .*: no space left on device$"):
        Outputs(str(path), None, "quiet", html=str(page))
