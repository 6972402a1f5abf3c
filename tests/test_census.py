"""What a capture comes to, by hand and by the laws of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_captures import aligned, capture_of

from pagebench.host import captures
from pagebench.host.captures import ABSENT, KINDS
from pagebench.results import census
from pagebench.results.census import Count, Saving

PAGE = 4096


@pytest.mark.parametrize(
    ("hugetlb", "size", "expected"),
    [
        ({}, 64, (0, 0)),
        ({9: 0}, 64, (0, 0)),
        ({9: 1}, 64, (7, 6)),
        ({9: 32}, 64, (224, 223)),
        ({18: 2}, 64, (8190, 8189)),
        ({9: 32, 18: 2}, 64, (8414, 8412)),
        ({6: 10}, 64, (0, 0)),
        ({7: 10}, 64, (10, 9)),
        ({9: 32}, 56, (0, 0)),
        ({9: 32}, 128, (480, 479)),
    ],
)
def test_what_hvo_gives_back(hugetlb: dict[int, int], size: int, expected: tuple[int, int]) -> None:
    assert census.saving(hugetlb, size) == Saving(expected[0] * PAGE, expected[1] * PAGE)


def test_a_census_by_hand() -> None:
    runs = [("anon", 0, 8), ("buddy", 0, 8), ("slab", 3, 2), ("nopage", 0, 480), ("hugetlb", 9, 1)]
    capture = capture_of(runs, pools={9: 1, 18: None}, hvo="on", fake_heads=7, torn=2)
    found = census.take(captures.with_process(capture, np.array([0, 1, 600, 99999])))
    assert found.counts == [
        Count("hugetlb", 9, 1, 512),
        Count("anon", 0, 8, 8),
        Count("slab", 3, 2, 16),
        Count("buddy", 0, 8, 8),
        Count("nopage", 0, 480, 480),
    ]
    assert (found.pfns, found.folios, found.pages, found.tails, found.free_pages) == (1024, 19, 544, 525, 8)
    assert found.memmap_bytes == 544 * 64 - 7 * PAGE
    assert found.given_back_bytes == found.saving.v5_17_bytes == 7 * PAGE
    assert (found.mapped_pages, found.outside_pages) == (3, 1)
    assert found.of_order(0) == [Count("anon", 0, 8, 8), Count("buddy", 0, 8, 8)]


@given(
    first=st.integers(0, 1 << 30),
    folios=st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 6)), min_size=1, max_size=40),
)
def test_everything_is_counted_once(first: int, folios: list[tuple[str, int]]) -> None:
    capture = capture_of(aligned(first, folios), first)
    found = census.take(capture)
    assert sum(count.pages for count in found.counts) == capture.pfns
    absent = sum(count.pages for count in found.counts if count.kind in ABSENT)
    assert found.pages == capture.pfns - absent
    assert found.folios + found.tails == found.pages
    assert {(c.kind, c.order) for c in found.counts} == {
        (KINDS[kind], order) for kind, order, _ in capture.runs.tolist()
    }
