"""`echokit compare` and `echokit merge` as processes."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.loads import HOST, QUICK, document_in, written
from tests.cli.processes import run
from tests.loadgen.pages import example
from tests.loadgen.servers import (
    FakeServer,
    echoes,
)


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
    found = document_in(out.read_bytes())
    requests = [json.loads(Path(r).read_bytes())["families"]["ipv4"]["requests"] for r in runs]
    assert found["families"]["ipv4"]["requests"] == sum(requests)
    assert document_in(run("merge", "-", *runs).out) == found


def test_runs_that_may_not_belong_together_are_merged_with_a_word(tmp_path: Path) -> None:
    first = example()
    second, third = example(), example()
    for number, document in enumerate((second, third), 2):
        # Another run, and of its own server as the first is: on another port.
        document["started_at"] = first["started_at"].replace("Z", "")[:-1] + f"{number}Z"
        document["target"]["port"] += 1
    third["settings"] |= {"size_max": 1 << 20}
    third["target"] = {"host": "::1\x1b", "port": 7, "own_server": False}
    paths = [tmp_path / f"{number}.json" for number in range(3)]
    for path, document in zip(paths, (first, second, third), strict=True):
        path.write_text(json.dumps(document))
    out = tmp_path / "out.json"
    done = run("merge", str(out), *map(str, paths))
    size = first["settings"]["size_max"]
    which = f"echokit: {paths[0]} (A) and {paths[2]} (B): "
    assert done.code == 0
    *notes, end = done.err.decode().splitlines()
    assert end == f"echokit: 3 runs merged into {out}"
    assert [note.startswith(which) for note in notes] == [True, True]
    assert f"size_max {size} and {1 << 20}" in notes[0]
    assert notes[1] == f"{which}A measured its own server, and B [::1\\x1b]:7"


def test_no_run_counts_twice_and_none_is_overwritten(tmp_path: Path) -> None:
    run_ = tmp_path / "a.json"
    run_.write_bytes((Path(__file__).parents[1] / "loadgen" / "example.json").read_bytes())
    other = tmp_path / "b.json"
    other.write_bytes(run_.read_bytes())
    done = run("merge", str(tmp_path / "out.json"), str(run_), str(other))
    assert (done.code, done.complaint) == (
        2, f"{other}: the same run as {run_}: it would count twice"
    )  # fmt: skip
    before = run_.read_bytes()
    done = run("merge", str(run_), str(run_))
    assert (done.code, done.complaint) == (
        2, f"OUT: {run_} is one of the runs, and would be overwritten"
    )  # fmt: skip
    assert run_.read_bytes() == before


def _saved(directory: Path, *names: str) -> list[str]:
    """A run in a file for each name: runs of their own, as when they began says."""
    paths = [directory / f"{name}.json" for name in names]
    for number, path in enumerate(paths):
        at = f"2026-11-24T17:19:29.00000{number}Z"
        path.write_text(json.dumps(example() | {"started_at": at}))
    return list(map(str, paths))


def test_no_run_counts_twice_through_a_merged_one(tmp_path: Path) -> None:
    a, b, c = _saved(tmp_path, "a", "b", "c")
    once, twice, out = (str(tmp_path / f"{name}.json") for name in ("once", "twice", "out"))
    assert run("merge", once, a, b).code == 0
    done = run("merge", twice, once, c)
    assert (done.code, done.complaint) == (0, f"3 runs merged into {twice}")

    def told(*runs: str) -> str:
        done = run("merge", out, *runs)
        assert (done.code, Path(out).exists()) == (2, False)
        return done.complaint

    which = "the run that began at 2026-11-24T17:19:29.000000Z is"
    assert told(once, a) == f"{a}: {which} in {once}, too: it would count twice"
    assert told(a, once) == f"{once}: {which} in {a}, too: it would count twice"
    assert told(twice, once) == f"{once}: {which} in {twice}, too: it would count twice"
    # One that was merged of the same run twice, which was no error once.
    document = json.loads(Path(once).read_bytes())
    document["merged_from"] = [document["merged_from"][0]] * 2
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(document))
    assert told(c, str(bad)) == f"{bad}: {which} in it twice: it would count twice"


def test_a_run_is_not_overwritten_where_out_was_forgotten(tmp_path: Path) -> None:
    a, b, c = _saved(tmp_path, "a", "b", "c")
    before = Path(a).read_bytes()
    how = "OUT comes first, as in 'echokit merge OUT.json A.json B.json'"
    done = run("merge", a, b)
    assert (done.code, done.complaint) == (
        2, f"there should be two runs or more to merge; found {b} alone, to go to {a}: {how}"
    )  # fmt: skip
    done = run("merge", a, b, c)
    assert (done.code, done.complaint) == (
        2,
        f"OUT: {a} is a run that was measured, and would be overwritten: {how}; if it is not"
        " needed, remove it first",
    )
    assert Path(a).read_bytes() == before
    # Nor one that another version has written.
    newer = json.dumps(json.loads(before) | {"schema_version": 99})
    Path(a).write_text(newer)
    assert run("merge", a, b, c).code == 2
    assert Path(a).read_text() == newer


def test_a_merge_can_be_repeated_and_takes_the_place_of_what_is_no_run(tmp_path: Path) -> None:
    runs, out = _saved(tmp_path, "a", "b"), tmp_path / "out.json"
    out.write_text("not yet")
    assert run("merge", str(out), *runs).code == 0
    first = out.read_bytes()
    assert run("merge", str(out), *runs).code == 0
    assert out.read_bytes() == first


def test_a_merged_run_of_several_targets_says_so(tmp_path: Path) -> None:
    a, b, c = _saved(tmp_path, "a", "b", "c")
    document = json.loads(Path(b).read_bytes())
    document["target"]["port"] += 1
    Path(b).write_text(json.dumps(document))
    once, out = str(tmp_path / "once.json"), str(tmp_path / "out.json")
    assert run("merge", once, a, b).code == 0
    told = run("merge", out, once, c).err.decode()
    assert f"{once} (A) and {c} (B): A measured targets that differ, and B its own server" in told


def test_a_merged_run_of_several_seeds_names_none(tmp_path: Path) -> None:
    a, b, _ = _saved(tmp_path, "a", "b", "c")
    seed = json.loads(Path(a).read_bytes())["seed"]
    out = str(tmp_path / "out.json")
    assert f", seed {seed}\n" in run("merge", out, a, b).out.decode()
    document = json.loads(Path(b).read_bytes())
    document["seed"] = seed + 1
    Path(b).write_text(json.dumps(document))
    assert "seed" not in run("merge", out, a, b).out.decode()


def test_a_regression_has_a_code_of_its_own(tmp_path: Path) -> None:
    with FakeServer(HOST, echoes) as server:
        good = _save(tmp_path / "good.json", written(HOST, server.port), "--rate", "100")
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


def test_a_family_that_was_lost_is_a_regression_and_one_not_asked_for_a_note(
    tmp_path: Path,
) -> None:
    good = Path(__file__).parents[1] / "loadgen" / "example.json"
    document = example()
    del document["families"]["ipv6"]
    other = tmp_path / "other.json"
    for why, code in (("the name target has no IPv6 address", 4), ("only IPv4 was asked for", 0)):
        document["skipped"] = {"ipv6": why}
        other.write_text(json.dumps(document))
        done = run("compare", str(good), str(other))
        assert done.code == code
        assert f"IPv6 was measured by A alone: {why}\n" in done.err.decode()
        rows = [line.split() for line in done.lines]
        assert (["IPv6"] in rows) == bool(code)
        if code:
            assert rows[-1][0] == "requests/s"
            assert rows[-1][2:] == ["0", "-100.0%", "?", "REGRESSION"]


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


def test_what_has_nothing_to_compare_is_told(tmp_path: Path) -> None:
    good = Path(__file__).parents[1] / "loadgen" / "example.json"

    def told(change: dict[str, Any], *, other: bool = False) -> str:
        path = tmp_path / "run.json"
        path.write_text(json.dumps(example() | change))
        done = run("compare", *((str(path), str(good)) if other else (str(good), str(path))))
        assert (done.code, done.out) == (2, b"")
        assert done.complaint.startswith(f"{path}: ")
        return done.complaint.removeprefix(f"{path}: ")

    nothing = "there is nothing in it to compare"
    cut = {"families": {}, "status": "interrupted", "error": "interrupted"}
    assert told(cut) == told(cut, other=True) == f"{nothing}: the run was interrupted"
    failed = {"families": {}, "status": "failed", "error": "no\x1bbody"}
    assert told(failed) == f"{nothing}: the run failed: no\\x1bbody"
    assert "a run that is complete should have measured a family" in told({"families": {}})
    families = example()["families"]
    families["ipv6"]["slices"][0]["response"]["histogram"] = "nonsense"
    assert told({"families": families}).startswith(
        "families.ipv6.slices.0.response: a histogram cannot be decoded: "
    )


def test_what_a_file_says_of_itself_is_told_as_text(tmp_path: Path) -> None:
    good = Path(__file__).parents[1] / "loadgen" / "example.json"
    document = json.loads(good.read_bytes())
    document["self_audit"] |= {"trustworthy": False, "verdict": "\x1b[2J\nfine"}
    document["settings"]["framing"] = {"type": "\x1b[5m"}
    hostile = tmp_path / "hostile.json"
    hostile.write_text(json.dumps(document))
    done = run("compare", str(good), str(hostile))
    told = done.err.decode()
    assert "echokit: B tells of more than its target: \\x1b[2J\\nfine\n" in told
    assert "\\x1b[5m" in told
    assert all(line.isprintable() for line in [*told.splitlines(), *done.lines])


def test_a_tolerance_that_is_none_is_told() -> None:
    good = str(Path(__file__).parents[1] / "loadgen" / "example.json")
    done = run("compare", good, good, "--tolerance", "much", "--json")
    assert done.complaint == "--tolerance: should be a percentage like 5%; found 'much'"
    assert json.loads(done.out) == {"error": done.complaint, "exit_code": done.code}
