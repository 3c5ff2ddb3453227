"""A config file as plain values, with the place where each of them stands.

YAML is read as its events come, so that what a config has no use for is refused before it can do
harm: aliases (a few hundred bytes of them can stand for gigabytes), anchors, tags, more nesting
and more values than any config has. Nothing is built from a tag, and recursion ends at a fixed
depth.
"""

import codecs
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from echokit.errors import ConfigError, reason

__all__ = ["Document", "Key", "read_document"]

# A hundred times what a config has. Both parsers have inputs for which their time grows with the
# square of the size.
MAX_BYTES = 256 << 10
MAX_VALUES = 10_000
MAX_DEPTH = 32
_MAX_DOTS = 200
_MAX_DOTS_IN_ALL = 20_000
# Python reads no decimal number of more than 4300 digits, unless it is told to.
_LONG_NUMBER = 1000

# What stands where a key is read, which has no place of its own.
_KEY = ""

# Where a value stands: the keys and indices that lead to it.
Key = tuple[str | int, ...]


class Document:
    """A file's values.

    Attributes:
        name: The file, as it was named.
        values: What it says.
        marks: Where each value stands, line and column from 1; empty for TOML.
        key_marks: Where each key stands.
        problems: What it has that a config may not have, though it could be read.
        refused: Where that stands, so that it need not be told again as a wrong value.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.values: dict[str, Any] = {}
        self.marks: dict[Key, tuple[int, int]] = {}
        self.key_marks: dict[Key, tuple[int, int]] = {}
        self.problems: list[str] = []
        self.refused: set[Key] = set()

    def place(self, key: Key, *, of_key: bool = False) -> str:
        """The file, and the line and column of `key`'s value (or of the key itself)."""
        marks = self.key_marks if of_key else self.marks
        while key and key not in marks:
            key = key[:-1]
        if key not in marks:
            return self.name
        line, column = marks[key]
        return f"{self.name}:{line}:{column}"


def read_document(path: Path) -> Document:
    """Read `path`, YAML or TOML by its suffix.

    Raises:
        ConfigError: It cannot be read, or not as what its suffix says.
    """
    readers = {".yaml": _read_yaml, ".yml": _read_yaml, ".toml": _read_toml}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ConfigError(f"{path}: unknown kind of file: name it .yaml, .yml or .toml")
    document = Document(str(path))
    reader(document, _read_text(path))
    return document


def _read_text(path: Path) -> str:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ConfigError(f"{path}: is a directory, not a file")
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{path}: is not a regular file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {reason(error)}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path}: is over 256 KiB: that is no config")
    if not data.strip():
        raise ConfigError(f"{path}: is empty; a config without settings is a comment, or {{}}")
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        raise ConfigError(f"{path}:{line}: is not UTF-8: byte 0x{byte:02x}") from error


def _read_toml(document: Document, text: str) -> None:
    import tomllib  # noqa: PLC0415 - only for this kind of file

    # The parser's time grows with the square of a dotted key's length.
    long_key = any(line.partition("=")[0].count(".") > _MAX_DOTS for line in text.splitlines())
    if long_key or text.count(".") > _MAX_DOTS_IN_ALL:
        raise ConfigError(f"{document.name}: is nested too deeply")
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what = str(error)
        place = re.search(r" \(at line (\d+), column (\d+)\)$", what)
        where = f":{place[1]}:{place[2]}" if place else ""
        what = what[: place.start()] if place else what
        raise ConfigError(f"{document.name}{where}: {what[:1].lower()}{what[1:]}") from error
    except RecursionError as error:
        raise ConfigError(f"{document.name}: is nested too deeply") from error
    except ValueError as error:
        raise ConfigError(f"{document.name}: has a number that is too long") from error
    # Dotted keys nest without brackets, and the parser without recursion.
    level: list[Any] = [values]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level if isinstance(outer, dict) for inner in outer.values()]
    if level:
        raise ConfigError(f"{document.name}: is nested too deeply")
    document.values = values


def _read_yaml(document: Document, text: str) -> None:
    from ruamel.yaml.error import MarkedYAMLError, YAMLError  # noqa: PLC0415 - only for this kind
    from ruamel.yaml.reader import ReaderError  # noqa: PLC0415 - only for this kind of file

    builder = _Builder(document)
    try:
        builder.build(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        lines = text.splitlines()
        hint = _quoting_hint(lines[line - 1] if line <= len(lines) else "")
        what = error.problem or error.context or "is not YAML"
        what = f"{document.name}:{line}:{column}: {what}{hint}"
        raise ConfigError([*document.problems, what]) from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(
            f"{document.name}:{line}: has a character that YAML does not allow: "
            f"U+{ord(text[error.position]):04X}"
        ) from error
    except ConfigError:
        raise
    except YAMLError as error:
        raise ConfigError(f"{document.name}: is not YAML: {error}") from error
    except Exception as error:
        # The parser trips over some nonsense (`%YAML 1.0`) in other ways, by an assertion even.
        raise ConfigError(f"{document.name}: is not YAML that can be read here: {error}") from error


def _quoting_hint(line: str) -> str:
    """What to do about an unquoted `::`, `[::1]:7` or `*:7`, which mean something else in YAML."""
    value = line.partition(":")[2].strip()
    if value[:1] not in ("'", '"') and ("::" in value or value.startswith("*")):
        return f'; quote it: "{value}"'
    return ""


class _Builder:
    """Builds a document's values from the events of a YAML parser."""

    def __init__(self, document: Document) -> None:
        from ruamel.yaml import (  # noqa: PLC0415 - only for this kind of file
            YAML,
            events,
            nodes,
        )

        self._yaml = YAML(typ="safe", pure=True)
        self._events = events
        self._nodes = nodes
        self._document = document
        self._values = 0

    def _complain(self, mark: tuple[int, int], what: str) -> None:
        """Note a problem at a line and column."""
        self._document.problems.append(f"{self._document.name}:{mark[0]}:{mark[1]}: {what}")

    def _refuse(self, key: Key, mark: tuple[int, int], what: str) -> None:
        """Note a problem that leaves no value at `key`."""
        self._document.refused.add(key)
        self._complain(mark, what)

    def build(self, text: str) -> None:
        """Read the one document of `text`."""
        events = iter(self._yaml.parse(text))
        documents = 0
        for event in events:
            if isinstance(event, self._events.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._complain(_mark(event), "a second document begins; a config is one")
                    return
                if event.version not in (None, (1, 2)):
                    version = ".".join(map(str, event.version))
                    what = f"YAML {version} reads values in other ways; only 1.2 is read here"
                    self._complain(_mark(event), what)
                    return
                values = self._value(next(events), events, (), 0)
                if not isinstance(values, dict):
                    self._complain((1, 1), "the file should be a mapping: 'key: value' lines")
                    continue
                self._document.values = values

    def _value(self, event: Any, events: Iterator[Any], key: Key, depth: int) -> Any:
        """The value that begins with `event`, and goes on through `events`."""
        mark = _mark(event)
        self._document.marks[key] = mark
        self._values += 1
        if depth > MAX_DEPTH or self._values > MAX_VALUES:
            much = "deeper nesting" if depth > MAX_DEPTH else "more values"
            raise ConfigError(f"{self._document.name}:{mark[0]}: {much} than any config has")
        if isinstance(event, self._events.AliasEvent):
            name = _short(event.anchor)
            hint = f'; quote it: "*{name}"' if name.startswith(":") else ""
            self._refuse(key, mark, f"aliases (*{name}) are not allowed{hint}")
            return None
        if event.anchor is not None:
            self._complain(mark, f"anchors (&{_short(event.anchor)}) are not allowed")
        if event.tag is not None:
            self._refuse(key, mark, f"tags ({_short(str(event.tag))}) are not allowed")
        if isinstance(event, self._events.MappingStartEvent):
            return self._mapping(events, key, depth)
        if isinstance(event, self._events.SequenceStartEvent):
            items: list[Any] = []
            while not isinstance(event := next(events), self._events.SequenceEndEvent):
                items.append(self._value(event, events, (*key, len(items)), depth + 1))
            return items
        return None if event.tag is not None else self._scalar(event, key)

    def _mapping(self, events: Iterator[Any], key: Key, depth: int) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        while not isinstance(event := next(events), self._events.MappingEndEvent):
            mark = _mark(event)
            name = self._value(event, events, (*key, _KEY), depth + 1)
            if not isinstance(name, str):
                name = f"?{len(mapping)}"
                self._refuse((*key, name), mark, "a key should be a plain word")
            elif name in mapping:
                first = self._document.key_marks[(*key, name)][0]
                self._complain(
                    mark, f"{_short(name)!r} stands here twice; the first is in line {first}"
                )
            self._document.key_marks.setdefault((*key, name), mark)
            event = next(events)
            mapping[name] = self._value(event, events, (*key, name), depth + 1)
            if (
                isinstance(event, self._events.ScalarEvent)
                and event.implicit[0]
                and not event.value
            ):
                # Where there is nothing, the parser is already at what follows.
                self._document.marks[(*key, name)] = mark
        return mapping

    def _scalar(self, event: Any, key: Key) -> Any:
        tag = str(self._yaml.resolver.resolve(self._nodes.ScalarNode, event.value, event.implicit))
        node = self._nodes.ScalarNode(tag, event.value, event.start_mark, event.end_mark)
        construct = {
            "tag:yaml.org,2002:null": self._yaml.constructor.construct_yaml_null,
            "tag:yaml.org,2002:bool": self._yaml.constructor.construct_yaml_bool,
            "tag:yaml.org,2002:int": self._yaml.constructor.construct_yaml_int,
            "tag:yaml.org,2002:float": self._yaml.constructor.construct_yaml_float,
        }.get(tag)
        try:
            # Anything else is the text that it is: dates, and numbers as only YAML 1.1 has them.
            if construct is None or "_" in event.value:
                return event.value
            return construct(node)
        except ValueError:
            if len(event.value) < _LONG_NUMBER:
                # A sign or a prefix alone looks like a number to the resolver, and is text.
                return event.value
            self._refuse(key, _mark(event), "is a number that is too long")
            return None


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - what names need


def _mark(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1
