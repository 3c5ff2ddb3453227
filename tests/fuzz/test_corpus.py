"""Each input of the corpus, as a plain test; and that the checks, and the fuzzer, can fail."""

import importlib
import importlib.util
import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from echokit.config import Config
from echokit.errors import ConfigError
from echokit.framing.base import Framing
from echokit.framing.delimited import Delimited, DelimitedDecoder
from echokit.framing.length_prefixed import LengthPrefixed, LengthPrefixedDecoder
from echokit.framing.raw import Raw, RawDecoder
from tests.conftest import ROOT
from tests.fuzz import config_file
from tests.fuzz.__main__ import main
from tests.fuzz.targets import TARGETS, corpus

INPUTS = [(name, file) for name in TARGETS for file in sorted(corpus(name).iterdir())]

needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris is not installed: extra fuzz"
)


@pytest.mark.parametrize(
    ("name", "file"), INPUTS, ids=[f"{name}-{file.name}" for name, file in INPUTS]
)
def test_what_must_hold_holds_for_each_input(name: str, file: Path) -> None:
    TARGETS[name].check(file.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_takes_more_than_a_little_memory(name: str) -> None:
    for file in corpus(name).iterdir():
        data = file.read_bytes()
        tracemalloc.start()
        try:
            TARGETS[name].check(data)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 8 << 20, file.name


def test_every_target_has_a_corpus_and_every_corpus_a_target() -> None:
    assert {folder.name for folder in corpus("raw").parent.iterdir()} == set(TARGETS)
    assert all(list(corpus(name).iterdir()) for name in TARGETS)


# The checks can fail. First the decoders, each broken in one way.


class _GivesUpItsError(LengthPrefixedDecoder):
    """Goes on behind what broke it."""

    def next_message(self) -> bytes | None:
        self._error = None
        return super().next_message()


class _RaisesAnother(LengthPrefixedDecoder):
    """Meets a cut header with an error of Python's own."""

    def next_message(self) -> bytes | None:
        if 0 < len(self._data) - self._position < self._header.size:
            raise struct.error("unpack_from requires a buffer of at least 4 bytes")
        return super().next_message()


class _TakesWhatIsAnnounced(LengthPrefixedDecoder):
    """Takes a body's memory with its header."""

    def next_message(self) -> bytes | None:
        message = super().next_message()
        if self._missing:
            bytearray(min(self._missing, 1 << 20))
        return message


class _KeepsTheStream(LengthPrefixedDecoder):
    """Lets nothing go of what it was fed."""

    __slots__ = ("_history",)

    def receive_data(self, data: bytes) -> None:
        self._history = [*getattr(self, "_history", []), data]
        super().receive_data(data)


class _OneMoreThanTheLimit(LengthPrefixedDecoder):
    """Is off by one."""

    def __init__(self, header: struct.Struct, limit: int) -> None:
        super().__init__(header, limit + 1)


class _KeepsWhatFailed(LengthPrefixedDecoder):
    """Goes on to gather once it has failed."""

    def receive_data(self, data: bytes) -> None:
        if self._error is not None:
            self._data += data
        super().receive_data(data)


class _NeverTruncated(LengthPrefixedDecoder):
    """Takes every end for a good one."""

    def receive_eof(self) -> None:
        if self._error is not None:
            raise self._error


class _MiscountsFrames(LengthPrefixedDecoder):
    """Miscounts where there are several."""

    def next_frames(self) -> tuple[bytes, int] | None:
        found = super().next_frames()
        return found if found is None or found[1] == 1 else (found[0], found[1] - 1)


class _MissesCutDelimiters(DelimitedDecoder):
    """Looks for the delimiter only in what came last."""

    def _finish_tail(self) -> bytes | None:
        at = self._data.find(self._delimiter, self._position)
        if at < 0:
            self._tail += self._data[self._position :]
            self._data, self._position = b"", 0
            return None
        message = bytes(self._tail) + self._data[self._position : at]
        self._tail.clear()
        self._position = at + len(self._delimiter)
        return message


class _DropsABlank(RawDecoder):
    """Knows better than the stream."""

    def next_message(self) -> bytes | None:
        message = super().next_message()
        return message and message.replace(b"  ", b" ")


BROKEN = [
    _GivesUpItsError,
    _RaisesAnother,
    _TakesWhatIsAnnounced,
    _KeepsTheStream,
    _OneMoreThanTheLimit,
    _KeepsWhatFailed,
    _NeverTruncated,
    _MiscountsFrames,
    _MissesCutDelimiters,
    _DropsABlank,
]


def _failures(name: str) -> list[Exception]:
    """What the checks of the target `name` raise over its corpus."""
    found: list[Exception] = []
    for file in sorted(corpus(name).iterdir()):
        try:
            TARGETS[name].check(file.read_bytes())
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends a fuzzer's run
            found.append(error)
    return found


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_decoder_that_is_broken_does_not_get_through_its_corpus(
    broken: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = broken.__bases__[0]
    module = importlib.import_module(sound.__module__)
    monkeypatch.setattr(module, sound.__name__, broken)
    assert _failures(module.__name__.rpartition(".")[2].replace("_", "-"))


@pytest.mark.parametrize(
    ("framing", "encode"),
    [
        (LengthPrefixed, lambda self, message: bytes(self.prefix_bytes) + message),
        (Delimited, lambda self, message: message + self.delimiter.encode()),
        (Raw, lambda _, message: message[:8]),
    ],
    ids=["no length", "any message", "the beginning"],
)
def test_nor_does_an_encoder(
    framing: type[Framing],
    encode: Callable[[Framing, bytes], bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(framing, "encode", encode)
    assert _failures(framing.model_fields["type"].default)


def _raises(error: Exception) -> Callable[..., NoReturn]:
    def call(*_args: object, **_options: object) -> NoReturn:
        raise error

    return call


ENDPOINTS: dict[str, tuple[str, Callable[..., object]]] = {
    "another error": ("host_problem", _raises(KeyError("host"))),
    "a Unicode error": ("host_problem", _raises(UnicodeError("surrogates not allowed"))),
    "any IPv6 address": ("_ipv6_problem", lambda _: None),
    "any IPv4 address": ("_ipv4_problem", lambda _: None),
    "full-width digits": ("_as_looked_up", lambda host: host),
}


@pytest.mark.parametrize("what", ENDPOINTS)
def test_a_parser_that_is_broken_does_not_get_through_its_corpus(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"echokit.net.address.{ENDPOINTS[what][0]}", ENDPOINTS[what][1])
    assert _failures("endpoint")


def _tells(problem: str) -> NoReturn:
    error = ConfigError("")
    error.problems = (problem,)
    raise error


def _busy(*_args: object) -> NoReturn:
    began = time.process_time()
    while time.process_time() - began < 0.05:
        pass
    raise ConfigError("no file")


LOADERS: dict[str, Callable[..., object]] = {
    "another error": _raises(RecursionError("maximum recursion depth exceeded")),
    "an error without its file": _raises(ConfigError("port: should be a number")),
    "no problem at all": _raises(ConfigError([])),
    "a long line": lambda file: _tells(f"{file}: {'x' * 500}"),
    "two lines": lambda file: _tells(f"{file}: one\n{file}: another"),
    "another config each time": lambda _: (Config(port=time.monotonic_ns() % 50_000), {}),
    "an origin elsewhere": lambda _: (Config(), {("port",): "nowhere"}),
    "too long": _busy,
}


@pytest.mark.slow
@pytest.mark.parametrize("target", ["config-yaml", "config-toml"])
@pytest.mark.parametrize("what", LOADERS)
def test_a_loader_that_is_broken_does_not_get_through_its_corpus(
    what: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_file, "load_with_origins", LOADERS[what])
    monkeypatch.setattr(config_file, "SOON", 0.03)
    assert len(_failures(target)) == len(list(corpus(target).iterdir()))


# The command.


def test_a_target_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["decoder"])
    assert caught.value.code == 2
    assert "length-prefixed" in capsys.readouterr().err


def test_without_atheris_the_command_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "atheris", None)
    assert main(["endpoint"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "pip install -e '.[fuzz]'" in line


# A parser with a fault that no input of the corpus meets.
_PLANTED = """
import sys
import echokit.net.address as address
from tests.fuzz.__main__ import main
sound = address.host_problem
def broken(host):
    if "%%" in host:
        raise KeyError(host)
    return sound(host)
address.host_problem = broken
sys.exit(main(sys.argv[1:]))
"""


@needs_atheris
@pytest.mark.slow
def test_the_fuzzer_finds_a_fault_saves_its_input_and_fails(tmp_path: Path) -> None:
    done = _fuzz(["-c", _PLANTED, "endpoint", "--seconds", "40", "--into", str(tmp_path)])
    assert done.returncode not in (0, 2)
    assert b"KeyError" in done.stdout
    [saved] = tmp_path.glob("endpoint-crash-*")
    assert b"%%" in saved.read_bytes()
    # It is the fault that it fails for.
    TARGETS["endpoint"].check(saved.read_bytes())


@needs_atheris
@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_the_fuzzer_runs_for_its_time_and_ends_well(name: str, tmp_path: Path) -> None:
    began = time.monotonic()
    done = _fuzz(["-m", "tests.fuzz", name, "--seconds", "3", "--into", str(tmp_path)])
    assert done.returncode == 0, done.stdout.decode(errors="replace")
    assert 2 < time.monotonic() - began < 30
    # What it has kept of its inputs: it has tried some, and they have reached something.
    assert list((tmp_path / name).iterdir())
    assert not list(tmp_path.glob(f"{name}-crash-*"))


def _fuzz(args: list[str]) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, *args],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=55,
        check=False,
    )
