"""Variables, help, version and completion: what stands around the commands."""

import itertools
import json
import re
import sys
import tomllib
from pathlib import Path

import pytest

import echokit
from tests.cli.processes import DEADLINE, Done, Running, run, start

SHARED = "CONFIG HOST PORT FAMILY CHUNK_SIZE FRAMING SEGMENT SEGMENT_DELAY SEED"
LIMITS = (
    "DRAIN_TIMEOUT MAX_CONNECTIONS MAX_CONNECTIONS_PER_PEER IDLE_TIMEOUT MESSAGE_TIMEOUT"
    " SEND_TIMEOUT MAX_LIFETIME ALLOW DENY"
)
COMMANDS = {
    "serve": f"{SHARED} OUTPUT BACKLOG WORKERS {LIMITS}",
    "send": f"{SHARED} OUTPUT CONNECT_TIMEOUT TIMEOUT",
    "load": "CONFIG CONNECTIONS DURATION SIZE RATE IN_FLIGHT FRAMING WARMUP SEED CHUNK_SIZE"
    " CONNECT_TIMEOUT TIMEOUT OBJECTIVE",
    "compare": "",
    "merge": "",
    "demo": "",
    "framings": "",
    "config": "",
    "config check": "",
    "config show": f"{SHARED} BACKLOG WORKERS {LIMITS} CONNECT_TIMEOUT TIMEOUT",
    "config schema": "",
    "": "DEBUG",
}
NARROW = {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "40"}


@pytest.fixture(scope="module")
def helps() -> dict[str, Done]:
    """The help of each command."""
    done = [run(*command.split(), "--help") for command in COMMANDS]
    return dict(zip(COMMANDS, done, strict=True))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_names_its_variables(command: str, helps: dict[str, Done]) -> None:
    done = helps[command]
    assert (done.code, done.err) == (0, b"")
    named = set(re.findall(r"ECHOKIT_[A-Z_]+", done.out.decode()))
    assert named == {f"ECHOKIT_{name}" for name in COMMANDS[command].split()}
    assert f"Usage: {' '.join(['echokit', *command.split()])} " in done.out.decode()


@pytest.mark.parametrize("command", ["serve", "send", "load", "compare", "merge", "report"])
def test_the_words_of_a_command_fill_the_lines_of_the_terminal(command: str) -> None:
    done = run(command, "--help", env={"NO_COLOR": "1", "COLUMNS": "80"})
    # Between the usage and the first box.
    lines = [line.strip() for line in done.lines[3:]]
    words = lines[: next(i for i, line in enumerate(lines) if line.startswith("╭"))]
    wrapped = [(one, next_) for one, next_ in itertools.pairwise(words) if one and next_]
    assert wrapped
    for one, next_ in wrapped:
        assert len(one) + 1 + len(next_.split()[0]) > 78, one


def test_help_fits_a_narrow_terminal_without_colours() -> None:
    for command in ("", "send"):
        done = run(*command.split(), "-h", env=NARROW)
        assert (done.code, done.err) == (0, b"")
        assert b"\x1b" not in done.out
        assert max(len(line) for line in done.lines) <= 40


def test_the_module_and_the_command_are_one() -> None:
    script = Path(sys.executable).with_name("echokit")
    if not script.exists():
        pytest.skip("the command is not installed beside this Python")
    expected = Done(0, f"echokit {echokit.__version__}\n".encode(), b"")
    assert start("--version") == start("--version", command=[str(script)]) == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_of_a_shell_completes_commands_and_framings(shell: str) -> None:
    script = run(env={"_ECHOKIT_COMPLETE": f"source_{shell}"})
    assert script.code == 0
    assert f"_ECHOKIT_COMPLETE=complete_{shell}" in script.out.decode()
    asked = {
        "se": ["serve", "send"],
        "serve --framing le": ["length-prefixed"],
        "config sch": ["schema"],
    }
    for words, expected in asked.items():
        line = f"echokit {words}"
        variables = {
            "_ECHOKIT_COMPLETE": f"complete_{shell}",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split()) - 1),
            "_TYPER_COMPLETE_ARGS": line,
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        }
        offered = run(env=variables).out.decode()
        assert all(re.search(rf"\b{word}\b", offered) for word in expected)
        assert "demo" not in offered


def test_flags_go_over_variables_and_variables_over_the_file(tmp_path: Path) -> None:
    config = tmp_path / "some.toml"
    config.write_text('host = "a.file"\nport = 1\nchunk_size = 1\n')
    variables = {"ECHOKIT_CONFIG": str(config), "ECHOKIT_PORT": "2", "ECHOKIT_CHUNK_SIZE": "2"}
    done = run("config", "show", "--json", "--chunk-size", "3", env=variables)
    found = json.loads(done.out)
    assert {
        key: tuple(found[key].values()) for key in ("host", "port", "chunk_size", "family")
    } == {
        "host": ("a.file", str(config)),
        "port": (2, "ECHOKIT_PORT"),
        "chunk_size": (3, "--chunk-size"),
        "family": ("AF_UNSPEC", "default"),
    }


def test_a_forced_family_goes_over_its_variable() -> None:
    done = run("config", "show", "--json", "-6", env={"ECHOKIT_FAMILY": "AF_INET"})
    assert json.loads(done.out)["family"] == {"value": "AF_INET6", "from": "-6"}


WRONG = {
    "ECHOKIT_HOST": "a..b",
    "ECHOKIT_PORT": "65536",
    "ECHOKIT_FAMILY": "ipv5",
    "ECHOKIT_CHUNK_SIZE": "0",
    "ECHOKIT_FRAMING": "rwa",
    "ECHOKIT_SEGMENT": "0",
    "ECHOKIT_SEGMENT_DELAY": "soon",
    "ECHOKIT_SEED": "seven",
    "ECHOKIT_OUTPUT": "loud",
}


@pytest.mark.parametrize(
    ("command", "more"),
    [
        (("serve",), {"ECHOKIT_BACKLOG": "0", "ECHOKIT_DRAIN_TIMEOUT": "-1s"}),
        (("send", "x"), {"ECHOKIT_TIMEOUT": "soon", "ECHOKIT_CONNECT_TIMEOUT": "0s"}),
    ],
    ids=["serve", "send"],
)
def test_what_is_wrong_with_a_variable_names_it(
    command: tuple[str, ...], more: dict[str, str]
) -> None:
    variables = WRONG | more
    done = run(*command, env=variables)
    assert (done.code, done.out) == (2, b"")
    told = [line.split(": ")[:2] for line in done.err.decode().splitlines()]
    assert sorted(told) == sorted(["echokit", name] for name in variables)


def test_a_config_named_by_the_variable_and_not_there_names_the_variable() -> None:
    done = run("serve", env={"ECHOKIT_CONFIG": "/no/such.yaml"})
    assert done.code == 2
    assert "ECHOKIT_CONFIG" in done.complaint
    assert "/no/such.yaml" in done.complaint


@pytest.mark.parametrize(("value", "shown"), [("1", True), ("0", False), ("", False)])
def test_tracebacks_are_shown_only_where_they_are_asked_for(value: str, shown: bool) -> None:
    with Running("send", "--port", "0", "x", env={"ECHOKIT_DEBUG": value}) as sending:
        told = sending.err.pipe.read()
        assert sending.process.wait(DEADLINE) == 2
    assert (b"Traceback" in told) == shown
    assert told.splitlines()[-1].startswith(b"echokit: port 0 means")


def test_the_version_is_the_projects() -> None:
    project = tomllib.loads((Path(echokit.__file__).parents[1] / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", echokit.__version__)
