"""What follows from numbers: what can be resolved, marks, warnings, conclusions."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import reports
import summaries
from planted_differences import NAMES, cell_of, plan_with, planted
from summaries import Floats

from pagebench.plan.groups import Cell, Group
from pagebench.report import text
from pagebench.results import judgement, result_file
from pagebench.results.summary import Difference, Estimate, Inconclusive, Row, Significant, Span
from pagebench.units import KIB, MIB, format_size


def noisy_at(order: int, aa: float) -> summaries.Model:
    def model(group: Group, cell: Cell, process: int, rounds: int) -> Floats:
        extra = aa if cell.role == "aa" and group.order == order else 0.0
        return planted(group, cell, process, rounds) + extra

    return model


def test_the_noise_of_other_groups_of_a_probe_and_level_is_what_can_be_resolved(tmp_path: Path) -> None:
    groups = [
        summaries.group_of(NAMES, order=2),
        summaries.group_of(NAMES, order=9),
        summaries.group_of(NAMES, order=2, probe="lookup"),
        summaries.group_of(NAMES, order=2, footprint=256 * KIB),
    ]
    summary = summaries.summary_of(tmp_path / "r.jsonl", plan_with(*groups), noisy_at(9, 0.8))
    (noise,) = [n for n in summary["noise"] if n["order"] == 9]
    assert noise["difference"]["ns"]["estimate"] == pytest.approx(0.8, abs=0.005)
    for cell in summary["cells"]:
        if cell["verdict"] == "reference":
            continue
        # Order 2 by another group's pair, order 9 by its own.
        disturbed = (cell["probe"], cell["level"]) == ("chain", "l1")
        assert cell["smallest_resolvable_ns"] == pytest.approx(0.8 if disturbed else 0.002, abs=0.006)
        if disturbed:  # a difference of 0.5 is below what two copies of one loop differ by
            assert cell["verdict"] in ("inconclusive", "equivalent")
        else:
            assert cell["verdict"] == cell_of(summary, cell["variant"], order=2, level="l2")["verdict"]


def test_a_group_without_others_has_its_own_noise(tmp_path: Path) -> None:
    summary = summaries.summary_of(
        tmp_path / "r.jsonl", plan_with(summaries.group_of(NAMES)), noisy_at(2, 0.8)
    )
    assert {c["verdict"] for c in summary["cells"]} == {"reference", "equivalent", "inconclusive"}
    assert cell_of(summary, "branchless")["smallest_resolvable_ns"] == pytest.approx(0.8, abs=0.006)


@pytest.mark.parametrize(
    ("verdict", "p", "mark"),
    [
        ("faster", 0.049, "*"),
        ("slower", 0.051, "+"),
        ("slower", None, "+"),
        ("equivalent", 0.001, "="),
        ("inconclusive", 0.001, "?"),
    ],
)
def test_the_mark_says_verdict_and_significance(verdict: str, p: float | None, mark: str) -> None:
    assert judgement.mark(verdict, p) == mark


def rows() -> list[Row]:
    """Those of a small run: a reference, and two contenders compared with it."""
    cells = summaries.typed(reports.summary_of("counted")).cells
    assert [row.verdict == "reference" for row in cells] == [True, False, False]
    return list(cells)


def judged(row: Row, verdict: str, ns: float, ratio: float, p: float) -> Row:
    difference = msgspec.structs.replace(row.difference, ns=Estimate(ns, ns, ns))
    return msgspec.structs.replace(
        row, verdict=verdict, difference=difference, ratio=Estimate(ratio, ratio, ratio), p_adjusted=p
    )


def test_a_contender_is_summed_up_over_its_cells() -> None:
    reference, one, _ = rows()
    cells = [
        reference,
        judged(one, "slower", 0.5, 2.0, 0.01),
        judged(one, "slower", 0.25, 0.5, 0.2),
        judged(one, "inconclusive", -0.1, 1.0, 0.5),
    ]
    (line,) = judgement.overall(cells)
    assert (line.contender, line.cells, line.geometric_mean_ratio) == (one.contender, 3, 1.0)
    assert line.verdicts == {"slower": Span(2, 0.25, 0.5), "inconclusive": Span(1, -0.1, -0.1)}
    assert judgement.significant(cells) == Significant(judgement.SIGNIFICANT, 1, 3)
    assert judgement.inconclusive(cells) == Inconclusive(1, ((one.probe, one.level),))


def test_what_was_resolved_is_the_worst_of_a_probe_and_level() -> None:
    _, one, other = rows()
    cells = [msgspec.structs.replace(one, smallest_resolvable_ns=ns) for ns in (0.1, 0.3, None)]
    cells.append(msgspec.structs.replace(other, level="l3", smallest_resolvable_ns=2.0))
    resolved = [(floor.probe, floor.level, floor.ns) for floor in judgement.resolved(cells)]
    assert resolved == [(one.probe, one.level, 0.3), (one.probe, "l3", 2.0)]


def test_differences_at_the_scale_of_an_operation() -> None:
    reference, one, other = rows()
    cells = [reference, judged(one, "slower", 0.5, 2.0, 0.01), judged(other, "inconclusive", 0.1, 1.0, 0.5)]
    assert reference.ns.median is not None
    us = [operation.us for operation in judgement.operations(cells)]
    assert us == [pytest.approx(reference.ns.median * 0.512), pytest.approx(0.256), None]
    heads = [msgspec.structs.replace(row, pattern="heads") for row in cells]
    assert judgement.operations(heads) == []


def test_the_noise_of_a_level_is_its_largest() -> None:
    _, one, other = rows()
    noise = [judged(one, "", ns, 1.0, 0.5) for ns in (0.1, -0.4)]
    noise.append(msgspec.structs.replace(judged(other, "", 0.2, 1.0, 0.5), level="dram"))
    nothing = Estimate(None, None, None)
    noise.append(msgspec.structs.replace(other, difference=Difference(nothing, nothing), level="l3"))
    maxima = [(maximum.level, maximum.ns, maximum.pairs) for maximum in judgement.maxima(noise)]
    assert maxima == [(one.level, 0.4, 2), ("dram", 0.2, 1)]


def test_other_backings_beside_it_do_not_hide_that_2m_pages_were_not_obtained(tmp_path: Path) -> None:
    plan = plan_with(summaries.group_of(("pointer-branch", "fakehead@hvo"), order=9), processes=2)
    for obtained, warned in (("4k", True), ("2m", False)):
        backing = {"2m": {"4k": 0, "2m": 0, obtained: 1}, "memfd": {}}
        lines = [summaries.sampling_of(plan, p, 0, summaries.made_up, backing=backing) for p in range(2)]
        path = summaries.write(tmp_path / f"{obtained}.jsonl", [summaries.header_of(plan), *lines])
        warnings = summaries.as_json(result_file.read(path))["warnings"]
        assert any("2m pages were asked for" in warning for warning in warnings) is warned


@pytest.mark.parametrize(
    "l3_at_end, changed", [(8 * MIB, ()), (3 * MIB, (4 * MIB,)), (64 * MIB, (16 * MIB,))]
)
def test_a_level_that_changed_during_the_run_is_said_at_its_cells(
    tmp_path: Path, l3_at_end: int, changed: tuple[int, ...]
) -> None:
    sizes = (16 * KIB, 4 * MIB, 16 * MIB)
    plan = plan_with(*(summaries.group_of(NAMES, footprint=size) for size in sizes), processes=6)
    assert [group.level for group in plan.groups] == ["l1", "l3", "dram"]
    lines = [
        summaries.sampling_of(plan, process, index, planted) for process in range(6) for index in range(3)
    ]
    latency_ns = [[MIB, 9.0], [64 * MIB, 90.0]]
    again = {"l3_measured_bytes": l3_at_end, "latency_ns": latency_ns, "l3_half_life_ms": None}
    told = [{"kind": "recalibration", "calibration": again}]
    path = summaries.write(tmp_path / "r.jsonl", [summaries.header_of(plan), *lines, *told])
    summary = summaries.as_json(result_file.read(path))
    assert summary["recalibration"] == again
    cells = [cell for cell in summary["cells"] if cell["level_at_end"] != cell["level"]]
    assert {cell["footprint_bytes"] for cell in cells} == set(changed)
    said = [warning for warning in summary["warnings"] if "of no one cache level" in warning]
    assert len(said) == len(changed)
    assert all(format_size(size) in said[0] for size in changed)
    marked = [line for line in text.render(summaries.typed(summary)).splitlines() if line[7:8] == "!"]
    assert len(marked) == len(changed)
