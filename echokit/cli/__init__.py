"""The commands: the only place that prints, reads argv or exits."""

import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command that argv asks for, and exit."""
    try:
        # Here, so that an interrupt while it is imported, most of the start, is an end like any.
        from echokit.cli.app import run

        code = run()
    except KeyboardInterrupt:
        print("echokit: interrupted", file=sys.stderr)
        code = 130
    sys.exit(code)
