"""Memmaps in memory: as badly aligned as their model allows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from planted_folios import folio_map_of
from planted_models import SMALL, cases, model_of

from pagebench import core
from pagebench.errors import PagebenchError
from pagebench.host import resources
from pagebench.memmap import memmaps, models
from pagebench.memmap.folios import FolioMap
from pagebench.variants import registry


def looked_up(memmap: memmaps.ModelMemmap, variant: core.Variant) -> int:
    """Wrong lookups, over the offsets that a run would use."""
    folio_map = memmap.folio_map
    pages, heads = (
        memmap.page_offsets(folio_map.page_pfns),
        memmap.page_offsets(folio_map.page_heads),
    )
    return core.verify(variant.probes["lookup"].run, memmap.base, pages, heads).wrong


def wrong_by_brute_force(memmap: memmaps.ModelMemmap) -> int:
    """The tails whose address, masked, is not their head's."""
    folio_map = memmap.folio_map
    if folio_map.struct_page_bytes & (folio_map.struct_page_bytes - 1):
        return 0
    pairs: Iterator[tuple[int, int]] = zip(folio_map.page_pfns, folio_map.page_heads, strict=True)
    orders = dict(zip(map(int, folio_map.pfns), map(int, folio_map.orders), strict=True))
    wrong = 0
    for pfn, head in pairs:
        page, expected = (memmap.base + 8 * int(memmap.page_offsets(np.array([at]))[0]) for at in (pfn, head))
        mask = ~((folio_map.struct_page_bytes << orders[int(head)]) - 1)
        wrong += pfn != head and page & mask != expected
    return wrong


@given(cases())
@example((64, folio_map_of(64, [(0, 0)]), False))
@example((64, folio_map_of(64, [(0, 1)]), False))
@example((4096, folio_map_of(64, [(0, 4), (16, 4), (32, 4)]), True))
def test_wrong_lookups_are_those_of_brute_force(case: tuple[int, FolioMap, bool]) -> None:
    promise, folio_map, sectioned = case
    variant = registry.find("mask", folio_map.struct_page_bytes)
    with memmaps.place(model_of(promise, sectioned), folio_map, SMALL) as memmap:
        memmap.write(variant, True)
        assert looked_up(memmap, variant) == wrong_by_brute_force(memmap)


@given(st.integers(6, 16), st.integers(0, 12))
def test_the_mask_is_safe_exactly_up_to_the_promise(promise: int, order: int) -> None:
    folio_map = FolioMap.uniform(order, 3 * 64 << order)
    with memmaps.place(model_of(1 << promise), folio_map) as memmap:
        for name in ("mask", "branchless"):
            variant = registry.find(name)
            memmap.write(variant, True)
            wrong = looked_up(memmap, variant)
            assert (wrong == 0) == (64 << order <= 1 << promise or order == 0)
            assert wrong in (0, 3 * ((1 << order) - 1))


def test_memory_is_backed_as_asked_and_only_as_written() -> None:
    folio_map = FolioMap.uniform(9, 4 << 20)
    with memmaps.place(models.find("vmemmap"), folio_map, backing="4k") as memmap:
        assert resources.backing_obtained(memmap.base, folio_map.bytes) == {"4k": 0, "2m": 0}
        memmap.write(registry.find("pointer"), True)
        assert resources.backing_obtained(memmap.base, folio_map.bytes) == {"4k": folio_map.bytes, "2m": 0}
    memmap.close()


def test_a_memmap_beyond_offsets_or_addresses_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PagebenchError, match="beyond 32G"):
        memmaps.place(model_of(1 << 34, True), folio_map_of(64, [(0, 0), (16, 0)]), SMALL)

    def none(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(memmaps.mmap, "mmap", none)
    with pytest.raises(PagebenchError, match=r"vmemmap needs 2\.0G of address space"):
        memmaps.place(models.find("vmemmap"), FolioMap.uniform(0, 4096))
