"""`echokit framings`: what framings there are, and what they can be told."""

import json
from typing import Annotated, Any

import typer

__all__ = ["framings"]


def framings(
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON document.")] = False,
) -> None:
    """List every framing: its options, their defaults, and the distribution that it is from."""
    from echokit.errors import ConfigError
    from echokit.framing.registry import BUILT_IN, broken_plugin, framing_names

    found: list[dict[str, Any]] = []
    broken: list[str] = []
    for name in framing_names():
        try:
            found.append(_described(name))
        except ConfigError as error:
            broken.extend(error.problems)
        except Exception as error:
            # A plugin's own must not hide the others.
            if name in BUILT_IN:
                raise
            broken.extend(broken_plugin(name, error).problems)
    if as_json:
        print(json.dumps({"framings": found, "broken": broken}, indent=2, default=repr))
    else:
        print("\n\n".join(_text(framing) for framing in found))
    if broken:
        raise ConfigError(broken)


def _described(name: str) -> dict[str, Any]:
    from echokit.framing.registry import framing_class, framing_origin

    framing = framing_class(name)
    schema = framing.model_json_schema()
    options = [
        {
            "name": option,
            "values": _values(schema["properties"][option]),
            "required": field.is_required(),
            "default": _default(framing, option),
            "description": field.description or "",
        }
        for option, field in framing.model_fields.items()
        if option != "type"
    ]
    summary = (framing.__doc__ or "").strip().partition("\n")[0]
    return {
        "name": name,
        "from": framing_origin(name),
        "summary": summary,
        "options": options,
    }


def _default(framing: Any, option: str) -> Any:
    """What the option is when nothing is said."""
    field = framing.model_fields[option]
    return (
        None
        if field.is_required()
        else field.get_default(call_default_factory=True, validated_data=_plain_defaults(framing))
    )


def _plain_defaults(framing: Any) -> dict[str, Any]:
    return {
        name: field.default
        for name, field in framing.model_fields.items()
        if field.default_factory is None and not field.is_required()
    }


def _values(schema: dict[str, Any]) -> str:
    """What an option may be, in a few words."""
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if "anyOf" in schema:
        return _values(schema["anyOf"][0])
    kind = {"integer": "whole number", "number": "number", "string": "text", "boolean": "bool"}
    words = kind.get(schema.get("type", ""), "value")
    if "minimum" in schema and "maximum" in schema:
        words += f", {schema['minimum']} to {schema['maximum']}"
    return words


def _text(framing: dict[str, Any]) -> str:
    lines = [f"{framing['name']}  ({framing['from']})", f"    {framing['summary']}"]
    for option in framing["options"]:
        default = "required" if option["required"] else f"default {option['default']!r}"
        lines.append(f"    {option['name']}: {option['values']}; {default}")
        lines.append(f"        {option['description']}")
    return "\n".join(lines)
