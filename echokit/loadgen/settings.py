"""What a run is asked for, as plain values."""

import math
import socket
from dataclasses import dataclass

from echokit.errors import ConfigError
from echokit.framing.base import Framing
from echokit.loadgen.measured import FAMILY_TITLES, FamilyName
from echokit.loadgen.result import RunSettings
from echokit.loadgen.shown import number
from echokit.units import format_duration

__all__ = ["FAMILY_NAMES", "SOCKET_FAMILIES", "LoadSettings", "only_asked"]

SOCKET_FAMILIES: dict[FamilyName, socket.AddressFamily] = {
    "ipv4": socket.AF_INET,
    "ipv6": socket.AF_INET6,
}
FAMILY_NAMES = {family: name for name, family in SOCKET_FAMILIES.items()}

# A turn is a tenth of what a family has, between these bounds, in seconds.
_TURNS = 10
_TURN_SHORTEST = 0.05
_TURN_LONGEST = 1.0


def only_asked(family: FamilyName) -> str:
    """Why another family than `family` was not measured: nobody had asked for it."""
    return f"only {FAMILY_TITLES[family]} was asked for"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSettings:
    """A run, whatever its target.

    Attributes:
        seed: What sizes and payloads are drawn from.
        family: AF_UNSPEC measures every family that the target has.
        connections: How many at a time, over all workers.
        duration: How long is measured, in seconds, all families together; None: until `count`.
        count: How many exchanges of each family; None: for `duration`.
        size_min: The least size of a message, in bytes.
        size_max: The greatest.
        rate: Open loop: exchanges a second; None is a closed loop.
        in_flight: How many exchanges a connection may have under way.
        framing: How messages stand on the wire.
        chunk_size: The most bytes that one recv() asks for.
        churn: Every exchange has a connection of its own.
        warmup: How long each family is warmed up, in seconds.
        workers: Over how many processes it is spread.
        timeout: The longest that an exchange may take, in seconds.
        connect_timeout: The longest that resolving and connecting may take, in seconds.
        calibrate: Whether the generator is measured against echokit's own server first.
    """

    seed: int
    framing: Framing
    family: socket.AddressFamily = socket.AF_UNSPEC
    connections: int = 1
    duration: float | None = 5.0
    count: int | None = None
    size_min: int = 64
    size_max: int = 64
    rate: float | None = None
    in_flight: int = 1
    chunk_size: int = 65536
    churn: bool = False
    warmup: float = 0.5
    workers: int = 1
    timeout: float = 5.0
    connect_timeout: float = 5.0
    calibrate: bool = True

    @property
    def most_connections(self) -> int:
        """How many connections a worker has at a time, at most, to one family."""
        return math.ceil(self.connections / self.workers)

    def turn_seconds(self, families: int) -> float:
        """How long a turn of one of so many families is, in seconds."""
        if self.duration is None:
            return _TURN_LONGEST / 2
        share = self.duration / families
        return min(max(share / _TURNS, _TURN_SHORTEST), _TURN_LONGEST, share)

    def share(self, families: int) -> float | None:
        """How long each of so many families is measured, in seconds; None: until `count`."""
        return None if self.duration is None else self.duration / families

    def check_due(self, families: int) -> None:
        """Make sure that something falls due, wherever in its interval the measuring begins.

        Raises:
            ConfigError: The rate is too low for the duration.
        """
        share = self.share(families)
        if self.rate is None or share is None or self.rate * share >= 1:
            return
        each = "" if families == 1 else " of each family"
        raise ConfigError(
            f"--rate: at {number(self.rate)} a second nothing falls due in the"
            f" {format_duration(share)}{each}: use a longer --duration or a higher --rate"
        )

    def document(self, turn_s: float) -> RunSettings:
        """What of it stands in the result document."""
        return RunSettings(
            connections=self.connections,
            duration_s=self.duration,
            count=self.count,
            size_min=self.size_min,
            size_max=self.size_max,
            rate_per_s=self.rate,
            in_flight=self.in_flight,
            framing=self.framing.model_dump(mode="json"),
            churn=self.churn,
            warmup_s=self.warmup,
            workers=self.workers,
            timeout_s=self.timeout,
            connect_timeout_s=self.connect_timeout,
            turn_s=turn_s,
        )
