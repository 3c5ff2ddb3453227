"""`--segment`, `--segment-delay` and `--seed`: what is sent is cut on purpose."""

import json
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from signal import Signals

import pytest

from echokit.config import Config, load
from echokit.net.segment import Segmentation
from echokit.testing import RunningServer
from tests.cli.peers import serving_once
from tests.cli.processes import DEADLINE, Running, run


def _reads(sock: socket.socket, total: int) -> list[bytes]:
    """What each read finds, until so many bytes have come."""
    found: list[bytes] = []
    while sum(map(len, found)) < total and (data := sock.recv(65536)):
        found.append(data)
    return found


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--segment", "0"), "--segment: should be a size of 1 to 16777216"),
        (("--segment", "1,-3"), "--segment: should be a size of 1 to 16777216"),
        (("--segment", "1,"), "--segment: should be a size of 1 to 16777216"),
        (("--segment", "rnadom"), "--segment: should be a size of 1 to 16777216"),
        (("--segment-delay", "soon"), "--segment-delay: "),
        (("--segment-delay", "2h"), "--segment-delay: "),
        (("--seed", "seven"), "--seed: should be a whole number"),
        (("--seed", "-1"), "--seed: should be greater than or equal to 0"),
        (("--seed", "1.5"), "--seed: should be a whole number"),
    ],
)
@pytest.mark.parametrize(
    "command", [("serve", "--port", "0"), ("send", "x")], ids=["serve", "send"]
)
def test_a_flag_that_is_wrong_is_told_by_its_name(
    command: tuple[str, ...], args: Sequence[str], told: str
) -> None:
    done = run(*command, *args)
    assert (done.code, done.out) == (2, b"")
    assert done.complaint.startswith(told)


@pytest.mark.parametrize("seed", [str((1 << 64) - 1), "12345678901234567890"])
def test_any_seed_that_a_file_may_have_may_be_a_flag(seed: str) -> None:
    done = run("config", "show", "--json", "--segment", "random", "--seed", seed)
    assert (done.code, done.err) == (0, b"")
    assert json.loads(done.out)["seed"]["value"] == int(seed)


@pytest.fixture
def serving(host: str) -> Iterator[tuple[Running, int]]:
    """`serve` with pieces of 1 and 3, a little apart."""
    args = ("--segment", "1,3", "--segment-delay", "100ms", "--seed", "7", "--output", "json")
    with Running("serve", "--host", host, "--port", "0", *args) as server:
        yield server, json.loads(server.line())["port"]


@pytest.mark.one_family
def test_serve_cuts_as_its_flags_say(host: str, serving: tuple[Running, int]) -> None:
    server, port = serving
    with socket.create_connection((host, port), timeout=DEADLINE) as sock:
        sock.sendall(b"abcdef")
        assert _reads(sock, 6) == [b"a", b"bcd", b"e", b"f"]
    done = server.end(Signals.SIGTERM)
    assert (done.code, done.err) == (0, b"")


@pytest.mark.one_family
def test_send_cuts_as_its_flags_say(host: str) -> None:
    found: list[bytes] = []

    def answer(sock: socket.socket) -> None:
        found.extend(_reads(sock, 6))
        sock.sendall(b"abcdef")
        assert sock.recv(1) == b""

    args = ("--segment", "1,3", "--segment-delay", "100ms", "--seed", "7")
    with serving_once(host, answer) as port:
        done = run("send", "--host", host, "--port", str(port), *args, "-o", "raw", "abcdef")
    assert (done.code, done.out, done.err) == (0, b"abcdef", b"")
    assert found == [b"a", b"bcd", b"e", b"f"]


@pytest.mark.echokit(segment="joined")
def test_the_seed_that_was_drawn_is_told_on_stderr_and_can_be_given_again(
    echokit_server: RunningServer,
) -> None:
    args = ("send", "--host", echokit_server.host, "--port", str(echokit_server.port))
    cut = ("--segment", "random", "--output", "raw", "hello")
    seeds = []
    for _ in range(2):
        done = run(*args, *cut)
        assert (done.code, done.out) == (0, b"hello")
        told, _, seed = done.complaint.rpartition(" ")
        assert told == "what is sent is cut at random, from --seed"
        seeds.append(seed)
    assert len(set(seeds)) == 2
    again = run(*args, *cut, "--seed", seeds[0])
    assert (again.code, again.out) == (0, b"hello")


def test_show_prints_what_is_a_config_again(tmp_path: Path) -> None:
    path = tmp_path / "shown.yaml"
    for how in ("1,3", "random", "joined"):
        done = run("config", "show", "--segment", how, "--segment-delay", "1ms", "--seed", "7")
        assert (done.code, done.err) == (0, b"")
        path.write_bytes(done.out)
        expected = tuple(map(int, how.split(","))) if "," in how else how
        assert load(path).segmentation == Segmentation(expected, 0.001, 7)
    done = run("config", "show")
    path.write_bytes(done.out)
    assert load(path) == Config()
