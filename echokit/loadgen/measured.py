"""What one family of addresses gave: the part of the result document that holds the figures."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from echokit.loadgen.figures import Count, Figure, Part

__all__ = [
    "FAMILIES",
    "FAMILY_TITLES",
    "OUTCOMES",
    "Count",
    "FamilyName",
    "FamilyResult",
    "Outcomes",
    "PerSecond",
    "Seconds",
    "Slice",
    "TcpInfo",
]

FamilyName = Literal["ipv4", "ipv6"]
FAMILIES: tuple[FamilyName, ...] = ("ipv4", "ipv6")
FAMILY_TITLES: dict[FamilyName, str] = {"ipv4": "IPv4", "ipv6": "IPv6"}

# As microseconds have it: over 30 years.
Seconds = Annotated[float, Field(ge=0, le=1e9)]
PerSecond = Annotated[float, Field(ge=0, le=1e15)]


class Outcomes(Part):
    """How exchanges ended: each counts once, so that the sum is the number of requests."""

    ok: Count = Field(0, description="All came back as it was sent.")
    mismatch: Count = Field(0, description="Something else came back, or more than was sent.")
    early_close: Count = Field(0, description="The peer closed before all had come back.")
    reset: Count = Field(0, description="The connection was reset or failed.")
    timeout: Count = Field(0, description="Not all had come back in time.")
    refused: Count = Field(0, description="No exchange: the connection was refused.")
    connect_timeout: Count = Field(0, description="No exchange: no connection came about in time.")
    connect_failed: Count = Field(0, description="No exchange: connecting failed in another way.")
    abandoned: Count = Field(
        0,
        description="Cut off unanswered: its connection was ended for what an earlier exchange on"
        " it met, or the run was interrupted.",
    )


OUTCOMES: tuple[str, ...] = tuple(Outcomes.model_fields)


class Slice(Part):
    """One stretch of the measured time of a family."""

    start_s: Seconds = Field(description="When it began, since the run's measuring began.")
    duration_s: Seconds = Field(description="How long this family was measured in it.")
    requests: Count
    ok: Count
    requests_per_s: PerSecond = Field(
        description="Exchanges that came back well, a second; see the family's."
    )
    response: Figure = Field(description="Response times of this stretch.")


class TcpInfo(Part):
    """What the kernel says of the connections, read as each ended (Linux: TCP_INFO, tcp(7))."""

    rtt: Figure = Field(description="The smoothed round-trip time of each connection.")
    rttvar_mean_us: float = Field(
        ge=0, le=1e15, description="Its mean deviation, averaged over them."
    )
    retransmits: Count = Field(description="Segments sent again, over all connections.")


class FamilyResult(Part):
    """What one family gave."""

    addresses: list[str] = Field(description="Where to, as `192.0.2.1:7` or `[2001:db8::1]:7`.")
    measured_s: Seconds = Field(description="How long it was measured, warm-up apart.")
    silent_s: Seconds = Field(
        0.0,
        description="For how long nothing came back well at the end, though it was asked for: the"
        " family has failed. 0 where that is less than two turns, or a tenth of those in which"
        " something was asked for. The longest of merged runs.",
    )
    requested_rate_per_s: PerSecond | None = Field(
        description="Open loop: what was asked for; null where one of merged runs asked for none."
    )
    actual_rate_per_s: PerSecond = Field(
        description="Exchanges begun, a second of the time in which they could begin."
    )
    requests_per_s: PerSecond = Field(
        description="Exchanges that came back well, a second; in an open loop, of the time in which"
        " they could begin."
    )
    requests: Count = Field(
        description="Exchanges begun: those sent, and those that found no connection."
    )
    unsent: Count = Field(
        description="Open loop: exchanges that were due, and had not been sent when the run ended,"
        " as no connection was free: all were busy, or there was none. They are no part of"
        " `requests`; objectives of errors count them as errors."
    )
    outcomes: Outcomes
    bytes_sent: Count = Field(description="Payload of all exchanges, without framing.")
    bytes_received: Count = Field(description="Payload that came back as it was sent.")
    surplus_bytes: Count = Field(description="Bytes that came though nothing was owed.")
    idle_closes: Count = Field(
        description="Connections that ended while nothing was in flight on them: no exchange's"
        " failure."
    )
    connect: Figure = Field(description="From connect() until connected.")
    service: Figure = Field(description="From the send until all had come back.")
    response: Figure = Field(
        description="From when the send was due until all had come back; in a closed loop it is"
        " due when it is sent, or when the connection for it is begun."
    )
    slices: list[Slice] = Field(description="The measured time in order, in bounded number.")
    tcp_info: TcpInfo | None

    @property
    def due(self) -> int:
        """Exchanges that there should have been: those begun, and those never sent."""
        return self.requests + self.unsent

    @property
    def errors(self) -> int:
        """How many of them did not come back well."""
        return self.due - self.outcomes.ok

    @property
    def error_percent(self) -> float | None:
        """How many that are of a hundred; None where there should have been none."""
        return 100 * self.errors / self.due if self.due else None

    @property
    def failed(self) -> bool:
        """Whether exchanges failed. One never sent is none that did."""
        return self.outcomes.ok < self.requests

    @property
    def gone(self) -> bool:
        """Whether nothing came back of what was asked for: none of it, or none as the run ended."""
        return bool(self.silent_s or (self.due and not self.outcomes.ok))

    @model_validator(mode="after")
    def _sums(self) -> Self:
        if sum(self.outcomes.model_dump().values()) != self.requests:
            raise ValueError("the outcomes should add up to the requests")
        return self
