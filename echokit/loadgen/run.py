"""A run from its first connection to its last: warm-up, turns, and what they add up to.

The families take turns in short stretches, in an order that turns round each time (A B B A): what
drifts meanwhile, the machine's clock speed or a neighbour's load, meets both alike.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from echokit.errors import DialError, EchokitError
from echokit.loadgen.account import Account
from echokit.loadgen.crew import Crew
from echokit.loadgen.histogram import Histogram
from echokit.loadgen.measured import FamilyName
from echokit.loadgen.settings import LoadSettings
from echokit.net.address import Address

__all__ = ["LoadRun", "NothingCameBack", "Progress"]

# A turn has room for so many exchanges one after the other, at least.
_EXCHANGES_A_TURN = 50
# And for so many connects.
_CONNECTS_A_TURN = 10
# A warm-up has turns of so many seconds at most: what one has noted is folded at its end.
_WARM_UP_TURN = 1.0
# With a count and no duration: how long nothing may come back before the run is given up, beyond
# the timeout, in seconds.
_SILENCE = 10.0


# How much longer than asked for the waits of an open loop may make a family's time.
_WAITS = 0.1


class NothingCameBack(EchokitError):
    """A target that has stopped to answer, in a run that only a number of exchanges would end."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        share: 0 to 1.
        accounts: What the families have given so far.
        warming_up: The family that is warmed up in the turn that begins; None where it is measured.
    """

    share: float
    accounts: Mapping[FamilyName, Account]
    warming_up: FamilyName | None = None


@dataclass(frozen=True, slots=True)
class _Remains:
    """The next turn of a family.

    Attributes:
        seconds: How long it is.
        count: Of how many exchanges at most.
        last: Whether it is the last.
        left: How long it may become, where those in flight have it go on.
    """

    seconds: float
    count: int | None
    last: bool
    left: float


class LoadRun:
    """One run against `addresses`.

    Attributes:
        accounts: What each family has given so far.
        cpu_share: The generator's own CPU time by measured time, of the busiest worker.
        warm_up: What went before the measuring.
        turn_s: How long a turn is, in seconds.
        interrupted: Whether the run was ended early.
    """

    def __init__(
        self,
        settings: LoadSettings,
        addresses: Mapping[FamilyName, Address],
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.settings = settings
        self.addresses = dict(addresses)
        open_loop = settings.rate is not None
        self.accounts: dict[FamilyName, Account] = {
            family: Account(open_loop=open_loop) for family in addresses
        }
        self.warm_up = Account()
        self.turn_s = settings.turn_seconds(len(self.addresses))
        self.interrupted = False
        self._progress = progress
        self._crew: Crew | None = None
        self._began = 0.0
        self._cpu_seconds = 0.0

    @property
    def cpu_share(self) -> float:
        """The generator's own CPU time by measured time, of the busiest worker."""
        measured = sum(account.total.seconds for account in self.accounts.values())
        return self._cpu_seconds / measured if measured else 0.0

    def interrupt(self) -> None:
        """End the run early. From any thread, and from signal handlers."""
        self.interrupted = True
        if self._crew is not None:
            self._crew.interrupt()

    def measure(self) -> None:
        """Warm up, and measure until time or count is reached, or `interrupt` is called.

        Raises:
            DialError: Not one connection could be made, over any family.
            ConfigError: The framing cannot carry messages of such sizes.
            NothingCameBack: Only a count would end the run, and nothing comes back any more.
            ChildDied: A worker died.
        """
        with Crew(self.settings, self.addresses) as crew:
            self._crew = crew
            try:
                if not self.interrupted:
                    self._open(crew)
                self._warm_up(crew)
                self._began = time.monotonic()
                self._take_turns(crew)
            except NothingCameBack:
                self._finish(crew)
                raise
            finally:
                self._crew = None
            self._finish(crew)

    def _finish(self, crew: Crew) -> None:
        """Close every connection, and count what is known only then."""
        for family, tally in crew.finish().items():
            account = self.accounts[family]
            if self.settings.count is not None:
                # Workers are each behind their own share of it, which is another in every turn.
                told = account.total.requests + account.total.unsent
                tally.unsent = min(tally.unsent, self.settings.count - told)
            account.add_connections(tally)

    def _open(self, crew: Crew) -> None:
        """Connect; a run in which nobody could is none."""
        failures = []
        for family, address in self.addresses.items():
            connects, error = crew.open(family)
            # They last for the measuring. What connects later, in the warm-up, is part of that.
            self.accounts[family].connect.add(connects)
            # What connects as a turn ends begins anew in the next.
            self._lengthen_turns(self.accounts[family].connect, _CONNECTS_A_TURN)
            if error is not None and not connects:
                failures.append((str(address), error))
        if failures and len(failures) == len(self.addresses) and not self.interrupted:
            raise DialError(", ".join(map(str, self.addresses.values())), failures)

    def _warm_up(self, crew: Crew) -> None:
        for family in self.addresses:
            seconds, service = 0.0, Histogram()
            while (left := self.settings.warmup - seconds) > 0 and not self.interrupted:
                self._tell_progress(family)
                short = min(left, _WARM_UP_TURN)
                # What a turn leaves due is given up, as if it was the last: whichever is, by then
                # the measuring must find nothing due.
                tally = crew.turn(family, short, last=True, longest=left).tally
                seconds += tally.seconds
                service.add(tally.service)
                self.warm_up.add_connections(tally)
            # A turn ends with a wait for what is in flight: on a long way it should be longer.
            self._lengthen_turns(service, _EXCHANGES_A_TURN)
        self._tell_progress()

    def _lengthen_turns(self, seen: Histogram, many: int) -> None:
        """See to it that a turn has room for `many` of what took such times."""
        median = seen.figure().p50_us
        if median is not None and self.settings.duration is not None:
            share = self.settings.duration / len(self.addresses)
            self.turn_s = min(max(self.turn_s, many * median / 1e6), share)

    def _take_turns(self, crew: Crew) -> None:
        order = list(self.addresses)
        while not self.interrupted and any(self._remains(family) for family in order):
            for family in order:
                remains = self._remains(family)
                if remains is None or self.interrupted:
                    continue
                start = time.monotonic() - self._began
                turn = crew.turn(
                    family,
                    remains.seconds,
                    remains.count,
                    last=remains.last,
                    longest=remains.left,
                )
                self._cpu_seconds += turn.cpu_share * turn.tally.seconds
                self.accounts[family].add(start, turn.tally)
                self._look_for_silence(family)
                self._tell_progress()
            order.reverse()

    def _remains(self, family: FamilyName) -> "_Remains | None":
        """What the family's next turn is; None: it has had all."""
        settings, total = self.settings, self.accounts[family].total
        seconds, count, last, left = self.turn_s, None, False, math.inf
        share = settings.share(len(self.addresses))
        if share is not None:
            left = share - total.seconds
            if settings.rate is not None:
                # The waits between turns are no part of it, unless they come to too much.
                left = min(share - total.sending_seconds, left + _WAITS * share)
            # What is left over for want of a hundredth of a turn is not worth one, but where
            # exchanges fall due in it.
            least = self.turn_s / 100
            if settings.rate is not None:
                least = min(least, 1 / settings.rate)
            if left < least:
                return None
            # It may take longer than that, but no less.
            last = left - seconds < least
            seconds = min(seconds, left)
        if settings.count is not None:
            count = settings.count - total.requests - total.unsent
            if count <= 0:
                return None
        return _Remains(seconds, count, last, left)

    def _share(self) -> float:
        shares = [0.0]
        for account in self.accounts.values():
            total = account.total
            if self.settings.duration is not None:
                shares.append(total.seconds * len(self.accounts) / self.settings.duration)
            if self.settings.count is not None:
                shares.append((total.requests + total.unsent) / self.settings.count)
        return min(1.0, max(shares))

    def _tell_progress(self, warming_up: FamilyName | None = None) -> None:
        if self._progress is not None:
            self._progress(Progress(self._share(), self.accounts, warming_up))

    def _look_for_silence(self, family: FamilyName) -> None:
        silent = self.accounts[family].silent_seconds
        patience = self.settings.timeout + _SILENCE
        # An interrupt is an end of its own.
        if self.settings.duration is None and silent > patience and not self.interrupted:
            raise NothingCameBack(
                f"nothing came back from {self.addresses[family]} for {silent:.0f}s"
            )
