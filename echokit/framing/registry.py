"""The framings by name: those built in, and those that plugins bring.

A plugin is a distribution with an entry point in the group `echokit.framings`, whose name is the
framing's `type` and whose object is a `Framing` subclass. Plugins are looked for only when a name
is not built in, and imported only when they are used.
"""

import difflib
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import ValidationError

from echokit.errors import ConfigError
from echokit.framing.base import Framing

__all__ = [
    "BUILT_IN",
    "broken_plugin",
    "framing_class",
    "framing_names",
    "framing_origin",
    "make_framing",
]

GROUP = "echokit.framings"
BUILT_IN = {
    "raw": "echokit.framing.raw:Raw",
    "length-prefixed": "echokit.framing.length_prefixed:LengthPrefixed",
    "delimited": "echokit.framing.delimited:Delimited",
}


def framing_names() -> list[str]:
    """Every name that can be asked for: those built in first, then the plugins', sorted."""
    plugins = {point.name for point in entry_points(group=GROUP)}
    return [*BUILT_IN, *sorted(plugins - set(BUILT_IN))]


def framing_origin(name: str) -> str:
    """The distribution that the framing `name` comes from, with its version."""
    if name in BUILT_IN:
        return "built in"
    return _distribution(_plugin(name))


def framing_class(name: str) -> type[Framing]:
    """The framing called `name`.

    Raises:
        ConfigError: There is none, or the plugin that has it cannot be used.
    """
    if name in BUILT_IN:
        module, attribute = BUILT_IN[name].split(":")
        built_in: type[Framing] = getattr(import_module(module), attribute)
        return built_in
    point = _plugin(name)
    try:
        found = point.load()
    except (Exception, SystemExit) as error:
        raise _broken(point, f"{type(error).__name__}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Framing)):
        raise _broken(point, f"{point.value} is no subclass of echokit.Framing")
    if found.model_fields["type"].default != name:
        raise _broken(point, f"{point.value} does not have the type {name!r} as its default")
    return found


def make_framing(options: Mapping[str, Any]) -> Framing:
    """The framing that `options` describe: its name as `type`, and its own options.

    Raises:
        ConfigError: There is no such framing, or the plugin that has it cannot be used.
        ValidationError: The options are not what it takes.
    """
    name = options["type"]
    chosen = framing_class(name)
    try:
        return chosen.model_validate(options)
    except ValidationError:
        raise
    except Exception as error:
        if name in BUILT_IN:
            raise
        raise broken_plugin(name, error) from error


def broken_plugin(name: str, error: Exception) -> ConfigError:
    """What to raise for `error`, which the plugin that brings the framing `name` has raised."""
    return _broken(_plugin(name), f"{type(error).__name__}: {error}")


def _plugin(name: str) -> EntryPoint:
    points = list(entry_points(group=GROUP, name=name))
    if len(points) > 1:
        owners = ", ".join(sorted(_distribution(point) for point in points))
        raise ConfigError(f"framing {name!r} is brought by more than one distribution: {owners}")
    if not points:
        names = framing_names()
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"no framing is called {name!r}{hint} (known: {', '.join(names)})")
    return points[0]


def _broken(point: EntryPoint, why: str) -> ConfigError:
    why = " ".join(why.split())
    return ConfigError(f"framing {point.name!r} of {_distribution(point)} cannot be used: {why}")


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unnamed distribution"
