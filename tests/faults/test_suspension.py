"""A client that is suspended for a while: time passes, and nothing is lost."""

import os
import signal
import socket
import subprocess
import time

import pytest

from tests.cli.peers import receive, serving_once
from tests.cli.processes import COMMAND, Running

# Longer than the client waits for an answer, in seconds.
STILL = 1.0


def _stand_still(process: subprocess.Popen[bytes]) -> None:
    """Stop `process`, and return once the system has."""
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)


@pytest.mark.slow
def test_a_client_that_stood_still_takes_an_answer_that_came_in_time(host: str) -> None:
    processes: list[subprocess.Popen[bytes]] = []

    def answer(sock: socket.socket) -> None:
        assert receive(sock, 5) == b"hello"
        # The client has looked how long it has waited, which it does every 30 ms.
        time.sleep(0.1)
        _stand_still(processes[0])
        sock.sendall(b"hello")
        time.sleep(STILL)
        processes[0].send_signal(signal.SIGCONT)
        sock.recv(1)

    with serving_once(host, answer) as port:
        args = ("--host", host, "--port", str(port), "--timeout", "300ms", "-")
        # Only who has started a process can wait for it to stop.
        with Running("send", *args, stdin=subprocess.PIPE, command=COMMAND) as sending:
            assert isinstance(sending.process, subprocess.Popen)
            processes.append(sending.process)
            sending.stdin.write(b"hello")
            assert sending.lines(3)[2] == 'received "hello"'
            done = sending.end()
    assert done.code == 0
    assert not done.err
