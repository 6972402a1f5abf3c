"""Patterns: which pfns are looked up, in which order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pagebench.errors import PagebenchError
from pagebench.memmap import FolioMap
from pagebench.variants import nearest

LINE_BYTES = 64
WORD_BYTES_IN = 8  # compound_head, compound_info: offset 8 in any struct page

PATTERNS = {
    "random": "any page, uniformly",
    "heads": "head pages only, uniformly",
    "tails": "tail pages only, uniformly; none at order 0",
    "mixed": "a share of heads among tails, as in mixed:0.25 (default 0.5); none at order 0",
    "scan": "page after page by pfn, as a pfn walker does",
}


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
        return f"mixed:{self.share:g}" if self.name == "mixed" else self.name

    def exists_at(self, order: int) -> bool:
        """Whether folios of this order have what the pattern looks up."""
        return order > 0 or self.name not in ("tails", "mixed")


def candidates(folio_map: FolioMap, footprint_bytes: int) -> npt.NDArray[np.int64]:
    """The pfns that a pattern keeps to, ascending.

    All pages, or, of a folio whose memmap is larger than the footprint, the
    head and evenly spaced tails.  The spacing is odd, so that the lines spread
    over all sets of a cache.
    """
    pfns = folio_map.page_pfns
    pages = max(1, footprint_bytes // folio_map.struct_page_bytes)
    if len(pfns) <= pages:
        return pfns
    spacing = (len(pfns) // pages - 1) | 1
    return pfns[: pages * spacing : spacing]


def draw(
    pattern: Pattern, folio_map: FolioMap, footprint_bytes: int, lookups: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """``lookups`` pfns, int64, drawn as the pattern says.

    Raises PagebenchError where the memmap has no such pages.
    """
    pfns = candidates(folio_map, footprint_bytes)
    if pattern.name == "random":
        return _any_of(pfns, lookups, rng)
    if pattern.name == "scan":
        start = int(rng.integers(len(pfns)))
        return np.resize(np.roll(pfns, -start), lookups)
    is_head = folio_map.heads_of(pfns) == pfns
    heads, tails = pfns[is_head], pfns[~is_head]
    if pattern.name == "heads":
        return _any_of(heads, lookups, rng)
    if not len(tails):
        raise PagebenchError(f"the pattern {pattern} needs tail pages: give an order above 0")
    if pattern.name == "tails":
        return _any_of(tails, lookups, rng)
    chosen = rng.random(lookups, np.float32) < pattern.share
    return np.where(chosen, _any_of(heads, lookups, rng), _any_of(tails, lookups, rng))


def _any_of(pfns: npt.NDArray[np.int64], lookups: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    index = rng.integers(0, len(pfns), lookups, np.uint32)
    if len(pfns) == pfns[-1] - pfns[0] + 1:  # without holes: no look-up needed
        return np.asarray(index + pfns[0], np.int64)
    return np.asarray(pfns[index], np.int64)


def touched_bytes(folio_map: FolioMap, pfns: npt.NDArray[np.int64], head_too: bool) -> int:
    """Bytes in the distinct cache lines of struct pages that lookups touch.

    The line of each page's own word and, with ``head_too`` (probes that go on
    to use the head), the line of its head's flags and ``_refcount``.
    """
    page = folio_map.struct_page_bytes
    seen = np.zeros(int(folio_map.pfns[-1] + (1 << folio_map.orders[-1])), np.bool_)
    seen[pfns] = True
    distinct = np.flatnonzero(seen)
    lines = np.zeros(folio_map.bytes // LINE_BYTES + 2, np.bool_)
    lines[(distinct * page + WORD_BYTES_IN) // LINE_BYTES] = True
    if head_too:
        lines[folio_map.heads_of(distinct) * page // LINE_BYTES] = True
    return int(np.count_nonzero(lines)) * LINE_BYTES
