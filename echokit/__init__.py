"""echokit: an IPv4/IPv6 dual-stack TCP echo toolkit with pluggable framing.

The public names stand here; each is imported when it is first used, so that `import echokit` and
the commands that need little of it stay light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from echokit.client import EchoClient
    from echokit.config import Config, load
    from echokit.config.limits import Limits
    from echokit.errors import (
        ConfigError,
        DialError,
        EchoIncomplete,
        EchokitError,
        EchoMismatch,
        FramingError,
        IncompleteMessage,
        ListenError,
        MessageTooLarge,
        ResolveError,
        WorkerError,
    )
    from echokit.exchange import Exchange, Messages, Source
    from echokit.framing.base import Decoder, Framing
    from echokit.framing.delimited import Delimited
    from echokit.framing.length_prefixed import LengthPrefixed
    from echokit.framing.raw import Raw
    from echokit.net.address import Address, Endpoint, resolve
    from echokit.net.admission import Refusal
    from echokit.net.connection import Connection
    from echokit.net.dial import Attempt, Dialed, dial
    from echokit.net.handler import End, Ending
    from echokit.net.listen import Listeners, bind_listeners
    from echokit.net.reactor import Reactor
    from echokit.net.segment import Segmentation
    from echokit.observe.counters import Counters
    from echokit.observe.observer import Observer
    from echokit.server import EchoServer

__version__ = "0.1.0"

_HOMES = {
    "Address": "net.address",
    "Attempt": "net.dial",
    "Config": "config",
    "ConfigError": "errors",
    "Connection": "net.connection",
    "Counters": "observe.counters",
    "Decoder": "framing.base",
    "Delimited": "framing.delimited",
    "DialError": "errors",
    "Dialed": "net.dial",
    "EchoClient": "client",
    "EchoIncomplete": "errors",
    "EchoMismatch": "errors",
    "EchoServer": "server",
    "EchokitError": "errors",
    "End": "net.handler",
    "Ending": "net.handler",
    "Endpoint": "net.address",
    "Exchange": "exchange",
    "Framing": "framing.base",
    "FramingError": "errors",
    "IncompleteMessage": "errors",
    "LengthPrefixed": "framing.length_prefixed",
    "Limits": "config.limits",
    "ListenError": "errors",
    "Listeners": "net.listen",
    "MessageTooLarge": "errors",
    "Messages": "exchange",
    "Observer": "observe.observer",
    "Raw": "framing.raw",
    "Reactor": "net.reactor",
    "Refusal": "net.admission",
    "ResolveError": "errors",
    "Segmentation": "net.segment",
    "Source": "exchange",
    "WorkerError": "errors",
    "bind_listeners": "net.listen",
    "dial": "net.dial",
    "load": "config",
    "resolve": "net.address",
}

__all__ = [
    "Address",
    "Attempt",
    "Config",
    "ConfigError",
    "Connection",
    "Counters",
    "Decoder",
    "Delimited",
    "DialError",
    "Dialed",
    "EchoClient",
    "EchoIncomplete",
    "EchoMismatch",
    "EchoServer",
    "EchokitError",
    "End",
    "Ending",
    "Endpoint",
    "Exchange",
    "Framing",
    "FramingError",
    "IncompleteMessage",
    "LengthPrefixed",
    "Limits",
    "ListenError",
    "Listeners",
    "MessageTooLarge",
    "Messages",
    "Observer",
    "Raw",
    "Reactor",
    "Refusal",
    "ResolveError",
    "Segmentation",
    "Source",
    "WorkerError",
    "__version__",
    "bind_listeners",
    "dial",
    "load",
    "resolve",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a public name from its home, on first use (PEP 562)."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
