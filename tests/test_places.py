"""Where a cell's memmap is, and what memory that takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import summaries
from hypothesis import HealthCheck, given, settings
from plans import asked_for, build, build_or_none

from pagebench import names
from pagebench.errors import PagebenchError
from pagebench.memmap import folios
from pagebench.plan import places
from pagebench.plan.groups import Cell, Contender, Group, Plan
from pagebench.units import GIB, KIB, MIB

pytestmark = pytest.mark.usefixtures("enough_mappings")

MIXED = tuple(
    Cell(Contender(name, layout, backing), role, encoding)
    for name, layout, backing, role, encoding in (
        ("pointer", "plain", "2m", "contender", 0),
        ("mask", "plain", "4k", "contender", 1),
        ("fakehead", "hvo", "memfd", "contender", 0),
        ("pointer", "plain", "2m", "aa", 0),
    )
)


def test_shared_frames_are_one_memmap_for_all_of_a_layout_and_backing() -> None:
    group = Group(9, 64 * KIB, "random", "chain", "l2", True, MIXED)
    assert places.places_of(group) == [("hvo", "memfd", "0"), ("plain", "2m", "0"), ("plain", "4k", "0")]


def test_otherwise_each_encoding_and_the_aa_copy_have_their_own() -> None:
    group = Group(9, 64 * KIB, "random", "chain", "l2", False, MIXED)
    assert places.places_of(group) == [
        ("hvo", "memfd", "0"),
        ("plain", "2m", "0"),
        ("plain", "2m", "aa"),
        ("plain", "4k", "1"),
    ]


def test_regions_are_as_large_as_the_largest_memmap_and_none_is_of_a_memfd() -> None:
    groups_ = [
        Group(2, 5000, "random", "chain", "l1", True, MIXED),
        Group(9, 96 * KIB, "random", "chain", "l2", False, MIXED),
        Group(2, 9000, "random", "chain", "l1", True, MIXED),
        Group(2, 5000, "random", "chain", "l1", True, MIXED),
    ]
    made = summaries.plan_of(groups_)
    assert places.region_sizes(made) == {
        ("plain", "2m", "0"): 2 * MIB,
        ("plain", "4k", "0"): 3 * 4096,
        ("plain", "2m", "aa"): 2 * MIB,
        ("plain", "4k", "1"): 96 * KIB,
    }
    modelled = dataclasses.replace(made, memory_model="sparsemem")
    assert places.region_sizes(modelled) == {}  # placed by its model, group by group


def test_frames_and_mappings_of_a_memfd_are_counted() -> None:
    group = Group(9, 96 * KIB, "random", "chain", "l2", True, MIXED)
    made = summaries.plan_of([group])
    folios, pages = 3, 8
    assert places.mapped_frames(made, group) == (folios, folios * pages)
    plain = Group(9, 96 * KIB, "random", "chain", "l2", True, MIXED[:2])
    assert places.mapped_frames(made, plain) == (0, 0)


@pytest.mark.parametrize("pattern", ["random", "slab"])
def test_the_memmap_of_a_group(pattern: str, tiny: Callable[..., Plan]) -> None:
    made = tiny(orders=(3,), patterns=(pattern,), footprints=("40K",))
    group = made.groups[0]
    assert places.memmap_bytes(made, group) == places.folio_map(made, group).bytes == 40 * KIB
    assert folios.reserved_bytes(40 * KIB, "2m") == places.region_sizes(made)["plain", "2m", "0"]


@settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(asked_for)
@pytest.mark.slow
def test_regions_hold_every_memmap(asked: dict[str, object]) -> None:
    made = build_or_none(asked)
    if not made or made.memory_model:
        return
    sizes = places.region_sizes(made)
    every = {place for group in made.groups for place in places.places_of(group)}
    assert set(sizes) == {place for place in every if place.backing != "memfd"}
    for group in made.groups:
        needed = places.folio_map(made, group).bytes
        assert places.memmap_bytes(made, group) == needed
        for place in places.places_of(group):
            if place.backing != "memfd":
                assert sizes[place] >= needed
                assert sizes[place] % names.BACKINGS[place.backing].page_bytes == 0


def test_memory_is_counted_for_every_memmap_and_the_worker_itself() -> None:
    asked = {"orders": (2,), "footprints": ("1G",), "probes": ("lookup",), "contenders": ("pointer", "mask")}
    memmaps = sum(places.region_sizes(build(**asked)).values())
    assert memmaps == 4 * GIB  # two encodings, the A/A copy and the null between encodings
    with pytest.raises(PagebenchError):
        build(memmaps + GIB // 2, **asked)
    build(memmaps + 2 * GIB, **asked)
