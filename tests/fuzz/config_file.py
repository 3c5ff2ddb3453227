"""The config loader, under files that a fuzzer makes, as YAML and as TOML.

What must hold, whatever the file is: a Config or a ConfigError, never another error, and soon. The
problems each name the file and are one short line; the config keeps its own rules, says the same
when it is read again, and is the same when its own values are.
"""

import tempfile
import time
from pathlib import Path

from echokit.config import Config, from_values, load_with_origins
from echokit.errors import ConfigError

__all__ = ["toml", "yaml"]

# CPU seconds for a file of some KiB, also where coverage is recorded.
SOON = 3.0
_SHORT = 420


def yaml(data: bytes) -> None:
    """Check a YAML file."""
    _check(data, ".yaml")


def toml(data: bytes) -> None:
    """Check a TOML file."""
    _check(data, ".toml")


def _check(data: bytes, suffix: str) -> None:
    """Load a file of `data`.

    Raises:
        AssertionError: One of the things that must hold does not.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"echo{suffix}")
        file.write_bytes(data)
        began = time.process_time()
        try:
            config, origins = load_with_origins(file)
        except ConfigError as error:
            _are_told(file, error)
        else:
            _is_a_config(config)
            assert all(origin.startswith(str(file)) for origin in origins.values())
            assert load_with_origins(file) == (config, origins)
        took = time.process_time() - began
    assert took < SOON, f"{len(data)} bytes took {took:.1f}s"


def _are_told(file: Path, error: ConfigError) -> None:
    assert error.problems
    for problem in error.problems:
        assert problem.startswith(str(file)), problem
        assert "\n" not in problem, problem
        assert len(problem) <= _SHORT, f"a line of {len(problem)} characters"


def _is_a_config(config: Config) -> None:
    assert from_values(config.model_dump()) == config
    # What is made of it when it is used.
    assert config.address_family.name == config.family
    if config.segment is not None:
        assert config.segmentation is not None
