"""What a capture comes to: folios by kind and order, and what HVO gives back or would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pagebench.host.captures import ABSENT, KINDS, Capture
from pagebench.names import PAGE_SIZE


@dataclass(frozen=True, slots=True)
class Count:
    """How many folios of a kind and an order."""

    kind: str
    order: int
    folios: int
    pages: int


@dataclass(frozen=True, slots=True)
class Saving:
    """Bytes of the memmap that HVO gives back for all huge pages of the pools, by the kernel that does it."""

    v5_17_bytes: int
    v7_1_bytes: int


@dataclass(frozen=True, slots=True)
class Census:
    """``pages`` have a struct page, and ``tails`` are not heads; ``memmap_bytes`` is what HVO left of it.

    ``given_back_bytes``: by the fake heads that were seen, which are of v5.17 ... v7.0.
    """

    architecture: str
    page_bytes: int
    struct_page_bytes: int
    first_pfn: int
    pfns: int
    counts: Sequence[Count]
    folios: int
    pages: int
    free_pages: int
    tails: int
    memmap_bytes: int
    pools: Mapping[int, int | None]
    hvo: str
    fake_heads: int
    unsure_folios: int
    torn_pages: int
    given_back_bytes: int
    saving: Saving
    mapped_pages: int | None
    outside_pages: int | None

    def of_kind(self, kind: str) -> list[Count]:
        """Of one kind, by order."""
        return [count for count in self.counts if count.kind == kind]

    def of_order(self, order: int) -> list[Count]:
        """Of one order, by kind: what there is to look up."""
        return [count for count in self.counts if count.order == order and count.kind not in ABSENT]


def vmemmap_pages(order: int, struct_page_bytes: int) -> int:
    """Pages of a folio's memmap, as HVO counts them: 0 where struct pages do not fill pages."""
    if struct_page_bytes & (struct_page_bytes - 1):
        return 0
    return (struct_page_bytes << order) // PAGE_SIZE


def saving(hugetlb: Mapping[int, int], struct_page_bytes: int) -> Saving:
    """What optimizing this many folios, by order, gives back.

    Up to v7.0 all pages of a folio's memmap but one; since v7.1 as many, less one page of tails that all
    folios of an order share (in a zone: one zone is counted).
    """
    pages = {order: vmemmap_pages(order, struct_page_bytes) for order, count in hugetlb.items() if count}
    back = sum(hugetlb[order] * (count - 1) for order, count in pages.items() if count > 1)
    shared = sum(count > 1 for count in pages.values())
    return Saving(back * PAGE_SIZE, (back - shared) * PAGE_SIZE)


def take(capture: Capture) -> Census:
    """Count."""
    runs = capture.runs
    keys, inverse = np.unique(runs["kind"].astype(np.int64) << 8 | runs["order"], return_inverse=True)
    folios = np.zeros(len(keys), np.int64)
    np.add.at(folios, inverse, runs["count"].astype(np.int64))
    counts = [
        Count(KINDS[key >> 8], key & 255, count, count << (key & 255))
        for key, count in zip(keys.tolist(), folios.tolist(), strict=True)
    ]
    present = [count for count in counts if count.kind not in ABSENT]
    pages = sum(count.pages for count in present)
    heads = sum(count.folios for count in present)
    given_back = capture.fake_heads * PAGE_SIZE
    process = capture.process
    return Census(
        architecture=capture.architecture,
        page_bytes=capture.page_bytes,
        struct_page_bytes=capture.struct_page_bytes,
        first_pfn=capture.first,
        pfns=capture.pfns,
        counts=counts,
        folios=heads,
        pages=pages,
        free_pages=sum(count.pages for count in counts if count.kind == "buddy"),
        tails=pages - heads,
        memmap_bytes=pages * capture.struct_page_bytes - given_back,
        pools=dict(capture.pools),
        hvo=capture.hvo,
        fake_heads=capture.fake_heads,
        unsure_folios=capture.unsure,
        torn_pages=capture.torn,
        given_back_bytes=given_back,
        saving=saving(
            {count.order: count.folios for count in counts if count.kind == "hugetlb"},
            capture.struct_page_bytes,
        ),
        mapped_pages=process.pages if process else None,
        outside_pages=process.outside if process else None,
    )
