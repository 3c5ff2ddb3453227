"""Ctrl-C and SIGTERM at the worst moments: nobody is left behind."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from benchmarks import generator, peers
from benchmarks.generator import Generator, Load
from benchmarks.peers import Peer, Server
from benchmarks.processes import uninterrupted

BOTH = [signal.SIGINT, signal.SIGTERM]
STAYS = [sys.executable, "-c", "import signal; signal.pause()"]
# Whoever ends this server is interrupted meanwhile, and must end it all the same.
INTERRUPTS = """
import os, signal, socket
def interrupt(*_):
    os.kill(os.getppid(), signal.{name})
signal.signal(signal.SIGTERM, interrupt)
listener = socket.create_server(("127.0.0.1", 0))
while True:
    signal.pause()
"""


@pytest.fixture(params=BOTH, ids=lambda number: number.name)
def number(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """Each of the two, which interrupts as it does in the command."""
    number: signal.Signals = request.param
    before = signal.signal(number, signal.default_int_handler)
    yield number
    signal.signal(number, before)


def _interrupted_amid_start(
    module: ModuleType, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> list[subprocess.Popen[Any]]:
    """Those that `module` will have started, each of them before it can know of it."""
    started = []

    def popen(*args: Any, **options: Any) -> subprocess.Popen[Any]:
        process = subprocess.Popen(*args, **options)
        started.append(process)
        signal.raise_signal(number)
        return process

    changed = SimpleNamespace(**vars(subprocess) | {"Popen": popen})
    monkeypatch.setattr(module, "subprocess", changed)
    return started


def _ended(process: subprocess.Popen[Any]) -> bool:
    """Whether it was waited for; if not, nobody else would."""
    ended = process.returncode is not None
    process.kill()
    process.wait()
    return ended


@uninterrupted()
def _interrupt_amid(number: signal.Signals, steps: list[str]) -> None:
    signal.raise_signal(number)
    steps.append("whole")


def test_an_interrupt_waits_for_the_end_of_what_must_be_whole(number: signal.Signals) -> None:
    steps: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        _interrupt_amid(number, steps)
    assert steps == ["whole"]
    assert signal.getsignal(number) is signal.default_int_handler


def test_one_amid_the_start_of_a_server_leaves_none(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = _interrupted_amid_start(peers, number, monkeypatch)
    peer = Peer("stays", "", lambda _framing, _host: STAYS)
    with pytest.raises(KeyboardInterrupt), peers.start(peer, "raw", "127.0.0.1", None):
        pytest.fail("it never listens")
    assert list(map(_ended, started)) == [True]


def test_one_amid_the_end_of_a_server_leaves_none(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It does not heed SIGTERM, and is ended without its consent.
    monkeypatch.setattr(peers, "_GRACE", 0.1)
    code = INTERRUPTS.format(name=number.name)
    peer = Peer("interrupts", "", lambda _framing, _host: [sys.executable, "-c", code])
    servers: list[Server] = []
    with pytest.raises(KeyboardInterrupt), peers.start(peer, "raw", "127.0.0.1", None) as server:
        servers.append(server)
    assert [_ended(server.process) for server in servers] == [True]


def test_one_amid_the_start_of_a_load_leaves_none(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = _interrupted_amid_start(generator, number, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        Generator(STAYS, "stays").run(Load(), "127.0.0.1", 1, warmup=0, seconds=1)
    assert list(map(_ended, started)) == [True]
