"""Cutting what is sent into pieces, each handed to the system by itself.

TCP may cut a stream anywhere, and mostly does not: so a parser that trusts its luck passes most
tests. This makes the cuts on purpose, the same ones each time, or at random from a seed. With
TCP_NODELAY each piece leaves by itself, but the receiver's system joins those that it has not
been asked for in time: a pause between them keeps them apart.
"""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["JOINED", "RANDOM", "Segmentation", "Segments"]

RANDOM = "random"
JOINED = "joined"
# Random pieces: mostly a few bytes, where headers are cut, and now and then many.
_SMALL = 8
_LARGE = 64
# How long joined output is gathered where no delay is given, in seconds.
_GATHER = 0.02


@dataclass(frozen=True, slots=True)
class Segmentation:
    """How what is sent is cut.

    Attributes:
        how: The sizes of the pieces in bytes, over and over; or `RANDOM`, from `seed`; or
            `JOINED`: what there is to send is gathered for `delay`, and sent in one piece.
        delay: The pause between two pieces, in seconds; 0 is none (joined: 20 ms).
        seed: What the random sizes come from: the same seed, the same cuts.
    """

    how: tuple[int, ...] | str
    delay: float = 0.0
    seed: int = 0

    def __str__(self) -> str:
        how = self.how if isinstance(self.how, str) else list(self.how)
        seed = f", seed={self.seed}" if self.how == RANDOM else ""
        delay = f", segment_delay={self.delay}" if self.delay else ""
        return f"segment={how!r}{delay}{seed}"


class Segments:
    """The pieces of what one connection sends.

    Attributes:
        delay: The pause after a piece, in seconds.
        left: How many bytes the piece that is being sent still takes.
    """

    __slots__ = ("_sizes", "delay", "left")

    def __init__(self, segmentation: Segmentation, connection: int) -> None:
        self.delay = segmentation.delay or (_GATHER if segmentation.how == JOINED else 0.0)
        self._sizes = _sizes(segmentation, connection)
        self.left = next(self._sizes)

    def sent(self, size: int) -> bool:
        """Note that `size` bytes, at most `left`, have left; whether that ended the piece."""
        self.left -= size
        if self.left:
            return False
        self.left = next(self._sizes)
        return True


def _sizes(segmentation: Segmentation, connection: int) -> Iterator[int]:
    if not isinstance(segmentation.how, str):
        return itertools.cycle(segmentation.how)
    # A generator of its own for each connection: what one meets does not depend on the others.
    seed = f"{segmentation.seed}/{connection}"
    return _random_sizes(random.Random(seed))  # noqa: S311 - nothing secret is made of it


def _random_sizes(numbers: random.Random) -> Iterator[int]:
    while True:
        most = _SMALL if numbers.random() < 0.75 else _LARGE  # noqa: PLR2004 - three in four
        yield numbers.randint(1, most)
