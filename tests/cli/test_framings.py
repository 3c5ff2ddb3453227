"""`echokit framings`: what is built in, and what plugins bring."""

import json
from pathlib import Path

import pytest

from tests.cli.processes import Done, run, start

BUILT_IN = {
    "raw": {},
    "length-prefixed": {
        "prefix_bytes": ("1 | 2 | 4 | 8", 4),
        "byte_order": ("big | little", "big"),
        "max_message": ("whole number, 0 to 1099511627776", 16 << 20),
    },
    "delimited": {
        "delimiter": ("text", "\n"),
        "max_message": ("whole number, 0 to 1099511627776", 16 << 20),
    },
}


def _run(*args: str, path: Path | None = None) -> Done:
    # Plugins are looked for where Python was told to look when it started.
    return run(*args) if path is None else start(*args, env={"PYTHONPATH": str(path)})


def _install(folder: Path, name: str, code: str, *, distribution: str = "fancy-echo") -> None:
    """Put a distribution with the framing `name` on a path; its module holds `code`."""
    module = distribution.replace("-", "_")
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(f"[echokit.framings]\n{name} = {module}:Fancy\n")


PLUGIN = """\
from typing import Literal
from pydantic import Field
from echokit.framing.raw import Raw

class Fancy(Raw):
    '''Fancier than raw.

    Much.
    '''
    type: Literal["fancy"] = "fancy"
    colour: str = Field("red", description="Which colour.")
    maybe: int | None = Field(None, description="Nothing, where nothing is said.")
    mark: bytes = Field(b"!", description="What JSON has no word for.")
    must: int = Field(description="Has no default.")
"""


def test_the_built_in_ones_stand_with_their_options_and_defaults() -> None:
    done = _run("framings")
    assert (done.code, done.err) == (0, b"")
    text = done.out.decode()
    for name, options in BUILT_IN.items():
        assert f"\n{name}  (built in)\n" in f"\n{text}"
        for option, (values, default) in options.items():
            assert f"    {option}: {values}; default {default!r}\n        " in text


def test_one_that_cannot_be_described_hides_no_other(tmp_path: Path) -> None:
    code = PLUGIN.replace('Field("red", ', 'Field("red", alias="color", ')
    _install(tmp_path, "fancy", code)
    done = _run("framings", path=tmp_path)
    assert done.code == 2
    assert "delimited  (built in)" in done.out.decode()
    assert done.complaint == (
        "framing 'fancy' of fancy-echo 1.5 cannot be used: KeyError: 'colour'"
    )


def test_options_of_any_kind_are_shown_as_a_file_that_says_the_same(tmp_path: Path) -> None:
    code = """\
from typing import Literal
from echokit.framing.raw import Raw

class Fancy(Raw):
    type: Literal["fancy"] = "fancy"
    ratio: float = 0.5
    steps: list[int] = [1, 2]
    names: dict[str, int] = {"a": 1}
"""
    _install(tmp_path, "fancy", code)
    shown = _run("config", "show", "--framing", "fancy", path=tmp_path)
    assert (shown.code, shown.err) == (0, b"")
    saved = tmp_path / "saved.yaml"
    saved.write_bytes(shown.out)
    again = _run("config", "show", "--json", "--config", str(saved), path=tmp_path)
    assert (again.code, again.err) == (0, b"")
    values = {key: found["value"] for key, found in json.loads(again.out).items()}
    options = ("framing.ratio", "framing.steps", "framing.names")
    assert [values[option] for option in options] == [0.5, [1, 2], {"a": 1}]


def test_what_json_has_no_word_for_is_shown_as_python_has_it(tmp_path: Path) -> None:
    code = PLUGIN.replace("must: int = Field(", "must: int = Field(1, ")
    _install(tmp_path, "fancy", code)
    done = _run("config", "show", "--json", "--framing", "fancy", path=tmp_path)
    assert (done.code, done.err) == (0, b"")
    assert json.loads(done.out)["framing.mark"]["value"] == "b'!'"


def test_the_same_as_json() -> None:
    done = _run("framings", "--json")
    assert (done.code, done.err) == (0, b"")
    document = json.loads(done.out)
    assert document["broken"] == []
    found = {framing["name"]: framing for framing in document["framings"]}
    assert list(found) == list(BUILT_IN)
    for name, options in BUILT_IN.items():
        assert found[name]["from"] == "built in"
        assert found[name]["summary"]
        told = {
            option["name"]: (option["values"], option["default"])
            for option in found[name]["options"]
        }
        assert told == options
        assert all(option["description"] for option in found[name]["options"])


def test_a_plugin_stands_with_its_distribution(tmp_path: Path) -> None:
    _install(tmp_path, "fancy", PLUGIN)
    done = _run("framings", path=tmp_path)
    assert (done.code, done.err) == (0, b"")
    text = done.out.decode()
    assert "\nfancy  (fancy-echo 1.5)\n    Fancier than raw.\n    colour: text;" in text
    assert "colour: text; default 'red'\n        Which colour.\n" in text
    assert "\n    must: whole number; required\n" in text
    assert "\n    maybe: whole number; default None\n" in text


def test_a_plugin_stands_in_the_json_too(tmp_path: Path) -> None:
    _install(tmp_path, "fancy", PLUGIN)
    done = _run("framings", "--json", path=tmp_path)
    assert (done.code, done.err) == (0, b"")
    assert json.loads(done.out)["framings"][-1]["from"] == "fancy-echo 1.5"


# A module's code, and what is told of it.
BROKEN = {
    "does not import": ("import nothing_called_so\n", "ModuleNotFoundError: No module named"),
    "raises": ("raise OSError('two\\n lines')\n", "OSError: two lines"),
    "lacks its class": ("", "AttributeError: "),
    "has something else": ("Fancy = 7\n", "other4:Fancy is no subclass of echokit.Framing"),
    "has another type": (
        "from echokit.framing.raw import Raw as Fancy\n",
        "other5:Fancy does not have the type 'fancy5' as its default",
    ),
}


@pytest.fixture
def broken(tmp_path: Path) -> tuple[Path, list[str]]:
    """A path with every kind of broken plugin on it, and how the line about each begins."""
    told = []
    for number, (code, cause) in enumerate(BROKEN.values(), 1):
        _install(tmp_path, f"fancy{number}", code, distribution=f"other{number}")
        told.append(f"framing 'fancy{number}' of other{number} 1.5 cannot be used: {cause}")
    return tmp_path, told


def test_each_broken_plugin_is_named_with_its_distribution_and_the_cause(
    broken: tuple[Path, list[str]],
) -> None:
    path, told = broken
    done = _run("framings", "--json", path=path)
    assert done.code == 2
    lines = [line.removeprefix("echokit: ") for line in done.err.decode().splitlines()]
    assert len(lines) == len(told)
    for line, beginning in zip(lines, told, strict=True):
        assert line.startswith(beginning)
    document = json.loads(done.out)
    assert document["broken"] == lines
    # What works is listed all the same.
    assert [framing["name"] for framing in document["framings"]] == list(BUILT_IN)


def test_a_broken_plugin_is_told_to_who_uses_it_and_costs_nobody_else_anything(
    broken: tuple[Path, list[str]],
) -> None:
    path, told = broken
    used = _run("serve", "--framing", "fancy1", path=path)
    assert (used.code, used.out) == (2, b"")
    assert used.complaint.startswith(f"--framing: {told[0]}")
    other = _run("config", "show", "--framing", "delimited", path=path)
    assert (other.code, other.err) == (0, b"")


def test_a_name_that_two_distributions_bring_is_refused_with_both(tmp_path: Path) -> None:
    _install(tmp_path, "fancy", PLUGIN)
    _install(tmp_path, "fancy", PLUGIN, distribution="other-echo")
    done = _run("serve", "--framing", "fancy", path=tmp_path)
    assert (done.code, done.out) == (2, b"")
    assert "more than one distribution: fancy-echo 1.5, other-echo 1.5" in done.complaint
