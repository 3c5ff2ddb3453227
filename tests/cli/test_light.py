"""What a command imports: what it needs, as most of a short run is the imports."""

import json
import sys

import pytest

from echokit import EchoServer
from tests.cli.processes import start
from tests.conftest import AVAILABLE

HOST = next(iter(AVAILABLE.values()))
# Runs the command that follows, and tells the modules that there are then, and whether garbage is
# collected, in the last line of stderr.
TELLING = """
import gc, importlib.metadata, json, sys
from echokit.cli import main

def refuse(**_):
    raise AssertionError("the metadata of every distribution is read")

importlib.metadata.entry_points = refuse
try:
    main()
finally:
    print(json.dumps([sorted(sys.modules), gc.isenabled()]), file=sys.stderr)
"""
# What only other commands, other kinds of output or other settings need.
HEAVY = (
    "asyncio", "hdrh", "hypothesis", "jinja2", "logging", "multiprocessing", "plotly", "pytest",
    "rich", "ruamel", "tomllib",
    "echokit.loadgen", "echokit.server", "echokit.testing", "echokit.worker",
    "echokit.worker_process", "echokit.workers",
    "echokit.net.accept", "echokit.net.admission", "echokit.net.listen",
    "echokit.observe.counters",
)  # fmt: skip


def _told(*args: str) -> tuple[set[str], bool]:
    """The modules after a command that went well, and whether garbage is collected."""
    done = start(*args, command=[sys.executable, "-c", TELLING])
    assert done.code == 0, done.err
    modules, collecting = json.loads(done.err.splitlines()[-1])
    return set(modules), collecting


def _within(modules: set[str], packages: tuple[str, ...]) -> set[str]:
    return {name for name in modules if name.startswith(tuple(f"{each}." for each in packages))} | (
        modules & set(packages)
    )


@pytest.mark.parametrize("output", ["transcript", "json", "raw", "quiet"])
def test_send_imports_nothing_that_it_does_not_need(echo_server: EchoServer, output: str) -> None:
    modules, collecting = _told(
        "send", "--host", HOST, "--port", str(echo_server.port), "--output", output, "hello"
    )
    assert not _within(modules, HEAVY)
    assert ("echokit.observe.json_lines" in modules) == (output == "json")
    assert ("echokit.observe.transcript" in modules) == (output == "transcript")
    assert collecting


def test_send_imports_its_own_framing_only(framed_server: EchoServer, framing: str) -> None:
    options = ("--framing", framing, "--port", str(framed_server.port))
    modules, _ = _told("send", "--host", HOST, *options, "hello")
    found = {"echokit.framing.length_prefixed", "echokit.framing.delimited"} & modules
    assert found == ({f"echokit.framing.{framing.replace('-', '_')}"} - {"echokit.framing.raw"})


@pytest.mark.parametrize(
    ("args", "own"),
    [
        (("--version",), set()),
        (("send", "--help"), {"send", "options", "settings", "payload"}),
        (("serve", "--help"), {"serve", "options", "settings"}),
        (("merge", "--help"), {"compare"}),
        (("config", "schema"), {"config", "options", "settings"}),
    ],
)
def test_a_command_imports_no_other(args: tuple[str, ...], own: set[str]) -> None:
    modules, _ = _told(*args)
    commands = {name.removeprefix("echokit.cli.") for name in _within(modules, ("echokit.cli",))}
    assert commands == {"echokit.cli", "app", "ending"} | own
