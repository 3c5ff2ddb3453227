"""SIGINT and SIGTERM while a load runs: what has been measured until then is not lost."""

import signal
import time
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Self

from echokit.cli.ending import Terminated, exit_code

if TYPE_CHECKING:
    from echokit.loadgen.session import Session

__all__ = ["Interrupts"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Signals that follow each other so soon are one: timeout(1) and others signal a process, and then
# its group, in which it is. In seconds.
_SAME = 0.2


class Interrupts:
    """What signals do to `session`; a context manager.

    Before anything is measured, the first ends it at once. While it is measured, the first ends it
    early, with what it has, and the second at once. While that is written, the first is let pass,
    so that nothing is cut short, and the second ends it.

    Attributes:
        code: The exit code that stands for having ended the measuring early; None where nothing
            has.
    """

    def __init__(self, session: "Session") -> None:
        self._session = session
        self.code: int | None = None
        self._writing = False
        self._pressed = 0
        self._last = -_SAME

    def writing(self) -> None:
        """From now on what there is is written."""
        self._writing, self._pressed = True, 0

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        now, last = time.monotonic(), self._last
        self._last = now
        if now - last < _SAME:
            return
        self._pressed += 1
        ended = Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
        if self._pressed > 1 or not (self._writing or self._session.measuring):
            self._session.interrupted = True
            raise ended
        if not self._writing:
            self.code = exit_code(ended)
            self._session.interrupt()

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._before.items():
            with suppress(TypeError):
                signal.signal(number, handler)
