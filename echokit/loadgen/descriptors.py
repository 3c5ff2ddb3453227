"""How many connections a load may have open: the limit of descriptors."""

from echokit.errors import ConfigError
from echokit.net.descriptors import raise_limit, room_for_connections

__all__ = ["allow_descriptors"]


def allow_descriptors(connections: int) -> None:
    """Let this process, and those that it starts, have so many connections open.

    Raises:
        ConfigError: That is more than the system lets it.
    """
    raise_limit(connections)
    if connections > (room := room_for_connections()):
        raise ConfigError(
            f"--connections: {connections} connections, of all families, are more than a process"
            f" has room for here, {room}: raise the limit (ulimit -n), or use more --workers"
        )
