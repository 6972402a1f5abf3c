"""Cells compared within the round: what is left out, and what is said of a cell beside its times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import summaries
from planted_differences import INTERVAL, NAMES, cell_of, plan_with, planted
from summaries import Floats

from pagebench.plan.groups import Cell, Group
from pagebench.results import result_file
from pagebench.units import MIB


def with_invalid(path: Path, of: dict[int, set[int]]) -> dict[str, Any]:
    """A run in which, by process, all samples of these cells met a context switch."""
    plan = plan_with(summaries.group_of(NAMES), rounds=5)
    lines = [
        summaries.sampling_of(
            plan, process, 0, planted, switches=[[c, r] for c in of.get(process, ()) for r in range(5)]
        )
        for process in range(plan.processes)
    ]
    return summaries.as_json(result_file.read(summaries.write(path, [summaries.header_of(plan), *lines])))


def test_a_process_without_a_valid_round_is_left_out(tmp_path: Path) -> None:
    summary = with_invalid(tmp_path / "r.jsonl", {3: {2}})
    cell = cell_of(summary, "branchless")
    assert cell["verdict"] == "slower"
    assert cell["difference"]["ns"]["estimate"] == pytest.approx(0.5, abs=0.003)
    assert summary["interference"]["samples_dropped"] == 5
    assert summary["interference"]["context_switches"] == 5


@pytest.mark.parametrize("cells", [{2}, {0}, {4}, {0, 1, 2, 3, 4, 5}])
def test_cells_without_a_valid_round_have_no_numbers(tmp_path: Path, cells: set[int]) -> None:
    summary = with_invalid(tmp_path / "r.jsonl", dict.fromkeys(range(12), cells))
    json.dumps(summary, allow_nan=False)
    for position, cell in enumerate(summary["cells"]):
        known = position not in cells
        assert (cell["ns"]["median"] is not None) == known
        if position and (0 in cells or not known):
            assert cell["difference"]["ns"] == dict.fromkeys(INTERVAL)
        if position and (cells & {0, 4} or not known):  # 4 is the A/A copy: without it nothing is judged
            assert cell["verdict"] in ("inconclusive", "equivalent")


def test_one_round_in_five_hit_by_a_neighbour_does_not_move_a_difference(tmp_path: Path) -> None:
    plan = plan_with(summaries.group_of(NAMES), rounds=15)

    def hit(group: Group, cell: Cell, process: int, rounds: int) -> Floats:
        ns = planted(group, cell, process, rounds)
        if cell.contender.variant == "branchless":
            ns[[process % rounds, (process + 4) % rounds, (process + 9) % rounds]] += 400
        return ns

    summary = summaries.summary_of(tmp_path / "r.jsonl", plan, hit)
    assert cell_of(summary, "branchless")["difference"]["ns"]["estimate"] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    "obtained, name",
    [
        ({"4k": 0, "2m": 4 * MIB}, "2m"),
        ({"4k": 4 * MIB, "2m": 0}, "4k"),
        ({"4k": MIB, "2m": 3 * MIB}, "mixed (75 % 2m)"),
        ({"4k": 0, "2m": 0}, "unknown"),
    ],
)
def test_the_backing_is_the_one_obtained(tmp_path: Path, obtained: dict[str, int], name: str) -> None:
    plan = plan_with(summaries.group_of(NAMES), processes=2)
    lines = [summaries.sampling_of(plan, p, 0, planted, backing={"2m": obtained}) for p in range(2)]
    path = summaries.write(tmp_path / "r.jsonl", [summaries.header_of(plan), *lines])
    assert {c["backing"] for c in summaries.as_json(result_file.read(path))["cells"]} == {name}


def test_counts_are_medians_over_processes(tmp_path: Path) -> None:
    plan = plan_with(summaries.group_of(NAMES), processes=3)
    counts: list[list[dict[str, float]]] = [
        [{"cycles": 9.0 + p, "instructions": 8.5}, *[{}] * 5] for p in range(3)
    ]
    del counts[0][0]["instructions"]
    lines = [summaries.sampling_of(plan, p, 0, planted, counts=counts[p]) for p in range(3)]
    path = summaries.write(tmp_path / "r.jsonl", [summaries.header_of(plan), *lines])
    summary = summaries.as_json(result_file.read(path))
    assert cell_of(summary, "pointer-branch")["counts"] == {"cycles": 10.0, "instructions": 8.5}
    assert cell_of(summary, "branchless")["counts"] == {}
