"""The processes that a run is spread over, as one: each turn runs in all of them at once."""

import contextlib
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, Self

from echokit.loadgen.bench import Bench
from echokit.loadgen.child import Child
from echokit.loadgen.measured import FamilyName
from echokit.loadgen.plan import BenchPlan, Plan
from echokit.loadgen.records import Tally
from echokit.loadgen.settings import LoadSettings
from echokit.net.address import Address

__all__ = ["Crew", "Turn"]


class Turn:
    """What one turn came to.

    Attributes:
        tally: All workers together.
        cpu_share: Own CPU time by the turn's length, of the busiest worker.
    """

    def __init__(self, tallies: list[Tally]) -> None:
        self.tally = Tally()
        for tally in tallies:
            self.tally.add(tally)
        # They ran side by side.
        self.tally.seconds = max(tally.seconds for tally in tallies)
        self.tally.sending_seconds = max(tally.sending_seconds for tally in tallies)
        # One that hears something is enough; one that asked for nothing tells nothing.
        silences = [
            tally.silent_seconds
            for tally in tallies
            if tally.silent_seconds or tally.outcomes["ok"]
        ]
        self.tally.silent_seconds = min(silences, default=0.0)
        shares = [tally.cpu_seconds / tally.seconds for tally in tallies if tally.seconds]
        self.cpu_share = max(shares, default=0.0)


class Crew:
    """One bench in this process, or several in processes of their own; a context manager.

    Raises:
        ConfigError: The framing cannot carry messages of such sizes.
        ChildDied: A worker process could not be had.
    """

    def __init__(self, settings: LoadSettings, addresses: Mapping[FamilyName, Address]) -> None:
        self._settings = settings
        self._children: list[Child] = []
        self._bench: Bench | None = None
        # How far the schedule of each worker is, in seconds, by family.
        self._scheduled = {family: [0.0] * settings.workers for family in addresses}
        plans = _plans(settings, addresses)
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            if len(plans) == 1:
                self._bench = Bench(plans[0])
            for number, plan in enumerate(plans if len(plans) > 1 else ()):
                child = Child("echokit.loadgen.worker", f"worker {number} of the load")
                self._children.append(child)
                child.send(plan)
            for child in self._children:
                child.receive()
            undo.pop_all()

    def open(self, family: FamilyName) -> tuple[Counter[int], OSError | None]:
        """Connect every lane; the connect times, and the last error of those that failed."""
        answers = self._call("open", [(family,)] * self._settings.workers)
        errors = [error for _, error in answers if error is not None]
        connects: Counter[int] = Counter()
        for each, _ in answers:
            connects.update(each)
        return connects, errors[-1] if errors else None

    def turn(
        self,
        family: FamilyName,
        seconds: float,
        count: int | None = None,
        *,
        last: bool = False,
        longest: float = math.inf,
    ) -> Turn:
        """Run a turn of `family`, of at most `count` exchanges; see `Generator.turn`."""
        workers = self._settings.workers
        counts = [None if count is None else part for part in _shares(count or 0, workers)]
        scheduled = self._scheduled[family]
        furthest = max(scheduled)
        # One whose turns did not go on for what was in flight catches up with those whose did.
        calls = [
            (family, seconds + furthest - own, part, last, longest + furthest - own)
            for part, own in zip(counts, scheduled, strict=True)
            if part != 0
        ]
        tallies: list[Tally] = self._call("turn", calls)
        turn = Turn(tallies)
        if self._settings.rate is not None:
            # Those that have no part in it are the last.
            for worker, tally in enumerate(tallies):
                scheduled[worker] += tally.sending_seconds
            turn.tally.sending_seconds = max(scheduled) - furthest
        return turn

    def interrupt(self) -> None:
        """End the turn that runs, and run none any more. From any thread, and signal handlers."""
        if self._bench is not None:
            self._bench.interrupt()
        for child in self._children:
            child.send(("interrupt", ()))

    def finish(self) -> dict[FamilyName, Tally]:
        """Close every connection; what the kernel says of them, and what was never sent."""
        together: dict[FamilyName, Tally] = {}
        for tallies in self._call("close", [()] * self._settings.workers):
            for family, tally in tallies.items():
                together.setdefault(family, Tally()).add(tally)
        return together

    def _call(self, name: str, calls: list[tuple[Any, ...]]) -> list[Any]:
        """Have each worker do its call, all at once; their answers."""
        if self._bench is not None:
            return [getattr(self._bench, name)(*calls[0])]
        called = list(zip(self._children, calls, strict=False))
        for child, arguments in called:
            child.send((name, arguments))
        return [child.receive() for child, _ in called]

    def close(self) -> None:
        """End every process and connection."""
        if self._bench is not None:
            self._bench.close()
        for child in self._children:
            child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _shares(total: int, parts: int) -> list[int]:
    """`total` in so many parts, as even as can be, the larger ones first."""
    share, rest = divmod(total, parts)
    return [share + (number < rest) for number in range(parts)]


def _plans(settings: LoadSettings, addresses: Mapping[FamilyName, Address]) -> list[BenchPlan]:
    """What each worker does."""
    rate = None if settings.rate is None else settings.rate / settings.workers
    first = 0
    plans = []
    for number, connections in enumerate(_shares(settings.connections, settings.workers)):
        whole = {
            family: Plan(
                address=address,
                connections=connections,
                in_flight=settings.in_flight,
                rate=rate,
                churn=settings.churn,
                framing=settings.framing,
                chunk_size=settings.chunk_size,
                timeout=settings.timeout,
                connect_timeout=settings.connect_timeout,
                first_lane=first,
                # Their schedules interleave.
                phase=number / settings.workers,
                workers=settings.workers,
            )
            for family, address in addresses.items()
        }
        plans.append(BenchPlan(whole, settings.seed, settings.size_min, settings.size_max))
        first += connections
    return plans
