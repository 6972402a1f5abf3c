"""Folios in memory, with a lookup for each of their pages."""

from __future__ import annotations

import numpy as np

from pagebench import core


class Memmap:
    """Folios of one order, populated, with a lookup for each of their pages."""

    def __init__(self, variant: core.Variant, order: int, folios: int) -> None:
        pages = folios << order
        unit = variant.struct_page_bytes // core.OFFSET_UNIT
        self.offsets = np.arange(pages, dtype=np.uint32) * np.uint32(unit)
        self.heads = self.offsets[np.arange(pages) >> order << order]
        self.memory = core.Reservation(pages * variant.struct_page_bytes, 1 << 20, "4k")
        self.base = self.memory.base
        rows = np.zeros(folios, core.FOLIO_DTYPE)
        rows["head"], rows["order"] = self.offsets[:: 1 << order], order
        core.populate(variant, self.base, rows)

    def write_word(self, lookup: int, word: int) -> None:
        """Give a page this compound_head or compound_info."""
        address = self.base + int(self.offsets[lookup]) * core.OFFSET_UNIT + 8
        core.ffi.cast("uint64_t *", address)[0] = word

    def __enter__(self) -> Memmap:
        return self

    def __exit__(self, *exception: object) -> None:
        self.memory.close()
