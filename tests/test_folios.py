from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_folios import folio_map_of

from pagebench import core, names
from pagebench.errors import PagebenchError
from pagebench.memmap import folios
from pagebench.memmap.folios import FolioMap
from pagebench.names import MAX_FOLIO_ORDER
from pagebench.units import GIB, MIB

SIZES = (56, 64, 96)


@st.composite
def layouts(draw: st.DrawFn) -> list[tuple[int, int]]:
    """(head pfn, order) pairs: ascending, naturally aligned, with holes."""
    folios, free = [], 0
    for order, gap in draw(
        st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5)), min_size=1, max_size=12)
    ):
        head = (-(-free >> order) + gap) << order
        folios.append((head, order))
        free = head + (1 << order)
    return folios


@given(layouts(), st.sampled_from(SIZES))
def test_pages_and_heads_are_those_of_the_folios(folios: list[tuple[int, int]], size: int) -> None:
    folio_map = folio_map_of(size, folios)
    expected = [(pfn, head) for head, order in folios for pfn in range(head, head + (1 << order))]
    assert list(zip(folio_map.page_pfns, folio_map.page_heads, strict=True)) == expected
    assert np.array_equal(folio_map.heads_of(folio_map.page_pfns), folio_map.page_heads)
    backwards = folio_map.page_pfns[::-1]
    assert np.array_equal(folio_map.heads_of(backwards), folio_map.page_heads[::-1])


@given(layouts(), st.sampled_from(SIZES))
def test_the_core_is_told_where_each_head_is(folios: list[tuple[int, int]], size: int) -> None:
    folio_map = folio_map_of(size, folios)
    assert folio_map.folios.dtype == core.FOLIO_DTYPE
    assert [(int(f["head"]) * core.OFFSET_UNIT, f["order"]) for f in folio_map.folios] == [
        (head * size, order) for head, order in folios
    ]
    assert np.array_equal(folio_map.page_offsets, folio_map.page_pfns * size // core.OFFSET_UNIT)
    assert np.array_equal(folio_map.head_offsets, folio_map.page_heads * size // core.OFFSET_UNIT)
    assert folio_map.head_offsets.dtype == np.uint32
    last, order = folios[-1]
    assert folio_map.bytes == (last + (1 << order)) * size


@given(layouts(), st.sampled_from(SIZES))
def test_aligned_to_what_a_mask_needs(folios: list[tuple[int, int]], size: int) -> None:
    alignment = folio_map_of(size, folios).alignment
    assert alignment % names.PAGE_SIZE == 0
    if size == 64:  # wherever an aligned memmap starts, a mask finds each folio's head
        for head, order in folios:
            assert (alignment + head * size) % (size << order) == 0
    else:
        assert alignment == names.PAGE_SIZE


@given(layouts(), st.data())
def test_a_folio_off_its_natural_alignment_is_refused(
    folios: list[tuple[int, int]], data: st.DataObject
) -> None:
    tall = [i for i, (_, order) in enumerate(folios) if order > 0]
    if not tall:
        return
    i = data.draw(st.sampled_from(tall))
    head, order = folios[i]
    folios[i] = head + data.draw(st.integers(1, (1 << order) - 1)), order
    with pytest.raises(PagebenchError, match="multiple of its number of pages"):
        folio_map_of(64, folios)


@pytest.mark.parametrize(
    "folios, why",
    [
        ([], "at least one folio"),
        ([(0, -1)], "from 0 to 22"),
        ([(0, MAX_FOLIO_ORDER + 1)], "from 0 to 22"),
        ([(-4, 2)], "pfns go from 0"),
        ([(0, 2), (2, 0)], "not overlap"),
        ([(0, 2), (0, 2)], "not overlap"),
        ([(4, 2), (0, 2)], "ascend"),
        ([(0, 0), (1 << 29, 0)], "beyond 32G"),
        ([(1 << 58, 0)], "beyond 32G"),
    ],
)
def test_what_is_no_memmap_is_refused(folios: list[tuple[int, int]], why: str) -> None:
    with pytest.raises(PagebenchError, match=why):
        folio_map_of(64, folios)


def test_the_last_page_that_offsets_reach_is_taken() -> None:
    pfns = (folios.MAX_BYTES // 64) - 1
    folio_map = folio_map_of(64, [(pfns, 0)])
    assert folio_map.bytes == folios.MAX_BYTES
    assert int(folio_map.folios["head"][0]) * core.OFFSET_UNIT == pfns * 64


def test_what_hvo_treats_is_said_once_or_for_each_folio() -> None:
    assert folio_map_of(64, [(0, 2), (4, 2)]).optimised.tolist() == [True, True]
    assert folio_map_of(64, [(0, 2), (4, 2)], [False]).optimised.tolist() == [False, False]
    assert folio_map_of(64, [(0, 2), (4, 2)], [False, True]).optimised.tolist() == [False, True]
    with pytest.raises(ValueError):
        folio_map_of(64, [(0, 2), (4, 2)], [True] * 3)


def test_an_arrangement_says_where_struct_pages_are() -> None:
    folio_map = dataclasses.replace(
        FolioMap.uniform(2, 1024), arrangement=lambda pfns: (1000 + 16 * pfns).astype(np.uint32)
    )
    assert folio_map.folios["head"].tolist() == [1000 + 64 * i for i in range(4)]
    assert folio_map.page_offsets.tolist() == [1000 + 16 * i for i in range(16)]
    assert folio_map.head_offsets[:5].tolist() == [1000] * 4 + [1064]


@given(st.integers(0, 12), st.integers(1, 4 * MIB), st.sampled_from(SIZES))
def test_uniform_holds_as_many_folios_as_fit_and_one_at_least(order: int, footprint: int, size: int) -> None:
    folio_map = FolioMap.uniform(order, footprint, size)
    folio = size << order
    assert set(folio_map.orders) == {order}
    assert folio_map.bytes == len(folio_map.pfns) * folio == folios.uniform_bytes(order, footprint, size)
    assert len(folio_map.pfns) == 1 or folio_map.bytes <= footprint
    assert folio_map.bytes + folio > footprint


@pytest.mark.parametrize("order", [0, 2, MAX_FOLIO_ORDER])
def test_uniform_beyond_reach_is_refused_before_it_is_made(order: int) -> None:
    with pytest.raises(PagebenchError, match=r"a memmap of .*G is beyond 32G"):
        FolioMap.uniform(order, 10**30)


@given(st.integers(1, 1 << 40), st.sampled_from(sorted(names.BACKINGS)))
def test_reserved_is_the_fewest_whole_pages_of_the_backing(needed: int, backing: str) -> None:
    page = names.BACKINGS[backing].page_bytes
    reserved = folios.reserved_bytes(needed, backing)
    assert reserved % page == 0
    assert needed <= reserved < needed + page


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_more_than_is_free_is_refused(needed: int, available: int) -> None:
    folios.check_fits(needed, None)
    if needed <= available:
        folios.check_fits(needed, available)
    else:
        with pytest.raises(PagebenchError):
            folios.check_fits(needed, available)


def test_the_refusal_says_both_numbers_and_what_to_do() -> None:
    with pytest.raises(PagebenchError, match=re.escape("need 12G and 1.5G of memory are free")) as raised:
        folios.check_fits(12 * GIB, GIB * 3 // 2)
    assert "choose smaller" in str(raised.value)
