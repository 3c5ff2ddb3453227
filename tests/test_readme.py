"""The README's Python is run as it stands there.

The framing that it shows is `tests/plugin_example/`: see `test_plugin_example`.
"""

import re

import pytest

from tests.conftest import AVAILABLE, FAMILIES, ROOT

BLOCKS = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
)


def test_the_library_example_runs() -> None:
    found = [block for block in BLOCKS if "EchoServer" in block]
    assert len(found) == 1
    if FAMILIES["ipv6"][0] not in AVAILABLE:
        pytest.skip("this host has no ::1")
    exec(found[0], {})  # noqa: S102 - it is the example that is under test
