"""The vocabulary: one word for one thing, in options, result files and reports alike.

Imports nothing heavy: no numpy and no compiled core.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from pagebench.errors import PagebenchError
from pagebench.units import MIB

PAGE_SIZE = 4096
# Where a footprint stays.
LEVELS = ("l1", "l2", "l3", "dram")

LAYOUTS = {
    "plain": "a frame of its own for each page of the memmap",
    "hvo": "v5.17 ... v7.0: each folio's first frame again, read-only: fake heads",
    "hvo-shared": "v7.1 and later: one frame of tails for all folios of an order, read-only",
}
# Pages that a memmap is mapped from, in bytes: 2m is THP or hugetlb, memfd frame by frame.
BACKING_BYTES = {"4k": PAGE_SIZE, "2m": 2 * MIB, "memfd": PAGE_SIZE}

PATTERNS = {
    "random": "any page, uniformly",
    "heads": "head pages only, uniformly",
    "tails": "tail pages only, uniformly; none at order 0",
    "mixed": "a share of heads among tails, as in mixed:0.25 (default 0.5); none at order 0",
    "scan": "page after page by pfn, as a pfn walker does",
    "zap": "a head, then its tails, folios in random order; none at order 0",
    "slab": "random pages over slabs of order 0 to 3, as kfree() meets them; at order 3 only",
    "heads-aligned": "heads whose struct page starts a page: all that HVO could have made",
    "heads-unaligned": "heads whose struct page does not; none from order 6 on",
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

# sizeof(struct page) that variants are built for, what 64-bit configurations give; the usual one first.
BUILT_IN_STRUCT_PAGES = (64, 56, 96)
# And that they can be compiled for: page.h lays out 56 bytes; no kernel's comes near 256.
STRUCT_PAGES = range(56, 257, 8)

# Harness only: the loop without a lookup, and the one-cycle positive control
# with the variant that it is compared with.
IDENTITY = "identity"
CONTROL = "control"
CONTROL_REFERENCE = "branchless"
HARNESS = (IDENTITY, CONTROL)
# What a kernel tree's variant is called with HVO's static key on: old+key beside old.
KEY_SUFFIX = "+key"


def nearest(name: str, known: Iterable[str], what: str) -> PagebenchError:
    """The error for an unknown name, with the nearest known one."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
    return PagebenchError(f"unknown {what} {name!r}: {hint}")


def backing_name(obtained: Mapping[str, int]) -> str:
    """``2m``, ``4k``, ``mixed (87 % 2m)``, or ``unknown`` where nothing is resident; bytes by backing."""
    huge, small = obtained["2m"], obtained["4k"]
    if not huge:
        return "4k" if small else "unknown"
    percent = min(max(round(100 * huge / (huge + small)), 1), 99)
    return f"mixed ({percent} % 2m)" if small else "2m"
