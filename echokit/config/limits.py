"""What a server allows: how many, how large, how long, and whom."""

from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from echokit.config.section import Section
from echokit.units import Duration, Size, format_duration

if TYPE_CHECKING:
    # A client has limits too, at their defaults, and need not know how a server keeps them.
    from echokit.net.admission import Admission
    from echokit.net.listen import SocketOptions

__all__ = ["Limits"]

_YEAR = 365 * 86400
# Each connection is held against all of them.
_MOST_NETWORKS = 1000
_Time = Annotated[float, Duration(0, _YEAR)]


def _check_network(value: str) -> str:
    from echokit.net.admission import parse_network  # noqa: PLC0415 - only where there are any

    try:
        return str(parse_network(value))
    except ValueError as error:
        raise PydanticCustomError("network", "{why}", {"why": str(error)}) from None


def _listed(value: Any) -> Any:
    """A flag has the networks in one text, with commas between them."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if isinstance(value, list | tuple) and len(value) > _MOST_NETWORKS:
        raise PydanticCustomError(
            "networks", "has more than {most} networks", {"most": _MOST_NETWORKS}
        )
    return tuple(value) if isinstance(value, list) else value


_Networks = Annotated[
    tuple[Annotated[str, AfterValidator(_check_network)], ...],
    BeforeValidator(_listed),
    WithJsonSchema(
        {
            "type": ["array", "string"],
            "items": {"type": "string"},
            "examples": [["192.0.2.0/24", "2001:db8::/32"]],
        }
    ),
]


class Limits(Section):
    """What a server allows. A time of 0 is no limit of that kind."""

    max_connections: int = Field(
        0,
        ge=0,
        le=10_000_000,
        description="How many may be open at once; those that come then wait. 0: as many as the"
        " process may have descriptors, less a reserve.",
    )
    max_connections_per_peer: int = Field(
        0,
        ge=0,
        le=10_000_000,
        description="How many one peer may have, an IPv4 address or an IPv6 /64; more are closed"
        " at once. 0: any number.",
    )
    idle_timeout: _Time = Field(
        600.0, description="A connection on which nothing moves for so long is ended."
    )
    message_timeout: _Time = Field(
        default_factory=lambda known: _at_most(30.0, known["idle_timeout"]),
        description="A message that has begun must end in this time, or come at 1 KiB a second."
        " Default: 30s, or idle_timeout where that is less.",
    )
    tcp_user_timeout: Annotated[float, Duration(0, 86400)] = Field(
        0.0,
        description="A peer that acknowledges nothing for so long is given up (Linux). 0: as the"
        " system has it.",
    )
    send_timeout: _Time = Field(
        default_factory=lambda known: _at_most(60.0, known["tcp_user_timeout"]),
        description="A peer that reads nothing of what it is owed for so long is reset."
        " Default: 1m, or tcp_user_timeout where that is less.",
    )
    max_lifetime: _Time = Field(0.0, description="How long a connection may last.")
    drain_timeout: Annotated[float, Duration(0, 86400)] = Field(
        5.0, description="How long connections may finish after SIGINT or SIGTERM."
    )
    keepalive: Annotated[float, Duration(0, 32767)] = Field(
        60.0,
        description="A silent peer is asked for a sign of life after so long (whole seconds).",
    )
    max_message: Annotated[int, Size(0, 1 << 40)] | None = Field(
        None, description="Lowers the framing's own limit. null: as the framing has it."
    )
    send_buffer: Annotated[int, Size(0, 1 << 30)] = Field(
        0, description="The kernel's buffer for what is sent (SO_SNDBUF). 0: as it sees fit."
    )
    receive_buffer: Annotated[int, Size(0, 1 << 30)] = Field(
        0, description="The kernel's buffer for what comes (SO_RCVBUF). 0: as it sees fit."
    )
    allow: _Networks = Field((), description="Only peers in these networks; none: everybody.")
    deny: _Networks = Field((), description="Nobody in these networks, though `allow` has them.")

    def admission(self) -> "Admission | None":
        """Who is let in, for one server, which counts; None where that is everybody."""
        from echokit.net.admission import Admission, parse_network  # noqa: PLC0415 - see above

        if not (self.allow or self.deny or self.max_connections_per_peer):
            return None
        allow, deny = ([parse_network(text) for text in each] for each in (self.allow, self.deny))
        return Admission(allow, deny, self.max_connections_per_peer)

    @property
    def socket_options(self) -> "SocketOptions":
        """What the system is told about the connections."""
        from echokit.net.listen import SocketOptions  # noqa: PLC0415 - see above

        return SocketOptions(
            self.send_buffer, self.receive_buffer, self.keepalive, self.tcp_user_timeout
        )

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        """Refuse limits of which one would hide the other."""
        found = [
            (less, f"{less} {_written(small)} is over {more} {_written(large)}: {why}")
            for less, more, why in _ORDERED
            if 0 < (large := getattr(self, more)) < (small := getattr(self, less))
        ]
        if found:
            whys = "; ".join(why for _, why in found)
            raise PydanticCustomError(
                "contradiction", "{whys}", {"key": (found[0][0],), "whys": whys}
            )
        return self


# Pairs of which the first can only be met if it is not over the second.
_ORDERED = (
    ("max_connections_per_peer", "max_connections", "it could never be reached"),
    ("message_timeout", "idle_timeout", "it could never be reached"),
    ("send_timeout", "tcp_user_timeout", "the system would give the peer up before"),
)


def _at_most(default: float, other: float) -> float:
    """`default`, or another time limit where there is one and it is less."""
    return min(default, other or default)


def _written(limit: float) -> str:
    return str(limit) if isinstance(limit, int) else format_duration(limit)
