"""The result document: what is written is what is read, and what is none is told as such."""

import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import echokit
from echokit import ConfigError
from echokit.loadgen.measured import OUTCOMES
from echokit.loadgen.result import Result, load_result, save_result
from echokit.loadgen.surroundings import unstarted

EXAMPLE = Path(__file__).with_name("example.json")
SCHEMA = Path(echokit.__file__).parent / "loadgen" / "result.schema.json"


def _example() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(EXAMPLE.read_bytes())
    return document


def test_the_schema_in_the_package_is_the_models_and_a_valid_one() -> None:
    schema = json.loads(SCHEMA.read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    schema.pop("$schema")
    assert schema == Result.model_json_schema(mode="serialization")


@pytest.mark.parametrize("result", [load_result(EXAMPLE), unstarted("no such host", 3)])
def test_a_document_keeps_the_schema_and_comes_back_as_it_was(
    result: Result, tmp_path: Path
) -> None:
    path = tmp_path / "run.json"
    save_result(result, path)
    jsonschema.validate(json.loads(path.read_bytes()), json.loads(SCHEMA.read_bytes()))
    assert load_result(path) == result


def test_the_example_is_of_both_families_and_whole() -> None:
    families = load_result(EXAMPLE).families
    assert set(families) == {"ipv4", "ipv6"}
    for family in families.values():
        assert family.response.count == family.outcomes.ok > 1000
        assert sum(s.requests for s in family.slices) == family.requests
        assert sum(s.response.count for s in family.slices) == family.response.count
        assert family.tcp_info is not None


def _problem(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_result(path)
    first = caught.value.problems[0]
    assert first.startswith(f"{path}: ")
    return first.removeprefix(f"{path}: ")


def test_a_document_cut_anywhere_is_told_as_cut(tmp_path: Path) -> None:
    data = EXAMPLE.read_bytes()
    path = tmp_path / "cut.json"
    cuts = [*range(1, 3000, 7), *range(3000, len(data) - 2, 977), len(data) - 2]
    told = set()
    for cut in cuts:
        path.write_bytes(data[:cut])
        told.add(_problem(path).partition(",")[0].partition(":")[0])
    # In the middle of a word or a number nobody can tell a cut from nonsense.
    assert told <= {"it is cut short", "it is no JSON"}
    assert "it is cut short" in told


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"hello", "it is no JSON: line 1, column 1"),
        (b"\xff\xfe", "it is no JSON"),
        (b"[" * 100_000, "it is no JSON"),
        (b"[]", "it is JSON, but no result of echokit load"),
        (b"{}", "it is JSON, but no result of echokit load"),
        (b'{"format": "other"}', "it is JSON, but no result of echokit load"),
        (b'{"format": "echokit-load"}', "a result of echokit load, but without its schema_version"),
        (b'{"format": "echokit-load", "schema_version": 2, "echokit_version": "9.9"}',
         "a result of schema version 2, made by echokit 9.9; this echokit reads version 1"),
        (b'{"format": "echokit-load", "schema_version": true}', "a result of schema version True"),
        (b'{"format": "echokit-load", "schema_version": 1}', "echokit_version: Field required"),
    ],
)  # fmt: skip
def test_a_foreign_file_is_told_as_what_it_is(data: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "foreign.json"
    path.write_bytes(data)
    assert _problem(path).startswith(problem)


def test_a_file_that_is_not_there_or_none_is_told(tmp_path: Path) -> None:
    assert _problem(tmp_path / "nope.json") == "no such file or directory"
    assert _problem(tmp_path) == "is a directory"


def test_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    path.touch()
    os.truncate(path, 1 << 40)
    assert _problem(path).startswith("over 64 MiB")


def _changed(place: str, value: object) -> dict[str, Any]:
    """The example with another value at a place."""
    document = _example()
    *parts, last = place.split(".")
    at: Any = document
    for part in parts:
        at = at[int(part)] if isinstance(at, list) else at[part]
    at[last] = value
    return document


@pytest.mark.parametrize(
    ("place", "value", "problem"),
    [
        ("families.ipv4.requests", 1, "add up to the requests"),
        ("families.ipv4.requests", -1, "greater than or equal to 0"),
        ("families.ipv4.requests", "many", "valid integer"),
        ("families.ipv4.service.p50_us", 10**9, "should not fall"),
        ("families.ipv6.slices.0.response.count", 0, "a figure has all of its numbers"),
        ("families.ipv5", {}, "'ipv4' or 'ipv6'"),
        ("started_at", "yesterday", "match pattern"),
        ("started_at", "2024-02-31T00:00:00.000000Z", "no such date or time"),
        ("started_at", "2024-02-01T24:00:01.000000Z", "no such date or time"),
        ("started_at", "9999-12-31T23:59:59.000000Z", "match pattern"),
        ("duration_s", 1e300, "less than or equal to 1000000000"),
        ("families.ipv4.slices.0.requests_per_s", 1e308, "less than or equal to 1000000000000000"),
        ("seed", 1 << 64, "less than or equal to 18446744073709551615"),
        ("settings.size_max", 10**400, "less than or equal to"),
        ("families.ipv4.bytes_sent", 10**400, "less than or equal to"),
        ("families.ipv4.service.sum_us", 10**400, "less than or equal to"),
        ("families.ipv4.service.max_us", 10**400, "less than or equal to 1000000000000000"),
        ("surprise", 1, "Extra inputs"),
        ("families", {}, "a run that is complete should have measured a family"),
    ],
)
def test_what_contradicts_the_document_is_named_by_its_place(
    place: str, value: object, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(_changed(place, value)))
    told = _problem(path)
    assert told.startswith(place.rpartition(".")[0] if "requests" not in place else "families")
    assert problem in told


def test_the_largest_seed_of_a_config_can_be_told(tmp_path: Path) -> None:
    path = tmp_path / "seed.json"
    path.write_text(json.dumps(_changed("seed", (1 << 64) - 1)))
    assert load_result(path).seed == (1 << 64) - 1


def test_every_outcome_has_a_place() -> None:
    assert OUTCOMES == (
        "ok", "mismatch", "early_close", "reset", "timeout", "refused", "connect_timeout",
        "connect_failed", "abandoned",
    )  # fmt: skip
