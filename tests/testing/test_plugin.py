"""The pytest plugin, by runs of pytest in this one: families, markers, servers, and what fails."""

import asyncio
import errno
import json
import os
import re
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable

import pytest

from echokit import Delimited, EchoClient, Framing, LengthPrefixed, Raw
from echokit.testing import RunningServer
from echokit.testing import plugin as the_plugin
from tests.conftest import AVAILABLE, ROOT

pytest_plugins = ["pytester"]

MakeServer = Callable[..., RunningServer]

FIXTURES = ["echokit_client", "echokit_family", "echokit_server", "echokit_server_factory"]

# A host without a family, for the tests of a run.
LACKING = """
    import os
    import socket

    import pytest

    @pytest.fixture(autouse=True)
    def lacking(monkeypatch):
        class Lacking(socket.socket):
            def __init__(self, family=-1, *rest, **more):
                if {when} == "made" and family == socket.{family}:
                    raise OSError({code}, os.strerror({code}))
                super().__init__(family, *rest, **more)

            def bind(self, address):
                if {when} == "bound" and self.family == socket.{family}:
                    raise OSError({code}, os.strerror({code}))
                super().bind(address)

        monkeypatch.setattr(socket, "socket", Lacking)
"""

# A framing whose decoder is broken, and what a run needs to meet it.
BROKEN = """
    import socket

    import pytest

    from echokit import Raw

    class Broken(Raw):
        transparent = False

        def decoder(self):
            return self

        def receive_data(self, data):
            raise ZeroDivisionError("no such luck")

        def next_message(self):
            return None

        def receive_eof(self):
            pass

    def end(server):
        with socket.create_connection((server.host, server.port), timeout=10) as sock:
            sock.sendall(b"x")
            assert sock.recv(1) == b""
"""

needs_both = pytest.mark.skipif(len(AVAILABLE) < 2, reason="this host has one family")


def _run(pytester: pytest.Pytester, *sources: str, args: tuple[str, ...] = ()) -> pytest.RunResult:
    """What a run of pytest makes of a module; in this process, as what it leaves is looked at."""
    pytester.makepyfile("".join(textwrap.dedent(source) for source in sources))
    return pytester.runpytest_inprocess("-p", "no:randomly", "-p", "no:cacheprovider", *args)


def _before_summary(result: pytest.RunResult) -> str:
    """What a run said, without the summary, which says it again: in full, under CI."""
    return result.stdout.str().partition("= short test summary info =")[0]


def _lacking(pytester: pytest.Pytester, family: str, code: int, *, when: str = "made") -> None:
    pytester.makeconftest(
        textwrap.dedent(LACKING.format(family=family, code=code, when=repr(when)))
    )


# Families.

FAMILIES = """
    import socket

    def test_one(echokit_family):
        assert echokit_family in (socket.AF_INET, socket.AF_INET6)
"""


@needs_both
def test_a_test_runs_over_each_family(pytester: pytest.Pytester) -> None:
    result = _run(pytester, FAMILIES, args=("-v",))
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*::test_one[[]ipv4] PASSED*", "*::test_one[[]ipv6] PASSED*"])


@needs_both
def test_other_parameters_stand_beside_the_families(pytester: pytest.Pytester) -> None:
    source = """
        import pytest

        @pytest.mark.parametrize(argnames="x", argvalues=[1, 2])
        def test_without_any(x):
            pass

        @pytest.mark.parametrize(argnames="x", argvalues=[1, 2])
        def test_by_name(echokit_family, x):
            pass

        @pytest.mark.parametrize("not_echokit_family", [1])
        def test_whose_name_has_ours_in_it(echokit_family, not_echokit_family):
            pass

        @pytest.mark.parametrize("x, echokit_family", [(1, "ipv6")], indirect=["echokit_family"])
        def test_that_says_which(echokit_family, x):
            pass
    """
    _run(pytester, source).assert_outcomes(passed=2 + 4 + 2 + 1)


@pytest.mark.parametrize("params", ["", "(params=[1])"])
def test_a_fixture_of_that_name_goes_over_ours(pytester: pytest.Pytester, params: str) -> None:
    pytester.makeconftest(
        f"""
        import socket, pytest

        @pytest.fixture{params}
        def echokit_family():
            return socket.AF_INET
        """
    )
    source = "def test_it(echokit_server): assert echokit_server.host == '127.0.0.1'"
    _run(pytester, source).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ("['ipv6']", "*found 'ipv6': is indirect=True missing?"),
        ("['ipx'], indirect=True", "*echokit_family should be ipv4 or ipv6; found 'ipx'"),
    ],
)
def test_a_wrong_family_is_told(pytester: pytest.Pytester, values: str, told: str) -> None:
    source = f"""
        import pytest

        @pytest.mark.parametrize("echokit_family", {values})
        def test_it(echokit_server):
            pass
    """
    result = _run(pytester, source)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([told])


@needs_both
def test_every_fixture_brings_the_families_with_it(pytester: pytest.Pytester) -> None:
    tests = [
        f"@pytest.mark.parametrize('number', [1, 2])\n"
        f"def test_{fixture}({fixture}, number): assert {fixture}\n"
        for fixture in FIXTURES
    ]
    _run(pytester, "import pytest\n", *tests).assert_outcomes(passed=4 * 2 * 2)


@needs_both
@pytest.mark.parametrize(
    ("args", "ini", "families"),
    [
        (("--echokit-family", "ipv4"), "", ["ipv4"]),
        (("--echokit-family=ipv6",), "", ["ipv6"]),
        (("--echokit-family=both",), "echokit_family = ipv4", ["ipv4", "ipv6"]),
        ((), "echokit_family = ipv6", ["ipv6"]),
        ((), "echokit_family = both", ["ipv4", "ipv6"]),
        (("--echokit-family=ipv4",), "echokit_family = ipv6", ["ipv4"]),
    ],
)
def test_the_families_can_be_chosen(
    pytester: pytest.Pytester, args: tuple[str, ...], ini: str, families: list[str]
) -> None:
    pytester.makeini(f"[pytest]\n{ini}\n")
    result = _run(pytester, FAMILIES, args=("--collect-only", "-q", *args))
    assert re.findall(r"test_one\[(.*)\]", result.stdout.str()) == families


@pytest.mark.parametrize(
    ("when", "code"), [("made", errno.EAFNOSUPPORT), ("bound", errno.EADDRNOTAVAIL)]
)
@pytest.mark.parametrize(
    ("family", "literal"), [("AF_INET6", "::1"), ("AF_INET", "127.0.0.1")], ids=["ipv6", "ipv4"]
)
def test_a_family_that_the_host_lacks_is_skipped_with_the_reason(
    pytester: pytest.Pytester, family: str, literal: str, when: str, code: int
) -> None:
    _lacking(pytester, family, code, when=when)
    result = _run(pytester, FAMILIES, args=("-rs",))
    result.assert_outcomes(passed=len(AVAILABLE) - 1, skipped=3 - len(AVAILABLE))
    result.stdout.fnmatch_lines([f"SKIPPED*this host has no {literal}: {os.strerror(code)}"])


@pytest.mark.parametrize(
    ("args", "outcomes"), [((), {"skipped": 1}), (("--echokit-require-ipv6",), {"errors": 1})]
)
def test_a_family_that_the_host_lacks_is_skipped_also_where_a_conftest_chooses_it(
    pytester: pytest.Pytester, args: tuple[str, ...], outcomes: dict[str, int]
) -> None:
    _lacking(pytester, "AF_INET6", errno.EADDRNOTAVAIL)
    source = """
        import socket, pytest

        @pytest.fixture
        def echokit_family():
            return socket.AF_INET6

        def test_it(echokit_server):
            pass
    """
    result = _run(pytester, source, args=("-rs", *args))
    result.assert_outcomes(**outcomes)
    result.stdout.fnmatch_lines(["*this host has no ::1: *"])


@pytest.mark.parametrize(
    ("args", "ini"),
    [
        (("--echokit-require-ipv6",), ""),
        ((), "echokit_require_ipv6 = true"),
        (("--echokit-require-ipv6",), "echokit_require_ipv6 = false"),
    ],
)
def test_a_run_that_requires_ipv6_does_not_go_green_without(
    pytester: pytest.Pytester, args: tuple[str, ...], ini: str
) -> None:
    pytester.makeini(f"[pytest]\n{ini}\n")
    _lacking(pytester, "AF_INET6", errno.EADDRNOTAVAIL)
    result = _run(pytester, FAMILIES, args=args)
    assert result.parseoutcomes()["errors"] == 1
    assert "skipped" not in result.parseoutcomes()
    told = f"this host has no ::1: {os.strerror(errno.EADDRNOTAVAIL)}, and *ipv6*"
    result.stdout.fnmatch_lines([told])
    result.stdout.no_fnmatch_line("*plugin.py:*")


def test_requiring_ipv6_changes_nothing_for_ipv4(pytester: pytest.Pytester) -> None:
    _lacking(pytester, "AF_INET", errno.EAFNOSUPPORT)
    args = ("--echokit-require-ipv6", "--echokit-family=ipv4")
    _run(pytester, FAMILIES, args=args).assert_outcomes(skipped=1)


def test_another_family_is_a_usage_error(pytester: pytest.Pytester) -> None:
    result = _run(pytester, FAMILIES, args=("--echokit-family=ipv5",))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--echokit-family*invalid choice*ipv5*"])


def test_another_family_in_the_ini_file_is_a_usage_error(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nechokit_family = ipv5\n")
    result = _run(pytester, FAMILIES)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    told = "ERROR: echokit_family should be ipv4, ipv6 or both; found 'ipv5'"
    result.stderr.fnmatch_lines([told])
    assert "Traceback" not in result.stderr.str()


# Markers.


def test_the_nearest_marker_goes_over_those_around_it(pytester: pytest.Pytester) -> None:
    source = """
        import pytest

        pytestmark = pytest.mark.echokit(chunk_size=3, framing="delimited", seed=1)

        def test_of_the_module(echokit_server):
            config = echokit_server.config
            assert (config.chunk_size, config.framing.type, config.seed) == (3, "delimited", 1)

        @pytest.mark.echokit(chunk_size=4, seed=2)
        class TestOfAClass:
            def test_of_the_class(self, echokit_server):
                config = echokit_server.config
                assert (config.chunk_size, config.framing.type, config.seed) == (4, "delimited", 2)

            @pytest.mark.echokit(chunk_size="5k", server={"backlog": 7})
            def test_of_its_own(self, echokit_server, echokit_server_factory):
                config = echokit_server.config
                assert (config.chunk_size, config.framing.type) == (5120, "delimited")
                assert config.server.backlog == 7
                # What a call says goes over them all.
                config = echokit_server_factory(chunk_size=6).config
                assert (config.chunk_size, config.seed, config.server.backlog) == (6, 2, 7)
    """
    result = _run(pytester, source, args=("--strict-markers",))
    result.assert_outcomes(passed=3 * len(AVAILABLE))


OF_SEGMENT = "segment: should be a size of 1 to 16777216, a list of them, 'random' or 'joined'"
# Settings of a marker, and how what is wrong with them begins.
WRONG = {
    "chunk_siez=3": "chunk_siez: unknown key; did you mean 'chunk_size'?",
    "framing='delimted'": "framing: no framing is called 'delimted'; did you mean 'delimited'?",
    "framing={'type': 'delimited', 'x': 1}": "framing.x: unknown key; known here: type, ",
    "segment=0": f"{OF_SEGMENT}; found 0",
    "segment=-1": f"{OF_SEGMENT}; found -1",
    "segment=True": f"{OF_SEGMENT}; found true",
    "segment=[1, 0]": OF_SEGMENT,
    "segment=[]": OF_SEGMENT,
    "segment=[1, '3']": OF_SEGMENT,
    "segment='often'": f"{OF_SEGMENT}; found 'often'",
    "segment='random', seed='seven'": "seed: should be a whole number; found 'seven'",
    "seed=-7": "seed: should be greater than or equal to 0; found -7",
    "segment_delay='soon'": "segment_delay: ",
    "client={'timeuot': 1}": "client.timeuot: unknown key; did you mean 'timeout'?",
}


@pytest.mark.parametrize("fixture", ["echokit_server", "echokit_client"])
def test_what_is_wrong_with_a_marker_names_the_test_and_the_key(
    pytester: pytest.Pytester, fixture: str
) -> None:
    tests = [
        f"@pytest.mark.echokit({settings})\ndef test_{number}({fixture}): pass\n"
        for number, settings in enumerate(WRONG)
    ]
    result = _run(pytester, "import pytest\n", *tests, args=("--echokit-family=ipv4",))
    result.assert_outcomes(errors=len(WRONG))
    lines = _before_summary(result).splitlines()
    for number, told in enumerate(WRONG.values()):
        [line] = [line for line in lines if f".py::test_{number}[ipv4]: echokit: " in line]
        assert line.startswith("test_what_is_wrong")
        assert line.partition(": echokit: ")[2].startswith(told)
    for inside in ("*plugin.py:*", "*Traceback*", "*pydantic*", "*ValidationError*"):
        result.stdout.no_fnmatch_line(inside)


def test_all_that_is_wrong_with_a_marker_is_told_at_once(pytester: pytest.Pytester) -> None:
    source = """
        import pytest

        @pytest.mark.echokit(prot=1, chunk_size=0, seed=None, segment=-3)
        def test_it(echokit_server):
            pass
    """
    result = _run(pytester, source, args=("--echokit-family=ipv4",))
    told = re.findall(r"::test_it\[ipv4\]: echokit: (\w+):", _before_summary(result))
    assert sorted(told) == ["chunk_size", "prot", "segment"]


def test_what_is_wrong_with_a_call_fails_the_test_where_it_calls(
    pytester: pytest.Pytester,
) -> None:
    source = """
        def test_it(echokit_server_factory):
            echokit_server_factory(segment=0)
    """
    result = _run(pytester, source, args=("--echokit-family=ipv4",))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*.py::test_it[[]ipv4]: echokit: segment: *found 0"])


def test_a_marker_takes_keywords_alone(pytester: pytest.Pytester) -> None:
    source = """
        import pytest

        @pytest.mark.echokit("delimited")
        def test_it(echokit_server):
            pass
    """
    result = _run(pytester, source, args=("--echokit-family=ipv4",))
    result.assert_outcomes(errors=1)
    told = "*.py::test_it[[]ipv4]: @pytest.mark.echokit takes keywords alone; found 'delimited'"
    result.stdout.fnmatch_lines([told])


# Servers and clients. Here the fixtures are those of this run.


def _exchange(server: RunningServer, data: bytes) -> bytes:
    """What comes back from a server for `data`."""
    with socket.create_connection((server.host, server.port), timeout=10) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        back = b""
        while more := sock.recv(65536):
            back += more
    return back


def test_a_server_listens_on_the_literal_of_its_family(
    echokit_server: RunningServer, echokit_family: socket.AddressFamily
) -> None:
    host = AVAILABLE[echokit_family]
    assert echokit_server.host == host
    assert echokit_server.port > 0
    shown = f"[{host}]" if ":" in host else host
    assert echokit_server.address == f"{shown}:{echokit_server.port}"
    assert echokit_server.address in repr(echokit_server)
    assert _exchange(echokit_server, b"hello") == b"hello"


@pytest.mark.echokit(framing="delimited", chunk_size=4096)
def test_a_server_remembers_what_it_received_by_connection(
    echokit_server: RunningServer, echokit_family: socket.AddressFamily
) -> None:
    assert echokit_server.messages == []
    assert list(echokit_server.connections) == []
    first, second = socket.socket(echokit_family), socket.socket(echokit_family)
    with first, second:
        for sock in (first, second):
            sock.settimeout(10)
            sock.connect((echokit_server.host, echokit_server.port))
        first.sendall(b"one\n")
        echokit_server.wait_for(1)
        second.sendall(b"two\n\n")
        echokit_server.wait_for(3)
        first.sendall(b"three\n")
        assert echokit_server.wait_for(4) == [[b"one", b"three"], [b"two", b""]]
        one, two = echokit_server.connections
        assert (one.messages, one.end) == ([b"one", b"three"], None)
        assert one.peer.sockaddr == first.getsockname()
        assert two.peer.sockaddr == second.getsockname()


def test_waiting_returns_at_once_when_they_have_come(echokit_server: RunningServer) -> None:
    assert echokit_server.wait_for(0, timeout=0) == []
    assert _exchange(echokit_server, b"hello") == b"hello"
    assert echokit_server.wait_for(1, timeout=0) == [[b"hello"]]


def test_waiting_in_vain_says_what_came(echokit_server: RunningServer) -> None:
    _exchange(echokit_server, b"hello")
    with pytest.raises(TimeoutError) as caught:
        echokit_server.wait_for(3, timeout=0.05)
    told = f"1 of 3 messages came to {echokit_server.address} within 0.05s: [[b'hello']]"
    assert str(caught.value) == told


def test_waiting_is_woken_by_the_message(echokit_server: RunningServer) -> None:
    waiting = threading.Event()
    got: list[list[list[bytes]]] = []

    def wait() -> None:
        waiting.set()
        got.append(echokit_server.wait_for(1, timeout=10))

    thread = threading.Thread(target=wait)
    thread.start()
    assert waiting.wait(10)
    _exchange(echokit_server, b"hello")
    thread.join(10)
    assert got == [[[b"hello"]]]


@pytest.mark.echokit(framing={"type": "length-prefixed", "prefix_bytes": 2}, chunk_size=4096)
def test_a_client_is_connected_to_the_server_and_speaks_its_framing(
    echokit_server: RunningServer, echokit_client: EchoClient
) -> None:
    for message in (b"hello", b"", b"x" * 10_000):
        assert echokit_client.echo(message) == message
    assert echokit_server.messages == [[b"hello", b"", b"x" * 10_000]]
    assert len(echokit_server.connections) == 1


def test_a_factory_makes_servers_with_different_settings(
    echokit_server_factory: MakeServer,
) -> None:
    lines = echokit_server_factory(framing="delimited", chunk_size=64)
    raw = echokit_server_factory(chunk_size=2)
    cut = echokit_server_factory(segment=[1, 3], seed=5)
    assert len({lines.port, raw.port, cut.port}) == 3
    assert _exchange(lines, b"ab\ncd\n") == b"ab\ncd\n"
    assert _exchange(raw, b"abcd") == b"abcd"
    assert _exchange(cut, b"abcd") == b"abcd"
    assert lines.messages == [[b"ab", b"cd"]]
    assert max(map(len, raw.messages[0])) == 2
    assert b"".join(cut.messages[0]) == b"abcd"


def test_an_instance_of_a_framing_may_be_given(
    echokit_server_factory: MakeServer, framings: list[Framing]
) -> None:
    for framing in framings:
        server = echokit_server_factory(framing=framing, chunk_size=100)
        wire = framing.encode(b"hello")
        assert _exchange(server, wire) == wire
        assert server.messages == [[b"hello"]]


@pytest.fixture
def framings() -> list[Framing]:
    """One of each."""
    return [Raw(), LengthPrefixed(prefix_bytes=1, max_message=9), Delimited(delimiter="|")]


@pytest.mark.echokit(segment=[1, 2], framing="delimited")
def test_asyncio_tests_can_use_them(echokit_server: RunningServer) -> None:
    async def talk(word: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(echokit_server.host, echokit_server.port)
        writer.write(word + b"\n")
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return line

    async def all_talk() -> list[bytes]:
        return list(await asyncio.gather(*(talk(b"word %d" % n) for n in range(20))))

    assert asyncio.run(all_talk()) == [b"word %d\n" % n for n in range(20)]
    assert sorted(echokit_server.wait_for(20)) == sorted([[b"word %d" % n] for n in range(20)])


def test_a_client_that_is_reset_or_stays_open_does_not_fail_the_test(
    pytester: pytest.Pytester,
) -> None:
    source = """
        import socket
        import struct

        def test_reset(echokit_server):
            with socket.create_connection((echokit_server.host, echokit_server.port)) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.sendall(b"x")
                echokit_server.wait_for(1)

        def test_bad_frame(echokit_server_factory):
            server = echokit_server_factory(framing="length-prefixed")
            with socket.create_connection((server.host, server.port), timeout=10) as sock:
                sock.sendall(b"\\xff" * 8)
                assert sock.recv(1) == b""

        kept = []

        def test_stays_open(echokit_server):
            kept.append(socket.create_connection((echokit_server.host, echokit_server.port)))
            kept[-1].sendall(b"x" * 100)

        def teardown_module():
            for sock in kept:
                sock.close()
    """
    _run(pytester, source, args=("-W", "error")).assert_outcomes(passed=3 * len(AVAILABLE))


# Failures.

CUT = """
    import pytest
    import socket

    @pytest.mark.echokit(segment="random"{seed})
    def test_cut(echokit_server, echokit_client):
        # Where the cuts are: as the server's segments have it, of which it tells.
        from echokit.net.segment import Segments

        segments = Segments(echokit_server.segmentation, 1)
        sizes = []
        for _ in range(20):
            sizes.append(segments.left)
            segments.sent(segments.left)
        assert echokit_client.echo(b"hello") == b"hello"
        print("cuts", sizes)
        {end}
"""


def _cuts_and_seed(result: pytest.RunResult) -> tuple[str, str]:
    out = result.stdout.str()
    told = re.findall(r"the server on \S+ cut what it sent: segment='random', seed=(\d+)", out)
    assert len(told) == 1, out
    [cuts] = set(re.findall(r"^cuts (.*)$", out, re.MULTILINE))
    return cuts, told[0]


def test_a_failing_test_shows_the_seed_and_it_gives_the_same_cuts_again(
    pytester: pytest.Pytester,
) -> None:
    args = ("--echokit-family=ipv4",)
    failing = _run(pytester, CUT.format(seed="", end="assert False"), args=args)
    failing.assert_outcomes(failed=1)
    cuts, seed = _cuts_and_seed(failing)
    again = _run(pytester, CUT.format(seed=f", seed={seed}", end="assert False"), args=args)
    assert _cuts_and_seed(again) == (cuts, seed)
    other = _run(pytester, CUT.format(seed="", end="assert False"), args=args)
    assert _cuts_and_seed(other) != (cuts, seed)


def test_a_test_that_passes_tells_no_seed(pytester: pytest.Pytester) -> None:
    result = _run(pytester, CUT.format(seed="", end=""), args=("-rA",))
    result.assert_outcomes(passed=len(AVAILABLE))
    result.stdout.no_fnmatch_line("*seed=*")


def test_a_test_without_cuts_has_no_word_of_them(pytester: pytest.Pytester) -> None:
    result = _run(pytester, "def test_it(echokit_server): assert False")
    result.stdout.no_fnmatch_line("*cut what it sent*")


def _bad(result: pytest.RunResult) -> int:
    """How many tests failed: in themselves, or, where the server was slower to fail, after it."""
    told = re.findall(r"^(?:FAILED|ERROR) \S+::(\S+)", result.stdout.str(), re.MULTILINE)
    return len(set(told))


def test_an_error_inside_the_server_fails_the_test_in_the_servers_words(
    pytester: pytest.Pytester,
) -> None:
    source = """
        @pytest.mark.echokit(framing=Broken())
        def test_it(echokit_server):
            end(echokit_server)

        def test_two(echokit_server_factory):
            for _ in range(2):
                end(echokit_server_factory(framing=Broken()))

        def test_after(echokit_server):
            assert echokit_server.messages == []
    """
    result = _run(pytester, BROKEN, source, args=("--echokit-family=ipv4",))
    assert _bad(result) == 2
    words = (
        r"^(?:E\s+)?the server on (127\.0\.0\.1:\d+) failed on the connection from "
        r"127\.0\.0\.1:\d+: ZeroDivisionError: no such luck$"
    )
    found = re.findall(words, result.stdout.str(), re.MULTILINE)
    assert len(set(found)) == 3
    result.stdout.no_fnmatch_line("*plugin.py:*")


def test_a_server_that_dies_fails_the_test_in_its_words(
    pytester: pytest.Pytester,
) -> None:
    source = """
        import pytest
        from echokit.net.reactor import Reactor

        def test_it(echokit_server_factory, monkeypatch):
            def fails(reactor):
                raise RuntimeError("the loop is broken")

            monkeypatch.setattr(Reactor, "run", fails)
            echokit_server_factory()
    """
    result = _run(pytester, source, args=("--echokit-family=ipv4",))
    assert _bad(result) == 1
    told = "*the server on 127.0.0.1:* failed: RuntimeError: the loop is broken"
    result.stdout.fnmatch_lines([told])


def test_nothing_is_left_behind_by_tests_that_pass_fail_and_break(
    pytester: pytest.Pytester,
) -> None:
    # The fixture that looks for leaks is around this test, and the run is inside it.
    source = """
        @pytest.mark.echokit(framing=Broken())
        def test_broken(echokit_server):
            end(echokit_server)

        def test_fails(echokit_server, echokit_client, echokit_server_factory):
            echokit_server_factory(segment=1, segment_delay="1h")
            echokit_client.echo(b"x")
            assert False

        def test_config_is_wrong(echokit_server, echokit_server_factory):
            echokit_server_factory(prot=7)

        def test_port_is_taken(echokit_server, echokit_server_factory):
            echokit_server_factory(port=echokit_server.port)

        @pytest.mark.echokit(segment=1, segment_delay="1h")
        def test_is_cut_in_a_pause(echokit_server):
            with socket.create_connection((echokit_server.host, echokit_server.port)) as sock:
                sock.sendall(b"xyz")
                assert sock.recv(3) == b"x"
    """
    result = _run(pytester, BROKEN, source, args=("--echokit-family=ipv4",))
    assert _bad(result) == 4
    assert not [t for t in threading.enumerate() if t.name.startswith("echokit")]


# Together with other plugins.

BUSY = """
    import pytest
    import socket

    @pytest.mark.parametrize("number", range(5))
    @pytest.mark.echokit(segment="random", framing="delimited")
    def test_echo(echokit_server, echokit_client, number):
        assert echokit_client.echo(b"%d" % number) == b"%d" % number
        assert echokit_server.messages == [[b"%d" % number]]
"""


def _apart(pytester: pytest.Pytester, *sources: str, args: tuple[str, ...]) -> pytest.RunResult:
    """What a run in a process of its own makes of a module."""
    pytester.makepyfile("".join(textwrap.dedent(source) for source in sources))
    return pytester.runpytest_subprocess("-W", "error", "--strict-markers", *args)


@pytest.mark.slow
def test_it_goes_together_with_randomly(pytester: pytest.Pytester) -> None:
    result = _apart(pytester, BUSY, args=("-p", "randomly", "-p", "no:xdist"))
    result.assert_outcomes(passed=5 * len(AVAILABLE))


@pytest.mark.slow
def test_it_goes_together_with_xdist_and_a_seed_crosses_from_a_worker(
    pytester: pytest.Pytester,
) -> None:
    failing = CUT.format(seed=", seed=77", end="assert False")
    result = _apart(pytester, BUSY, failing, args=("-n", "2", "--echokit-family=ipv4"))
    result.assert_outcomes(passed=5, failed=1)
    assert _cuts_and_seed(result)[1] == "77"


# What it costs, and how it is called.


def test_collection_imports_nothing_heavy(pytester: pytest.Pytester) -> None:
    heavy = ("hypothesis", "pydantic", "ruamel", "ruamel.yaml", "typer")
    pytester.makeconftest(
        f"""
        import json
        import sys

        def pytest_collection_finish(session):
            assert "echokit.testing.plugin" in sys.modules
            found = [name for name in {heavy!r} if name in sys.modules]
            found += [name for name in sys.modules if name.startswith("echokit.")]
            print("LOADED", json.dumps(sorted(found)))
        """
    )
    pytester.makepyfile("def test_it(echokit_client): pass")
    # Hypothesis has a plugin of its own, which is not to be held against this one.
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-s", "--collect-only", "-p", "no:hypothesispytest"],
        cwd=pytester.path,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    [loaded] = re.findall(r"LOADED (.*)", done.stdout)
    assert json.loads(loaded) == ["echokit.testing", "echokit.testing.plugin"]


def test_every_name_carries_the_prefix() -> None:
    names = [name for name in the_plugin.__all__ if not name.startswith("pytest_")]
    assert names == FIXTURES
    assert all(name.startswith("echokit_") for name in names)


def test_pytest_lists_the_fixtures_with_their_words(pytester: pytest.Pytester) -> None:
    out = _run(pytester, "", args=("--fixtures",)).stdout.str()
    for name in FIXTURES:
        assert re.search(rf"^{name} -- .*\n    \S+", out, re.MULTILINE), name


def test_pytest_lists_the_marker_and_the_options(pytester: pytest.Pytester) -> None:
    out = _run(pytester, "", args=("--markers",)).stdout.str()
    assert "@pytest.mark.echokit(framing=..., chunk_size=..., segment=..., seed=..., ...):" in out
    out = _run(pytester, "", args=("--help",)).stdout.str()
    for name in ("--echokit-family", "--echokit-require-ipv6"):
        assert name in out
    for name in ("echokit_family", "echokit_require_ipv6"):
        assert re.search(rf"^\s+{name} \(\w+\):", out, re.MULTILINE)


def test_the_readmes_example_runs(pytester: pytest.Pytester) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    [example] = [block for block in blocks if "test_a_message_comes_back_whole" in block]
    result = _run(pytester, example)
    result.assert_outcomes(passed=3 * len(AVAILABLE), skipped=3 * (2 - len(AVAILABLE)))


@pytest.mark.parametrize("chosen", ["'ipv4'", "socket.AF_INET"])
def test_a_test_may_choose_its_families_itself(pytester: pytest.Pytester, chosen: str) -> None:
    source = f"""
        import socket, pytest

        @pytest.mark.parametrize("echokit_family", [{chosen}], indirect=True)
        def test_one(echokit_server):
            assert echokit_server.host == "127.0.0.1"
    """
    _run(pytester, source).assert_outcomes(passed=1)


def test_a_fixture_that_is_asked_for_by_name_has_the_first_family(
    pytester: pytest.Pytester,
) -> None:
    source = """
        def test_one(request):
            server = request.getfixturevalue("echokit_server")
            assert server.host == "127.0.0.1"
    """
    _run(pytester, source).assert_outcomes(passed=1)


@pytest.mark.parametrize("key", ["host='::1'", "family='ipv6'"])
def test_a_marker_cannot_choose_what_the_fixtures_decide(
    pytester: pytest.Pytester, key: str
) -> None:
    source = f"""
        import pytest

        @pytest.mark.echokit({key})
        def test_one(echokit_server):
            pass
    """
    result = _run(pytester, source, args=("--echokit-family=ipv4",))
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*::test_one* echokit: {key.partition('=')[0]}: is what*"])


def test_what_a_client_sends_last_is_still_looked_at(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The server's thread is slower than the test: what it fails at must not be lost. As on a busy
    # machine, no time is left when it gets its turn.
    monkeypatch.setattr("echokit.testing.server._LAST_WORDS", 0.0)
    source = """
        import pytest

        @pytest.mark.parametrize("number", range(40))
        @pytest.mark.echokit(framing=Broken())
        def test_it(echokit_server, number):
            with socket.create_connection((echokit_server.host, echokit_server.port)) as sock:
                sock.sendall(b"x")
    """
    assert _bad(_run(pytester, BROKEN, source, args=("--echokit-family=ipv4",))) == 40


@pytest.mark.slow
def test_a_framing_that_loops_does_not_keep_pytest_from_ending(pytester: pytest.Pytester) -> None:
    source = """
        import socket
        import pytest
        from echokit import Raw

        class Loops(Raw):
            transparent = False

            def decoder(self):
                return self

            def receive_data(self, data):
                while True:
                    pass

        @pytest.mark.echokit(framing=Loops())
        def test_it(echokit_server):
            with socket.create_connection((echokit_server.host, echokit_server.port)) as sock:
                sock.sendall(b"x")
    """
    pytester.makepyfile(textwrap.dedent(source))
    result = pytester.runpytest_subprocess("--echokit-family=ipv4", timeout=50)
    result.stdout.fnmatch_lines(["*the server on 127.0.0.1:* does not end"])
