"""Against scipy, against what benchstat printed, and against chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pagebench.results import two_samples
from pagebench.results.statistics import median_interval

NAN = math.nan
# golang.org/x/perf/cmd/benchstat/testdata/{old,new}.txt: ns/op of ten runs each.
JSON_OLD = (1726, 1723, 1707, 1707, 1713, 1729, 1736, 1707, 1705, 1774)
JSON_NEW = (1423, 1416, 1411, 1413, 1412, 1426, 1422, 1424, 1447, 1425)
GOB_OLD = (3069, 3075, 3069, 3067, 3207, 3064, 3064, 3058, 3059, 3062)
GOB_NEW = (3075, 3065, 3059, 3065, 3060, 3081, 3186, 3135, 3087, 3062)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


samples = st.lists(st.floats(-1e6, 1e6).map(lambda x: round(x, 3)), min_size=2, max_size=12).map(np.array)


@given(samples, samples)
def test_yuen_welch_is_scipys(before: np.ndarray, after: np.ndarray) -> None:
    if any(len(np.unique(side)) < 2 for side in (before, after)):
        return
    theirs = stats.ttest_ind(after, before, equal_var=False, trim=0.2).pvalue
    if math.isfinite(theirs):
        # Between whole degrees of freedom p is interpolated.
        assert two_samples.yuen_welch_p(before, after) == pytest.approx(theirs, abs=0.02)


def test_yuen_welch_one_sided_and_beyond() -> None:
    before, after = floats(1, 2, 3, 4, 5), floats(2.5, 3.5, 4.5, 5.5, 6.5)
    two_sided = two_samples.yuen_welch_p(before, after)
    assert two_samples.yuen_welch_p(before, after, beyond=0.0) == pytest.approx(two_sided / 2)
    # All of the difference taken away: as likely as not; more of it: hardly.
    assert two_samples.yuen_welch_p(before, after, beyond=1.5) == pytest.approx(0.5)
    assert two_samples.yuen_welch_p(before, after, beyond=5.0) > 0.95


def test_yuen_welch_of_constants_and_of_too_few() -> None:
    ones, twos = floats(1, 1, 1), floats(2, 2, 2)
    assert two_samples.yuen_welch_p(ones, ones) == 1.0
    assert two_samples.yuen_welch_p(ones, twos) == 0.0
    assert two_samples.yuen_welch_p(ones, twos, beyond=2.0) == 1.0
    assert math.isnan(two_samples.yuen_welch_p(ones, floats(NAN, 3.0)))


@given(samples, samples)
def test_mann_whitney_is_scipys_where_nothing_is_tied(before: np.ndarray, after: np.ndarray) -> None:
    if len(np.unique([*before, *after])) == len(before) + len(after):
        theirs = stats.mannwhitneyu(before, after, method="exact").pvalue
        assert two_samples.mann_whitney_p(before, after) == pytest.approx(theirs)


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=5),
    st.lists(st.integers(0, 3), min_size=1, max_size=5),
)
def test_mann_whitney_with_ties_counts_every_way_to_deal_out(before: list[int], after: list[int]) -> None:
    from itertools import combinations

    pooled = [*before, *after]
    ranks = stats.rankdata(pooled)
    sums = [sum(ranks[list(chosen)]) for chosen in combinations(range(len(pooled)), len(before))]
    observed = sum(ranks[: len(before)])
    tails = np.mean(np.array(sums) <= observed + 1e-9), np.mean(np.array(sums) >= observed - 1e-9)
    p = two_samples.mann_whitney_p(floats(*before), floats(*after))
    assert p == pytest.approx(min(1.0, 2 * min(tails)))


@pytest.mark.parametrize(
    ("before", "after", "printed"),
    [(JSON_OLD, JSON_NEW, "0.000"), (GOB_OLD, GOB_NEW, "0.446")],
)
def test_p_is_what_benchstat_printed(before: tuple[int, ...], after: tuple[int, ...], printed: str) -> None:
    assert f"{two_samples.mann_whitney_p(floats(*before), floats(*after)):.3f}" == printed


def test_p_is_what_benchstats_own_tests_want() -> None:
    p = two_samples.mann_whitney_p
    assert p(floats(-1, -1, -1, -1), floats(1, 1, 1, 1)) == pytest.approx(0.02857142857142857)
    assert p(floats(1, -1, -1, -1), floats(-1, 1, 1, 1)) == pytest.approx(0.4857142857142857)
    assert p(floats(1, 1, 1, 1), floats(1, 1, 1, 1)) == 1.0
    assert math.isnan(p(floats(NAN), floats(1)))


@pytest.mark.parametrize(
    ("values", "median", "reaches"),
    [(JSON_OLD, 1718, "1%"), (JSON_NEW, 1422.5, "1%"), (GOB_OLD, 3065.5, "0%"), (GOB_NEW, 3070, "2%")],
)
def test_median_and_range_are_what_benchstat_printed(
    values: tuple[int, ...], median: float, reaches: str
) -> None:
    found = two_samples.order_statistics(floats(*values))
    assert found.estimate == median
    assert f"{100 * max(found.high / median - 1, 1 - found.low / median):.0f}%" == reaches


@pytest.mark.parametrize("count", range(1, 31))
def test_order_statistics_cover_95_percent_and_no_shorter_pair_does(count: int) -> None:
    values = np.arange(1.0, count + 1)
    found = two_samples.order_statistics(values)
    pmf = stats.binom(count, 0.5).pmf(np.arange(count + 1))
    if count < 6:
        assert found.low == -math.inf
        return
    low, high = int(found.low), int(found.high)
    assert pmf[low:high].sum() >= 0.95
    shorter = high - low - 1
    assert all(pmf[i : i + shorter].sum() < 0.95 for i in range(count + 2 - shorter))


def test_a_difference_of_medians_has_the_larger_interval_of_both() -> None:
    rng = np.random.default_rng(3)
    before, after = rng.normal(5, 0.1, 14), rng.normal(5.5, 0.3, 14)
    found = two_samples.difference(before, after)
    first, second = median_interval(before), median_interval(after)
    assert found.estimate == pytest.approx(second.estimate - first.estimate)
    for of_run in (first, second):
        assert found.high - found.low >= of_run.high - of_run.low
    assert two_samples.difference(before, before[:1]).high == math.inf


def test_the_interval_covers_95_percent() -> None:
    rng = np.random.default_rng(4)
    covered = [
        interval.low <= 0.0 <= interval.high
        for interval in (
            two_samples.difference(rng.standard_t(3, 12), 2 * rng.standard_t(3, 16)) for _ in range(2000)
        )
    ]
    assert 0.94 <= np.mean(covered) <= 0.985


def test_many_samples() -> None:
    rng = np.random.default_rng(5)
    before, after = rng.normal(size=1500), rng.normal(0.2, size=1500)
    found = two_samples.order_statistics(before)
    assert found.low < found.estimate < found.high
    theirs = stats.mannwhitneyu(before, after, method="asymptotic").pvalue
    assert two_samples.mann_whitney_p(before, after) == pytest.approx(theirs, rel=1e-6)
    tied = np.round(before, 1), np.round(after, 1)
    theirs = stats.mannwhitneyu(*tied, method="asymptotic").pvalue
    assert two_samples.mann_whitney_p(*tied) == pytest.approx(theirs, rel=1e-6)
    assert two_samples.mann_whitney_p(np.ones(60), np.ones(60)) == 1.0
