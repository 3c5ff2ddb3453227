"""The configuration: pydantic models, and `load(path)`."""

from echokit.config.load import Override, load, load_with_origins
from echokit.config.model import ClientSettings, Config, ServerSettings

__all__ = ["ClientSettings", "Config", "Override", "ServerSettings", "load", "load_with_origins"]
