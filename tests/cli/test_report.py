"""`echokit report` and `echokit load --html` as processes: the page, and what is refused."""

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from echokit import EchoServer
from echokit.loadgen.result import Result, load_result
from tests.cli.peers import reserved_port
from tests.cli.processes import Running, run, start
from tests.conftest import AVAILABLE
from tests.loadgen.pages import Page, example, result_of, without_answers
from tests.loadgen.servers import FakeServer, echoes

HOST = next(iter(AVAILABLE.values()))
TARGET = f"[{HOST}]" if ":" in HOST else HOST
QUICK = ("--warmup", "50ms", "--no-calibrate", "-o", "quiet")


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """Where a page is to be written."""
    return tmp_path / "page.html"


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[dict[str, Any]], str]:
    """Writes a document to a file; the file's name."""

    def save(document: dict[str, Any]) -> str:
        path = tmp_path / "run.json"
        path.write_text(json.dumps(document))
        return str(path)

    return save


def _read(path: Path) -> tuple[Page, Result]:
    """The page in a file, and the result that it holds."""
    page = Page(path.read_text(encoding="utf-8"))
    return page, Result.model_validate_json(json.dumps(page.embedded("result")))


Saved = Callable[[dict[str, Any]], str]


# The page.


def test_a_saved_run_becomes_a_page(saved: Saved, page: Path) -> None:
    name = saved(example())
    done = run("report", name, "--html", str(page))
    assert (done.code, done.out, done.err) == (0, b"", b"")
    assert _read(page)[1] == load_result(Path(name))


def test_a_page_takes_the_place_of_a_longer_one(saved: Saved, page: Path) -> None:
    page.write_bytes(b"x" * 6_000_000)
    assert run("report", saved(example()), "--html", str(page)).code == 0
    assert page.read_bytes().endswith(b"</html>")
    assert _read(page)[1].status == "complete"


def test_a_dash_is_stdout(saved: Saved, page: Path) -> None:
    name = saved(example())
    done = run("report", name, "--html", "-")
    assert run("report", name, "--html", str(page)).code == done.code == 0
    assert done.out == page.read_bytes()


def test_a_load_writes_its_page(tmp_path: Path, page: Path) -> None:
    with EchoServer(HOST, 0, chunk_size=65536) as server:
        target = f"{TARGET}:{server.port}"
        files = ("--json", str(tmp_path / "run.json"), "--html", str(page))
        done = run("load", target, "-n", "50", *QUICK, *files, "--label", "x=<script>y</script>")
    assert (done.code, done.out, done.err) == (0, b"", b"")
    found, result = _read(page)
    assert result == load_result(tmp_path / "run.json")
    assert "x=<script>y</script>" in found.text
    assert found.row("Figures by address family", "came back well")[0] == "50"


def test_a_load_that_finds_nobody_writes_a_page_that_says_so(page: Path) -> None:
    with reserved_port(HOST) as port:
        done = run("load", f"{TARGET}:{port}", *QUICK, "--html", str(page))
    assert done.code == 3
    found, result = _read(page)
    assert result.exit_code == 3
    assert f"The run failed: {done.complaint}" in found.text


def test_a_load_that_is_interrupted_writes_a_page_of_what_it_has(page: Path) -> None:
    began = threading.Event()

    def answer(sock: socket.socket, data: bytes) -> bytes:
        began.set()
        return echoes(sock, data)

    with FakeServer(HOST, answer) as server:
        flags = ("-d", "1h", "--warmup", "0", "--no-calibrate", "--html", str(page))
        with Running("load", f"{TARGET}:{server.port}", *flags) as running:
            assert began.wait(10)
            done = running.end(signal.SIGINT)
    found, result = _read(page)
    assert result.status == "interrupted"
    assert done.code == result.exit_code
    assert "The run was interrupted. These are the figures until then." in found.text


def test_a_run_of_which_nothing_came_back_has_a_page(saved: Saved, page: Path) -> None:
    assert run("report", saved(without_answers()), "--html", str(page)).code == 0
    assert "there are no latencies to draw" in _read(page)[0].text


# What is refused.


def _refused(path: str, page: Path) -> str:
    """What is said of the file at `path`; nothing is written."""
    done = run("report", path, "--html", str(page))
    assert (done.code, done.out) == (2, b"")
    assert not page.exists()
    assert done.complaint.startswith(f"{path}: ")
    return done.complaint.removeprefix(f"{path}: ")


def test_a_file_that_is_none(tmp_path: Path, page: Path) -> None:
    assert _refused(str(tmp_path / "none.json"), page) == "no such file or directory"
    assert _refused(str(tmp_path), page) == "is a directory"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is empty"),
        (b"p50 = 1 ms\n", "it is no JSON: line 1, column 1: expecting value"),
        (b"\x89PNG\r\n\x1a\n", "it is no JSON"),
        (b'{"p50": 1}', "it is JSON, but no result of echokit load"),
        (b"[" * 100_000, "it is no JSON"),
    ],
)
def test_a_file_that_is_no_result(data: bytes, said: str, tmp_path: Path, page: Path) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(data)
    assert _refused(str(path), page) == said


def test_a_file_that_is_cut_short(saved: Saved, page: Path) -> None:
    name = saved(example())
    os.truncate(name, 5000)
    assert _refused(name, page) == "it is cut short, at line 1"


def test_a_result_of_another_schema_version(saved: Saved, page: Path) -> None:
    said = _refused(saved(example() | {"schema_version": 2, "echokit_version": "9.9"}), page)
    assert said == (
        "a result of schema version 2, made by echokit 9.9; this echokit reads version 1"
    )


def test_a_result_without_a_schema_version(saved: Saved, page: Path) -> None:
    document = example()
    del document["schema_version"]
    said = "a result of echokit load, but without its schema_version"
    assert _refused(saved(document), page) == said
    said = _refused(saved(document | {"schema_version": 2, "echokit_version": None}), page)
    assert said == "a result of schema version 2; this echokit reads version 1"


def test_a_rule_of_the_document_is_told_in_its_own_words(saved: Saved, page: Path) -> None:
    said = "document: a run that is complete should have measured a family"
    assert _refused(saved(example() | {"families": {}}), page) == said


def test_a_result_with_a_histogram_that_is_none(saved: Saved, page: Path) -> None:
    document = example()
    document["families"]["ipv6"]["response"]["histogram"] = "HISTFAAA"
    assert _refused(saved(document), page).startswith(
        "families.ipv6.response: a histogram cannot be decoded: "
    )


def test_a_page_that_cannot_be_written(saved: Saved, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere" / "page.html")
    done = run("report", saved(example()), "--html", nowhere)
    assert done.code == 2
    assert done.complaint == f"--html: cannot write to {nowhere}: no such file or directory"


def test_the_run_is_not_overwritten_by_its_page(saved: Saved, tmp_path: Path) -> None:
    name, link = saved(example()), tmp_path / "link.html"
    link.symlink_to(name)
    for html in (name, str(link)):
        done = run("report", name, "--html", html)
        assert (done.code, done.out) == (2, b"")
        assert done.complaint == f"--html: {html} is the run, and would be overwritten"
    assert load_result(Path(name)) == result_of(example())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(saved: Saved) -> None:
    done = run("report", saved(example()), "--html", "/dev/full")
    assert (done.code, done.complaint) == (
        1, "--html: cannot write to /dev/full: no space left on device"
    )  # fmt: skip


def test_the_page_has_to_go_somewhere(saved: Saved) -> None:
    done = run("report", saved(example()))
    assert (done.code, done.complaint) == (
        2,
        "missing option '--html'; see 'echokit report --help'",
    )


def test_a_load_is_told_before_it_begins_that_its_page_cannot_be_written(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere" / "page.html")
    done = run("load", "-d", "1h", "--html", nowhere)
    assert done.code == 2
    assert done.complaint == f"--html: cannot write to {nowhere}: no such file or directory"
    done = run("load", "-d", "1h", "--html", "-", "--json", "-")
    assert (done.code, done.complaint) == (
        2,
        "--json and --html: only one of them can go to stdout",
    )


_more = [pytest.param(name, marks=pytest.mark.slow) for name in ("jinja2", "hdrh")]


@pytest.mark.parametrize("missing", ["plotly", *_more])
def test_without_the_extra_it_is_named(missing: str, saved: Saved, page: Path) -> None:
    name = saved(example())
    # As if it were not installed.
    without = (
        f"import sys; sys.modules[{missing!r}] = None; import echokit.cli as c; sys.exit(c.main())"
    )
    command = (sys.executable, "-W", "error", "-c", without)
    for args in (("report", name), ("load", "-d", "1h")):
        done = start(*args, "--html", str(page), command=command)
        assert done.code == 2
        assert "install echokit from its checkout with the extra 'report'" in done.complaint
        assert f"{missing}" in done.complaint
        assert "pip install -e '.[report]'" in done.complaint
        assert not page.exists()
