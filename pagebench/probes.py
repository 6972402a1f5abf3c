"""The probes, and what each one does to struct pages: the model they are held to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Probe:
    """What a timed loop does with each pfn, beside what its meaning says.

    ``uses_head``: goes on to the head's line.  ``refs`` and ``maps``: what one
    lookup adds to ``_refcount`` and ``_mapcount`` of the page it found.
    ``try_get``: finds no head but takes a reference on the page itself, which
    tails do not give.  ``writes_tails``: takes heads only, and writes to every
    tail, so that no tail may be mapped read-only.
    """

    meaning: str
    uses_head: bool = False
    refs: int = 0
    maps: int = 0
    try_get: bool = False
    writes_tails: bool = False

    @property
    def counts(self) -> bool:
        """Whether it writes to counts, be it only to put them back."""
        return self.uses_head or self.try_get


PROBES: Mapping[str, Probe] = {
    "lookup": Probe("independent lookups: throughput"),
    "chain": Probe("each address depends on the last result: latency"),
    "flags": Probe("chain through a load of the head's flags", uses_head=True),
    "get": Probe("lookup, atomic inc and dec of the head's _refcount", uses_head=True),
    "gup": Probe("lookup, atomic inc of the head's _refcount, lookup again", uses_head=True, refs=1),
    "zap": Probe("lookup, the head's mapping and flags, atomic dec of _mapcount", uses_head=True, maps=-1),
    "try_get": Probe("page_ref_add_unless() on the page itself", refs=1, try_get=True),
    "prep": Probe("set_compound_head() over all tails of a folio (heads)", writes_tails=True),
}
