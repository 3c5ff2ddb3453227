"""What holds a server up, or splits it in two: a plugin that takes too long, a fork."""

import os
import socket
import time
import warnings

import pytest

from echokit import Delimited, EchoServer, Observer
from echokit.config import Limits
from echokit.framing.base import Decoder, Framing
from tests.cli.peers import client, receive
from tests.faults.serving import until


class _Slow(Framing):
    """Lines; one that asks for it makes everybody wait."""

    type: str = "slow"
    seconds: float

    def decoder(self) -> Decoder:
        return Delimited().decoder()

    def encode(self, message: bytes) -> bytes:
        if message == b"wait":
            time.sleep(self.seconds)
        return message + b"\n"


class _Warned(Observer):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warned(self, text: str) -> None:
        self.warnings.append(text)


def _echoes(sock: socket.socket, line: bytes) -> bool:
    sock.sendall(line)
    return receive(sock, len(line)) == line


@pytest.mark.one_family
@pytest.mark.parametrize(("seconds", "told"), [(0.05, False), (0.5, True)])
def test_a_framing_that_holds_everybody_up_is_warned_of_and_nobody_pays_for_it(
    host: str, seconds: float, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # For real it is a second, and so are the lines apart.
    monkeypatch.setattr("echokit.server.BEAT", 0.1)
    warned = _Warned()
    limits = Limits(idle_timeout=0.3)
    framing = _Slow(seconds=seconds)
    with (
        EchoServer(
            host, 0, framing=framing, chunk_size=64, limits=limits, observer=warned
        ) as server,
        client(host, server.port) as sock,
        client(host, server.port) as other,
    ):
        assert _echoes(other, b"before\n")
        assert _echoes(sock, b"wait\n")
        # The time that it took is not taken for silence of the other.
        assert _echoes(other, b"after\n")
        if told:
            until(lambda: len(warned.warnings) == 1)
    assert len(warned.warnings) == told
    assert all(text.startswith("nobody was served for 0.") for text in warned.warnings)


def test_a_fork_that_ends_takes_nothing_with_it_and_the_port_is_free_afterwards(
    family: socket.AddressFamily, host: str
) -> None:
    with EchoServer(host, 0) as server, client(host, server.port) as sock:
        assert _echoes(sock, b"before\n")
        with warnings.catch_warnings():
            # Python warns of forks with threads since 3.12: that is what this is about.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if not child:
            os._exit(0)
        assert os.waitpid(child, 0) == (child, 0)
        assert _echoes(sock, b"after\n")
        sock.close()
    with socket.socket(family) as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind((host, server.port))
        again.listen()
