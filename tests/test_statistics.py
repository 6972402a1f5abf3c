"""Estimates, intervals and verdicts, against naive code, tables and planted truths."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pagebench.results import statistics
from pagebench.results.statistics import Interval

Floats = npt.NDArray[np.float64]

PROCESSES = 24
nan = math.nan
sizes = st.floats(-1e6, 1e6)


def naive_trimmed_mean(values: list[float], trim: float) -> float:
    known = sorted(value for value in values if not math.isnan(value))
    cut = int(len(known) * trim)
    kept = known[cut : len(known) - cut]
    return sum(kept) / len(kept) if kept else nan


@given(
    hnp.arrays(
        np.float64, hnp.array_shapes(max_dims=2, max_side=12), elements=st.one_of(sizes, st.just(nan))
    ),
    st.sampled_from([0.0, 0.1, 0.2, 0.4]),
)
def test_the_trimmed_mean_is_that_of_the_definition(values: Floats, trim: float) -> None:
    means = statistics.trimmed_mean(values, trim)
    assert means.shape == values.shape[:-1]
    for mean, row in zip(means.reshape(-1), values.reshape(-1, values.shape[-1]), strict=True):
        assert float(mean) == pytest.approx(naive_trimmed_mean(row.tolist(), trim), nan_ok=True, abs=1e-6)


def test_a_fifth_of_outliers_on_either_side_does_not_move_the_trimmed_mean() -> None:
    values = np.ones(50)
    values[:10], values[-10:] = -1e9, 1e12
    assert float(statistics.trimmed_mean(values)) == 1.0
    values[10] = -1e9  # one more does
    assert float(statistics.trimmed_mean(values)) != 1.0


@pytest.mark.parametrize(
    "df, critical",  # two-sided 5 % and 1 %: any table of Student's t
    [
        (1, (12.706, 63.657)),
        (2, (4.303, 9.925)),
        (3, (3.182, 5.841)),
        (4, (2.776, 4.604)),
        (9, (2.262, 3.250)),
        (10, (2.228, 3.169)),
        (19, (2.093, 2.861)),
        (23, (2.069, 2.807)),
        (30, (2.042, 2.750)),
        (120, (1.980, 2.617)),
    ],
)
def test_p_at_tabulated_critical_values(df: int, critical: tuple[float, float]) -> None:
    for t, p in zip(critical, (0.05, 0.01), strict=True):
        assert statistics.student_t_p(t, df) == pytest.approx(p, rel=3e-3)


@given(st.floats(-40, 40), st.integers(1, 200))
def test_p_is_the_area_of_both_tails(t: float, df: int) -> None:
    # Simpson over x = sqrt(df) tan(u), where the density is cos(u) ** (df - 1) but for a factor.
    log_norm = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(math.pi)
    inside = np.linspace(-1, 1, 2001) * math.atan(abs(t) / math.sqrt(df))
    density = np.exp(log_norm) * np.cos(inside) ** (df - 1)
    weights = np.array([1, *[4, 2] * 999, 4, 1])
    area = float((density * weights).sum()) * (inside[1] - inside[0]) / 3
    assert statistics.student_t_p(t, df) == pytest.approx(1 - area, abs=1e-7)
    assert statistics.student_t_p(t, df) == statistics.student_t_p(-t, df)


@given(st.integers(1, 100), st.lists(st.floats(0, 1e6), min_size=2, max_size=10))
def test_p_is_a_probability_that_falls_with_t(df: int, ts: list[float]) -> None:
    ps = [statistics.student_t_p(t, df) for t in sorted(ts)]
    assert all(0 <= p <= 1 for p in ps)
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(ps))
    assert statistics.student_t_p(0, df) == pytest.approx(1)
    assert statistics.student_t_p(math.inf, df) == 0


def test_p_of_nothing_is_not_a_number() -> None:
    assert math.isnan(statistics.student_t_p(nan, 5))
    assert math.isnan(statistics.student_t_p(1.0, 0))
    assert math.isnan(statistics.t_test_p(np.array([])))
    assert math.isnan(statistics.t_test_p(np.array([1.0, nan])))


def test_t_test_of_a_textbook_sample() -> None:
    # Student 1908, additional sleep of ten patients: t = 4.0621, df = 9, p = 0.00283.
    sleep = np.array([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])
    assert statistics.t_test_p(sleep, trim=0) == pytest.approx(0.002833, rel=1e-3)
    assert statistics.t_test_p(np.append(sleep, nan)) == statistics.t_test_p(sleep)


def test_yuens_t_test_by_hand() -> None:
    # n = 10, two cut on each side: the mean of six, winsorised to [2, 7].
    values = np.array([-90.0, 1, 2, 3, 4, 5, 6, 7, 8, 90])
    winsorised = np.array([2.0, 2, 2, 3, 4, 5, 6, 7, 7, 7])
    t = np.mean([2, 3, 4, 5, 6, 7]) / (winsorised.std(ddof=1) / (0.6 * math.sqrt(10)))
    assert statistics.t_test_p(values) == pytest.approx(statistics.student_t_p(t, 5))


def test_one_disturbed_process_does_not_hide_a_difference() -> None:
    values = np.append(np.linspace(0.4, 0.6, 22), [-0.3, -11.5])
    assert statistics.t_test_p(values) < 1e-9
    assert statistics.t_test_p(values, trim=0) > 0.5


def test_t_test_without_spread() -> None:
    assert statistics.t_test_p(np.zeros(5)) == 1.0
    assert statistics.t_test_p(np.full(5, 0.25)) == 0.0


def test_holm_adjusts_a_textbook_example() -> None:
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.one_of(st.floats(0, 1), st.just(nan)), max_size=20))
def test_holm_keeps_the_order_and_lies_between_p_and_bonferroni(ps: list[float]) -> None:
    adjusted = statistics.holm(ps)
    known = [(p, a) for p, a in zip(ps, adjusted, strict=True) if not math.isnan(p)]
    assert [math.isnan(a) for a in adjusted] == [math.isnan(p) for p in ps]
    for p, a in known:
        assert p <= a <= min(1.0, p * len(known)) + 1e-12
    known.sort()
    assert all(a <= b for (_, a), (_, b) in itertools.pairwise(known))
    for p in ps:
        others = [q for q in ps if not math.isnan(q)]
        if not math.isnan(p) and p == min(others):  # rejects what Bonferroni rejects first
            assert adjusted[ps.index(p)] == min(1.0, p * len(others))


@given(st.lists(st.floats(-1e3, 1e3), min_size=statistics.FEWEST_RANKED, max_size=40))
def test_an_interval_holds_its_median_and_stays_inside_the_data(values: list[float]) -> None:
    interval = statistics.median_interval(np.array(values))
    assert interval.estimate == pytest.approx(float(np.median(values)))
    assert min(values) - 1e-9 <= interval.low <= interval.high <= max(values) + 1e-9
    assert interval == statistics.median_interval(np.array([*values[::-1], nan]))


def test_an_interval_moves_and_stretches_with_its_data() -> None:
    values = np.random.default_rng(1).normal(size=PROCESSES)
    one = statistics.median_interval(values)
    other = statistics.median_interval(3 * values + 10)
    assert other.low == pytest.approx(3 * one.low + 10)
    assert other.high == pytest.approx(3 * one.high + 10)


def test_one_process_has_no_interval() -> None:
    for values in (np.array([0.5]), np.array([nan, 0.5, nan])):
        assert statistics.median_interval(values) == Interval(0.5, -math.inf, math.inf)
    nothing = statistics.median_interval(np.array([nan]))
    assert math.isnan(nothing.estimate)
    assert (nothing.low, nothing.high) == (-math.inf, math.inf)


@pytest.mark.parametrize("df", [1, 2, 3, 4, 9, 23])
def test_students_quantiles_are_those_of_scipy(df: int) -> None:
    assert statistics.student_t_quantile(df) == pytest.approx(scipy.stats.t.ppf(0.975, df), rel=1e-6)


@pytest.mark.parametrize("processes", range(2, statistics.FEWEST_RANKED))
def test_few_processes_are_covered_by_students_interval(processes: int) -> None:
    values = np.random.default_rng(processes).normal(0.3, 0.05, (2000, processes))
    intervals = [statistics.median_interval(row) for row in values]
    covered = np.mean([i.low <= 0.3 <= i.high for i in intervals])
    assert 0.93 <= covered <= 0.97
    assert intervals[0].estimate == pytest.approx(values[0].mean())


def planted(difference: float, runs: int, between: float, within: float, tail: bool = False) -> Floats:
    """Trimmed means of paired differences, (runs, processes): what a process adds is its own."""
    rng = np.random.default_rng(11)
    process = rng.normal(0, between, (runs, PROCESSES, 1))
    rounds = rng.normal(0, within, (runs, PROCESSES, 63))
    if tail:  # one round in ten is hit by a neighbour, on either side of the pair
        rounds += np.where(rng.random(rounds.shape) < 0.1, rng.normal(0, 30 * within, rounds.shape), 0)
    return statistics.trimmed_mean(difference + process + rounds)


@pytest.mark.parametrize(
    "between, within, tail", [(0.01, 0.05, False), (0.05, 0.01, False), (0.02, 0.02, True)]
)
@pytest.mark.slow
def test_the_interval_covers_a_planted_difference_as_often_as_it_says(
    between: float, within: float, tail: bool
) -> None:
    runs = 1500
    difference = 0.3
    intervals = [
        statistics.median_interval(values) for values in planted(difference, runs, between, within, tail)
    ]
    covered = sum(i.low <= difference <= i.high for i in intervals) / runs
    assert 0.93 <= covered <= 0.97


@pytest.mark.parametrize("count", [6, 7, 8, 9, 10, 13, 14, 15, 24, 60])
@pytest.mark.parametrize("shape", ["normal", "standard_cauchy", "exponential"])
def test_the_interval_covers_the_median_of_any_shape(shape: str, count: int) -> None:
    rng = np.random.default_rng(count)
    values = getattr(rng, shape)(size=(3000, count))
    truth = math.log(2) if shape == "exponential" else 0.0
    intervals = [statistics.median_interval(row) for row in values]
    covered = sum(interval.low <= truth <= interval.high for interval in intervals) / len(values)
    assert 0.935 <= covered <= 0.965


@pytest.mark.parametrize(
    "count, rank, covered", [(6, 1, 0.96875), (10, 2, 0.978515625), (24, 7, 0.977343917)]
)
def test_ends_stand_inside_the_order_statistics_that_cover_more(
    count: int, rank: int, covered: float
) -> None:
    """Coverages of intervals between order statistics: any table of the sign test."""
    assert 1 - 2 * scipy.stats.binom.cdf(rank - 1, count, 0.5) == pytest.approx(covered)
    values = np.arange(1.0, count + 1)
    interval = statistics.median_interval(values)
    assert rank < interval.low < rank + 1
    assert interval.low + interval.high == pytest.approx(count + 1)


def judge(values: Floats, noise: list[float], margin: float) -> str:
    interval = statistics.median_interval(values)
    return statistics.verdict(interval, statistics.smallest_resolvable(interval, noise, nan), margin)


@pytest.mark.slow
def test_planted_nothing_is_called_a_difference_no_more_often_than_it_may() -> None:
    runs = 1500
    noise = np.median(planted(0, runs, 0.02, 0.02), axis=1)
    values = planted(0, runs, 0.02, 0.02)[::-1]
    found = [judge(v, list(noise[:20]), 0.001) for v in values]
    assert sum(verdict in ("faster", "slower") for verdict in found) / runs <= 0.05
    ps = np.array([statistics.t_test_p(v) for v in values])
    assert 0.03 <= np.mean(ps < 0.05) <= 0.07


@pytest.mark.slow
def test_a_family_of_planted_nothings_is_rejected_no_more_often_than_it_may() -> None:
    families = planted(0, 3000, 0.02, 0.02).reshape(-1, 30, PROCESSES)
    rejected = [min(statistics.holm([statistics.t_test_p(v) for v in family])) < 0.05 for family in families]
    assert np.mean(rejected) <= 0.12  # 5 % over 100 families


@pytest.mark.parametrize("difference, verdict", [(0.1, "slower"), (-0.1, "faster")])
def test_a_planted_difference_is_found(difference: float, verdict: str) -> None:
    noise = list(np.median(planted(0, 20, 0.02, 0.02), axis=1))
    found = [judge(v, noise, 0.05) for v in planted(difference, 200, 0.02, 0.02)]
    assert found.count(verdict) >= 199


def test_planted_nothing_under_little_noise_is_equivalent() -> None:
    noise = list(np.median(planted(0, 20, 0.02, 0.02), axis=1))
    found = [judge(v, noise, 0.05) for v in planted(0, 200, 0.02, 0.02)]
    assert found.count("equivalent") >= 190  # the rest are false alarms of the interval


finite = st.floats(-1e3, 1e3)


@st.composite
def intervals(draw: st.DrawFn) -> Interval:
    low, estimate, high = sorted(draw(st.tuples(finite, finite, finite)))
    return Interval(estimate, low, high)


@given(intervals(), st.floats(0, 1e3), st.floats(0, 1e3))
def test_verdicts_keep_their_words(interval: Interval, resolvable: float, margin: float) -> None:
    verdict = statistics.verdict(interval, resolvable, margin)
    outside = interval.low > 0 or interval.high < 0
    if verdict == "slower":
        assert interval.low > 0 and interval.estimate > resolvable
    elif verdict == "faster":
        assert interval.high < 0 and interval.estimate < -resolvable
    else:
        assert not outside or abs(interval.estimate) <= resolvable
        assert (verdict == "equivalent") == (max(-interval.low, interval.high) <= margin)
        assert verdict in ("equivalent", "inconclusive")


@given(intervals(), st.floats(0, 1e3), st.floats(0, 1e3))
def test_the_other_way_round_is_the_other_verdict(
    interval: Interval, resolvable: float, margin: float
) -> None:
    turned = Interval(-interval.estimate, -interval.high, -interval.low)
    other = {"faster": "slower", "slower": "faster"}
    verdict = statistics.verdict(interval, resolvable, margin)
    assert statistics.verdict(turned, resolvable, margin) == other.get(verdict, verdict)


@pytest.mark.parametrize("interval", [Interval(0.5, -math.inf, math.inf), Interval(nan, -math.inf, math.inf)])
def test_without_an_interval_there_is_no_verdict(interval: Interval) -> None:
    assert statistics.verdict(interval, 0.01, 100.0) == "inconclusive"
    assert statistics.smallest_resolvable(interval, [0.1], 0.1) == math.inf


@given(intervals(), st.lists(finite, min_size=1, max_size=30), finite)
def test_smallest_resolvable_is_above_half_the_interval_and_the_noise_of_others(
    interval: Interval, others: list[float], own: float
) -> None:
    resolvable = statistics.smallest_resolvable(interval, others, own)
    half = (interval.high - interval.low) / 2
    noise = float(np.quantile(np.abs(others), 0.95))
    assert resolvable == max(half, noise)
    assert statistics.smallest_resolvable(interval, [*others, nan], own) == resolvable


def test_a_group_alone_is_measured_against_its_own_noise() -> None:
    interval = Interval(0.2, 0.1, 0.3)
    assert statistics.smallest_resolvable(interval, [], -0.4) == 0.4
    assert statistics.smallest_resolvable(interval, [nan], -0.4) == 0.4
    assert statistics.smallest_resolvable(interval, [0.15], -0.4) == 0.15
    assert statistics.smallest_resolvable(interval, [nan], nan) == math.inf


def test_interval_properties() -> None:
    interval = Interval(0.3, 0.1, 0.4)
    assert interval.excludes_zero() and not Interval(0.0, 0.0, 1.0).excludes_zero()
    assert interval.within(0.4) and not interval.within(0.39)
    assert not Interval(0.0, -0.5, 0.1).within(0.4)


@pytest.mark.parametrize("count", [6, 41, 1000, 20_000])
def test_ranks_are_those_of_the_binomial(count: int) -> None:
    rank, share = statistics._ranks(count)
    covers = [1 - 2 * scipy.stats.binom.cdf(rank + more, count, 0.5) for more in (0, 1)]
    assert covers[0] >= 0.95 > covers[1]
    assert 0 <= share < 1


@pytest.mark.parametrize(
    ("value", "printed"), [(1 / 3, 0.3333333), (12345678.9, 12345680.0), (math.nan, None), (math.inf, None)]
)
def test_a_number_has_seven_digits_or_is_none(value: float, printed: float | None) -> None:
    assert statistics.number(value) == printed
