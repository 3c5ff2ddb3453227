"""What every test has at hand, and what none may leave behind."""

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import is_hypothesis_test, settings

from echokit.net.listen import loopback_families
from tests.cli.processes import environment, forks

ROOT = Path(__file__).parent.parent
FAMILIES = {"ipv4": (socket.AF_INET, "127.0.0.1"), "ipv6": (socket.AF_INET6, "::1")}
_OPEN = "/proc/self/fd"
AVAILABLE = dict(loopback_families())

# Properties are tried with a few examples each time, and with many in the slow run.
settings.register_profile("quick", max_examples=10, deadline=None)
settings.register_profile("slow", max_examples=200, deadline=None)


def pytest_configure(config: pytest.Config) -> None:
    """Take the examples that belong to this run, unless it was told which; hear of Ctrl-C."""
    if not config.getoption("--hypothesis-profile"):
        settings.load_profile("quick" if config.option.markexpr == "not slow" else "slow")
    # A shell that runs the tests in the background lets them ignore Ctrl-C and Ctrl-\, and the
    # commands under test would inherit that.
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


def _family_of(item: pytest.Item) -> str:
    """The name of the family over which a test is."""
    assert isinstance(item, pytest.Function)
    return str(item.callspec.params["echokit_family"])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Properties belong to the slow run, too, and some tests' other family only there."""
    both = [(item, _family_of(item)) for item in items if item.get_closest_marker("one_family")]
    # Of those that were asked for, one that is there.
    quick = max((name for _, name in both if FAMILIES[name][0] in AVAILABLE), default=None)
    for item, name in both:
        if quick not in (None, name):
            item.add_marker("slow")
    for item in items:
        if (
            config.option.markexpr != "not slow"
            and isinstance(item, pytest.Function)
            and is_hypothesis_test(item.obj)
        ):
            item.add_marker("slow")


@pytest.fixture
def family(echokit_family: socket.AddressFamily) -> socket.AddressFamily:
    """Each address family in turn."""
    return echokit_family


@pytest.fixture
def host(echokit_family: socket.AddressFamily) -> str:
    """The loopback literal of `family`."""
    return AVAILABLE[echokit_family]


def _descriptors() -> dict[int, str]:
    """The open descriptors, where the system tells: number to what it is."""
    found = {}
    # Before and after every test: paths as objects would take as long as many a test does.
    for number in os.listdir(_OPEN) if os.path.isdir(_OPEN) else ():  # noqa: PTH112, PTH208
        try:
            found[int(number)] = os.readlink(f"{_OPEN}/{number}")  # noqa: PTH115
        except FileNotFoundError:
            # The descriptor of the listing itself.
            continue
    return found


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fails a test that leaves a descriptor, a thread or a process behind."""
    descriptors = _descriptors()
    threads = set(threading.enumerate())
    yield
    left = {fd: what for fd, what in _descriptors().items() if descriptors.get(fd) != what}
    assert not left, f"descriptors left open: {left}"
    alive = [thread.name for thread in threading.enumerate() if thread not in threads]
    assert not alive, f"threads left running: {alive}"
    assert not multiprocessing.active_children()


@pytest.fixture(scope="session", autouse=True)
def quickly_quiet() -> Iterator[None]:
    """Servers that end connections wait for their peers as ever, but not as long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("echokit.server.QUIET", 0.1)
        patch.setattr("echokit.net.stream.LINGER_SECONDS", 0.3)
        yield


@pytest.fixture(scope="session")
def forked() -> Iterator[None]:
    """Commands that run are forks: see `tests.cli.forks`."""
    forks.begin(environment())
    yield
    forks.end()
