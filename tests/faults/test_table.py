"""The table of faults has every row, and what it names is there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

TABLE = Path(__file__).with_name("README.md")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TABLE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| F")
]


@cache
def _tests(file: str) -> set[str]:
    """The tests that pytest collects from a file: functions of the module, by their names."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    found = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, found)}


def test_every_fault_has_its_row() -> None:
    assert [row[0] for row in ROWS] == [f"F{number}" for number in range(1, 49)]
    assert all(len(row) == 3 for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_names_tests_that_are_there_or_says_why_there_are_none(row: list[str]) -> None:
    _, fault, where = row
    assert fault
    named = re.findall(r"`([^`]+)`", where)
    assert named or where.startswith("not here yet: ")
    for name in named:
        file, _, test = name.partition("::")
        assert test.startswith("test_")
        assert test in _tests(file), f"{file} has no {test}"
