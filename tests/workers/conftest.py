"""Servers here are forks: see `tests.cli.forks`."""

import pytest


@pytest.fixture(autouse=True)
def _forks(forked: None) -> None:
    pass
