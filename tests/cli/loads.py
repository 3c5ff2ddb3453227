"""Loads as processes: what their tests share."""

import json
from pathlib import Path
from typing import Any

import jsonschema

import echokit
from tests.conftest import AVAILABLE

__all__ = ["HOST", "QUICK", "document_in", "written"]

SCHEMA = json.loads((Path(echokit.__file__).parent / "loadgen" / "result.schema.json").read_bytes())
# A run as short as can be.
QUICK = ("-d", "50ms", "--warmup", "10ms", "--no-calibrate")
HOST = next(iter(AVAILABLE.values()))


def written(host: str, port: int) -> str:
    """The target as it is written on the line."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def document_in(data: bytes) -> dict[str, Any]:
    """One document, and nothing else, that keeps the schema."""
    found: dict[str, Any] = json.loads(data)
    jsonschema.validate(found, SCHEMA)
    return found
