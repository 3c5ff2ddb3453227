"""Commands that are run to their end, each once a round: no server's figures, but their own."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

from benchmarks.build import UnavailableError
from benchmarks.cases import Bench, Figures
from benchmarks.measure import Results, Sample, Tell, noted, out, rotated
from benchmarks.peers import ServerFailedError
from benchmarks.processes import Cores

__all__ = ["Commands", "Comparison", "compare"]

# What runs each command, and gives its figures.
Commands = dict[str, Callable[[], Figures]]


@dataclass(frozen=True)
class Comparison(ABC):
    """Commands beside each other.

    Attributes:
        name: To ask for it by.
        title: What it is.
    """

    name: str
    title: str

    # Whether it has an address, and so a family.
    over_network: ClassVar[bool] = True

    def note(self, cores: Cores) -> str:  # noqa: ARG002 - others look at it
        """What whoever reads the table should know."""
        return ""

    @abstractmethod
    def estimate(self, bench: Bench) -> float:
        """How long a round takes, about, in seconds."""

    @abstractmethod
    def commands(self, bench: Bench, host: str) -> AbstractContextManager[Commands]:
        """The commands by their names in the table, to be run while the block lasts.

        Raises:
            UnavailableError: Something cannot be had here.
            ServerFailedError: What they talk to does not listen.
        """


def compare(
    case: Comparison,
    family: str,
    host: str,
    rounds: int,
    bench: Bench,
    results: Results,
    tell: Tell,
) -> None:
    """Run each command once a round, and once before: the first start compiles what it finds."""
    where = " ".join(filter(None, (case.name, family)))
    try:
        with case.commands(bench, host) as commands:
            for number in range(-1, rounds):
                for name, run in rotated(list(commands.items()), number):
                    if out(case.name, family, name, results):
                        continue
                    tell(f"{where} round {number + 1}: {name}")
                    with noted(case.name, family, name, number, results):
                        figures = run()
                        if number >= 0:
                            sample = Sample(case.name, family, name, number, figures)
                            results.samples.append(sample)
    except UnavailableError as error:
        results.skip(where, str(error))
    except ServerFailedError as error:
        results.samples.append(Sample(case.name, family, "server", 0, failure=str(error)))
