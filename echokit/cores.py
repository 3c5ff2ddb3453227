"""What `0` workers stand for: one for each core."""

import os

__all__ = ["usable_cores"]


def usable_cores() -> int:
    """How many cores this process may use; where the system does not tell, all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
