"""Caches in pictures: what is drawn, and that it is what was simulated."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from planted_counts import behaviour, counts, counts_of, world

from pagebench.plan.groups import Cell, Group
from pagebench.report import cache_figures
from pagebench.report.cache import Behaviour, per_lookup
from pagebench.results.simulated import Counts
from pagebench.units import KIB, MIB


def heads(orders: tuple[int, ...] = (0, 9)) -> Behaviour:
    """Heads alone, of which the farther apart collide."""
    plan = world(orders=orders)
    plan = dataclasses.replace(
        plan, groups=tuple(dataclasses.replace(group, pattern="heads") for group in plan.groups)
    )

    def model(group: Group, cell: Cell) -> Counts:
        return counts_of((1.0, 0.25, 0.0) if group.order else (0.125, 0.0, 0.0))

    return behaviour(plan, model)


def test_misses_are_drawn_cell_by_cell() -> None:
    the = behaviour(world())
    drawn = cache_figures.figures(the)
    assert list(drawn) == ["misses-chain-random"]
    figure = drawn["misses-chain-random"]
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["misses of L1", "misses of L2", "misses of L3", "page walks"]
    group = next(group for group in the.plan.groups if (group.order, group.footprint_bytes) == (9, 4 * MIB))
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    for axes, level in zip(figure.axes[:3], range(3), strict=True):
        sizes = [label.get_text() for label in axes.get_xticklabels()]
        assert sizes == ["16K", "256K", "4M", "96M"]
        texts = {text.get_position(): text.get_text() for text in axes.texts}
        assert len(texts) == 4 * len(names) == 16
        expected = per_lookup(counts(group, group.cells[0]).misses[level])
        assert texts[sizes.index("4M"), names.index("pointer-select")] == expected


def test_what_has_nothing_to_show_has_no_panel() -> None:
    figure = cache_figures.figures(behaviour(world(footprints=(16 * KIB, 256 * KIB))))["misses-chain-random"]
    assert [axes.get_title() for axes in figure.axes] == ["misses of L1"]


def test_heads_are_drawn_by_order() -> None:
    figure = cache_figures.figures(heads())["misses-chain-heads"]
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["order 0", "order 9"]
    shown = {text.get_text() for text in figure.axes[0].texts}
    assert shown == {"1.00", ".125"}


def test_one_footprint_is_no_map() -> None:
    assert cache_figures.figures(behaviour(world(footprints=(16 * KIB,)))) == {}
    assert cache_figures.explained_figures(None, None) == {}


def test_times_are_drawn_beside_what_explains_them() -> None:
    the = behaviour(world(probes=("chain", "lookup")), explanation=True)
    assert the.explanation is not None
    drawn = cache_figures.figures(the)
    assert list(drawn) == ["explained-chain-random"]
    panels = drawn["explained-chain-random"].axes
    assert [axes.get_title() for axes in panels] == ["16K", "256K"]  # up to L2
    for axes, footprint in zip(panels, (16 * KIB, 256 * KIB), strict=True):
        rows = [
            row
            for row in the.explanation.rows
            if row.footprint_bytes == footprint and row.probe == "chain" and row.terms is not None
        ]
        ends: dict[float, float] = {}
        for bar in axes.patches:
            y = round(bar.get_y() + bar.get_height() / 2, 6)
            ends[y] = max(ends.get(y, 0.0), bar.get_x() + bar.get_width())
        assert len(ends) == len(rows) == len(axes.lines)
        measured = sorted(row.measured_cycles / the.explanation.ghz for row in rows)
        # Planted times are explained whole: every bar ends at its mark.
        assert sorted(ends.values()) == pytest.approx(measured, abs=1e-2)


def test_files_are_left(tmp_path: Path) -> None:
    written = cache_figures.save(heads(), tmp_path / "new", "cache")
    assert {path.suffix for path in written} == {".png", ".svg"}
    assert all(path.name.startswith("cache-misses-chain-heads") and path.stat().st_size for path in written)
