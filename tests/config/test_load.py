"""From files, variables and flags to one config, or to every problem with its place."""

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from echokit.config import Config, Override, load, load_with_origins
from echokit.errors import ConfigError
from echokit.framing.base import Framing
from echokit.framing.delimited import Delimited
from echokit.framing.length_prefixed import LengthPrefixed
from echokit.framing.raw import Raw
from tests.config.trees import as_toml, as_yaml, trees

PORT = ("port",)
FRAMING = ("framing",)


def _file(tmp_path: Path, text: str, suffix: str = ".yaml") -> Path:
    file = tmp_path / f"echo{suffix}"
    file.write_text(text, encoding="utf-8", newline="")
    return file


def _problems(
    tmp_path: Path, text: str, suffix: str = ".yaml", overrides: tuple[Override, ...] = ()
) -> list[str]:
    """What is wrong with a file, without the folder that it happens to stand in."""
    with pytest.raises(ConfigError) as caught:
        load(_file(tmp_path, text, suffix), overrides)
    return [problem.replace(f"{tmp_path}{os.sep}", "") for problem in caught.value.problems]


def test_without_a_file_it_is_the_defaults() -> None:
    config, origins = load_with_origins()
    assert config == Config()
    assert origins == {}


@pytest.mark.parametrize(
    ("suffix", "text"), [(".yaml", "{}"), (".toml", "# x"), (".yaml", "# x\n")]
)
def test_a_file_without_settings_is_the_defaults(tmp_path: Path, suffix: str, text: str) -> None:
    assert load(_file(tmp_path, text, suffix)) == Config()


def test_a_file_may_be_named_by_a_text(tmp_path: Path) -> None:
    assert load(str(_file(tmp_path, "port: 7\n"))).port == 7


def test_a_missing_file_is_told_and_overrides_do_not_hide_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: no such file"):
        load(tmp_path / "none.yaml", [Override(PORT, "7", "--port")])


def test_yaml_and_toml_say_the_same(tmp_path: Path) -> None:
    yaml = """
host: ::1
port: 7
family: ipv6
chunk_size: 64k
framing:
  type: length-prefixed
  prefix_bytes: 2
  max_message: 1KiB
server: {output: json, backlog: 5}
client:
  timeout: 250ms
"""
    toml = """
host = "::1"
port = 7
family = "ipv6"
chunk_size = "64k"
server.output = "json"
server.backlog = 5
framing = { type = "length-prefixed", prefix_bytes = 2, max_message = "1KiB" }
[client]
timeout = "250ms"
"""
    config = load(_file(tmp_path, yaml))
    assert config == load(_file(tmp_path, toml, ".toml"))
    assert config.framing == LengthPrefixed(prefix_bytes=2, max_message=1024)
    assert (config.host, config.port, config.family) == ("::1", 7, "AF_INET6")
    assert (config.chunk_size, config.server.backlog, config.client.timeout) == (65536, 5, 0.25)


# Problems and their places.


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("port: 65536", "1:7: port: should be less than or equal to 65535; found 65536"),
        ("port: -1", "1:7: port: should be greater than or equal to 0; found -1"),
        ("port: '7'", "1:7: port: should be a whole number; found '7'"),
        ("port: 7.0", "1:7: port: should be a whole number; found 7.0"),
        ("port: true", "1:7: port: should be a whole number; found true"),
        ("port:", "1:1: port: should be a whole number; found nothing"),
        ("port: [7]", "1:7: port: should be a whole number; found [7]"),
        ("port: {a: 7}", "1:7: port: should be a whole number; found a mapping"),
        ("port: yes", "1:7: port: should be a whole number; found 'yes'"),
        ("port: 12:30", "1:7: port: should be a whole number; found '12:30'"),
        ("port: 2001-01-01", "1:7: port: should be a whole number; found '2001-01-01'"),
        (
            "host: 7",
            "1:7: host: should be text (in quotes, if it looks like something else); found 7",
        ),
        ("chunk_size: 0", "1:13: chunk_size: should be greater than or equal to 1; found 0"),
        (
            "chunk_size: 10 MB",
            "1:13: chunk_size: write a size as a number of bytes or like 64k, 1MiB, 2MB;"
            " found '10 MB'",
        ),
        ("server: 7", "1:9: server: should be a mapping; found 7"),
        ("server:", "1:1: server: should be a mapping; found nothing"),
        (
            "server:\n  output: loud",
            "2:11: server.output: should be 'transcript', 'json' or 'quiet'; found 'loud'",
        ),
        ("client: {timeout: .inf}", "1:19: client.timeout: should be a finite number; found inf"),
        ("client: {timeout: .nan}", "1:19: client.timeout: should be a finite number; found nan"),
        (
            "framing: {type: length-prefixed, prefix_bytes: 3}",
            "1:48: framing.prefix_bytes: should be 1, 2, 4 or 8; found 3",
        ),
        (
            "framing:\n  type: length-prefixed\n  prefix_bytes: 1\n  max_message: 256",
            "4:16: framing.max_message: does not fit a prefix of 1 byte(s), which can say 255"
            " at most; found 256",
        ),
        # More digits than Python writes.
        (
            f"segment: [0x{'F' * 8000}]",
            "1:10: segment: should be a size of 1 to 16777216, a list of them, 'random' or"
            " 'joined'; found a list",
        ),
        (
            "framing: length-prefxed",
            "1:10: framing: no framing is called 'length-prefxed'; did you mean 'length-prefixed'?"
            " (known: raw, length-prefixed, delimited)",
        ),
    ],
)
def test_a_wrong_value_is_told_with_its_place_what_was_found_and_what_is_allowed(
    tmp_path: Path, text: str, problem: str
) -> None:
    assert _problems(tmp_path, text) == [f"echo.yaml:{problem}"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("port = 65536", "port: should be less than or equal to 65535; found 65536"),
        ("port = 2001-01-01", "port: should be a whole number; found 2001-01-01"),
        ("[client]\ntimeout = nan", "client.timeout: should be a finite number; found nan"),
        ("[server]\nbaklog = 5", "server.baklog: unknown key; did you mean 'backlog'?"),
        (
            'framing = {type = "delimited", delimeter = ";"}',
            "framing.delimeter: unknown key; did you mean 'delimiter'?",
        ),
    ],
)
def test_in_toml_a_problem_is_told_with_its_key(tmp_path: Path, text: str, problem: str) -> None:
    assert _problems(tmp_path, text, ".toml") == [f"echo.toml: {problem}"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("prot: 7", "1:1: prot: unknown key; did you mean 'port'?"),
        (
            "walrus: 7",
            "1:1: walrus: unknown key; known here: host, port, family, chunk_size, framing,"
            " segment, segment_delay, seed, server, client",
        ),
        ("server:\n  baklog: 5", "2:3: server.baklog: unknown key; did you mean 'backlog'?"),
        ("client: {timeuot: 5s}", "1:10: client.timeuot: unknown key; did you mean 'timeout'?"),
        (
            "framing: {type: delimited, delimeter: ';'}",
            "1:28: framing.delimeter: unknown key; did you mean 'delimiter'?",
        ),
        (
            "framing: {type: length-prefixed, prefix_byte: 2}",
            "1:34: framing.prefix_byte: unknown key; did you mean 'prefix_bytes'?",
        ),
        ("framing: {type: raw, max: 2}", "1:22: framing.max: unknown key; known here: type"),
    ],
)
def test_an_unknown_key_is_told_with_the_nearest_known_one(
    tmp_path: Path, text: str, problem: str
) -> None:
    assert _problems(tmp_path, text) == [f"echo.yaml:{problem}"]


def test_every_problem_is_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """\
prot: 7
chunk_size: 0
port: 70000
framing:
  type: length-prefixed
  prefix_bytes: 3
  max_message: 5 k
server:
  output: loud
  speed: 3
host: a b
client: {timeout: 0}
"""
    problems = _problems(tmp_path, text)
    assert [problem.split(": ")[:2] for problem in problems] == [
        ["echo.yaml:1:1", "prot"],
        ["echo.yaml:2:13", "chunk_size"],
        ["echo.yaml:3:7", "port"],
        ["echo.yaml:6:17", "framing.prefix_bytes"],
        ["echo.yaml:7:16", "framing.max_message"],
        ["echo.yaml:9:11", "server.output"],
        ["echo.yaml:10:3", "server.speed"],
        ["echo.yaml:11:7", "host"],
        ["echo.yaml:12:19", "client.timeout"],
    ]


def test_what_a_config_may_not_have_is_told_together_with_what_is_wrong(tmp_path: Path) -> None:
    problems = _problems(tmp_path, "port: 7\nport: 70000\nhost: &h a b\n")
    assert [problem.split(": ", 1)[0] for problem in problems] == [
        "echo.yaml:2:1",
        "echo.yaml:3:7",
        "echo.yaml:2:7",
        "echo.yaml:3:7",
    ]


@pytest.mark.parametrize("suffix", [".yaml", ".toml"])
def test_of_very_many_problems_the_first_and_their_number_are_told(
    tmp_path: Path, suffix: str
) -> None:
    separator = ": " if suffix == ".yaml" else " = "
    text = "".join(f"key{number}{separator}1\n" for number in range(200))
    problems = _problems(tmp_path, text, suffix)
    assert len(problems) == 51
    assert problems[-1] == f"echo{suffix}: 200 problems in all"


@pytest.mark.parametrize(
    "text",
    [
        "host: {}",
        "port: {}",
        "port: '{}'",
        "family: {}",
        "framing: {}",
        "framing: {type: {}}",
        "chunk_size: '{}'",
        "server: {output: {}}",
        "client: {timeout: '{}'}",
        "framing: {type: delimited, delimiter: {}}",
        "? {}\n: 1",
        "server:\n  ? {}\n  : 1",
        "framing:\n  type: raw\n  ? {}\n  : 1",
        "host: ':{}'",
        "host: 1.{}",
    ],
)
@pytest.mark.parametrize("letter", ["x", "1"])
def test_no_error_repeats_a_long_input(tmp_path: Path, text: str, letter: str) -> None:
    problems = _problems(tmp_path, text.replace("{}", letter * 20_000))
    assert sum(map(len, problems)) < 1000


@pytest.mark.parametrize("key", ["host", "port", "family", "chunk_size", "framing", "walrus"])
@pytest.mark.parametrize(("suffix", "separator"), [(".yaml", ": "), (".toml", " = ")])
def test_a_number_too_long_to_be_written_out_is_a_problem_like_any(
    tmp_path: Path, key: str, suffix: str, separator: str
) -> None:
    # Only decimal digits are limited where numbers are read, and only where they are written.
    problems = _problems(tmp_path, f"{key}{separator}0x{'f' * 6000}\n", suffix)
    assert f" {key}: " in problems[0]
    assert sum(map(len, problems)) < 1000


@pytest.mark.parametrize(
    "text", [f"{'a.' * 1500}a = 1", f"[{'a.' * 1500}a]\nb = 1"], ids=["key", "table"]
)
def test_dotted_keys_without_end_are_a_problem_like_any(tmp_path: Path, text: str) -> None:
    assert _problems(tmp_path, text, ".toml")


@pytest.mark.parametrize(
    ("suffix", "text"),
    [(".yaml", '"a\\nb": 1'), (".toml", '"a\\nb" = 1'), (".yaml", 'server: {"a\\nb": 1}')],
)
def test_each_problem_is_one_line(tmp_path: Path, suffix: str, text: str) -> None:
    (problem,) = _problems(tmp_path, text, suffix)
    assert "\n" not in problem


@pytest.mark.parametrize("value", ["*x", "!int 7", "9" * 5000])
def test_what_was_refused_where_it_stands_is_not_called_wrong_again(
    tmp_path: Path, value: str
) -> None:
    (problem,) = _problems(tmp_path, f"port: {value}\n")
    assert problem.startswith("echo.yaml:1:7: ")


def test_a_key_that_is_no_word_is_told_once(tmp_path: Path) -> None:
    assert _problems(tmp_path, "1: 7\n") == ["echo.yaml:1:1: a key should be a plain word"]


# What goes over the file.


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        (("host",), "::1", "::1"),
        (("port",), "0", 0),
        (("family",), "ipv6", "AF_INET6"),
        (("chunk_size",), "64k", 65536),
        (("chunk_size",), "7", 7),
        (("framing",), "delimited", Delimited()),
        (("server", "output"), "json", "json"),
        (("server", "backlog"), "5", 5),
        (("server", "limits", "drain_timeout"), "1s", 1.0),
        (("client", "timeout"), "250ms", 0.25),
        (("client", "timeout"), "5", 5.0),
    ],
)
def test_an_override_goes_over_the_file_and_over_the_default(
    tmp_path: Path, key: tuple[str, ...], text: str, value: object
) -> None:
    file = _file(
        tmp_path,
        "host: a\nport: 1\nfamily: ipv4\nchunk_size: 2\nframing: raw\n"
        "server: {output: quiet, backlog: 3, limits: {drain_timeout: 4s}}\nclient: {timeout: 6s}\n",
    )
    override = Override(key, text, "--flag")
    for path in (file, None):
        config, origins = load_with_origins(path, [override])
        found: object = config
        for name in key:
            found = getattr(found, name)
        assert found == value
        place = (*key, "type") if key == FRAMING else key
        assert origins[place] == "--flag"


def test_an_override_leaves_what_stands_beside_it(tmp_path: Path) -> None:
    file = _file(tmp_path, "port: 1\nserver: {output: quiet, backlog: 3}\n")
    config, origins = load_with_origins(file, [Override(("server", "output"), "json", "--output")])
    assert (config.server.output, config.server.backlog, config.port) == ("json", 3, 1)
    assert origins == {
        ("port",): f"{file}:1:7",
        ("server", "output"): "--output",
        ("server", "backlog"): f"{file}:2:34",
    }


def test_an_override_saves_a_file_from_the_value_that_it_replaces(tmp_path: Path) -> None:
    file = _file(tmp_path, "port: seven\nframing: morse\n")
    overrides = [Override(PORT, "7", "--port"), Override(FRAMING, "raw", "--framing")]
    assert load(file, overrides) == Config(port=7)


def test_toml_values_come_from_the_file(tmp_path: Path) -> None:
    file = _file(tmp_path, "port = 1\n[server]\nbacklog = 3\n", ".toml")
    _, origins = load_with_origins(file)
    assert origins == {("port",): str(file), ("server", "backlog"): str(file)}


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        (("port",), "70000", "should be less than or equal to 65535; found 70000"),
        (("port",), "x", "should be a whole number; found 'x'"),
        (("port",), "1e3", "should be a whole number; found '1e3'"),
        (("port",), " 7", "should be a whole number; found ' 7'"),
        (("port",), "\uff17", "should be a whole number; found '\uff17'"),
        (("port",), "", "should be a whole number; found ''"),
        (("port",), "9" * 5000, "should be a whole number; found '999"),
        (("chunk_size",), "0", "should be greater than or equal to 1; found '0'"),
        (("framing",), "morse", "no framing is called 'morse'"),
        (("host",), "a b", "'a b' is neither a host name nor"),
        (("server", "output"), "loud", "should be 'transcript', 'json' or 'quiet'"),
    ],
)
def test_a_wrong_override_is_told_with_where_it_came_from(
    tmp_path: Path, key: tuple[str, ...], text: str, words: str
) -> None:
    override = Override(key, text, "ECHOKIT_X")
    (problem,) = _problems(tmp_path, "port: 1\nframing: raw\n", overrides=(override,))
    assert problem.startswith(f"ECHOKIT_X: {words}")
    assert len(problem) < 300


def test_wrong_overrides_and_a_wrong_file_are_told_together(tmp_path: Path) -> None:
    overrides = (Override(PORT, "x", "--port"), Override(("client", "timeout"), "0s", "ECHOKIT_T"))
    problems = _problems(tmp_path, "port: 1\nhost: a b\n", overrides=overrides)
    assert sorted(problem.split(": ")[0] for problem in problems) == [
        "--port",
        "ECHOKIT_T",
        "echo.yaml:2:7",
    ]


def test_the_same_framing_again_keeps_the_options_of_the_file(tmp_path: Path) -> None:
    file = _file(tmp_path, "framing:\n  type: length-prefixed\n  prefix_bytes: 2\n")
    override = Override(FRAMING, "length-prefixed", "--framing")
    config, origins = load_with_origins(file, [override])
    assert config.framing == LengthPrefixed(prefix_bytes=2)
    assert origins == {
        ("framing", "type"): "--framing",
        ("framing", "prefix_bytes"): f"{file}:3:17",
    }


@pytest.mark.parametrize("framing", [Raw(), Delimited()], ids=lambda framing: framing.type)
def test_another_framing_drops_the_options_of_the_file(tmp_path: Path, framing: Framing) -> None:
    file = _file(tmp_path, "framing:\n  type: length-prefixed\n  max_message: 2\n")
    config, origins = load_with_origins(file, [Override(FRAMING, framing.type, "--framing")])
    assert config.framing == framing
    assert origins == {("framing", "type"): "--framing"}


def test_an_option_goes_to_the_framing_that_the_file_has_by_name_only(tmp_path: Path) -> None:
    file = _file(tmp_path, "framing: length-prefixed\n")
    config = load(file, [Override(("framing", "max_message"), "2k", "--max-message")])
    assert config.framing == LengthPrefixed(max_message=2048)


def test_overrides_do_not_change_what_a_file_said_for_the_next_load(tmp_path: Path) -> None:
    file = _file(tmp_path, "server: {backlog: 3}\n")
    load(file, [Override(("server", "backlog"), "5", "--backlog")])
    assert load(file).server.backlog == 3


# Anything at all.


@given(tree=trees)
def test_any_tree_is_a_config_or_a_config_error(
    tree: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    texts = [(".yaml", as_yaml(tree))]
    # TOML has no word for nothing: there it is broken syntax, which is welcome too.
    if isinstance(tree, dict):
        texts.append((".toml", as_toml(tree)))
    for suffix, text in texts:
        _config_or_error(folder / f"tree{suffix}", text)


TOKENS = [
    *("host", "port", "framing", "type", "raw", "server", "timeout", ": ", ":", " ", "\n", "\n  "),
    *("- ", "? ", "[", "]", "{", "}", ",", "&a ", "*a", "!!int ", "!<x> ", "'", '"', "|\n", ">\n"),
    *("---\n", "...\n", "%YAML 1.1\n---\n", "%TAG ! x\n", "# c\n", "\t", "0x", "1_", "-_", "7"),
    *("1:7", ".inf", "~", "=", "[[", "]]", "'''", '"""', ".", "2001-01-01", "\\", "\\ud800", "<<"),
    *("\ufeff", "\x00", "\x1b", "\x85", "\u2028", "é", "\r"),
]


@given(
    text=st.lists(st.sampled_from(TOKENS), max_size=20).map("".join)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    suffix=st.sampled_from([".yaml", ".yaml", ".toml"]),
)
@example(text="%YAML 1.1\n---\nport: -_", suffix=".yaml")
@example(text='"\\ud800": 1', suffix=".yaml")
@example(text='framing: "\\ud800"', suffix=".yaml")
@example(text='framing: {type: delimited, delimiter: "\\ud800"}', suffix=".yaml")
@example(text="framing: {type: raw, {a: b}: c}", suffix=".yaml")
@example(text="? *a\n: b\n", suffix=".yaml")
@example(text="port = 1e999", suffix=".toml")
def test_any_text_is_a_config_or_a_config_error(
    text: str, suffix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    _config_or_error(tmp_path_factory.getbasetemp() / f"text{suffix}", text)


def _config_or_error(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8", newline="")
    try:
        config = load(file)
    except ConfigError as error:
        assert error.problems  # noqa: PT017 - a config is as good
        assert all(problem.startswith(str(file)) for problem in error.problems)  # noqa: PT017
    else:
        assert isinstance(config, Config)


def test_a_framing_by_its_name_alone_comes_from_where_the_name_stands(tmp_path: Path) -> None:
    file = _file(tmp_path, "port: 7\nframing: delimited\n")
    _, origins = load_with_origins(file)
    assert origins[("framing", "type")] == f"{file}:2:10"
