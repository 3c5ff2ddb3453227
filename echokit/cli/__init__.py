"""The commands: the only place that prints, reads argv or exits."""

import gc
import os
import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command that argv asks for, and exit."""
    # Nothing of what is imported for the command is garbage; looking for it takes a tenth of the
    # start. It is looked for again from where the command itself begins.
    gc.disable()
    # Plugins of pydantic's watch what an application validates. To find them it reads the metadata
    # of every distribution there is.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        # Here, so that an interrupt while it is imported, most of the start, is an end like any.
        from echokit.cli.app import run

        code = run()
    except KeyboardInterrupt:
        print("echokit: interrupted", file=sys.stderr)
        code = 130
    # The interpreter's end frees everything, and need not look through it for garbage before.
    gc.freeze()
    sys.exit(code)
