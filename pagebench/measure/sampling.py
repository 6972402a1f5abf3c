"""The schedule of one group: batches, rounds, blocks, and what came of them."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pagebench import core
from pagebench.core import counters
from pagebench.errors import PagebenchError
from pagebench.measure.group_memmaps import CellLoop, GroupMemmaps
from pagebench.measure.schedule import (
    Schedule,
    balanced_orders,
    drawn_evenly,
    segments,
    williams_orders,
    williams_rows,
)
from pagebench.measure.verification import expected_addresses
from pagebench.measure.windows import Windows
from pagebench.names import LINE_BYTES, Level
from pagebench.plan import groups

Ints = npt.NDArray[np.int64]

# Long enough for the clock, short enough to fit between timer ticks.  In DRAM 40 us are 300 lookups, whose
# scatter was a good part of what differed between processes.
BATCH_NS: Mapping[Level, int] = {"l1": 40_000, "l2": 40_000, "l3": 40_000, "dram": 80_000}
# Rounds that are not kept need no more.
BURN_IN_BATCH_NS = 40_000
# Equal batches of a clock that moves in steps tie; vary them by this share.
DITHER = 0.06
# Shares of a batch: at least, and at most where a pass over the lines is more.
WARM_UP = 0.25
WARM_UP_AT_MOST = 0.35
# A million: no branch predictor learns it, no cache holds its lines.
WINDOW_LOOKUPS = 1 << 20
# The add chain around segments: some 6 us, of which the clock may miss 10 ns; a
# median over the rounds is good to better than 0.1 %.
ADD_CHAIN_CYCLES = 24_000
# Of the time, at most, for re-encoding shared frames.
ENCODING_SHARE = 0.05
TRIAL_LOOKUPS = {"l1": 4000, "l2": 4000, "l3": 2000, "dram": 400}
TRIALS = 3
SETTLE_TURNS = 256
COUNTED_ROUNDS = 7
# Rounds of a burn-in's step, and how many steps there may be.  Times stand still where from one step to the
# next the memmaps' median times change by less than this, on average.
BURN_IN_ROUNDS, BURN_IN_STEPS, STEADY = 7, 8, 0.01


class GroupSampler:
    """Samples one group in this process.

    A *segment* is the part of a round whose cells share a memmap and encoding; a *block*
    is some rounds of one segment, between two re-encodings of shared frames.
    """

    def __init__(
        self,
        group: groups.Group,
        loops: Sequence[CellLoop],
        memmaps: GroupMemmaps,
        windows: Windows,
        clock: core.Clock,
        counting: counters.Counters | None,
        rounds: int,
        rng: np.random.Generator,
        crowded: bool = True,
    ) -> None:
        self.group = group
        self.batch_ns = BATCH_NS[group.level]
        self.loops = loops
        self.memmaps = memmaps
        self.windows = windows
        self.clock = clock
        self.counters = counting
        self.rounds = rounds
        # Whether cells find what others leave them of the caches.
        self.crowded = crowded
        self.rng = rng
        self.segments = segments(group)
        # The harness' loop reads no word, and of memory no more than its probe does of a head.
        self.reading = [c for c, cell in enumerate(group.cells) if cell.role != "identity"]
        probe = loops[0].variant.probes[group.probe]
        self.touching = range(len(loops)) if probe.uses_head or probe.writes_tails else self.reading

    def run(self) -> dict[str, Any]:
        """Calibrate, sample every round, check the last result of every batch.

        Returns these fields of a :class:`pagebench.results.lines.Sampling`.  Raises PagebenchError for a
        wrong result.
        """
        lookups, encode_ns = self._calibrate()
        burn_in_rounds, steady = self._burn_in(lookups) if self.crowded else (0, True)
        started = time.perf_counter_ns()
        # Of equal length within the round, dithered between rounds.
        dither = 1 + DITHER * self.rng.uniform(-1, 1, self.rounds)
        lengths = np.maximum(1, (lookups * dither).astype(np.int64))
        warm_up = self._warm_up(lookups)
        ticks = np.zeros((len(self.loops), self.rounds), np.int64)
        switches, placements = np.zeros_like(ticks), np.zeros_like(ticks)
        chain = np.zeros((2, len(self.segments), self.rounds), np.int64)
        schedules = [self._schedule(segment, lengths, warm_up) for segment in self.segments]
        encoding_ns = self._sample(schedules, self._rounds_per_block(encode_ns))
        for number, schedule in enumerate(schedules):
            for place, c in enumerate(schedule.visits[: len(schedule.segment)]):
                mine = schedule.samples[:, 1:-1][schedule.order == place]
                ticks[c], switches[c] = mine["ticks"], mine["switches"]
                placements[c] = mine["run"] % LINE_BYTES
            chain[:, number] = schedule.samples["ticks"][:, [0, -1]].T
            self._check_results(schedule, lengths, warm_up)
        return {
            "lookups": lengths.tolist(),
            "warm_up": warm_up,
            "burn_in_rounds": burn_in_rounds,
            "steady": steady,
            "ticks": ticks.tolist(),
            "add_chain_cycles": ADD_CHAIN_CYCLES,
            "add_chain_ticks": chain.tolist(),
            "segment": [
                next(i for i, s in enumerate(self.segments) if c in s) for c in range(len(self.loops))
            ],
            "switches": np.argwhere(switches > 0).tolist(),
            "copies": [len(p.runs) for p in self.loops],
            "placements": placements.tolist(),
            "sampling_ns": time.perf_counter_ns() - started,
            "timed_ns": round(float(ticks.sum()) / self.clock.ticks_per_ns),
            "encoding_ns": encoding_ns,
            "counts": self._count(schedules),
        }

    def _calibrate(self) -> tuple[float, float]:
        """Lookups for a batch, by the cells' mean; ns to re-encode."""
        trial = TRIAL_LOOKUPS[self.group.level]
        if self.loops[0].variant.probes[self.group.probe].writes_tails:  # a lookup of which is a whole folio
            trial = max(1, trial >> self.group.order)
        per_lookup = []
        for segment in self.segments:
            self._bring_in(segment)
            unsettled = [loop for loop in self._readers(segment) if loop.base not in self.memmaps.settled]
            self._settle(unsettled, SETTLE_TURNS)
            self.memmaps.settled.update(loop.base for loop in unsettled)
            for p in (self.loops[c] for c in segment if c in self.reading):
                samples = np.zeros(TRIALS, core.SAMPLE_DTYPE)
                samples["run"], samples["base"] = p.runs[0], p.base
                samples["offsets"] = self.windows.addresses(self.windows.take(np.full(TRIALS, trial)))
                samples["lookups"] = trial
                core.run_samples(self.clock, samples)
                per_lookup.append(samples["ticks"].min() / self.clock.ticks_per_ns / trial)
        # Once more: the first time found everything cold.
        encode_ns = sum(self._bring_in(segment) for segment in self.segments)
        return self.batch_ns / max(float(np.mean(per_lookup)), 1e-3), encode_ns

    def _bring_in(self, segment: Sequence[int]) -> int:
        """The segment's encodings into their memmaps, settled; the ns it took."""
        before = time.perf_counter_ns()
        # The harness' loop reads no word: it needs none of its own.
        reading = [self.loops[c] for c in segment if c in self.reading]
        written = {loop.base for loop in self.memmaps.encode(reading)}
        readers = self._readers(segment)
        # Another segment's cells have had the caches to themselves.
        turns = self.crowded and sum(map(bool, map(self._readers, self.segments))) > 1
        self._settle([loop for loop in readers if turns or loop.base in written])
        return time.perf_counter_ns() - before

    def _readers(self, segment: Sequence[int]) -> list[CellLoop]:
        """A cell that reads for each memmap of a segment; none where the harness' loop alone is."""
        return list({self.loops[c].base: self.loops[c] for c in segment if c in self.reading}.values())

    def _burn_in(self, lookups: float) -> tuple[int, bool]:
        """Rounds that are not kept, until times stand still; how many there were, and whether they did.

        Memmaps start with cold page tables, and with lines younger or older than they will be.
        """
        lookups *= BURN_IN_BATCH_NS / self.batch_ns
        lengths = np.full(BURN_IN_ROUNDS, max(1, int(lookups)), np.int64)
        before = None
        for step in range(1, BURN_IN_STEPS + 1):
            schedules = [
                self._schedule(segment, lengths, self._warm_up(lookups)) for segment in self.segments
            ]
            self._sample(schedules, BURN_IN_ROUNDS)
            ticks = np.concatenate([schedule.samples["ticks"][:, 1:-1].ravel() for schedule in schedules])
            bases = np.concatenate([schedule.samples["base"][:, 1:-1].ravel() for schedule in schedules])
            now = np.log([np.median(ticks[bases == base]) for base in np.unique(bases)])
            if before is not None and abs((now - before).mean()) < STEADY:
                return step * BURN_IN_ROUNDS, True
            before = now
        return BURN_IN_STEPS * BURN_IN_ROUNDS, False

    def _settle(self, loops: list[CellLoop], turns: int = 1) -> None:
        """Look every page up once in the memmaps of these cells, untimed, by turns in an order drawn anew.

        Writing leaves every line dirty and the last ones nearest; what comes first finds page tables cold;
        beyond L2 a line's age decides how soon it is gone.  Some cells would be charged with it.
        """
        every = self.windows.once
        ends = len(every) * np.arange(turns + 1) // turns
        order = self.rng.permuted(np.tile(np.arange(len(loops)), (turns, 1)), axis=1)
        samples = np.zeros(order.shape, core.SAMPLE_DTYPE)
        samples["run"] = np.array([loop.variant.probes["lookup"].run for loop in loops], np.uint64)[order]
        samples["base"] = np.array([loop.base for loop in loops], np.uint64)[order]
        samples["offsets"] = (every.ctypes.data + ends[:-1, None] * every.itemsize).astype(np.uint64)
        samples["lookups"] = np.diff(ends)[:, None]
        core.run_samples(self.clock, samples[np.diff(ends) > 0].reshape(-1))

    def _warm_up(self, lookups: float) -> int:
        """A quarter of a batch; inside L2 one pass over the lines, if that is more."""
        share = WARM_UP * lookups
        if self.group.level in ("l1", "l2"):
            share = max(share, min(self.group.footprint_bytes / LINE_BYTES, WARM_UP_AT_MOST * lookups))
        return math.ceil(share)

    def _rounds_per_block(self, encode_ns: float) -> int:
        """Enough that re-encoding keeps to its share of the time, but no more than leave a whole design."""
        round_ns = len(self.loops) * self.batch_ns * (1 + WARM_UP)
        whole = math.ceil(self.rounds / williams_rows(len(self.segments)))
        return min(whole, max(1, math.ceil(encode_ns / (ENCODING_SHARE * round_ns))))

    def _schedule(self, segment: Sequence[int], lengths: Ints, warm_up: int) -> Schedule:
        """Every round of a segment: add chain, cells in their order, add chain."""
        visits = [*segment, *self._extra_visits(segment)]
        rounds = len(lengths)
        order = balanced_orders(range(len(visits)), rounds, self.rng)
        samples = np.zeros((rounds, len(visits) + 2), core.SAMPLE_DTYPE)
        samples["run"], samples["lookups"] = core.ADD_CHAIN, ADD_CHAIN_CYCLES
        batch = samples[:, 1:-1]
        starts = self.windows.take(np.repeat(lengths + warm_up, len(visits))).reshape(order.shape)
        for place, c in enumerate(visits):
            p, mine = self.loops[c], order == place
            # An extra visit runs the original, lest it train a copy's branches.
            original = np.full(1, p.variant.probes[self.group.probe].run, np.uint64)
            batch["run"][mine] = drawn_evenly(p.runs if place < len(segment) else original, rounds, self.rng)
            batch["base"][mine] = p.base
        batch["offsets"] = self.windows.addresses(starts)
        batch["warm_up"], batch["lookups"] = warm_up, lengths[:, None]
        return Schedule(segment, visits, order, starts, samples)

    def _extra_visits(self, segment: Sequence[int]) -> list[int]:
        """Cells to visit once more in each round, their samples not kept.

        A memmap that is visited more often has more of its lines and of its page tables in the caches, and a
        segment of more cells is longer in the caches after a switch: every memmap gets as many visits, where
        it takes a good part of L2.
        """
        if not self.crowded:
            return []
        visits = Counter(
            (number, self.loops[c].base)
            for number, segment_ in enumerate(self.segments)
            for c in segment_
            if c in self.touching
        )
        most = max(visits.values())
        by_base: dict[int, list[int]] = {}
        for c in segment:
            if c in self.touching:
                by_base.setdefault(self.loops[c].base, []).append(c)
        return [cells[i % len(cells)] for cells in by_base.values() for i in range(most - len(cells))]

    def _sample(self, schedules: Sequence[Schedule], per_block: int) -> int:
        """Run all blocks, their segments in the order of Williams' designs; the ns spent re-encoding."""
        encoding_ns = 0
        blocks = range(0, len(schedules[0].samples), per_block)
        orders = williams_orders(len(schedules), len(blocks), self.rng)
        for first, order in zip(blocks, orders, strict=True):
            for schedule in (schedules[number] for number in order):
                encoding_ns += self._bring_in(schedule.segment)
                core.run_samples(self.clock, schedule.samples[first : first + per_block].reshape(-1))
        return encoding_ns

    def _count(self, schedules: Sequence[Schedule]) -> list[dict[str, float]]:
        """The PMU's counts per lookup of each cell: medians over rounds of their own.

        Empty where there is no PMU.  The rounds are the first ones of the
        schedule again, after the timed ones, which they do not disturb.
        """
        counts: list[dict[str, float]] = [{} for _ in self.loops]
        if self.counters is None:
            return counts
        for schedule in schedules:
            self._bring_in(schedule.segment)
            for place, c in enumerate(schedule.visits[: len(schedule.segment)]):
                rows = schedule.samples[:COUNTED_ROUNDS, 1:-1][schedule.order[:COUNTED_ROUNDS] == place]
                batches = [self.counters.run(rows[i : i + 1]) for i in range(len(rows))]
                for event in self.counters.events:
                    values = [counted[event] for counted in batches if event in counted]
                    if values:
                        counts[c][event] = float(np.median(values))
        return counts

    def _check_results(self, schedule: Schedule, lengths: Ints, warm_up: int) -> None:
        pfns = self.windows.pfns[schedule.starts + warm_up + lengths[:, None] - 1]
        got = schedule.samples["last"][:, 1:-1]
        for place, c in enumerate(schedule.visits):
            p, mine = self.loops[c], schedule.order == place
            if np.any(
                expected_addresses(self.memmaps.folio_map, p, self.group.probe, pfns[mine]) != got[mine]
            ):
                raise PagebenchError(
                    f"{p.cell.contender} returned a wrong head while it was timed ({self.group.title})"
                )
