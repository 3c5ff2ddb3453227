"""Config files as plain values with their places, and every kind of file that is none."""

import os
from pathlib import Path

import pytest

from echokit.config.document import MAX_BYTES, MAX_DEPTH, MAX_VALUES, Document, read_document
from echokit.errors import ConfigError


def _read(tmp_path: Path, content: str | bytes, suffix: str = ".yaml") -> Document:
    file = tmp_path / f"echo{suffix}"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_document(file)


def _problems(tmp_path: Path, content: str | bytes, suffix: str = ".yaml") -> list[str]:
    """What is wrong with a file, without the folder that it happens to stand in."""
    try:
        problems = _read(tmp_path, content, suffix).problems
    except ConfigError as error:
        problems = list(error.problems)
    return [problem.replace(f"{tmp_path}{os.sep}", "") for problem in problems]


def _refused(tmp_path: Path, content: str | bytes, suffix: str = ".yaml") -> str:
    """The first thing that is wrong with a file."""
    problems = _problems(tmp_path, content, suffix)
    assert problems
    return problems[0]


# The file itself.


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_document(tmp_path / "none.yaml")
    assert str(caught.value) == f"{tmp_path}/none.yaml: cannot be read: no such file or directory"


def test_a_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "echo.toml").mkdir()
    with pytest.raises(ConfigError, match=r"echo\.toml: is a directory, not a file$"):
        read_document(tmp_path / "echo.toml")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "echo.yaml")
    with pytest.raises(ConfigError, match=r"echo\.yaml: is not a regular file$"):
        read_document(tmp_path / "echo.yaml")


def test_a_link_that_leads_to_itself_is_told(tmp_path: Path) -> None:
    (tmp_path / "echo.yaml").symlink_to(tmp_path / "echo.yaml")
    with pytest.raises(ConfigError, match=r"echo\.yaml: cannot be read: too many levels"):
        read_document(tmp_path / "echo.yaml")


def test_an_unreadable_file_is_told(tmp_path: Path) -> None:
    file = tmp_path / "echo.yaml"
    file.write_text("port: 7\n")
    file.chmod(0)
    if os.access(file, os.R_OK):
        pytest.skip("this user reads every file, whatever its mode")
    with pytest.raises(ConfigError, match=r"echo\.yaml: cannot be read: permission denied$"):
        read_document(file)


def test_a_path_that_no_file_can_have_is_told() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_document(Path("echo\0.yaml"))


@pytest.mark.parametrize("name", ["echo", "echo.json", "echo.ini", "yaml"])
def test_a_file_of_an_unknown_kind_is_told_before_it_is_opened(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown kind of file: name it \.yaml, \.yml or \.toml"):
        read_document(tmp_path / name)


@pytest.mark.parametrize("suffix", [".yaml", ".yml", ".YAML", ".Yml"])
def test_the_suffix_says_yaml_in_either_case(tmp_path: Path, suffix: str) -> None:
    assert _read(tmp_path, "port: 7", suffix).values == {"port": 7}


@pytest.mark.parametrize("suffix", [".toml", ".TOML"])
def test_the_suffix_says_toml_in_either_case(tmp_path: Path, suffix: str) -> None:
    assert _read(tmp_path, "port = 7", suffix).values == {"port": 7}


@pytest.mark.parametrize("suffix", [".yaml", ".toml"])
@pytest.mark.parametrize("content", ["# only a comment\n", "\n\n  # and another", "\ufeff# x\r\n"])
def test_a_file_without_values_says_nothing(tmp_path: Path, suffix: str, content: str) -> None:
    document = _read(tmp_path, content, suffix)
    assert document.values == {}
    assert document.problems == []


@pytest.mark.parametrize("suffix", [".yaml", ".toml"])
@pytest.mark.parametrize("content", ["", "\n", " \n\t\n"])
def test_an_empty_file_is_told_for_what_it_is(tmp_path: Path, suffix: str, content: str) -> None:
    with pytest.raises(ConfigError, match="is empty"):
        _read(tmp_path, content, suffix)


@pytest.mark.parametrize("content", ["---\n", "---\n# nothing\n...\n", "null", "~"])
def test_an_empty_yaml_document_is_no_mapping(tmp_path: Path, content: str) -> None:
    assert any("should be a mapping" in problem for problem in _read(tmp_path, content).problems)


@pytest.mark.parametrize(("suffix", "text"), [(".yaml", "port: 7"), (".toml", "port = 7")])
def test_a_byte_order_mark_is_no_part_of_the_first_key(
    tmp_path: Path, suffix: str, text: str
) -> None:
    assert _read(tmp_path, "\ufeff" + text, suffix).values == {"port": 7}


@pytest.mark.parametrize("suffix", [".yaml", ".toml"])
@pytest.mark.parametrize(
    ("content", "line", "byte"),
    [
        (b"\xff\xfea\0", 1, 0xFF),
        ("a: b\nc: münchen\n".encode("latin-1"), 2, 0xFC),
        (b"# x\n\n# \xc3", 3, 0xC3),
        (b"\xef\xbb\xbf# x\n#\xff", 2, 0xFF),
        (b"\xef\xbb\xbfa\n\xff", 2, 0xFF),
    ],
)
def test_what_is_not_utf8_is_told_with_its_line_and_byte(
    tmp_path: Path, suffix: str, content: bytes, line: int, byte: int
) -> None:
    expected = f"echo{suffix}:{line}: is not UTF-8: byte 0x{byte:02x}"
    assert _problems(tmp_path, content, suffix) == [expected]


@pytest.mark.parametrize("suffix", [".yaml", ".toml"])
def test_a_file_of_256_kib_is_read_and_of_a_byte_more_refused(tmp_path: Path, suffix: str) -> None:
    line = b"#" * 1023 + b"\n"
    assert _read(tmp_path, line * 256, suffix).values == {}
    expected = [f"echo{suffix}: is over 256 KiB: that is no config"]
    assert _problems(tmp_path, line * 256 + b"\n", suffix) == expected
    assert len(line) * 256 == MAX_BYTES


# YAML.


def test_yaml_values_are_those_of_version_1_2(tmp_path: Path) -> None:
    text = """
        yes: yes
        on: on
        clock: 12:30
        date: 2001-01-01
        octal: 010
        hex: 0x1F
        real: 1e3
        no number: 1e
        truth: true
        nothing:
        tilde: ~
        quoted: "true"
        list: [1, a, {b: 2.5}]
        <<: merged
        equals: =
    """
    assert _read(tmp_path, text).values == {
        "yes": "yes",
        "on": "on",
        "clock": "12:30",
        "date": "2001-01-01",
        "octal": 10,
        "hex": 31,
        "real": 1000.0,
        "no number": "1e",
        "truth": True,
        "nothing": None,
        "tilde": None,
        "quoted": "true",
        "list": [1, "a", {"b": 2.5}],
        "<<": "merged",
        "equals": "=",
    }


@pytest.mark.parametrize("value", ["yes", "12:30", "1:7", "0o7", "-_"])
def test_a_file_that_says_version_1_1_does_not_mean_something_else(
    tmp_path: Path, value: str
) -> None:
    try:
        old = _read(tmp_path, f"%YAML 1.1\n---\nhost: {value}\n")
    except ConfigError as error:
        # To refuse the version is as good.
        assert "1.1" in str(error)  # noqa: PT017 - either way is right
        return
    assert old.problems or old.values == _read(tmp_path, f"host: {value}\n").values


@pytest.mark.parametrize("value", ["-_", "+_", "0x_", "0b_", "._"])
def test_what_only_begins_like_a_number_is_not_called_a_long_one(
    tmp_path: Path, value: str
) -> None:
    assert not any("too long" in problem for problem in _problems(tmp_path, f"host: {value}"))


def test_yaml_places_are_lines_and_columns_from_one(tmp_path: Path) -> None:
    document = _read(tmp_path, "port: 7\nserver:\n  backlog: 5\nlist: [a, {b: c}]\n")
    name = document.name
    assert document.place(("port",)) == f"{name}:1:7"
    assert document.place(("port",), of_key=True) == f"{name}:1:1"
    assert document.place(("server", "backlog")) == f"{name}:3:12"
    assert document.place(("server", "backlog"), of_key=True) == f"{name}:3:3"
    assert document.place(("list", 1, "b")) == f"{name}:4:15"
    # Of what does not stand there, the place is where it would.
    assert document.place(("server", "output")) == f"{name}:3:3"
    assert document.place(("client", "output")) == f"{name}:1:1"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("port: 7\nhost: [a\n", "3:1"),
        ("port: 7\n  host: a\n", "2:7"),
        ("port: 'x", "1:9"),
        ("port: }", "1:7"),
        ("server:\n\tbacklog: 5\n", "2:1"),
        ("host: @home", "1:7"),
        ("host: %home", "1:7"),
        ('host: "\\q"', "1:9"),
        ("host: a: b", "1:8"),
        ("%YAML 3.0\n---\nport: 7", "1:1"),
        ("host: !no!such x", "1:7"),
    ],
)
def test_yaml_that_cannot_be_read_is_told_with_line_and_column(
    tmp_path: Path, text: str, place: str
) -> None:
    (problem,) = _problems(tmp_path, text)
    assert problem.startswith(f"echo.yaml:{place}: ")
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("text", "line", "character"),
    [
        ("a: \0", 1, "U+0000"),
        ("a: b\n\nc: \x1b[31m", 3, "U+001B"),
        ("\ufeffa: b\nc: \x07", 2, "U+0007"),
        ("# x\n" * 5000 + "\x7f", 5001, "U+007F"),
    ],
)
def test_a_character_that_yaml_does_not_allow_is_told_with_its_line(
    tmp_path: Path, text: str, line: int, character: str
) -> None:
    assert _problems(tmp_path, text) == [
        f"echo.yaml:{line}: has a character that YAML does not allow: {character}"
    ]


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("::", 'quote it: "::"'),
        ("[::1]:7", 'quote it: "[::1]:7"'),
        ("*:7", 'quote it: "*:7"'),
        ("*", 'quote it: "*"'),
    ],
)
def test_an_address_that_means_something_else_in_yaml_gets_the_hint_to_quote_it(
    tmp_path: Path, value: str, hint: str
) -> None:
    problem = _refused(tmp_path, f"port: 7\nhost: {value}\n")
    assert problem.startswith("echo.yaml:2:")
    assert problem.endswith(hint)
    # And the hint is right.
    assert _read(tmp_path, f'host: "{value}"\n').values == {"host": value}


def test_an_address_that_yaml_reads_as_it_is_needs_no_quotes(tmp_path: Path) -> None:
    assert _read(tmp_path, "host: ::1\n").values == {"host": "::1"}
    assert _read(tmp_path, "host: fe80::1%eth0\n").values == {"host": "fe80::1%eth0"}


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("port: &p 7", "1:7", "anchors (&p) are not allowed"),
        ("&p port: 7", "1:1", "anchors (&p) are not allowed"),
        ("server: &s {backlog: 5}", "1:9", "anchors (&s) are not allowed"),
        ("port: *p", "1:7", "aliases (*p) are not allowed"),
        ("port: !!int '7'", "1:7", "tags (tag:yaml.org,2002:int) are not allowed"),
        ("port: !seven x", "1:7", "tags (!seven) are not allowed"),
        ("server: !!map {backlog: 5}", "1:9", "tags (tag:yaml.org,2002:map) are not allowed"),
        (
            "host: !!python/object/apply:os.getcwd []",
            "1:7",
            "tags (tag:yaml.org,2002:python/object/apply:os.getcwd) are not allowed",
        ),
        ("host: !!binary aGk=", "1:7", "tags (tag:yaml.org,2002:binary) are not allowed"),
    ],
)
def test_anchors_aliases_and_tags_are_refused(
    tmp_path: Path, text: str, place: str, what: str
) -> None:
    assert _refused(tmp_path, text) == f"echo.yaml:{place}: {what}"


def test_a_bomb_of_aliases_is_refused_without_being_built(tmp_path: Path) -> None:
    levels = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    for above, here in zip("abcdefgh", "bcdefghi", strict=True):
        levels.append(f"{here}: &{here} [{','.join([f'*{above}'] * 9)}]")
    text = "\n".join(levels)
    assert len(text) < 400
    problems = _problems(tmp_path, text)
    assert problems[:2] == [
        "echo.yaml:1:4: anchors (&a) are not allowed",
        "echo.yaml:2:4: anchors (&b) are not allowed",
    ]
    # One line for each that stands in the file, none for what they would have become.
    assert len(problems) == 9 + 8 * 9


def test_a_list_that_holds_itself_is_refused(tmp_path: Path) -> None:
    assert _problems(tmp_path, "host: &a [*a]") == [
        "echo.yaml:1:7: anchors (&a) are not allowed",
        "echo.yaml:1:11: aliases (*a) are not allowed",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("port: 7\nport: 8\n", "2:1: 'port' stands here twice; the first is in line 1"),
        ("a: 1\n\n'a': 2", "3:1: 'a' stands here twice; the first is in line 1"),
        (
            "server: {output: json, output: quiet}",
            "1:24: 'output' stands here twice; the first is in line 1",
        ),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    assert _problems(tmp_path, text) == [f"echo.yaml:{problem}"]


def test_the_same_key_in_two_sections_is_well(tmp_path: Path) -> None:
    text = "server: {output: json}\nclient: {output: json}\n"
    assert _read(tmp_path, text).problems == []


@pytest.mark.parametrize("key", ["1", "~", "true", "1.5", "[a]", "{a: b}", "? [a, b]\n"])
def test_a_key_that_is_no_word_is_refused(tmp_path: Path, key: str) -> None:
    (problem,) = _problems(tmp_path, f"{key}: 7")
    assert "a key should be a plain word" in problem


@pytest.mark.parametrize("text", ["port: 7\n---\nport: 8\n", "a: 1\n...\n---\n"])
def test_a_second_document_is_refused(tmp_path: Path, text: str) -> None:
    (problem,) = _problems(tmp_path, text)
    assert "a second document begins" in problem


def test_one_document_may_be_marked_as_one(tmp_path: Path) -> None:
    assert _read(tmp_path, "%YAML 1.2\n---\nport: 7\n...\n").values == {"port": 7}


@pytest.mark.parametrize("text", ["- port", "port", "7", "[port, 7]", "'port: 7'", "true"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    assert _problems(tmp_path, text) == [
        "echo.yaml:1:1: the file should be a mapping: 'key: value' lines"
    ]


@pytest.mark.parametrize(
    "text",
    [
        f"a: {'[' * 500}{']' * 500}",
        *(pytest.param(each * 100_000, marks=pytest.mark.slow) for each in ("[", "{", "- ", "? ")),
        "\n".join(" " * depth + "a:" for depth in range(500)),
    ],
    ids=["flow", "open lists", "open mappings", "lists", "keys", "block"],
)
def test_deep_yaml_is_refused_without_following_it(tmp_path: Path, text: str) -> None:
    (problem,) = _problems(tmp_path, text)
    assert problem.endswith("deeper nesting than any config has")


@pytest.mark.slow
def test_nesting_and_number_of_values_are_limited_exactly(tmp_path: Path) -> None:
    def nested(depth: int) -> str:
        return f"a: {'[' * (depth - 1)}x{']' * (depth - 1)}"

    assert _problems(tmp_path, nested(MAX_DEPTH)) == []
    assert "deeper nesting" in _refused(tmp_path, nested(MAX_DEPTH + 1))
    # The file, the key and the list are values as well.
    many = ",".join(["1"] * (MAX_VALUES - 3))
    assert _problems(tmp_path, f"a: [{many}]") == []
    assert "more values" in _refused(tmp_path, f"a: [{many},1]")


@pytest.mark.parametrize(
    ("suffix", "text"),
    [(".yaml", "port: {}"), (".toml", "port = {}"), (".yaml", "a: {}"), (".yaml", "a: [1, {}]")],
)
@pytest.mark.parametrize("number", ["9" * 5000, "-" + "9" * 5000])
def test_a_number_of_5000_digits_is_refused(
    tmp_path: Path, suffix: str, text: str, number: str
) -> None:
    (problem,) = _problems(tmp_path, text.replace("{}", number), suffix)
    assert problem.endswith("a number that is too long")


# TOML.


def test_toml_values_are_read(tmp_path: Path) -> None:
    text = 'port = 7\nserver.output = "json"\n[framing]\ntype = "raw"\n'
    document = _read(tmp_path, text, ".toml")
    assert document.values == {
        "port": 7,
        "server": {"output": "json"},
        "framing": {"type": "raw"},
    }
    # It has no places but the file's.
    assert document.place(("framing", "type")) == document.name


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("port = 7\nhost = localhost\n", 2, "invalid value"),
        ("port: 7\n", 1, "expected '='"),
        ("[server]\n[server]\n", 2, "twice"),
        ("server.output = 'json'\n[server]\nbacklog = 3\n", 2, "twice"),
        ("[server]\noutput.x = 1\noutput.x.y = 2\n", 3, ""),
        ("port = 7\nport = 8\n", 2, "overwrite"),
        ("host = 'a\n'", 1, "character"),
        ("host = 1979-13-01\n", 1, ""),
        ("server = {output = 'json'}\nserver.backlog = 3\n", 2, ""),
    ],
)
def test_toml_that_cannot_be_read_is_told_with_line_and_column(
    tmp_path: Path, text: str, line: int, what: str
) -> None:
    # The reader tells the end of a document without its line.
    (problem,) = _problems(tmp_path, text + "\nz = 1\n", ".toml")
    assert problem.startswith(f"echo.toml:{line}:")
    assert what in problem
    assert "at line" not in problem


@pytest.mark.parametrize(
    "text",
    [
        f"a = {'[' * 500}{']' * 500}",
        f"a = {'{b=' * 500}1{'}' * 500}",
    ],
    ids=["lists", "tables"],
)
def test_deep_toml_is_refused(tmp_path: Path, text: str) -> None:
    assert _problems(tmp_path, text, ".toml") == ["echo.toml: is nested too deeply"]


# What errors say.


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".yaml", "host: :: {}"),
        (".yaml", "host: &{} x"),
        (".yaml", "host: *{}"),
        (".yaml", "host: !{} x"),
        (".yaml", "host: !<{}> x"),
        (".yaml", "host: !{}!x y"),
        (".yaml", "%TAG !a! {}\n---\nhost: !a!x y"),
        (".yaml", "? {}\n: 1\n? {}\n: 2\n"),
        (".yaml", "host: '{}"),
        (".yaml", 'host: "\\x{}"'),
        (".toml", "[{}]\n[{}]\n"),
        (".toml", "{}.a = 1\n[{}]\nb = 1\n"),
        (".toml", "{} 1"),
        (".toml", "a = '{}"),
    ],
)
def test_no_error_repeats_a_long_input(tmp_path: Path, suffix: str, text: str) -> None:
    for problem in _problems(tmp_path, text.replace("{}", "x" * 20_000), suffix):
        assert len(problem) < 1000


@pytest.mark.parametrize(
    ("suffix", "text"),
    [(".yaml", '? "a\\nb"\n: 1\n? "a\\nb"\n: 2\n'), (".toml", '["a\\nb"]\n["a\\nb"]\n')],
)
def test_each_problem_is_one_line(tmp_path: Path, suffix: str, text: str) -> None:
    (problem,) = _problems(tmp_path, text, suffix)
    assert "\n" not in problem


def test_a_directive_over_which_the_parser_trips_is_the_files_fault(tmp_path: Path) -> None:
    file = tmp_path / "old.yaml"
    file.write_bytes(b"%YAML 1.0\n-r--otp:\n 0o17~hs:to yes\n")
    with pytest.raises(ConfigError, match=r"old\.yaml: is not YAML that can be read here"):
        read_document(file)


def test_a_dotted_key_inside_a_value_is_bounded_too(tmp_path: Path) -> None:
    file = tmp_path / "deep.toml"
    file.write_text("a = {" + ".".join(["a"] * 120_000) + " = 1}")
    with pytest.raises(ConfigError, match="nested too deeply"):
        read_document(file)
