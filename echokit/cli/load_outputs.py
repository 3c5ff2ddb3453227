"""Where the result of a load goes: opened before the run, written after it."""

import math
import os
import stat
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

from echokit.cli.ending import exit_code, lines, tell
from echokit.errors import ConfigError, reason

if TYPE_CHECKING:
    from echokit.loadgen.result import Result

__all__ = ["Outputs", "check_kept"]

_STDOUT = "-"
# With less room than this, in bytes, it is known before the run that a file has no place.
_LEAST_JSON = 8 << 10
_LEAST = {"--junit": 1 << 10, "--html": 4 << 20}


def check_kept(option: str, out: str, runs: Iterable[Path]) -> None:
    """Make sure that what is to be read is not what is to be written, by whatever name.

    Raises:
        ConfigError: It is.
    """
    for run in runs:
        if out != _STDOUT and Path(out).is_file() and run.exists() and run.samefile(out):
            which = "the run" if option == "--html" else "one of the runs"
            raise ConfigError(f"{option}: {out} is {which}, and would be overwritten")


class Outputs:
    """The files that were asked for, and stdout; a context manager.

    Args:
        json: Where the document goes; `-` is stdout, here as for the others.
        junit: Where the verdicts go.
        output: What else stdout tells.
        html: Where the page goes.
        option: How the option of the document is called.

    Attributes:
        quiet: Whether nothing but a document is told on stdout.
        written: Whether the result has been written.

    Raises:
        ConfigError: One cannot be written to, or the words for it are unknown; the document, if
            it can be written, says so too.
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
        self.written = False
        self._json = option
        # By the option that names each: the file, and what it is called.
        self._files: dict[str, tuple[IO[str], str]] = {}
        self._to_stdout = ""
        try:
            self._open(option, json)
            _check(output, html)
            self._open("--junit", junit)
            self._open("--html", html)
        except BaseException as error:
            if isinstance(error, ConfigError):
                from echokit.loadgen.surroundings import unstarted

                self._write_json(unstarted("; ".join(lines(error)), exit_code(error)))
            self.close()
            raise
        self.quiet = output == "quiet" or bool(self._to_stdout)

    def _open(self, option: str, path: str | None) -> None:
        """Open a file for writing; what stands in it stays until there is something new."""
        if path is None:
            return
        if path == _STDOUT:
            if self._to_stdout:
                raise ConfigError(
                    f"{self._to_stdout} and {option}: only one of them can go to stdout"
                )
            self._to_stdout = option
            return
        try:
            # Without "w", which would empty it before the run.
            file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666), "w", encoding="utf-8")
        except (OSError, ValueError) as error:
            why = reason(error) if isinstance(error, OSError) else str(error)
            raise ConfigError(f"{option}: cannot write to {path}: {why}") from error
        twin = next((n for n, (other, _) in self._files.items() if _same(file, other)), None)
        full = _room(file) < _LEAST.get(option, _LEAST_JSON)
        if twin is None and not full:
            self._files[option] = file, path
            return
        file.close()
        if twin is not None:
            raise ConfigError(f"{twin} and {option}: both would be written to {path}")
        raise ConfigError(f"{option}: cannot write to {path}: no space left on device")

    def write(self, result: "Result") -> None:
        """Write `result` everywhere; that one place fails keeps it from no other.

        What is written says with which exit code the command ends, and so of such a failure too.

        Raises:
            OSError: Not everything could be written: the first failure; the others are told.
        """
        self.written = True
        # The one on stdout is last, as it cannot be written anew.
        options = sorted(
            ("", self._json, "--junit", "--html"),
            key=lambda option: bool(option) and option == self._to_stdout,
        )
        failures: list[OSError] = []
        written = [option for option in options if self._try(option, result, failures)]
        if not failures:
            return
        for option in written:
            if option in self._files and _regular(self._files[option][0]):
                self._try(option, result, failures)
        for failure in failures[1:]:
            for line in lines(failure):
                tell(line)
        raise failures[0]

    def _try(self, option: str, result: "Result", failures: list[OSError]) -> bool:
        """Write `result`, and what has failed, to where `option` has it: whether that went well."""
        writers = {
            "": self._show,
            self._json: self._write_json,
            "--junit": self._write_junit,
            "--html": self._write_html,
        }
        try:
            writers[option](_unwritten(result, failures))
        except OSError as error:
            failures.append(error)
            return False
        return True

    def _show(self, result: "Result") -> None:
        if not self.quiet and any(family.due for family in result.families.values()):
            from echokit.cli.load_table import table

            print("\n".join(table(result)), flush=True)

    def _write_json(self, result: "Result") -> None:
        self._fill(self._json, result.to_json)

    def _write_junit(self, result: "Result") -> None:
        from echokit.loadgen.junit import junit_xml

        self._fill("--junit", lambda: junit_xml(result))

    def _write_html(self, result: "Result") -> None:
        def page() -> str:
            from echokit.loadgen.report import html_page

            return html_page(result)

        self._fill("--html", page)

    def _fill(self, option: str, text: Callable[[], str]) -> None:
        """Write the text to where the option has it, if it was given."""
        if option == self._to_stdout:
            sys.stdout.write(text())
            sys.stdout.flush()
        elif option in self._files:
            file, name = self._files[option]
            written = text()
            try:
                if _regular(file):
                    file.seek(0)
                    file.truncate()
                file.write(written)
                file.flush()
            except OSError as error:
                what = f"{option}: cannot write to {name}"
                raise OSError(error.errno, error.strerror, what) from error

    def close(self) -> None:
        """Close the files."""
        for file, _ in self._files.values():
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


def _check(output: str, html: str | None) -> None:
    if output not in ("table", "quiet"):
        raise ConfigError(f"--output: should be 'table' or 'quiet'; found {output!r}")
    if html is not None:
        import echokit.loadgen.report  # noqa: F401 - what it needs may not be installed


def _unwritten(result: "Result", failures: list[OSError]) -> "Result":
    """`result` as the command ends, if not all of it could be written."""
    if not failures:
        return result
    told = [line for error in failures for line in lines(error)]
    error = "; ".join(told if result.error is None else [result.error, *told])
    return result.model_copy(update={"error": error, "exit_code": exit_code(failures[0])})


def _regular(file: IO[str]) -> bool:
    """Whether it is a file on a disk, which can be written anew."""
    return stat.S_ISREG(os.fstat(file.fileno()).st_mode)


def _same(file: IO[str], other: IO[str]) -> bool:
    """Whether both are one file; devices may take more than one stream."""
    first, second = (os.fstat(each.fileno()) for each in (file, other))
    return stat.S_ISREG(first.st_mode) and os.path.samestat(first, second)


def _room(file: IO[str]) -> float:
    """How many bytes there are for the file, where its filesystem tells that."""
    status, system = os.fstat(file.fileno()), os.fstatvfs(file.fileno())
    if not stat.S_ISREG(status.st_mode) or not system.f_blocks:
        return math.inf
    # What stands in it makes room for what takes its place.
    return system.f_bfree * system.f_frsize + status.st_size
