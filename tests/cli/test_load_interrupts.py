"""What SIGINT and SIGTERM do to a load, by when they come."""

import signal
from typing import TYPE_CHECKING, cast

import pytest

from echokit.cli import load_interrupts
from echokit.cli.ending import exit_code
from echokit.cli.load_interrupts import Interrupts

if TYPE_CHECKING:
    from echokit.loadgen.session import Session


class _Session:
    """As much of a session as signals touch."""

    def __init__(self, *, measuring: bool) -> None:
        self.measuring = measuring
        self.interrupted = False

    def interrupt(self) -> None:
        """End it early."""
        self.interrupted = True


@pytest.fixture
def session() -> _Session:
    """One that measures."""
    return _Session(measuring=True)


def _interrupts(session: _Session) -> Interrupts:
    """Those of a load whose outputs are open."""
    interrupts = Interrupts()
    interrupts.opened()
    interrupts.session = cast("Session", session)
    return interrupts


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signals that follow each other at once are several."""
    monkeypatch.setattr(load_interrupts, "_SAME", 0.0)


@pytest.mark.usefixtures("apart")
def test_before_there_is_somewhere_to_write_to_the_first_waits_and_the_second_ends_it() -> None:
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt) as ended:
            interrupts.opened()
    assert exit_code(ended.value) == 143
    with Interrupts():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("apart")
def test_before_there_is_a_session_the_first_ends_it_at_once() -> None:
    with Interrupts() as interrupts:
        interrupts.opened()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.usefixtures("apart")
def test_before_anything_is_measured_the_first_ends_it_at_once() -> None:
    session = _Session(measuring=False)
    with _interrupts(session), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert session.interrupted


@pytest.mark.usefixtures("apart")
def test_while_it_measures_the_first_ends_it_early_and_the_second_at_once(
    session: _Session,
) -> None:
    with _interrupts(session):
        signal.raise_signal(signal.SIGTERM)
        assert session.interrupted
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("apart")
def test_while_it_writes_the_first_is_let_pass_and_the_second_ends_it(session: _Session) -> None:
    with _interrupts(session) as interrupts:
        signal.raise_signal(signal.SIGINT)
        interrupts.writing()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_signals_that_come_together_are_one(
    session: _Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_interrupts, "_SAME", 60.0)
    with _interrupts(session):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
    assert session.interrupted


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_code_says_by_which_signal_it_ended(number: int, code: int) -> None:
    measuring, before = _Session(measuring=True), _Session(measuring=False)
    with _interrupts(measuring) as interrupts:
        signal.raise_signal(number)
    assert interrupts.code == code
    with _interrupts(before), pytest.raises(KeyboardInterrupt) as ended:
        signal.raise_signal(number)
    assert exit_code(ended.value) == code


def test_afterwards_signals_do_what_they_did_before(session: _Session) -> None:
    before = signal.getsignal(signal.SIGINT)
    with _interrupts(session):
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before
