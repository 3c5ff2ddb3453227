"""The process that `tests.cli.forks` starts: it imports what the commands need, then only forks.

`python -m tests.cli.forking FD`. It has one thread, and nothing of pytest's.
"""

import contextlib
import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from echokit.cli import main

# Commands import as they run. These import nearly everything, and reach nobody.
_WARMING = ("load --help", "load --rate x", "config show", "send --port x", "report /dev/null")
# The exit code of an interpreter that could not write what it still had.
_UNFLUSHED = 120
_STREAMS = (sys.stdin, sys.stdout, sys.stderr)


def _warm() -> None:
    """Import, and leave nothing to be collected in every fork anew."""
    argv = sys.argv
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123 - it is no file
        for words in _WARMING:
            sys.argv = ["echokit", *words.split()]
            with (
                contextlib.redirect_stdout(nowhere),
                contextlib.redirect_stderr(nowhere),
                contextlib.suppress(SystemExit),
            ):
                main()
    sys.argv = argv
    gc.collect()
    gc.freeze()


def _serve(channel: socket.socket) -> dict[str, Any] | None:
    """Fork for each that asks; returns, in the process of a command, what was asked for."""
    while True:
        data, fds, _, _ = socket.recv_fds(channel, 1, 4)
        # Bury those that have ended by now; at the end, all.
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG if data else 0)[0]:
                pass
        if not data:
            return None
        if not os.fork():
            channel.close()
            call = _look_after(socket.socket(fileno=fds[3]), fds[:3])
            if call is not None:
                return call
            os._exit(0)
        for fd in fds:
            os.close(fd)


def _look_after(status: socket.socket, streams: Sequence[int]) -> dict[str, Any] | None:
    """Tell of a command from its beginning to its end; returns as `_serve` does."""
    with status, status.makefile("rw") as lines:
        call: dict[str, Any] = json.loads(lines.readline())
        reading, writing = os.pipe()
        if not (child := os.fork()):
            return call | {"streams": (reading if call["piped"] else streams[0], *streams[1:])}
        os.close(reading)
        for fd in streams[1:]:
            os.close(fd)
        print(child, file=lines, flush=True)
        # It may end without having read all.
        with contextlib.suppress(BrokenPipeError):
            while call["piped"] and (data := os.read(streams[0], 65536)):
                os.write(writing, data)
        os.close(writing)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        # Whoever asked may have gone.
        with contextlib.suppress(BrokenPipeError):
            print(ended, file=lines, flush=True)
    return None


def _become(call: dict[str, Any]) -> None:
    """Be the process of one command, as far as it can tell."""
    for number, fd in enumerate(call["streams"]):
        os.dup2(fd, number)
    # Among them the ends of other processes' pipes: to keep one would keep them from ending.
    os.closerange(3, 256)
    # As the interpreter opens them: it asks each whether it is a terminal, or can be rewound.
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, line, was.encoding, was.errors, closefd=False)  # noqa: SIM115
        for number, (mode, line, was) in enumerate(zip("rww", (-1, -1, 1), _STREAMS, strict=True))
    )
    os.environ.clear()
    os.environ.update(call["env"])
    os.chdir(call["cwd"])
    sys.argv = ["echokit", *call["args"]]
    # What hangs is ended; 0: it may take any time.
    signal.alarm(call["deadline"])


def _run() -> NoReturn:
    """Run the command that argv asks for, and end as the interpreter does, in a tenth of the time.

    It would take apart every module, which in a fork copies all the memory that they are in.
    """
    try:
        main()
    except SystemExit as ending:
        code = ending.code
    assert isinstance(code, int)
    # What is left unclosed warns as it goes; what was imported before is frozen, and costs nothing.
    gc.collect()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = _UNFLUSHED
    os._exit(code)


if __name__ == "__main__":
    _warm()
    with socket.socket(fileno=int(sys.argv[1])) as asking:
        command = _serve(asking)
    if command is not None:
        _become(command)
        _run()
