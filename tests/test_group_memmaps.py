"""The memory under a group's contenders: shared and re-encoded, or each encoding's own."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from conftest import Placement
from groups_of_variants import every, group_of

from pagebench import core
from pagebench.plan import places
from pagebench.plan.groups import Contender
from pagebench.units import KIB

Place = Callable[..., Placement]


def test_shared_frames_are_re_encoded_in_turn(place: Place) -> None:
    placement = place(group_of(every(), 2))
    assert len({p.base for p in placement.loops}) == 1
    pointer, mask = (
        next(p for p in placement.loops if p.variant.name == name) for name in ("pointer", "mask")
    )
    fakehead = next(p for p in placement.loops if p.variant.name == "fakehead")
    assert placement.memmaps.encode([pointer, fakehead]) == [pointer]
    assert placement.memmaps.encode([pointer]) == []
    before = core.view(pointer.base, 4 * KIB).copy()
    assert placement.memmaps.encode([mask]) == [mask]
    words = (core.view(pointer.base, 4 * KIB) != before).reshape(-1, 64)
    assert set(np.flatnonzero(words.any(axis=0))) <= set(range(8, 16))  # the words of tails and nothing else
    assert set(np.flatnonzero(words.any(axis=1)) % 4) == {1, 2, 3}
    placement.memmaps.encode([pointer])
    assert np.array_equal(core.view(pointer.base, 4 * KIB), before)


def test_after_forgetting_whole_pages_are_written_again(place: Place) -> None:
    placement = place(group_of([Contender("pointer", backing="4k")], 2))
    (p, _) = placement.loops
    placement.memmaps.encode([p])
    before = core.view(p.base, 4 * KIB).copy()
    core.view(p.base, 4 * KIB)[:] = 0xA5
    assert placement.memmaps.encode([p]) == []
    placement.memmaps.forget()
    assert placement.memmaps.encode([p]) == [p]
    assert np.array_equal(core.view(p.base, 4 * KIB), before)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("order", [2, 9])
def test_frames_of_their_own_are_aligned_apart_and_inside_their_regions(
    place: Place, order: int, seed: int
) -> None:
    contenders = [
        Contender(name, backing=backing) for backing in ("4k", "2m") for name in ("pointer", "mask")
    ]
    group = group_of(contenders, order, shared=False, footprint=40 * KIB)
    placement = place(group, seed=seed)
    size = placement.folio_map.bytes
    ranges = {}
    for p in placement.loops:
        at = places.place_of(p.cell, False)
        assert p.base % placement.folio_map.alignment == 0
        ranges[at] = (p.base, p.base + size)
        inside = [
            region
            for place, region in placement.regions.items()
            if region.base <= p.base
            and p.base + size <= region.base + region.size
            and place.backing == at.backing
        ]
        assert len(inside) == 1
        # The region whose backing is reported.
        assert placement.regions[placement.memmaps.regions[at]] == inside[0]
    assert set(ranges) == set(places.places_of(group))
    spans = sorted(ranges.values())
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    placement.verify()


def test_the_place_of_a_memmap_is_drawn(place: Place) -> None:
    group = group_of([Contender("pointer"), Contender("mask")], 2, shared=False)
    bases = {place(group, seed=seed).loops[0].base % (2 << 20) for seed in range(8)}
    assert len(bases) > 4
