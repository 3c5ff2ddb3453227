"""The pytest plugin: fixtures for tests over both address families.

Loaded with pytest wherever echokit is installed, so it imports nothing heavy until a fixture is
used. All of its names begin with `echokit_`.
"""

import socket
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from echokit.client import EchoClient
    from echokit.testing.server import RunningServer

__all__ = [
    "echokit_client",
    "echokit_family",
    "echokit_server",
    "echokit_server_factory",
    "pytest_addoption",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_runtest_call",
    "pytest_runtest_makereport",
]

_FAMILIES = {"ipv4": (socket.AF_INET, "127.0.0.1"), "ipv6": (socket.AF_INET6, "::1")}
_CHOICES = ("ipv4", "ipv6", "both")
_MARKER = "echokit"
# Where a test's servers keep what a failure report is to say.
_NOTES = pytest.StashKey[list[str]]()
_SERVERS = pytest.StashKey["list[RunningServer]"]()
# What a test has failed for, in its servers' words.
_TOLD = pytest.StashKey[list[str]]()
# What the fixtures decide, so that a marker cannot.
_DECIDED = ("host", "family")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options, each an ini key, too."""
    group = parser.getgroup("echokit", "TCP servers over IPv4 and IPv6")
    group.addoption(
        "--echokit-family",
        choices=_CHOICES,
        help="Which address families tests with echokit fixtures run over (default: both).",
    )
    group.addoption(
        "--echokit-require-ipv6",
        action="store_true",
        default=None,
        help="Fail tests that need ::1 where the host has none, instead of skipping them.",
    )
    parser.addini("echokit_family", "As --echokit-family.", default="both")
    parser.addini("echokit_require_ipv6", "As --echokit-require-ipv6.", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """The marker, so that --strict-markers knows it."""
    config.addinivalue_line(
        "markers",
        "echokit(framing=..., chunk_size=..., segment=..., seed=..., ...): settings of the "
        "test's echokit_server and echokit_client; any key of echokit's config.",
    )
    if _option(config, "family") not in _CHOICES:
        found = _option(config, "family")
        raise pytest.UsageError(f"echokit_family should be ipv4, ipv6 or both; found {found!r}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that uses `echokit_family` runs once for each family asked for."""
    if "echokit_family" not in metafunc.fixturenames:
        return
    own = any(
        "echokit_family" in _names(marker)
        for marker in metafunc.definition.iter_markers("parametrize")
    )
    # A fixture of that name in a conftest goes over this one, and says itself what it is. pytest
    # has no public way to ask which one stands.
    found = getattr(metafunc, "_arg2fixturedefs", {}).get("echokit_family")
    ours = not found or found[-1].func.__module__ == __name__
    if ours and not own:
        asked = _option(metafunc.config, "family")
        names = [name for name in _FAMILIES if asked in (name, "both")]
        metafunc.parametrize("echokit_family", names, indirect=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A test that passed fails after all if something went wrong inside its servers."""
    result = yield
    told = item.stash[_TOLD] = _wrong(item.stash.get(_SERVERS, []))
    if told:
        pytest.fail("\n".join(told), pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test says with which seed its servers cut what they sent."""
    report = yield
    notes = item.stash.get(_NOTES, None)
    if report.failed and notes:
        report.sections.append(("echokit", "\n".join(notes)))
    return report


@pytest.fixture
def echokit_family(request: pytest.FixtureRequest) -> socket.AddressFamily:
    """Each address family in turn: AF_INET, AF_INET6. One that the host lacks is skipped."""
    # Without a parameter it was asked for by its name alone, as a test runs: the first asked for.
    asked = _option(request.config, "family")
    found = getattr(request, "param", "ipv4" if asked == "both" else asked)
    for name, (family, _) in _FAMILIES.items():
        if found in (name, family):
            _literal(request, family)
            return family
    pytest.fail(f"echokit_family should be ipv4 or ipv6; found {found!r}", pytrace=False)


@pytest.fixture
def echokit_server_factory(
    request: pytest.FixtureRequest, echokit_family: socket.AddressFamily
) -> "Iterator[Callable[..., RunningServer]]":
    """Makes running servers: `echokit_server_factory(framing="delimited", chunk_size=7)`.

    It takes the keys of echokit's config, which go over those of the test's marker. Each server
    listens on the loopback of `echokit_family`, on a port of its own, and ends with the test.
    """
    from echokit.testing.server import RunningServer

    # The family may be from a fixture of that name that goes over ours.
    literal = _literal(request, echokit_family)
    servers: list[RunningServer] = []
    request.node.stash[_SERVERS] = servers
    request.node.stash[_NOTES] = []
    request.node.stash[_TOLD] = []

    def make(**settings: Any) -> RunningServer:
        config = _config(request, literal, settings)
        server = RunningServer(config)
        servers.append(server)
        if server.segmentation is not None:
            note = f"the server on {server.address} cut what it sent: {server.segmentation}"
            request.node.stash[_NOTES].append(note)
        return server

    yield make
    # What the test itself failed for, its servers need not say again.
    told = request.node.stash.get(_TOLD, [])
    failures = []
    for server in servers:
        try:
            server.close()
        except AssertionError as error:
            if str(error) not in told:
                failures.append(str(error))
    if failures:
        pytest.fail("\n".join(failures), pytrace=False)


@pytest.fixture
def echokit_server(echokit_server_factory: "Callable[..., RunningServer]") -> "RunningServer":
    """A running echo server on the loopback of `echokit_family`, as the test's marker has it."""
    return echokit_server_factory()


@pytest.fixture
def echokit_client(
    echokit_server: "RunningServer",
) -> "Iterator[EchoClient]":
    """A client connected to `echokit_server`: `echokit_client.echo(b"...")`."""
    from echokit.client import EchoClient

    config = echokit_server.config
    client = EchoClient(
        echokit_server.host,
        echokit_server.port,
        chunk_size=config.chunk_size,
        framing=config.framing,
        connect_timeout=config.client.connect_timeout,
        timeout=config.client.timeout,
        segmentation=echokit_server.segmentation,
    )
    yield client
    client.close()


def _literal(request: pytest.FixtureRequest, family: socket.AddressFamily) -> str:
    """The loopback of a family; where the host lacks it the test is skipped, or fails if asked."""
    literal = dict(_FAMILIES.values()).get(family)
    if literal is None:
        pytest.fail(
            f"{request.node.nodeid}: echokit_family should be AF_INET or AF_INET6; found "
            f"{family!r}: is indirect=True missing?",
            pytrace=False,
        )
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((literal, 0))
    except OSError as error:
        why = f"this host has no {literal}: {error.strerror}"
    else:
        return literal
    if family == socket.AF_INET6 and _option(request.config, "require_ipv6"):
        pytest.fail(f"{why}, and --echokit-require-ipv6 was given", pytrace=False)
    pytest.skip(why)


def _wrong(servers: "list[RunningServer]") -> list[str]:
    """What is wrong inside the servers, in their own words."""
    found = []
    for server in servers:
        try:
            server.check()
        except AssertionError as error:
            found.append(str(error))
    return found


def _names(marker: pytest.Mark) -> list[str]:
    """What a parametrize marker gives values to, as one text or several, by place or by name."""
    names = marker.args[0] if marker.args else marker.kwargs.get("argnames", "")
    return [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)


def _option(config: pytest.Config, name: str) -> Any:
    given = config.getoption(f"echokit_{name}")
    return config.getini(f"echokit_{name}") if given is None else given


def _config(request: pytest.FixtureRequest, literal: str, settings: dict[str, Any]) -> Any:
    """The settings of the marker and the call as a config; what is wrong fails the test."""
    from echokit.config import from_values
    from echokit.errors import ConfigError

    values: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers(_MARKER))):
        if marker.args:
            pytest.fail(
                f"{request.node.nodeid}: @pytest.mark.echokit takes keywords alone; "
                f"found {marker.args[0]!r}",
                pytrace=False,
            )
        values |= marker.kwargs
    values |= settings
    for key in _DECIDED:
        if key in values:
            pytest.fail(
                f"{request.node.nodeid}: echokit: {key}: is what echokit_family decides; use "
                "--echokit-family, or @pytest.mark.parametrize('echokit_family', ['ipv6'], "
                "indirect=True)",
                pytrace=False,
            )
    values = {"port": 0} | values | {"host": literal}
    try:
        return from_values(values)
    except ConfigError as error:
        problems = error.problems
    pytest.fail(
        "\n".join(f"{request.node.nodeid}: echokit: {problem}" for problem in problems),
        pytrace=False,
    )
