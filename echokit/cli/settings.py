"""How a command's options become a config.

They are checked with the file's own rules, so that a flag, a variable and a key take the same
values and give the same errors.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from echokit.cli.ending import exit_code, lines, tell

if TYPE_CHECKING:
    from echokit.config import Config, Override
    from echokit.config.document import Key
    from echokit.net.segment import Segmentation

__all__ = ["effective", "effective_with_origins", "errors_in_json", "origin", "segmentation"]

# Which key each option sets; the keys of a section depend on the command.
_KEYS: dict[str, "Key"] = {
    "host": ("host",),
    "port": ("port",),
    "family": ("family",),
    "chunk_size": ("chunk_size",),
    "framing": ("framing",),
    "segment": ("segment",),
    "segment_delay": ("segment_delay",),
    "seed": ("seed",),
    "backlog": ("server", "backlog"),
    "workers": ("server", "workers"),
    "drain_timeout": ("server", "limits", "drain_timeout"),
    "max_connections": ("server", "limits", "max_connections"),
    "max_connections_per_peer": ("server", "limits", "max_connections_per_peer"),
    "idle_timeout": ("server", "limits", "idle_timeout"),
    "message_timeout": ("server", "limits", "message_timeout"),
    "send_timeout": ("server", "limits", "send_timeout"),
    "max_lifetime": ("server", "limits", "max_lifetime"),
    "allow": ("server", "limits", "allow"),
    "deny": ("server", "limits", "deny"),
    "connect_timeout": ("client", "connect_timeout"),
    "timeout": ("client", "timeout"),
}


def effective(ctx: typer.Context, section: str) -> "Config":
    """The config that flags, variables and file of this command say; `section` has its output."""
    return effective_with_origins(ctx, section)[0]


def effective_with_origins(
    ctx: typer.Context, section: str | None, own: Collection[str] = ()
) -> "tuple[Config, dict[Key, str]]":
    """As `effective`, with where each value came from.

    Options in `own` are the command's, and set no key, though they are called as one that does.
    """
    from echokit.config import load_with_origins
    from echokit.errors import ConfigError

    path = ctx.params.get("config")
    try:
        return load_with_origins(path, _overrides(ctx, section, own))
    except ConfigError as error:
        if origin(ctx, "config") != "ECHOKIT_CONFIG":
            raise
        # A file that nobody named on this line: say where its name is from.
        file = f"{path}:"
        lines = (f"ECHOKIT_CONFIG: {p}" if p.startswith(file) else p for p in error.problems)
        raise ConfigError(list(lines)) from error


def _overrides(ctx: typer.Context, section: str | None, own: Collection[str]) -> "list[Override]":
    from echokit.config import Override
    from echokit.errors import ConfigError

    keys = {name: key for name, key in _KEYS.items() if name not in own}
    if section is not None:
        keys["output"] = (section, "output")
    found = [
        Override(keys[name], value, origin(ctx, name))
        for name, value in ctx.params.items()
        if name in keys and value is not None
    ]
    forced = [flag for flag, name in (("-4", "ipv4"), ("-6", "ipv6")) if ctx.params.get(name)]
    given = [override.origin for override in found if override.key == ("family",)]
    if "--family" in given:
        forced.append("--family")
    if len(forced) > 1:
        raise ConfigError(f"{' and '.join(forced)} do not go together")
    if forced and forced[0] != "--family":
        # A flag goes over a variable.
        found = [override for override in found if override.key != ("family",)]
        found.append(Override(("family",), {"-4": "ipv4", "-6": "ipv6"}[forced[0]], forced[0]))
    return found


def origin(ctx: typer.Context, name: str) -> str:
    """Where the value of the option `name` came from: its flag or its variable."""
    source = ctx.get_parameter_source(name)
    if source is not None and source.name == "ENVIRONMENT":
        return f"ECHOKIT_{name.upper()}"
    return f"--{name.replace('_', '-')}"


def segmentation(settings: "Config") -> "Segmentation | None":
    """How what is sent is cut; if at random, the seed is told, so that it can be given again."""
    found = settings.segmentation
    if found is not None and found.how == "random":
        tell(f"what is sent is cut at random, from --seed {found.seed}")
    return found


@contextmanager
def errors_in_json(ctx: typer.Context) -> Iterator[None]:
    """While the output is JSON: an error becomes the last event on stdout, too."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (Exception, KeyboardInterrupt) as error:
        asked = (
            ctx.params.get("output") == "json",
            ctx.params.get("as_json"),
            ctx.meta.get("json"),
        )
        if any(asked):
            from echokit.observe.json_lines import JsonLines

            message = "; ".join(lines(error))
            JsonLines().tell("error", message=message, exit_code=exit_code(error))
        raise
