"""The options that commands share: what they are called, and what the help says of them.

Each is read as text: `settings` has it checked by the config's own rules.
"""

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Allow",
    "Backlog",
    "ChunkSize",
    "ConfigFile",
    "ConnectTimeout",
    "Deny",
    "DrainTimeout",
    "Family",
    "FramingName",
    "Host",
    "IdleTimeout",
    "Ipv4",
    "Ipv6",
    "MaxConnections",
    "MaxConnectionsPerPeer",
    "MaxLifetime",
    "MessageTimeout",
    "Port",
    "Seed",
    "Segment",
    "SegmentDelay",
    "SendTimeout",
    "Timeout",
    "WorkerCount",
]

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", envvar="ECHOKIT_CONFIG", metavar="FILE",
        help="YAML or TOML file with the settings; flags and variables go over it.",
    ),
]  # fmt: skip
Host = Annotated[
    str | None,
    typer.Option(
        envvar="ECHOKIT_HOST", metavar="HOST",
        help="Name or literal ('::1', 'fe80::1%eth0'). serve: '' or '*' is every address."
        " Default: localhost.",
    ),
]  # fmt: skip
Port = Annotated[
    str | None,
    typer.Option(
        "--port", "-p", envvar="ECHOKIT_PORT", metavar="PORT",
        help="0 to 65535. serve: 0 is any free one. Default: 10000.",
    ),
]  # fmt: skip
Ipv4 = Annotated[bool, typer.Option("-4", help="IPv4 only: the same as --family AF_INET.")]
Ipv6 = Annotated[bool, typer.Option("-6", help="IPv6 only: the same as --family AF_INET6.")]
Family = Annotated[
    str | None,
    typer.Option(
        envvar="ECHOKIT_FAMILY", metavar="FAMILY",
        help="AF_UNSPEC (any), AF_INET (ipv4) or AF_INET6 (ipv6). Default: AF_UNSPEC.",
    ),
]  # fmt: skip
ChunkSize = Annotated[
    str | None,
    typer.Option(
        envvar="ECHOKIT_CHUNK_SIZE", metavar="SIZE",
        help="The most bytes that one recv() asks for, 1 to 16MiB, like 64k. Default: 16.",
    ),
]  # fmt: skip

Backlog = Annotated[
    str | None,
    typer.Option(
        envvar="ECHOKIT_BACKLOG", metavar="N",
        help="How many connections may wait to be accepted. Default: 4096.",
    ),
]  # fmt: skip
WorkerCount = Annotated[
    str | None,
    typer.Option(
        "--workers", envvar="ECHOKIT_WORKERS", metavar="N",
        help="How many processes serve; 0: one for each core (Linux). Default: 1.",
    ),
]  # fmt: skip
DrainTimeout = Annotated[
    str | None,
    typer.Option(
        envvar="ECHOKIT_DRAIN_TIMEOUT", metavar="TIME",
        rich_help_panel="Limits",
        help="How long connections may finish after SIGINT or SIGTERM. Default: 5s.",
    ),
]  # fmt: skip
MaxConnections = Annotated[
    str | None,
    typer.Option(
        envvar="ECHOKIT_MAX_CONNECTIONS", metavar="N", rich_help_panel="Limits",
        help="How many may be open at once; others wait. Default: the descriptor limit less 64.",
    ),
]  # fmt: skip
MaxConnectionsPerPeer = Annotated[
    str | None,
    typer.Option(
        envvar="ECHOKIT_MAX_CONNECTIONS_PER_PEER", metavar="N", rich_help_panel="Limits",
        help="How many one IPv4 address or IPv6 /64 may have; more are closed. Default: any.",
    ),
]  # fmt: skip
IdleTimeout = Annotated[
    str | None,
    typer.Option(
        envvar="ECHOKIT_IDLE_TIMEOUT", metavar="TIME", rich_help_panel="Limits",
        help="Ends a connection on which nothing moves for so long; 0: never. Default: 10m.",
    ),
]  # fmt: skip
MessageTimeout = Annotated[
    str | None,
    typer.Option(
        envvar="ECHOKIT_MESSAGE_TIMEOUT", metavar="TIME", rich_help_panel="Limits",
        help="A message that has begun must end in this time, or come at 1 KiB a second; 0: any"
        " time. Default: 30s.",
    ),
]  # fmt: skip
SendTimeout = Annotated[
    str | None,
    typer.Option(
        envvar="ECHOKIT_SEND_TIMEOUT", metavar="TIME", rich_help_panel="Limits",
        help="Resets a peer that reads nothing of what it is owed for so long; 0: never."
        " Default: 1m.",
    ),
]  # fmt: skip
MaxLifetime = Annotated[
    str | None,
    typer.Option(
        envvar="ECHOKIT_MAX_LIFETIME", metavar="TIME", rich_help_panel="Limits",
        help="How long a connection may last; 0: for ever. Default: for ever.",
    ),
]  # fmt: skip
Allow = Annotated[
    str | None,
    typer.Option(
        envvar="ECHOKIT_ALLOW", metavar="NET[,NET...]", rich_help_panel="Limits",
        help="Only peers in these networks, like 192.0.2.0/24,2001:db8::/32. Default: everybody.",
    ),
]  # fmt: skip
Deny = Annotated[
    str | None,
    typer.Option(
        envvar="ECHOKIT_DENY", metavar="NET[,NET...]", rich_help_panel="Limits",
        help="Nobody in these networks, though --allow has them. Default: nobody.",
    ),
]  # fmt: skip
ConnectTimeout = Annotated[
    str | None,
    typer.Option(
        envvar="ECHOKIT_CONNECT_TIMEOUT", metavar="TIME",
        help="How long resolving and connecting may take. Default: 5s.",
    ),
]  # fmt: skip
Timeout = Annotated[
    str | None,
    typer.Option(
        envvar="ECHOKIT_TIMEOUT", metavar="TIME",
        help="How long the server may be silent while it owes something. Default: 30s.",
    ),
]  # fmt: skip

Segment = Annotated[
    str | None,
    typer.Option(
        envvar="ECHOKIT_SEGMENT", metavar="N[,N...]|random|joined",
        help="Cut what is sent on purpose, for those who test a parser: pieces of these sizes,"
        " over and over; or at random; or joined.",
    ),
]  # fmt: skip
SegmentDelay = Annotated[
    str | None,
    typer.Option(
        envvar="ECHOKIT_SEGMENT_DELAY", metavar="TIME",
        help="The pause between two pieces; joined: how long is gathered. Default: none.",
    ),
]  # fmt: skip
Seed = Annotated[
    str | None,
    typer.Option(
        envvar="ECHOKIT_SEED", metavar="N",
        help="What random cuts come from; without it one is drawn, and told on stderr.",
    ),
]  # fmt: skip


def _complete_framing(incomplete: str) -> list[str]:
    from echokit.framing.registry import framing_names

    return [name for name in framing_names() if name.startswith(incomplete)]


FramingName = Annotated[
    str | None,
    typer.Option(
        envvar="ECHOKIT_FRAMING", metavar="NAME", autocompletion=_complete_framing,
        help="raw, length-prefixed, delimited or a plugin's: see 'echokit framings'."
        " Default: raw.",
    ),
]  # fmt: skip
