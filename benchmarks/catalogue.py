"""Whatever can be asked for, in the order of the tables."""

from benchmarks.cases import CASES as TRAFFIC
from benchmarks.cases import Case
from benchmarks.comparison import Comparison
from benchmarks.load_checks import LOAD_CHECKS
from benchmarks.startup import STARTUPS
from benchmarks.variants import VARIANTS

__all__ = ["CASES", "COMPARISONS", "EVERY"]

CASES: tuple[Case, ...] = (*TRAFFIC, *VARIANTS)
COMPARISONS: tuple[Comparison, ...] = (*LOAD_CHECKS, *STARTUPS)
EVERY: tuple[Case | Comparison, ...] = (*CASES, *COMPARISONS)
