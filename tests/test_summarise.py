"""What is planted in the rounds of a run is what its summary says."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import summaries
from planted_differences import HARNESS, INTERVAL, NAMES, PLANTED, cell_of, exactly, plan_with, planted
from summaries import GHZ, Floats, jitter

from pagebench.errors import PagebenchError
from pagebench.plan.groups import Cell, Contender, Group
from pagebench.results import result_file, statistics
from pagebench.units import KIB, MIB


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return summaries.summary_of(tmp_path_factory.mktemp("run") / "r.jsonl", plan_with(), planted)


def test_the_json_is_json_that_any_parser_reads(summary: dict[str, Any]) -> None:
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_the_header_is_passed_on(summary: dict[str, Any]) -> None:
    header = summaries.header_of(plan_with())
    for key in ("machine", "variants", "plan", "tool", "compiler", "command", "warnings"):
        assert summary[key] == json.loads(json.dumps(header[key]))


def test_a_row_for_each_contender_of_each_group(summary: dict[str, Any]) -> None:
    groups = [(g.order, g.footprint_bytes, g.probe) for g in plan_with().groups]
    keys = [(c["contender"], c["order"], c["footprint_bytes"], c["probe"]) for c in summary["cells"]]
    assert keys == [(f"{name}@plain", *group) for group in groups for name in NAMES]
    assert [(n["variant"], n["order"], n["probe"]) for n in summary["noise"]] == [
        ("pointer-branch", order, probe) for order, _, probe in groups
    ]
    assert [h["variant"] for h in summary["harness"]] == ["identity"] * len(groups)


@pytest.mark.parametrize("name", NAMES)
def test_planted_differences_are_recovered(summary: dict[str, Any], name: str) -> None:
    for cell in (c for c in summary["cells"] if c["variant"] == name):
        difference = PLANTED[name] - PLANTED["pointer-branch"]
        ns, cycles = cell["difference"]["ns"], cell["difference"]["cycles"]
        assert ns["estimate"] == pytest.approx(difference, abs=0.003)
        assert ns["low"] <= ns["estimate"] <= ns["high"]
        for key in INTERVAL:
            assert cycles[key] == pytest.approx(ns[key] * GHZ, abs=1e-4)
        assert cell["ratio"]["estimate"] == pytest.approx(PLANTED[name] / PLANTED["pointer-branch"], rel=0.01)
        # The drift is in the absolute numbers, and not in the difference.
        assert cell["ns"]["low_quantile"] < cell["ns"]["median"]
        assert PLANTED[name] < cell["ns"]["median"] < PLANTED[name] + 0.6
        assert cell["cycles"]["median"] == pytest.approx(cell["ns"]["median"] * GHZ, rel=1e-5)


def test_the_verdicts_are_those_planted(summary: dict[str, Any]) -> None:
    verdicts = {c["variant"]: set() for c in summary["cells"]}
    for cell in summary["cells"]:
        verdicts[cell["variant"]].add(cell["verdict"])
    assert verdicts == {
        "pointer-branch": {"reference"},
        "mask-select": {"equivalent"},
        "branchless": {"slower"},
        "pointer-select": {"faster"},
    }


def test_only_comparisons_have_p_and_a_verdict(summary: dict[str, Any]) -> None:
    for row in (*summary["harness"], *summary["noise"]):
        assert row["verdict"] is None and row["p_adjusted"] is None
    for cell in summary["cells"]:
        assert (cell["p_adjusted"] is None) == (cell["verdict"] == "reference")
        if cell["variant"] in ("branchless", "pointer-select"):
            assert cell["p_adjusted"] < 1e-6


def test_ps_are_adjusted_over_all_comparisons_and_nothing_else(tmp_path: Path) -> None:
    plan = plan_with()

    def faint(group: Group, cell: Cell, process: int, rounds: int) -> Floats:
        number = [*PLANTED, *HARNESS].index(cell.contender.variant) + 10 * (cell.role == "aa")
        return (
            5.0
            + 0.002 * number * group.order
            + 0.02 * jitter(process, number, group.order)
            + np.zeros(rounds)
        )

    run = result_file.read(summaries.file_of(tmp_path / "r.jsonl", plan, faint))
    summary = summaries.as_json(run)
    ps = []
    for index, group in enumerate(plan.groups):
        of_group = [samples for samples in run.samples if samples.sampling.group == index]
        for position in range(1, len(NAMES)):
            values = np.array([np.mean(s.ns[position] - s.ns[0]) for s in of_group])
            ps.append(statistics.t_test_p(values))
        assert len(of_group) == plan.processes and group.cells[0].contender.variant == NAMES[0]
    compared = [c for c in summary["cells"] if c["verdict"] != "reference"]
    # The series repeats some of them and is a family of its own.
    assert [c["p_adjusted"] for c in compared] == pytest.approx(statistics.holm(ps), rel=1e-5)
    assert [c["p_adjusted"] for c in compared] != ps


def test_the_control_is_one_cycle_and_trusted(summary: dict[str, Any]) -> None:
    control = summary["control"]
    assert control["cycles"]["estimate"] == pytest.approx(1.0, abs=0.02)
    assert control["ns"]["estimate"] == pytest.approx(1 / GHZ, abs=0.006)
    assert control["trusted"] is True


@pytest.mark.parametrize(
    "cycles, trusted", [(0.93, False), (0.96, True), (1.04, True), (1.07, False), (0.0, False)]
)
def test_a_control_that_is_not_one_cycle_is_not_trusted(tmp_path: Path, cycles: float, trusted: bool) -> None:
    def off(group: Group, cell: Cell, process: int, rounds: int) -> Floats:
        extra = (cycles - 1) / GHZ if cell.role == "control" else 0.0
        return exactly(group, cell, process, rounds) + extra

    for number, group in enumerate(
        (
            summaries.group_of(NAMES, control=True),
            summaries.group_of(["pointer-branch", "mask-select"], control=True),
        )
    ):
        control = summaries.summary_of(tmp_path / f"{number}.jsonl", plan_with(group), off)["control"]
        assert control["cycles"]["estimate"] == pytest.approx(cycles, abs=1e-3)
        assert control["trusted"] is trusted


def test_a_control_in_a_group_of_its_own_is_no_cell(tmp_path: Path) -> None:
    plan = plan_with(
        summaries.group_of(NAMES, probe="lookup"),
        summaries.group_of(NAMES[:1], control=True, purpose="control"),
    )
    summary = summaries.summary_of(tmp_path / "r.jsonl", plan, planted)
    assert {c["probe"] for c in (*summary["cells"], *summary["noise"], *summary["harness"])} == {"lookup"}
    assert summary["control"]["trusted"] is True


def test_without_a_finished_control_there_is_none(tmp_path: Path) -> None:
    plan = plan_with(summaries.group_of(NAMES, probe="lookup"), summaries.group_of(NAMES, control=True))
    summary = summaries.summary_of(tmp_path / "r.jsonl", plan, planted, samplings=1)
    assert summary["control"] is None
    assert summary["finished"] == {"samplings": 1, "planned": 24, "processes": 1}


def test_numbers_without_any_noise_are_judged(tmp_path: Path) -> None:
    summary = summaries.summary_of(tmp_path / "r.jsonl", plan_with(), exactly)
    assert cell_of(summary, "branchless")["smallest_resolvable_ns"] == 0
    assert cell_of(summary, "branchless")["verdict"] == "slower"
    assert cell_of(summary, "pointer-select")["verdict"] == "faster"
    assert cell_of(summary, "mask-select")["verdict"] == "equivalent"


def test_the_margin_decides_what_is_equivalent(tmp_path: Path) -> None:
    run = result_file.read(summaries.file_of(tmp_path / "r.jsonl", plan_with(margin_cycles=0.25), planted))
    by_margin = {
        margin: cell_of(summaries.as_json(run, margin), "mask-select")["verdict"] for margin in (None, 1e-6)
    }
    assert by_margin == {None: "equivalent", 1e-6: "inconclusive"}
    assert summaries.as_json(run)["margin_cycles"] == 0.25
    assert summaries.as_json(run, 0.5)["margin_cycles"] == 0.5


def test_the_margin_is_in_core_cycles(tmp_path: Path) -> None:
    """0.02 ns are within 0.25 cycles at 4 GHz and at 10 GHz, and not at 20."""
    plan = plan_with(summaries.group_of(NAMES), margin_cycles=0.25)

    def near(group: Group, cell: Cell, process: int, rounds: int) -> Floats:
        shift = 0.02 * (cell.contender.variant == "mask-select")
        wide = 0.05 * (cell.role == "aa")  # nothing is resolved
        return 5.0 + shift + wide + 0.0005 * jitter(process, len(cell.contender.variant)) + np.zeros(rounds)

    verdicts = {}
    for ghz in (4.0, 10.0, 20.0):
        lines = [summaries.sampling_of(plan, process, 0, near, ghz=ghz) for process in range(plan.processes)]
        path = summaries.write(tmp_path / f"{ghz}.jsonl", [summaries.header_of(plan), *lines])
        verdicts[ghz] = cell_of(summaries.as_json(result_file.read(path)), "mask-select")["verdict"]
    assert verdicts == {4.0: "equivalent", 10.0: "equivalent", 20.0: "inconclusive"}


def test_a_summary_is_the_same_each_time(tmp_path: Path) -> None:
    path = summaries.file_of(tmp_path / "r.jsonl", plan_with(), planted)
    first, second = (json.dumps(summaries.as_json(result_file.read(path))) for _ in range(2))
    assert first == second


def test_the_order_of_samplings_does_not_matter(tmp_path: Path, summary: dict[str, Any]) -> None:
    plan = plan_with()
    lines = [
        summaries.sampling_of(plan, process, index, planted)
        for index in reversed(range(len(plan.groups)))
        for process in reversed(range(plan.processes))
    ]
    path = summaries.write(tmp_path / "r.jsonl", [summaries.header_of(plan), *lines])
    assert summaries.as_json(result_file.read(path)) == summary


@pytest.mark.parametrize("samplings", [1, 2, 3, 4, 17])
def test_any_part_of_a_run_can_be_summarised(tmp_path: Path, samplings: int) -> None:
    summary = summaries.summary_of(tmp_path / "r.jsonl", plan_with(), planted, samplings=samplings)
    assert len(summary["cells"]) == min(3, samplings) * len(NAMES)
    assert summary["finished"]["samplings"] == samplings
    if samplings <= 3:  # one process: no interval, no verdict
        assert {c["verdict"] for c in summary["cells"]} == {"reference", "inconclusive"}
        assert all(
            c["difference"]["ns"]["low"] is None for c in summary["cells"] if c["verdict"] != "reference"
        )
    json.dumps(summary, allow_nan=False)


def test_a_run_without_a_finished_group_says_how_to_go_on(tmp_path: Path) -> None:
    path = summaries.write(tmp_path / "r.jsonl", [summaries.header_of(plan_with())])
    with pytest.raises(PagebenchError, match=r"holds no finished group yet: .*--resume"):
        summaries.as_json(result_file.read(path))


def test_what_disturbed_the_run_is_counted(tmp_path: Path) -> None:
    plan = plan_with(summaries.group_of(NAMES), processes=3, rounds=5)
    changes: list[dict[str, Any]] = [
        {"steal_ticks": 3, "switches": [[0, 1], [2, 4]]},
        {"steal_ticks": 1, "copies": [16, 16, 1, 16, 16, 16]},
        {"steady": False, "burn_in_rounds": 56},
    ]
    lines = [summaries.sampling_of(plan, p, 0, planted, **changes[p]) for p in range(3)]
    summary = summaries.as_json(
        result_file.read(summaries.write(tmp_path / "r.jsonl", [summaries.header_of(plan), *lines]))
    )
    assert summary["interference"] == {
        "samples": 3 * 6 * 5,
        "samples_dropped": 2,
        "dropped_share": pytest.approx(2 / 90, rel=1e-6),
        "clock_dropped_share": 0.0,
        "clock_changed_share": 0.0,
        "context_switches": 2,
        "steal_share": pytest.approx(4 / 100 / 0.030),
        "immovable_loops": 1,
        "unsteady_samplings": 1,
    }
    assert cell_of(summary, "pointer-branch")["rounds_dropped"] == pytest.approx(2 / 90)


def test_the_clock_is_that_of_the_samplings(tmp_path: Path) -> None:
    plan = plan_with(summaries.group_of(NAMES), processes=3)
    lines = [summaries.sampling_of(plan, p, 0, planted, ghz=ghz) for p, ghz in enumerate((3.0, 3.2, 2.4))]
    path = summaries.write(tmp_path / "r.jsonl", [summaries.header_of(plan), *lines])
    core_ghz = summaries.as_json(result_file.read(path))["clock"]["core_ghz"]
    assert core_ghz == {"low": 2.4, "median": 3.0, "high": 3.2}
    assert all(math.isfinite(value) for value in core_ghz.values())


def with_null(
    path: Path, null_ns: float, clocks: Sequence[float] = (GHZ, GHZ), footprint: int = 16 * KIB
) -> dict[str, Any]:
    """A run whose null between encodings reads ``null_ns``; cells of other words at another clock."""
    group = summaries.group_of(NAMES, footprint=footprint)
    cells = (*group.cells, Cell(Contender("encoding-null"), "null", 2))
    plan = plan_with(dataclasses.replace(group, cells=cells))

    def model(group: Group, cell: Cell, process: int, rounds: int) -> Floats:
        if cell.role == "null":
            return planted(group, group.cells[1], process, rounds) + null_ns
        return planted(group, cell, process, rounds)

    lines = []
    for process in range(plan.processes):
        line = summaries.sampling_of(plan, process, 0, model)
        ticks = np.array(line["add_chain_ticks"], np.float64)
        ticks[:, 1, ::2] *= clocks[0] / clocks[1]  # in every other round
        line |= {"add_chain_ticks": np.round(ticks).astype(int).tolist()}
        if summaries.LEVELS.at_core_clock(footprint):  # what is looked up there takes the same cycles
            times = np.array(line["ticks"], np.float64)
            times[np.array(line["segment"]) == 1, ::2] *= clocks[0] / clocks[1]
            line |= {"ticks": np.round(times).astype(int).tolist()}
        lines.append(line)
    written = summaries.write(path, [summaries.header_of(plan), *lines])
    return summaries.as_json(result_file.read(written))


def test_a_null_between_encodings_is_a_floor_for_cells_that_take_turns(tmp_path: Path) -> None:
    quiet, loud = (with_null(tmp_path / f"{ns}.jsonl", ns) for ns in (0.0, 0.7))
    (null,) = loud["null"]
    assert null["difference"]["ns"]["estimate"] == pytest.approx(0.7, abs=0.003)
    assert null["verdict"] is None
    (maximum,) = loud["null_maxima"]
    assert (maximum["level"], maximum["pairs"]) == ("l1", 1)
    assert maximum["ns"] == pytest.approx(0.7, abs=0.003)
    for name, turns in (("mask-select", True), ("branchless", True), ("pointer-select", False)):
        floors = [cell_of(summary, name)["smallest_resolvable_ns"] for summary in (quiet, loud)]
        assert floors[0] < 0.01
        assert (floors[1] > 0.69) == turns
    assert cell_of(quiet, "branchless")["verdict"] == "slower"
    assert cell_of(loud, "branchless")["verdict"] == "inconclusive"
    assert cell_of(loud, "pointer-select")["verdict"] == "faster"


@pytest.mark.parametrize("footprint, left_out", [(16 * KIB, 0), (2 * MIB, 5 / 9)])
def test_different_clocks_are_no_differences(tmp_path: Path, footprint: int, left_out: float) -> None:
    """Inside L2 cycles are compared; beyond, the rounds in which both cells met the same clock."""
    steady, changing = (
        with_null(tmp_path / f"{ghz}.jsonl", 0.0, (GHZ, ghz), footprint) for ghz in (GHZ, GHZ * 1.07)
    )
    assert steady["interference"]["clock_changed_share"] == 0
    assert changing["interference"]["clock_changed_share"] == pytest.approx(left_out)
    assert any("the core clock changed" in warning for warning in changing["warnings"]) == bool(left_out)
    for name in ("mask-select", "branchless", "pointer-select"):
        one, other = (cell_of(summary, name)["difference"]["ns"] for summary in (steady, changing))
        assert other["estimate"] == pytest.approx(one["estimate"], abs=0.003)
        assert cell_of(changing, name)["difference"]["cycles"]["estimate"] == pytest.approx(
            one["estimate"] * GHZ, abs=0.01
        )


def test_noise_at_the_edge_of_l2_is_no_floor_well_inside(tmp_path: Path) -> None:
    groups = [summaries.group_of(NAMES, order=order, footprint=size) for order in (2, 9) for size in SIZES]
    assert {group.level for group in groups} == {"l2"}

    def edge(group: Group, cell: Cell, process: int, rounds: int) -> Floats:
        off = 0.3 if cell.role == "aa" and group.footprint_bytes == SIZES[1] else 0.0
        return planted(group, cell, process, rounds) + off

    summary = summaries.summary_of(tmp_path / "r.jsonl", plan_with(*groups), edge)
    floors = {
        size: [
            cell["smallest_resolvable_ns"]
            for cell in summary["cells"]
            if cell["footprint_bytes"] == size and cell["verdict"] != "reference"
        ]
        for size in SIZES
    }
    assert max(floors[SIZES[0]]) < 0.01 and min(floors[SIZES[1]]) > 0.29


SIZES = (256 * KIB, 512 * KIB)
