"""How much runs differ by themselves, and what that makes of a change."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from pagebench.results.between_runs import BetweenRuns
from pagebench.results.statistics import Interval

NARROW = Interval(0.5, 0.49, 0.52)


def test_the_root_mean_square_of_what_is_known() -> None:
    found = BetweenRuns.of([0.3, -0.4, math.nan, math.inf])
    assert found is not None and not found.assumed
    assert (found.ns, found.count) == (pytest.approx(math.sqrt(0.125)), 2)


def test_p_is_students() -> None:
    found = BetweenRuns(0.1, 7)
    assert found.p(0.25) == pytest.approx(2 * stats.t.sf(2.5, 7))
    assert found.p(0.0) == 1.0


def test_an_interval_is_as_wide_at_least() -> None:
    wide = BetweenRuns(0.1, 7).widened(NARROW)
    assert wide.high - wide.estimate == pytest.approx(0.1 * stats.t.ppf(0.975, 7))
    assert BetweenRuns(1e-6, 7).widened(NARROW) == NARROW


def test_where_nothing_is_known_it_is_assumed() -> None:
    assert BetweenRuns.of([]) is None
    assert BetweenRuns.of([math.nan]) is None
    inside, beyond = BetweenRuns.unknown(True, 4.0, 5.0), BetweenRuns.unknown(False, 4.0, 140.0)
    assert (inside.ns, inside.assumed) == (0.25 / 4.0, True)
    assert (beyond.ns, beyond.assumed) == (pytest.approx(7.0), True)


def test_runs_that_do_not_differ_at_all() -> None:
    still = BetweenRuns.of([0.0, 0.0])
    assert still is not None
    assert still.p(0.0) == 1.0
    assert still.p(1e-9) == 0.0
    assert still.widened(NARROW) == NARROW
