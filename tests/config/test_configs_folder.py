"""The files of `configs/`: each can be used as it is, and an editor knows what it is."""

import socket
from pathlib import Path

import pytest

from echokit.config import Config, load
from echokit.framing.length_prefixed import LengthPrefixed
from tests.conftest import ROOT

FOLDER = ROOT / "configs"
FILES = sorted(FOLDER.iterdir())

every_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)


def test_the_files_that_the_documents_name_are_there() -> None:
    names = {file.name for file in FILES}
    assert names >= {"classic.yaml", "dual-stack.toml", "length-prefixed.yaml", "throughput.toml"}


@every_file
def test_each_file_loads_and_is_not_just_the_defaults(file: Path) -> None:
    assert load(file) != Config()


@every_file
def test_each_file_names_the_schema_where_editors_look_for_it(file: Path) -> None:
    first = file.read_text().splitlines()[0]
    comment = {".yaml": "# yaml-language-server: $schema=", ".toml": "#:schema "}[file.suffix]
    assert first.startswith(comment)
    assert (FOLDER / first.removeprefix(comment)).resolve() == ROOT / "echokit/config.schema.json"


def test_classic_is_the_exercise() -> None:
    config = load(FOLDER / "classic.yaml")
    assert config == Config(family="AF_INET")
    assert config.address_family is socket.AF_INET


def test_dual_stack_is_every_address_of_both_families_on_one_port() -> None:
    config = load(FOLDER / "dual-stack.toml")
    assert (config.host, config.family) == ("*", "AF_UNSPEC")
    assert config.port != 0


def test_length_prefixed_says_how() -> None:
    framing = load(FOLDER / "length-prefixed.yaml").framing
    assert framing == LengthPrefixed(prefix_bytes=4, byte_order="big", max_message=16 << 20)


def test_throughput_reads_much_and_tells_nothing() -> None:
    config = load(FOLDER / "throughput.toml")
    assert config.chunk_size == 256 << 10
    assert (config.server.output, config.client.output) == ("quiet", "quiet")
