"""Cache levels as they are, by measured latency.

The L3 that a machine reports is not the L3 that one gets: it is shared, and in
a virtual machine neither its size nor its neighbours are known.
"""

from __future__ import annotations

import os

import numpy as np

from pagebench import core
from pagebench.memmap.folios import FolioMap
from pagebench.memmap.patterns import Pattern, draw
from pagebench.results.lines import Calibration
from pagebench.units import MIB
from pagebench.variants import registry

# A chain of loads whose every lookup waits for its line.
CHASE = "pointer-select"
# Where a quarter of the lookups miss, the level is taken to be full.
MISS_SHARE = 0.25
LOOKUPS = 3000
BATCHES = 7
WARM_LOOKUPS = 200_000
AT_MOST = 64 * MIB


def full_at(latencies: list[tuple[int, float]]) -> int:
    """The size of a cache, from the latency of random lookups by footprint.

    The first footprint is taken to be inside the cache and the last far
    outside.  With F bytes over a cache of C, a share 1 - C/F misses, so that
    the latency of the first footprint that overflows tells C.
    """
    inside, outside = latencies[0][1], latencies[-1][1]
    fits = latencies[0][0]
    for footprint, latency in latencies:
        share = (latency - inside) / (outside - inside) if outside > inside else 0.0
        if share > MISS_SHARE:
            return max(fits, int(footprint * (1 - share)))
        fits = footprint
    return fits


def measure_l3(cpu: int, l2_bytes: int, l3_reported: int) -> Calibration:
    """How much L3 a worker on this CPU really gets.

    Takes about a second and up to 64 MiB.  Raises OSError for memory.
    """
    allowed = os.sched_getaffinity(0)
    core.pin(cpu)
    try:
        return _measure_l3(l2_bytes, l3_reported)
    finally:
        os.sched_setaffinity(0, allowed)


def _measure_l3(l2_bytes: int, l3_reported: int) -> Calibration:
    clock = core.Clock()
    variant = registry.find(CHASE)
    rng = np.random.default_rng(0)
    largest = min(AT_MOST, 2 * max(l3_reported, 4 * l2_bytes))
    latencies: list[tuple[int, float]] = []
    with core.Reservation(largest, 2 * MIB, "2m") as memory:
        footprint = 2 * l2_bytes
        while footprint <= largest:
            folio_map = FolioMap.uniform(0, footprint)
            # Written once, then looked up until the cache holds what it will.
            core.populate(variant, memory.base, folio_map.folios)
            warm = min(WARM_LOOKUPS, 4 * footprint // folio_map.struct_page_bytes)
            lookups = warm + BATCHES * LOOKUPS
            offsets = folio_map.offsets_of(draw(Pattern("random"), folio_map, footprint, lookups, rng))
            samples = np.zeros(BATCHES, core.SAMPLE_DTYPE)
            samples["run"], samples["base"] = variant.probes["chain"].run, memory.base
            samples["offsets"] = offsets.ctypes.data + 4 * LOOKUPS * np.arange(BATCHES, dtype=np.uint64)
            samples["lookups"] = LOOKUPS
            samples["warm_up"][0] = warm
            samples["offsets"][1:] += np.uint64(4 * warm)
            core.run_samples(clock, samples)
            latencies.append((footprint, float(np.median(samples["ticks"])) / clock.ticks_per_ns / LOOKUPS))
            footprint *= 2
    return Calibration(full_at(latencies), tuple(latencies))
