"""Explanations: latencies that were planted are found, and cells nobody can explain are left alone."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable

import msgspec
import planted_counts
import pytest
import summaries
from hypothesis import given
from hypothesis import strategies as st
from planted_counts import (
    GEOMETRY,
    PLANTED,
    Latencies,
    counts,
    counts_of,
    row_of,
    rows_of,
    simulated_of,
    took,
    world,
)

from pagebench.plan.groups import Cell, Group, Plan
from pagebench.results.explaining import explain
from pagebench.results.explanation import Explained, Explanation
from pagebench.results.simulated import Counts
from pagebench.units import KIB, MIB

# By what they are called: those beyond L2 twice, where encodings take turns (above order 0) and where not.
PARAMETERS = {
    **{name: name for name in ("load", "l2", "l3", "memory", "tlb", "misprediction")},
    **{f"{name} in turns": name for name in ("l3", "memory", "walk")},
}
PLAN = world()


def explained(
    latencies: Latencies = PLANTED,
    plan: Plan = PLAN,
    changed: Callable[[Group, Cell, float], float | None] = lambda group, cell, cycles: cycles,
    model: planted_counts.Model = counts,
) -> Explanation:
    def cycles(group: Group, cell: Cell) -> float | None:
        return changed(group, cell, took(latencies)(group, cell))

    return explain(plan, rows_of(plan, cycles), simulated_of(plan, model), summaries.GHZ)


def cell_of(found: Explanation, contender: str, order: int, footprint: int) -> Explained:
    (row,) = [
        row
        for row in found.rows
        if (row.contender, row.order, row.footprint_bytes) == (contender, order, footprint)
    ]
    return row


def parameters(found: Explanation) -> dict[str, float | None]:
    return {name: parameter.cycles for name, parameter in found.parameters.items()}


def planted(latencies: Latencies) -> dict[str, float]:
    """Those, and what forms take more; a variant that runs ahead in L1 has no cell that says so."""
    forms = {f"form of {name}": latencies.forms.get(name, 0.0) for name in ("pointer-select", "mask-select")}
    return {name: getattr(latencies, attribute) for name, attribute in PARAMETERS.items()} | forms


def test_planted_latencies_are_found() -> None:
    found = explained()
    assert parameters(found) == pytest.approx(planted(PLANTED), abs=1e-3)
    for row in found.rows:
        if row.terms is not None:
            assert row.rest_cycles == pytest.approx(0, abs=2e-3)
            assert row.terms.form == pytest.approx(1.5 if row.contender.startswith("mask") else 0, abs=1e-3)
            assert row.terms.total + row.rest_cycles == pytest.approx(row.measured_cycles, abs=1e-3)
    assert found.ghz == summaries.GHZ


cycles = st.floats(1, 500)


@given(
    st.builds(
        Latencies,
        load=st.floats(3, 8),
        l2=cycles,
        l3=cycles,
        memory=cycles,
        walk=cycles,
        misprediction=cycles,
        forms=st.builds(lambda more: {"mask-select": more}, st.floats(0, 4)),
    )
)
def test_whatever_they_are(latencies: Latencies) -> None:
    found = explained(latencies)
    assert parameters(found) == pytest.approx(planted(latencies), rel=1e-4, abs=1e-3)
    assert all(row.terms is None or abs(row.rest_share) < 1e-3 for row in found.rows)


def test_each_is_from_cells_that_say_so() -> None:
    found = explained()
    sources = {name: parameter.source for name, parameter in found.parameters.items()}
    assert sources["tlb"] == "documented"
    assert sources["load"] == "pointer-select@plain chain order 0 16K random"
    assert sources["l2"].split("; ")[0] == "pointer-select@plain chain order 0 256K random"
    walked = "mask-select@hvo-shared chain order 9 96M random"
    levels = {one for name in ("l2", "l3", "memory") for one in sources[name].split("; ")}
    assert all("order 0" in one for one in levels)
    in_turns = {one for name in ("l3 in turns", "memory in turns") for one in sources[name].split("; ")}
    assert all("order 2" in one for one in in_turns - {walked})
    assert sources["misprediction"] == "pointer-branch@plain chain order 2 16K random"
    assert sources["walk in turns"] == walked
    said = {one for source in sources.values() for one in source.split("; ")}
    fitted = {row for row in found.rows if row.fitted}
    names = {f"{row.contender} {row.probe} order {row.order} {size(row)} {row.pattern}" for row in fitted}
    assert names == said - {"documented"}
    assert "mask-select@plain chain order 0 16K random" in names


def size(row: Explained) -> str:
    return (
        f"{row.footprint_bytes // MIB}M" if row.footprint_bytes >= MIB else f"{row.footprint_bytes // KIB}K"
    )


def test_held_out_cells_are_those_that_nothing_was_fitted_to() -> None:
    found = explained()
    held_out = [row for row in found.rows if row.terms is not None and not row.fitted]
    assert found.inside.cells + found.beyond.cells == len(held_out)
    assert found.inside.cells == sum(row.core_clock for row in held_out) == found.inside.close
    assert found.hvo.cells == sum(row.core_clock and "@hvo" in row.contender for row in held_out) == 2
    assert found.inside.median_rest == pytest.approx(0, abs=1e-3)
    assert found.beyond.worst_rest == pytest.approx(0, abs=1e-3)


def test_a_cell_that_is_held_out_changes_no_parameter_and_is_seen() -> None:
    place = ("mask-select@plain", 9, 256 * KIB)

    def slower(group: Group, cell: Cell, cycles: float) -> float:
        mine = (str(cell.contender), group.order, group.footprint_bytes) == place
        return cycles * 1.25 if mine else cycles

    found = explained(changed=slower)
    assert parameters(found) == parameters(explained())
    row = cell_of(found, *place)
    assert (row.fitted, row.rest_share) == (False, pytest.approx(0.2, abs=1e-3))
    assert found.inside.worst_rest == pytest.approx(0.2, abs=1e-3)
    assert found.inside.close == found.inside.cells - 1
    assert found.hvo.worst_rest == pytest.approx(0, abs=1e-3)


def test_a_cell_that_was_fitted_is_not_counted_as_explained() -> None:
    def slower(group: Group, cell: Cell, cycles: float) -> float:
        mine = (group.order, group.footprint_bytes) == (0, 256 * KIB)
        return cycles + 30 if mine and cell.contender.variant == "pointer-select" else cycles

    found = explained(changed=slower)
    assert parameters(found)["l2"] != pytest.approx(PLANTED.l2, abs=1)
    row = cell_of(found, "pointer-select@plain", 0, 256 * KIB)
    assert row.fitted and abs(row.rest_share) > 0.1
    held_out = [row for row in found.rows if row.terms and not row.fitted and row.core_clock]
    assert found.inside.worst_rest == pytest.approx(max(abs(row.rest_share) for row in held_out))


def test_what_runs_ahead_has_no_model() -> None:
    found = explained()
    for footprint in planted_counts.MISSES:
        row = cell_of(found, "pointer-branch@plain", 0, footprint)
        assert (row.terms, row.rest_cycles, row.rest_share) == (None, None, 0.0)
        assert row.why_not == "runs ahead: lookups do not wait for memory"
    assert cell_of(found, "pointer-branch@plain", 2, 16 * KIB).terms is not None


def test_what_is_no_chain_has_no_model() -> None:
    found = explained(plan=world(probes=("chain", "lookup")))
    rows = [row for row in found.rows if row.probe == "lookup"]
    assert rows
    assert {row.why_not for row in rows} == {"not a chain: lookups overlap"}
    assert parameters(found) == parameters(explained())


def test_a_run_without_a_chase_says_so() -> None:
    found = explained(plan=world(orders=(2, 9)))
    assert all(row.terms is None for row in found.rows)
    assert {row.why_not for row in found.rows} == {"no chase in L1 in this run"}
    known = {name for name, value in parameters(found).items() if value is not None}
    assert known == {"tlb", "l3 in turns", "memory in turns", "walk in turns"}
    assert {found.parameters[name].source for name in ("load", "l2", "l3", "memory", "misprediction")} == {
        "no cell of this run tells"
    }
    assert (found.inside.cells, found.inside.median_rest, found.inside.worst_rest) == (0, None, None)


def test_a_level_without_a_chase_says_so() -> None:
    plan = summaries.plan_of(
        [
            summaries.group_of(["pointer-select"], order, footprint)
            for order, footprint in (
                (0, 16 * KIB),
                (2, 16 * KIB),
                (0, 256 * KIB),
                (0, 4 * MIB),
                (2, 96 * MIB),
            )
        ]
    )
    found = explained(plan=plan)
    assert cell_of(found, "pointer-select@plain", 2, 16 * KIB).terms is not None
    assert (
        cell_of(found, "pointer-select@plain", 2, 96 * MIB).why_not
        == "no chase in this run tells what memory takes"
    )
    assert parameters(found)["memory"] is None
    assert parameters(found)["l3"] is not None


def test_a_step_is_never_below_zero() -> None:
    """An L3 that seems quicker than L2 takes nothing more, and the others are fitted without it."""

    def quicker(group: Group, cell: Cell, cycles: float) -> float:
        return 18.0 if group.order == 0 and group.footprint_bytes == 4 * MIB else cycles

    found = parameters(explained(changed=quicker))
    assert found["l3"] == 0
    assert all(value is None or value >= 0 for value in found.values())
    # It takes over what the L3 took before.
    assert found["memory"] == pytest.approx(PLANTED.memory + PLANTED.l3, rel=0.05)


@pytest.mark.parametrize("missing", [None, 0.0, -1.0, math.nan])
def test_a_cell_without_a_time_is_left_out(missing: float | None) -> None:
    """As one of which too few samples were valid; what is left is explained as ever."""
    gone = ("mask-select@plain", 2, 256 * KIB)

    def without(group: Group, cell: Cell, cycles: float) -> float | None:
        mine = (str(cell.contender), group.order, group.footprint_bytes) == gone
        return missing if mine else cycles

    found = explained(changed=without)
    assert gone not in {(row.contender, row.order, row.footprint_bytes) for row in found.rows}
    assert parameters(found) == parameters(explained())
    json.loads(msgspec.json.encode(found), parse_constant=lambda text: pytest.fail(text))


def test_what_was_not_simulated_is_not_explained() -> None:
    simulated = simulated_of(PLAN, counts)
    fewer = msgspec.structs.replace(simulated, cells=simulated.cells[:-3])
    rows = rows_of(PLAN, took(PLANTED))
    assert len(explain(PLAN, rows, fewer, summaries.GHZ).rows) == len(rows) - 3
    nothing = explain(PLAN, rows, msgspec.structs.replace(simulated, cells=()), summaries.GHZ)
    assert nothing.rows == ()
    assert nothing.inside.median_rest is None


def test_fewer_levels_and_no_tlb() -> None:
    """A machine without an L3."""
    plan = world(footprints=(16 * KIB, 256 * KIB))
    geometry = msgspec.structs.replace(GEOMETRY, caches=GEOMETRY.caches[:2], tlbs=None)

    def of_two(group: Group, cell: Cell) -> Counts:
        found = counts(group, cell)
        return msgspec.structs.replace(
            found, misses=found.misses[:2], walk_misses=(0.0, 0.0), other_misses=(0.0, 0.0)
        )

    simulated = simulated_of(plan, of_two, geometry=geometry)
    found = explain(plan, rows_of(plan, took(PLANTED)), simulated, summaries.GHZ)
    assert "tlb" not in found.parameters
    assert parameters(found)["l2"] == pytest.approx(PLANTED.l2, abs=1e-3)
    assert all(row.terms is None or row.terms.tlb == 0 for row in found.rows)


def test_a_branch_that_is_foreseen_half_of_the_time_waits_as_often() -> None:
    plan = summaries.plan_of(
        [summaries.group_of(["pointer-branch"], 1), summaries.group_of(["pointer-select"], 0)]
    )
    latencies = dataclasses.replace(PLANTED, misprediction=20.0)

    def model(group: Group, cell: Cell) -> Counts:
        branch = cell.contender.variant == "pointer-branch"
        return counts_of(chain=(7.0, 0.5), wrong=0.25) if branch else counts_of()

    cells = [cell for group in plan.groups for cell in group.cells if cell.role == "contender"]
    times = [7 + 0.75 * 4 + 0.25 * 20, 8.0 + 4]
    rows = [row_of(group, cell, time) for group, cell, time in zip(plan.groups, cells, times, strict=True)]
    found = explain(plan, rows, simulated_of(plan, model), summaries.GHZ)
    assert latencies.load == parameters(found)["load"]
    # Three quarters of its lookups wait for a load: too few to be a chain.
    assert cell_of(found, "pointer-branch@plain", 1, 16 * KIB).why_not.startswith("runs ahead")


def test_what_is_predicted_not_to_wait_misses_nothing() -> None:
    """A quarter are heads, a tenth is taken for heads at random: that many begin the next lookup at once."""
    plan = summaries.plan_of(
        [
            summaries.group_of(["pointer-branch", "pointer-select"], order, footprint)
            for order in (0, 2)
            for footprint in (16 * KIB, 256 * KIB)
        ]
    )
    heads, taken_for = 0.25, 0.1
    wrong = heads * (1 - taken_for) + (1 - heads) * taken_for

    def model(group: Group, cell: Cell) -> Counts:
        found = counts(group, cell)
        if cell.contender.variant == "pointer-branch" and group.order:
            return counts_of(found.misses, (7.0, 1 - heads), wrong)
        return found

    def cycles(group: Group, cell: Cell) -> float:
        found = model(group, cell)
        late = (1 - taken_for) * PLANTED.l2 * found.misses[0]
        if found.chain.loads == 1 - heads:
            return 7.0 + PLANTED.load + wrong * PLANTED.misprediction + late
        return took(PLANTED)(group, cell)

    found = explain(plan, rows_of(plan, cycles), simulated_of(plan, model), summaries.GHZ)
    assert found is not None
    row = cell_of(found, "pointer-branch@plain", 2, 256 * KIB)
    assert row.terms is not None and not row.fitted
    assert row.terms.l2 == pytest.approx(0.9 * 0.875 * PLANTED.l2, abs=1e-3)
    assert row.rest_cycles == pytest.approx(0, abs=2e-3)


def test_nothing_simulated_is_nothing_explained() -> None:
    assert explain(PLAN, rows_of(PLAN, took(PLANTED)), None, summaries.GHZ) is None
