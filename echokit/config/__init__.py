"""The configuration: pydantic models, and `load(path)`."""

from echokit.config.limits import Limits
from echokit.config.load import Override, from_values, load, load_with_origins
from echokit.config.model import ClientSettings, Config, ServerSettings

__all__ = [
    "ClientSettings",
    "Config",
    "Limits",
    "Override",
    "ServerSettings",
    "from_values",
    "load",
    "load_with_origins",
]
