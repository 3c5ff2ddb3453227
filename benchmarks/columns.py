"""What the tables tell of each case."""

from dataclasses import dataclass

from benchmarks.cases import Case, Churned, Compared, Idle
from benchmarks.comparison import Comparison
from benchmarks.load_checks import ONE, SOCKPERF, C, Latency, Throughput
from benchmarks.peers import LIMIT, OURS
from benchmarks.startup import StartUp
from benchmarks.variants import Variants

__all__ = ["Column", "columns"]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        heading: What stands over it.
        figure: Which of the samples' figures.
        form: How a number is written.
        against: The server that it is divided by, in the same round; None for the figure itself.
    """

    heading: str
    figure: str
    form: str = "{:,.0f}"
    against: str | None = None

    @property
    def is_ratio(self) -> bool:
        """Whether it has no unit; some figures are ratios themselves."""
        return self.against is not None or self.figure.endswith("_ratio")


_TRAFFIC = (
    Column("requests/s", "requests_per_s"),
    Column("MB/s", "megabytes_per_s", "{:,.1f}"),
    Column("p50 us", "p50_us"),
    Column("p99 us", "p99_us"),
    Column("CPU us/request", "cpu_us", "{:,.2f}"),
    Column("load busy", "load_busy", "{:.2f}"),
    Column(f"CPU : {LIMIT}", "cpu_us", "{:.2f}", LIMIT),
    Column(f"requests/s : {LIMIT}", "requests_per_s", "{:.2f}", LIMIT),
    Column(f"CPU : {OURS}", "cpu_us", "{:.2f}", OURS),
)
_IDLE = (
    Column("bytes each of 1,000", "bytes_1000"),
    Column("bytes each of 10,000", "bytes_10000"),
    Column("KiB with one", "base_kib"),
)
_CHURNED = (
    Column("connections", "connects"),
    Column("KiB before", "before_kib"),
    Column("KiB after", "after_kib"),
    Column("KiB grown", "growth_kib"),
    Column("bytes each", "growth_each", "{:,.1f}"),
)


_THROUGHPUT = (
    Column("requests/s", "requests_per_s"),
    Column("p50 us", "p50_us"),
    Column("p99 us", "p99_us"),
    Column("load busy", "load_busy", "{:.2f}"),
    Column(f"requests/s : {C}", "requests_per_s", "{:.2f}", C),
    Column(f"requests/s : {ONE}", "requests_per_s", "{:.2f}", ONE),
)
_LATENCY = (
    Column("requests/s", "requests_per_s"),
    Column("p50 us", "p50_us", "{:.1f}"),
    Column("p99 us", "p99_us", "{:.1f}"),
    Column(f"p50 : {SOCKPERF}", "p50_us", "{:.2f}", SOCKPERF),
)


# Those of each kind of case that does not have those of traffic.
_OTHERS: dict[type[Case | Comparison], tuple[Column, ...]] = {
    Throughput: _THROUGHPUT,
    Latency: _LATENCY,
    Idle: _IDLE,
    Churned: _CHURNED,
}


def columns(case: Case | Comparison) -> tuple[Column, ...]:
    """The columns of the table of `case`."""
    if isinstance(case, StartUp):
        return (
            Column("ms", "wall_ms", "{:.1f}"),
            Column("against the imports", "wall_ms", "{:.2f}", case.bare),
        )
    if isinstance(case, Compared):
        return (*_TRAFFIC, *_compared(case.base_name))
    if isinstance(case, Variants):
        return _variants(case.servers[0].name)
    return _OTHERS.get(type(case), _TRAFFIC)


def _compared(base: str) -> tuple[Column, ...]:
    return (
        Column(f"p99 us {base}", "p99_base_us"),
        Column(f"p99 : {base}", "p99_ratio", "{:.2f}"),
        Column(f"CPU : {base}", "cpu_ratio", "{:.2f}"),
    )


def _variants(first: str) -> tuple[Column, ...]:
    return (
        *_TRAFFIC[:5],
        Column("load busy", "load_busy", "{:.2f}"),
        Column(f"requests/s : {first}", "requests_per_s", "{:.2f}", first),
        Column(f"CPU : {first}", "cpu_us", "{:.2f}", first),
        Column(f"CPU with the load's : {first}", "total_cpu_us", "{:.2f}", first),
    )
