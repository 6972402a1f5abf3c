"""The variants by name, and which of them write the same words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import numpy as np

from pagebench import compiled, core
from pagebench.errors import PagebenchError

# Harness only: the loop without a lookup, and the one-cycle positive control
# with the variant that it is compared with.
IDENTITY = "identity"
CONTROL = "control"
CONTROL_REFERENCE = "branchless"
HARNESS = (IDENTITY, CONTROL)


def nearest(name: str, known: Iterable[str], what: str) -> PagebenchError:
    """The error for an unknown name, with the nearest known one."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
    return PagebenchError(f"unknown {what} {name!r}: {hint}")


def object_of(struct_page_bytes: int) -> Path | None:
    """Where the variants over struct pages of that size are: None for the core itself.

    Compiles them when they are not built in.  Raises PagebenchError for sizes
    that no struct page has, or where nothing can compile.
    """
    if struct_page_bytes in core.built_in_struct_pages():
        return None
    return compiled.built_in(struct_page_bytes)


@cache
def known(struct_page_bytes: int = 64) -> Mapping[str, core.Variant]:
    """The variants over struct pages of that size, by name.  Raises like object_of()."""
    path = object_of(struct_page_bytes)
    return core.built_in_variants(struct_page_bytes) if path is None else core.load_variants(path)


def find(name: str, struct_page_bytes: int = 64) -> core.Variant:
    """A variant over struct pages of that size.

    Raises PagebenchError for an unknown name.
    """
    table = known(struct_page_bytes)
    if name not in table:
        raise nearest(name, table, "variant")
    return table[name]


def encodings(variants: Mapping[str, core.Variant], order: int) -> dict[str, int]:
    """Which variants write the same memmap for folios of an order.

    Each in turn populates one folio (of order 2 at the most) at one address:
    same bytes, same number.  Base pages have no tails, so there all agree.
    """
    folio = np.array([(0, min(order, 2), 0)], core.FOLIO_DTYPE)
    seen: list[bytes] = []
    numbers = {}
    with core.Reservation(4096, 4096, "4k") as memory:
        for name, variant in variants.items():
            core.populate(variant, memory.base, folio)
            written = memory.bytes_at(0, variant.struct_page_bytes << min(order, 2))
            if written not in seen:
                seen.append(written)
            numbers[name] = seen.index(written)
    return numbers
