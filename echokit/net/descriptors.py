"""How many descriptors this process may have."""

import contextlib

__all__ = ["raise_limit", "room_for_connections"]

# Descriptors that are kept back: streams, listeners, the loop's own, files that are opened now and
# then. Half of a very low limit.
RESERVE = 64
# Where the system sets none, or a process has no such limit.
_PLENTY = 1_000_000


def _limits() -> tuple[int, int]:
    """The soft and the hard limit."""
    try:
        import resource  # noqa: PLC0415 - not on every system
    except ImportError:
        return _PLENTY, _PLENTY
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    return (
        _PLENTY if soft == unlimited else soft,
        _PLENTY if hard == unlimited else hard,
    )


def room_for_connections() -> int:
    """How many connections the limit of descriptors leaves room for."""
    soft, _ = _limits()
    return max(1, soft - min(RESERVE, soft // 2))


def raise_limit(connections: int | None = None) -> None:
    """Let this process, and those that it starts, have room for so many; None: all that it may.

    The soft limit of many systems is 1024, kept low for programs that use select(2).
    """
    try:
        import resource  # noqa: PLC0415 - not on every system
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if connections is not None and connections <= room_for_connections():
        return
    wanted = hard if connections is None else connections + RESERVE
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    # macOS has a further limit that getrlimit() does not tell.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
