"""The load generators, in C and in Python: they count right, and notice what is wrong."""

import socket
import threading
from collections.abc import Iterable
from dataclasses import replace

import pytest

from benchmarks.build import UnavailableError
from benchmarks.generator import Generator, Load, LoadFailedError, Outcome, choose_generator
from benchmarks.peers import Server
from tests.benchmarks.wrong_servers import CLOSING, SILENT, Answer, serving

LOADS = {
    "one": Load(count=200),
    "several": Load(connections=5, count=200),
    "in flight": Load(connections=3, in_flight=64, count=500),
    "a byte": Load(1, connections=2, count=200),
    "large": Load(3 << 20, connections=2, count=6),
    "large in flight": Load(100_000, connections=2, in_flight=3, count=30),
    "small buffers": Load(1 << 20, connections=3, buffer=65536, count=20),
    "churn": Load(connections=5, churn=True, count=100),
    "idle": Load(connections=2, idle=20, count=100),
}


def _each(names: Iterable[str], quickly: str) -> pytest.MarkDecorator:
    """Each generator with each of `names`.

    The one in Python takes a while to start: where time matters it is tried with one of them, and
    with all where it does not.
    """
    return pytest.mark.parametrize(
        ("generator", "name"),
        [
            *(("c", name) for name in names),
            *(
                pytest.param("python", name, marks=[] if name == quickly else pytest.mark.slow)
                for name in names
            ),
        ],
        indirect=["generator"],
    )


def _run(generator: Generator, load: Load, host: str, port: int, **more: object) -> Outcome:
    settings = {"warmup": 0.0, "seconds": 20.0} | more
    return generator.run(load, host, port, **settings)  # type: ignore[arg-type]


def _plausible(outcome: Outcome) -> None:
    assert outcome.seconds > 0
    assert 0 < outcome.p50_us <= outcome.p90_us <= outcome.p99_us <= outcome.p99_9_us
    assert outcome.p99_9_us <= outcome.max_us <= outcome.seconds * 1e6
    assert 0 < outcome.mean_us <= outcome.max_us
    assert outcome.cpu_us > 0


@pytest.mark.one_family
@_each(LOADS, quickly="several")
def test_as_many_messages_as_asked_for_come_back(
    generator: Generator, c_server: Server, framing: str, name: str
) -> None:
    load = replace(LOADS[name], framing=framing)
    outcome = _run(generator, load, c_server.host, c_server.port)
    assert outcome.messages == load.count
    assert outcome.payload_bytes == load.count * load.size
    assert outcome.connects == (load.count if load.churn else 0)
    _plausible(outcome)


@pytest.mark.one_family
@pytest.mark.parametrize(
    "generator", ["c", pytest.param("python", marks=pytest.mark.slow)], indirect=True
)
def test_by_time_the_window_lasts_as_long_as_asked_for(
    generator: Generator, c_server: Server, framing: str
) -> None:
    load = Load(connections=3, framing=framing)
    outcome = _run(generator, load, c_server.host, c_server.port, warmup=0.02, seconds=0.05)
    assert outcome.messages > 0
    assert outcome.seconds >= 0.05
    _plausible(outcome)


def test_at_each_moment_everything_that_was_sent_has_come_back(
    generator: Generator, family: socket.AddressFamily, host: str
) -> None:
    seen = 0
    lock = threading.Lock()
    moments = []

    def echo(data: bytes, _before: int) -> bytes:
        nonlocal seen
        with lock:
            seen += len(data)
        return data

    def at(moment: str) -> None:
        moments.append((moment, seen))

    load = Load(100, connections=3, in_flight=4, idle=2, count=50)
    with serving(family, host, echo) as port:
        _run(generator, load, host, port, at=at)
    # Each connection's first message; then nothing but the window's.
    assert moments == [("connected", 500), ("begin", 500), ("end", 5500)]


def _flip(data: bytes, before: int) -> bytes:
    """One bit is wrong, late in the run."""
    at = 5000 - before
    if 0 <= at < len(data):
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    return data


def _lose(data: bytes, before: int) -> bytes:
    """One byte never comes back."""
    at = 5000 - before
    return data[:at] + data[at + 1 :] if 0 <= at < len(data) else data


def _repeat(data: bytes, before: int) -> bytes:
    """A chunk comes back twice."""
    return data * 2 if before >= 5000 else data


def _swap(data: bytes, before: int) -> bytes:
    """A chunk's halves come back in the other order: as if two messages had been mixed up."""
    half = len(data) // 2
    return data[half:] + data[:half] if before >= 5000 else data


def _close(data: bytes, before: int) -> bytes:
    return CLOSING if before >= 5000 else data


WRONG: dict[str, tuple[Answer, str]] = {
    "flip": (_flip, "wrong byte"),
    "lose": (_lose, "wrong byte"),
    "repeat": (_repeat, "not been sent|wrong byte"),
    "swap": (_swap, "wrong byte"),
    "close": (_close, "closed it|reset"),
}


@pytest.mark.one_family
@pytest.mark.parametrize("framing", ["raw", "length-prefixed"])
@_each(WRONG, quickly="flip")
def test_a_server_that_does_wrong_is_noticed(
    generator: Generator, family: socket.AddressFamily, host: str, framing: str, name: str
) -> None:
    answer, word = WRONG[name]
    if (framing, name) == ("length-prefixed", "swap"):
        # Then it is a length that is wrong: in Python, one that no message has.
        word += "|message|length"
    load = Load(framing=framing, in_flight=2, count=500)
    with (
        serving(family, host, answer) as port,
        pytest.raises(LoadFailedError, match=word),
    ):
        _run(generator, load, host, port)


def test_another_connections_bytes_are_noticed(
    generator: Generator, family: socket.AddressFamily, host: str
) -> None:
    first: list[bytes] = []

    def first_of_all(data: bytes, _before: int) -> bytes:
        first.append(data)
        return first[0]

    with (
        serving(family, host, first_of_all) as port,
        pytest.raises(LoadFailedError, match="wrong byte"),
    ):
        _run(generator, Load(connections=2, count=10), host, port)


@pytest.mark.one_family
def test_silence_is_noticed(generator: Generator, family: socket.AddressFamily, host: str) -> None:
    patient = replace(generator, command=[*generator.command, "-T", "0.2"])
    with (
        serving(family, host, lambda data, before: data if before < 640 else SILENT) as port,
        pytest.raises(LoadFailedError, match="nothing came back"),
    ):
        _run(patient, Load(count=100), host, port)


def test_nobody_there_is_said(generator: Generator, host: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        # Bound and not listening: nobody else can come to listen there.
        sock.bind((host, 0))
        with pytest.raises(LoadFailedError, match=r"[Rr]efused"):
            _run(generator, Load(), host, sock.getsockname()[1])


def test_without_a_compiler_the_one_in_python_is_taken_and_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    assert "no C compiler is installed" in choose_generator().about
    with pytest.raises(UnavailableError, match="no C compiler"):
        choose_generator("c")
