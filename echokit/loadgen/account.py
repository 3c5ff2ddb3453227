"""What a family's turns add up to, in memory that does not grow with the run."""

from dataclasses import dataclass, replace

from echokit.loadgen.figures import Figure
from echokit.loadgen.histogram import Histogram
from echokit.loadgen.measured import FamilyResult, Outcomes, Slice, TcpInfo
from echokit.loadgen.records import Tally

__all__ = ["MOST_SLICES", "Account", "join_figures"]

# Silence at the end tells where it is so much of the time in which something was asked for, and so
# many turns, or more.
_SILENT_SHARE = 0.1
_SILENT_TURNS = 2
# When there are so many slices, each two neighbours become one.
MOST_SLICES = 60


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A slice in the making."""

    start: float
    seconds: float
    # What its rate is by: see `Account`.
    rated_seconds: float
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
            requests_per_s=_rate(self.ok, self.rated_seconds),
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

    In an open loop the wait for what is in flight at the end of a turn is no part of the time that
    rates are by: nothing is due in it, so that a target that answers all would seem to be slower
    than it was asked to be. In a closed loop it is, as what comes back in it is what counts.

    Args:
        open_loop: Whether exchanges are due at times of their own.

    Attributes:
        total: All turns together, without their times.
        silent_seconds: How long nothing has come back well of what was asked for, at the end so
            far.
    """

    def __init__(self, *, open_loop: bool = False) -> None:
        self._open_loop = open_loop
        self.total = Tally()
        self.connect = Histogram()
        self.service = Histogram()
        self.response = Histogram()
        self.lateness = Histogram()
        self.silent_seconds = 0.0
        # How long the turns were in which something was asked for.
        self._asked_seconds = 0.0
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
        if ok or tally.silent_seconds:
            self._asked_seconds += tally.seconds
        if ok:
            self.silent_seconds = tally.silent_seconds
        elif tally.silent_seconds:
            # One in which nothing was due is no part of a silence, and does not end it.
            self.silent_seconds += tally.seconds
        if not tally.seconds:
            return
        response = Histogram()
        response.add(tally.response)
        rated = self._rated_seconds(tally)
        stretch = _Stretch(start, tally.seconds, rated, tally.requests, ok, response.figure())
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

    def _rated_seconds(self, tally: Tally) -> float:
        return tally.sending_seconds if self._open_loop else tally.seconds

    @property
    def requests_per_s(self) -> float:
        """Exchanges that came back well, a second."""
        return _rate(self.total.outcomes["ok"], self._rated_seconds(self.total))

    def silence(self, turn_s: float) -> float:
        """How long nothing came back at the end, where that is long enough to tell; else 0.

        Args:
            turn_s: How long a turn is, in seconds.
        """
        least = max(_SILENT_SHARE * self._asked_seconds, _SILENT_TURNS * turn_s)
        return self.silent_seconds if self.silent_seconds >= least else 0.0

    def slices(self) -> list[Slice]:
        """The measured time in order."""
        last = [_joined(self._gathered)] if self._gathered else []
        return [stretch.document() for stretch in [*self._stretches, *last]]

    def result(self, addresses: list[str], rate: float | None, turn_s: float = 0.0) -> FamilyResult:
        """The family's part of the result document."""
        total = self.total
        return FamilyResult(
            addresses=addresses,
            measured_s=total.seconds,
            silent_s=self.silence(turn_s),
            requested_rate_per_s=rate,
            actual_rate_per_s=total.rate,
            requests_per_s=self.requests_per_s,
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


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds else 0.0


def _joined(stretches: list[_Stretch]) -> _Stretch:
    """Neighbours as one."""
    if len(stretches) == 1:
        return stretches[0]
    return _Stretch(
        stretches[0].start,
        sum(stretch.seconds for stretch in stretches),
        sum(stretch.rated_seconds for stretch in stretches),
        sum(stretch.requests for stretch in stretches),
        sum(stretch.ok for stretch in stretches),
        join_figures([stretch.response for stretch in stretches]),
    )
