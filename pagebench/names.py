"""The vocabulary: one word for one thing, in options, result files and reports alike.

Imports nothing heavy: no numpy and no compiled core.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from pagebench.errors import PagebenchError
from pagebench.units import MIB

PAGE_SIZE = 4096
# With 4 KiB pages and hugetlb: 16 GiB.
MAX_FOLIO_ORDER = 22
ORDERS = range(MAX_FOLIO_ORDER + 1)
MAX_PFNS = 1 << 45  # with 57 bits of physical address
# Where a footprint stays.
Level = Literal["l1", "l2", "l3", "dram"]
LEVELS: tuple[Level, ...] = get_args(Level)
LINE_BYTES = 64  # of a cache, on every architecture there is here
# Of a comparison; nothing ever reads "the same".
Verdict = Literal["reference", "faster", "slower", "equivalent", "inconclusive"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True, slots=True)
class Layout:
    """Which page frames back the memmap; all that differs between layouts is in the row.

    A folio whose memmap is more than ``kept_pages`` vmemmap pages keeps the first of them.  ``rest`` is the
    frame that the others are mapped from, read-only: ``own`` (as a memmap that nobody optimized),
    ``last-kept`` (of the same folio) or ``shared`` (by all folios of an order).
    """

    meaning: str
    rest: Literal["own", "last-kept", "shared"] = "own"
    kept_pages: int = 0

    @property
    def aliased(self) -> bool:
        """Whether a frame stands at several addresses, and tails are read-only there."""
        return self.rest != "own"

    @property
    def default_backing(self) -> str:
        """As kernels map a vmemmap that nobody optimized; aliases need 4 KiB frames."""
        return "memfd" if self.aliased else "2m"

    def exists_at(self, order: int, struct_page_bytes: int) -> bool:
        """Whether folios of this order have such a memmap, and not one that nobody optimized.

        Kernels optimize vmemmap pages beyond those that they keep, where struct pages fill pages.
        """
        power_of_two = struct_page_bytes & (struct_page_bytes - 1) == 0
        return not self.aliased or (power_of_two and struct_page_bytes << order > self.kept_pages * PAGE_SIZE)


PLAIN = "plain"  # the harness' own, and a contender's that names none
LAYOUTS: Mapping[str, Layout] = {
    PLAIN: Layout("a frame of its own for each page of the memmap"),
    "hvo": Layout("v5.17 ... v7.0: each folio's first frame again, read-only: fake heads", "last-kept", 1),
    "hvo-shared": Layout(
        "v7.1 and later: one frame of tails for all folios of an order, read-only", "shared", 1
    ),
}


@dataclass(frozen=True, slots=True)
class Backing:
    """What a memmap's pages are mapped from.

    ``by_frame``: frame by frame from a memfd, for one group, instead of in memory reserved for all groups.
    """

    page_bytes: int
    by_frame: bool = False


# 2m is THP or hugetlb.
BACKINGS: Mapping[str, Backing] = {
    "4k": Backing(PAGE_SIZE),
    "2m": Backing(2 * MIB),
    "memfd": Backing(PAGE_SIZE, by_frame=True),
}


@dataclass(frozen=True, slots=True)
class PatternRow:
    """Which pfns a pattern looks up; how they are drawn is in memmap/patterns.py.

    ``orders`` of folios that have such pages; ``takes``: behind a colon, a share of heads or kinds of folios;
    ``folios``: of one order each, ``slabs`` of several, or those of a machine that was ``captured``.
    ``in_passes``: over all pages, again and again, and not each lookup drawn by itself.
    """

    meaning: str
    orders: range = ORDERS
    takes: Literal["", "share", "kinds"] = ""
    folios: Literal["uniform", "slabs", "captured"] = "uniform"
    in_passes: bool = False


PATTERNS: Mapping[str, PatternRow] = {
    "random": PatternRow("any page, uniformly"),
    "heads": PatternRow("head pages only, uniformly"),
    "tails": PatternRow("tail pages only, uniformly; none at order 0", orders=ORDERS[1:]),
    "mixed": PatternRow(
        "a share of heads among tails, as in mixed:0.25 (default 0.5); none at order 0",
        orders=ORDERS[1:],
        takes="share",
    ),
    "scan": PatternRow("page after page by pfn, as a pfn walker does", in_passes=True),
    "zap": PatternRow(
        "a head, then its tails, folios in random order; none at order 0", orders=ORDERS[1:], in_passes=True
    ),
    "slab": PatternRow(
        "random pages over slabs of order 0 to 3, as kfree() meets them; at order 3 only",
        orders=ORDERS[3:4],
        folios="slabs",
    ),
    "heads-aligned": PatternRow("heads whose struct page starts a page: all that HVO could have made"),
    # Folios of order 6 and more start a page of the memmap (64-byte struct page).
    "heads-unaligned": PatternRow(
        "heads whose struct page does not; none from order 6 on", orders=ORDERS[:6]
    ),
    "captured": PatternRow(
        "with --folios: what the capture's process has mapped, by address", folios="captured", in_passes=True
    ),
    "kind": PatternRow(
        "with --folios: any page of folios of these kinds, as in kind:anon+hugetlb",
        takes="kinds",
        folios="captured",
    ),
}

# What is done with each page, in the order of variant.h; struct pb_probe says how they count and write.
PROBES: Mapping[str, str] = {
    "lookup": "independent lookups: throughput",
    "chain": "each address depends on the last result: latency",
    "flags": "chain through a load of the head's flags",
    "get": "lookup, atomic inc and dec of the head's _refcount",
    "gup": "lookup, atomic inc of the head's _refcount, lookup again",
    "zap": "lookup, the head's mapping and flags, atomic dec of _mapcount",
    "try_get": "page_ref_add_unless() on the page itself",
    "prep": "set_compound_head() over all tails of a folio (heads)",
}

# What folios of a machine are, by the flags of the head in /proc/kpageflags; in the order of enum pb_kind.
FOLIO_KINDS: Mapping[str, str] = {
    "hugetlb": "a huge page of a pool, free or used",
    "large": "a large folio that can be mapped, anonymous or file: THP and mTHP",
    "anon": "anonymous memory or swap cache",
    "file": "page cache and shared memory",
    "slab": "a slab",
    "pgtable": "a page table",
    "buddy": "a free page",
    "reserved": "never in the allocator: firmware's, the kernel's image",
    "offline": "not in use by this kernel: ballooned, not plugged in",
    "nopage": "no memory, or none whose struct page may be looked at",
    "other": "the kernel's own, in transit, on a CPU's free list: the kernel says nothing of it",
}

# Of simulated caches: what is replaced, what is fetched ahead; branch predictors, the simplest first.
Policy = Literal["lru", "plru", "random"]
Prefetch = Literal["none", "next-line", "stride"]
Predictor = Literal["bimodal", "gshare", "tage"]
HugePages = Literal["whole", "split"]
Frames = Literal["drawn", "pagemap"]
PREDICTORS: tuple[Predictor, ...] = get_args(Predictor)

# sizeof(struct page) that variants are built for, what 64-bit configurations give; the usual one first.
BUILT_IN_STRUCT_PAGES = (64, 56, 96)
# And that they can be compiled for: page.h lays out 56 bytes; no kernel's comes near 256.
STRUCT_PAGES = range(56, 257, 8)

# Harness only: the loop without a lookup, and the positive controls, of one cycle
# and of one in eight pages, with the variant that they are compared with.
IDENTITY = "identity"
CONTROL = "control"
CONTROL_EIGHTH = "control-eighth"
CONTROL_REFERENCE = "control-reference"
# The same machine code over tail words of another value: what taking turns with another encoding does.
ENCODING_NULL = "encoding-null"
NULL_REFERENCE = "mask-select"
HARNESS = (IDENTITY, CONTROL_REFERENCE, CONTROL, CONTROL_EIGHTH, ENCODING_NULL)
# What a kernel tree's variant is called with HVO's static key on: old+key beside old.
KEY_SUFFIX = "+key"


@dataclass(frozen=True, slots=True)
class Origin:
    """A variant's name and where it comes from, as the kernel cites commits; ``commit`` may be empty."""

    name: str
    commit: str
    subject: str
    version: str
    struct_page_bytes: int


def nearest(name: str, known: Iterable[str], what: str) -> PagebenchError:
    """The error for an unknown name, with the nearest known one."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
    return PagebenchError(f"unknown {what} {name!r}: {hint}")


def find_layout(name: str) -> Layout:
    """A layout by name.  Raises PagebenchError for an unknown one."""
    if name not in LAYOUTS:
        raise nearest(name, LAYOUTS, "layout")
    return LAYOUTS[name]


def find_backing(name: str) -> Backing:
    """A backing by name.  Raises PagebenchError for an unknown one."""
    if name not in BACKINGS:
        raise nearest(name, BACKINGS, "backing")
    return BACKINGS[name]


def backing_name(obtained: Mapping[str, int]) -> str:
    """``2m``, ``4k``, ``mixed (87 % 2m)``, or ``unknown`` where nothing is resident; bytes by backing."""
    huge, small = obtained["2m"], obtained["4k"]
    if not huge:
        return "4k" if small else "unknown"
    percent = min(max(round(100 * huge / (huge + small)), 1), 99)
    return f"mixed ({percent} % 2m)" if small else "2m"
