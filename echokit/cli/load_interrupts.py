"""SIGINT and SIGTERM while a load runs: what has been measured until then is not lost.

And whenever they come, there is a document of it, if one was asked for.
"""

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
    """What signals do to a load; a context manager.

    Before its outputs are open, the first waits until they are, and the second ends it at once.
    Then, before anything is measured, the first ends it at once. While it is measured, the first
    ends it early, with what it has, and the second at once. While that is written, the first is let
    pass, so that nothing is cut short, and the second ends it.

    Attributes:
        session: The load, as soon as there is one.
        code: The exit code that stands for having ended the measuring early; None where nothing
            has.
    """

    def __init__(self) -> None:
        self.session: Session | None = None
        self.code: int | None = None
        self._opened = self._writing = False
        # What came before the outputs were open.
        self._early: KeyboardInterrupt | None = None
        self._pressed = 0
        self._last = -_SAME

    def opened(self) -> None:
        """There is somewhere to write to.

        Raises:
            KeyboardInterrupt: A signal has been waiting for that.
        """
        self._opened = True
        if self._early is not None:
            raise self._early

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
        session = self.session
        if not self._opened and self._pressed == 1:
            self._early = ended
        elif self._pressed == 1 and self._writing:
            pass
        elif self._pressed == 1 and session is not None and session.measuring:
            self.code = exit_code(ended)
            session.interrupt()
        else:
            if session is not None:
                session.interrupted = True
            raise ended

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        return self

    def __exit__(self, *exc_info: object) -> None:
        for number, handler in self._before.items():
            with suppress(TypeError):
                signal.signal(number, handler)
