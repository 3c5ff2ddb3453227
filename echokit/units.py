"""Sizes and times as people write them: `64k`, `1MiB`, `250ms`, `1m30s`."""

import re
from decimal import Decimal
from typing import Any, NamedTuple

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

__all__ = ["Duration", "Size", "format_duration", "format_size"]

# "64k" is 65536: in this field a plain k, M or G is binary. kB, MB and GB are the SI units.
_SIZE_UNITS = {
    "": 1, "B": 1,
    "k": 1 << 10, "K": 1 << 10, "KiB": 1 << 10, "kB": 1000,
    "M": 1 << 20, "MiB": 1 << 20, "MB": 1000**2,
    "G": 1 << 30, "GiB": 1 << 30, "GB": 1000**3,
}  # fmt: skip
_SIZE_PATTERN = r"[0-9]{1,15}(B|[kK]|KiB|kB|M|MiB|MB|G|GiB|GB)?"
_TIME_UNITS = {
    "h": Decimal(3600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("1e-3"),
    "us": Decimal("1e-6"),
}
_TIME_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,30})?)(h|ms|us|m|s)")
_NUMBER = r"[0-9]{1,12}(\.[0-9]{1,30})?"
_TIME_PATTERN = rf"{_NUMBER}|({_NUMBER}(h|ms|us|m|s))+"


def parse_size(text: str) -> int:
    """The number of bytes that `text` says.

    Raises:
        ValueError: `text` is no size.
    """
    match = re.fullmatch(_SIZE_PATTERN, text, re.ASCII)
    if match is None:
        raise ValueError("write a size as a number of bytes or like 64k, 1MiB, 2MB")
    unit = match[1] or ""
    return int(text.removesuffix(unit)) * _SIZE_UNITS[unit]


def parse_duration(text: str) -> float:
    """The number of seconds that `text` says.

    Raises:
        ValueError: `text` is no duration.
    """
    if re.fullmatch(_TIME_PATTERN, text, re.ASCII) is None:
        raise ValueError("write a time as a number of seconds or like 250ms, 5s, 1m30s")
    parts = _TIME_PART.findall(text)
    if not parts:
        return float(text)
    return float(sum(Decimal(number) * _TIME_UNITS[unit] for number, unit in parts))


def format_size(size: int) -> str:
    """`size` in the largest binary unit that says it exactly."""
    for unit in ("G", "M", "K"):
        if size and size % _SIZE_UNITS[unit] == 0:
            return f"{size // _SIZE_UNITS[unit]}{unit}iB"
    return str(size)


def format_duration(seconds: float) -> str:
    """`seconds` exactly, in the unit that reads best: 250ms, 5s, 1m30s."""
    if seconds >= 60 and seconds == int(seconds):  # noqa: PLR2004 - a minute has 60 seconds
        minutes, rest = divmod(int(seconds), 60)
        if not rest and minutes % 60 == 0:
            return f"{minutes // 60}h"
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        text = f"{seconds / size:.6g}{unit}"
        if (seconds >= size or not seconds) and "e" not in text and parse_duration(text) == seconds:
            return text
    return f"{Decimal(repr(seconds)):f}s"


class Size(NamedTuple):
    """A pydantic annotation for an int: bytes, from `least` to `most`, also written like `64k`."""

    least: int
    most: int

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Read a size in text, then check the number."""
        return core_schema.no_info_before_validator_function(
            _read_size, core_schema.int_schema(strict=True, ge=self.least, le=self.most)
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """A number of bytes, or a text with a unit."""
        number = {"type": "integer", "minimum": self.least, "maximum": self.most}
        return {"anyOf": [number, {"type": "string", "pattern": f"^{_SIZE_PATTERN}$"}]}


class Duration(NamedTuple):
    """A pydantic annotation for a float: seconds, from `least` to `most`, also like `250ms`."""

    least: float
    most: float

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Read a time in text, then check the number."""
        return core_schema.no_info_before_validator_function(
            _read_duration,
            core_schema.float_schema(strict=True, ge=self.least, le=self.most, allow_inf_nan=False),
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """A number of seconds, or a text with units."""
        number = {"type": "number", "minimum": self.least, "maximum": self.most}
        return {"anyOf": [number, {"type": "string", "pattern": f"^({_TIME_PATTERN})$"}]}


def _read_size(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return parse_size(value)
    except ValueError as error:
        raise PydanticCustomError("size", "{reason}", {"reason": str(error)}) from None


def _read_duration(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return parse_duration(value)
    except ValueError as error:
        raise PydanticCustomError("duration", "{reason}", {"reason": str(error)}) from None
