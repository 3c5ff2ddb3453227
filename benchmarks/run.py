"""A whole run: what is measured of whom, how long that takes, and doing it."""

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.build import UnavailableError
from benchmarks.cases import Bench, Case
from benchmarks.catalogue import CASES, COMPARISONS
from benchmarks.comparison import Comparison, compare
from benchmarks.generator import choose_generator
from benchmarks.machine import busy, describe, versions
from benchmarks.measure import Results, measure, raise_descriptor_limit, unfit
from benchmarks.options import asked
from benchmarks.peers import LIMIT, OURS, PEERS, Peer
from benchmarks.processes import choose_cores
from echokit.net.listen import loopback_families

__all__ = ["Run"]

FAMILIES = {"127.0.0.1": "IPv4", "::1": "IPv6"}


class Run:
    """What was asked for.

    Args:
        options: As `options.parse` gives them.

    Attributes:
        results: What has been gathered.

    Raises:
        UnavailableError: This is no Linux; or it lacks the family or the load generator that was
            asked for.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        if not hasattr(os, "sched_setaffinity") or not Path("/proc/self/schedstat").exists():
            raise UnavailableError("what is measured comes from Linux's /proc, with schedstat")
        self._options = options
        self._bench = Bench(
            choose_generator(options.load), choose_cores(), options.warmup, options.seconds
        )
        self._descriptors = raise_descriptor_limit()
        self._averages = os.getloadavg()
        self.results = Results(busy=busy(self._averages[0], os.cpu_count() or 1))
        self._families = [
            (FAMILIES[address], address)
            for _, address in loopback_families()
            if options.family in (None, FAMILIES[address][-1])
        ]
        if not self._families:
            raise UnavailableError("this host lacks the family on its loopback")
        self._cases = [case for case in CASES if asked(case.name, options.case)]
        self._comparisons = [case for case in COMPARISONS if asked(case.name, options.case)]
        chosen: list[Case | Comparison] = [*self._cases, *self._comparisons]
        self.results.notes = {
            case.name: note for case in chosen if (note := case.note(self._bench.cores))
        }
        self._peers: dict[str, list[Peer]] = {}
        for case in self._cases:
            self._peers[case.name] = list(self._taking_part(case, options.peer))

    def _taking_part(self, case: Case, names: Sequence[str] | None) -> Iterator[Peer]:
        """The servers that `case` is measured with; why others are not goes to the results."""
        why = unfit(case)
        if why is not None:
            self.results.skip(case.name, why)
            return
        for peer in case.peers or PEERS:
            if not case.peers and peer.name not in {LIMIT, OURS} and not asked(peer.name, names):
                continue
            framing, here = case.framing(peer), f"{peer.name} in {case.name}"
            if framing not in peer.framings:
                # Nobody misses it who has not asked for it by its name.
                if names is not None:
                    self.results.skip(here, f"does not speak {framing}")
            elif (why := peer.unfit(case.open, self._descriptors)) is not None:
                self.results.skip(here, why)
            else:
                yield peer

    def estimates(self) -> dict[str, float]:
        """How long each case takes, about, in seconds."""
        rounds: int = self._options.rounds
        found = {}
        for case in self._cases:
            times = min(rounds, case.most_rounds)
            # A server takes a moment to start.
            starts = 0.3 * (times if case.fresh else 1)
            each = times * case.estimate(self._bench) + starts
            found[case.name] = len(self._families) * len(self._peers[case.name]) * each
        for comparison in self._comparisons:
            families = len(self._families) if comparison.over_network else 1
            found[comparison.name] = families * (rounds + 1) * comparison.estimate(self._bench)
        return found

    def about(self) -> dict[str, Any]:
        """With what it is made, for whoever reads the results."""
        return {
            "machine": describe(self._averages),
            "versions": versions(),
            "settings": {
                "rounds": self._options.rounds,
                "seconds": self._options.seconds,
                "warmup": self._options.warmup,
                "cores": str(self._bench.cores),
                "load generator": self._bench.generator.about,
            },
        }

    def measure(self, tell: Callable[[str], object]) -> None:
        """Measure it all."""
        rounds = self._options.rounds
        for case in self._cases:
            for family, host in self._families:
                measure(
                    case,
                    family,
                    host,
                    self._peers[case.name],
                    rounds,
                    self._bench,
                    self.results,
                    tell,
                )
        for comparison in self._comparisons:
            families = self._families if comparison.over_network else [("", self._families[0][1])]
            for family, host in families:
                compare(comparison, family, host, rounds, self._bench, self.results, tell)
