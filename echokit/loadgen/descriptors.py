"""How many connections a process may have open: the limit of descriptors."""

import resource

from echokit.errors import ConfigError

__all__ = ["allow_descriptors"]

# What else a process has open, beside its connections.
_SPARE = 64


def allow_descriptors(connections: int) -> None:
    """Let this process, and those that it starts, have so many connections open.

    Raises:
        ConfigError: That is more than the system lets it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _SPARE
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ConfigError(
            f"--connections: {connections} connections, of all families, are more than a process"
            f" may have open here, {hard}: raise the limit (ulimit -n), or use more --workers"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
