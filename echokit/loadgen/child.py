"""Child processes that a run starts: how they are started, talked to and ended.

A child is this Python running a module of this package, with one end of a socket pair. It goes by
itself when the other end closes, however its parent ends. It stands in a process group of its own,
so that a Ctrl-C at the terminal is its parent's to handle.
"""

import contextlib
import os
import socket
import subprocess
import sys
from multiprocessing.connection import Connection
from typing import Any, Self

from echokit.errors import EchokitError
from echokit.worker_process import ending_in_words

__all__ = ["Child", "ChildDied", "channel"]

# How long a child may take to go when nobody talks to it any more, in seconds.
_END_TIMEOUT = 5.0


class ChildDied(EchokitError):
    """A child process ended while it was needed."""


class Child:
    """A process that runs `module`, and the channel to it.

    Args:
        module: A module of this package.
        title: What it is, for the error of its death.
    """

    def __init__(self, module: str, title: str) -> None:
        self._title = title
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            with theirs:
                warnings = [f"-W{option}" for option in sys.warnoptions]
                # It finds modules where we do, and not first where the user stands, as -m has it.
                path = {"PYTHONPATH": os.pathsep.join(sys.path)}
                self._process = subprocess.Popen(  # noqa: S603 - this Python, a module of ours
                    [sys.executable, *warnings, "-P", "-m", module, str(theirs.fileno())],
                    env=os.environ | path,
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    process_group=0,
                )
            undo.pop_all()
        self._channel = Connection(ours.detach())

    def send(self, message: object) -> None:
        """Hand `message` over.

        Raises:
            ChildDied: It has ended.
        """
        try:
            self._channel.send(message)
        except OSError as error:
            raise self._died() from error

    def receive(self) -> Any:
        """What it says next; an error that it met is raised here.

        Raises:
            ChildDied: It has ended.
        """
        try:
            answer = self._channel.recv()
        except (EOFError, OSError) as error:
            raise self._died() from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _died(self) -> ChildDied:
        try:
            code = self._process.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            return ChildDied(f"{self._title} talks no more")
        return ChildDied(f"{self._title} {ending_in_words(code, '')}")

    def close(self) -> None:
        """End it, and wait until it has."""
        self._channel.close()
        try:
            self._process.wait(_END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def channel() -> Connection:
    """The child's end of the channel, whose number stands in argv."""
    return Connection(int(sys.argv[1]))
