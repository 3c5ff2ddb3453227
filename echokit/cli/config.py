"""`echokit config`: check a file, show what holds, print the schema."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echokit.cli.options import (
    Allow,
    Backlog,
    ChunkSize,
    ConfigFile,
    ConnectTimeout,
    Deny,
    DrainTimeout,
    Family,
    FramingName,
    Host,
    IdleTimeout,
    Ipv4,
    Ipv6,
    MaxConnections,
    MaxConnectionsPerPeer,
    MaxLifetime,
    MessageTimeout,
    Port,
    Seed,
    Segment,
    SegmentDelay,
    SendTimeout,
    Timeout,
    WorkerCount,
)
from echokit.cli.settings import effective_with_origins, errors_in_json

if TYPE_CHECKING:
    from echokit.config.document import Key

__all__ = ["config"]

config = typer.Typer(
    name="config", add_completion=False, help="Check, show and describe configurations."
)


@config.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML or TOML, by its suffix.")],
) -> None:
    """Check a file: every problem in it, each with its place."""
    from echokit.config import load
    from echokit.observe.escape import printable

    load(file)
    print(f"{printable(str(file))}: ok")


@config.command()
def show(
    ctx: typer.Context,
    config: ConfigFile = None,
    host: Host = None,
    port: Port = None,
    ipv4: Ipv4 = False,
    ipv6: Ipv6 = False,
    family: Family = None,
    chunk_size: ChunkSize = None,
    framing: FramingName = None,
    segment: Segment = None,
    segment_delay: SegmentDelay = None,
    seed: Seed = None,
    backlog: Backlog = None,
    workers: WorkerCount = None,
    drain_timeout: DrainTimeout = None,
    max_connections: MaxConnections = None,
    max_connections_per_peer: MaxConnectionsPerPeer = None,
    idle_timeout: IdleTimeout = None,
    message_timeout: MessageTimeout = None,
    send_timeout: SendTimeout = None,
    max_lifetime: MaxLifetime = None,
    allow: Allow = None,
    deny: Deny = None,
    connect_timeout: ConnectTimeout = None,
    timeout: Timeout = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON document.")] = False,
) -> None:
    """Show the values that hold, and where each came from: flag, variable, file or default.

    What it prints is a config file, too.
    """
    from echokit.observe.escape import printable

    with errors_in_json(ctx):
        settings, origins = effective_with_origins(ctx, None)
    found = list(_leaves(settings, ()))
    if as_json:
        document = {
            ".".join(key): {"value": value, "from": origins.get(key, "default")}
            for key, value, _ in found
        }
        print(json.dumps(document, indent=2, default=repr))
        return
    section: tuple[str, ...] = ()
    for key, _, written in found:
        if key[:-1] != section:
            section = tuple(key[:-1])
            print(f"{'  ' * (len(section) - 1)}{section[-1]}:")
        line = f"{'  ' * len(section)}{key[-1]}: {written}"
        print(f"{line:<34}  # {printable(origins.get(key, 'default'))}")


@config.command()
def schema() -> None:
    """Print the JSON Schema of config files, with which editors complete and check them."""
    from echokit.config import Config

    described = Config.model_json_schema()
    described = {"$schema": "https://json-schema.org/draft/2020-12/schema", **described}
    print(json.dumps(described, indent=2))


def _leaves(model: Any, key: "Key") -> Iterator[tuple[tuple[str, ...], Any, str]]:
    """Every value of `model` with its key, as it is and as a file has it; sections last."""
    from pydantic import BaseModel

    values = [(name, getattr(model, name)) for name in type(model).model_fields]
    for name, value in sorted(values, key=lambda pair: isinstance(pair[1], BaseModel)):
        if isinstance(value, BaseModel):
            yield from _leaves(value, (*key, name))
        else:
            here = tuple(str(part) for part in (*key, name))
            yield here, value, _written(value, type(model).model_fields[name].metadata)


def _written(value: Any, metadata: list[Any]) -> str:
    from echokit.units import Duration, Size, format_duration, format_size

    if any(isinstance(item, Size) for item in metadata):
        return format_size(value)
    if any(isinstance(item, Duration) for item in metadata):
        return format_duration(value)
    if value is None or isinstance(value, int | float | list | dict):
        return json.dumps(value)
    if isinstance(value, tuple):
        return json.dumps(list(value))
    text = str(value)
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", text) and text.lower() not in _YAML_WORDS
    return text if plain else f'"{"".join(map(_quoted, text))}"'


# What YAML, 1.1 or 1.2, reads as something else than text.
_YAML_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}


_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}


def _quoted(character: str) -> str:
    """A character as it stands between the double quotes of YAML."""
    if character in '"\\':
        return f"\\{character}"
    if character in _ESCAPES:
        return _ESCAPES[character]
    return character if character.isprintable() else f"\\U{ord(character):08x}"
