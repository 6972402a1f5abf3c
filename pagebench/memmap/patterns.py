"""Patterns: which pfns are looked up, in which order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pagebench.errors import PagebenchError
from pagebench.memmap.folios import FolioMap, uniform_bytes
from pagebench.names import FOLIO_KINDS, LINE_BYTES, PAGE_SIZE, PATTERNS, PatternRow, nearest

# Offsets in any struct page: compound_head or compound_info, flags, _refcount.
WORD_BYTES_IN = 8
HEAD_BYTES_IN = (0, 52)

# Sixteen pages with slabs of each order, (pfn, order), again and again.
SLABS = ((0, 3), (8, 2), (12, 1), (14, 0), (15, 0))
SLAB_PAGES = 16

Ints = npt.NDArray[np.int64]


class NoPagesError(PagebenchError):
    """Where a pattern has nothing to look up."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern by name; ``share`` of heads and ``kinds`` of folios are for those that take one."""

    name: str
    share: float = 0.5
    kinds: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """From ``random``, ``mixed:0.25`` or ``kind:anon+file``.  Raises PagebenchError."""
        name, colon, behind = text.partition(":")
        if name not in PATTERNS:
            raise nearest(name, PATTERNS, "pattern")
        takes = PATTERNS[name].takes
        if takes == "kinds":
            kinds = tuple(behind.split("+")) if behind else ()
            for kind in kinds or ("",):
                if kind not in FOLIO_KINDS:
                    raise nearest(kind, FOLIO_KINDS, f"kind of folio in {text!r}:")
            return cls(name, kinds=kinds)
        if not colon:
            return cls(name)
        try:
            value = float(behind)
        except ValueError:
            value = -1
        if takes != "share" or not 0 < value < 1:
            raise PagebenchError(
                f"{text!r}: only mixed takes a share of heads, between 0 and 1, as in mixed:0.25"
            )
        return cls(name, value)

    def __str__(self) -> str:
        behind = {"": "", "share": f":{self.share!r}", "kinds": f":{'+'.join(self.kinds)}"}
        return self.name + behind[self.row.takes]

    @property
    def row(self) -> PatternRow:
        """What is true of it whatever its share."""
        return PATTERNS[self.name]

    def exists_at(self, order: int) -> bool:
        """Whether folios of this order have what the pattern looks up."""
        return order in self.row.orders

    def folio_map(self, order: int, footprint_bytes: int, struct_page_bytes: int) -> FolioMap:
        """The folios under the pattern: of one order, or slabs of several."""
        if self.row.folios == "uniform":
            return FolioMap.uniform(order, footprint_bytes, struct_page_bytes)
        slabs = np.array(SLABS)
        pages = self.memmap_bytes(order, footprint_bytes, struct_page_bytes) // struct_page_bytes
        pfns = (np.arange(0, pages, SLAB_PAGES)[:, None] + slabs[:, 0]).reshape(-1)
        return FolioMap(struct_page_bytes, pfns, np.tile(slabs[:, 1], pages // SLAB_PAGES))

    def memmap_bytes(self, order: int, footprint_bytes: int, struct_page_bytes: int) -> int:
        """Bytes of folio_map()'s memmap, without making it."""
        if self.row.folios == "captured":
            raise PagebenchError(f"the pattern {self} is of a machine's folios: give a capture with --folios")
        unit = order if self.row.folios == "uniform" else SLAB_PAGES.bit_length() - 1
        return uniform_bytes(unit, footprint_bytes, struct_page_bytes)


def candidates(folio_map: FolioMap, footprint_bytes: int) -> Ints:
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
) -> Ints:
    """``lookups`` pfns, int64, drawn as the pattern says.

    Raises PagebenchError where the memmap has no such pages, and for a pattern that nothing here draws.
    """
    if pattern.name not in DRAWN:
        raise PagebenchError(f"no pfns can be drawn for the pattern {pattern}: known: {', '.join(DRAWN)}")
    return DRAWN[pattern.name](pattern, folio_map, candidates(folio_map, footprint_bytes), lookups, rng)


def _random(
    pattern: Pattern, folio_map: FolioMap, pfns: Ints, lookups: int, rng: np.random.Generator
) -> Ints:
    return _any_of(pfns, lookups, rng)


def _scan(pattern: Pattern, folio_map: FolioMap, pfns: Ints, lookups: int, rng: np.random.Generator) -> Ints:
    start = int(rng.integers(len(pfns)))
    return np.resize(np.roll(pfns, -start), lookups)


def _folio_by_folio(
    pattern: Pattern, folio_map: FolioMap, pfns: Ints, lookups: int, rng: np.random.Generator
) -> Ints:
    """Each folio's candidates in order, folios in random order, again and again."""
    folio = np.searchsorted(folio_map.pfns, pfns, side="right") - 1
    passes = -(-lookups // len(pfns))
    drawn = [
        pfns[np.argsort(rng.permutation(len(folio_map.pfns))[folio], kind="stable")] for _ in range(passes)
    ]
    return np.concatenate(drawn)[:lookups]


def _heads(pattern: Pattern, folio_map: FolioMap, pfns: Ints, lookups: int, rng: np.random.Generator) -> Ints:
    heads = pfns[folio_map.heads_of(pfns) == pfns]
    return _any_of(_some(pattern, heads), lookups, rng)


def _heads_by_alignment(aligned: bool) -> Draw:
    def draw_heads(
        pattern: Pattern, folio_map: FolioMap, pfns: Ints, lookups: int, rng: np.random.Generator
    ) -> Ints:
        heads = pfns[folio_map.heads_of(pfns) == pfns]
        starts_page = heads * folio_map.struct_page_bytes % PAGE_SIZE == 0
        return _any_of(_some(pattern, heads[starts_page == aligned]), lookups, rng)

    return draw_heads


def _tails(pattern: Pattern, folio_map: FolioMap, pfns: Ints, lookups: int, rng: np.random.Generator) -> Ints:
    return _any_of(_tails_among(pattern, folio_map, pfns), lookups, rng)


def _mixed(pattern: Pattern, folio_map: FolioMap, pfns: Ints, lookups: int, rng: np.random.Generator) -> Ints:
    heads, tails = pfns[folio_map.heads_of(pfns) == pfns], _tails_among(pattern, folio_map, pfns)
    chosen = rng.random(lookups, np.float32) < pattern.share
    return np.where(chosen, _any_of(heads, lookups, rng), _any_of(tails, lookups, rng))


def _captured(
    pattern: Pattern, folio_map: FolioMap, pfns: Ints, lookups: int, rng: np.random.Generator
) -> Ints:
    """What a walk of the process' page tables sees, from a drawn place on, again and again."""
    if folio_map.mapped is None:
        raise NoPagesError(
            "the capture has no process in it, or none of its pages in this window: "
            "capture with --pid, or give larger footprints"
        )
    start = int(rng.integers(len(folio_map.mapped)))
    return np.resize(np.roll(folio_map.mapped, -start), lookups)


def _kind(pattern: Pattern, folio_map: FolioMap, pfns: Ints, lookups: int, rng: np.random.Generator) -> Ints:
    assert folio_map.kinds is not None
    kinds = [list(FOLIO_KINDS).index(kind) for kind in pattern.kinds]
    of_page = np.repeat(np.isin(folio_map.kinds, kinds), 1 << folio_map.orders)
    return _any_of(_some(pattern, folio_map.page_pfns[of_page]), lookups, rng)


Draw = Callable[[Pattern, FolioMap, Ints, int, np.random.Generator], Ints]
DRAWN: Mapping[str, Draw] = {
    "random": _random,
    "heads": _heads,
    "tails": _tails,
    "mixed": _mixed,
    "scan": _scan,
    "zap": _folio_by_folio,
    "slab": _random,
    "heads-aligned": _heads_by_alignment(True),
    "heads-unaligned": _heads_by_alignment(False),
    "captured": _captured,
    "kind": _kind,
}


def _some(pattern: Pattern, pfns: Ints) -> Ints:
    if not len(pfns):
        raise NoPagesError(f"no page is of the pattern {pattern}: give other orders or footprints")
    return pfns


def _tails_among(pattern: Pattern, folio_map: FolioMap, pfns: Ints) -> Ints:
    tails: Ints = pfns[folio_map.heads_of(pfns) != pfns]
    if not len(tails):
        raise NoPagesError(f"the pattern {pattern} needs tail pages: give an order above 0")
    return tails


def _any_of(pfns: Ints, lookups: int, rng: np.random.Generator) -> Ints:
    index = rng.integers(0, len(pfns), lookups, np.uint32)
    if len(pfns) == pfns[-1] - pfns[0] + 1:  # without holes: no look-up needed
        return np.asarray(index + pfns[0], np.int64)
    return np.asarray(pfns[index], np.int64)


def touched_bytes(folio_map: FolioMap, pfns: Ints, head_too: bool) -> int:
    """Bytes in the distinct cache lines of struct pages that lookups touch."""
    return len(touched_lines(folio_map, pfns, head_too)) * LINE_BYTES


def touched_lines(folio_map: FolioMap, pfns: Ints, head_too: bool) -> Ints:
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
