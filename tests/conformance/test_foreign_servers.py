"""Our client, with others' echo servers: inetd, xinetd, socat and ncat."""

import contextlib
import getpass
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from echokit.client import WINDOW, EchoClient
from echokit.exchange import Messages
from echokit.framing.base import Framing
from echokit.framing.delimited import Delimited
from echokit.framing.length_prefixed import LengthPrefixed
from echokit.framing.raw import Raw
from tests.cli.peers import client, reserved_port
from tests.cli.processes import start
from tests.conformance.programs import DEADLINE, listening, tool

# What makes a server's command: for a host and port, with a folder for its files.
Command = Callable[[str, int, Path], list[str]]

BULK = 5_000_000
FRAMINGS: list[Framing] = [Raw(), LengthPrefixed(), Delimited()]
# `ncat -e` waits for room in the pipe to its program, and meanwhile does not empty the one from
# it: with more on the way than the pipes hold, both can wait for ever.
NCAT_WINDOW = 32768


def _inetd(host: str, port: int, folder: Path) -> list[str]:
    # Its own services go by their names, and listen where /etc/services has them: it gets one of
    # its own, in a namespace that ends with it.
    shell = tool("unshare"), "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",))
    allowed = subprocess.run([*shell, "true"], capture_output=True, text=True, check=False)
    if allowed.returncode:
        pytest.skip(f"inetd's port cannot be chosen without a namespace: {allowed.stderr.strip()}")
    services, config = folder / "services", folder / "inetd.conf"
    services.write_text(f"echo {port}/tcp\n")
    listen, protocol = (f"[{host}]", "tcp6") if ":" in host else (host, "tcp4")
    config.write_text(f"{listen}:echo stream {protocol} nowait root internal\n")
    mount = 'mount --bind "$1" /etc/services && exec "$2" -i "$3"'
    return [*shell, "sh", "-c", mount, "sh", str(services), tool("inetd"), str(config)]


def _xinetd(host: str, port: int, folder: Path) -> list[str]:
    config = folder / "xinetd.conf"
    config.write_text(
        "service echo\n{\n"
        " type = INTERNAL UNLISTED\n id = echo\n socket_type = stream\n protocol = tcp\n"
        f" wait = no\n user = {getpass.getuser()}\n port = {port}\n"
        f" flags = {'IPv6' if ':' in host else 'IPv4'}\n bind = {host}\n"
        "}\n"
    )
    files = ("-pidfile", str(folder / "pid"), "-filelog", str(folder / "log"))
    return [tool("xinetd"), "-dontfork", "-f", str(config), *files]


def _socat(host: str, port: int, echo: str) -> list[str]:
    kind = f"TCP6-LISTEN:{port},bind=[{host}]" if ":" in host else f"TCP4-LISTEN:{port},bind={host}"
    # -b: with larger blocks, it can wait for ever for room in a pipe that nobody but itself would
    # empty. -t: how long the other direction may go on once one has ended.
    options = ["-b", "4096", "-t", f"{DEADLINE:g}"]
    return [tool("socat"), *options, f"{kind},reuseaddr,fork", echo]


def _socat_pipe(host: str, port: int, _folder: Path) -> list[str]:
    return _socat(host, port, "PIPE")


def _socat_cat(host: str, port: int, _folder: Path) -> list[str]:
    return _socat(host, port, "EXEC:cat")


def _ncat(host: str, port: int, *run: str) -> list[str]:
    return [tool("ncat"), "--listen", "--keep-open", host, str(port), *run]


def _ncat_cat(host: str, port: int, _folder: Path) -> list[str]:
    return _ncat(host, port, "--exec", "/bin/cat")


SERVERS: dict[str, tuple[Command, int]] = {
    "inetd": (_inetd, WINDOW),
    "xinetd": (_xinetd, WINDOW),
    "socat PIPE": (_socat_pipe, WINDOW),
    "socat EXEC:cat": (_socat_cat, WINDOW),
    "ncat -e cat": (_ncat_cat, NCAT_WINDOW),
}
every_server = pytest.mark.parametrize("name", SERVERS)


@contextlib.contextmanager
def _serving(command: Command, host: str, folder: Path) -> Iterator[int]:
    """A server on a free port of `host`; yields the port."""
    with reserved_port(host) as port, listening(command(host, port, folder), host, port):
        yield port


def _exchange(host: str, port: int, framing: Framing, window: int) -> None:
    # Whoever echoes the bytes echoes the frames.
    data = os.urandom(BULK).replace(b"\n", b"\r")
    messages = [data[at : at + 5000] for at in range(0, BULK, 5000)]
    back = bytearray()
    with EchoClient(host, port, framing=framing, chunk_size=65536, timeout=DEADLINE) as peer:
        done = peer.exchange(Messages(messages), back.extend, window=window)
    assert back == data
    assert (done.messages, done.payload_bytes) == (1000, BULK)


@every_server
def test_our_client_gets_five_megabytes_back_from(name: str, host: str, tmp_path: Path) -> None:
    command, window = SERVERS[name]
    with _serving(command, host, tmp_path) as port:
        _exchange(host, port, Raw(), window)


@pytest.mark.parametrize("framing", FRAMINGS, ids=lambda framing: framing.type)
def test_every_framing_comes_back_from_a_server_that_knows_none(
    framing: Framing, host: str, tmp_path: Path
) -> None:
    with _serving(_socat_pipe, host, tmp_path) as port:
        _exchange(host, port, framing, WINDOW)


@pytest.mark.slow
@every_server
def test_send_gets_a_message_back_time_after_time_from(
    name: str, host: str, tmp_path: Path
) -> None:
    message = os.urandom(10_000).hex()
    options = ("--output", "raw", "--chunk-size", "64k", "--count", "20")
    command, _ = SERVERS[name]
    with _serving(command, host, tmp_path) as port:
        done = start("send", "--host", host, "--port", str(port), *options, message)
    assert (done.code, done.err) == (0, b"")
    assert done.out.decode() == message * 20


@every_server
def test_our_clients_are_served_one_after_the_other_by(
    name: str, host: str, tmp_path: Path
) -> None:
    command, _ = SERVERS[name]
    with _serving(command, host, tmp_path) as port:
        for number in range(3):
            with EchoClient(host, port) as peer:
                assert peer.echo(b"hello %d" % number) == b"hello %d" % number


# ncat's loss: it ends at the client's FIN, whatever its program has still to say.


def _half_closing(host: str, port: int, data: bytes) -> bytes:
    """What a plain client gets that sends all, half-closes, and reads to the end."""
    back = b""
    with client(host, port) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        while more := sock.recv(65536):
            back += more
    return back


@pytest.mark.slow
def test_ncat_loses_for_who_half_closes_early_what_our_client_gets(
    host: str, tmp_path: Path
) -> None:
    data = os.urandom(10_000)
    # An echo that is slower than the client: it begins when ncat has ended, or after two seconds.
    waits = "for i in $(seq 200); do kill -0 $PPID || break; sleep 0.01; done; exec cat"

    def late(host: str, port: int, _folder: Path) -> list[str]:
        return _ncat(host, port, "--sh-exec", waits)

    with _serving(late, host, tmp_path) as port:
        assert _half_closing(host, port, data) == b""
        with EchoClient(host, port, chunk_size=65536) as peer:
            assert peer.echo(data) == data


def test_send_tells_to_the_byte_what_a_half_close_on_the_way_has_lost(
    host: str, tmp_path: Path
) -> None:
    data = os.urandom(40_000)
    (tmp_path / "file").write_bytes(data)

    def relay(host: str, port: int, _folder: Path) -> list[str]:
        # It takes the end to have come after so many bytes, and hands it on to ncat.
        version, target = ("6", f"[{host}]") if ":" in host else ("4", host)
        listen = f"TCP{version}-LISTEN:{port},bind={target},reuseaddr,fork,readbytes=30000"
        return [tool("socat"), "-t", f"{DEADLINE:g}", listen, f"TCP{version}:{target}:{behind}"]

    with (
        _serving(_ncat_cat, host, tmp_path) as behind,
        _serving(relay, host, tmp_path) as port,
    ):
        where = ("--host", host, "--port", str(port), "--file", str(tmp_path / "file"))
        done = start("send", *where, "--output", "raw", "--chunk-size", "64k")
    assert done.code == 1
    told = re.search(r" after (\d+) of 40000 bytes$", done.complaint)
    assert told
    # How much ncat has lost differs from time to time; that it is told does not.
    assert int(told[1]) == len(done.out) <= 30_000
    assert data.startswith(done.out)
