"""Memmaps in memory: plain, mapped frame by frame, or as badly aligned as a memory model allows."""

from __future__ import annotations

import contextlib
import mmap
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pagebench import core
from pagebench.core import Closing
from pagebench.errors import PagebenchError
from pagebench.memmap.arrangement import Arrangement
from pagebench.memmap.folios import FolioMap
from pagebench.memmap.layouts import check_map_count, frame_map
from pagebench.memmap.models import BASE_PAGES, BasePage, Model
from pagebench.names import PAGE_SIZE
from pagebench.units import format_size

# Anonymous memory that only counts as it is written: <asm/mman.h> (Python's mmap has no MAP_NORESERVE).
SPARSE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000


class Memmap(Protocol):
    """A memmap at ``base`` that a variant can be asked to write."""

    @property
    def base(self) -> int:
        """Its address."""

    def write(self, variant: core.Variant, whole: bool) -> None:
        """``whole`` struct pages, or only the words that set_compound_head() writes."""


@dataclass(frozen=True, slots=True)
class PlainMemmap:
    """A memmap in reserved memory, every page a frame of its own."""

    base: int
    folio_map: FolioMap

    def write(self, variant: core.Variant, whole: bool) -> None:
        """See Memmap."""
        (core.populate if whole else core.encode)(variant, self.base, self.folio_map.folios)


class MappedMemmap(Closing):
    """A memmap in a layout of aliased frames; a context manager.

    Raises PagebenchError for too many mappings, OSError for memory.
    """

    def __init__(self, layout: str, folio_map: FolioMap) -> None:
        self.folio_map = folio_map
        self.map = frame_map(layout, folio_map)
        check_map_count(self.map.mappings)
        self._mapping = core.FrameMapping(self.map.frames, self.map.writable, folio_map.alignment)
        self.base = self._mapping.base

    def write(self, variant: core.Variant, whole: bool) -> None:
        """Write every frame once: ``whole`` struct pages, or only the tails' words."""
        (core.populate if whole else core.encode)(variant, self.base, self.map.folios)
        count = PAGE_SIZE // self.folio_map.struct_page_bytes
        for frame, order, head in self.map.tails:
            at = self._mapping.all_frames + frame * PAGE_SIZE
            core.write_tails(variant, at, self.base + head, order, count, whole)

    def close(self) -> None:
        """Unmap it."""
        self._mapping.close()


class ModelMemmap(Closing):
    """Memory for a memmap as badly aligned as its model allows; a context manager.

    ``base`` is the lowest address, at a multiple of ``promised_bytes`` and of no more; ``obtained_bytes``
    is what the addresses have.  Memory is taken as it is written.
    """

    def __init__(self, model: Model, folio_map: FolioMap, page: BasePage, backing: str) -> None:
        self.folio_map = folio_map
        self.arrangement = Arrangement(model, folio_map, page)
        self.promised_bytes = self.arrangement.promised_bytes
        length, twice = self.arrangement.bytes, 2 * self.promised_bytes
        try:
            self._memory = mmap.mmap(-1, length + twice, SPARSE)
        except OSError as error:
            raise PagebenchError(
                f"{model.name} needs {format_size(length + twice)} of address space ({error.strerror}): "
                "choose smaller footprints or orders, or raise `ulimit -v`"
            ) from error
        with contextlib.suppress(OSError):  # a kernel without THP has 4 KiB pages alone
            self._memory.madvise(mmap.MADV_HUGEPAGE if backing == "2m" else mmap.MADV_NOHUGEPAGE)
        start = np.frombuffer(self._memory, np.uint8).ctypes.data
        self.base = start + (self.promised_bytes - start) % twice
        addresses = [self.base + i * self.arrangement.pitch for i in range(self.arrangement.arrays)]
        self.obtained_bytes = max(address & -address for address in addresses)
        self.folios = self.folios_of(folio_map)

    def page_offsets(self, pfns: npt.NDArray[np.int64]) -> core.Offsets:
        """Where the struct pages of these pfns are, in units of 8 bytes from ``base``."""
        return self.arrangement.page_offsets(pfns)

    def folios_of(self, folio_map: FolioMap) -> npt.NDArray[np.void]:
        """The folios of a map within this one's pfns, as the core takes them (core.FOLIO_DTYPE)."""
        folios = np.zeros(len(folio_map.pfns), core.FOLIO_DTYPE)
        folios["head"] = self.page_offsets(folio_map.pfns)
        folios["order"] = folio_map.orders
        return folios

    def write(self, variant: core.Variant, whole: bool) -> None:
        """Write ``whole`` struct pages, or only the words that set_compound_head() writes."""
        (core.populate if whole else core.encode)(variant, self.base, self.folios)

    def close(self) -> None:
        """Give the memory back.  A second call does nothing."""
        self._memory.close()


def place(
    model: Model, folio_map: FolioMap, page: BasePage = BASE_PAGES[0], backing: str = "2m"
) -> ModelMemmap:
    """Memory for the memmap of ``folio_map`` at the worst addresses that the model allows.

    ``backing``, "2m" or "4k", is asked for; machine.backing_obtained() reads back what came.  Raises
    PagebenchError for a folio that the model does not have, or where addresses run out.
    """
    return ModelMemmap(model, folio_map, page, backing)
