"""What can be fuzzed, by name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from echokit.config import Config
from echokit.framing.registry import BUILT_IN, framing_class
from tests.fuzz import config_file, decoders, endpoint

__all__ = ["TARGETS", "Target", "corpus"]


@dataclass(frozen=True)
class Target:
    """What is run on each input.

    Attributes:
        check: Takes any bytes; raises what is wrong.
        longest: The most bytes that an input has.
        tokens: Pieces of which inputs are made that get anywhere.
    """

    check: Callable[[bytes], None]
    longest: int
    tokens: tuple[bytes, ...] = ()


def corpus(name: str) -> Path:
    """The folder with the inputs that the target `name` begins with, one a file."""
    return Path(__file__).parent / "corpus" / name


def _config_words() -> tuple[bytes, ...]:
    """Every key that a config may have, so that a key that is new is known here, too."""
    models: list[type[BaseModel]] = [Config, *map(framing_class, BUILT_IN)]
    words: set[str] = set(BUILT_IN)
    while models:
        for name, field in models.pop().model_fields.items():
            words.add(name)
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                models.append(field.annotation)
    return tuple(word.encode() for word in sorted(words))


_DELIMITERS = tuple(delimiter.encode() for delimiter in decoders.DELIMITERS)
_HOSTS = (b"localhost", b"127.0.0.1", b"::1", b"fe80::1%eth0", b"0x7f.1", b"[::1]:7", b"*", b"\xef")

_YAML = (b": ", b"\n  ", b"- ", b"? ", b"!!int ", b"&a ", b"*a", b"|\n", b"%YAML 1.1\n---\n")
_TOML = (b" = ", b"[server]", b"[[", b"]]", b"'''", b'"""', b"= {", b".")

TARGETS = {
    "raw": Target(decoders.raw, 1024),
    "length-prefixed": Target(decoders.length_prefixed, 1024),
    "delimited": Target(decoders.delimited, 1024, _DELIMITERS),
    "endpoint": Target(endpoint.check, 300, _HOSTS),
    "config-yaml": Target(config_file.yaml, 2048, (*_config_words(), *_HOSTS, *_YAML)),
    "config-toml": Target(config_file.toml, 2048, (*_config_words(), *_HOSTS, *_TOML)),
}
