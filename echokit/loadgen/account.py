"""What a family's turns add up to, in memory that does not grow with the run."""

from dataclasses import dataclass, replace

from echokit.loadgen.figures import Figure
from echokit.loadgen.histogram import Histogram
from echokit.loadgen.measured import FamilyResult, Outcomes, Slice, TcpInfo
from echokit.loadgen.records import Tally

__all__ = ["MOST_SLICES", "Account", "join_figures"]

# When there are so many slices, each two neighbours become one.
MOST_SLICES = 60


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A slice in the making."""

    start: float
    seconds: float
    requests: int
    ok: int
    response: Figure

    def document(self) -> Slice:
        """As the result has it."""
        return Slice(
            start_s=self.start,
            duration_s=self.seconds,
            requests=self.requests,
            ok=self.ok,
            requests_per_s=self.ok / self.seconds if self.seconds else 0.0,
            response=self.response,
        )


def join_figures(figures: list[Figure]) -> Figure:
    """One figure of all values of several."""
    joined = Histogram()
    for figure in figures:
        joined.merge(Histogram.of(figure))
    return joined.figure()


class Account:
    """What one family has given so far.

    Attributes:
        total: All turns together, without their times.
        silent_seconds: How long nothing has come back well, at the end so far.
    """

    def __init__(self) -> None:
        self.total = Tally()
        self.connect = Histogram()
        self.service = Histogram()
        self.response = Histogram()
        self.lateness = Histogram()
        self.silent_seconds = 0.0
        self._rtt = Histogram()
        self._stretches: list[_Stretch] = []
        # How many turns a stretch has by now, and those of the one that is being gathered.
        self._turns_each = 1
        self._gathered: list[_Stretch] = []

    def add(self, start: float, tally: Tally) -> None:
        """Count a turn that began `start` seconds after the measuring did."""
        self.add_connections(tally)
        self.service.add(tally.service)
        self.response.add(tally.response)
        self.lateness.add(tally.lateness)
        ok = tally.outcomes["ok"]
        self.silent_seconds = 0.0 if ok else self.silent_seconds + tally.seconds
        if not tally.seconds:
            return
        response = Histogram()
        response.add(tally.response)
        stretch = _Stretch(start, tally.seconds, tally.requests, ok, response.figure())
        self._gathered.append(stretch)
        if len(self._gathered) == self._turns_each:
            self._stretches.append(_joined(self._gathered))
            self._gathered = []
        if len(self._stretches) == MOST_SLICES:
            pairs = zip(self._stretches[::2], self._stretches[1::2], strict=True)
            self._stretches = [_joined(list(pair)) for pair in pairs]
            self._turns_each *= 2

    def add_connections(self, tally: Tally) -> None:
        """Count what is no time of an exchange."""
        self.connect.add(tally.connect)
        self._rtt.add(tally.rtt)
        # Counts only: the times are in the histograms by now.
        empty = replace(tally)
        for name in ("connect", "service", "response", "lateness", "rtt"):
            setattr(empty, name, type(tally.rtt)())
        self.total.add(empty)

    def slices(self) -> list[Slice]:
        """The measured time in order."""
        last = [_joined(self._gathered)] if self._gathered else []
        return [stretch.document() for stretch in [*self._stretches, *last]]

    def result(self, addresses: list[str], rate: float | None) -> FamilyResult:
        """The family's part of the result document."""
        total = self.total
        per_second = 1 / total.seconds if total.seconds else 0.0
        return FamilyResult(
            addresses=addresses,
            measured_s=total.seconds,
            requested_rate_per_s=rate,
            actual_rate_per_s=total.rate,
            requests_per_s=total.outcomes["ok"] * per_second,
            requests=total.requests,
            unsent=total.unsent,
            outcomes=Outcomes(**total.outcomes),
            bytes_sent=total.bytes_sent,
            bytes_received=total.bytes_received,
            surplus_bytes=total.surplus_bytes,
            idle_closes=total.idle_closes,
            connect=self.connect.figure(),
            service=self.service.figure(),
            response=self.response.figure(),
            slices=self.slices(),
            tcp_info=self._tcp_info(),
        )

    def _tcp_info(self) -> TcpInfo | None:
        if not self._rtt.count:
            return None
        return TcpInfo(
            rtt=self._rtt.figure(),
            rttvar_mean_us=self.total.rttvar_sum_us / self._rtt.count,
            retransmits=self.total.retransmits,
        )


def _joined(stretches: list[_Stretch]) -> _Stretch:
    """Neighbours as one."""
    if len(stretches) == 1:
        return stretches[0]
    return _Stretch(
        stretches[0].start,
        sum(stretch.seconds for stretch in stretches),
        sum(stretch.requests for stretch in stretches),
        sum(stretch.ok for stretch in stretches),
        join_figures([stretch.response for stretch in stretches]),
    )
