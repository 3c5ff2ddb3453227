"""What a server has counted: one set of numbers, always on.

Connections count their own bytes and messages as they go, which costs an addition each; here those
of the ended ones are summed.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from echokit.net.admission import Refusal
from echokit.net.handler import Ending

__all__ = ["Counters"]


class _Traffic(Protocol):
    """What a connection has counted, open or ended."""

    @property
    def bytes_in(self) -> int: ...
    @property
    def bytes_out(self) -> int: ...
    @property
    def messages(self) -> int: ...


@dataclass(slots=True)
class Counters:
    """What has happened since a server began.

    Attributes:
        accepted: Connections taken from the queues and served.
        open: Connections that are open now.
        messages: Whole messages received (raw: chunks). How many of them have left whole cannot be
            told from how many bytes have.
        bytes_in: Bytes read from sockets, headers and all.
        bytes_out: Bytes that sockets took.
        ended: How many connections ended, by the kind of end.
        refused: How many were closed at once, by the reason.
        pauses: How often accepting paused as `max_connections` were open.
        accept_failures: How often accept() failed.
    """

    accepted: int = 0
    open: int = 0
    messages: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    ended: Counter[Ending] = field(default_factory=Counter)
    refused: Counter[Refusal] = field(default_factory=Counter)
    pauses: int = 0
    accept_failures: int = 0

    def add_end(self, ending: Ending, traffic: _Traffic) -> None:
        """A connection has ended."""
        self.accepted += 1
        self.ended[ending] += 1
        self.add(traffic)

    def add(self, traffic: _Traffic) -> None:
        """Add what a connection has counted."""
        self.messages += traffic.messages
        self.bytes_in += traffic.bytes_in
        self.bytes_out += traffic.bytes_out

    def with_open(self, connections: Iterable[_Traffic]) -> "Counters":
        """These, and what the `connections` that are still open have counted so far."""
        whole = self + Counters()
        for connection in connections:
            whole.accepted += 1
            whole.open += 1
            whole.add(connection)
        return whole

    def __add__(self, other: "Counters") -> "Counters":
        """The sums of two servers."""
        names = (field.name for field in self.__dataclass_fields__.values())
        return Counters(*(getattr(self, name) + getattr(other, name) for name in names))

    def as_dict(self) -> dict[str, Any]:
        """As plain values; every kind of end and of refusal has its number."""
        return asdict(self) | {
            "ended": {ending.value: self.ended[ending] for ending in Ending},
            "refused": {refusal.value: self.refused[refusal] for refusal in Refusal},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Counters":
        """What `as_dict` has told."""
        ended = {Ending(name): number for name, number in values["ended"].items() if number}
        refused = {Refusal(name): number for name, number in values["refused"].items() if number}
        return cls(**{**values, "ended": Counter(ended), "refused": Counter(refused)})

    def with_open_cut(self) -> "Counters":
        """These, where whoever counted them has ended, and what was open with it."""
        return replace(self, open=0, ended=self.ended + Counter({Ending.CUT: self.open}))

    def in_words(self) -> list[str]:
        """For people: a line, one for the ends, and one for what was refused or failed."""
        found = [
            f"{_some(self.accepted, 'connection')} accepted, {self.open} open;"
            f" {_some(self.messages, 'message')},"
            f" {_some(self.bytes_in, 'byte')} in, {_some(self.bytes_out, 'byte')} out"
        ]
        if self.ended:
            found.append(f"ended: {_each(self.ended)}")
        trouble = []
        if self.refused:
            trouble.append(f"refused: {_each(self.refused)}")
        if self.accept_failures:
            trouble.append(f"accept failed: {self.accept_failures}")
        if self.pauses:
            trouble.append(f"paused at max_connections: {self.pauses}")
        return [*found, "; ".join(trouble)] if trouble else found


def _some(number: int, what: str) -> str:
    """`1 message`, `2 messages`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _each(numbers: "Counter[Any]") -> str:
    """`3 clean, 1 reset`."""
    return ", ".join(f"{number} {kind.value}" for kind, number in numbers.most_common())
