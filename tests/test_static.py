"""Predictions beside measurements."""

from __future__ import annotations

from pathlib import Path

import pytest
import summaries
from planted_differences import NAMES, exactly, plan_with
from summaries import GHZ

from pagebench.report import text
from pagebench.results import result_file, summarise
from pagebench.units import KIB

PREDICTED = {"pointer-branch": None, "mask-select": 16.0, "branchless": 17.0, "pointer-select": 14.0}


def summary_of(path: Path, reference: str) -> summarise.Summary:
    names = (reference, *(name for name in NAMES if name != reference))
    plan = plan_with(summaries.group_of(names), summaries.group_of(names, footprint=256 * KIB))
    predicted = {name: {"chain": cycles} for name, cycles in {**PREDICTED, "identity": 3.0}.items()}
    told = {"tool": "llvm-mca 1", "cpu": "a core", "cycles": predicted}
    header = summaries.header_of(plan, prediction=told)
    return summarise.summarise(result_file.read(summaries.file_of(path, plan, exactly, header)))


def test_the_rest_is_what_is_measured_less_what_is_predicted(tmp_path: Path) -> None:
    summary = summary_of(tmp_path / "r.jsonl", "mask-select")
    assert summary.predictor == "llvm-mca 1, as a core"
    assert [row.footprint_bytes for row in summary.static] == [16 * KIB] * 5
    rows = {row.contender.removesuffix("@plain"): row for row in summary.static}
    assert rows["mask-select"].measured == pytest.approx(5.0 * GHZ, rel=1e-4)
    assert rows["mask-select"].rest == pytest.approx(5.0 * GHZ - 16)
    assert rows["mask-select"].difference_rest is None
    assert rows["branchless"].difference_rest == pytest.approx(0.5 * GHZ - 1, abs=1e-3)
    assert rows["identity"].predicted == 3.0
    branch = rows["pointer-branch"]
    assert (branch.predicted, branch.rest, branch.difference_rest) == (None, None, None)
    report = text.render(summary)
    assert "by llvm-mca 1, as a core" in report and max(map(len, report.splitlines())) <= 75


def test_of_a_reference_that_is_not_predicted_no_difference_is(tmp_path: Path) -> None:
    summary = summary_of(tmp_path / "r.jsonl", "pointer-branch")
    assert {row.difference_rest for row in summary.static} == {None}


def test_without_a_prediction_there_is_no_table(tmp_path: Path) -> None:
    plan = plan_with(summaries.group_of(NAMES))
    summary = summarise.summarise(result_file.read(summaries.file_of(tmp_path / "r.jsonl", plan, exactly)))
    assert (summary.predictor, summary.static) == (None, ())
    assert "llvm-mca" not in text.render(summary)
