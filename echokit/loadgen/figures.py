"""One measured quantity as the result document has it: its percentiles and its whole histogram."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["PERCENTILES", "STATISTICS", "Count", "Figure", "Part"]

# The percentiles of every figure: by the name of the field that has each.
PERCENTILES = {
    "p50_us": 50.0,
    "p90_us": 90.0,
    "p99_us": 99.0,
    "p99_9_us": 99.9,
    "p99_99_us": 99.99,
}
# What can be asked of a figure, by the names that people write, in the order in which it is shown.
STATISTICS = {
    "min": "min_us",
    **{f"p{percentile:g}": name for name, percentile in PERCENTILES.items()},
    "max": "max_us",
    "mean": "mean_us",
}

# No run comes near these; sums and dates of what keeps them can be reckoned. A seed has 64 bits.
Count = Annotated[int, Field(ge=0, le=2**64 - 1)]
Microseconds = Annotated[int, Field(ge=0, le=10**15)]


class Part(BaseModel):
    """A part of the result document: immutable, and strict about what it takes."""

    # NaN and infinity are no JSON.
    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        hide_input_in_errors=True,
        allow_inf_nan=False,
        # Every field stands in every document, also one that holds its default.
        json_schema_serialization_defaults_required=True,
    )


class Figure(Part):
    """A quantity in whole microseconds; every number is null where nothing was counted.

    `min_us`, `max_us` and `sum_us` are exact, so that the mean is; percentiles are good to three
    digits, and never above `max_us`.
    """

    count: Count = Field(description="How many values.")
    min_us: Microseconds | None = Field(description="The least.")
    mean_us: float | None = Field(ge=0, le=1e15, description="The mean, of the exact values.")
    p50_us: Microseconds | None = Field(description="Half of the values are no greater.")
    p90_us: Microseconds | None = Field(description="90% of the values are no greater.")
    p99_us: Microseconds | None = Field(description="99% of the values are no greater.")
    p99_9_us: Microseconds | None = Field(description="99.9% of the values are no greater.")
    p99_99_us: Microseconds | None = Field(description="99.99% of the values are no greater.")
    max_us: Microseconds | None = Field(description="The greatest.")
    sum_us: Count = Field(description="The sum, with which means can be merged.")
    histogram: str | None = Field(
        description="All values: an HDR histogram from 1 us to 1 h with 3 significant digits, in"
        " the V2 encoding, compressed and in base64."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        """Percentiles rise, and stand between the least and the greatest value."""
        names = ("min_us", *PERCENTILES, "max_us")
        values = [getattr(self, name) for name in names]
        known = [value for value in values if value is not None]
        whole = len(known) == (len(values) if self.count else 0)
        if not whole or (self.histogram is None) != (self.count == 0):
            raise ValueError("a figure has all of its numbers, or counts nothing and has none")
        if known != sorted(known):
            raise ValueError(f"{', '.join(names)} should not fall")
        return self
