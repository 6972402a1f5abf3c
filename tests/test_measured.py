"""A run's cells, found by what they mean."""

from __future__ import annotations

from pathlib import Path

import planted_runs
import pytest

from pagebench.errors import PagebenchError
from pagebench.results.measured import Place

PLAN = planted_runs.plan_with(orders=(0, 2), probes=("chain",), processes=3, rounds=3)


def test_every_contender_is_found_and_nothing_of_the_harness(tmp_path: Path) -> None:
    measured = planted_runs.run_of(tmp_path / "r.jsonl", PLAN, planted_runs.model_of())
    assert [place.contender for place in measured.at] == [
        f"{name}@plain" for name in planted_runs.CONTENDERS
    ] * 2
    assert set(measured.at) == set(measured.rows)
    samples, position = measured.at[Place("chain", "random", 2, 16384, "branchless@plain")]
    assert (samples.group.order, position) == (2, 2)


def test_a_place_in_words() -> None:
    assert str(Place("chain", "tails", 9, 16384, "mask@plain")) == "chain, tails, order 9, 16K, mask"


def test_the_largest_of_what_is_zero_by_noise_class(tmp_path: Path) -> None:
    measured = planted_runs.run_of(tmp_path / "r.jsonl", PLAN, planted_runs.model_of())
    pairs = [abs(row.difference.ns.estimate or 0.0) for row in measured.summary.noise]
    (largest,) = measured.aa_ns.values()
    assert largest == max(pairs) > 0
    assert measured.null_ns == {}


def test_what_is_said_of_a_run(tmp_path: Path) -> None:
    side = planted_runs.run_of(tmp_path / "r.jsonl", PLAN, planted_runs.model_of(), samplings=3).side
    assert (side.name, side.processes, side.complete, side.trusted) == ("r", 2, False, True)


def test_a_run_without_a_sampling_says_so(tmp_path: Path) -> None:
    measured = planted_runs.run_of(tmp_path / "r.jsonl", PLAN, planted_runs.model_of(), samplings=0)
    with pytest.raises(PagebenchError, match="holds no finished group yet"):
        _ = measured.rows
