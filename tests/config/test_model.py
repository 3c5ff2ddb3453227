"""The model: defaults, ranges and types of every field, and that a dump of it is a config."""

import json
import socket
from typing import Any

import pytest
from hypothesis import given
from pydantic import BaseModel, ValidationError

from echokit.config import ClientSettings, Config, Limits, ServerSettings, load
from echokit.framing.delimited import Delimited
from echokit.framing.length_prefixed import LengthPrefixed
from echokit.framing.raw import Raw
from tests.config.trees import as_toml, as_yaml, configs

FIELDS: list[tuple[str, ...]] = [
    ("host",),
    ("port",),
    ("family",),
    ("chunk_size",),
    ("framing",),
    ("segment",),
    ("segment_delay",),
    ("seed",),
    ("server",),
    ("client",),
    ("server", "output"),
    ("server", "backlog"),
    ("server", "workers"),
    ("server", "limits"),
    ("client", "output"),
    ("client", "connect_timeout"),
    ("client", "timeout"),
    *[("server", "limits", name) for name in Limits.model_fields],
]
# One of every kind that a file can hold; what a field takes is left out where it is tested.
WRONG: dict[str, Any] = {
    "nothing": None,
    "boolean": True,
    "whole number": 10**9,
    "real number": 1.5e9,
    "text": "walrus?!",
    "list": [1],
    "mapping": {"walrus": 1},
    "not a number": float("nan"),
    "infinity": float("inf"),
}
TAKEN: dict[tuple[str, ...], tuple[str, ...]] = {
    ("segment",): ("nothing", "list"),
    ("seed",): ("nothing", "whole number"),
    ("server", "limits", "max_message"): ("nothing", "whole number"),
    ("server", "limits", "send_buffer"): ("whole number",),
    ("server", "limits", "receive_buffer"): ("whole number",),
}


def _tree(key: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A config with `value` at `key`."""
    for name in reversed(key):
        value = {name: value}
    found: dict[str, Any] = value
    return found


def _at(config: Any, key: tuple[str, ...]) -> Any:
    for name in key:
        config = getattr(config, name)
    return config


def _problems(error: ValidationError) -> list[Any]:
    """What is wrong, without the defaults that depend on it and so could not be made."""
    return [each for each in error.errors() if each["type"] != "default_factory_not_called"]


def test_the_defaults_are_the_exercise() -> None:
    config = Config()
    assert (config.host, config.port) == ("localhost", 10000)
    assert (config.family, config.address_family) == ("AF_UNSPEC", socket.AF_UNSPEC)
    assert config.chunk_size == 16
    assert config.framing == Raw()
    assert (config.segment, config.segment_delay, config.seed) == (None, 0.0, None)
    assert config.segmentation is None
    assert config.server == ServerSettings(output="transcript", backlog=4096, limits=Limits())
    assert config.client == ClientSettings(output="transcript", connect_timeout=5.0, timeout=30.0)


def test_every_field_is_listed_here() -> None:
    sections: dict[str, type[BaseModel]] = {"server": ServerSettings, "client": ClientSettings}
    fields = [(name,) for name in Config.model_fields]
    assert [
        *fields,
        *((section, name) for section, model in sections.items() for name in model.model_fields),
        *(("server", "limits", name) for name in Limits.model_fields),
    ] == FIELDS


@pytest.mark.parametrize(
    ("key", "kind"),
    [(key, kind) for key in FIELDS for kind in WRONG if kind not in TAKEN.get(key, ())],
    ids=lambda part: part if isinstance(part, str) else ".".join(part),
)
def test_a_value_of_another_kind_is_refused_at_its_key(key: tuple[str, ...], kind: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Config.model_validate(_tree(key, WRONG[kind]))
    (problem,) = _problems(caught.value)
    # A mapping with an unknown key is told at that key, and an item of a list at its index.
    assert problem["loc"][: len(key)] == key


@pytest.mark.parametrize(
    ("key", "least", "most", "step"),
    [
        (("port",), 0, 65535, 1),
        (("chunk_size",), 1, 16 << 20, 1),
        (("segment_delay",), 0, 3600, 0.0001),
        (("server", "backlog"), 1, 65535, 1),
        (("server", "limits", "drain_timeout"), 0, 86400, 0.0001),
        (("client", "connect_timeout"), 0.001, 86400, 0.0001),
        (("client", "timeout"), 0.001, 86400, 0.0001),
    ],
)
def test_a_range_holds_both_its_ends_and_nothing_outside(
    key: tuple[str, ...], least: float, most: float, step: float
) -> None:
    for value in (least, most):
        assert _at(Config.model_validate(_tree(key, value)), key) == value
    for value, words in ((least - step, "greater than or equal"), (most + step, "less than or")):
        with pytest.raises(ValidationError) as caught:
            Config.model_validate(_tree(key, value))
        (problem,) = _problems(caught.value)
        assert problem["loc"] == key
        assert words in problem["msg"]


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        (("chunk_size",), "1", 1),
        (("chunk_size",), "64k", 65536),
        (("chunk_size",), "16MiB", 16 << 20),
        (("segment_delay",), "1ms", 0.001),
        (("server", "limits", "drain_timeout"), "0s", 0),
        (("client", "timeout"), "1m30s", 90),
        (("client", "connect_timeout"), "1ms", 0.001),
    ],
)
def test_sizes_and_times_are_read_as_people_write_them(
    key: tuple[str, ...], text: str, value: float
) -> None:
    assert _at(Config.model_validate(_tree(key, text)), key) == value


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (("chunk_size",), "0"),
        (("chunk_size",), "17MiB"),
        (("chunk_size",), "10 k"),
        (("chunk_size",), "64kb"),
        (("port",), "7"),
        (("server", "backlog"), "5"),
        (("client", "timeout"), "999us"),
        (("client", "timeout"), "25h"),
        (("client", "timeout"), "5 s"),
        (("server", "limits", "drain_timeout"), "-1s"),
        (("segment_delay",), "61m"),
        (("seed",), "7"),
    ],
)
def test_typos_and_sizes_out_of_range_are_refused(key: tuple[str, ...], text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Config.model_validate(_tree(key, text))
    assert [problem["loc"] for problem in caught.value.errors()] == [key]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("any", "AF_UNSPEC"),
        ("ipv4", "AF_INET"),
        ("ipv6", "AF_INET6"),
        ("AF_INET6", "AF_INET6"),
    ],
)
def test_a_family_has_two_names(written: str, meant: str) -> None:
    config = Config.model_validate({"family": written})
    assert config.family == meant
    assert config.address_family is socket.AddressFamily[meant]


@pytest.mark.parametrize("written", ["IPv4", "inet", "4", "AF_UNIX", "", 2, socket.AF_INET])
def test_another_family_is_refused_with_the_known_ones(written: Any) -> None:
    with pytest.raises(ValidationError, match="AF_UNSPEC, any, AF_INET, ipv4, AF_INET6, ipv6"):
        Config.model_validate({"family": written})


@pytest.mark.parametrize("host", ["", "*", "::", "::1", "192.0.2.1", "fe80::1%lo", "a-b.example."])
def test_a_host_may_be_a_name_a_literal_or_every_address(host: str) -> None:
    assert Config(host=host).host == host


@pytest.mark.parametrize(
    "host", ["a b", "[::1]", "::1]", "localhost:7", "1.2.3", "0177.0.0.1", "::g", "fe80::1", "a..b"]
)
def test_what_can_be_no_host_is_refused(host: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Config(host=host)
    assert [problem["loc"] for problem in caught.value.errors()] == [("host",)]


def test_a_host_that_cannot_be_written_as_utf8_is_refused() -> None:
    with pytest.raises(ValidationError):
        Config(host="\ud800")


def test_a_framing_may_be_a_name_a_mapping_or_itself() -> None:
    framing = LengthPrefixed()
    for written in ("length-prefixed", {"type": "length-prefixed"}, framing):
        assert Config.model_validate({"framing": written}).framing == framing
    options = {"type": "delimited", "delimiter": ";", "max_message": "5B"}
    found = Config.model_validate({"framing": options}).framing
    assert found == Delimited(delimiter=";", max_message=5)


@pytest.mark.parametrize("written", [{}, {"type": 7}, {"max_message": 5}, [], 7, None, "", b"raw"])
def test_a_framing_without_a_known_name_is_refused(written: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        Config.model_validate({"framing": written})
    assert [problem["loc"] for problem in caught.value.errors()] == [("framing",)]


@pytest.mark.parametrize(
    ("section", "key"), [(None, "prot"), ("server", "timeout"), ("client", "backlog")]
)
def test_an_unknown_key_is_refused(section: str | None, key: str) -> None:
    tree = {key: 1} if section is None else {section: {key: 1}}
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Config.model_validate(tree)


def test_a_config_cannot_be_changed() -> None:
    config = Config()
    for section, name in ((config, "port"), (config.server, "backlog"), (config.client, "timeout")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, name, 1)
    assert hash(config) == hash(Config())


def test_a_dump_holds_every_option_of_the_framing() -> None:
    config = Config(framing=LengthPrefixed(prefix_bytes=2, byte_order="little", max_message=5))
    expected = {
        "type": "length-prefixed",
        "prefix_bytes": 2,
        "byte_order": "little",
        "max_message": 5,
    }
    assert config.model_dump()["framing"] == expected
    assert json.loads(config.model_dump_json())["framing"] == expected


@given(config=configs)
def test_a_dump_written_to_a_file_is_the_same_config_again(
    config: Config, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    tree = config.model_dump(serialize_as_any=True)
    # TOML has no word for nothing.
    told = config.model_dump(serialize_as_any=True, exclude_none=True)
    for file, text in (
        (folder / "dump.yaml", as_yaml(tree)),
        (folder / "dump.toml", as_toml(told)),
    ):
        file.write_text(text, encoding="utf-8", newline="")
        assert load(file) == config
