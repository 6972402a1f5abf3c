"""A plan's cells through simulated caches: each one's own machine code over its own memmap."""

from __future__ import annotations

import dataclasses
import os
import signal
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np

from pagebench import core, names
from pagebench.cache import recorded, traces
from pagebench.cache.lookups import Lookups
from pagebench.cache.turns import chain_of
from pagebench.code.recording import Site
from pagebench.errors import PagebenchError
from pagebench.host import processes
from pagebench.measure import schedule
from pagebench.measure.group_memmaps import CellLoop, GroupMemmaps, Regions, reserve
from pagebench.measure.runner import WHY_KILLED
from pagebench.measure.verification import verify
from pagebench.memmap.memmaps import MappedMemmap
from pagebench.names import LINE_BYTES, PAGE_SIZE, PREDICTORS
from pagebench.plan import groups, places
from pagebench.results.simulated import Chain, Counts, Geometry, Simulated, SimulatedCell, Tlb
from pagebench.variants import registry

Progress = Callable[[int, int], None]
# "variant probe", and why it is not simulated.
Refusal = tuple[str, str]


def simulate(
    plan: groups.Plan, geometry: Geometry, progress: Progress = lambda done, total: None
) -> Simulated:
    """Every cell of the plan's contenders, on all CPUs that this process may use.

    Raises PagebenchError where no loop can be recorded, for a wrong head, and where a process is killed;
    OSError for memory.
    """
    # Nothing is timed: encodings can take turns on the same frames, whatever the footprint.
    plan = dataclasses.replace(
        plan, groups=tuple(dataclasses.replace(group, shared=True) for group in plan.groups)
    )
    known = registry.known(plan.struct_page_bytes, plan.objects)
    wanted = [index for index, group in enumerate(plan.groups) if group.purpose == "compare"]
    loops = {
        (cell.contender.variant, plan.groups[index].probe): None
        for index in wanted
        for cell in contenders(plan, index)
    }
    ready = recorded.record({loop: known[loop[0]].probes[loop[1]] for loop in loops})
    cpus = min(len(wanted), len(os.sched_getaffinity(0)))
    done = 0
    progress(done, len(wanted))
    found: list[SimulatedCell | Refusal] = []
    # The loops that were loaded are in the children as well.
    with ProcessPoolExecutor(
        cpus, get_context("fork"), _begin, (os.getpid(), plan, geometry, ready)
    ) as children:
        waited_for = {children.submit(_simulate_batch, batch): len(batch) for batch in batches(plan, wanted)}
        started = list(children._processes.values())
        try:
            for finished in as_completed(waited_for):
                found += finished.result()
                done += waited_for[finished]
                progress(done, len(wanted))
        except BrokenProcessPool as error:
            children.shutdown()  # which waits for them, and so knows how they ended
            why = next(filter(None, (WHY_KILLED.get(-(one.exitcode or 0)) for one in started)), "")
            raise PagebenchError(f"a process that simulated was killed{why}") from error
        finally:
            children.shutdown(cancel_futures=True)
    cells = [one for one in found if isinstance(one, SimulatedCell)]
    refused = dict(one for one in found if not isinstance(one, SimulatedCell))
    if not cells:
        raise PagebenchError(next(iter(refused.values()), "there is nothing to simulate"))
    return Simulated(
        geometry=geometry,
        seed=plan.seed,
        cells=tuple(sorted(cells, key=lambda one: (one.group, one.cell))),
        refused={**{" ".join(loop): why for loop, why in ready.refused.items()}, **refused},
    )


def contenders(plan: groups.Plan, index: int) -> list[groups.Cell]:
    """The cells of a group that are simulated."""
    return [cell for cell in plan.groups[index].cells if cell.role == "contender"]


def batches(plan: groups.Plan, wanted: Sequence[int]) -> list[list[int]]:
    """Groups on memmaps of one size together, the largest first: the last that is begun is to be small."""
    by_size: dict[tuple[int, str], list[int]] = {}
    for index in wanted:
        group = plan.groups[index]
        by_size.setdefault((places.memmap_bytes(plan, group), group.probe), []).append(index)
    return [by_size[key] for key in sorted(by_size, reverse=True)]


@dataclass(frozen=True)
class _Job:
    """What a child has of its parent."""

    plan: groups.Plan
    geometry: Geometry
    loops: recorded.Recorded


_inherited: list[_Job] = []


def _begin(parent: int, plan: groups.Plan, geometry: Geometry, ready: recorded.Recorded) -> None:
    """In a child: an interrupt ends it, and its parent has not to wait for what it simulates."""
    processes.end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _inherited.append(_Job(plan, geometry, ready))


def _simulate_batch(batch: Sequence[int]) -> list[SimulatedCell | Refusal]:
    (job,) = _inherited
    own = dataclasses.replace(job.plan, groups=tuple(job.plan.groups[index] for index in batch))
    with ExitStack() as stack:
        regions = reserve(own, stack)
        return [cell for index in batch for cell in _simulate_group(job, index, regions)]


def _simulate_group(job: _Job, index: int, regions: Regions) -> Iterator[SimulatedCell | Refusal]:
    """The cells of a group: populated and verified through the recording loops, then recorded."""
    plan, group = job.plan, job.plan.groups[index]
    known = registry.known(plan.struct_page_bytes, plan.objects)
    # The same pages for whatever differs in contender or probe alone.
    key = zlib.crc32(repr((group.order, group.footprint_bytes, group.pattern)).encode())
    rng = np.random.default_rng([plan.seed, key])
    folio_map = places.folio_map(plan, group)
    cells = [
        (number, cell)
        for number, cell in enumerate(group.cells)
        if cell.role == "contender" and (cell.contender.variant, group.probe) in job.loops.runs
    ]
    only = dataclasses.replace(group, cells=tuple(cell for _, cell in cells))
    if not cells:
        return
    turns = 1 << group.order if known[names.IDENTITY].probes[group.probe].writes_tails else 1
    layouts = {cell.contender.layout for _, cell in cells}
    lookups = Lookups.draw(group, folio_map, layouts, job.geometry, turns, rng)
    with GroupMemmaps(only, folio_map, regions, rng, plan.memory_model) as memmaps:
        loops = []
        for _, cell in cells:
            loop = (cell.contender.variant, group.probe)
            variant = recorded.verified_copy(known[loop[0]], loop, job.loops.runs[loop])
            runs = np.array([job.loops.runs[loop]], np.uint64)
            loops.append(CellLoop(cell, variant, runs, memmaps.base(cell)))
        room = max((len(sites) + 1) * turns for sites in job.loops.sites.values())
        with core.Recorder(job.loops.loops, max(traces.CHUNK, 2 * room)) as recorder:
            for segment in schedule.segments(only):
                mine = [loops[i] for i in segment]
                verify(memmaps, only, [mine], rng)
                for i in segment:
                    sites = job.loops.sites[cells[i][1].contender.variant, group.probe]
                    one = _CellSimulation(
                        job.geometry, memmaps, loops[i], group.probe, sites, lookups, plan.seed, turns
                    )
                    try:
                        yield SimulatedCell(index, cells[i][0], one.run(recorder))
                    except traces.NotSimulatedError as error:
                        yield f"{cells[i][1].contender.variant} {group.probe}", str(error)


def _in_core(geometry: Geometry) -> core.CacheGeometry:
    """The geometry as the core takes it."""
    caches = tuple(
        core.Cache(one.sets, one.ways, geometry.policy, geometry.prefetch) for one in geometry.caches
    )
    whole = core.CacheGeometry(caches, geometry.inclusive, geometry.way_predictor)
    if geometry.tlbs is None:
        return whole

    def tlb(one: Tlb) -> core.Tlb:
        return core.Tlb(max(1, one.entries // one.ways), one.ways)

    first_2m = geometry.tlbs.first_2m
    return dataclasses.replace(
        whole,
        tlb_4k=(tlb(geometry.tlbs.first), tlb(geometry.tlbs.second)),
        tlb_2m=(tlb(first_2m) if first_2m else None, None),
        unified=(first_2m is None, True),
    )


class _CellSimulation:
    """One cell's lookups through caches, TLBs and predictors of its own."""

    def __init__(
        self,
        geometry: Geometry,
        memmaps: GroupMemmaps,
        loop: CellLoop,
        probe: str,
        sites: Sequence[Site],
        lookups: Lookups,
        seed: int,
        turns: int,
    ) -> None:
        self._geometry = geometry
        self._loop = loop
        self._sites = sites
        self._lookups = lookups
        self._probe = probe
        self._chunk = traces.chunk_lookups(sites, turns)
        contender = loop.cell.contender
        memmap = memmaps.memmap(loop.cell)
        self._frames = memmap.map.frames if isinstance(memmap, MappedMemmap) else None
        # The same frames for contenders that share them.
        drawn = traces.Frames(np.random.default_rng([seed, zlib.crc32(repr(contender.layout).encode())]))
        shift = 12
        if geometry.huge_pages == "whole":
            shift = names.BACKINGS[contender.backing].page_bytes.bit_length() - 1
        self._memory = traces.Memory(
            loop.base, memmaps.bytes, shift, self._frames, drawn, geometry.frames == "pagemap"
        )
        self._memory.add_pattern(lookups.every)
        self._size = memmaps.bytes
        self._seen = np.zeros(-(-(self._size + loop.base % LINE_BYTES) // LINE_BYTES), np.bool_)

    def run(self, recorder: core.Recorder) -> Counts:
        """Warm, then count."""
        with ExitStack() as stack:
            caches = stack.enter_context(core.CacheSim(_in_core(self._geometry)))
            predictors = {kind: stack.enter_context(core.Predictor(kind)) for kind in PREDICTORS}
            layout = self._loop.cell.contender.layout
            lines_before = 0
            for offsets in (*self._lookups.warm[layout], self._lookups.counted):
                if offsets is self._lookups.counted:
                    lines_before = self._distinct()[0]
                before = caches.counts
                missed = {kind: predictor.misses.sum() for kind, predictor in predictors.items()}
                branches = predictors[PREDICTORS[0]].branches.sum()
                chain = Chain(0.0, 0.0)
                for number, records in enumerate(
                    traces.records(recorder, self._loop.runs[0], self._loop.base, offsets, self._chunk)
                ):
                    self._look_at(records)
                    chain = chain if number else self._chain(records)
                    caches.run(caches.translate(self._memory.regions, records))
                    for predictor in predictors.values():
                        predictor.run(records)
            counted = caches.counts - before
            branches = predictors[PREDICTORS[0]].branches.sum() - branches
            missed = {kind: predictor.misses.sum() - missed[kind] for kind, predictor in predictors.items()}
        lookups, others = len(self._lookups.counted), [traces.PATTERN, traces.OTHER]
        lines, pages = self._distinct()
        # What more lookups would touch, too, they go on touching while they are counted.
        all_lines = lines <= 1.01 * lines_before
        return Counts(
            lookups=lookups,
            accesses=float(counted.accesses[traces.MEMMAP]) / lookups,
            misses=tuple((counted.misses[:, traces.MEMMAP] / lookups).tolist()),
            aliases=float(counted.aliases[traces.MEMMAP]) / lookups,
            tlb_misses=tuple((counted.tlb_misses[:, traces.MEMMAP] / lookups).tolist()),
            walk_misses=tuple((counted.misses[:, core.WALK_CLASS] / lookups).tolist()),
            other_accesses=float(counted.accesses[others].sum()) / lookups,
            other_misses=tuple((counted.misses[:, others].sum(axis=1) / lookups).tolist()),
            branches=float(branches) / lookups,
            mispredictions={kind: float(count) / lookups for kind, count in missed.items()},
            lines=lines,
            all_lines=all_lines,
            pages=pages,
            heads_share=self._lookups.heads_share,
            chain=chain,
        )

    def _chain(self, records: core.Records) -> Chain:
        probe = self._loop.variant.probes[self._probe]
        return chain_of(
            probe, self._sites, records[: 1 << 15], self._lookups.every, self._geometry.adds_at_rename
        )

    def _look_at(self, records: core.Records) -> None:
        """What no cache tells: which lines, and whether all is as the simulation takes it to be."""
        contender = str(self._loop.cell.contender)
        traces.check_sites(self._sites, records, contender)
        addresses = traces.accesses_of(records)
        inside = addresses - np.uint64(self._loop.base)
        mine = inside < np.uint64(self._size)
        self._memory.add_other(addresses[~mine], contender)
        first = np.uint64(self._loop.base % LINE_BYTES)
        self._seen[((inside[mine] + first) // np.uint64(LINE_BYTES)).astype(np.int64)] = True

    def _distinct(self) -> tuple[int, int]:
        """Physical lines and pages of the memmap that were touched: aliases are one."""
        lines = np.flatnonzero(self._seen)
        if self._frames is not None:
            per_page = PAGE_SIZE // LINE_BYTES
            lines = np.unique(self._frames[lines // per_page].astype(np.int64) * per_page + lines % per_page)
        page = self._loop.base % PAGE_SIZE if self._frames is None else 0
        return len(lines), len(np.unique((lines * LINE_BYTES + page) // PAGE_SIZE))
