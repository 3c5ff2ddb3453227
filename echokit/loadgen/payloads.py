"""What is sent: messages drawn from a seed, made before the run so that making them costs nothing.

A pool of messages is drawn once, and each connection goes round it from a place of its own. So two
exchanges in a row send different bytes, and so do two connections, as far as there are messages (of
large ones there are few): an echo of something else shows. A seed repeats what each connection
sends, in its order; how many exchanges each of several gets is for the target and the machine to
say.
"""

import random
import string

from echokit.errors import ConfigError, FramingError, MessageTooLarge
from echokit.framing.base import Framing

__all__ = ["Payloads"]

# The pool has as many messages as fit in so many bytes, between these bounds.
_POOL_BYTES = 16 << 20
_FEWEST = 4
_MOST = 4096
# Odd, so that neighbours begin far apart in a pool whose size is a power of two.
_STRIDE = 2531
# Every byte made a letter or digit: for framings that cannot carry every byte.
_LETTERS = (string.ascii_letters + string.digits).encode()
_TO_LETTERS = bytes(_LETTERS[byte % len(_LETTERS)] for byte in range(256))


class Payloads:
    """The messages of a run, each with its bytes on the wire.

    Args:
        seed: The same seed gives the same messages.
        size_min: The least size of a message, in bytes.
        size_max: The greatest; sizes are drawn evenly between the two.
        framing: How messages stand on the wire.

    Raises:
        ConfigError: The framing cannot carry messages of such sizes.
    """

    def __init__(self, seed: int, size_min: int, size_max: int, framing: Framing) -> None:
        count = _MOST
        while count > _FEWEST and count * (size_min + size_max) // 2 > _POOL_BYTES:
            count //= 2
        dice = random.Random(seed)  # noqa: S311 - to be drawn again, not to be secret
        sizes = _sizes(dice, count, size_min, size_max)
        try:
            try:
                self.messages = [dice.randbytes(size) for size in sizes]
                self.wires = [framing.encode(message) for message in self.messages]
            except MessageTooLarge:
                raise
            except FramingError:
                # A delimiter, say, that a message must not have inside.
                self.messages = [message.translate(_TO_LETTERS) for message in self.messages]
                self.wires = [framing.encode(message) for message in self.messages]
        except FramingError as error:
            raise ConfigError(f"--size: framing {framing.type} cannot carry it: {error}") from error

    @property
    def longest(self) -> int:
        """How long the longest of them is on the wire, in bytes."""
        return max(map(len, self.wires))

    def __len__(self) -> int:
        return len(self.messages)

    def start(self, connection: int) -> int:
        """Where in the pool the connection of that number begins."""
        return connection * _STRIDE % len(self.messages)


def _sizes(dice: random.Random, count: int, least: int, greatest: int) -> list[int]:
    """An even number of sizes, one from each of as many equal parts of the range, in any order.

    Each has one that lies opposite, so that their mean is the range's: of large messages there are
    few, and a seed should not decide how large they are on the whole.
    """
    span = greatest - least + 1
    lower = [least + int((part + dice.random()) * span / count) for part in range(count // 2)]
    sizes = [*lower, *(least + greatest - size for size in lower)]
    dice.shuffle(sizes)
    return sizes
