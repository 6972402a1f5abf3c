"""Captured folios as a memmap: aligned as they were, with holes, and looked up like any other."""

from __future__ import annotations

import platform

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_captures import HERE, aligned, capture_of

from pagebench import core
from pagebench.errors import PagebenchError
from pagebench.host import captures
from pagebench.host.captures import ABSENT, KINDS, Capture
from pagebench.memmap import layouts
from pagebench.memmap.captured import captured_folios
from pagebench.variants import registry

SOME = [("anon", 0, 4), ("large", 2, 1), ("hugetlb", 3, 1), ("nopage", 0, 8), ("slab", 1, 2), ("buddy", 0, 4)]


def test_pfns_are_rebased_and_kinds_kept() -> None:
    found = captured_folios(capture_of(SOME, 8))
    assert (found.base_pfn, found.pages) == (8, 32)
    assert found.folio_map.pfns.tolist() == [0, 1, 2, 3, 4, 8, 24, 26, 28, 29, 30, 31]
    assert found.folio_map.orders.tolist() == [0, 0, 0, 0, 2, 3, 1, 1, 0, 0, 0, 0]
    assert [KINDS[kind] for kind in found.kinds] == [
        *["anon"] * 4,
        "large",
        "hugetlb",
        *["slab"] * 2,
        *["buddy"] * 4,
    ]
    assert np.flatnonzero(found.folio_map.optimised).tolist() == [5]
    assert found.pages_of("slab", "large").tolist() == [4, 5, 6, 7, 24, 25, 26, 27]


def test_a_window_has_whole_folios_only() -> None:
    found = captured_folios(capture_of(SOME, 8), pages=16, start=8)
    assert found.folio_map.pfns.tolist() == [0, 1, 2, 3, 4, 8]
    found = captured_folios(capture_of(SOME, 8), pages=10, start=30)
    assert (found.base_pfn, found.pages) == (24, 10)
    assert found.folio_map.pfns.tolist() == [8]
    assert found.kinds.tolist() == [KINDS.index("slab")]


def folios_of(capture: Capture) -> list[tuple[int, int, int]]:
    """(head pfn, order, kind) of all that have struct pages."""
    found, at = [], capture.first
    for kind, order, count in capture.runs.tolist():
        for _ in range(count):
            if KINDS[kind] not in ABSENT:
                found.append((at, order, kind))
            at += 1 << order
    return found


@given(
    first=st.integers(0, 1 << 30),
    folios=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 6)), min_size=1, max_size=40),
    pages=st.none() | st.integers(1, 300),
    skip=st.none() | st.integers(0, 200),
)
def test_any_window_is_what_lies_whole_in_it(
    first: int, folios: list[tuple[str, int]], pages: int | None, skip: int | None
) -> None:
    capture = capture_of(aligned(first, folios), first)
    start = None if skip is None else first + min(skip, capture.pfns - 1)
    try:
        found = captured_folios(capture, pages, start)
    except PagebenchError as error:
        assert "no folio of the capture" in str(error)
        return
    base, end = found.base_pfn, found.base_pfn + found.pages
    assert base <= (first if start is None else start)
    assert pages is None or found.pages == pages
    whole = [folio for folio in folios_of(capture) if base <= folio[0] and folio[0] + (1 << folio[1]) <= end]
    made = zip(
        (found.folio_map.pfns + base).tolist(),
        found.folio_map.orders.tolist(),
        found.kinds.tolist(),
        strict=True,
    )
    assert list(made) == whole
    if pages is None and start is None:
        assert len(whole) == len(folios_of(capture))
    if pages is not None:
        assert found.folio_map.bytes <= pages * 64


@given(data=st.data())
def test_what_a_process_has_mapped_is_looked_up_in_its_order(data: st.DataObject) -> None:
    plain = capture_of(SOME, 8)
    pfns = data.draw(st.lists(st.integers(0, 50), min_size=1, max_size=30))
    capture = captures.with_process(plain, np.array(pfns))
    found = captured_folios(capture)
    inside = [pfn - 8 for pfn in pfns if 8 <= pfn < 40 and not 24 <= pfn < 32]
    if inside:
        assert found.mapped(capture).tolist() == inside
    else:
        with pytest.raises(PagebenchError, match="the process has nothing mapped in the 32 pfns from 8"):
            found.mapped(capture)


def test_where_there_is_nothing() -> None:
    with pytest.raises(PagebenchError, match="no folio of the capture fits into 4 pfns"):
        captured_folios(capture_of([("hugetlb", 9, 2)]), pages=4)
    with pytest.raises(PagebenchError, match="no folio of the capture fits"):
        captured_folios(capture_of([("nopage", 0, 2)]))
    with pytest.raises(PagebenchError, match="no folio of the capture is whole in the 2 pfns from 0"):
        captured_folios(capture_of([("nopage", 0, 2), ("anon", 0, 2)]), pages=2)


@pytest.mark.parametrize("variant", ["pointer", "mask"])
def test_a_real_one_is_looked_up(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    capture = captures.read(HERE / "hvo-on.folios.gz")
    folio_map = captured_folios(capture).folio_map
    with core.Reservation(folio_map.bytes, folio_map.alignment, "4k") as memory:
        core.populate(registry.find(variant), memory.base, folio_map.folios)
        run = registry.find(variant).probes["lookup"].run
        found = core.verify(run, memory.base, folio_map.page_offsets, folio_map.head_offsets)
    assert found.wrong == 0


def test_hugetlb_folios_of_a_real_one_are_optimised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    found = captured_folios(captures.read(HERE / "hvo-on.folios.gz"))
    frames = layouts.frame_map("hvo", found.folio_map)
    hugetlb = int(np.count_nonzero(found.kinds == KINDS.index("hugetlb")))
    assert hugetlb >= 1
    assert np.count_nonzero(~frames.writable) == 7 * hugetlb
