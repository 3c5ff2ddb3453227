"""The commands: the only place that prints, reads argv or exits."""

from echokit.cli.app import main

__all__ = ["main"]
