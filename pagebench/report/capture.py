"""The folios of a machine: text (75 columns, ASCII, ready for a mail) and JSON."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pagebench.host.captures import ABSENT
from pagebench.host.memory_counts import MemoryCounts
from pagebench.names import FOLIO_KINDS, PAGE_SIZE
from pagebench.report import WIDTH
from pagebench.results.census import Census, Count, Saving, saving
from pagebench.units import format_size

LABEL = 15
USUAL_STRUCT_PAGE = 64  # where nobody said
ROOT_ADDS = (
    "As root: each folio's kind and order, the share of tails, what HVO really gave back (fake heads), and a "
    "file of it all (`capture -o FILE`)."
)


@dataclass(frozen=True, slots=True)
class Captured:
    """What was found and by which ``tool``: a ``census``, or ``why`` there is none; the kernel's own counts.

    ``counts`` are this machine's now, None where the census is a file's.
    """

    tool: Mapping[str, str]
    census: Census | None
    counts: MemoryCounts | None = None
    why: str = ""


def to_json(captured: Captured) -> dict[str, Any]:
    """Everything, for machines: units in the keys."""
    return {
        "tool": dict(captured.tool),
        "census": captured.census and dataclasses.asdict(captured.census),
        "counts": captured.counts and dataclasses.asdict(captured.counts),
        "why_no_census": captured.why,
    }


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, break_on_hyphens=False)


def _field(label: str, text: str) -> list[str]:
    """A label and its text, wrapped beside it."""
    wrapped = textwrap.wrap(text, WIDTH - LABEL - 1, break_on_hyphens=False)
    return [f"{label if i == 0 else '':{LABEL}} {line}" for i, line in enumerate(wrapped)]


def _share(part: int, whole: int) -> str:
    percent = 100 * part / whole if whole else 0.0
    return "<0.1 %" if 0 < percent < 0.05 else f"{percent:.1f} %"


def _ranges(orders: Sequence[int]) -> str:
    """``0-3,9`` for ascending orders."""
    parts: list[list[int]] = []
    for order in orders:
        if parts and parts[-1][-1] == order - 1:
            parts[-1][1:] = [order]
        else:
            parts.append([order])
    return ",".join("-".join(map(str, part)) for part in parts)


def _kinds(census: Census) -> list[str]:
    lines = [f"{'kind':9}{'folios':>11}{'pages':>12}{'share':>9}  orders"]
    for kind in FOLIO_KINDS:
        counts = census.of_kind(kind)
        if counts:
            folios, pages = sum(c.folios for c in counts), sum(c.pages for c in counts)
            share = "-" if kind in ABSENT else _share(pages, census.pages)
            lines.append(f"{kind:9}{folios:>11}{pages:>12}{share:>9}  {_ranges([c.order for c in counts])}")
    return lines


def _order(order: int, counts: Sequence[Count], census: Census) -> list[str]:
    folios, pages = sum(c.folios for c in counts), sum(c.pages for c in counts)
    start = f"{order:>5}{folios:>11}{pages:>12}{_share(pages, census.pages):>9}  "
    most = sorted(counts, key=lambda count: -count.folios)
    kinds = textwrap.wrap(", ".join(f"{c.kind} {c.folios}" for c in most), WIDTH - len(start))
    return [f"{start if i == 0 else ' ' * len(start)}{line}" for i, line in enumerate(kinds)]


def _orders(census: Census) -> list[str]:
    lines = [f"{'order':>5}{'folios':>11}{'pages':>12}{'share':>9}  folios by kind"]
    for order in sorted({count.order for count in census.counts}):
        if counts := census.of_order(order):
            lines += _order(order, counts, census)
    return lines


def _saving(saved: Saving, of: str) -> list[str]:
    if not saved.v5_17_bytes:
        return _field("HVO can save", f"nothing of {of}")
    old, new = (
        f"{size // PAGE_SIZE} pages ({format_size(size)})" for size in (saved.v5_17_bytes, saved.v7_1_bytes)
    )
    return [
        *_field("HVO can save", f"{old} of {of} with v5.17 ... v7.0: all of a memmap but its first page"),
        *_field("", f"{new} since v7.1: as much, less a shared page of tails for each order"),
    ]


def _memmap_pages(counts: MemoryCounts | None) -> list[str]:
    if counts is None or counts.memmap_pages is None:
        return []
    size = format_size(counts.memmap_pages * PAGE_SIZE)
    return _field("nr_memmap_pages", f"{counts.memmap_pages} with those of boot ({size}), by /proc/vmstat")


def _pools(pools: Mapping[int, int | None]) -> str:
    words = [f"{'?' if n is None else n} of order {order}" for order, n in sorted(pools.items())]
    return ", ".join(words) or "none"


def _census(census: Census, counts: MemoryCounts | None) -> list[str]:
    where = f"{census.pfns} pfns from {census.first_pfn} on ({format_size(census.pfns * census.page_bytes)})"
    hugetlb = sum(count.folios for count in census.of_kind("hugetlb"))
    lines = _wrap(
        f"folios of {census.architecture}, {format_size(census.page_bytes)} pages, struct pages of "
        f"{census.struct_page_bytes} bytes: {where}"
    )
    lines += ["", *_kinds(census), "", *_orders(census), ""]
    used = census.pages - census.free_pages
    lines += _field(
        "tails",
        f"{census.tails} of {census.pages} pages ({_share(census.tails, census.pages)}); "
        f"{_share(census.tails, used)} of those that are not free",
    )
    left = " after what HVO gave back" if census.given_back_bytes else ""
    lines += _field("memmap", f"{format_size(census.memmap_bytes)}{left}")
    lines += _memmap_pages(counts)
    lines += _field("pools", f"{_pools(census.pools)}, of the whole machine; {hugetlb} folios seen here")
    lines += _field("HVO", f"{census.hvo}; {_fake_heads(census)}")
    lines += _saving(census.saving, f"these {hugetlb} hugetlb folios")
    if census.mapped_pages is not None:
        lines += _field(
            "process", f"{census.mapped_pages} pages mapped, and {census.outside_pages} outside of it all"
        )
    if census.unsure_folios:
        lines += _field(
            "unsure",
            f"{census.unsure_folios} hugetlb folios may be parts of larger ones: both are optimized, and "
            "fake heads do not tell which",
        )
    if census.torn_pages:
        lines += _field("torn", f"{census.torn_pages} pages of folios that changed while they were read")
    return lines


def _fake_heads(census: Census) -> str:
    if not census.fake_heads:
        return "no fake heads: nothing is optimized, or as since v7.1"
    return (
        f"{census.fake_heads} fake heads, for each a page given back ({format_size(census.given_back_bytes)})"
    )


def _by_order(counts: Mapping[int, int]) -> str:
    return ", ".join(f"{order}: {count}" for order, count in sorted(counts.items()) if count) or "none"


def _counts(counts: MemoryCounts) -> list[str]:
    total = sum(counts.pages.values())
    lines = ["what can be seen without root", ""]
    lines += [f"{'kind':9}{'pages':>12}{'share of these':>16}"]
    lines += [f"{kind:9}{pages:>12}{_share(pages, total):>16}" for kind, pages in counts.pages.items()]
    lines += [""]
    lines += _field("free blocks", f"by order, {_by_order(counts.free_blocks)}")
    lines += _field("anon folios", f"by order, {_by_order(counts.anon_folios)} (mTHP; base pages apart)")
    lines += _field("pools", _pools(counts.pools))
    lines += _memmap_pages(counts)
    huge = sum(counts.pools.values())
    return lines + _saving(
        saving(counts.pools, USUAL_STRUCT_PAGE),
        f"the pools' {huge} pages",
    )


def render(captured: Captured) -> str:
    """The report."""
    lines = _census(captured.census, captured.counts) if captured.census else []
    if captured.census is None and captured.counts:
        lines = [*_counts(captured.counts), "", *_wrap(captured.why), *_wrap(ROOT_ADDS)]
    return "\n".join(lines) + "\n"
