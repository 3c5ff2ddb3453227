"""The command line as a whole: the commands, and how each ends."""

import contextlib
import gc
import os
import sys
from collections import UserDict
from importlib import import_module
from typing import Annotated, Any, TextIO

import typer
import typer.core

from echokit import __version__
from echokit.cli.ending import BROKEN_PIPE, Ended, exit_code, lines, tell

__all__ = ["run"]

# The commands in the order of the help, and the module that each stands in.
_MODULES = {
    "serve": "serve",
    "send": "send",
    "load": "load",
    "compare": "compare",
    "merge": "compare",
    "report": "report",
    "demo": "demo",
    "framings": "framings",
    "config": "config",
}


class _Imported(UserDict[str, Any]):
    """The commands by name. Each is imported when it is asked for: one run needs one of them."""

    def __getitem__(self, name: str) -> Any:
        module = import_module(f"echokit.cli.{self.data[name]}")
        found = getattr(module, name)
        if not isinstance(found, typer.Typer):
            alone = typer.Typer(add_completion=False)
            # The terminal is seldom as wide as the source: within a paragraph its lines are free.
            paragraphs = (found.__doc__ or "").split("\n\n")
            words = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
            alone.command(name, help=words, epilog=getattr(module, "EXAMPLES", None))(found)
            found = alone
        return typer.main.get_command(found)


class _Commands(typer.core.TyperGroup):
    """The group of commands, whose ends we tell ourselves."""

    debug = False

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Imported(_MODULES)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        # What has been imported stays to the end: the collector need not look at it again.
        gc.freeze()
        gc.enable()
        try:
            return super().invoke(ctx)
        except (BrokenPipeError, KeyboardInterrupt) as error:
            # These two typer would end in words and codes of its own.
            raise Ended(_tell(error, debug=self.debug)) from error


app = typer.Typer(
    cls=_Commands,
    name="echokit",
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="TCP echo over IPv4 and IPv6, raw or framed: serve it, send to it, prove that it works."
    "\n\nExit codes: 0 well; 1 an exchange failed or came back different; 2 usage or"
    " configuration; 3 could not resolve, bind or connect, or start workers; 4 an objective was"
    " missed, or a regression found; 130, 143 interrupted; 141 nobody reads stdout any more.",
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"echokit {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="ECHOKIT_DEBUG", help="Show tracebacks of errors.")
    ] = False,
) -> None:
    if isinstance(ctx.command, _Commands):
        ctx.command.debug = debug


def run() -> int:
    """Run the command that argv asks for; its exit code."""
    # A stream that was closed before we began takes what it is told, and drops it; and no socket
    # gets its number, which is the lowest that is free.
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # For the processes that it starts, too.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115, PTH123 - for the whole run
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115, PTH123 - the same
    for stream in (sys.stdout, sys.stderr):
        # What a terminal's encoding lacks is shown as an escape, and is no reason to fail.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    code = _run()
    try:
        sys.stdout.flush()
    except OSError as error:
        code = code or _tell(error)
        _silence(sys.stdout)
    try:
        sys.stderr.flush()
    except OSError:
        # As in _tell; and what it did not take then waits in its buffer still.
        _silence(sys.stderr)
    return code


def _silence(stream: TextIO) -> None:
    """Let a stream that takes nothing take all.

    The interpreter would try it once more at its end, and say so in its own way and exit code.
    """
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run() -> int:
    command = typer.main.get_command(app)
    try:
        ended = command.main(prog_name="echokit", standalone_mode=False)
    except Ended as ending:
        return ending.code
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - nothing may end in a traceback
        return _tell(error, debug=getattr(command, "debug", False))
    return ended if isinstance(ended, int) else 0


def _tell(error: BaseException, *, debug: bool = False) -> int:
    """Say on stderr what went wrong; the exit code for it."""
    # A stderr that takes nothing changes nothing of how it ended.
    with contextlib.suppress(OSError):
        if debug:
            print(_traceback(error), file=sys.stderr)
        if exit_code(error) != BROKEN_PIPE:
            for line in lines(error):
                tell(line)
    return exit_code(error)


def _traceback(error: BaseException) -> str:
    """The traceback, safe to print."""
    import traceback

    from echokit.observe.escape import printable

    parts = [part.strip("\n") for part in traceback.format_exception(error)]
    # A frame is several lines. All else is one: its words can be somebody else's.
    lines = [part.split("\n") if part.startswith("  ") else [part] for part in parts]
    return "\n".join(printable(line) for part in lines for line in part)
