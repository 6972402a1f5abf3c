"""The memory models: how a memmap may lie at worst, and whether the mask encoding then finds every head.

Kernel facts are from FACTS.md, section 3, unless a line names another source.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import numpy.typing as npt

from pagebench import core
from pagebench.errors import PagebenchError
from pagebench.memmap import MAX_BYTES, FolioMap
from pagebench.units import GIB, KIB, format_size

# The sizes that the core's variants are built for (build.py).
STRUCT_PAGES = (56, 64, 96)
# The variant whose heads are proven; `branchless` writes and reads the same masks.
PROVEN = "mask"
MAX_FOLIO_BYTES = 16 * GIB  # with hugetlb on 64-bit: MAX_FOLIO_ORDER in <linux/mmzone.h>
SMP_CACHE_BYTES = 64  # x86-64, arm64
OK, WRONG, NO_FOLIO = "ok", "wrong", "no such folio"
# A proof's memmap: this many sections, apart; else pages in a row, where a folio does not have more.
PROOF_SECTIONS = 3
PROOF_PAGES = 1 << 15
# From <asm/mmap.h>, which Python's mmap leaves out.
MAP_NORESERVE = 0x4000


@dataclass(frozen=True, slots=True)
class BasePage:
    """A base page's size, and what follows from it on the architecture that has it."""

    bytes: int
    section_size_bits: int
    architecture: str

    @property
    def max_folio_order(self) -> int:
        """MAX_FOLIO_ORDER, but for SPARSEMEM without VMEMMAP."""
        return (MAX_FOLIO_BYTES // self.bytes).bit_length() - 1

    @property
    def pfn_section_shift(self) -> int:
        """PFN_SECTION_SHIFT: the order of a whole section, and MAX_FOLIO_ORDER without VMEMMAP."""
        return self.section_size_bits - (self.bytes.bit_length() - 1)

    @property
    def pmd_bytes(self) -> int:
        """PMD_SIZE: a page of eight-byte entries maps it."""
        return self.bytes * (self.bytes // 8)

    def section_memmap_bytes(self, struct_page_bytes: int) -> int:
        """``section_map_size()`` in mm/sparse.c, without VMEMMAP."""
        size = struct_page_bytes << self.pfn_section_shift
        return -(-size // self.bytes) * self.bytes

    def max_folio_vmemmap_align(self, struct_page_bytes: int) -> int:
        """MAX_FOLIO_VMEMMAP_ALIGN: the alignment that v7.1 checks in ``sparse_init()``; 0 for no mask."""
        return struct_page_bytes << self.max_folio_order if has_mask(struct_page_bytes) else 0


# SECTION_SIZE_BITS from <asm/sparsemem.h>.
BASE_PAGES = (
    BasePage(4 * KIB, 27, "x86-64"),
    BasePage(16 * KIB, 27, "arm64"),
    BasePage(64 * KIB, 29, "arm64"),
)


def has_mask(struct_page_bytes: int) -> bool:
    """``compound_info_has_mask()`` without its HVO gate: any other size keeps the tagged pointer."""
    return struct_page_bytes & (struct_page_bytes - 1) == 0


def _lowest_bit(number: int) -> int:
    return number & -number


@dataclass(frozen=True, slots=True)
class Model:
    """A memory model: ``promise`` is the alignment in bytes that its memmap's allocation asks for.

    ``sectioned``: each section's memmap is allocated apart, and no folio crosses a section.  ``vmemmap``: HVO
    is possible, without which v7.1 keeps the pointer.
    """

    name: str
    promise: Callable[[BasePage, int], int]
    origin: str
    sectioned: bool = False
    vmemmap: bool = False

    def promised(self, page: BasePage, struct_page_bytes: int) -> int:
        """The largest power of two, in bytes, that every address of that alignment is a multiple of."""
        return _lowest_bit(self.promise(page, struct_page_bytes))


# vmemmap with 16 and 64 KiB pages: "LoongArch/mm: align vmemmap to maximal folio size" (v7.1).
MODELS = (
    Model(
        "vmemmap",
        lambda page, size: (
            GIB if page.architecture == "x86-64" else max(page.pmd_bytes, page.max_folio_vmemmap_align(size))
        ),
        "one virtual array; x86-64 aligns it to 1 GiB, LoongArch (here with 16K and 64K pages) since v7.1 "
        "to MAX_FOLIO_VMEMMAP_ALIGN, and to PMD_SIZE at least",
        vmemmap=True,
    ),
    Model(
        "vmemmap-pmd",
        lambda page, size: page.pmd_bytes,
        "one virtual array aligned to PMD_SIZE alone, as others' was before v7.1",
        vmemmap=True,
    ),
    Model(
        "sparsemem-boot",
        lambda page, size: page.section_memmap_bytes(size),
        "memmap_alloc(size, size) for each section in __populate_section_memmap()",
        sectioned=True,
    ),
    Model(
        "sparsemem",
        lambda page, size: page.bytes,
        "hotplug: kvmalloc_node() for each section in populate_section_memmap(), which may fall back to "
        "vmalloc: PAGE_SIZE",
        sectioned=True,
    ),
    Model(
        "sparsemem-aligned",
        lambda page, size: page.section_memmap_bytes(size),
        "hotplug with kvmalloc_node_align(size, size), as Muchun Song suggests",
        sectioned=True,
    ),
    Model(
        "flatmem",
        lambda page, size: SMP_CACHE_BYTES,
        "one array: memmap_alloc(size, SMP_CACHE_BYTES) in alloc_node_mem_map()",
    ),
    Model(
        "flatmem-aligned",
        lambda page, size: size << page.max_folio_order,
        "the same, aligned to the largest folio's memmap as he suggests; its first pfn then has to be a "
        "multiple of that folio's pages too, where today's is one of MAX_ORDER_NR_PAGES",
    ),
)


def crosses_section(model: Model, folio_map: FolioMap, page: BasePage) -> bool:
    """Whether any of the folios is one that the model does not have."""
    first, last = folio_map.pfns, folio_map.pfns + (1 << folio_map.orders) - 1
    shift = page.pfn_section_shift
    return model.sectioned and bool(np.any(first >> shift != last >> shift))


class Placed:
    """Memory for a memmap as unaligned as its model may have it; a context manager.

    Every array that the model allocates (one, or one a section, in descending order) is at a multiple of
    ``promised_bytes`` that is none of twice as much.  ``base``: the address that offsets count from.  Only what
    is written takes memory.
    """

    def __init__(self, model: Model, folio_map: FolioMap, page: BasePage, backing: str) -> None:
        size, end = folio_map.struct_page_bytes, int(folio_map.pfns[-1] + (1 << folio_map.orders[-1]))
        self.folio_map = folio_map
        self.promised_bytes = model.promised(page, size)
        self._pages = 1 << page.pfn_section_shift if model.sectioned else end  # of one array
        self._arrays = -(-end // self._pages)
        twice = 2 * self.promised_bytes
        self._pitch = (self._pages * size // twice + 1) * twice
        length = (self._arrays - 1) * self._pitch + self._pages * size
        if length > MAX_BYTES:
            raise PagebenchError(
                f"{model.name}: memmaps scattered over {format_size(length)} are beyond {format_size(MAX_BYTES)}"
            )
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        try:
            self._memory = mmap.mmap(-1, length + twice, flags=flags)
        except OSError as error:
            raise PagebenchError(
                f"{model.name}: {format_size(length + twice)} of addresses cannot be had ({error.strerror}): "
                "raise `ulimit -v`"
            ) from error
        with contextlib.suppress(OSError):  # a kernel without THP: 4 KiB is then all there is
            self._memory.madvise(mmap.MADV_HUGEPAGE if backing == "2m" else mmap.MADV_NOHUGEPAGE)
        start = np.frombuffer(self._memory, np.uint8).ctypes.data
        self.base = start + (self.promised_bytes - start) % twice
        addresses = [self.base + self._pitch * i for i in range(self._arrays)]
        self.obtained_bytes = max(map(_lowest_bit, addresses))
        self.folios = self.folios_of(folio_map)

    def page_offsets(self, pfns: npt.NDArray[np.int64]) -> core.Offsets:
        """Where the struct pages of these pfns are, in units of 8 bytes from ``base``."""
        array, within = np.divmod(pfns, self._pages)
        offset = (self._arrays - 1 - array) * self._pitch + within * self.folio_map.struct_page_bytes
        return np.asarray(offset // core.OFFSET_UNIT, np.uint32)

    def folios_of(self, folio_map: FolioMap) -> npt.NDArray[np.void]:
        """The folios, as the core takes them, of a map within this one's pfns."""
        folios = np.empty(len(folio_map.pfns), core.FOLIO_DTYPE)
        folios["head"] = self.page_offsets(folio_map.pfns)
        folios["order"] = folio_map.orders
        return folios

    def close(self) -> None:
        """Give the memory back.  A second call does nothing."""
        self._memory.close()

    def __enter__(self) -> Placed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


def place(
    model: Model, folio_map: FolioMap, page: BasePage = BASE_PAGES[0], backing: str = "2m"
) -> Placed:
    """The memmap of ``folio_map`` at the worst addresses that the model promises, not yet populated.

    ``backing`` ("2m" or "4k") is asked for: :func:`pagebench.machine.backing_obtained` reads back what came.
    Raises PagebenchError for a folio that the model does not have, and where there is no room.
    """
    if crosses_section(model, folio_map, page):
        raise PagebenchError(
            f"{model.name} has no folio above order {page.pfn_section_shift} ({format_size(page.bytes)} base "
            "pages): it would cross a section; choose smaller orders"
        )
    return Placed(model, folio_map, page, backing)


def arithmetic(model: Model, page: BasePage, struct_page_bytes: int, order: int) -> str:
    """What a proof has to find: the mask needs ``sizeof(struct page) << order``, and no page needs a head
    beyond its section."""
    if model.sectioned and order > page.pfn_section_shift:
        return NO_FOLIO
    if order == 0 or not has_mask(struct_page_bytes):
        return OK
    return OK if struct_page_bytes << order <= model.promised(page, struct_page_bytes) else WRONG


@dataclass(frozen=True, slots=True)
class Proof:
    """Every page of every folio of one order looked up; ``expected`` is what arithmetic says.

    ``encoding``: "mask" or "pointer".  ``wrong_tails`` of ``tails`` and ``wrong_heads`` of ``heads`` lookups
    did not return the head.  ``obtained_bytes``: the alignment of the memmap's addresses, 0 without a folio.
    """

    base_page_bytes: int
    struct_page_bytes: int
    model: str
    order: int
    encoding: str
    found: str
    expected: str
    tails: int
    wrong_tails: int
    heads: int
    wrong_heads: int
    needed_bytes: int
    promised_bytes: int
    obtained_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.model}, order {self.order}, {format_size(self.base_page_bytes)} base pages, struct page of "
            f"{self.struct_page_bytes} bytes"
        )


def _proof_map(model: Model, page: BasePage, struct_page_bytes: int, order: int) -> FolioMap:
    """The folios of an order that a proof looks up: at least one."""
    pages = PROOF_SECTIONS << page.pfn_section_shift if model.sectioned else PROOF_PAGES
    return FolioMap.uniform(order, pages * struct_page_bytes, struct_page_bytes)


def _look_up(variant: core.Variant, placed: Placed, folio_map: FolioMap) -> tuple[int, int, int, int]:
    """Populate, then look up every page: tails, wrong tails, heads, wrong heads."""
    folios, order = placed.folios_of(folio_map), int(folio_map.orders[0])
    core.populate(variant, placed.base, folios)
    heads = np.ascontiguousarray(folios["head"])
    # A folio's memmap is one array in every model.
    steps = np.arange(1, 1 << order, dtype=np.uint32) * np.uint32(variant.struct_page_bytes // core.OFFSET_UNIT)
    tails = (heads[:, np.newaxis] + steps).ravel()
    run = variant.probes["lookup"].run
    wrong_tails = core.verify(run, placed.base, tails, np.repeat(heads, len(steps))).wrong
    return len(tails), wrong_tails, len(heads), core.verify(run, placed.base, heads, heads).wrong


def _prove_model(model: Model, page: BasePage, variant: core.Variant, top: int) -> Iterator[Proof]:
    """A proof for each order up to ``top``, all over the same addresses."""
    size = variant.struct_page_bytes
    maps = [_proof_map(model, page, size, order) for order in range(top + 1)]
    there = [folio_map for folio_map in maps if not crosses_section(model, folio_map, page)]
    with place(model, there[-1], page) as placed:
        for order, folio_map in enumerate(maps):
            tails = wrong_tails = heads = wrong_heads = obtained = 0
            if order < len(there):
                tails, wrong_tails, heads, wrong_heads = _look_up(variant, placed, folio_map)
                obtained = placed.obtained_bytes
            yield Proof(
                base_page_bytes=page.bytes,
                struct_page_bytes=size,
                model=model.name,
                order=order,
                encoding=PROVEN if has_mask(size) else "pointer",
                found=NO_FOLIO if not heads else WRONG if wrong_tails or wrong_heads else OK,
                expected=arithmetic(model, page, size, order),
                tails=tails,
                wrong_tails=wrong_tails,
                heads=heads,
                wrong_heads=wrong_heads,
                needed_bytes=size << order,
                promised_bytes=placed.promised_bytes,
                obtained_bytes=obtained,
            )


def prove(
    pages: Sequence[BasePage] = BASE_PAGES,
    struct_pages: Sequence[int] = STRUCT_PAGES,
    max_order: int | None = None,
    models: Collection[Model] = MODELS,
) -> list[Proof]:
    """Look every tail up, through the variant's own loop, for each model and each order that a folio can have.

    One memmap at the worst address is proof enough: what a mask returns depends on the head's address modulo
    the folio's ``sizeof(struct page) << order`` bytes alone, and the worst is the one that is a multiple of the
    promised alignment and not of twice as much.  Small folios fill several sections all the same.

    Raises PagebenchError, before anything is allocated, where memory does not suffice.
    """
    tops = {page: min(page.max_folio_order, page.max_folio_order if max_order is None else max_order) for page in pages}
    # One model's memmap at a time, and for each page three arrays of uint32 to look it up.
    largest = max(max(1 << top, PROOF_PAGES) for top in tops.values())
    check_fits(largest * (max(struct_pages) + 12), machine.available_bytes())
    return [
        proof
        for page in pages
        for size in struct_pages
        for model in models
        for proof in _prove_model(model, page, variants.find(PROVEN, size), tops[page])
    ]
