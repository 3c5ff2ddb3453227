"""A terminal emulator as the judge of what is printed, and the bytes that try to drive it."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from typing import cast

import pyte

__all__ = ["HOSTILE", "Driven", "bytes_of", "on_terminal", "seen"]

# Characters that break a line, turn text around, hide, or are none.
_NO_TEXT = {"Cc", "Cf", "Cs", "Zl", "Zp"}

# Payloads by name, and what each does to a terminal, or to who reads on, where it is printed raw.
HOSTILE: dict[str, tuple[bytes, str]] = {
    "moves the cursor": (b"\x1b[1;1Hforged", "cursor_position"),
    "moves it up": (b"\x1b[2Aforged", "cursor_up"),
    "moves it back": (b"secret\x1b[6Dforged", "cursor_back"),
    "clears the screen": (b"\x1b[2J", "erase_in_display"),
    "clears its line": (b"\x1b[2K", "erase_in_line"),
    "deletes lines": (b"\x1b[5M", "delete_lines"),
    "scrolls a part": (b"\x1b[1;2r", "set_margins"),
    "inserts from now on": (b"\x1b[4h", "set_mode"),
    "hides the cursor": (b"\x1b[?25l", "reset_mode"),
    "paints": (b"\x1b[8;31m", "select_graphic_rendition"),
    "asks for an answer": (b"\x1b[6n", "report_device_status"),
    "asks what it is": (b"\x1b[c", "report_device_attributes"),
    "resets": (b"\x1bc", "reset"),
    "draws a test picture": (b"\x1b#8", "alignment_display"),
    "goes back a line": (b"\x1bM", "reverse_index"),
    "next line": (b"\x1bEforged", "linefeed"),
    "sets the title": (b"\x1b]0;owned\x07", "set_title"),
    "sets the title, ST": (b"\x1b]2;owned\x1b\\", "set_title"),
    "sets the icon's name": (b"\x1b]1;owned\x07", "set_icon_name"),
    "hyperlink": (b"\x1b]8;;http://example.org\x07here\x1b]8;;\x07", "U+001B"),
    "writes the clipboard": (b"\x1b]52;c;Zm9yZ2Vk\x07", "U+001B"),
    "DCS": (b"\x1bP$q\x1b\\", "debug"),
    "begins a sequence and leaves it open": (b"\x1b]0;", "the cursor is in line 1"),
    "one-byte CSI": ("\x9b1;1H".encode(), "cursor_position"),
    "one-byte OSC": ("\x9d0;owned\x9c".encode(), "set_title"),
    "one-byte CSI, no UTF-8": (b"\x9b1;1H", "UTF-8"),
    "no UTF-8": (b"\xff\xfe caf\xe9", "UTF-8"),
    "bell": (b"\x07", "bell"),
    "backspaces": (b"secret\b\b\b\b\b\bforged", "backspace"),
    "tab": (b"\t", "tab"),
    "overwrites its line": (b"secret\rforged", "carriage_return"),
    "forges a line": (b'"\nno more data from root\nreceived "', "3 lines were told"),
    "forges a line, CRLF": (b'"\r\nechokit: all is well\r\nreceived "', "3 lines were told"),
    "vertical tab": (b"\vforged", "linefeed"),
    "form feed": (b"\fforged", "linefeed"),
    "NEL": ("\x85forged".encode(), "U+0085"),
    "line separator": ("\u2028forged".encode(), "U+2028"),
    "paragraph separator": ("\u2029forged".encode(), "U+2029"),
    "file separator": (b"\x1cforged", "U+001C"),
    "overrides the direction": ("\u202egnp.exe".encode(), "U+202E"),
    "embeds a direction": ("\u202agnp\u202c".encode(), "U+202A"),
    "isolates a direction": ("\u2067gnp\u2069".encode(), "U+2067"),
    "marks a direction": ("\u200fgnp".encode(), "U+200F"),
    "Arabic letter mark": ("\u061cgnp".encode(), "U+061C"),
    "hides in the text": ("pass\u200bword\ufeff".encode(), "U+200B"),
    "tags": ("\U000e0041\U000e0042".encode(), "U+E0041"),
    "NUL": (b"a\0b", "U+0000"),
    "DEL": (b"a\x7fb", "U+007F"),
    "shifts the character set": (b"\x0elqqk\x0f", "U+000E"),
    "cancels": (b"\x18\x1a", "U+0018"),
}


class Driven(AssertionError):
    """Something else than lines of text came to a terminal."""


def on_terminal(output: bytes) -> bytes:
    """What a terminal is given of `output`: its driver puts a carriage return before line feeds."""
    return output.replace(b"\n", b"\r\n")


def seen(given: bytes, told: int) -> list[str]:
    """The rows that a terminal shows which is given `given`: text in so many lines as were told.

    Raises:
        Driven: It is something else: the terminal did something else than write lines from left to
            right, or others than were told, or there are characters that are no text, to this
            terminal or to another one.
    """
    try:
        text = given.decode()
    except UnicodeDecodeError as error:
        raise Driven(f"it is no UTF-8 at byte {error.start}") from error
    *lines, rest = text.split("\r\n")
    if rest or len(lines) != told:
        raise Driven(f"there are {len(lines)} lines and {rest!r}, and {told} lines were told")
    calls = _Calls()
    pyte.Stream(cast("pyte.Screen", calls)).feed(text)
    # What ends a line is called where a line ends, and nothing else at all.
    allowed = {"draw": len(text), "carriage_return": told, "linefeed": told}
    wrong = [name for name, times in calls.counted.items() if times > allowed.get(name, 0)]
    if wrong:
        raise Driven(f"{' and '.join(sorted(wrong))} was called")
    # Wide enough for every line to stay one row, of letters that take two columns, too.
    columns = 2 * max(map(len, lines), default=0) + 1
    screen, fresh = (pyte.Screen(columns, told + 2) for _ in range(2))
    pyte.Stream(screen).feed(text)
    if (screen.title, screen.icon_name, screen.mode) != ("", "", fresh.mode):
        raise Driven("the terminal is not as it was")
    if (screen.cursor.y, screen.cursor.x) != (told, 0):
        raise Driven(f"the cursor is in line {screen.cursor.y}, column {screen.cursor.x}")
    for character in "".join(lines):
        # Emulators differ in what they know: what is no text to one of them is none.
        if unicodedata.category(character) in _NO_TEXT:
            raise Driven(f"U+{ord(character):04X} is no text")
    rows = [row.rstrip() for row in screen.display]
    # The emulator puts a letter and its accents together.
    if rows != [*(unicodedata.normalize("NFC", line).rstrip() for line in lines), "", ""]:
        raise Driven("the rows are not the lines")
    return rows[:told]


class _Calls:
    """Counts what a stream asks of its screen."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Callable[..., None]:
        def count(*_args: object, **_options: object) -> None:
            self.counted[name] += 1

        return count


_SHOWN = re.compile(
    r"(?P<plain>[^\\]+)|\\(?P<short>[nrt\\\"])|\\x(?P<byte>[0-9a-f]{2})"
    r"|\\(?:u(?P<bmp>[0-9a-f]{4})|U(?P<code>[0-9a-f]{8}))"
)
_SHORT = {"n": b"\n", "r": b"\r", "t": b"\t", "\\": b"\\", '"': b'"'}


def bytes_of(shown: str) -> bytes:
    """The bytes that a payload as it is shown stands for, as a person would read it."""
    found, at = b"", 0
    while at < len(shown):
        match = _SHOWN.match(shown, at)
        assert match is not None, f"{shown[at:]!r} says no bytes"
        kind, text, at = match.lastgroup, match[match.lastindex or 0], match.end()
        if kind == "plain":
            found += text.encode()
        elif kind == "short":
            found += _SHORT[text]
        else:
            found += bytes.fromhex(text) if kind == "byte" else chr(int(text, 16)).encode()
    return found
