"""Caches, TLBs and branch predictors, simulated over recordings of machine code."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, get_args

import numpy as np
import numpy.typing as npt

from pagebench.core.closing import Closing
from pagebench.core.extension import array, check, ffi, lib
from pagebench.names import Policy, Prefetch
from pagebench.names import Predictor as PredictorKind

Simd = Literal["none", "avx2", "avx512"]

# enum pb_policy, enum pb_prefetch, enum pb_predictor_kind, enum pb_simd
_POLICIES = {
    "lru": lib.PB_POLICY_LRU,
    "plru": lib.PB_POLICY_PLRU,
    "random": lib.PB_POLICY_RANDOM,
}
_PREFETCHES = {
    "none": lib.PB_PREFETCH_NONE,
    "next-line": lib.PB_PREFETCH_NEXT_LINE,
    "stride": lib.PB_PREFETCH_STRIDE,
}
_KINDS = {
    "bimodal": lib.PB_PREDICTOR_BIMODAL,
    "gshare": lib.PB_PREDICTOR_GSHARE,
    "tage": lib.PB_PREDICTOR_TAGE,
}

_SIMD: dict[Simd | bool, int] = {
    "none": lib.PB_SIMD_NONE,
    "avx2": lib.PB_SIMD_AVX2,
    "avx512": lib.PB_SIMD_AVX512,
    False: lib.PB_SIMD_NONE,
    True: lib.PB_SIMD_BEST,
}

CACHE_LEVELS: int = lib.PB_CACHE_LEVELS
TLB_LEVELS: int = lib.PB_TLB_LEVELS
# An access's class is one of so many; the loads of page walks have the last.
ACCESS_CLASSES: int = lib.PB_ACCESS_CLASSES
WALK_CLASS: int = lib.PB_ACCESS_WALK
BRANCH_SITES: int = lib.PB_BRANCH_SITES
# In an outcome, beside the level.
OUTCOME_ALIAS: int = lib.PB_OUTCOME_ALIAS

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Cache:
    """One level: any number of sets, 1 to 16 ways (for "plru" a power of two), lines of 64 bytes.

    A level's prefetcher fetches what its own accesses let it expect, within 4 KiB: after a miss the
    "next-line", or the line a "stride" further, where a site's accesses came twice in a row at that distance.
    """

    sets: int
    ways: int
    policy: Policy = "lru"
    prefetch: Prefetch = "none"


@dataclass(frozen=True, slots=True)
class Tlb:
    """One level of TLB, of one page size: LRU, any number of sets and ways."""

    sets: int
    ways: int


@dataclass(frozen=True, slots=True)
class CacheGeometry:
    """Up to three caches, and up to two levels of TLBs for either page size.

    ``inclusive``: a line that leaves the last cache leaves the others too.  ``way_predictor``: a hit in the
    first cache by another linear address than the line's last one is an alias.  ``unified``: of each level,
    whether ``tlb_4k`` holds both page sizes; ``tlb_2m`` is None there.  A TLB that is None misses always;
    where all are, none is simulated.
    """

    caches: tuple[Cache, ...]
    inclusive: bool = False
    way_predictor: bool = False
    tlb_4k: tuple[Tlb | None, Tlb | None] = (None, None)
    tlb_2m: tuple[Tlb | None, Tlb | None] = (None, None)
    unified: tuple[bool, bool] = (False, False)

    def cdata(self) -> Any:
        """A ``struct pb_cachesim_geometry``.  Raises ValueError for more levels than it has."""
        if not 1 <= len(self.caches) <= CACHE_LEVELS:
            raise ValueError(f"{len(self.caches)} levels of caches: 1 to {CACHE_LEVELS} can be simulated")
        return ffi.new(
            "struct pb_cachesim_geometry *",
            {
                "levels": len(self.caches),
                "cache": [
                    (cache.sets, cache.ways, _POLICIES[cache.policy], _PREFETCHES[cache.prefetch])
                    for cache in self.caches
                ],
                "inclusive": self.inclusive,
                "way_predictor": self.way_predictor,
                "tlb_4k": [(tlb.sets, tlb.ways) if tlb else (0, 0) for tlb in self.tlb_4k],
                "tlb_2m": [(tlb.sets, tlb.ways) if tlb else (0, 0) for tlb in self.tlb_2m],
                "unified_first": self.unified[0],
                "unified_second": self.unified[1],
            },
        )


@dataclass(frozen=True, slots=True)
class Region:
    """Linear memory [begin, end), in bytes, and the frames that it is mapped from.

    ``frames`` (uint32, one a page) counts frames in pages of 1 << ``page_shift`` bytes, 12 or 21; ``begin``
    is a page's.  ``access_class`` is the caller's, below ACCESS_CLASSES.  ``walk_line`` is the physical line
    of the first page's entry in the last level of the page table.
    """

    begin: int
    end: int
    page_shift: int
    access_class: int
    frames: npt.NDArray[np.uint32] = field(compare=False)
    walk_line: int


@dataclass(frozen=True, slots=True)
class CacheCounts:
    """How often what happened, by access class on the last axis: int64.

    ``accesses`` and ``aliases`` are (classes,), ``misses`` is (levels of caches, classes) and ``tlb_misses``
    (levels of TLBs, classes), the last of which are page walks; ``prefetches`` are lines fetched ahead.
    """

    accesses: npt.NDArray[np.int64]
    misses: npt.NDArray[np.int64]
    aliases: npt.NDArray[np.int64]
    tlb_misses: npt.NDArray[np.int64]
    prefetches: int

    def __sub__(self, earlier: CacheCounts) -> CacheCounts:
        """What was counted since."""
        return CacheCounts(
            self.accesses - earlier.accesses,
            self.misses - earlier.misses,
            self.aliases - earlier.aliases,
            self.tlb_misses - earlier.tlb_misses,
            self.prefetches - earlier.prefetches,
        )


def _words(values: Words, what: str) -> Words:
    """Refuse what C would take for something else."""
    if values.dtype != np.uint64 or values.ndim != 1 or not values.flags.c_contiguous:
        raise ValueError(f"{what}: a contiguous row of uint64 is wanted")
    return values


def _counted(field: Any) -> npt.NDArray[np.int64]:
    """A copy of an array in a ``struct pb_cache_counts``."""
    return np.frombuffer(ffi.buffer(field), np.int64).reshape(-1, ACCESS_CLASSES).copy()


class CacheSim(Closing):
    """Caches with what they hold, empty at first; a context manager.

    ``simd``: True for the machine's best vector instructions, which count the same and are faster; they are
    of use where there is LRU and nothing else, and ``.simd`` is what is used.  Raises OSError: EINVAL for a
    geometry that cannot be, EOPNOTSUPP for instructions that the machine does not have, ENOMEM.
    """

    def __init__(self, geometry: CacheGeometry, simd: Simd | bool = True) -> None:
        self._sim: Any = None
        ret = ffi.new("struct pb_cachesim **")
        check(lib.pb_cachesim_create(geometry.cdata(), _SIMD[simd], ret), f"simulating {geometry}")
        self._sim = ret[0]
        self._counts: Any = ffi.new("struct pb_cache_counts *")
        self.geometry = geometry
        used = lib.pb_cachesim_simd(self._sim)
        self.simd: Simd = next(name for name in get_args(Simd) if _SIMD[name] == used)

    def translate(self, regions: Sequence[Region], records: Words) -> Words:
        """The accesses (uint64) that a recording (uint64) comes to, page walks included: for run().

        A record: bits 0-47 the linear address, 48-62 the site; with bit 63 set a branch, which is skipped.
        The TLBs' state goes on from call to call.  Raises OSError: EFAULT, with the record, for an address in
        no region; ERANGE for a frame above 16 TiB; EINVAL for regions that overlap or are not at pages.
        """
        ordered = sorted(regions, key=lambda region: region.begin)
        frames = [np.ascontiguousarray(region.frames, np.uint32) for region in ordered]
        table = ffi.new("struct pb_region[]", len(ordered))
        for row, region, its_frames in zip(table, ordered, frames, strict=True):
            if len(its_frames) << region.page_shift < region.end - region.begin:
                raise ValueError(
                    f"a region of {region.end - region.begin} bytes has {len(its_frames)} frames"
                )
            row.begin, row.end, row.page_shift = region.begin, region.end, region.page_shift
            row.access_class, row.walk_line = region.access_class, region.walk_line
            row.frames = array("uint32_t[]", its_frames)
        accesses = np.empty(2 * len(_words(records, "records")), np.uint64)
        ret = ffi.new("size_t *")
        result = lib.pb_cachesim_translate(
            self._sim,
            table,
            len(ordered),
            array("uint64_t[]", records),
            len(records),
            self._counts,
            array("uint64_t[]", accesses),
            ret,
        )
        doing = "translating a recording"
        if result in (-errno.EFAULT, -errno.ERANGE):
            address = int(records[ret[0]]) & (1 << 48) - 1
            doing += f", record {ret[0]}, address {address:#x}"
        check(result, doing)
        return accesses[: ret[0]]

    def run(self, accesses: Words, outcomes: bool = False) -> npt.NDArray[np.uint8] | None:
        """Have the caches see ``accesses`` (uint64: see ``pb_cachesim_run()``), and count.

        With ``outcomes`` returns a byte an access: the index of the level that had it, or the number of
        levels for memory; OUTCOME_ALIAS is added for an alias.  Raises OSError (ERANGE) for a line whose tag
        in so small a cache takes more than 32 bits.
        """
        outcome = np.empty(len(accesses), np.uint8) if outcomes else None
        check(
            lib.pb_cachesim_run(
                self._sim,
                array("uint64_t[]", _words(accesses, "accesses")),
                len(accesses),
                ffi.NULL if outcome is None else array("uint8_t[]", outcome),
                self._counts,
            ),
            "simulating caches",
        )
        return outcome

    @property
    def counts(self) -> CacheCounts:
        """What was counted so far, by translate() and run()."""
        levels = len(self.geometry.caches)
        return CacheCounts(
            _counted(self._counts.accesses)[0],
            _counted(self._counts.misses)[:levels],
            _counted(self._counts.aliases)[0],
            _counted(self._counts.tlb_misses),
            int(self._counts.prefetches),
        )

    def close(self) -> None:
        """Give the memory back.  A second call does nothing."""
        if self._sim is not None:
            lib.pb_cachesim_destroy(self._sim)
            self._sim = None


class Predictor(Closing):
    """A predictor of branches' directions, which knows nothing at first; a context manager.

    "bimodal" has a counter for each site, "gshare" 12 bits of history, "tage" up to 130.  ``branches`` and
    ``misses``: int64, by site.
    """

    def __init__(self, kind: PredictorKind) -> None:
        self._predictor: Any = None
        ret = ffi.new("struct pb_predictor **")
        check(lib.pb_predictor_create(_KINDS[kind], ret), f"making a predictor of kind {kind}")
        self._predictor = ret[0]
        self.branches = np.zeros(BRANCH_SITES, np.int64)
        self.misses = np.zeros(BRANCH_SITES, np.int64)

    def run(self, records: Words) -> Self:
        """Predict and learn the branches of a recording (uint64: see CacheSim.translate()); skip the rest.

        Raises OSError (ERANGE) for a site that is not below BRANCH_SITES.
        """
        check(
            lib.pb_predictor_run(
                self._predictor,
                array("uint64_t[]", _words(records, "records")),
                len(records),
                ffi.cast("uint64_t *", array("int64_t[]", self.branches)),
                ffi.cast("uint64_t *", array("int64_t[]", self.misses)),
            ),
            "predicting branches",
        )
        return self

    def close(self) -> None:
        """Give the memory back.  A second call does nothing."""
        if self._predictor is not None:
            lib.pb_predictor_destroy(self._predictor)
            self._predictor = None
