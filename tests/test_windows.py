"""Windows of a pattern: none comes back before its turn."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pagebench.measure.windows import Windows
from pagebench.memmap.folios import FolioMap
from pagebench.units import KIB


def windows_of(lookups: int) -> Windows:
    folio_map = FolioMap.uniform(0, 16 * KIB)
    return Windows(folio_map, np.arange(lookups, dtype=np.int64) % 256, np.random.default_rng(0))


@given(
    st.integers(50, 400),
    st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=20), min_size=1, max_size=6),
)
def test_windows_follow_each_other_and_start_over_where_there_is_no_room(
    lookups: int, takes: list[list[int]]
) -> None:
    windows = windows_of(lookups)
    end = 0
    for lengths in takes:
        starts = windows.take(np.array(lengths))
        assert len(starts) == len(lengths)
        for start, length in zip(starts.tolist(), lengths, strict=True):
            assert start >= 0 and start + length <= lookups
            if start != end:  # only where the longest window does not fit any more
                assert end > lookups - max(lengths)
                assert start < max(lengths)
            end = start + length


@given(st.integers(1, 40), st.integers(1, 60))
def test_no_lookup_comes_back_within_a_pass(length: int, count: int) -> None:
    lookups = length * count
    starts = windows_of(lookups).take(np.full(count, length))
    seen = np.concatenate([np.arange(start, start + length) for start in starts])
    assert len(np.unique(seen)) == len(seen) == lookups


def test_windows_have_addresses_in_the_offsets() -> None:
    windows = windows_of(100)
    addresses = windows.addresses(np.array([0, 7]))
    assert addresses.tolist() == [windows.offsets.ctypes.data, windows.offsets.ctypes.data + 28]
    assert windows.offsets[7] == 7 * 8


def test_windows_know_the_lines_that_they_touch() -> None:
    folio_map = FolioMap.uniform(9, 64 * KIB)
    pfns = folio_map.page_pfns
    windows = Windows(folio_map, pfns, np.random.default_rng(0))
    assert windows.touched_bytes(False, "plain") == folio_map.bytes
    # Two folios of eight vmemmap pages each: one frame stays of each, plus one of tails for all.
    assert windows.touched_bytes(False, "hvo") == 2 * 4096
    assert windows.touched_bytes(False, "hvo-shared") == 3 * 4096
    head = Windows(folio_map, pfns[:1], np.random.default_rng(0))
    assert head.touched_bytes(True, "plain") == 64


def test_every_page_that_is_looked_up_stands_once_in_a_drawn_order() -> None:
    folio_map = FolioMap.uniform(2, 64 * KIB)
    pfns = np.array([5, 900, 5, 7, 900, 1023, 0, 7], np.int64)
    once = [Windows(folio_map, pfns, np.random.default_rng(seed)).once.tolist() for seed in range(8)]
    assert all(sorted(one) == sorted(folio_map.offsets_of(np.unique(pfns)).tolist()) for one in once)
    assert len({tuple(one) for one in once}) > 1
