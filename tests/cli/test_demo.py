"""`echokit demo`: the README's first command."""

import re
import socket

from tests.cli.processes import run
from tests.conftest import AVAILABLE

ROW = re.compile(
    r"(?P<family>IPv[46]) +(?P<framing>[a-z-]+) +(?P<server>\S+) +(?P<bytes>\d+) +(?P<wire>\d+)"
    r" +(?P<ms>\d+\.\d{3}) ms  (?P<verdict>.+)"
)
# What the framing adds to a message.
OVERHEAD = {"raw": 0, "length-prefixed": 4, "delimited": 1}

TRANSCRIPTS = """\
The server ({family}, raw):

    starting up on {host} port {port}
    waiting for a connection
    connection from ('{host}', {client})
    received "This is the mess"
    sending data back to the client
    received "age.  It will be"
    sending data back to the client
    received " repeated."
    sending data back to the client
    received ""
    no more data from ('{host}', {client})
    waiting for a connection

The client:

    connecting to {host} port {port}
    sending "This is the message.  It will be repeated."
    received "This is the mess"
    received "age.  It will be"
    received " repeated."
    closing socket

"""


def test_it_shows_both_transcripts_and_echoes_over_every_family_in_each_framing() -> None:
    done = run("demo")
    text = done.out.decode()
    transcripts, heads, table = text.partition("family  framing ")
    first = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}
    family, host = next(iter(AVAILABLE.items()))
    ports = re.search(r"port (\d+)\n.*, (\d+)\)\n", transcripts, re.DOTALL)
    assert ports is not None
    port, client = ports.groups()
    assert transcripts == TRANSCRIPTS.format(
        family=first[family], host=host, port=port, client=client
    )
    rows = [ROW.fullmatch(line) for line in (heads + table).splitlines()[2:]]
    found = [row.groupdict() for row in rows if row is not None]
    assert [(row["family"], row["framing"]) for row in found] == [
        (first[family], framing) for family in AVAILABLE for framing in OVERHEAD
    ]
    assert len(found) == len(rows)
    for row in found:
        assert row["verdict"] == "ok"
        assert row["bytes"] == "42"
        assert int(row["wire"]) == 42 + OVERHEAD[row["framing"]]
        literal = AVAILABLE[socket.AF_INET if row["family"] == "IPv4" else socket.AF_INET6]
        assert row["server"].startswith(f"[{literal}]:" if ":" in literal else f"{literal}:")
        assert float(row["ms"]) > 0
    assert done.code == 0
    missing = len(first) - len(AVAILABLE)
    assert len(done.err.splitlines()) == missing
