"""Nothing is timed that was not verified: right heads are found right, wrong ones wrong."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import Placement
from groups_of_variants import every, group_of

from pagebench import core, names
from pagebench.errors import PagebenchError
from pagebench.measure.verification import expected_addresses
from pagebench.memmap.folios import FolioMap
from pagebench.memmap.memmaps import PlainMemmap
from pagebench.plan.groups import Contender
from pagebench.units import KIB

Place = Callable[..., Placement]
ORDERS = (0, 1, 2, 3, 5, 6, 7, 9, 12)
SIZES = (56, 64, 96)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("order", ORDERS)
def test_every_variant_finds_every_head(place: Place, order: int, size: int, shared: bool) -> None:
    placement = place(group_of(every(), order, size, shared), size)
    placement.verify()
    found = placement.folio_map
    for p in placement.loops:
        placement.memmaps.encode([p])
        pfns = found.page_pfns[:: max(1, len(found.page_pfns) // 97)]
        heads = pfns if p.variant.name == names.IDENTITY else pfns >> order << order
        expected = p.base + heads * size
        assert expected_addresses(placement.folio_map, p, "lookup", pfns).tolist() == expected.tolist()
        for pfn, head in zip(pfns[:5], expected, strict=False):
            at = np.array([pfn * size // 8], np.uint32)
            base, offsets = core.ffi.cast("void *", p.base), core.ffi.from_buffer("uint32_t[]", at)
            run = core.ffi.cast("pb_probe_fn *", p.variant.probes["lookup"].run)
            assert int(core.ffi.cast("uintptr_t", run(base, offsets, 1))) == head


@pytest.mark.parametrize("probe", names.PROBES)
@pytest.mark.parametrize("order", [0, 3, 9])
def test_every_probe_does_what_its_model_says(place: Place, probe: str, order: int) -> None:
    if core.built_in_variants()[names.IDENTITY].probes[probe].writes_tails and order == 0:
        pytest.skip("base pages have no tails to write")
    for size in SIZES:
        place(group_of(every(), order, size, probe=probe), size).verify()


# The variants that each layout was made for; all others find wrong heads there.
RIGHT_OVER: dict[str, Callable[[core.Variant], bool]] = {
    "hvo": lambda variant: variant.fixes_fake_heads,
    "hvo-shared": lambda variant: variant.encoding in ("mask", "null"),
}


@pytest.mark.parametrize("layout", RIGHT_OVER)
def test_layouts_are_judged_by_lookups(place: Place, layout: str) -> None:
    assert names.LAYOUTS[layout].exists_at(9, 64)
    found = set()
    looking = {n: v for n, v in core.built_in_variants().items() if n != names.IDENTITY}
    for name in looking:
        placement = place(group_of([Contender(name, layout, "memfd")], 9, footprint=128 * KIB))
        try:
            placement.verify()
            found.add(name)
        except PagebenchError as error:
            assert re.search(
                rf"^{name}@{layout} finds wrong heads \(lookup, order 9, 128K, random\): ", str(error)
            )
    assert found == {name for name, variant in looking.items() if RIGHT_OVER[layout](variant)}
    assert 0 < len(found) < len(looking)


def wrong(placement: Placement) -> re.Match[str]:
    with pytest.raises(PagebenchError) as raised:
        placement.verify()
    match = re.fullmatch(
        r"(?P<contender>\S+) finds wrong heads \((?P<title>.*)\): (?P<wrong>\d+) of (?P<of>\d+) pfns, "
        r"the first pfn (?P<pfn>\d+): got (?P<got>pfn \d+|[+-]\d+ bytes from the memmap), "
        r"expected pfn (?P<expected>\d+); it was not timed",
        str(raised.value),
    )
    assert match, str(raised.value)
    return match


def test_a_pointer_in_a_memmap_of_masks_is_found_wrong(place: Place) -> None:
    mask, pointer = Contender("mask", backing="4k"), Contender("pointer", backing="4k")
    group = group_of([mask, pointer], 2, footprint=4 * KIB)
    lie = tuple(dataclasses.replace(cell, tail_words=0) for cell in group.cells)
    match = wrong(place(dataclasses.replace(group, cells=lie)))
    assert (match["contender"], match["title"]) == ("pointer@plain:4k", "lookup, order 2, 4K, random")
    assert (match["wrong"], match["of"]) == ("48", "64")  # all tails of sixteen folios
    assert (match["pfn"], match["expected"]) == ("1", "0")
    assert match["got"].endswith("bytes from the memmap")


def test_a_mask_reads_the_pointers_of_an_aligned_folio_right(place: Place) -> None:
    """page & (head + 1) is head: what lookups cannot tell apart, the encoding's number has to."""
    pointer, mask = Contender("pointer", backing="4k"), Contender("mask", backing="4k")
    group = group_of([pointer, mask], 2, footprint=4 * KIB)
    lie = tuple(dataclasses.replace(cell, tail_words=0) for cell in group.cells)
    place(dataclasses.replace(group, cells=lie)).verify()


def test_a_memmap_of_another_order_is_found_wrong_and_both_pfns_are_named(place: Place) -> None:
    placement = place(group_of([Contender("pointer", backing="4k")], 2, footprint=4 * KIB))
    for p in placement.loops:
        placement.memmaps.encode([p])
        core.populate(p.variant, p.base, FolioMap.uniform(3, 4 * KIB).folios)
    match = wrong(placement)
    assert (match["pfn"], match["got"], match["expected"]) == ("4", "pfn 0", "4")
    assert (match["wrong"], match["of"]) == ("32", "64")


@pytest.mark.parametrize("name", ["mask", "mask-select", "branchless"])
def test_a_mask_in_a_memmap_off_its_alignment_is_found_wrong(place: Place, name: str) -> None:
    group = group_of([Contender(name, backing="4k")], 9)
    placement = place(group)
    good = placement.folio_map
    with core.Reservation(good.bytes + 4096, 64 * KIB, "4k") as memory:
        shifted = PlainMemmap(memory.base + 4096, good)
        p = dataclasses.replace(placement.loops[0], base=shifted.base)
        shifted.write(p.variant, True)
        placement.memmaps._encoded[p.base] = p.cell.tail_words
        match = wrong(dataclasses.replace(placement, loops=[p, p]))
    assert (match["pfn"], match["got"], match["expected"]) == ("1", "-4096 bytes from the memmap", "0")


def test_a_pointer_does_not_care_for_alignment(place: Place) -> None:
    placement = place(group_of([Contender("pointer", backing="4k")], 9))
    with core.Reservation(placement.folio_map.bytes + 4096, 64 * KIB, "4k") as memory:
        shifted = PlainMemmap(memory.base + 4096, placement.folio_map)
        p = dataclasses.replace(placement.loops[0], base=shifted.base)
        shifted.write(p.variant, True)
        placement.memmaps._encoded[p.base] = p.cell.tail_words
        dataclasses.replace(placement, loops=[p, p]).verify()


@pytest.mark.parametrize("change, what", [({"adds_refs": 1}, "_refcount"), ({"adds_maps": -1}, "_mapcount")])
def test_a_probe_that_leaves_wrong_counts_is_found(place: Place, change: dict[str, Any], what: str) -> None:
    placement = place(group_of([Contender("pointer", backing="4k")], 3, probe="get", footprint=4 * KIB))
    for i, loop in enumerate(placement.loops):
        probes = {**loop.variant.probes, "get": dataclasses.replace(loop.variant.probes["get"], **change)}
        placement.loops[i] = dataclasses.replace(
            loop, variant=dataclasses.replace(loop.variant, probes=probes)
        )
    with pytest.raises(PagebenchError, match=rf"leaves a wrong {what} .*pfn 0 changed by 0, expected -?8"):
        placement.verify()


def test_a_probe_that_returns_another_page_is_found(place: Place) -> None:
    placement = place(group_of([Contender("pointer", backing="4k")], 2, footprint=4 * KIB))
    identity = core.built_in_variants()["identity"].probes["lookup"].run
    runs = np.array([identity], np.uint64)
    spoilt = [dataclasses.replace(p, runs=runs) for p in placement.loops]
    match = wrong(dataclasses.replace(placement, loops=spoilt))
    assert (match["pfn"], match["got"], match["expected"]) == ("1", "pfn 1", "0")
