"""Paired comparisons over processes: estimates, intervals, verdicts.

No I/O and no knowledge of pages.  The unit that is independent is the process:
within one, rounds share addresses, frames and code placement.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from pagebench.names import Verdict

Floats = npt.NDArray[np.float64]

TRIM = 0.2
CONFIDENCE = 0.95
# Processes, below which intervals are Student's: all of five values cover 93.75 %.
FEWEST_RANKED = 6
# Wilcox, Introduction to Robust Estimation: one in ten where noise is one-sided.
LOW_QUANTILE = 0.1
NOISE_QUANTILE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A point estimate with its 95 % interval."""

    estimate: float
    low: float
    high: float

    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.low > 0 or self.high < 0

    def within(self, margin: float) -> bool:
        """Whether the whole interval lies inside ±margin."""
        return -margin <= self.low and self.high <= margin


def number(value: float) -> float | None:
    """Seven significant digits, for JSON; None of what is not finite."""
    return float(f"{value:.7g}") if math.isfinite(value) else None


def trimmed_mean(values: Floats, trim: float = TRIM) -> Floats:
    """The mean without the lowest and highest share ``trim``, over the last axis.

    NaNs are left out first; of nothing but NaNs the mean is NaN.
    """
    ordered = np.sort(values, axis=-1)  # NaNs last
    count = np.count_nonzero(~np.isnan(values), axis=-1)
    cut = (count * trim).astype(np.int64)
    place = np.arange(values.shape[-1])
    central = (place >= cut[..., None]) & (place < (count - cut)[..., None])
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sum(ordered, axis=-1, where=central) / (count - 2 * cut), np.float64)


def quantiles(values: Floats, *levels: float) -> list[Floats]:
    """Quantiles over the last axis, each between the two nearest values; NaNs are left out.

    As numpy's nanquantile(), which takes a row at a time.
    """
    ordered = np.sort(values, axis=-1)  # NaNs last
    last = np.maximum(np.count_nonzero(~np.isnan(values), axis=-1) - 1, 0)
    found = []
    for level in levels:
        at = level * last
        below = np.floor(at).astype(np.int64)
        low, high = (
            np.take_along_axis(ordered, index[..., None], axis=-1)[..., 0]
            for index in (below, np.minimum(below + 1, last))
        )
        found.append(low + (at - below) * (high - low))
    return found


@cache
def _ranks(count: int) -> tuple[int, float]:
    """Between which order statistics the interval of ``count`` values' median ends: see median_interval().

    From below the one of that index and the next, and what share of the way.
    """

    # What the interval from the value of a rank, from 1, to the one as far from the top covers, and the next.
    rank, term, below = 1, 1, 1  # term: binomial coefficient; below: their sum
    covers = next_covers = 1 - 2 / (1 << count)
    while True:
        term = term * (count - rank + 1) // rank
        below += term
        next_covers = 1 - below / (1 << count - 1)
        if next_covers < CONFIDENCE:
            break
        rank, covers = rank + 1, next_covers
    beyond = (covers - CONFIDENCE) / (covers - next_covers)
    return rank - 1, (count - rank) * beyond / (rank + (count - 2 * rank) * beyond)


def median_interval(per_process: Floats) -> Interval:
    """The median over processes, with an interval between order statistics.

    Hettmansperger and Sheather (Statistics and Probability Letters, 1986): no interval between two order
    statistics covers 95 % just so, and the ends are interpolated between the two that come next.
    ``per_process``: one estimate each, NaN where a process has none.  Of fewer than ``FEWEST_RANKED`` all
    values cover less: the mean, with Student's interval.  With one process, or none, there is no interval:
    its ends are infinite.
    """
    known = np.sort(per_process[~np.isnan(per_process)])
    if not len(known):
        return Interval(math.nan, -math.inf, math.inf)
    if len(known) == 1:
        return Interval(float(known[0]), -math.inf, math.inf)
    if len(known) < FEWEST_RANKED:
        mean = float(known.mean())
        half = student_t_quantile(len(known) - 1) * float(known.std(ddof=1)) / math.sqrt(len(known))
        return Interval(mean, mean - half, mean + half)
    rank, share = _ranks(len(known))
    low, next_low, next_high, high = map(float, known[[rank, rank + 1, -rank - 2, -rank - 1]])
    return Interval(_middle(known), low + share * (next_low - low), high - share * (high - next_high))


def median(per_process: Floats) -> float:
    """The median of what is known; NaN of nothing."""
    known = np.sort(per_process[~np.isnan(per_process)])
    return _middle(known) if len(known) else math.nan


def _middle(ordered: Floats) -> float:
    return float(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def student_t_p(t: float, df: int) -> float:
    """Two-sided p of Student's t.

    The finite series of Abramowitz and Stegun, 26.7.3 and 26.7.4.
    """
    if df < 1 or math.isnan(t):
        return math.nan
    if math.isinf(t):
        return 0.0
    theta = math.atan2(abs(t), math.sqrt(df))
    cos2 = math.cos(theta) ** 2
    term, total = 1.0, 0.0
    if df % 2:
        term = math.cos(theta)
        for k in range(2, df, 2):
            total += term
            term *= cos2 * k / (k + 1)
        inside = 2 / math.pi * (theta + math.sin(theta) * total)
    else:
        for k in range(1, df, 2):
            total += term
            term *= cos2 * k / (k + 1)
        inside = math.sin(theta) * total
    return min(1.0, max(0.0, 1 - inside))


@cache
def student_t_quantile(df: int, confidence: float = CONFIDENCE) -> float:
    """What |t| stays below with that probability: the inverse of student_t_p(), by bisection."""
    low, high = 0.0, 1e6
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if student_t_p(middle, df) > 1 - confidence else (low, middle)
    return high


def winsorised(values: Floats, trim: float = TRIM) -> tuple[float, float, int]:
    """The trimmed mean of two values or more, their winsorised deviation, and how many are left of them."""
    ordered, count = np.sort(values), len(values)
    cut = int(count * trim)
    clipped = np.clip(ordered, ordered[cut], ordered[count - cut - 1])
    return float(ordered[cut : count - cut].mean()), float(clipped.std(ddof=1)), count - 2 * cut


def t_test_p(per_process: Floats, trim: float = TRIM) -> float:
    """Two-sided p that the trimmed mean over processes is zero; nan under two of them.

    Yuen's t-test: one process that was disturbed does not decide it.
    """
    known = per_process[~np.isnan(per_process)]
    if len(known) < 2:
        return math.nan
    mean, deviation, left = winsorised(known, trim)
    if deviation == 0:
        return 1.0 if mean == 0 else 0.0
    return student_t_p(mean * left / (deviation * math.sqrt(len(known))), left - 1)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment, in the order given; NaNs stay and do not count."""
    adjusted = list(ps)
    order = sorted((i for i, p in enumerate(ps) if not math.isnan(p)), key=lambda i: ps[i])
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, ps[i] * (len(order) - rank)))
        adjusted[i] = running
    return adjusted


def smallest_resolvable(interval: Interval, other_noise: Sequence[float], own_noise: float) -> float:
    """The difference below which a cell has no verdict, in the interval's unit.

    The larger of half the interval and the 95th percentile of |A/A| over the
    other groups of the same probe and cache level; where there is no other
    group, the group's own |A/A|.  Infinite where neither is known.
    """
    noise = [abs(x) for x in other_noise if not math.isnan(x)] or [abs(own_noise)]
    if math.isnan(noise[0]):
        return math.inf
    return max((interval.high - interval.low) / 2, float(np.quantile(noise, NOISE_QUANTILE)))


def verdict(difference: Interval, resolvable: float, margin: float) -> Verdict:
    """``faster``, ``slower``, ``equivalent`` or ``inconclusive``; all in one unit.

    A difference has to exclude zero and exceed what can be resolved; an
    equivalence has to hold for the whole interval.
    """
    if difference.excludes_zero() and abs(difference.estimate) > resolvable:
        return "slower" if difference.estimate > 0 else "faster"
    if difference.within(margin):
        return "equivalent"
    return "inconclusive"
