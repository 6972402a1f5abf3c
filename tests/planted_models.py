"""Memory models with a promise of the test's own, and folios to lay out by them."""

from __future__ import annotations

from hypothesis import strategies as st
from planted_folios import folio_map_of

from pagebench import names
from pagebench.memmap.folios import FolioMap
from pagebench.memmap.models import BASE_PAGES, BasePage, Model

FOUR_K, SIXTEEN_K, SIXTY_FOUR_K = BASE_PAGES
# A small section, so that many of them take little memory: 16 pages.
SMALL = BasePage(4096, 16)


def model_of(promise: int, sectioned: bool = False) -> Model:
    return Model("planted", "a test", lambda page, size: promise, sectioned)


def folio_maps(draw: st.DrawFn, struct_page_bytes: int, largest: int) -> FolioMap:
    """Folios of mixed orders one after another, each at a multiple of its pages, with holes."""
    folios, pfn = [], 0
    for order in draw(st.lists(st.integers(0, largest), min_size=1, max_size=12)):
        pfn = -(-pfn // (1 << order)) << order
        folios.append((pfn, order))
        pfn += 1 << order
    return folio_map_of(struct_page_bytes, folios)


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, FolioMap, bool]:
    size = draw(st.sampled_from(names.BUILT_IN_STRUCT_PAGES))
    sectioned = draw(st.booleans())
    promise = 1 << draw(st.integers(3 if size == 56 else 5 if size == 96 else 6, 16))
    return promise, folio_maps(draw, size, SMALL.pfn_section_shift if sectioned else 9), sectioned
