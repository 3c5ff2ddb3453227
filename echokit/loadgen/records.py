"""What is written down while exchanges run, and what it is folded into between turns.

While a turn runs, a time costs one append of nanoseconds to an array. When nothing is in flight
any more, the arrays are folded into counts of whole microseconds, which add up without loss over
turns and workers.
"""

from array import array
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice

from echokit.net.tcp_info import TcpInfo

__all__ = ["Records", "Tally"]

_FIGURES = ("connect", "service", "response", "lateness", "rtt")


@dataclass(slots=True)
class Tally:
    """What turns came to: counts, and how often each time was seen, in microseconds.

    Attributes:
        seconds: How long was measured.
        sending_seconds: How long of that exchanges could begin.
        cpu_seconds: The generator's own CPU time.
        silent_seconds: For how long, at its end, nothing has come back well of what was asked for.
        requests: Exchanges begun.
        outcomes: How they ended.
    """

    seconds: float = 0.0
    sending_seconds: float = 0.0
    cpu_seconds: float = 0.0
    silent_seconds: float = 0.0
    requests: int = 0
    unsent: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    surplus_bytes: int = 0
    idle_closes: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    connect: Counter[int] = field(default_factory=Counter)
    service: Counter[int] = field(default_factory=Counter)
    response: Counter[int] = field(default_factory=Counter)
    lateness: Counter[int] = field(default_factory=Counter)
    rtt: Counter[int] = field(default_factory=Counter)
    rttvar_sum_us: int = 0
    retransmits: int = 0

    def add(self, other: "Tally") -> None:
        """Count all that `other` has counted; it ran at another time, or in another place."""
        self.seconds += other.seconds
        self.sending_seconds += other.sending_seconds
        self.cpu_seconds += other.cpu_seconds
        # Its end is the later one.
        self.silent_seconds = other.silent_seconds
        self.requests += other.requests
        self.unsent += other.unsent
        self.bytes_sent += other.bytes_sent
        self.bytes_received += other.bytes_received
        self.surplus_bytes += other.surplus_bytes
        self.idle_closes += other.idle_closes
        self.outcomes.update(other.outcomes)
        for name in _FIGURES:
            getattr(self, name).update(getattr(other, name))
        self.rttvar_sum_us += other.rttvar_sum_us
        self.retransmits += other.retransmits

    @property
    def rate(self) -> float:
        """Exchanges begun, a second in which they could begin."""
        return self.requests / self.sending_seconds if self.sending_seconds else 0.0

    @property
    def failed(self) -> int:
        """Exchanges that did not come back well."""
        return self.requests - self.outcomes["ok"]


class Records:
    """What one generator writes down. Times are nanoseconds.

    Args:
        own_response: Whether a response can begin before its send; else both times are the same,
            and only the one is written down.
    """

    __slots__ = (
        "_own_response", "bytes_received", "bytes_sent", "connect", "failures", "idle_closes",
        "lateness", "requests", "response", "retransmits", "rtt", "rttvar_sum_us",
        "service", "surplus_bytes", "unsent",
    )  # fmt: skip

    def __init__(self, *, own_response: bool) -> None:
        self._own_response = own_response
        # They stay the same arrays, so that their methods can be bound once.
        self.connect = array("q")
        self.service = array("q")
        self.response = array("q")
        self.lateness = array("q")
        self._clear()

    def _clear(self) -> None:
        self.requests = 0
        self.unsent = 0
        self.bytes_sent = 0
        self.bytes_received = 0
        self.surplus_bytes = 0
        self.idle_closes = 0
        self.failures: Counter[str] = Counter()
        for times in (self.connect, self.service, self.response, self.lateness):
            del times[:]
        self.rtt: Counter[int] = Counter()
        self.rttvar_sum_us = 0
        self.retransmits = 0

    @property
    def ok(self) -> int:
        """How many exchanges have come back well: each has a service time, and no other has."""
        return len(self.service)

    @property
    def owed(self) -> int:
        """How many exchanges have begun and not ended."""
        return self.requests - self.ok - self.failures.total()

    def note_connection(self, info: TcpInfo | None) -> None:
        """Write down what the kernel says of a connection at its end."""
        if info is not None:
            self.retransmits += info.retransmits
            if info.rtt_us:
                self.rtt[info.rtt_us] += 1
                self.rttvar_sum_us += info.rttvar_us

    def take_connects(self) -> Counter[int]:
        """The connect times written down since the last call, in microseconds; no fold has them."""
        connects = _in_microseconds(self.connect)
        del self.connect[:]
        return connects

    def limit(self, most: int) -> int:
        """Let at most so many exchanges count that have failed; how many that are.

        Nothing else has been written down: they found no connection before there was a turn.
        """
        self.failures = Counter(islice(self.failures.elements(), most))
        self.requests = self.failures.total()
        return self.requests

    def fold(
        self,
        seconds: float = 0.0,
        sending_seconds: float = 0.0,
        cpu_seconds: float = 0.0,
        silent_seconds: float = 0.0,
    ) -> Tally:
        """Everything written down since the last call. Nothing may be in flight."""
        service = _in_microseconds(self.service)
        tally = Tally(
            seconds=seconds,
            sending_seconds=sending_seconds,
            cpu_seconds=cpu_seconds,
            silent_seconds=silent_seconds,
            requests=self.requests,
            unsent=self.unsent,
            bytes_sent=self.bytes_sent,
            bytes_received=self.bytes_received,
            surplus_bytes=self.surplus_bytes,
            idle_closes=self.idle_closes,
            outcomes=self.failures + Counter(ok=self.ok),
            connect=_in_microseconds(self.connect),
            service=service,
            response=_in_microseconds(self.response) if self._own_response else service.copy(),
            lateness=_in_microseconds(self.lateness),
            rtt=self.rtt,
            rttvar_sum_us=self.rttvar_sum_us,
            retransmits=self.retransmits,
        )
        self._clear()
        return tally


def _in_microseconds(times: "array[int]") -> Counter[int]:
    return Counter([(time + 500) // 1000 for time in times])
