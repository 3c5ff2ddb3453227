"""From a file, variables and flags to a config: one validation, every problem with its place."""

import copy
import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from echokit.config.document import Document, Key, read_document
from echokit.config.limits import Limits
from echokit.config.model import ClientSettings, Config, ServerSettings
from echokit.errors import ConfigError
from echokit.framing.registry import framing_class

__all__ = ["Override", "from_values", "load", "load_with_origins"]

# More than this many problems in one file are counted, not told.
MOST_TOLD = 50


class Override(NamedTuple):
    """A value from outside the file.

    Attributes:
        key: What it sets: `("server", "output")`.
        text: The value as it was written.
        origin: Where: `--port`, `ECHOKIT_PORT`.
    """

    key: Key
    text: str
    origin: str


def load(path: str | Path | None = None, overrides: Sequence[Override] = ()) -> Config:
    """The config that a YAML or TOML file and what overrides it say; without a file the defaults.

    Raises:
        ConfigError: Something in it cannot be used: all of it, each with its place.
    """
    return load_with_origins(path, overrides)[0]


def load_with_origins(
    path: str | Path | None = None, overrides: Sequence[Override] = ()
) -> tuple[Config, dict[Key, str]]:
    """As `load`, with where each value came from: a flag, a variable, a place in the file.

    A key that has no origin has its default.

    Raises:
        ConfigError: As `load`.
    """
    document = read_document(Path(path)) if path is not None else Document("")
    values = copy.deepcopy(document.values)
    origins = {key: document.place(key) for key in _leaves(values)}
    if ("framing",) in origins:
        # A framing by its name alone is that framing's type.
        origins[("framing", "type")] = origins.pop(("framing",))
    for override in overrides:
        _apply(override, values, origins)
    config = _validated(document, values, {o.key: o.origin for o in overrides})
    return config, origins


def from_values(values: Mapping[str, Any]) -> Config:
    """The config that plain values say.

    Raises:
        ConfigError: As `load`, with keys for places.
    """
    return _validated(Document(""), dict(values), {})


def _validated(
    document: Document, values: Mapping[str, Any], overrides: Mapping[Key, str]
) -> Config:
    problems = document.problems
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        problems = [*problems, *_Problems(document, values, overrides).lines(error)]
    else:
        if not problems:
            return config
    if len(problems) > MOST_TOLD:
        problems = [*problems[:MOST_TOLD], f"{document.name}: {len(problems)} problems in all"]
    raise ConfigError(problems)


def _leaves(values: Any, key: Key = ()) -> list[Key]:
    if not isinstance(values, dict):
        return [key]
    return [leaf for name, value in values.items() for leaf in _leaves(value, (*key, name))]


def _apply(override: Override, values: dict[str, Any], origins: dict[Key, str]) -> None:
    """Put `override` over what the file says."""
    section = values
    for name in override.key[:-1]:
        inner = section.setdefault(str(name), {})
        if name == "framing" and isinstance(inner, str):
            inner = section["framing"] = {"type": inner}
        if not isinstance(inner, dict):
            # The file has nonsense there, which validation will tell.
            return
        section = inner
    last = str(override.key[-1])
    value: Any = override.text
    if override.key in _NUMBERS and _is_number(override.text):
        value = int(override.text)
    if override.key == ("framing",):
        # The file's options stay if it is the same framing, and belong to another if it is not.
        stands = section.get("framing")
        if isinstance(stands, dict) and stands.get("type") == value:
            origins[("framing", "type")] = override.origin
            return
        for key in [key for key in origins if key[0] == "framing"]:
            del origins[key]
        origins[("framing", "type")] = override.origin
    else:
        origins[override.key] = override.origin
    section[last] = value


# What is a number where it stands in a file.
_NUMBERS: frozenset[Key] = frozenset(
    {
        ("port",),
        ("seed",),
        ("server", "backlog"),
        ("server", "workers"),
        ("server", "limits", "max_connections"),
        ("server", "limits", "max_connections_per_peer"),
    }
)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]{1,100}", text, re.ASCII) is not None


_SECTIONS: dict[Key, type[BaseModel]] = {
    (): Config,
    ("server",): ServerSettings,
    ("server", "limits"): Limits,
    ("client",): ClientSettings,
}

# Where pydantic's own words speak of Python.
_WORDS = {
    "model_type": "should be a mapping",
    "string_too_short": "should not be empty",
    "int_type": "should be a whole number",
    "string_type": "should be text (in quotes, if it looks like something else)",
}


class _Problems:
    """Makes a ValidationError into lines that say where, what was found and what is allowed."""

    def __init__(
        self, document: Document, values: Mapping[str, Any], overrides: Mapping[Key, str]
    ) -> None:
        self._document = document
        self._values = values
        self._overrides = overrides

    def lines(self, error: ValidationError) -> list[str]:
        """One line a problem, in the file's order; each once."""
        # The input is left out where it could be large: what was found is said in short below.
        problems = error.errors(include_input=False, include_url=False)
        told = [entry for entry in problems if not self._said(entry)]
        told.sort(key=lambda entry: self._document.marks.get(entry["loc"], (0, 0)))
        return list(dict.fromkeys(self._line(entry) for entry in told))

    def _said(self, entry: Any) -> bool:
        """Whether it only follows from another problem."""
        refused = any(entry["loc"][:end] in self._document.refused for end in range(1, 9))
        return refused or entry["type"] == "default_factory_not_called"

    def _line(self, entry: Any) -> str:
        key: Key = entry["loc"]
        if entry["type"] == "contradiction":
            # It was found between two values: one of them is its place.
            key = (*key, *entry["ctx"]["key"])
        unknown = entry["type"] == "extra_forbidden"
        text = self._unknown(key) if unknown else self._wrong(key, entry)
        given = key[:-1] if key and isinstance(key[-1], int) else key
        if given in self._overrides:
            return f"{self._overrides[given]}: {text}"
        if key[:1] == ("framing",) and ("framing",) in self._overrides:
            # Another framing than the file's: its section there says nothing of it.
            return f"{self._overrides[('framing',)]}: {'.'.join(map(str, key))}: {text}"
        dotted = ".".join(str(part) for part in key)
        place = self._document.place(key, of_key=unknown)
        return ": ".join(part for part in (place, dotted, text) if part)

    def _unknown(self, key: Key) -> str:
        known = self._known(key[:-1])
        close = difflib.get_close_matches(str(key[-1]), known, n=1)
        if close:
            return f"unknown key; did you mean {close[0]!r}?"
        return f"unknown key; known here: {', '.join(known)}" if known else "unknown key"

    def _known(self, section: Key) -> list[str]:
        """The keys of a section; none where it is a plugin's own, deeper inside."""
        if section == ("framing",):
            return list(framing_class(self._values["framing"]["type"]).model_fields)
        model = _SECTIONS.get(section)
        return [] if model is None else list(model.model_fields)

    def _wrong(self, key: Key, entry: Any) -> str:
        text = _WORDS.get(entry["type"]) or re.sub(r"^Input should", "should", str(entry["msg"]))
        value: Any = self._values
        for part in key:
            if isinstance(value, str):
                # A list that was given as one text, as a flag has it.
                return text
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return text
        found = _found(value)
        # Some words quote it themselves.
        quoted = entry["type"] in {"host", "contradiction"} or (
            isinstance(value, str) and found in text
        )
        return text if quoted else f"{text}; found {found}"


def _found(value: Any) -> str:
    """What stands there, in short."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        scalars = all(
            isinstance(item, str | float) or (isinstance(item, int) and not abs(item) >> 64)
            for item in value
        )
        return str(list(value)) if scalars and len(str(value)) <= 60 else "a list"  # noqa: PLR2004 - what fits a line
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and abs(value) >> 64:
        return "a very long number"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - what fits a line
