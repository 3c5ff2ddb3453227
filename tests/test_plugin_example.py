"""The framing of `plugin_example`: the README shows it, it keeps the contract, it installs."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from signal import Signals

import pytest

from echokit import Framing, FramingError, IncompleteMessage, MessageTooLarge
from echokit.testing import check_framing
from tests.cli.processes import Running, start
from tests.conftest import AVAILABLE, ROOT
from tests.framing.decoding import decoded, failure

EXAMPLE = ROOT / "tests" / "plugin_example"
MODULE = EXAMPLE / "echokit_varint" / "__init__.py"
SECTION = (ROOT / "README.md").read_text().partition("\n## Writing a framing\n")[2]
BLOCKS = re.findall(
    r"^```(\w+)\n(.*?)^```", SECTION.partition("\n## ")[0], re.MULTILINE | re.DOTALL
)
CODE, TESTS = (text for language, text in BLOCKS if language == "python")


@pytest.fixture(scope="module")
def kind() -> type[Framing]:
    """The example's framing, from its file: nothing has to be installed for it."""
    spec = importlib.util.spec_from_file_location("echokit_varint", MODULE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.VarintPrefixed
    assert isinstance(found, type)
    assert issubclass(found, Framing)
    return found


def test_the_readme_shows_the_example_as_it_is() -> None:
    assert MODULE.read_text() == CODE
    [entry_point] = (text for language, text in BLOCKS if language == "toml")
    assert entry_point in (EXAMPLE / "pyproject.toml").read_text()
    assert "tests/plugin_example/" in SECTION


@pytest.mark.parametrize("limit", [0, 128, 1 << 40])
@pytest.mark.parametrize("examples", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_it_keeps_the_contract(kind: type[Framing], limit: int, examples: int) -> None:
    check_framing(kind.model_validate({"max_message": limit}), max_examples=examples)


# As the protobuf guide has them: 150 is 9601, and 300 is ac02.
@pytest.mark.parametrize(
    ("size", "header"),
    [
        (0, "00"),
        (1, "01"),
        (127, "7f"),
        (128, "8001"),
        (150, "9601"),
        (300, "ac02"),
        (16_383, "ff7f"),
        (16_384, "808001"),
    ],
)
def test_a_length_is_the_varint_that_protobuf_writes(
    kind: type[Framing], size: int, header: str
) -> None:
    framing = kind.model_validate({})
    wire = bytes.fromhex(header) + b"x" * size
    assert framing.encode(b"x" * size) == wire
    assert decoded(framing.decoder(), [wire]) == ([b"x" * size], None)


def test_errors_have_their_numbers(kind: type[Framing]) -> None:
    framing = kind.model_validate({"max_message": 299})
    too_large = failure(MessageTooLarge, framing.decoder(), b"\xac\x02")
    assert (too_large.size, too_large.limit) == (300, 299)
    for wire, received, expected in (
        (b"\x96", 1, None),
        (b"\x96\x01", 0, 150),
        (b"\x00\x05abc", 3, 5),
    ):
        cut = failure(IncompleteMessage, framing.decoder(), wire)
        assert (cut.received, cut.expected) == (received, expected)
    endless = failure(FramingError, framing.decoder(), b"\x80" * 10)
    assert str(endless) == "a varint has more than 10 bytes"
    # Leading zeros are wasteful, and no error.
    assert decoded(framing.decoder(), [b"\x81" + b"\x80" * 8 + b"\x00x"]) == ([b"x"], None)


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of a fresh environment that has the project and the example from their files."""
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    scripts = folder / "bin"
    _run(scripts / "python", "-m", "pip", "install", "--quiet", f"{ROOT}[testing]", EXAMPLE)
    return scripts


def _run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


slow = pytest.mark.slow
while_it_installs = pytest.mark.timeout(300)


@slow
@while_it_installs
def test_installed_it_is_listed_with_its_distribution(scripts: Path) -> None:
    done = start("framings", command=[str(scripts / "echokit")])
    assert (done.code, done.err) == (0, b"")
    text = done.out.decode()
    assert "\nvarint  (echokit-varint 1.0.0)\n    Each message behind its length" in text
    assert "    max_message: whole number; default 1048576\n" in text


@slow
@while_it_installs
def test_installed_a_config_file_has_it_for_serve_and_send(
    scripts: Path, host: str, tmp_path: Path
) -> None:
    config = tmp_path / "varint.yaml"
    config.write_text(
        f"host: '{host}'\nport: 0\nsegment: [1, 3]\nframing:\n  type: varint\n  max_message: 300\n"
    )
    command = [str(scripts / "echokit")]
    args = ("--config", str(config))
    with Running("serve", *args, command=command) as server:
        port = str(server.port())
        for message in ("", "hello", "x" * 300):
            sent = start("send", *args, "--port", port, "--output", "raw", message, command=command)
            assert (sent.code, sent.out, sent.err) == (0, message.encode(), b"")
        refused = start("send", *args, "--port", port, "x" * 301, command=command)
        assert refused.code == 2
        assert "301 bytes is over the limit of 300" in refused.complaint
        done = server.end(Signals.SIGTERM)
    assert (done.code, done.told) == (0, [])
    assert 'received "hello"' in done.lines


@slow
@while_it_installs
def test_installed_the_tests_of_the_readme_pass(scripts: Path, tmp_path: Path) -> None:
    tests = tmp_path / "test_varint.py"
    tests.write_text(TESTS)
    args = ("-W", "error", "-q", "--strict-markers", "-p", "no:cacheprovider")
    out = _run(scripts / "python", "-m", "pytest", *args, tests, cwd=tmp_path)
    assert f"{4 + len(AVAILABLE)} passed" in out
