"""Memmaps: which folios they cover and what memory that takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pagebench import core, names
from pagebench.errors import PagebenchError
from pagebench.names import MAX_FOLIO_ORDER, PAGE_SIZE
from pagebench.units import format_size

# What 32-bit offsets in units of 8 bytes reach.
MAX_BYTES = core.OFFSET_UNIT << 32


@dataclass(frozen=True)
class FolioMap:
    """The folios that a memmap covers: heads' pfns (from 0) and orders.

    ``pfns`` and ``orders`` are int64 arrays of one length, ascending and
    without holes being required.  Every folio is naturally aligned.
    """

    struct_page_bytes: int
    pfns: npt.NDArray[np.int64]
    orders: npt.NDArray[np.int64]
    # Which folios HVO optimizes (hugetlb); the others keep a plain memmap.
    optimised: npt.NDArray[np.bool_] = field(default_factory=lambda: np.ones(1, np.bool_))
    # Of a machine's folios: an index into host.captures.KINDS for each; pfns that a process has mapped.
    kinds: npt.NDArray[np.uint8] | None = None
    mapped: npt.NDArray[np.int64] | None = None
    # Where struct pages are, if not one behind the other: see pagebench.memmap.arrangement.
    arrangement: Callable[[npt.NDArray[np.int64]], core.Offsets] | None = None

    def __post_init__(self) -> None:
        if not len(self.pfns):
            raise PagebenchError("a memmap needs at least one folio")
        if self.pfns.min() < 0:
            raise PagebenchError("pfns go from 0")
        if self.orders.min() < 0 or self.orders.max() > MAX_FOLIO_ORDER:
            raise PagebenchError(f"folio orders go from 0 to {MAX_FOLIO_ORDER}")
        if np.any(self.pfns % (1 << self.orders)):
            raise PagebenchError("a folio's head pfn is a multiple of its number of pages")
        if np.any(self.pfns[1:] < (self.pfns + (1 << self.orders))[:-1]):
            raise PagebenchError("folios must ascend by pfn and not overlap")
        check_reach(self.bytes)
        object.__setattr__(self, "optimised", np.broadcast_to(self.optimised, self.pfns.shape))

    @classmethod
    def uniform(cls, order: int, footprint_bytes: int, struct_page_bytes: int = 64) -> FolioMap:
        """As many folios of one order as the footprint holds, and at least one."""
        needed = uniform_bytes(order, footprint_bytes, struct_page_bytes)
        check_reach(needed)
        count = needed // (struct_page_bytes << order)
        return cls(
            struct_page_bytes, np.arange(count, dtype=np.int64) << order, np.full(count, order, np.int64)
        )

    @property
    def bytes(self) -> int:
        """Bytes of struct pages from pfn 0 to the last folio's end."""
        return (int(self.pfns[-1]) + (1 << int(self.orders[-1]))) * self.struct_page_bytes

    @property
    def alignment(self) -> int:
        """The alignment in bytes of the whole memmap, see alignment()."""
        return alignment(self.struct_page_bytes, int(self.orders.max()))

    @cached_property
    def folios(self) -> npt.NDArray[np.void]:
        """The folios as the core takes them (core.FOLIO_DTYPE)."""
        folios = np.zeros(len(self.pfns), core.FOLIO_DTYPE)
        folios["head"] = self.offsets_of(self.pfns)
        folios["order"] = self.orders
        return folios

    def offsets_of(self, pfns: npt.NDArray[np.int64]) -> core.Offsets:
        """Where the struct pages of these pfns are, in units of 8 bytes."""
        if self.arrangement is not None:
            return self.arrangement(pfns)
        return (pfns * (self.struct_page_bytes // core.OFFSET_UNIT)).astype(np.uint32)

    @cached_property
    def page_pfns(self) -> npt.NDArray[np.int64]:
        """Every page of every folio, ascending."""
        sizes = 1 << self.orders
        if sizes.sum() == self.bytes // self.struct_page_bytes:  # from pfn 0, without holes
            return np.arange(sizes.sum())
        starts = np.cumsum(sizes) - sizes
        return np.asarray(np.arange(int(sizes.sum())) + np.repeat(self.pfns - starts, sizes), np.int64)

    @cached_property
    def page_heads(self) -> npt.NDArray[np.int64]:
        """The head's pfn of every page in ``page_pfns``."""
        return np.repeat(self.pfns, 1 << self.orders)

    @cached_property
    def page_offsets(self) -> core.Offsets:
        """Where every page of ``page_pfns`` is, in units of 8 bytes."""
        return self.offsets_of(self.page_pfns)

    @cached_property
    def head_offsets(self) -> core.Offsets:
        """Where the head of every page of ``page_pfns`` is, in units of 8 bytes."""
        return np.repeat(self.offsets_of(self.pfns), 1 << self.orders)

    def heads_of(self, pfns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The pfn of the head that geometry dictates, for any of the pages."""
        return np.asarray(self.pfns[np.searchsorted(self.pfns, pfns, side="right") - 1], np.int64)


def alignment(struct_page_bytes: int, order: int) -> int:
    """The alignment in bytes that a mask needs, and PAGE_SIZE at least.

    Where struct pages are no power of two there is no mask to serve.
    """
    if struct_page_bytes & (struct_page_bytes - 1):
        return PAGE_SIZE
    return max(PAGE_SIZE, struct_page_bytes << order)


def uniform_bytes(order: int, footprint_bytes: int, struct_page_bytes: int = 64) -> int:
    """Bytes of the memmap that FolioMap.uniform() makes, without making it."""
    folio = struct_page_bytes << order
    return max(1, footprint_bytes // folio) * folio


def check_reach(size: int) -> None:
    """Refuse a memmap of more bytes than offsets reach.  Raises PagebenchError."""
    if size > MAX_BYTES:
        raise PagebenchError(f"a memmap of {format_size(size)} is beyond {format_size(MAX_BYTES)}")


def reserved_bytes(needed: int, backing: str) -> int:
    """A memmap's length, rounded up to whole pages of its backing."""
    page = names.find_backing(backing).page_bytes
    return -(-needed // page) * page


def check_fits(needed: int, available: int | None) -> None:
    """Refuse, before anything is allocated, what does not fit free memory.

    Both in bytes.  Raises PagebenchError with both numbers.
    """
    if available is not None and needed > available:
        raise PagebenchError(
            f"the memmaps need {format_size(needed)} and {format_size(available)} of memory are free: "
            "choose smaller footprints or orders"
        )
