"""What other people's tests use: pytest fixtures, and the proof kit for framings.

The fixtures come by themselves wherever echokit is installed beside pytest; see `plugin`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from echokit.testing.proof import BrokenRule, check_framing
    from echokit.testing.server import RecordedConnection, RunningServer, ServerFailed

__all__ = [
    "BrokenRule",
    "RecordedConnection",
    "RunningServer",
    "ServerFailed",
    "check_framing",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a name on first use: pytest loads this package with every run (PEP 562)."""
        if name in ("BrokenRule", "check_framing"):
            from echokit.testing import proof  # noqa: PLC0415 - needs Hypothesis

            return getattr(proof, name)
        if name in ("RecordedConnection", "RunningServer", "ServerFailed"):
            from echokit.testing import server  # noqa: PLC0415 - needs pydantic

            return getattr(server, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
