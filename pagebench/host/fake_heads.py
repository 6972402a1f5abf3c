"""Which heads of hugetlb folios are fake, from where they stand and what the pools hold.

HVO up to v7.0 maps the rest of a hugepage's memmap from its first page, so that in /proc/kpageflags a head
stands at the beginning of each page of the memmap: every 64 pfns where struct pages have 64 bytes.  Folded by
such heads, an optimized folio of any order is folios of order 6 in a row.  Since v7.1 tails are tails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pagebench.host.captures import KINDS, RUN_DTYPE, joined
from pagebench.names import PAGE_SIZE

HUGETLB = KINDS.index("hugetlb")


@dataclass(frozen=True, slots=True)
class Resolved:
    """Runs without fake heads: see Capture for the numbers."""

    first: int
    runs: npt.NDArray[np.void]
    fake_heads: int = 0
    unsure: int = 0
    torn: int = 0


def head_order(struct_page_bytes: int) -> int | None:
    """The order of the folios that fake heads make; None where struct pages are such that HVO cannot be."""
    if struct_page_bytes & (struct_page_bytes - 1):
        return None
    return (PAGE_SIZE // struct_page_bytes).bit_length() - 1


Range = tuple[int, int]
Folios = list[tuple[int, int]]  # order, count


def _filled(stretch: Range, order: int) -> Range:
    """What folios of an order can fill of it."""
    first, last = stretch
    begin, end = -(-first >> order) << order, last >> order << order
    return (begin, end) if begin < end else (first, first)


def _cut(stretch: Range, order: int, window: Range) -> int:
    """Pages at the window's ends that could be of a folio of this order which it cuts."""
    first, last = stretch
    begin, end = min(-(-first >> order) << order, last), max(last >> order << order, first)
    return (begin - first if first == window[0] else 0) + (last - end if last == window[1] else 0)


def _pieces(stretch: Range, orders: Sequence[int], small: int) -> Folios:
    """The largest folios of these orders that fit, and ``small`` ones where none does."""
    first, last = stretch
    if first == last:
        return []
    if not orders:
        return [(small, last - first >> small)]
    begin, end = _filled(stretch, orders[0])
    here = [(orders[0], end - begin >> orders[0])] if begin < end else []
    return [
        *_pieces((first, begin), orders[1:], small),
        *here,
        *_pieces((end, last), orders[1:], small),
    ]


def _told(
    stretches: Sequence[Range], used: Sequence[int], left: Mapping[int, int | None], window: Range
) -> tuple[Sequence[int], int]:
    """The orders that the stretches are of, the largest first, and how many folios are unsure.

    ``left`` are folios of a pool that are not seen elsewhere; None where that is not known.
    """
    base = used[0]
    regions = {
        order: sum(end - begin for begin, end in (_filled(s, order) for s in stretches)) for order in used
    }
    cut = {order: sum(_cut(stretch, order, window) for stretch in stretches) for order in used}
    could_be = [o for o in used[1:] if regions[o] + cut[o] and (left[o] is None or (left[o] or 0) > 0)]
    if not could_be:
        return [base], 0
    order, left_base = could_be[0], left[base]
    if len(could_be) == 1 and not cut[order] and left_base is not None:
        most = left[order]
        count = regions[order] >> order
        outside = sum(last - first for first, last in stretches) - regions[order] >> base
        as_base = max(left_base - outside, 0) >> order - base
        if not as_base and (most is None or most >= count):
            return [order, base], 0
    return [base], max(regions[order] + cut[order] for order in could_be) >> base


def resolve(
    runs: npt.NDArray[np.void],
    first: int,
    pools: Mapping[int, int | None],
    struct_page_bytes: int = 64,
    goes_on: bool = False,
) -> Resolved:
    """Fold fake heads away: ``runs`` (RUN_DTYPE) as the heads alone tell them, from pfn ``first`` on.

    ``goes_on``: there are pages behind the last, as behind a window.

    With one pool in use an optimized folio has its order.  With two, what could be one of the larger or many
    of the smaller is told by the pools' counts where these leave one way only; otherwise it is taken for the
    smaller, and counted as unsure.  What a window cuts at its ends is left out; anywhere else it is torn.
    """
    small = head_order(struct_page_bytes)
    looks = (runs["kind"] == HUGETLB) & (runs["order"] == small) if small else np.zeros(len(runs), np.bool_)
    if small is None or not looks.any() or pools.get(small):
        return Resolved(first, runs)
    used = sorted(order for order, count in pools.items() if order > small and count != 0)
    if not used:
        return Resolved(first, runs, unsure=int(runs["count"][looks].sum()))
    pages = runs["count"].astype(np.int64) << runs["order"].astype(np.int64)
    ends = first + np.cumsum(pages)
    window = first, int(ends[-1]) if goes_on else -1
    where = np.flatnonzero(looks)
    stretches = [(int(ends[i] - pages[i]), int(ends[i])) for i in where]
    plain = (runs["kind"] == HUGETLB) & ~looks
    left = {
        order: None if (count := pools[order]) is None else count - _count(runs[plain], order)
        for order in used
    }
    orders, unsure = _told(stretches, used, left, window)

    fake = torn = 0
    parts, done = list[npt.NDArray[np.void]](), 0
    for i, stretch in zip(where.tolist(), stretches, strict=True):
        folios = _pieces(stretch, orders, small)
        if stretch[0] == window[0] and folios[0][0] == small:
            first += folios.pop(0)[1] << small
        if folios and stretch[1] == window[1] and folios[-1][0] == small:
            folios.pop()
        fake += sum(count * ((1 << order - small) - 1) for order, count in folios)
        torn += sum(count << small for order, count in folios if order == small)
        parts += [runs[done:i], np.array([(HUGETLB, *folio) for folio in folios], RUN_DTYPE)]
        done = i + 1
    return Resolved(first, joined(np.concatenate([*parts, runs[done:]])), fake, unsure, torn)


def _count(runs: npt.NDArray[np.void], order: int) -> int:
    return int(runs["count"][runs["order"] == order].sum())
