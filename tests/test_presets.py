"""Presets: the runs that are prepared."""

from __future__ import annotations

import pytest
from plans import axes, build

from pagebench.names import PROBES
from pagebench.plan import options, presets
from pagebench.plan.groups import Contender

pytestmark = pytest.mark.usefixtures("enough_mappings")


def test_the_default_run() -> None:
    made = build()
    # 296 cells of plain memmaps, 24 of layouts at order 9, and 32 nulls where there are tails.
    cells = sum(len(group.cells) for group in made.groups)
    assert (cells, len(made.groups), made.processes, made.rounds) == (352, 42, 14, 42)
    assert made.reference == "pointer-branch@plain"
    assert {group.purpose for group in made.groups} == {"compare"}
    assert {g.level for g in made.groups} == {"l1", "l2", "l3", "dram"}


def test_quick_is_a_part_of_the_default_run() -> None:
    made = build(extent="quick")
    assert (len(made.groups), made.processes) == (6, options.DEFAULT_PROCESSES)
    assert axes(made) <= axes(build())
    assert {g.level for g in made.groups} <= {"l1", "l2"}


def test_full_is_more_than_the_default_run() -> None:
    made = build(extent="full")
    assert axes(build()) < axes(made)
    assert {g.probe for g in made.groups} == set(PROBES)


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_presets_are_plans(preset: str) -> None:
    made = build(preset=preset)
    assert made.preset == preset
    named = {str(cell.contender) for group in made.groups for cell in group.cells if cell.role == "contender"}
    assert named <= {str(Contender.parse(text)) for text in presets.PRESETS[preset].contenders}
    assert axes(made) and len(axes(build(preset=preset, probes=("lookup",)))) < len(axes(made))
