"""Cache levels as they are, by measured latency.

The L3 that a machine reports is not the L3 that one gets: it is shared, and in
a virtual machine neither its size nor its neighbours are known.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from pagebench import core
from pagebench.host import resources
from pagebench.memmap.folios import FolioMap
from pagebench.memmap.patterns import Pattern, draw
from pagebench.names import PAGE_SIZE
from pagebench.plan.groups import Levels
from pagebench.results.lines import Calibration
from pagebench.units import MIB
from pagebench.variants import registry

# A chain of loads whose every lookup waits for its line.
CHASE = "pointer-select"
LOOKUPS = 3000
BATCHES = 7
WARM_LOOKUPS = 200_000
# Footprints double up to the first, and on to the second where the cache's end is not in sight by then.
AT_MOST, FURTHEST = 64 * MIB, 512 * MIB
# Memory takes longer than a cache by this factor at least; far outside, doubling adds less than this share.
OUTSIDE, STILL_RISING = 1.4, 0.15

# What nobody looks up again for so many ms, the longest last; passes that bring it all into the L3 before.
WAITS_MS = (5, 10, 20, 40, 80)
PASSES, REPEATS = 8, 5
CYCLES_PER_MS = 3_000_000

# More small pages than a first-level TLB has entries, each with a line of L1; a miss takes longer than this.
SPREAD, SAME = 256, 1.2


def full_at(latencies: Sequence[tuple[int, float]], l2_bytes: int) -> int:
    """The size of a cache, from the latency of random lookups by footprint, the first one inside L2.

    With F bytes over a cache of C, a share 1 - C/F misses it, and 1 - L2/F misses L2: the C whose line
    through the shares of what misses L2 is nearest to its latencies.  The last footprint, where nothing was
    seen outside.
    """
    beyond = _beyond_l2(latencies, l2_bytes)
    footprints, ns = (np.array(column, np.float64) for column in zip(*beyond, strict=True))
    if ns[-1] < OUTSIDE * ns[0]:
        return int(footprints[-1])
    sizes = np.geomspace(footprints[0], footprints[-1], 400, endpoint=False)
    misses = np.maximum(0, 1 - sizes[:, None] / footprints) / (1 - l2_bytes / footprints)
    misses -= misses.mean(axis=1, keepdims=True)
    centred = ns - ns.mean()
    # What is left of the scatter is least where misses and latencies go together most.
    together = (misses @ centred) / np.sqrt((misses**2).sum(axis=1))
    return int(sizes[np.argmax(together)])


def _beyond_l2(latencies: Sequence[tuple[int, float]], l2_bytes: int) -> list[tuple[int, float]]:
    """Without the share of the lookups that hit L2, which take what they take inside it."""
    (_, in_l2), *others = latencies
    return [(size, (ns - in_l2 * l2_bytes / size) / (1 - l2_bytes / size)) for size, ns in others]


def _end_is_in_sight(latencies: Sequence[tuple[int, float]], l2_bytes: int) -> bool:
    if len(latencies) < 3:
        return False
    beyond = _beyond_l2(latencies, l2_bytes)
    (_, inside), *_, (_, before), (_, last) = [beyond[0], *beyond]
    return last >= OUTSIDE * inside and last <= (1 + STILL_RISING) * before


def measure_l3(cpu: int, reported: Levels) -> Calibration:
    """How much L3 a worker on this CPU really gets.

    Takes about a second and 64 MiB; where there is more L3 than that, some seconds and up to 512 MiB or a
    quarter of what is free.  Raises OSError for memory.
    """
    allowed = os.sched_getaffinity(0)
    core.pin(cpu)
    try:
        return _measure_l3(reported)
    finally:
        os.sched_setaffinity(0, allowed)


def _measure_l3(reported: Levels) -> Calibration:
    clock, rng = core.Clock(), np.random.default_rng(0)
    largest = 2 * max(reported.l3_bytes, 4 * reported.l2_bytes)
    furthest = min(FURTHEST, largest, (resources.available_bytes() or FURTHEST) // 4)
    l2 = reported.l2_bytes
    latencies = [(l2 // 2, _latency_ns(clock, l2 // 2, rng))]
    footprint = 2 * l2
    while footprint <= min(AT_MOST, largest) or (
        footprint <= furthest and not _end_is_in_sight(latencies, l2)
    ):
        latencies.append((footprint, _latency_ns(clock, footprint, rng)))
        footprint *= 2
    return Calibration(full_at(latencies, l2), tuple(latencies), _half_life_ms(clock, 4 * l2, rng))


def half_life(resident_ns: float, gone_ns: float, later: Iterable[tuple[float, float]]) -> float | None:
    """After how long half of a footprint has left a cache.

    ``resident_ns`` and ``gone_ns``: the latency where all of it is there, and where nothing is; ``later``:
    (wait, latency then) pairs, growing, of which no more are taken than it needs.  None where more than half
    outlasts all, or where both are alike.
    """
    if gone_ns < OUTSIDE * resident_ns:
        return None
    before, kept_before = 0.0, 1.0
    for wait, ns in later:
        kept = (gone_ns - ns) / (gone_ns - resident_ns)
        if kept < 0.5:
            return before + (wait - before) * (kept_before - 0.5) / (kept_before - kept)
        before, kept_before = wait, kept
    return None


# So many ms without a lookup, behind so many passes over all pages: ms really waited, ns per lookup then.
ChaseAfter = Callable[[float, int], tuple[float, float]]


@contextmanager
def chase_after(clock: core.Clock, footprint: int, rng: np.random.Generator) -> Iterator[ChaseAfter]:
    """A memmap, and what a lookup in it takes after a wait: medians of some times.

    Passes are as fast as they go, and bring it all into the L3; with none, nothing of it is in any cache.
    """
    variant, folio_map = registry.find(CHASE), FolioMap.uniform(0, footprint)
    pages = len(folio_map.folios)
    drawn = np.concatenate([rng.permutation(pages), rng.integers(pages, size=LOOKUPS)])
    offsets = folio_map.offsets_of(drawn)
    with core.Reservation(footprint, 2 * MIB, "2m") as memory:
        core.populate(variant, memory.base, folio_map.folios)

        def chase(wait_ms: float, passes: int) -> tuple[float, float]:
            samples = np.zeros(passes + 2, core.SAMPLE_DTYPE)
            samples["run"], samples["base"] = variant.probes["lookup"].run, memory.base
            samples["offsets"], samples["lookups"] = offsets.ctypes.data, pages
            samples["run"][-2], samples["lookups"][-2] = core.ADD_CHAIN, max(1, int(wait_ms * CYCLES_PER_MS))
            samples["run"][-1], samples["lookups"][-1] = variant.probes["chain"].run, LOOKUPS
            samples["offsets"][-1] += np.uint64(offsets.itemsize * pages)
            took = []
            for _ in range(REPEATS):
                if not passes:
                    core.flush(memory.base, footprint)
                core.run_samples(clock, samples)
                took.append(samples["ticks"][-2:] / clock.ticks_per_ns / (1e6, LOOKUPS))
            waited, ns = np.median(took, axis=0)
            return float(waited), float(ns)

        yield chase


def _half_life_ms(clock: core.Clock, footprint: int, rng: np.random.Generator) -> float | None:
    """Of lines in the L3 that nobody looks up: neighbours fill it with theirs."""
    with chase_after(clock, footprint, rng) as chase:
        _, resident_ns = chase(0, PASSES)
        _, gone_ns = chase(0, 0)
        return half_life(resident_ns, gone_ns, (chase(wait, PASSES) for wait in WAITS_MS))


def huge_pages_reach(cpu: int) -> bool:
    """Whether the TLB of this CPU has one entry for a page of 2M.

    In a virtual machine the host may map what are huge pages here by small ones, and an entry is as large as
    the smaller of both.  Takes some milliseconds.  Raises OSError for memory.
    """
    allowed = os.sched_getaffinity(0)
    core.pin(cpu)
    try:
        clock, rng = core.Clock(), np.random.default_rng(0)
        variant, folio_map = registry.find(CHASE), FolioMap.uniform(0, SPREAD * PAGE_SIZE)
        with core.Reservation(folio_map.bytes, 2 * MIB, "2m") as memory:
            core.populate(variant, memory.base, folio_map.folios)
            per_page = PAGE_SIZE // folio_map.struct_page_bytes
            # As many lines of as many sets, in as few pages as they fit into, and each in a page of its own.
            dense = np.arange(SPREAD)
            spread = dense * per_page + dense % per_page
            took = [
                _chase_ns(clock, memory, folio_map, rng.choice(pfns, BATCHES * LOOKUPS), len(pfns) * 8)
                for pfns in (dense, spread)
            ]
    finally:
        os.sched_setaffinity(0, allowed)
    return took[1] < SAME * took[0]


def _latency_ns(clock: core.Clock, footprint: int, rng: np.random.Generator) -> float:
    """Of lookups of which each waits for the one before, all over a memmap."""
    with core.Reservation(footprint, 2 * MIB, "2m") as memory:
        folio_map = FolioMap.uniform(0, footprint)
        core.populate(registry.find(CHASE), memory.base, folio_map.folios)
        # Written once, then looked up until the cache holds what it will.
        warm = min(WARM_LOOKUPS, 4 * footprint // folio_map.struct_page_bytes)
        pfns = draw(Pattern("random"), folio_map, footprint, warm + BATCHES * LOOKUPS, rng)
        return _chase_ns(clock, memory, folio_map, pfns, warm)


def _chase_ns(
    clock: core.Clock,
    memory: core.Reservation,
    folio_map: FolioMap,
    pfns: npt.NDArray[np.int64],
    warm: int,
) -> float:
    """The median batch of lookups of these pages, each of which waits for the one before."""
    offsets = folio_map.offsets_of(pfns)
    samples = np.zeros((len(pfns) - warm) // LOOKUPS, core.SAMPLE_DTYPE)
    samples["run"], samples["base"] = registry.find(CHASE).probes["chain"].run, memory.base
    samples["offsets"] = offsets.ctypes.data + 4 * LOOKUPS * np.arange(len(samples), dtype=np.uint64)
    samples["lookups"] = LOOKUPS
    samples["warm_up"][0] = warm
    samples["offsets"][1:] += np.uint64(4 * warm)
    core.run_samples(clock, samples)
    return float(np.median(samples["ticks"])) / clock.ticks_per_ns / LOOKUPS
