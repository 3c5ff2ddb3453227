"""Cutting a plain byte stream into messages, and putting messages together into the stream again.

Not a wire format: this is how a file or stdin becomes the messages that a framing then carries.
"""

__all__ = ["Cutter"]


class Cutter:
    """Cuts a stream into pieces of up to `size` bytes, each as soon as it has been read.

    Attributes:
        separator: What stood between two messages in the stream and belongs to neither.
    """

    separator: bytes = b""

    def __init__(self, size: int) -> None:
        self._size = size

    def cut(self, data: bytes) -> list[bytes]:
        """The messages that `data`, the stream's next bytes, brings to an end."""
        if len(data) <= self._size:
            return [data]
        return [data[at : at + self._size] for at in range(0, len(data), self._size)]

    def finish(self) -> list[bytes]:
        """The messages that the end of the stream brings to an end."""
        return []
