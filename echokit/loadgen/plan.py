"""What the generators of one process are to do, as it is handed to them."""

from collections.abc import Mapping
from dataclasses import dataclass

from echokit.framing.base import Framing
from echokit.loadgen.measured import FamilyName
from echokit.net.address import Address

__all__ = ["BenchPlan", "Plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What one generator does.

    Attributes:
        address: Where to.
        connections: How many lanes.
        in_flight: How many exchanges a lane may have under way.
        rate: Open loop: exchanges a second, over all lanes; None is a closed loop.
        churn: Every exchange has a connection of its own.
        framing: How messages stand on the wire.
        chunk_size: The most bytes that one recv() asks for.
        timeout: The longest that an exchange may take, in seconds.
        connect_timeout: The longest that a connect may take, in seconds.
        first_lane: The number of the first lane, where other workers have those before it.
        phase: Open loop: by how much of an interval the schedule is shifted, 0 to 1.
        workers: Open loop: over how many workers it is spread, whose schedules interleave.
    """

    address: Address
    connections: int
    in_flight: int
    rate: float | None
    churn: bool
    framing: Framing
    chunk_size: int
    timeout: float
    connect_timeout: float
    first_lane: int = 0
    phase: float = 0.0
    workers: int = 1


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """What one process does.

    Attributes:
        plans: What its generators do, by family.
        seed: What sizes and payloads are drawn from.
        size_min: The least size of a message, in bytes.
        size_max: The greatest.
    """

    plans: Mapping[FamilyName, Plan]
    seed: int
    size_min: int
    size_max: int
