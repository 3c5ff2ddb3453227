"""The files that a run leaves: known to be writable before it, written after it, and in parts."""

import json
import os
import select
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks.measure import Sample
from benchmarks.run import Run
from tests.benchmarks.test_command import TINY

pytestmark = pytest.mark.usefixtures("sigterm")


def _main(json_file: Path, *more: str) -> int:
    args = ["--case", "64B-1", "--family", "4", "--load", "python", *TINY, "--json", str(json_file)]
    return command.main([*args, *more])


@pytest.fixture
def measuring(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[Callable[[Run], object]], None]:
    """Set what is done instead of measuring; RESULTS.md is one of `tmp_path`."""
    monkeypatch.setattr(command, "HERE", tmp_path)

    def instead(do: Callable[[Run], object]) -> None:
        monkeypatch.setattr(Run, "measure", lambda self, _tell: do(self))

    return instead


def _sampled(run: Run) -> None:
    run.results.samples.append(Sample("64B-1", "IPv4", "c", 0, {"cpu_us": 5.0}))


@pytest.mark.parametrize(
    ("name", "why"),
    [("new/results.json", "No such file"), ("folder", "Is a directory"), ("file/x", "Not a dir")],
)
@pytest.mark.parametrize("which", ["json", "tables"])
def test_a_file_that_cannot_be_written_is_told_before_the_run(
    name: str,
    why: str,
    which: str,
    measuring: Callable[[Callable[[Run], object]], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    measuring(lambda _run: pytest.fail("it was measured"))
    if which == "json":
        wrong = tmp_path / name
        code = _main(wrong)
    else:
        wrong = (tmp_path / name).parent / "RESULTS.md"
        if name == "folder":
            wrong.mkdir()
        monkeypatch.setattr(command, "HERE", wrong.parent)
        code = _main(tmp_path / "good.json", "--write")
    assert code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"benchmarks: {wrong} cannot be written: {why}")
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "good.json").exists()


def test_only_the_folder_of_the_default_is_made(
    measuring: Callable[[Callable[[Run], object]], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(command, "BUILD", tmp_path / "build")
    measuring(_sampled)
    assert _main(tmp_path / "build" / "results.json") == 0
    assert json.loads((tmp_path / "build" / "results.json").read_text())["interrupted"] is False


def test_to_look_whether_a_file_can_be_written_leaves_it_as_it_is(
    measuring: Callable[[Callable[[Run], object]], None], tmp_path: Path
) -> None:
    (tmp_path / "old.json").write_text("mine")
    found: list[list[str]] = []

    def look(run: Run) -> None:
        _sampled(run)
        found.append([file.read_text() for file in tmp_path.iterdir()])

    measuring(look)
    assert _main(tmp_path / "old.json", "--write") == 0
    assert found == [["mine"]]


def test_a_pipe_has_the_document_and_nothing_before_it(
    measuring: Callable[[Callable[[Run], object]], None], tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    ends = select.poll()
    ends.register(reading)

    def look(run: Run) -> None:
        _sampled(run)
        # A writer that had come and gone would be the end of it.
        assert ends.poll(0) == []

    measuring(look)
    try:
        assert _main(pipe) == 0
        assert json.loads(os.read(reading, 65536))["samples"]
    finally:
        os.close(reading)


def test_what_cannot_be_written_in_the_end_is_told_and_the_other_file_is_written(
    measuring: Callable[[Callable[[Run], object]], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "folder" / "results.json"
    file.parent.mkdir()

    def gone(run: Run) -> None:
        _sampled(run)
        file.parent.rmdir()

    measuring(gone)
    assert _main(file, "--write") == 1
    out, err = capsys.readouterr()
    assert f"benchmarks: {file} was not written: No such file or directory\n" in err
    assert "64B-1: 64B messages" in out
    assert str(file) not in out
    assert "| c | IPv4 |" in (tmp_path / "RESULTS.md").read_text()


def test_an_interrupted_run_writes_what_it_has_and_no_tables(
    measuring: Callable[[Callable[[Run], object]], None],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(run: Run) -> None:
        _sampled(run)
        raise KeyboardInterrupt

    measuring(interrupted)
    file = tmp_path / "results.json"
    assert _main(file, "--write") == 130
    document = json.loads(file.read_text())
    assert (document["interrupted"], len(document["samples"])) == (True, 1)
    assert document["settings"]["rounds"] == 1
    out, err = capsys.readouterr()
    told = "interrupted after 1 sample, the last in round 1 of 64B-1 IPv4"
    assert f"benchmarks: {told}\n" in err
    assert f"\nrounds: 1, {told}\n" in out
    assert not (tmp_path / "RESULTS.md").exists()


def test_an_interrupt_outside_of_the_measuring_is_a_line_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_run: Run) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "about", interrupted)
    assert _main(tmp_path / "results.json") == 130
    assert capsys.readouterr().err == "benchmarks: interrupted\n"
    assert not (tmp_path / "results.json").exists()


def test_where_everything_was_skipped_that_is_told_and_not_well(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "HERE", tmp_path)
    monkeypatch.setattr("benchmarks.run.unfit", lambda _case: "there is no room")
    assert _main(tmp_path / "results.json", "--write") == 1
    out, err = capsys.readouterr()
    assert "Skipped: 64B-1: there is no room." in out
    assert "benchmarks: nothing was measured: all that was asked for was skipped\n" in err
    assert not (tmp_path / "RESULTS.md").exists()
