"""Patterns: which pfns are looked up, in which order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pagebench.errors import PagebenchError
from pagebench.memmap.folios import FolioMap, uniform_bytes
from pagebench.names import PAGE_SIZE, PATTERNS, nearest

LINE_BYTES = 64
# Offsets in any struct page: compound_head or compound_info, flags, _refcount.
WORD_BYTES_IN = 8
HEAD_BYTES_IN = (0, 52)

SLAB_ORDER = 3
# Sixteen pages with slabs of each order, (pfn, order), again and again.
SLABS = ((0, 3), (8, 2), (12, 1), (14, 0), (15, 0))
SLAB_PAGES = 16
# Folios of this order and more start a page of the memmap (64-byte struct page).
PAGE_ORDER = 6


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern by name; ``share`` of heads is for ``mixed`` alone."""

    name: str
    share: float = 0.5

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """From ``random`` or ``mixed:0.25``.  Raises PagebenchError."""
        name, colon, share = text.partition(":")
        if name not in PATTERNS:
            raise nearest(name, PATTERNS, "pattern")
        if not colon:
            return cls(name)
        try:
            value = float(share)
        except ValueError:
            value = -1
        if name != "mixed" or not 0 < value < 1:
            raise PagebenchError(
                f"{text!r}: only mixed takes a share of heads, between 0 and 1, as in mixed:0.25"
            )
        return cls(name, value)

    def __str__(self) -> str:
        return f"mixed:{self.share!r}" if self.name == "mixed" else self.name

    def exists_at(self, order: int) -> bool:
        """Whether folios of this order have what the pattern looks up."""
        if self.name == "slab":
            return order == SLAB_ORDER
        if self.name == "heads-unaligned":
            return order < PAGE_ORDER
        return order > 0 or self.name not in ("tails", "mixed", "zap")

    def folio_map(self, order: int, footprint_bytes: int, struct_page_bytes: int) -> FolioMap:
        """The folios under the pattern: of one order, but for ``slab``."""
        if self.name != "slab":
            return FolioMap.uniform(order, footprint_bytes, struct_page_bytes)
        slabs = np.array(SLABS)
        pages = self.memmap_bytes(order, footprint_bytes, struct_page_bytes) // struct_page_bytes
        pfns = (np.arange(0, pages, SLAB_PAGES)[:, None] + slabs[:, 0]).reshape(-1)
        return FolioMap(struct_page_bytes, pfns, np.tile(slabs[:, 1], pages // SLAB_PAGES))

    def memmap_bytes(self, order: int, footprint_bytes: int, struct_page_bytes: int) -> int:
        """Bytes of folio_map()'s memmap, without making it."""
        unit = SLAB_PAGES.bit_length() - 1 if self.name == "slab" else order
        return uniform_bytes(unit, footprint_bytes, struct_page_bytes)


def candidates(folio_map: FolioMap, footprint_bytes: int) -> npt.NDArray[np.int64]:
    """The pfns that a pattern keeps to, ascending.

    All pages, or, of a folio whose memmap is larger than the footprint, the
    head and evenly spaced tails.  The spacing is odd, so that the lines spread
    over all sets of a cache.
    """
    pfns = folio_map.page_pfns
    if len(pfns) * folio_map.struct_page_bytes <= footprint_bytes:
        return pfns
    # A page that is looked up alone takes a whole line.
    pages = max(1, footprint_bytes // max(folio_map.struct_page_bytes, LINE_BYTES))
    spacing = (len(pfns) // pages - 1) | 1
    return pfns[: pages * spacing : spacing]


def draw(
    pattern: Pattern, folio_map: FolioMap, footprint_bytes: int, lookups: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """``lookups`` pfns, int64, drawn as the pattern says.

    Raises PagebenchError where the memmap has no such pages.
    """
    pfns = candidates(folio_map, footprint_bytes)
    if pattern.name in ("random", "slab"):
        return _any_of(pfns, lookups, rng)
    if pattern.name == "scan":
        start = int(rng.integers(len(pfns)))
        return np.resize(np.roll(pfns, -start), lookups)
    if pattern.name == "zap":
        return _folio_by_folio(folio_map, pfns, lookups, rng)
    is_head = folio_map.heads_of(pfns) == pfns
    heads, tails = pfns[is_head], pfns[~is_head]
    if pattern.name.startswith("heads"):
        aligned = heads * folio_map.struct_page_bytes % PAGE_SIZE == 0
        kinds = {"heads": heads, "heads-aligned": heads[aligned], "heads-unaligned": heads[~aligned]}
        if not len(kinds[pattern.name]):
            raise PagebenchError(f"no page is of the pattern {pattern}: give other orders or footprints")
        return _any_of(kinds[pattern.name], lookups, rng)
    if not len(tails):
        raise PagebenchError(f"the pattern {pattern} needs tail pages: give an order above 0")
    if pattern.name == "tails":
        return _any_of(tails, lookups, rng)
    chosen = rng.random(lookups, np.float32) < pattern.share
    return np.where(chosen, _any_of(heads, lookups, rng), _any_of(tails, lookups, rng))


def _folio_by_folio(
    folio_map: FolioMap, pfns: npt.NDArray[np.int64], lookups: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Each folio's candidates in order, folios in random order, again and again."""
    folio = np.searchsorted(folio_map.pfns, pfns, side="right") - 1
    passes = -(-lookups // len(pfns))
    drawn = [
        pfns[np.argsort(rng.permutation(len(folio_map.pfns))[folio], kind="stable")] for _ in range(passes)
    ]
    return np.concatenate(drawn)[:lookups]


def _any_of(pfns: npt.NDArray[np.int64], lookups: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    index = rng.integers(0, len(pfns), lookups, np.uint32)
    if len(pfns) == pfns[-1] - pfns[0] + 1:  # without holes: no look-up needed
        return np.asarray(index + pfns[0], np.int64)
    return np.asarray(pfns[index], np.int64)


def touched_bytes(folio_map: FolioMap, pfns: npt.NDArray[np.int64], head_too: bool) -> int:
    """Bytes in the distinct cache lines of struct pages that lookups touch."""
    return len(touched_lines(folio_map, pfns, head_too)) * LINE_BYTES


def touched_lines(folio_map: FolioMap, pfns: npt.NDArray[np.int64], head_too: bool) -> npt.NDArray[np.int64]:
    """The distinct cache lines of the memmap that lookups touch, by address.

    The line of each page's own word and, with ``head_too`` (probes that go on
    to use the head), the lines of its head's flags and ``_refcount``.
    """
    page = folio_map.struct_page_bytes
    seen = np.zeros(int(folio_map.pfns[-1] + (1 << folio_map.orders[-1])), np.bool_)
    seen[pfns] = True
    distinct = np.flatnonzero(seen)
    lines = np.zeros(folio_map.bytes // LINE_BYTES + 2, np.bool_)
    lines[(distinct * page + WORD_BYTES_IN) // LINE_BYTES] = True
    if head_too:
        heads = folio_map.heads_of(distinct) * page
        for inside in HEAD_BYTES_IN:
            lines[(heads + inside) // LINE_BYTES] = True
    return np.flatnonzero(lines)
