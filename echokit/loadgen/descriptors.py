"""How many connections a load may have open: the limit of descriptors."""

from echokit.errors import ConfigError
from echokit.net.descriptors import raise_limit, room_for_connections

__all__ = ["allow_descriptors"]


def allow_descriptors(connections: int, families: int = 1) -> None:
    """Let this process, and those that it starts, have so many connections over each family open.

    Raises:
        ConfigError: That is more than the system lets it.
    """
    raise_limit(connections * families)
    if connections * families > (room := room_for_connections()):
        each = ", over each of two families," if families > 1 else ""
        raise ConfigError(
            f"--connections: {connections} connections{each} are more than a process has room for"
            f" here, {room}: raise the limit (ulimit -n), measure one family (-4 or -6) or a"
            " target with more --workers"
        )
