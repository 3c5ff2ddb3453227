"""The config: what a file, the variables and the flags together may say."""

import re
import secrets
import socket
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from echokit.config.limits import Limits
from echokit.config.section import Section
from echokit.errors import ConfigError
from echokit.framing.base import Framing
from echokit.framing.raw import Raw
from echokit.framing.registry import BUILT_IN, framing_class, make_framing
from echokit.net.address import host_problem
from echokit.net.segment import JOINED, RANDOM, Segmentation
from echokit.units import Duration, Size

__all__ = ["ClientSettings", "Config", "ServerSettings"]

_FAMILIES = {
    "AF_UNSPEC": "AF_UNSPEC", "any": "AF_UNSPEC",
    "AF_INET": "AF_INET", "ipv4": "AF_INET",
    "AF_INET6": "AF_INET6", "ipv6": "AF_INET6",
}  # fmt: skip


def _read_family(value: Any) -> Any:
    if isinstance(value, str) and value in _FAMILIES:
        return _FAMILIES[value]
    raise PydanticCustomError("family", "should be one of {known}", {"known": ", ".join(_FAMILIES)})


def _check_host(value: str) -> str:
    if problem := host_problem(value):
        raise PydanticCustomError("host", "{problem}", {"problem": problem})
    return value


def _read_framing(value: Any) -> Framing:
    """The framing that a name, or a mapping with its options, stands for."""
    if isinstance(value, Framing):
        return value
    options = {"type": value} if isinstance(value, str) else value
    if isinstance(options, dict) and options.get("type") is None:
        raise PydanticCustomError("framing", "should say its name as 'type'")
    if not isinstance(options, dict) or not isinstance(options["type"], str):
        raise PydanticCustomError(
            "framing", "should be a framing's name, or a mapping with its name as 'type'"
        )
    try:
        return make_framing(options)
    except ConfigError as error:
        raise PydanticCustomError("framing", "{why}", {"why": str(error)}) from error


class _FramingKey:
    """How `framing:` is read, and given out again with all that its own class has."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            _read_framing, handler(source), serialization=core_schema.simple_ser_schema("any")
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        # Made only when it is asked for: it takes every framing.
        built_in = [framing_class(name) for name in BUILT_IN]
        plugin = {
            "type": "object",
            "description": "A framing that a plugin brings, with its options.",
            "properties": {"type": {"type": "string", "not": {"enum": list(BUILT_IN)}}},
            "required": ["type"],
        }
        schemas = [framing.model_json_schema() | {"required": ["type"]} for framing in built_in]
        return {"anyOf": [{"type": "string", "examples": list(BUILT_IN)}, *schemas, plugin]}


_LARGEST_SEGMENT = 16 << 20
_SEGMENT_SCHEMA = {
    "anyOf": [
        {"type": "null"},
        {"type": "integer", "minimum": 1, "maximum": _LARGEST_SEGMENT},
        {
            "type": "array",
            "minItems": 1,
            "items": {"type": "integer", "minimum": 1, "maximum": _LARGEST_SEGMENT},
        },
        {"enum": [RANDOM, JOINED]},
    ]
}


def _read_segment(value: Any) -> Any:
    """The sizes of the pieces as a tuple; a flag has them as text, `1,3,7`."""
    if value is None or value in (RANDOM, JOINED):
        return value
    sizes = value
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,9}(,-?[0-9]{1,9})*", value, re.ASCII):
        sizes = [int(size) for size in value.split(",")]
    elif isinstance(value, int):
        sizes = [value]
    whole = isinstance(sizes, list | tuple) and all(type(size) is int for size in sizes)
    if not whole or not sizes or not all(1 <= size <= _LARGEST_SEGMENT for size in sizes):
        raise PydanticCustomError(
            "segment", "should be a size of 1 to 16777216, a list of them, 'random' or 'joined'"
        )
    return tuple(sizes)


class ServerSettings(Section):
    """What only `echokit serve` uses."""

    output: Literal["transcript", "json", "quiet"] = Field(
        "transcript", description="What stdout tells."
    )
    backlog: int = Field(
        4096, ge=1, le=65535, description="How many connections may wait to be accepted."
    )
    workers: int = Field(
        1,
        ge=0,
        le=1024,
        description="How many processes serve (Linux). 0: one for each core. max_connections is"
        " divided among them; the other limits are each one's.",
    )
    limits: Limits = Limits()


class ClientSettings(Section):
    """What only `echokit send` uses."""

    output: Literal["transcript", "raw", "json", "quiet"] = Field(
        "transcript", description="What stdout tells; raw: the bytes that came back."
    )
    connect_timeout: Annotated[float, Duration(0.001, 86400)] = Field(
        5.0, description="How long resolving and connecting may take."
    )
    timeout: Annotated[float, Duration(0.001, 86400)] = Field(
        30.0, description="How long the server may be silent while it owes something."
    )


class Config(Section):
    """An echo server's and client's settings: one file serves both."""

    host: Annotated[str, AfterValidator(_check_host)] = Field(
        "localhost",
        description="Name or literal. Empty or '*': every address (serve).",
    )
    port: int = Field(10000, ge=0, le=65535, description="0: any free port (serve).")
    family: Annotated[
        Literal["AF_UNSPEC", "AF_INET", "AF_INET6"],
        BeforeValidator(_read_family),
        WithJsonSchema({"enum": list(_FAMILIES)}),
    ] = Field("AF_UNSPEC", description="Which addresses are used: both families, or one.")
    chunk_size: Annotated[int, Size(1, 16 << 20)] = Field(
        16, description="The most bytes that one recv() asks for."
    )
    framing: Annotated[Framing, _FramingKey()] = Field(
        Raw(), description="How messages stand on the wire."
    )
    segment: Annotated[
        tuple[int, ...] | str | None,
        BeforeValidator(_read_segment),
        WithJsonSchema(_SEGMENT_SCHEMA),
    ] = Field(
        None,
        description="Cut what is sent on purpose: sizes of the pieces, over and over, or 'random',"
        " or 'joined'.",
    )
    segment_delay: Annotated[float, Duration(0, 3600)] = Field(
        0.0, description="The pause between two pieces (joined: how long is gathered)."
    )
    seed: int | None = Field(
        None, ge=0, lt=1 << 64, description="What random cuts come from; drawn anew if not given."
    )
    server: ServerSettings = ServerSettings()
    client: ClientSettings = ClientSettings()

    @model_validator(mode="after")
    def _messages_can_be_limited(self) -> Self:
        limit = self.server.limits.max_message
        if limit is not None:
            try:
                self.framing.limited(limit)
            except ConfigError as error:
                key = ("server", "limits", "max_message")
                raise PydanticCustomError(
                    "contradiction", "{why}", {"key": key, "why": str(error)}
                ) from None
        return self

    @property
    def address_family(self) -> socket.AddressFamily:
        """`family` as the socket module knows it."""
        return socket.AddressFamily[self.family]

    @property
    def segmentation(self) -> Segmentation | None:
        """How what is sent is cut, if it is; with a new seed each time, if none is given."""
        if self.segment is None:
            return None
        seed = secrets.randbelow(1 << 32) if self.seed is None else self.seed
        return Segmentation(self.segment, self.segment_delay, seed)
