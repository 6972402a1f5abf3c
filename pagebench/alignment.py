"""The memory models: how a memmap may lie at worst, and whether the mask encoding then finds every head.

Guarantees are those of mm/sparse.c, mm/mm_init.c and the architectures, unless a line says otherwise.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pagebench import core, names, variants
from pagebench.core import Closing
from pagebench.errors import PagebenchError
from pagebench.host import resources
from pagebench.memmap import FolioMap, check_fits, check_reach
from pagebench.units import GIB, KIB, format_size

# What the core's variants are built for (build.py), the usual one first.
STRUCT_PAGES = (64, 56, 96)
MASK = "mask"  # what is proven; `branchless` has the same masks
MAX_FOLIO_BYTES = 16 * GIB  # with hugetlb on 64-bit: MAX_FOLIO_ORDER in <linux/mmzone.h>
SMP_CACHE_BYTES = 64  # x86-64, arm64, LoongArch
# Anonymous memory that only counts as it is written: <asm/mman.h> (Python's mmap has no MAP_NORESERVE).
SPARSE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000
OK, WRONG, NO_FOLIO = "ok", "wrong", "no such folio"
# What small folios fill for a proof: so many sections apart, or pages in a row.
PROOF_SECTIONS = 3
PROOF_PAGES = 1 << 15


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


def crosses_section(model: Model, folio_map: FolioMap, page: BasePage) -> bool:
    """Whether any of the folios is one that the model does not have."""
    first, last = folio_map.pfns, folio_map.pfns + (1 << folio_map.orders) - 1
    shift = page.pfn_section_shift
    return model.sectioned and bool(np.any(first >> shift != last >> shift))


class Arrangement:
    """How a model lays a memmap out from its lowest address: one array, or one a section.

    Sections stand in descending order.  Each array is at a multiple of ``promised_bytes`` and of no more,
    if the lowest is.
    """

    def __init__(self, model: Model, folio_map: FolioMap, page: BasePage) -> None:
        if crosses_section(model, folio_map, page):
            raise PagebenchError(
                f"{model.name} has no folio above order {page.pfn_section_shift} with "
                f"{format_size(page.bytes)} pages, as none crosses a section: choose smaller orders"
            )
        self._struct_page_bytes = size = folio_map.struct_page_bytes
        end = folio_map.bytes // size
        self.promised_bytes = model.promised(page, size)
        self._pages = 1 << page.pfn_section_shift if model.sectioned else end  # of one array
        self.arrays = -(-end // self._pages)
        twice = 2 * self.promised_bytes
        self.pitch = (self._pages * size // twice + 1) * twice
        self.bytes = (self.arrays - 1) * self.pitch + self._pages * size
        check_reach(self.bytes)

    def page_offsets(self, pfns: npt.NDArray[np.int64]) -> core.Offsets:
        """Where the struct pages of these pfns are, in units of 8 bytes from the lowest."""
        array, within = np.divmod(pfns, self._pages)
        distance = (self.arrays - 1 - array) * self.pitch + within * self._struct_page_bytes
        return np.asarray(distance // core.OFFSET_UNIT, np.uint32)


class Placed(Closing):
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


def find(name: str) -> Model:
    """A memory model by name.  Raises PagebenchError for an unknown one."""
    known = {model.name: model for model in MODELS}
    if name not in known:
        raise names.nearest(name, known, "memory model")
    return known[name]


def place(model: Model, folio_map: FolioMap, page: BasePage = BASE_PAGES[0], backing: str = "2m") -> Placed:
    """Memory for the memmap of ``folio_map`` at the worst addresses that the model allows.

    ``backing``, "2m" or "4k", is asked for; machine.backing_obtained() reads back what came.  Raises
    PagebenchError for a folio that the model does not have, or where addresses run out.
    """
    return Placed(model, folio_map, page, backing)


def arithmetic(model: Model, page: BasePage, struct_page_bytes: int, order: int) -> str:
    """What a proof should find: the mask needs ``sizeof(struct page) << order`` bytes of alignment."""
    if model.sectioned and order > page.pfn_section_shift:
        return NO_FOLIO
    fits = struct_page_bytes << order <= model.promised(page, struct_page_bytes)
    return OK if fits or order == 0 or not has_mask(struct_page_bytes) else WRONG


@dataclass(frozen=True, slots=True)
class Proof:
    """One order of one model: ``found`` by looking every page up, ``expected`` by arithmetic.

    ``wrong_tails`` of ``tails`` and ``wrong_heads`` of ``heads`` lookups did not return the folio's head.
    """

    base_page_bytes: int
    struct_page_bytes: int
    model: str
    order: int
    encoding: str
    found: str
    expected: str
    needed_bytes: int
    promised_bytes: int
    obtained_bytes: int
    tails: int = 0
    wrong_tails: int = 0
    heads: int = 0
    wrong_heads: int = 0


def _look_up(variant: core.Variant, placed: Placed, folio_map: FolioMap) -> dict[str, int]:
    """Populate folios of one order, each in one array, and look every page up: a Proof's counts."""
    folios = placed.folios_of(folio_map)
    core.populate(variant, placed.base, folios)
    run, unit = variant.probes["lookup"].run, variant.struct_page_bytes // core.OFFSET_UNIT
    heads = np.ascontiguousarray(folios["head"])
    steps = np.arange(1, 1 << int(folios["order"][0]), dtype=np.uint32) * np.uint32(unit)
    tails = (heads[:, np.newaxis] + steps).ravel()
    wrong_tails = core.verify(run, placed.base, tails, np.repeat(heads, len(steps))).wrong
    wrong_heads = core.verify(run, placed.base, heads, heads).wrong
    return {"tails": len(tails), "wrong_tails": wrong_tails, "heads": len(heads), "wrong_heads": wrong_heads}


def _prove(model: Model, page: BasePage, variant: core.Variant, top: int) -> Iterator[Proof]:
    """Orders 0 to ``top`` of a model, all over the same addresses."""
    size = variant.struct_page_bytes
    pages = PROOF_SECTIONS << page.pfn_section_shift if model.sectioned else PROOF_PAGES
    maps = [FolioMap.uniform(order, pages * size, size) for order in range(top + 1)]
    maps = [folio_map for folio_map in maps if not crosses_section(model, folio_map, page)]
    with place(model, max(maps, key=lambda folio_map: folio_map.bytes), page) as placed:
        for order in range(top + 1):
            counts = _look_up(variant, placed, maps[order]) if order < len(maps) else {}
            wrong = counts.get("wrong_tails") or counts.get("wrong_heads")
            yield Proof(
                base_page_bytes=page.bytes,
                struct_page_bytes=size,
                model=model.name,
                order=order,
                encoding="mask" if has_mask(size) else "pointer",
                found=WRONG if wrong else OK if counts else NO_FOLIO,
                expected=arithmetic(model, page, size, order),
                needed_bytes=size << order,
                promised_bytes=placed.promised_bytes,
                obtained_bytes=placed.obtained_bytes,
                **counts,
            )


def prove(
    pages: Sequence[BasePage] = BASE_PAGES,
    struct_pages: Sequence[int] = STRUCT_PAGES,
    max_order: int | None = None,
) -> list[Proof]:
    """Look every page up through the variant's own loop: each model, each order up to ``max_order``.

    One folio at the worst address proves an order: what the mask makes of a tail's address depends on the
    head's modulo ``sizeof(struct page) << order`` alone, and all that the model allows are multiples of the
    promised power of two.  Small folios fill sections all the same.  Raises PagebenchError, before anything
    is allocated, where memory does not suffice.
    """
    tops = [p.max_folio_order if max_order is None else min(p.max_folio_order, max_order) for p in pages]
    # The largest memmap, and for each of its pages at most three offsets.
    most = max(1 << max(tops), PROOF_SECTIONS * PROOF_PAGES)
    check_fits(most * (max(struct_pages) + 12), resources.available_bytes())
    return [
        proof
        for page, top in zip(pages, tops, strict=True)
        for size in struct_pages
        for model in MODELS
        for proof in _prove(model, page, variants.find(MASK, size), top)
    ]
