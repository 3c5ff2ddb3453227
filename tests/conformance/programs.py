"""Others' programs: found or skipped, started, waited for, and ended."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence

import pytest

__all__ = ["DEADLINE", "listening", "running", "tool"]

# How long a program may take to do the next thing. Far more than it needs: it ends what hangs.
DEADLINE = 20.0


def tool(name: str) -> str:
    """The path of a program, or a skipped test."""
    # Servers stand in folders that only root may have in PATH.
    folders = [os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]
    path = shutil.which(name, path=os.pathsep.join(folders))
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@contextlib.contextmanager
def running(
    command: Sequence[str], *, pass_fds: Sequence[int] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """A program, until the block ends. If that ends in an error, it says what the program said."""
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            pass_fds=pass_fds,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield process
        except BaseException as error:
            said.seek(0)
            error.add_note(f"{' '.join(command)} said: {said.read()!r}")
            raise
        finally:
            # It and those that it started, which are a session of their own; before it has been
            # waited for, while nobody else can have been given its number.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            with contextlib.suppress(ChildProcessError):
                while True:
                    os.waitpid(-process.pid, 0)


@contextlib.contextmanager
def listening(command: Sequence[str], host: str, port: int) -> Iterator[None]:
    """A server, from when it can be connected to until the block ends."""
    with running(command) as process:
        deadline = time.monotonic() + DEADLINE
        while not _accepts(host, port):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.01)
            assert process.returncode is None, f"{command[0]} ended, with {process.returncode}"
            assert time.monotonic() < deadline, f"{command[0]} does not listen"
        yield


def _accepts(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=DEADLINE).close()
    except ConnectionRefusedError:
        return False
    return True
