"""What other people's tests use: pytest fixtures, and the proof kit for framings.

The fixtures come by themselves wherever echokit is installed beside pytest; see `plugin`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from echokit.testing.proof import BrokenRule, check_framing
    from echokit.testing.server import RecordedConnection, RunningServer

__all__ = ["BrokenRule", "RecordedConnection", "RunningServer", "check_framing"]


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: pytest loads this package with every run (PEP 562)."""
    if name in ("BrokenRule", "check_framing"):
        from echokit.testing import proof  # noqa: PLC0415 - needs Hypothesis

        return getattr(proof, name)
    if name in ("RecordedConnection", "RunningServer"):
        from echokit.testing import server  # noqa: PLC0415 - needs pydantic

        return getattr(server, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
