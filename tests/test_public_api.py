"""The public names: what stands in `__all__` is what there is, and stays cheap to import."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import echokit
from echokit.config import Config
from tests.conftest import ROOT


def _type_checked_names() -> set[str]:
    """What type checkers are told that the package hands out."""
    tree = ast.parse((ROOT / "echokit" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {alias.name for node in ast.walk(block) if isinstance(node, ast.ImportFrom)
            for alias in node.names}  # fmt: skip


def test_all_has_not_drifted() -> None:
    assert set(echokit.__all__) == _type_checked_names() | {"__version__"}


@pytest.mark.parametrize("name", echokit.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(echokit, name)
    assert isinstance(value, str) or value.__doc__


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'EchoServre'"):
        getattr(echokit, "EchoServre")  # noqa: B009 - type checkers know that it is not there


def test_no_module_of_the_package_has_a_public_name() -> None:
    # Imported, it would stand in the place of what the name hands out.
    modules = {path.stem for path in (ROOT / "echokit").iterdir()}
    assert not modules & set(echokit.__all__)


@pytest.mark.parametrize("path", sorted((ROOT / "echokit").rglob("*.py")), ids=str)
def test_every_module_says_what_it_hands_out(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    defined = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert "__all__" in defined or not any(
        isinstance(node, ast.FunctionDef | ast.ClassDef) for node in tree.body
    )


@pytest.mark.parametrize(
    ("code", "light_of"),
    [
        ("import echokit", ("pydantic", "ruamel", "typer", "socket")),
        (
            "import sys; sys.argv = ['echokit', '--version']; from echokit.cli import main\n"
            "try: main()\nexcept SystemExit: pass",
            ("pydantic", "ruamel", "rich"),
        ),
    ],
)
def test_what_is_light_imports_nothing_heavy(code: str, light_of: tuple[str, ...]) -> None:
    code += f"\nimport sys; print([name for name in {light_of!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_schema_in_the_tree_is_the_models() -> None:
    tree = json.loads((ROOT / "echokit" / "config.schema.json").read_text())
    tree.pop("$schema")
    assert tree == Config.model_json_schema()
