"""The memory models: what alignment each promises its memmap, and what the mask encoding makes of that.

Guarantees are those of mm/sparse.c, mm/mm_init.c and the architectures, unless a line says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pagebench import names
from pagebench.units import GIB, KIB

MAX_FOLIO_BYTES = 16 * GIB  # with hugetlb on 64-bit: MAX_FOLIO_ORDER in <linux/mmzone.h>
SMP_CACHE_BYTES = 64  # x86-64, arm64, LoongArch
OK, WRONG, NO_FOLIO = "ok", "wrong", "no such folio"


@dataclass(frozen=True, slots=True)
class BasePage:
    """A base page's size, and what follows from it on an architecture that has it."""

    bytes: int
    section_size_bits: int

    @property
    def max_folio_order(self) -> int:
        """MAX_FOLIO_ORDER where folios may cross sections."""
        return (MAX_FOLIO_BYTES // self.bytes).bit_length() - 1

    @property
    def pfn_section_shift(self) -> int:
        """PFN_SECTION_SHIFT: the order of a whole section."""
        return self.section_size_bits - (self.bytes.bit_length() - 1)

    @property
    def pmd_bytes(self) -> int:
        """PMD_SIZE: what a page of eight-byte entries maps."""
        return self.bytes * (self.bytes // 8)

    def max_folio_vmemmap_align(self, struct_page_bytes: int) -> int:
        """MAX_FOLIO_VMEMMAP_ALIGN, which v7.1 checks in ``sparse_init()``: 0 where it keeps the pointer."""
        return struct_page_bytes << self.max_folio_order if has_mask(struct_page_bytes) else 0


# SECTION_SIZE_BITS of x86-64, and of arm64 with 16 and 64 KiB pages: <asm/sparsemem.h>.
BASE_PAGES = (BasePage(4 * KIB, 27), BasePage(16 * KIB, 27), BasePage(64 * KIB, 29))


def has_mask(struct_page_bytes: int) -> bool:
    """``compound_info_has_mask()`` but for its HVO gate: any other size keeps the tagged pointer."""
    return struct_page_bytes & (struct_page_bytes - 1) == 0


@dataclass(frozen=True, slots=True)
class Model:
    """A memory model, and in ``alignment`` that of its memmap's allocation: (base page, struct page bytes).

    ``sectioned``: each section's memmap is allocated apart, and no folio crosses a section.
    ``vmemmap``: has HVO, without which v7.1 keeps the pointer.
    """

    name: str
    origin: str
    alignment: Callable[[BasePage, int], int]
    sectioned: bool = False
    vmemmap: bool = False

    def promised(self, page: BasePage, struct_page_bytes: int) -> int:
        """The largest power of two, in bytes, that divides every address of that alignment."""
        asked = self.alignment(page, struct_page_bytes)
        return asked & -asked


def _vmemmap(page: BasePage, size: int) -> int:
    # "LoongArch/mm: align vmemmap to maximal folio size" (v7.1): x86-64 has 4 KiB pages alone.
    return GIB if page.bytes == 4 * KIB else max(page.pmd_bytes, page.max_folio_vmemmap_align(size))


def _section(page: BasePage, size: int) -> int:
    # section_map_size() in mm/sparse.c, without VMEMMAP
    return -(-(size << page.pfn_section_shift) // page.bytes) * page.bytes


VMEMMAP = "one virtual array: 1 GiB (x86-64); 16K, 64K: max(PMD_SIZE, MAX_FOLIO_VMEMMAP_ALIGN) (LoongArch)"
VMEMMAP_PMD = "one virtual array, aligned to PMD_SIZE alone, as there were before v7.1"
BOOT = "SPARSEMEM without VMEMMAP, at boot: memmap_alloc(size, size) for each section"
HOTPLUG = "hotplug: kvmalloc_node() in populate_section_memmap(), which may fall back to vmalloc: PAGE_SIZE"
HOTPLUG_ALIGNED = "hotplug by kvmalloc_node_align(size, size), as Muchun Song suggests"
FLATMEM = "one array: memmap_alloc(size, SMP_CACHE_BYTES) in alloc_node_mem_map()"
FLATMEM_ALIGNED = (
    "the same, aligned to the largest folio's memmap, as he suggests; its first pfn, today a multiple of "
    "MAX_ORDER_NR_PAGES, has to be one of that folio's pages then"
)
MODELS = (
    Model("vmemmap", VMEMMAP, _vmemmap, vmemmap=True),
    Model("vmemmap-pmd", VMEMMAP_PMD, lambda page, size: page.pmd_bytes, vmemmap=True),
    Model("sparsemem-boot", BOOT, _section, sectioned=True),
    Model("sparsemem", HOTPLUG, lambda page, size: page.bytes, sectioned=True),
    Model("sparsemem-aligned", HOTPLUG_ALIGNED, _section, sectioned=True),
    Model("flatmem", FLATMEM, lambda page, size: SMP_CACHE_BYTES),
    Model("flatmem-aligned", FLATMEM_ALIGNED, lambda page, size: size << page.max_folio_order),
)


def find(name: str) -> Model:
    """A memory model by name.  Raises PagebenchError for an unknown one."""
    known = {model.name: model for model in MODELS}
    if name not in known:
        raise names.nearest(name, known, "memory model")
    return known[name]


def arithmetic(model: Model, page: BasePage, struct_page_bytes: int, order: int) -> str:
    """What a proof should find: the mask needs ``sizeof(struct page) << order`` bytes of alignment."""
    if model.sectioned and order > page.pfn_section_shift:
        return NO_FOLIO
    fits = struct_page_bytes << order <= model.promised(page, struct_page_bytes)
    return OK if fits or order == 0 or not has_mask(struct_page_bytes) else WRONG
