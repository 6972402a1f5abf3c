"""Which pages a simulation looks up: enough to fill the caches, and of each as often as in life."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pagebench import names
from pagebench.cache.lookups import COUNTED, FEWEST, WARM, Lookups
from pagebench.measure.windows import Windows
from pagebench.names import LINE_BYTES
from pagebench.plan import groups, places
from pagebench.results.simulated import Cache, Geometry
from pagebench.units import KIB, MIB

Build = Callable[..., groups.Plan]
Draw = Callable[..., Lookups]
PLAIN, SHARED = names.PLAIN, "hvo-shared"
# What offsets count.
WORD = 8


def geometry(last_bytes: int) -> Geometry:
    return Geometry(
        name="small", source="a test", caches=(Cache(8, 8), Cache(last_bytes // LINE_BYTES // 16, 16))
    )


@pytest.fixture
def draw(tiny: Build) -> Draw:
    def drawn(footprint: str, last_bytes: int, turns: int = 1, **changes: Any) -> Lookups:
        asked = {"contenders": ("mask-select",), "orders": (9,), "probes": ("chain",), **changes}
        plan = tiny(groups.Levels(4 * KIB, 16 * KIB, last_bytes), **asked, footprints=(footprint,))
        (group,) = (one for one in plan.groups if one.purpose == "compare")
        layouts = {cell.contender.layout for cell in group.cells if cell.role == "contender"}
        rng = np.random.default_rng(3)
        drawn.folio_map = places.folio_map(plan, group)
        return Lookups.draw(group, drawn.folio_map, layouts, geometry(last_bytes), turns, rng)

    return drawn


def lines_of(draw: Draw, offsets: np.ndarray, layout: str) -> int:
    """How many physical lines are touched."""
    found = draw.folio_map
    pfns = np.sort(offsets.astype(np.int64)) * WORD // found.struct_page_bytes
    return Windows(found, pfns, np.random.default_rng()).touched_bytes(False, layout) // LINE_BYTES


def test_what_fits_is_looked_up_once_each_and_then_as_it_comes(draw: Draw) -> None:
    found = draw("64K", 128 * KIB)
    first, behind = found.warm[PLAIN]
    assert len(np.unique(first)) == len(first) == 64 * KIB // LINE_BYTES
    assert (len(behind), len(found.counted)) == (WARM, COUNTED)


@pytest.mark.parametrize("layout", [PLAIN, SHARED])
def test_what_does_not_fit_fills_the_caches_first(layout: str, draw: Draw) -> None:
    """hvo-shared's lines are as good as all heads', though of its lookups few go there."""
    footprint, last_bytes = ("1M", 128 * KIB) if layout == PLAIN else ("64M", 256 * KIB)
    found = draw(footprint, last_bytes, contenders=(f"mask-select@{layout}",))
    (warm,) = found.warm[layout]
    assert len(warm) > WARM
    assert lines_of(draw, warm, layout) >= last_bytes // LINE_BYTES


def test_layouts_of_a_group_have_what_is_counted_in_common(draw: Draw) -> None:
    found = draw("1M", 128 * KIB, contenders=("mask-select@plain", "mask-select@hvo-shared"))
    assert found.warm.keys() == {PLAIN, SHARED}
    for warm in found.warm.values():
        assert np.shares_memory(warm[-1], found.every)
        # Right before: nothing is left out.
        behind = warm[-1].__array_interface__["data"][0] + warm[-1].nbytes
        assert behind == found.counted.__array_interface__["data"][0]
    # Of as many lines seven of eight lookups go to the shared ones.
    assert len(found.warm[SHARED][-1]) > 3 * len(found.warm[PLAIN][-1])


def test_passes_go_on_where_they_were(draw: Draw) -> None:
    found = draw("1M", 128 * KIB, patterns=("scan",), orders=(0,))
    (warm,) = found.warm[PLAIN]
    steps = np.diff(np.concatenate([warm, found.counted]).astype(np.int64)) * WORD
    assert set(steps[steps > 0].tolist()) == {draw.folio_map.struct_page_bytes}
    assert lines_of(draw, warm, PLAIN) >= 128 * KIB // LINE_BYTES


def test_a_probe_that_does_much_is_counted_less_often(draw: Draw) -> None:
    assert len(draw("64K", 128 * KIB, turns=4).counted) == COUNTED // 4
    assert len(draw("64K", 128 * KIB, turns=1 << 20).counted) == FEWEST


def test_heads_are_those_that_are_counted(draw: Draw) -> None:
    assert draw("64K", 128 * KIB, orders=(0,)).heads_share == 1.0
    assert draw("64K", 128 * KIB, orders=(2,)).heads_share == pytest.approx(0.25, abs=0.01)


def test_the_smallest_footprint_larger_than_all_caches(draw: Draw) -> None:
    """A page too many is no division by zero."""
    found = draw("132K", 128 * KIB, orders=(0,))
    assert WARM < len(found.warm[PLAIN][-1]) < 4 * MIB
