"""Received bytes as text that is safe to print."""

__all__ = ["escaped", "printable"]


def escaped(data: bytes) -> str:
    r"""`data` as printable text: what is no printable UTF-8 stands as a backslash escape.

    So no payload can move the cursor, change a terminal's title or forge a line: controls (C0, C1,
    DEL), line separators, bidirectional controls and bytes that are not UTF-8 all become escapes.
    Backslashes and double quotes are escaped too, which makes the text say exactly which bytes
    came, and where in quotes they end.
    """
    text = data.decode("utf-8", "surrogateescape")
    if text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return printable(text.replace("\\", "\\\\").replace('"', '\\"'))


def printable(text: str) -> str:
    """`text` with escapes for all that is not printable: for words that somebody else chose."""
    # Each kind of character is looked at once: a long message of them must not hold up others.
    return text if text.isprintable() else text.translate(_Shown())


class _Shown(dict[int, str]):
    """What stands for each character, by its number, once it has been met."""

    def __missing__(self, number: int) -> str:
        shown = self[number] = _shown(chr(number))
        return shown


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    # A byte that is not UTF-8 was decoded to a surrogate that carries it, and is told by \x.
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    if character > "\x7f":
        return f"\\u{ord(character):04x}" if character <= "\uffff" else f"\\U{ord(character):08x}"
    return character.encode("unicode_escape").decode("ascii")
