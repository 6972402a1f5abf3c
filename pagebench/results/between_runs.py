"""How much runs differ by themselves, by what differs between them though its machine code is the same."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from pagebench.results import statistics
from pagebench.results.statistics import Interval

# Where nothing is known: inside half of L2 in core cycles, beyond a share of a cell's time.  In 30 pairs of
# runs of one code it was 0.15 cycles at most, and beyond single cells differed by 10 % at most (Zen 5, KVM).
ASSUMED_CYCLES, ASSUMED_SHARE, ASSUMED_COUNT = 0.25, 0.05, 30


@dataclass(frozen=True, slots=True)
class BetweenRuns:
    """How much runs differ by themselves: the root mean square, of ``count`` cells whose code is the same.

    ``assumed``: there is no such cell, and this is more than was seen elsewhere.
    """

    ns: float
    count: int
    assumed: bool = False

    @classmethod
    def of(cls, known_zeros: Iterable[float]) -> BetweenRuns | None:
        """From differences whose true value is zero; NaNs are left out.  None of none."""
        squares = [value**2 for value in known_zeros if math.isfinite(value)]
        return cls(math.sqrt(sum(squares) / len(squares)), len(squares)) if squares else None

    @classmethod
    def unknown(cls, at_core_clock: bool, ghz: float, cell_ns: float) -> BetweenRuns:
        """What is assumed of a cell that takes so long, at that core clock."""
        return cls(ASSUMED_CYCLES / ghz if at_core_clock else ASSUMED_SHARE * cell_ns, ASSUMED_COUNT, True)

    def p(self, beyond_ns: float) -> float:
        """Two-sided p of so much."""
        if self.ns == 0:
            return 1.0 if beyond_ns == 0 else 0.0
        return statistics.student_t_p(beyond_ns / self.ns, self.count)

    def widened(self, interval: Interval) -> Interval:
        """The interval, as wide at least as this allows for."""
        half, estimate = self.ns * statistics.student_t_quantile(self.count), interval.estimate
        return Interval(estimate, min(interval.low, estimate - half), max(interval.high, estimate + half))
