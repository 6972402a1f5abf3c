"""Page flags to runs of folios: the fold in C against a model that goes page by page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pagebench.core import Fold
from pagebench.names import FOLIO_KINDS, MAX_FOLIO_ORDER

HEAD, TAIL = 1 << 15, 1 << 16
KINDS = tuple(FOLIO_KINDS)
# Which bits say what, first come first served: include/uapi/linux/kernel-page-flags.h.
BITS = {
    "nopage": (20,),
    "buddy": (10,),
    "hugetlb": (17,),
    "slab": (7,),
    "pgtable": (26,),
    "offline": (23,),
    "reserved": (32,),
    "large": (22,),
    "anon": (12, 13),
    "file": (5, 3, 18),
}
Run = tuple[str, int, int]


def kind_of(flags: int) -> str:
    return next((kind for kind, bits in BITS.items() if any(flags >> bit & 1 for bit in bits)), "other")


def model(first: int, flags: Sequence[int], cut: bool) -> tuple[int, int, int, list[Run]]:
    """(first pfn, pfn behind the last, torn pages, runs), as slowly as it takes."""
    pages = list(flags)
    while pages and pages[0] & TAIL:
        first, pages = first + 1, pages[1:]
    folios: list[list[int]] = []
    for page in pages:
        if page & TAIL:
            folios[-1].append(page)
        else:
            folios.append([page])
    if cut and folios:
        folios.pop()
    at, torn, found = first, 0, list[tuple[str, int]]()
    for folio in folios:
        left, kind = len(folio), kind_of(folio[0])
        order = left.bit_length() - 1
        if left != 1 << order or at % left or order > MAX_FOLIO_ORDER:
            torn += left
        while left:
            order = min(left.bit_length() - 1, MAX_FOLIO_ORDER)
            while at % (1 << order):
                order -= 1
            found.append((kind, order))
            at, left = at + (1 << order), left - (1 << order)
    runs: list[Run] = []
    for kind, order in found:
        if runs and runs[-1][:2] == (kind, order):
            runs[-1] = (kind, order, runs[-1][2] + 1)
        else:
            runs.append((kind, order, 1))
    return first, at, torn, runs


def folded(first: int, pieces: Sequence[Sequence[int]], cut: bool) -> tuple[int, int, int, list[Run]]:
    fold = Fold(first)
    runs = [run for piece in pieces for run in fold.add(np.array(piece, np.uint64))]
    runs += list(fold.end(cut))
    named = [(KINDS[run["kind"]], int(run["order"]), int(run["count"])) for run in runs]
    return fold.first, fold.pfn, fold.torn, named


some_flags = st.builds(
    lambda bits, place: sum(1 << bit for bit in bits) | place,
    st.sets(st.sampled_from([3, 5, 7, 10, 11, 12, 17, 20, 22, 23, 26, 32]), max_size=2),
    st.sampled_from([0, HEAD, TAIL, TAIL]),
)
alike = st.builds(lambda flags, count: [flags] * count, some_flags, st.integers(1, 9))
whole_folios = st.builds(
    lambda kind, order: [kind | HEAD, *[kind | TAIL] * ((1 << order) - 1)] if order else [kind],
    st.sampled_from([1 << 17, 1 << 22, 1 << 7, 0]),
    st.integers(0, 7),
)


@given(
    first=st.integers(0, 1 << 40),
    pieces=st.lists(st.lists(some_flags, max_size=40) | alike | whole_folios, max_size=20),
    cut=st.booleans(),
)
def test_any_flags_fold_as_the_model_does(first: int, pieces: list[list[int]], cut: bool) -> None:
    flags = [page for piece in pieces for page in piece]
    assert folded(first, pieces, cut) == model(first, flags, cut)
    assert folded(first, [flags], cut) == model(first, flags, cut)


@given(orders=st.lists(st.integers(0, 9), max_size=30))
def test_whole_folios_come_back(orders: list[int]) -> None:
    orders.sort(reverse=True)  # each is aligned then
    flags = [page for order in orders for page in [HEAD, *[TAIL] * ((1 << order) - 1)]]
    _, pfn, torn, runs = folded(0, [flags], False)
    assert (pfn, torn) == (len(flags), 0)
    assert [order for _, order, count in runs for _ in range(count)] == orders


def test_tails_before_any_head_are_left_out() -> None:
    assert folded(100, [[TAIL] * 28, [1 << 10] * 3], False) == (128, 131, 0, [("buddy", 0, 3)])


def test_a_folio_that_is_cut_is_left_out() -> None:
    assert folded(0, [[0, 0, HEAD], [TAIL]], True) == (0, 2, 0, [("other", 0, 2)])


def test_a_folio_that_changed_meanwhile_is_torn() -> None:
    assert folded(4, [[HEAD, TAIL, TAIL, 1 << 10]], False) == (
        4,
        8,
        3,
        [("other", 1, 1), ("other", 0, 1), ("buddy", 0, 1)],
    )


def test_slabs_that_read_as_anonymous_are_slabs() -> None:
    assert folded(0, [[1 << 7 | 1 << 12]], False)[3] == [("slab", 0, 1)]
