"""The generators of one process: one for each family, that take turns."""

import contextlib
from collections import Counter

from echokit.loadgen.descriptors import allow_descriptors
from echokit.loadgen.generator import Generator
from echokit.loadgen.measured import FamilyName
from echokit.loadgen.payloads import Payloads
from echokit.loadgen.plan import BenchPlan
from echokit.loadgen.records import Tally

__all__ = ["Bench"]


class Bench:
    """The generators of one process. In it, one turn runs at a time.

    Raises:
        ConfigError: The framing cannot carry messages of such sizes, or there are more connections
            than this process may have open.
    """

    def __init__(self, plan: BenchPlan) -> None:
        self._generators: dict[FamilyName, Generator] = {}
        connections = max(each.connections for each in plan.plans.values())
        allow_descriptors(connections, len(plan.plans))
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            for family, each in plan.plans.items():
                payloads = Payloads(plan.seed, plan.size_min, plan.size_max, each.framing)
                self._generators[family] = Generator(each, payloads)
            undo.pop_all()

    def open(self, family: FamilyName) -> tuple[Counter[int], OSError | None]:
        """Connect every lane; the connect times, and the last error of those that failed."""
        generator = self._generators[family]
        generator.open()
        return generator.records.take_connects(), generator.last_error

    def turn(
        self, family: FamilyName, seconds: float, count: int | None, last: bool, longest: float
    ) -> Tally:
        """Run a turn of `family`; see `Generator.turn`."""
        return self._generators[family].turn(seconds, count, last=last, longest=longest)

    def interrupt(self) -> None:
        """End the turn that runs, and run none any more. From any thread."""
        for generator in list(self._generators.values()):
            generator.interrupt()

    def close(self) -> dict[FamilyName, Tally]:
        """Close every connection; what the kernel says of them, and what was never sent."""
        closing, self._generators = self._generators, {}
        return {family: generator.close() for family, generator in closing.items()}
