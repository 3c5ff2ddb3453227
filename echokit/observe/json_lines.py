"""One JSON object an event, one event a line (https://jsonlines.org)."""

import datetime as dt
import errno
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from echokit.errors import reason
from echokit.net.address import Address
from echokit.net.dial import Dialed
from echokit.net.handler import End
from echokit.observe.observer import Observer

if TYPE_CHECKING:
    from echokit.net.admission import Refusal
    from echokit.observe.counters import Counters

__all__ = ["JsonLines"]


class JsonLines(Observer):
    """Tells every event on `out` as a JSON object, flushed line by line.

    Each has `event` and `time` (UTC, ISO 8601). Sizes are bytes, times end in their unit.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out if out is not None else sys.stdout

    def tell(self, event: str, **facts: Any) -> None:
        """Write one event."""
        now = dt.datetime.now(dt.UTC).isoformat(timespec="microseconds")
        line = json.dumps({"event": event, "time": now, **facts})
        self._out.write(line + "\n")
        self._out.flush()

    def listening(self, host: str, addresses: Sequence[Address]) -> None:
        """Every bound address."""
        bound = [{"host": address.host, "port": address.port} for address in addresses]
        self.tell("listening", host=host, port=addresses[0].port, addresses=bound)

    def accepted(self, peer: Address) -> None:
        """A client has connected."""
        self.tell("connection", peer=str(peer))

    def received(self, peer: Address, message: bytes) -> None:
        """A message's size."""
        self.tell("message", peer=str(peer), size=len(message))

    def ended(self, peer: Address, end: End) -> None:
        """Why a connection ended, and what it carried."""
        self.tell(
            "end",
            peer=str(peer),
            reason=end.ending.value,
            error=end.why,
            bytes_in=end.bytes_in,
            bytes_out=end.bytes_out,
            messages=end.messages,
        )

    def warned(self, text: str) -> None:
        """A warning."""
        self.tell("warning", message=text)

    def refused(self, peer: Address, why: "Refusal", left_out: int) -> None:
        """Who was refused, and why."""
        self.tell("refused", peer=str(peer), reason=why.value, left_out=left_out)

    def counted(self, counters: "Counters") -> None:
        """Every number."""
        self.tell("counters", **counters.as_dict())

    def draining(self, connections: int) -> None:
        """How many connections are waited for."""
        self.tell("draining", connections=connections)

    def connecting(self, host: str, port: int) -> None:
        """Where to."""
        self.tell("connecting", host=host, port=port)

    def connected(self, dialed: Dialed) -> None:
        """The timeline of the attempts."""
        attempts = [
            {
                "address": str(attempt.address),
                "began_ms": round(attempt.began * 1e3, 3),
                "ended_ms": round(attempt.ended * 1e3, 3),
                "connected": attempt.connected,
                "error": None if attempt.error is None else reason(attempt.error),
                "errno": None if attempt.error is None else _name(attempt.error),
            }
            for attempt in dialed.attempts
        ]
        self.tell(
            "connected",
            address=str(dialed.address),
            resolved_ms=round(dialed.resolved * 1e3, 3),
            connected_ms=round(dialed.connected * 1e3, 3),
            attempts=attempts,
        )

    def sending(self, message: bytes) -> None:
        """A message's size."""
        self.tell("sending", size=len(message))

    def echoed(self, message: bytes) -> None:
        """A message's size."""
        self.tell("received", size=len(message))

    def closing(self) -> None:
        """The client closes its connection."""
        self.tell("closing")


def _name(error: OSError) -> str | None:
    """The error's name in errno.h, as `ECONNREFUSED`; None where it has none."""
    return None if error.errno is None else errno.errorcode.get(error.errno)
