"""The C core, with lifetimes and exceptions.

Addresses are plain integers: what may be done with them is C's business, how long they live is this room's.
Importing it needs the compiled extension; reading and reporting results does not.
"""

from pagebench.core.cachesim import (
    ACCESS_CLASSES,
    BRANCH_SITES,
    CACHE_LEVELS,
    OUTCOME_ALIAS,
    TLB_LEVELS,
    WALK_CLASS,
    Cache,
    CacheCounts,
    CacheGeometry,
    CacheSim,
    Predictor,
    Region,
    Tlb,
)
from pagebench.core.closing import Closing
from pagebench.core.extension import array, ffi
from pagebench.core.memory import (
    FOLIO_DTYPE,
    NO_PAGE,
    OFFSET_UNIT,
    FrameMapping,
    Offsets,
    Reservation,
    Verification,
    encode,
    flush,
    populate,
    verify,
    view,
    write_tails,
)
from pagebench.core.pageflags import RUN_DTYPE, Fold, Runs
from pagebench.core.placement import CodeArena
from pagebench.core.recorder import Recorder, RecordingLoops, Records
from pagebench.core.sampler import ADD_CHAIN, SAMPLE_DTYPE, Clock, cpuid, pin, run_samples
from pagebench.core.variant import (
    Probe,
    Returns,
    Variant,
    abi,
    built_commit,
    built_in_struct_pages,
    built_in_variants,
    compiler,
    load_variants,
    variant_cflags,
)

__all__ = [
    "ACCESS_CLASSES",
    "ADD_CHAIN",
    "BRANCH_SITES",
    "CACHE_LEVELS",
    "FOLIO_DTYPE",
    "NO_PAGE",
    "OFFSET_UNIT",
    "OUTCOME_ALIAS",
    "RUN_DTYPE",
    "SAMPLE_DTYPE",
    "TLB_LEVELS",
    "WALK_CLASS",
    "Cache",
    "CacheCounts",
    "CacheGeometry",
    "CacheSim",
    "Clock",
    "Closing",
    "CodeArena",
    "Fold",
    "FrameMapping",
    "Offsets",
    "Predictor",
    "Probe",
    "Recorder",
    "RecordingLoops",
    "Records",
    "Region",
    "Reservation",
    "Returns",
    "Runs",
    "Tlb",
    "Variant",
    "Verification",
    "abi",
    "array",
    "built_commit",
    "built_in_struct_pages",
    "built_in_variants",
    "compiler",
    "cpuid",
    "encode",
    "ffi",
    "flush",
    "load_variants",
    "pin",
    "populate",
    "run_samples",
    "variant_cflags",
    "verify",
    "view",
    "write_tails",
]
