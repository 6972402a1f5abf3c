"""What a run was asked to resolve, and what it says of the rest."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import summaries
from planted_differences import NAMES
from summaries import GHZ, Floats

from pagebench.plan.groups import Cell, Contender, Group, Plan, Target
from pagebench.report import text
from pagebench.results import resolving, result_file, summarise
from pagebench.results.summary import Resolution
from pagebench.units import MIB

SCATTER = 0.1


def scattered(group: Group, cell: Cell, process: int, rounds: int) -> Floats:
    """5 ns, and what a process adds: to every cell of footprints in DRAM, and to nobody elsewhere."""
    rng = np.random.default_rng([process, group.order, group.cells.index(cell)])
    own = rng.normal(0, SCATTER if group.level == "dram" else 1e-4)
    return np.full(rounds, 5.0 + own + (0.5 if cell.role == "null" else 0.0))


def plan_with(amount: float, unit: str, null: bool = False, processes: int = 12) -> Plan:
    groups = [summaries.group_of(NAMES[:2]), summaries.group_of(NAMES[:2], order=9, footprint=64 * MIB)]
    if null:
        cells = (*groups[0].cells, Cell(Contender("encoding-null"), "null", 2))
        groups[0] = dataclasses.replace(groups[0], cells=cells)
    target = Target.parse(f"{amount}{unit}", "1min")
    return dataclasses.replace(summaries.plan_of(groups, processes=processes), target=target)


def run_of(path: Path, plan: Plan, more: int = 0) -> result_file.Run:
    """``more``: processes beyond those planned, of the group in DRAM alone."""
    pairs = [(process, index) for process in range(plan.processes) for index in range(len(plan.groups))]
    pairs += [(plan.processes + extra, 1) for extra in range(more)]
    lines = [summaries.sampling_of(plan, process, index, scattered) for process, index in pairs]
    return result_file.read(summaries.write(path, [summaries.header_of(plan), *lines]))


def found_in(run: result_file.Run) -> Resolution:
    found = summarise.summarise(run).resolution
    assert found
    return found


@pytest.mark.parametrize(
    ("unit", "per_ns"), [("ns", 1.0), ("cycles", GHZ), ("%", 100 / 5.0)], ids=["ns", "cycles", "percent"]
)
def test_each_unit_is_the_same_target(tmp_path: Path, unit: str, per_ns: float) -> None:
    found = found_in(run_of(tmp_path / "r.jsonl", plan_with(0.01 * per_ns, unit)))
    assert found.comparisons == 2
    (one,) = found.unresolved
    assert (one.level, one.contender, one.processes) == ("dram", "mask-select@plain", 12)
    assert one.resolvable is not None and 0.03 * per_ns < one.resolvable < 0.3 * per_ns
    needed = 12 * (one.resolvable / (0.01 * per_ns)) ** 2
    assert one.processes_needed == pytest.approx(needed * resolving.SPARE, abs=1)


def test_a_target_that_is_reached_leaves_nothing(tmp_path: Path) -> None:
    run = run_of(tmp_path / "r.jsonl", plan_with(1, "ns"))
    found = found_in(run)
    assert (found.unresolved, found.seconds_needed) == ((), 0.0)
    assert resolving.groups_of(run, found.unresolved) == []
    report = text.render(summarise.summarise(run))
    assert "1 ns were asked for: 2 of 2 comparisons resolve that." in report


def test_the_groups_that_go_on_are_those_of_the_same_probe_and_level(tmp_path: Path) -> None:
    run = run_of(tmp_path / "r.jsonl", plan_with(0.01, "ns"))
    found = found_in(run)
    assert resolving.groups_of(run, found.unresolved) == [1]
    (one,) = found.unresolved
    assert one.processes_needed
    # 10 ms a sampling, and a worker's start.
    seconds = (one.processes_needed - 12) * (resolving.START_S + 0.010)
    assert found.seconds_needed == pytest.approx(seconds, abs=0.1)
    assert resolving.until_next_look(found.unresolved) == 12
    assert "wants" in text.render(summarise.summarise(run))


def test_more_processes_of_one_group_count_there_alone(tmp_path: Path) -> None:
    summary = summarise.summarise(run_of(tmp_path / "r.jsonl", plan_with(0.01, "ns"), more=30))
    assert {row.level: row.processes for row in summary.cells} == {"l1": 12, "dram": 42}
    assert summary.finished.samplings == summary.finished.planned == 54
    assert summary.finished.processes == 42
    assert "partial" not in text.render(summary)
    plain = dataclasses.replace(plan_with(0.01, "ns"), target=None)
    with pytest.raises(Exception, match="group or process that the plan does not have"):
        run_of(tmp_path / "plain.jsonl", plain, more=1)


def test_what_is_not_known_yet_goes_on(tmp_path: Path) -> None:
    run = run_of(tmp_path / "r.jsonl", plan_with(0.01, "ns", processes=1))
    found = found_in(run)
    assert {one.resolvable for one in found.unresolved} == {None}
    assert {one.processes_needed for one in found.unresolved} == {2}
    assert resolving.groups_of(run, found.unresolved) == [0, 1]
    said = " ".join(text.render(summarise.summarise(run)).split())
    assert "nothing of 1 processes; wants 2 processes" in said


def test_a_known_zero_of_few_processes_gives_nobody_up(tmp_path: Path) -> None:
    found = found_in(run_of(tmp_path / "r.jsonl", plan_with(0.1, "ns", null=True, processes=8)))
    assert all(one.processes_needed for one in found.unresolved)


def test_a_known_zero_that_is_off_is_said_to_stay_off(tmp_path: Path) -> None:
    run = run_of(tmp_path / "r.jsonl", plan_with(0.1, "ns", null=True))
    found = found_in(run)
    (one,) = (one for one in found.unresolved if one.level == "l1")
    assert one.processes_needed is None
    assert 0 not in resolving.groups_of(run, found.unresolved)
    assert "a known zero is off by more" in " ".join(text.render(summarise.summarise(run)).split())
