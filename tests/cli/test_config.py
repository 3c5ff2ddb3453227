"""`echokit config`: check, show, schema."""

import json
from pathlib import Path
from typing import Any

import pytest

from echokit import Config, load
from tests.cli.processes import Done, run
from tests.conftest import ROOT

CONFIGS = sorted((ROOT / "configs").iterdir())


def _run(*args: str, env: dict[str, str] | None = None) -> Done:
    return run(*args, env=env)


def test_a_good_file_is_ok() -> None:
    found = [run("config", "check", str(config)) for config in CONFIGS]
    assert found == [Done(0, f"{config}: ok\n".encode(), b"") for config in CONFIGS]


BAD = {
    "bad.yaml": (
        "host: a..b\nport: yes\nport: 7\nframing:\n  type: length-prefixed\n  prefix_bytes: 1\n"
        "  max_message: 256\nclient: {timeout: 0}\nserver: []\n",
        [
            "bad.yaml:3:1: 'port' stands here twice; the first is in line 2",
            "bad.yaml:1:7: host: 'a..b' is neither a host name nor an IPv4 or IPv6 address",
            "bad.yaml:7:16: framing.max_message: does not fit a prefix of 1 byte(s), which can "
            "say 255 at most; found 256",
            "bad.yaml:8:19: client.timeout: should be greater than or equal to 0.001; found 0",
            "bad.yaml:9:9: server: should be a mapping; found []",
        ],
    ),
    "bad.toml": (
        'host = 7\nport = 65536\nchunk = 1\n[client]\ntimeout = "5 s"\n',
        [
            "bad.toml: host: should be text (in quotes, if it looks like something else); found 7",
            "bad.toml: port: should be less than or equal to 65535; found 65536",
            "bad.toml: client.timeout: write a time as a number of seconds or like 250ms, 5s, "
            "1m30s; found '5 s'",
            "bad.toml: chunk: unknown key; did you mean 'chunk_size'?",
        ],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_every_problem_of_a_file_is_told_with_its_place(name: str, tmp_path: Path) -> None:
    text, expected = BAD[name]
    (tmp_path / name).write_text(text)
    done = _run("config", "check", str(tmp_path / name))
    assert (done.code, done.out) == (2, b"")
    prefix = f"echokit: {tmp_path}/"
    told = [line.removeprefix(prefix) for line in done.err.decode().splitlines()]
    assert told == expected


# What a file can say that has to be said just so, to be read as the same.
STRANGE: dict[str, dict[str, Any]] = {
    "plain": {},
    "every address": {"host": "", "framing": "length-prefixed"},
    "a literal": {"host": "::1", "chunk_size": "64k", "port": 0},
    "a host called null": {"host": "null"},
    "a host called true": {"host": "true"},
    "control characters": {"framing": {"type": "delimited", "delimiter": "\t#\r\n\x7f\x00: "}},
    "beyond the basic plane": {"framing": {"type": "delimited", "delimiter": "😀 \u2028"}},
    "times with many digits": {
        "client": {"timeout": 1.23456789, "connect_timeout": 100.123456},
        "server": {"limits": {"drain_timeout": 86399.25}},
    },
    "a very short time": {"server": {"limits": {"drain_timeout": 1e-12}}},
    "sizes that are no round number": {"chunk_size": 65537},
}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """What `config show` says of a file with each of `STRANGE`."""
    folder = tmp_path_factory.mktemp("strange")
    # JSON is YAML, and says all of these exactly.
    for number, values in enumerate(STRANGE.values()):
        text = json.dumps(values, ensure_ascii=False)
        # But for characters that a YAML reader takes for line ends, or refuses.
        text = text.replace("\x7f", "\\u007f").replace("\u2028", "\\u2028")
        (folder / f"{number}.yaml").write_text(text)
    done = [
        run("config", "show", "--config", str(folder / f"{number}.yaml"))
        for number in range(len(STRANGE))
    ]
    return dict(zip(STRANGE, done, strict=True))


@pytest.mark.parametrize("what", STRANGE)
def test_what_is_shown_is_a_file_that_says_the_same(
    what: str, shown: dict[str, Done], tmp_path: Path
) -> None:
    done = shown[what]
    assert (done.code, done.err) == (0, b"")
    saved = tmp_path / "saved.yaml"
    saved.write_bytes(done.out)
    assert load(saved) == Config.model_validate(STRANGE[what])


def test_what_is_shown_tells_where_each_value_came_from(tmp_path: Path) -> None:
    config = tmp_path / "some.yaml"
    config.write_text("host: a.file\nframing: {type: delimited}\nclient:\n  timeout: 1m30s\n")
    args = ("config", "show", "--config", str(config), "--port", "7")
    variables = {"ECHOKIT_CHUNK_SIZE": "64k"}
    done = _run(*args, env=variables)
    told = {
        line.partition(":")[0].strip(): line.partition("  # ")[2]
        for line in done.lines
        if "  # " in line
    }
    origins = {
        "host": f"{config}:1:7",
        "port": "--port",
        "chunk_size": "ECHOKIT_CHUNK_SIZE",
        "type": f"{config}:2:17",
        "timeout": f"{config}:4:12",
        "backlog": "default",
    }
    assert {key: told[key] for key in origins} == origins
    as_json = json.loads(_run(*args, "--json", env=variables).out)
    names = {"type": "framing.type", "timeout": "client.timeout", "backlog": "server.backlog"}
    assert {key: as_json[names.get(key, key)]["from"] for key in origins} == origins
    assert as_json["client.timeout"]["value"] == 90
    assert as_json["chunk_size"]["value"] == 65536


def test_what_is_shown_holds_for_every_variable() -> None:
    variables = {
        "ECHOKIT_TIMEOUT": "1s",
        "ECHOKIT_CONNECT_TIMEOUT": "2s",
        "ECHOKIT_DRAIN_TIMEOUT": "3s",
        "ECHOKIT_BACKLOG": "4",
    }
    found = json.loads(_run("config", "show", "--json", env=variables).out)
    assert {name: found[key] for name, key in _KEYS.items()} == {
        name: {"value": number, "from": name} for number, name in enumerate(variables, 1)
    }


_KEYS = {
    "ECHOKIT_TIMEOUT": "client.timeout",
    "ECHOKIT_CONNECT_TIMEOUT": "client.connect_timeout",
    "ECHOKIT_DRAIN_TIMEOUT": "server.limits.drain_timeout",
    "ECHOKIT_BACKLOG": "server.backlog",
}


def test_another_framing_does_not_inherit_the_options_of_the_files() -> None:
    config = str(ROOT / "configs" / "length-prefixed.yaml")
    found = json.loads(_run("config", "show", "--json", "--config", config, "--framing", "raw").out)
    framing = {key: value for key, value in found.items() if key.startswith("framing.")}
    assert framing == {"framing.type": {"value": "raw", "from": "--framing"}}


def test_json_is_one_document_also_for_an_error() -> None:
    done = _run("config", "show", "--json", "--port", "-1")
    assert done.code == 2
    assert "--port: should be greater than or equal to 0" in done.complaint
    assert "--port" in json.dumps(json.loads(done.out))


def test_the_schema_is_one_that_editors_can_use() -> None:
    done = _run("config", "schema")
    assert (done.code, done.err) == (0, b"")
    schema = json.loads(done.out)
    assert schema == json.loads((ROOT / "echokit" / "config.schema.json").read_text())
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == set(Config.model_fields)
    for name, property_ in schema["properties"].items():
        # Each is described, so that an editor has something to show, here or in its section.
        section = schema["$defs"].get(property_.get("$ref", "").rpartition("/")[2], {})
        assert property_.get("description") or section.get("description"), name
        assert section.get("additionalProperties", False) is False
    for reference in _references(schema):
        assert reference.rpartition("/")[2] in schema["$defs"]


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in _references(value)]
    return [found for item in node for found in _references(item)] if isinstance(node, list) else []
