"""How much runs differ by themselves, by what differs between them though its machine code is the same."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from pagebench.results import statistics
from pagebench.results.statistics import Interval


@dataclass(frozen=True, slots=True)
class BetweenRuns:
    """How much runs differ by themselves: the root mean square, of ``count`` cells whose code is the same."""

    ns: float
    count: int

    @classmethod
    def of(cls, known_zeros: Iterable[float]) -> BetweenRuns:
        """From differences whose true value is zero; NaNs are left out."""
        squares = [value**2 for value in known_zeros if math.isfinite(value)]
        return cls(math.sqrt(sum(squares) / len(squares)) if squares else math.nan, len(squares))

    def p(self, beyond_ns: float) -> float:
        """Two-sided p of so much; 0 of anything where nothing is known of them."""
        if not self.count or (self.ns == 0 and beyond_ns != 0):
            return 0.0
        return 1.0 if self.ns == 0 else statistics.student_t_p(beyond_ns / self.ns, self.count)

    def widened(self, interval: Interval) -> Interval:
        """The interval, as wide at least as this allows for."""
        half = self.ns * statistics.student_t_quantile(self.count) if self.count else 0.0
        estimate = interval.estimate
        return Interval(estimate, min(interval.low, estimate - half), max(interval.high, estimate + half))
