"""Where and when a load runs, and the document of one that never came to run."""

import os
import platform
from datetime import UTC, datetime

from echokit import __version__
from echokit.loadgen.result import Environment, Result

__all__ = ["environment", "timestamp", "unstarted"]

# The exit codes of SIGINT and SIGTERM.
_INTERRUPTED = (130, 143)


def timestamp() -> str:
    """Now, in UTC, as the document has it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def environment() -> Environment:
    """Where this process runs."""
    try:
        load = os.getloadavg()
    except (AttributeError, OSError):
        load = None
    return Environment(
        python=f"{platform.python_implementation()} {platform.python_version()}",
        platform=f"{platform.system()} {platform.machine()}",
        kernel=platform.release(),
        cpu_count=os.cpu_count(),
        load_average=load,
    )


def unstarted(error: str, code: int) -> Result:
    """The document of a load that could not even be asked for."""
    return Result(
        echokit_version=__version__,
        status="interrupted" if code in _INTERRUPTED else "failed",
        error=error,
        exit_code=code,
        started_at=timestamp(),
        duration_s=0.0,
        target=None,
        settings=None,
        seed=None,
        labels={},
        environment=environment(),
        families={},
        skipped={},
        self_audit=None,
        objectives=[],
        merged_from=[],
    )
