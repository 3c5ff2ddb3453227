"""Pages of runs, as tests read them, and runs that pages are made of."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from echokit.loadgen.histogram import Histogram
from echokit.loadgen.report import html_page
from echokit.loadgen.result import Result

__all__ = ["HOSTILE", "Page", "example", "made_hostile", "page_of", "result_of", "without_answers"]

_EXAMPLE = Path(__file__).with_name("example.json")
# Text that others may choose, which would like to be more than text, and is as wide as can be.
HOSTILE = (
    "</script><script>window.hacked = 1</script><img src=x onerror='hacked=2'>\"' onload=hacked=3 "
    + 300 * "W"
)


class Page(HTMLParser):
    """What stands in a page.

    Attributes:
        tags: Every element: its name and its attributes.
        scripts: The attributes and the text of each script.
        tables: The rows of each table by its caption.
        text: All that is read, without scripts and styles.
    """

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self._open: list[str] = []
        self._rows: list[list[str]] = []
        self._caption = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style", "caption", "th", "td"):
            self._open.append(tag)
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag == "table":
            self._rows, self._caption = [], ""
        if tag == "tr":
            self._rows.append([])
        if tag in ("th", "td"):
            self._rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        """An element ends."""
        if self._open and self._open[-1] == tag:
            self._open.pop()
        if tag == "table":
            self.tables[self._caption] = self._rows

    def handle_data(self, data: str) -> None:
        """Text."""
        inside = self._open[-1] if self._open else ""
        if inside == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)
        elif inside != "style":
            self.text += data
        if inside == "caption":
            self._caption += data
        if inside in ("th", "td"):
            self._rows[-1][-1] += data

    def embedded(self, name: str) -> Any:
        """The JSON in the script `name`."""
        return json.loads(next(text for found, text in self.scripts if found.get("id") == name))

    def row(self, caption: str, title: str) -> list[str]:
        """The cells of a table's first row with that title, without the title."""
        return next(row[1:] for row in self.tables[caption] if row and row[0] == title)


def example() -> dict[str, Any]:
    """The document of a real run, to be changed."""
    document: dict[str, Any] = json.loads(_EXAMPLE.read_bytes())
    return document


def result_of(document: dict[str, Any]) -> Result:
    """The result that `document` is."""
    return Result.model_validate_json(json.dumps(document))


def page_of(document: dict[str, Any]) -> Page:
    """The page of the run that `document` tells of."""
    return Page(html_page(result_of(document)))


def made_hostile() -> dict[str, Any]:
    """A document with hostile text wherever a document can have text."""
    document = example()
    document["labels"] = {HOSTILE: HOSTILE}
    document["target"] |= {"host": HOSTILE, "own_server": False}
    document["status"], document["error"] = "failed", HOSTILE
    document["echokit_version"] = HOSTILE
    document["settings"]["framing"] = {"type": HOSTILE, HOSTILE: HOSTILE}
    document["environment"] |= dict.fromkeys(("python", "platform", "kernel"), HOSTILE)
    document["skipped"] = {"ipv6": HOSTILE}
    document["self_audit"] |= {"verdict": HOSTILE, "findings": [HOSTILE]}
    document["objectives"][0]["term"] = HOSTILE
    document["merged_from"] = [
        {
            "started_at": document["started_at"],
            "requests": 1,
            "environment": document["environment"],
        }
    ]
    for family in document["families"].values():
        family["addresses"] = [HOSTILE]
    return document


def without_answers() -> dict[str, Any]:
    """A document of a run of which nothing came back."""
    document = example()
    nothing = json.loads(Histogram().figure().model_dump_json())
    for family in document["families"].values():
        kinds = dict.fromkeys(family["outcomes"], 0)
        family["outcomes"] = kinds | {"timeout": family["requests"]}
        family.update({"requests_per_s": 0.0, "bytes_received": 0, "tcp_info": None})
        family.update(dict.fromkeys(("connect", "service", "response"), nothing))
        for piece in family["slices"]:
            piece.update({"ok": 0, "requests_per_s": 0.0, "response": nothing})
    return document
