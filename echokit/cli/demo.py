"""`echokit demo`: proves on this machine that echoing works."""

import io
from typing import TYPE_CHECKING, NamedTuple

from echokit.cli.ending import Ended, tell

if TYPE_CHECKING:
    from echokit.framing.base import Framing

__all__ = ["demo"]

MESSAGE = b"This is the message.  It will be repeated."


class _Row(NamedTuple):
    """One echo of the demo."""

    family: str
    framing: str
    address: str
    sent: int
    wire: int
    milliseconds: float | None
    verdict: str


def demo() -> None:
    """Echo the exercise's message over IPv4 and IPv6, in each built-in framing.

    Starts servers of its own on loopback, on free ports. Exit code 1 if an echo failed.
    """
    import socket

    from echokit.framing.delimited import Delimited
    from echokit.framing.length_prefixed import LengthPrefixed
    from echokit.framing.raw import Raw
    from echokit.net.listen import loopback_families

    found = dict(loopback_families())
    rows: list[_Row] = []
    for family, name, host in (
        (socket.AF_INET, "IPv4", "127.0.0.1"),
        (socket.AF_INET6, "IPv6", "::1"),
    ):
        if family not in found:
            tell(f"this machine has no {name} loopback ({host}); skipped")
            continue
        for framing in (Raw(), LengthPrefixed(), Delimited()):
            row, server, client = _echo(name, host, framing)
            if not rows:
                print(f"The server ({name}, {framing.type}):\n\n{server}")
                print(f"The client:\n\n{client}")
            rows.append(row)
    _print_table(rows)
    failed = [row for row in rows if row.verdict != "ok"]
    if failed or not rows:
        raise Ended(1)


def _echo(family: str, host: str, framing: "Framing") -> tuple[_Row, str, str]:
    """One server, one client, one message: its row, and both transcripts, indented."""
    from echokit.client import EchoClient
    from echokit.errors import EchokitError, reason
    from echokit.exchange import Messages
    from echokit.observe.transcript import Transcript
    from echokit.server import EchoServer

    told = {"server": io.StringIO(), "client": io.StringIO()}
    address = host
    milliseconds = None
    try:
        with EchoServer(host, 0, framing=framing, observer=Transcript(told["server"])) as server:
            address = str(server.addresses[0])
            observer = Transcript(told["client"])
            with EchoClient(host, server.port, framing=framing, observer=observer) as client:
                done = client.exchange(Messages([MESSAGE]))
                milliseconds = done.seconds * 1e3
        verdict = "ok"
    except EchokitError as error:
        verdict = str(error)
    except OSError as error:
        verdict = reason(error)
    wire = len(framing.encode(MESSAGE))
    row = _Row(family, framing.type, address, len(MESSAGE), wire, milliseconds, verdict)
    server_text, client_text = (
        "".join(f"    {line}\n" for line in told[who].getvalue().splitlines())
        for who in ("server", "client")
    )
    return row, server_text, client_text


def _print_table(rows: list[_Row]) -> None:
    heads = ("family", "framing", "server", "bytes", "on the wire", "round trip", "verdict")
    cells = [
        (
            row.family,
            row.framing,
            row.address,
            str(row.sent),
            str(row.wire),
            "-" if row.milliseconds is None else f"{row.milliseconds:.3f} ms",
            row.verdict,
        )
        for row in rows
    ]
    widths = [max(len(line[i]) for line in [heads, *cells]) for i in range(len(heads))]
    numeric = (3, 4, 5)
    for line in [heads, tuple("-" * width for width in widths), *cells]:
        shown = [
            cell.rjust(width) if i in numeric else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(shown).rstrip())
