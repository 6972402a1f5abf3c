"""One process of a run: places code and memmaps anew, verifies, samples.

Started by runner.py with a job on standard input; writes one JSON line per
finished group to standard output.  Nothing of a group survives but that line.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from pagebench import architecture, core, names
from pagebench.core import counters
from pagebench.errors import PagebenchError
from pagebench.host import machine, resources
from pagebench.measure.group_memmaps import CellLoop, GroupMemmaps, reserve
from pagebench.measure.job import Failure, Job
from pagebench.measure.sampling import WINDOW_LOOKUPS, GroupSampler
from pagebench.measure.spare_cpu import SpareCpu
from pagebench.measure.verification import verify
from pagebench.measure.windows import Windows
from pagebench.memmap import folios, patterns
from pagebench.names import LINE_BYTES
from pagebench.plan import groups, places
from pagebench.results.lines import Sampling
from pagebench.variants import registry

# A core that slept is slow at first: 2.6 instead of 3.2 GHz were seen.
SPIN_NS = 100_000_000
# One for nearly every round: with 16, lookups differed between processes by twice as much.
COPIES = 64

# A loop: variant, probe, whether it is the A/A pair's second copy.
Loop = tuple[str, str, bool]


class Worker:
    """Memory, code and clock of one process, and the groups sampled with them."""

    def __init__(
        self, the_plan: groups.Plan, process: int, movable: Mapping[str, bool], stack: ExitStack
    ) -> None:
        self.plan = the_plan
        self.process = process
        self.spare = stack.enter_context(SpareCpu(os.sched_getaffinity(0) - {the_plan.cpu}))
        core.pin(the_plan.cpu)
        self.clock = core.Clock(SPIN_NS)
        self.counters: counters.Counters | None = None
        with suppress(OSError):  # no PMU, or not for us: the machine's description says so
            self.counters = stack.enter_context(counters.Counters())
        known = registry.known(the_plan.struct_page_bytes, the_plan.objects)
        self.variants = {name: known[name] for name in the_plan.variant_names}
        self.regions = reserve(the_plan, stack)
        self.obtained = {
            key: resources.backing_obtained(region.base, region.size) for key, region in self.regions.items()
        }
        self.copies = self._place_code(movable, stack)
        self._stack = stack
        self._memmaps: tuple[tuple[Any, ...], GroupMemmaps] | None = None
        self._windows: tuple[tuple[Any, ...], Windows] | None = None

    def rng(self, *key: object) -> np.random.Generator:
        """A generator of its own for each use, the same each time."""
        use = zlib.crc32(repr(key).encode())
        return np.random.default_rng(np.random.SeedSequence([self.plan.seed, self.process, use]))

    def _place_code(
        self, movable: Mapping[str, bool], stack: ExitStack
    ) -> dict[Loop, npt.NDArray[np.uint64]]:
        """Where each loop may run: copies at drawn offsets, or the original."""
        rng, step = self.rng("code"), architecture.find().instruction_alignment
        loops = sorted(
            {
                (cell.contender.variant, group.probe, cell.role == "aa")
                for group in self.plan.groups
                for cell in group.cells
            }
        )
        probes = {loop: self.variants[loop[0]].probes[loop[1]] for loop in loops}
        placed = {loop: np.array([probe.run], np.uint64) for loop, probe in probes.items()}
        copies = [loop for loop in loops if movable[f"{loop[0]} {loop[1]}"] for _ in range(COPIES)]
        if not copies:
            return placed
        # Neighbours are of different loops; each starts anywhere in a line that code may.
        starts = np.empty(len(copies), np.int64)
        used = 0
        for index in rng.permutation(len(copies)):
            starts[index] = used + rng.integers(LINE_BYTES // step) * step
            end = int(starts[index]) + len(probes[copies[index]].code)
            used = -(-end // LINE_BYTES) * LINE_BYTES
        arena = stack.enter_context(core.CodeArena(folios.reserved_bytes(used, "4k")))
        runs = [arena.copy(probes[loop], int(start)) for loop, start in zip(copies, starts, strict=True)]
        arena.seal()
        for loop, run in zip(copies, runs, strict=True):
            if not arena.holds(probes[loop], run):
                raise PagebenchError(f"a copy of the loop {loop[1]} of {loop[0]} differs from its original")
        # They were listed loop by loop.
        for first in range(0, len(copies), COPIES):
            placed[copies[first]] = np.array(runs[first : first + COPIES], np.uint64)
        return placed

    def memmaps(self, group: groups.Group) -> GroupMemmaps:
        """The group's memmaps; the last ones again, where they serve it too."""
        key = (*memmap_key(group), *places.places_of(group))
        if self._memmaps is None or self._memmaps[0] != key:
            if self._memmaps is not None:
                self._memmaps[1].close()
            folio_map = places.folio_map(self.plan, group)
            rng = self.rng("frames", *key)
            made = GroupMemmaps(group, folio_map, self.regions, rng, self.plan.memory_model, self.spare)
            self._stack.enter_context(made)
            self._memmaps = key, made
        return self._memmaps[1]

    def windows(self, group: groups.Group, folio_map: folios.FolioMap) -> Windows:
        """The pattern's lookups; probes of one memmap and pattern go on in one."""
        key = (*memmap_key(group), group.pattern)
        if self._windows is None or self._windows[0] != key:
            pattern = patterns.Pattern.parse(group.pattern)
            rng = self.rng("windows", *key)
            pfns = patterns.draw(pattern, folio_map, group.footprint_bytes, WINDOW_LOOKUPS, rng)
            self._windows = key, Windows(folio_map, pfns, rng)
        return self._windows[1]

    def sample(self, batch: Sequence[int]) -> Iterator[Sampling]:
        """Populate, verify, calibrate and sample groups on the same memmaps; the result line of each.

        All are verified before one is sampled: what was is out of the caches, and memmaps settle once.
        """
        started, steal = time.perf_counter_ns(), machine.steal_ticks(self.plan.cpu)
        samplers = [self._sampler(index) for index in batch]
        for sampler in samplers:
            of_segments = [[sampler.loops[c] for c in segment] for segment in sampler.segments]
            verify(sampler.memmaps, sampler.group, of_segments, sampler.rng)
        if samplers[0].crowded:
            samplers[0].memmaps.flush()
        # What was done for all is charged to each.
        shared_ns = (time.perf_counter_ns() - started) // len(batch)
        started = time.perf_counter_ns()
        for index, sampler in zip(batch, samplers, strict=True):
            group, probe = sampler.group, self._probe(index)
            touched = {
                place.layout: sampler.windows.touched_bytes(probe.uses_head, place.layout)
                for place in places.places_of(group)
            }
            backing = self._backing(group, sampler.memmaps)
            sampled = sampler.run()
            if dirties(probe):
                sampler.memmaps.forget()
            ended, steal_by_now = time.perf_counter_ns(), machine.steal_ticks(self.plan.cpu)
            yield Sampling(
                process=self.process,
                group=index,
                ticks_per_ns=self.clock.ticks_per_ns,
                touched_bytes=touched,
                backing=backing,
                steal_ticks=steal_by_now - steal,
                set_up_ns=shared_ns + ended - started - sampled["sampling_ns"],
                **sampled,
            )
            started, steal = ended, steal_by_now

    def _sampler(self, index: int) -> GroupSampler:
        group, rng = self.plan.groups[index], self.rng("group", index)
        memmaps = self.memmaps(group)
        loops = [
            CellLoop(
                cell,
                self.variants[cell.contender.variant],
                self.copies[cell.contender.variant, group.probe, cell.role == "aa"],
                memmaps.base(cell),
            )
            for cell in group.cells
        ]
        # A memmap of a quarter of L2 is in it again after one pass, whoever had the caches before.
        crowded = places.memmap_bytes(self.plan, group) > self.plan.levels.l2_bytes // 4
        windows = self.windows(group, memmaps.folio_map)
        return GroupSampler(
            group, loops, memmaps, windows, self.clock, self.counters, self.plan.rounds, rng, crowded
        )

    def _probe(self, index: int) -> core.Probe:
        """What a group's probe does, whoever's it is."""
        return self.variants[names.IDENTITY].probes[self.plan.groups[index].probe]

    def batches(self, wanted: Sequence[int]) -> list[list[int]]:
        """The wanted groups in a drawn order, those that are verified together in one batch."""
        batches: list[list[int]] = []
        last, rng = None, self.rng("order")
        for index in group_order(self.plan.groups, wanted, rng):
            group = self.plan.groups[index]
            key = (*memmap_key(group), group.pattern, *places.places_of(group))
            alone = dirties(self._probe(index))
            if key != last or alone:
                batches.append([])
            batches[-1].append(index)
            last = None if alone else key
        return [rng.permutation(batch).tolist() for batch in batches]

    def _backing(self, group: groups.Group, memmaps: GroupMemmaps) -> dict[str, dict[str, int]]:
        """Bytes by backing obtained, under each backing that was asked for."""
        by_backing: dict[str, dict[str, int]] = {}
        for place in places.places_of(group):
            if names.BACKINGS[place.backing].by_frame:
                obtained = {}
            elif place in memmaps.regions:
                obtained = self.obtained[memmaps.regions[place]]
            else:
                obtained = memmaps.obtained(place)
            counts = by_backing.setdefault(place.backing, {})
            for name, size in obtained.items():
                counts[name] = counts.get(name, 0) + size
        return by_backing


def dirties(probe: core.Probe) -> bool:
    """Whether a memmap has to be written anew behind a probe.

    Counts move, under identity even those of tails; and prep writes words that are no contender's.
    """
    return bool(probe.adds_refs or probe.adds_maps or probe.writes_tails)


def memmap_key(group: groups.Group) -> tuple[Any, ...]:
    """Groups with the same key can be sampled over the same memmaps."""
    return group.order, group.footprint_bytes, patterns.Pattern.parse(group.pattern).row.folios != "uniform"


def group_order(groups: Sequence[groups.Group], wanted: Sequence[int], rng: np.random.Generator) -> list[int]:
    """The wanted groups in a drawn order, those on one memmap and pattern together."""
    keys = sorted({memmap_key(groups[index]) for index in wanted})
    rank = {keys[i]: position for position, i in enumerate(rng.permutation(len(keys)))}
    return sorted(wanted, key=lambda index: (rank[memmap_key(groups[index])], groups[index].pattern))


def run_job(job: Job) -> Iterator[Sampling]:
    """Sample the groups of a job, each as it is finished."""
    with ExitStack() as stack:
        worker = Worker(job.plan, job.process, job.movable, stack)
        for batch in worker.batches(job.groups):
            yield from worker.sample(batch)


def say(line: Sampling | Failure) -> None:
    """One line to the parent."""
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


def main() -> int:
    """Read a job, write result lines; 2 with an error line for what a user can mend."""
    # An interrupt is the parent's to handle: it ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for sampling in run_job(msgspec.json.decode(sys.stdin.buffer.read(), type=Job)):
            say(sampling)
    except (PagebenchError, OSError, MemoryError) as error:
        say(Failure(str(error) or "out of memory"))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
