"""Where the result of a load goes: opened before the run, written after it."""

import os
import stat
import sys
from contextlib import suppress
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

from echokit.errors import ConfigError, reason

if TYPE_CHECKING:
    from echokit.loadgen.result import Result

__all__ = ["Outputs"]

_STDOUT = "-"


class Outputs:
    """The files that were asked for, and stdout; a context manager.

    Attributes:
        quiet: Whether nothing but a document is told on stdout.
        written: Whether the result has been written.

    Raises:
        ConfigError: One cannot be written to, or the words for it are unknown.
    """

    def __init__(
        self,
        json: str | None,
        junit: str | None,
        output: str,
        *,
        html: str | None = None,
        option: str = "--json",
    ) -> None:
        if output not in ("table", "quiet"):
            raise ConfigError(f"--output: should be 'table' or 'quiet'; found {output!r}")
        if html is not None:
            import echokit.loadgen.report  # noqa: F401 - what it needs may not be installed
        self._json_to_stdout = json == _STDOUT
        self._html_to_stdout = html == _STDOUT
        if self._json_to_stdout and self._html_to_stdout:
            raise ConfigError("--json and --html: only one of them can go to stdout")
        self.quiet = output == "quiet" or self._json_to_stdout or self._html_to_stdout
        self.written = False
        self._names = (json or "", junit or "", html or "")
        self._json: IO[str] | None = None
        self._junit: IO[str] | None = None
        self._html: IO[str] | None = None
        try:
            self._json = _open(option, None if self._json_to_stdout else json)
            self._junit = _open("--junit", junit)
            self._html = _open("--html", None if self._html_to_stdout else html)
        except BaseException:
            self.close()
            raise

    def write(self, result: "Result") -> None:
        """Write `result` everywhere.

        Raises:
            OSError: Not everything could be written.
        """
        self.written = True
        if self._json_to_stdout:
            sys.stdout.write(result.to_json())
        elif not self.quiet and result.families:
            from echokit.cli.load_table import table

            print("\n".join(table(result)), flush=True)
        if self._json is not None:
            _fill(self._json, self._names[0], result.to_json())
        if self._junit is not None:
            from echokit.loadgen.junit import junit_xml

            _fill(self._junit, self._names[1], junit_xml(result))
        if self._html_to_stdout or self._html is not None:
            self._write_html(result)

    def _write_html(self, result: "Result") -> None:
        from echokit.loadgen.report import html_page

        page = html_page(result)
        if self._html is not None:
            _fill(self._html, self._names[2], page)
        else:
            sys.stdout.write(page)

    def close(self) -> None:
        """Close the files."""
        for file in (self._json, self._junit, self._html):
            if file is not None:
                # What could not be written has been told by now, and would be tried once more.
                with suppress(OSError):
                    file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _open(option: str, name: str | None) -> IO[str] | None:
    """The file, open for writing; what stands in it stays until there is something new."""
    if name is None:
        return None
    try:
        # Without "w", which would empty it before the run.
        return os.fdopen(os.open(name, os.O_WRONLY | os.O_CREAT, 0o666), "w", encoding="utf-8")
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise ConfigError(f"{option}: cannot write to {name}: {why}") from error


def _fill(file: IO[str], name: str, text: str) -> None:
    try:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.truncate(0)
        file.write(text)
        file.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from error
