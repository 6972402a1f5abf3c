"""Arrangements: arrays at the worst addresses that a memory model allows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from planted_models import SMALL, cases, model_of

from pagebench.errors import PagebenchError
from pagebench.memmap import memmaps, models
from pagebench.memmap.folios import FolioMap


@given(cases())
def test_memmaps_have_the_promised_alignment_and_no_more(case: tuple[int, FolioMap, bool]) -> None:
    promise, folio_map, sectioned = case
    size, pages = folio_map.struct_page_bytes, 1 << SMALL.pfn_section_shift
    with memmaps.place(model_of(promise, sectioned), folio_map, SMALL) as memmap:
        assert memmap.promised_bytes == memmap.obtained_bytes == promise
        end = folio_map.bytes // size
        firsts = np.arange(0, end, pages if sectioned else end)
        addresses = memmap.base + 8 * memmap.page_offsets(firsts).astype(np.int64)
        assert np.all(addresses % (2 * promise) == promise)
        # Sections are apart, and in no order that a lookup could take for one array.
        assert np.all(-np.diff(addresses) > pages * size)
        assert np.all(np.diff(memmap.page_offsets(np.arange(min(pages, end)))) == size // 8)
        assert memmap.folios["head"].tolist() == memmap.page_offsets(folio_map.pfns).tolist()
        assert memmap.folios["order"].tolist() == folio_map.orders.tolist()


def test_a_folio_across_sections_is_refused() -> None:
    model = models.find("sparsemem")
    with memmaps.place(model, FolioMap.uniform(15, 0)) as memmap:
        assert len(memmap.folios) == 1
    with pytest.raises(PagebenchError, match="sparsemem has no folio above order 15 with 4K pages"):
        memmaps.place(model, FolioMap.uniform(16, 0))
    with pytest.raises(PagebenchError, match="did you mean 'sparsemem'"):
        models.find("sparsmem")
