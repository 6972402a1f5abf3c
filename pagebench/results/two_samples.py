"""Two runs' processes against each other: independent samples, not paired.

Intervals and p of differences of medians; and the columns of benchstat, for those who read them.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt

from pagebench.results.statistics import (
    CONFIDENCE,
    TRIM,
    Floats,
    Interval,
    median_interval,
    student_t_p,
    winsorised,
)

# Values a side up to which all ways to deal them out are counted, as by benchstat.
EXACT = 50


def difference(before: Floats, after: Floats) -> Interval:
    """The difference of two medians over processes, ``after`` less ``before``, with its interval.

    Of the two intervals that median_interval() gives, by the square-and-add method of Zou and Donner
    (Statistics in Medicine, 2008), which need not be symmetric.  NaN is a process without an estimate.
    """
    first, second = median_interval(before), median_interval(after)
    estimate = second.estimate - first.estimate
    return Interval(
        estimate,
        estimate - math.hypot(second.estimate - second.low, first.high - first.estimate),
        estimate + math.hypot(second.high - second.estimate, first.estimate - first.low),
    )


def yuen_welch_p(before: Floats, after: Floats, beyond: float | None = None, trim: float = TRIM) -> float:
    """p of Yuen's test for trimmed means of unequal variance (Biometrika, 1974); NaN under two processes.

    Two-sided, that there is no difference; with ``beyond`` one-sided, that ``after`` is not larger by more
    than that.
    """
    sides = [values[~np.isnan(values)] for values in (before, after)]
    if min(map(len, sides)) < 2:
        return math.nan
    (mean, *error), (mean_after, *error_after) = (_error(side, trim) for side in sides)
    off = mean_after - mean - (beyond or 0.0)
    squares = error[0] + error_after[0]
    if squares == 0:
        p = 1.0 if off == 0 else 0.0
    else:
        freedom = squares**2 / (error[0] ** 2 / error[1] + error_after[0] ** 2 / error_after[1])
        whole = int(freedom)
        near, far = (student_t_p(off / math.sqrt(squares), df) for df in (whole, whole + 1))
        p = near + (freedom - whole) * (far - near)
    if beyond is None:
        return p
    return p / 2 if off > 0 else 1 - p / 2


def _error(values: Floats, trim: float) -> tuple[float, float, int]:
    """The trimmed mean, the square of its standard error, and degrees of freedom."""
    mean, deviation, left = winsorised(values, trim)
    return mean, (len(values) - 1) * deviation**2 / (left * (left - 1)), left - 1


def mann_whitney_p(before: Floats, after: Floats) -> float:
    """Two-sided p of the Mann-Whitney U test, exact, ties as they are; NaN where a side is empty.

    As benchstat has it: over all ways to deal the pooled values out to both sides.
    """
    before, after = (values[~np.isnan(values)] for values in (before, after))
    if not (len(before) and len(after)):
        return math.nan
    _values, places, tied = np.unique(
        np.concatenate([before, after]), return_inverse=True, return_counts=True
    )
    observed = int(_twice_ranks(tied)[places[: len(before)]].sum())
    if max(len(before), len(after)) > EXACT:
        return _normal_p(observed, len(before), len(after), tied)
    ways = _rank_sums(len(before), tuple(tied.tolist()))
    extreme = min(ways[: observed + 1].sum(), ways[observed:].sum())
    return min(1.0, float(2 * extreme / ways.sum()))


def _normal_p(twice_rank_sum: int, count: int, other: int, tied: npt.NDArray[np.int64]) -> float:
    """Of many values: the rank sum's normal approximation, for continuity and ties corrected."""
    total = count + other
    ties = float((tied.astype(np.float64) ** 3 - tied).sum())
    variance = count * other / 12 * (total + 1 - ties / (total * (total - 1)))
    off = abs(twice_rank_sum / 2 - count * (total + 1) / 2) - 0.5
    return 1.0 if variance <= 0 or off <= 0 else math.erfc(off / math.sqrt(2 * variance))


def _twice_ranks(tied: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Twice the rank of each distinct value, of which there are so many: ranks of tied values are shared."""
    return np.asarray(2 * np.cumsum(tied) - tied + 1, np.int64)


@cache
def _rank_sums(count: int, tied: tuple[int, ...]) -> Floats:
    """In how many ways ``count`` of the values have a sum of ranks: by twice the sum."""
    twice_ranks = _twice_ranks(np.array(tied))
    ways = np.zeros((count + 1, int((twice_ranks * tied).sum()) + 1))
    ways[0, 0] = 1
    for rank, copies in zip(twice_ranks.tolist(), tied, strict=True):
        for taken in range(count - 1, -1, -1):
            for more in range(1, min(copies, count - taken) + 1):
                moved = ways[taken, : ways.shape[1] - more * rank]
                ways[taken + more, more * rank :] += math.comb(copies, more) * moved
    return np.asarray(ways[count])


def order_statistics(values: Floats) -> Interval:
    """The median and the two values between which it lies with 95 % at least; no lower one under six values.

    As benchstat has it: the likeliest places first, and the lower one of two that are as likely.
    """
    known = np.sort(values[~np.isnan(values)])
    count = len(known)
    if not count:
        return Interval(math.nan, -math.inf, math.inf)
    low = count // 2
    high = low + 1
    covered = math.comb(count, low)
    # In whole numbers: 2 to the power of many samples is no float.
    while covered * 100 < round(CONFIDENCE * 100) << count:
        left = math.comb(count, low - 1) if low else 0
        right = math.comb(count, high)
        if left >= right:
            low, covered = low - 1, covered + left
        else:
            high, covered = high + 1, covered + right
    return Interval(
        float(np.median(known)),
        float(known[low - 1]) if low else -math.inf,
        float(known[high - 1]) if high <= count else math.inf,
    )
