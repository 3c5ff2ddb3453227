"""Cutting what is sent into pieces, each handed to the system by itself.

TCP may cut a stream anywhere, and mostly does not; so a parser that trusts its luck passes most
tests. This makes the cuts on purpose: the same ones each time, or at random from a seed. With
TCP_NODELAY each piece leaves by itself, but the receiver's system may join those that it finds
together: a pause between them keeps them apart.
"""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["JOINED", "RANDOM", "Segmentation"]

RANDOM = "random"
JOINED = "joined"
# Random pieces: mostly a few bytes, where headers are cut, and now and then many.
_SMALL = 8
_LARGE = 2048


@dataclass(frozen=True, slots=True)
class Segmentation:
    """How what is sent is cut.

    Attributes:
        how: The sizes of the pieces in bytes, over and over; or `RANDOM`, from `seed`; or
            `JOINED`: what there is to send is gathered for `delay`, and sent in one piece.
        delay: The pause between two pieces, in seconds; 0 is none.
        seed: What the random sizes come from: the same seed, the same cuts.
    """

    how: tuple[int, ...] | str
    delay: float = 0.0
    seed: int = 0

    @property
    def joins(self) -> bool:
        """Whether it joins rather than cuts."""
        return self.how == JOINED

    def sizes(self, connection: int) -> Iterator[int]:
        """The sizes of the pieces of the `connection`th connection, without end."""
        if not isinstance(self.how, str):
            return itertools.cycle(self.how)
        # A generator of its own for each connection: what one meets does not depend on others.
        return _random_sizes(random.Random(f"{self.seed}/{connection}"))  # noqa: S311 - no secret


def _random_sizes(numbers: random.Random) -> Iterator[int]:
    while True:
        most = _SMALL if numbers.random() < 0.75 else _LARGE  # noqa: PLR2004 - three in four
        yield numbers.randint(1, most)
