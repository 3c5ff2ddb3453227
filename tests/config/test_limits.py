"""Bad limits, from files, flags and code: each with its place, what was found, what is allowed."""

import json
import os
import re
from pathlib import Path

import pydantic
import pytest

from echokit.config import Config, Limits, Override, load
from echokit.errors import ConfigError

PLACE = ("server", "limits")

# What is wrong with a value of a key, in YAML's spelling, and what is said of it.
WRONG = [
    ("max_connections", "-1", "should be greater than or equal to 0; found -1"),
    ("max_connections", "10000001", "should be less than or equal to 10000000; found 10000001"),
    ("max_connections", "many", "should be a whole number; found 'many'"),
    ("max_connections", "1.5", "should be a whole number; found 1.5"),
    ("max_connections", "true", "should be a whole number; found true"),
    ("max_connections_per_peer", "-1", "should be greater than or equal to 0; found -1"),
    ("idle_timeout", "-5s", "write a time as a number of seconds or like 250ms, 5s, 1m30s"),
    ("idle_timeout", "-5", "should be greater than or equal to 0; found -5"),
    ("idle_timeout", "10 m", "write a time as a number of seconds or like 250ms, 5s, 1m30s"),
    ("idle_timeout", "10min", "write a time as a number of seconds or like 250ms, 5s, 1m30s"),
    ("idle_timeout", "5S", "write a time as a number of seconds or like 250ms, 5s, 1m30s"),
    ("idle_timeout", "366h366h8765h", "less than or equal to"),
    ("idle_timeout", ".inf", "finite"),
    ("idle_timeout", ".nan", "finite"),
    ("message_timeout", "64k", "write a time as a number of seconds or like 250ms, 5s, 1m30s"),
    ("send_timeout", "[1s]", "found ['1s']"),
    ("max_lifetime", "never", "write a time as a number of seconds or like 250ms, 5s, 1m30s"),
    ("tcp_user_timeout", "25h", "less than or equal to 86400"),
    ("drain_timeout", "-1ms", "write a time as a number of seconds or like 250ms, 5s, 1m30s"),
    ("keepalive", "10h", "less than or equal to 32767"),
    ("max_message", "10 MB", "write a size as a number of bytes or like 64k, 1MiB, 2MB"),
    ("max_message", "1s", "write a size as a number of bytes or like 64k, 1MiB, 2MB"),
    ("max_message", "-1", "should be greater than or equal to 0; found -1"),
    ("max_message", "1.5", "found 1.5"),
    ("send_buffer", "2G", "less than or equal to"),
    ("receive_buffer", "10m", "write a size as a number of bytes or like 64k, 1MiB, 2MB"),
    ("allow", "[192.0.2.1/24]", "has bits set behind its prefix: write 192.0.2.0/24"),
    ("allow", "[192.0.2.0/33]", "'192.0.2.0/33' is no network"),
    ("allow", "[2001:db8::1/64]", "has bits set behind its prefix: write 2001:db8::/64"),
    ("allow", "[localhost]", "'localhost' is no network"),
    ("deny", "['fe80::%eth0/64']", "names an interface"),
    ("deny", "[7]", "found 7"),
    ("deny", "{a: b}", "found a mapping"),
]
wrong = pytest.mark.parametrize(("key", "value", "why"), WRONG)


def _problems(tmp_path: Path, text: str, suffix: str, *overrides: Override) -> list[str]:
    """What is wrong with a file, without the folder that it happens to stand in."""
    file = tmp_path / f"echo{suffix}"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(file, overrides)
    return [problem.replace(f"{tmp_path}{os.sep}", "") for problem in caught.value.problems]


@wrong
def test_in_yaml_it_is_told_with_line_column_and_key(
    tmp_path: Path, key: str, value: str, why: str
) -> None:
    text = f"server:\n  limits:\n    # why\n    {key}: {value}\n"
    (problem,) = _problems(tmp_path, text, ".yaml")
    # An item of a list has its own column and number.
    column = len(f"    {key}: ") + 1 + value.startswith("[") * (value != "[1s]")
    item = ".0" if key in ("allow", "deny") and value.startswith("[") else ""
    assert problem.startswith(f"echo.yaml:4:{column}: server.limits.{key}{item}: ")
    assert why in problem


@wrong
def test_in_toml_it_is_told_with_its_key(tmp_path: Path, key: str, value: str, why: str) -> None:
    plain = value in ("true", "1.5", "[7]") or value.lstrip("-").isdecimal()
    special = {".inf": "inf", ".nan": "nan", "{a: b}": '{a = "b"}', "[1s]": '["1s"]'}
    if value.startswith("[") and not plain and value not in special:
        inner = value.strip("[]'")
        written = json.dumps([inner])
    else:
        written = value if plain else special.get(value, json.dumps(value))
    (problem,) = _problems(tmp_path, f"[server.limits]\n{key} = {written}\n", ".toml")
    item = ".0" if key in ("allow", "deny") and value.startswith("[") else ""
    assert problem.startswith(f"echo.toml: server.limits.{key}{item}: ")
    assert why in problem


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("max_connections", "-1", "should be greater than or equal to 0; found -1"),
        ("max_connections", "x", "should be a whole number; found 'x'"),
        ("idle_timeout", "-5s", "write a time"),
        ("message_timeout", "10 m", "write a time"),
        ("allow", "192.0.2.1/24", "has bits set behind its prefix: write 192.0.2.0/24"),
        ("deny", "::1,nobody", "'nobody' is no network"),
        ("deny", "::1,,::2", "'' is no network"),
    ],
)
def test_from_a_flag_it_is_told_with_the_flag(key: str, value: str, why: str) -> None:
    flag = f"--{key.replace('_', '-')}"
    with pytest.raises(ConfigError) as caught:
        load(None, [Override((*PLACE, key), value, flag)])
    (problem,) = caught.value.problems
    assert problem.startswith(f"{flag}: ")
    assert why in problem


CONTRADICTIONS = [
    (
        {"max_connections": 10, "max_connections_per_peer": 11},
        "max_connections_per_peer",
        "max_connections_per_peer 11 is over max_connections 10: it could never be reached",
    ),
    (
        {"idle_timeout": "10s", "message_timeout": "20s"},
        "message_timeout",
        "message_timeout 20s is over idle_timeout 10s: it could never be reached",
    ),
    (
        {"tcp_user_timeout": "500ms", "send_timeout": "1m"},
        "send_timeout",
        "send_timeout 1m is over tcp_user_timeout 500ms: the system would give the peer up before",
    ),
]


@pytest.mark.parametrize(("limits", "key", "why"), CONTRADICTIONS)
def test_limits_that_contradict_each_other_are_told_at_the_one_that_cannot_be(
    tmp_path: Path, limits: dict[str, object], key: str, why: str
) -> None:
    lines = [f"    {name}: {value}" for name, value in limits.items()]
    text = "\n".join(["server:", "  limits:", *lines, ""])
    (problem,) = _problems(tmp_path, text, ".yaml")
    line = 3 + list(limits).index(key)
    assert problem == f"echo.yaml:{line}:{len(key) + 7}: server.limits.{key}: {why}"
    toml = "\n".join(f"{name} = {json.dumps(value)}" for name, value in limits.items())
    (problem,) = _problems(tmp_path, f"[server.limits]\n{toml}\n", ".toml")
    assert problem == f"echo.toml: server.limits.{key}: {why}"
    with pytest.raises(pydantic.ValidationError, match=re.escape(why)):
        Limits.model_validate(limits)


@pytest.mark.parametrize(("limits", "key", "why"), CONTRADICTIONS)
def test_a_flag_that_contradicts_the_file_is_told(
    tmp_path: Path, limits: dict[str, object], key: str, why: str
) -> None:
    (other,) = set(limits) - {key}
    text = f"server: {{limits: {{{other}: {limits[other]}}}}}\n"
    flag = f"--{key.replace('_', '-')}"
    (problem,) = _problems(tmp_path, text, ".yaml", Override((*PLACE, key), str(limits[key]), flag))
    assert why in problem
    assert problem.startswith(f"{flag}: ")


def test_several_contradictions_are_told_together(tmp_path: Path) -> None:
    text = (
        "server: {limits: {max_connections: 1, max_connections_per_peer: 2,"
        " idle_timeout: 1, message_timeout: 2}}\n"
    )
    problems = "\n".join(_problems(tmp_path, text, ".yaml"))
    assert "max_connections_per_peer 2 is over max_connections 1" in problems
    assert "message_timeout 2s is over idle_timeout 1s" in problems


def test_a_limit_of_none_contradicts_nothing() -> None:
    for given in (
        {"max_connections": 0, "max_connections_per_peer": 5},
        {"idle_timeout": 0, "message_timeout": 3600},
        {"idle_timeout": 1, "message_timeout": 0},
        {"tcp_user_timeout": 0, "send_timeout": 3600},
        {"tcp_user_timeout": 1, "send_timeout": 0},
        {"idle_timeout": 5, "message_timeout": 5},
    ):
        limits = Limits.model_validate(given).model_dump()
        assert {key: limits[key] for key in given} == given


def test_a_shorter_limit_shortens_the_defaults_that_it_would_hide() -> None:
    assert (Limits().message_timeout, Limits().send_timeout) == (30, 60)
    assert Limits(idle_timeout=10).message_timeout == 10
    assert Limits(idle_timeout=0).message_timeout == 30
    assert Limits(tcp_user_timeout=5).send_timeout == 5
    assert Limits(tcp_user_timeout=500).send_timeout == 60


def test_an_unknown_limit_is_told_with_the_nearest(tmp_path: Path) -> None:
    (problem,) = _problems(tmp_path, "server: {limits: {idle_timeuot: 5s}}\n", ".yaml")
    assert problem.startswith("echo.yaml:1:19: server.limits.idle_timeuot: ")
    assert "idle_timeout" in problem.partition("idle_timeuot: ")[2]


def test_networks_are_kept_as_they_are_written_shortest_and_a_text_may_list_them() -> None:
    config = Config.model_validate(
        {
            "server": {
                "limits": {"allow": "192.0.2.0/24, 2001:DB8::/32", "deny": ["::ffff:192.0.2.1"]}
            }
        }
    )
    assert config.server.limits.allow == ("192.0.2.0/24", "2001:db8::/32")
    assert config.server.limits.deny == ("192.0.2.1/32",)


def test_more_networks_than_can_be_looked_through_are_refused_at_once() -> None:
    with pytest.raises(pydantic.ValidationError, match="has more than 1000 networks"):
        Limits.model_validate({"allow": ",".join(["::1"] * 1001)})
