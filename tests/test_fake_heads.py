"""Fake heads: what HVO makes of pools comes back as the pools' folios, or is said to be unsure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted_captures import Named, named, runs_of

from pagebench.host.captures import joined
from pagebench.host.fake_heads import Resolved, head_order, resolve

GIB, MIB2 = 18, 9
FAKE = 6  # the order that heads at each page of the memmap make


def seen(folios: Sequence[tuple[str, int, bool]]) -> list[Named]:
    """Runs as the heads tell them; optimized hugetlb folios have fake ones."""
    apart = [
        (kind, FAKE, 1 << order - FAKE) if optimized else (kind, order, 1)
        for kind, order, optimized in folios
    ]
    return named(joined(runs_of(apart)))


def resolved(
    runs: Sequence[Named], pools: Mapping[int, int | None], first: int = 0, goes_on: bool = False
) -> Resolved:
    return resolve(runs_of(runs), first, pools, goes_on=goes_on)


def test_one_pool_of_2m_pages() -> None:
    runs = seen([("hugetlb", MIB2, True)] * 32 + [("buddy", 0, False)] + [("hugetlb", MIB2, False)] * 0)
    assert runs == [("hugetlb", FAKE, 256), ("buddy", 0, 1)]
    found = resolved(runs, {MIB2: 32, GIB: 0})
    assert named(found.runs) == [("hugetlb", MIB2, 32), ("buddy", 0, 1)]
    assert (found.fake_heads, found.unsure, found.torn) == (224, 0, 0)


def test_pages_that_hvo_left_alone_are_as_they_were() -> None:
    runs = seen([("hugetlb", MIB2, optimized) for optimized in (True, False, False, True)])
    assert runs == [("hugetlb", FAKE, 8), ("hugetlb", MIB2, 2), ("hugetlb", FAKE, 8)]
    found = resolved(runs, {MIB2: 4})
    assert named(found.runs) == [("hugetlb", MIB2, 4)]
    assert found.fake_heads == 14


def test_one_pool_of_1g_pages() -> None:
    found = resolved(seen([("hugetlb", GIB, True)] * 2), {MIB2: 0, GIB: 2})
    assert named(found.runs) == [("hugetlb", GIB, 2)]
    assert found.fake_heads == 2 * 4095


FREE = ("other", 9, False)
GAP = [FREE] * 512  # a GiB of something else


@pytest.mark.parametrize(
    ("folios", "pools"),
    [
        # The 2M pages fill no aligned GiB.
        ([("hugetlb", GIB, True), *[("hugetlb", MIB2, True)] * 300], {MIB2: 300, GIB: 1}),
        ([("hugetlb", MIB2, True)] * 32 + [FREE] * 480 + [("hugetlb", GIB, True)], {MIB2: 32, GIB: 1}),
        # They do, and the 1G pages are elsewhere, with all of their tails.
        ([("hugetlb", GIB, False), *[("hugetlb", MIB2, True)] * 600], {MIB2: 600, GIB: 1}),
        # All 1G pages, and the 2M ones were never optimized.
        ([("hugetlb", GIB, True)] * 2 + [("hugetlb", MIB2, False)] * 600, {MIB2: 600, GIB: 2}),
        # Neighbours, and counts that leave one way.
        ([("hugetlb", GIB, True)] * 3 + [("hugetlb", MIB2, True)] * 511, {MIB2: 511, GIB: 3}),
    ],
)
def test_two_pools_that_can_be_told_apart(
    folios: list[tuple[str, int, bool]], pools: dict[int, int | None]
) -> None:
    found = resolved(seen(folios), pools)
    assert named(found.runs) == named(joined(runs_of([(kind, order, 1) for kind, order, _ in folios])))
    fakes = sum((1 << order - FAKE) - 1 for _, order, optimized in folios if optimized)
    assert (found.fake_heads, found.unsure, found.torn) == (fakes, 0, 0)


@pytest.mark.parametrize("pools", [{MIB2: 512, GIB: 1}, {MIB2: 512, GIB: None}, {MIB2: None, GIB: 1}])
def test_two_pools_that_cannot_be_told_apart_are_unsure(pools: dict[int, int | None]) -> None:
    runs = seen([("hugetlb", GIB, True), *GAP, *[("hugetlb", MIB2, True)] * 512])
    found = resolved(runs, pools)
    assert named(found.runs) == [("hugetlb", MIB2, 512), ("other", MIB2, 512), ("hugetlb", MIB2, 512)]
    assert found.unsure == 1024


def test_a_window_that_cuts_a_folio_leaves_it_out() -> None:
    """Its first fake head is where the fold began, as if that were a folio."""
    runs = [("hugetlb", FAKE, 3), ("hugetlb", MIB2, 1), ("buddy", 0, 512), ("hugetlb", FAKE, 5)]
    found = resolved(runs, {MIB2: 9}, first=512 * 7 + 320, goes_on=True)
    assert found.first == 512 * 8
    assert named(found.runs) == [("hugetlb", MIB2, 1), ("buddy", 0, 512)]
    assert (found.fake_heads, found.torn) == (0, 0)


def test_a_window_that_may_cut_a_larger_folio_is_unsure() -> None:
    runs = [("hugetlb", FAKE, 8 * 10), ("buddy", 0, 1)]
    found = resolved(runs, {MIB2: 10, GIB: 1}, first=512 * 3)
    assert (named(found.runs), found.unsure) == ([("hugetlb", MIB2, 10), ("buddy", 0, 1)], 10)
    assert resolved(runs, {MIB2: 10, GIB: 0}, first=512 * 3).unsure == 0


def test_what_changed_while_it_was_read_is_torn() -> None:
    runs = [("buddy", 0, 64), ("hugetlb", FAKE, 5), ("buddy", 0, 128)]
    found = resolved(runs, {MIB2: 1})
    assert (named(found.runs), found.torn) == (runs, 320)


def test_nobody_knows_the_pools() -> None:
    found = resolved([("hugetlb", FAKE, 8)], {})
    assert (named(found.runs), found.unsure) == ([("hugetlb", FAKE, 8)], 8)


def test_a_pool_of_that_very_order_has_no_fake_heads() -> None:
    found = resolved([("hugetlb", FAKE, 8)], {FAKE: 8, MIB2: 1})
    assert (named(found.runs), found.fake_heads, found.unsure) == ([("hugetlb", FAKE, 8)], 0, 0)


def test_struct_pages_that_fill_no_page_are_never_optimized() -> None:
    assert [head_order(size) for size in (64, 32, 56, 96)] == [6, 7, None, None]
    runs = runs_of([("hugetlb", FAKE, 8)])
    assert named(resolve(runs, 0, {MIB2: 1}, 56).runs) == [("hugetlb", FAKE, 8)]


@given(
    folios=st.lists(st.tuples(st.sampled_from(["hugetlb", "buddy"]), st.booleans()), min_size=1, max_size=60)
)
def test_any_mixture_in_one_pool_comes_back(folios: list[tuple[str, bool]]) -> None:
    laid = [(kind, MIB2, kind == "hugetlb" and optimized) for kind, optimized in folios]
    found = resolved(seen(laid), {MIB2: sum(kind == "hugetlb" for kind, _ in folios), GIB: 0})
    assert named(found.runs) == named(joined(runs_of([(kind, order, 1) for kind, order, _ in laid])))
    assert found.fake_heads == 7 * sum(optimized for _, _, optimized in laid)


@given(data=st.data())
def test_two_pools_are_told_right_or_not_told(data: st.DataObject) -> None:
    """Whatever lies where: no folio is called a larger one that it is not, without a word."""
    gibs = data.draw(
        st.lists(st.sampled_from(["1G", "1G plain", "2M", "2M plain", "some", "free"]), max_size=5)
    )
    laid: list[tuple[str, int, bool]] = []
    for gib in gibs:
        if gib.startswith("1G"):
            laid.append(("hugetlb", GIB, gib == "1G"))
        else:
            count = {"2M": 512, "2M plain": 512, "some": 100, "free": 0}[gib]
            laid += [("hugetlb", MIB2, gib != "2M plain")] * count + [FREE] * (512 - count)
    if not laid:
        return
    pools = {o: sum(k == "hugetlb" and order == o for k, order, _ in laid) for o in (MIB2, GIB)}
    found = resolved(seen(laid), pools)
    truth = named(joined(runs_of([(kind, order, 1) for kind, order, _ in laid])))
    assert found.torn == 0
    assert int((found.runs["count"].astype(np.int64) << found.runs["order"].astype(np.int64)).sum()) == sum(
        1 << order for _, order, _ in laid
    )
    assert named(found.runs) == truth or found.unsure > 0
