"""Timed loops for pytest-benchmark: each round another copy and window, and the time that C measured."""

from __future__ import annotations

import math
from contextlib import ExitStack

import numpy as np
import numpy.typing as npt

from pagebench import architecture, core
from pagebench.code import form
from pagebench.measure import sampling
from pagebench.measure.windows import Windows
from pagebench.memmap import folios, patterns
from pagebench.names import LINE_BYTES

FOOTPRINT_BYTES = 16 << 10
TRIAL_LOOKUPS = 4000
TRIALS = 3


class MeasuredTimer:
    """A timer that moves on by what was measured elsewhere: for the pedantic mode."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def read(self) -> float:
        """What pytest-benchmark takes for the time."""
        return self._seconds

    def advance(self, seconds: float) -> None:
        """Let that much time pass."""
        self._seconds += seconds


def windows(order: int, rng: np.random.Generator) -> Windows:
    """Random lookups, a million, inside FOOTPRINT_BYTES of folios of one order."""
    folio_map = folios.FolioMap.uniform(order, FOOTPRINT_BYTES)
    pattern = patterns.Pattern("random")
    pfns = patterns.draw(pattern, folio_map, FOOTPRINT_BYTES, sampling.WINDOW_LOOKUPS, rng)
    return Windows(folio_map, pfns, rng)


def place(
    probe: core.Probe, copies: int, stack: ExitStack, rng: np.random.Generator
) -> npt.NDArray[np.uint64]:
    """Where the loop may run: copies at drawn offsets, or the original alone if it cannot be moved."""
    if form.analyse(probe).immovable:
        return np.array([probe.run], np.uint64)
    stride = (len(probe.code) // LINE_BYTES + 2) * LINE_BYTES
    arena = stack.enter_context(core.CodeArena(folios.reserved_bytes(copies * stride, "4k")))
    step = architecture.find().instruction_alignment
    starts = stride * np.arange(copies) + rng.integers(LINE_BYTES // step, size=copies) * step
    runs = [arena.copy(probe, int(start)) for start in starts]
    arena.seal()
    assert all(arena.holds(probe, run) for run in runs), "a copy differs from its original"
    return np.array(runs, np.uint64)


class Rounds:
    """Batches of one loop between add chains: the copies in ``runs`` by turns, each over the next window."""

    def __init__(
        self,
        runs: npt.NDArray[np.uint64],
        base: int,
        lookups: Windows,
        clock: core.Clock,
        rounds: int,
    ) -> None:
        self.clock = clock
        self.windows = lookups
        self.lookups = self._calibrate(int(runs[0]), base)
        self.warm_up = math.ceil(sampling.WARM_UP * self.lookups)
        self.samples = np.zeros((rounds, 3), core.SAMPLE_DTYPE)
        self.starts = lookups.take(np.full(rounds, self.warm_up + self.lookups))
        self.samples["run"], self.samples["lookups"] = core.ADD_CHAIN, sampling.ADD_CHAIN_CYCLES
        batch = self.samples[:, 1]
        batch["run"] = np.resize(runs, rounds)
        batch["base"] = base
        batch["offsets"] = lookups.addresses(self.starts)
        batch["warm_up"], batch["lookups"] = self.warm_up, self.lookups

    def _calibrate(self, run: int, base: int) -> int:
        """Lookups for a batch as long as those of a run."""
        trials = np.zeros(TRIALS, core.SAMPLE_DTYPE)
        trials["run"], trials["base"], trials["lookups"] = run, base, TRIAL_LOOKUPS
        trials["offsets"] = self.windows.addresses(self.windows.take(np.full(TRIALS, TRIAL_LOOKUPS)))
        core.run_samples(self.clock, trials)
        ns = float(trials["ticks"].min()) / self.clock.ticks_per_ns / TRIAL_LOOKUPS
        return max(1, int(sampling.BATCH_NS["l1"] / max(ns, 1e-3)))

    def run(self, first: int, end: int) -> None:
        """Time these rounds."""
        core.run_samples(self.clock, self.samples[first:end].reshape(-1))

    def seconds(self) -> list[float]:
        """Per lookup, of each round."""
        ns = self.samples["ticks"][:, 1] / self.clock.ticks_per_ns / self.lookups
        return [float(value) for value in ns * 1e-9]

    def last(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
        """The pfn that each batch looked up last, and the address that it got."""
        pfns = self.windows.pfns[self.starts + self.warm_up + self.lookups - 1]
        return pfns, self.samples["last"][:, 1]

    def cycles(self) -> npt.NDArray[np.float64]:
        """Core cycles per lookup of each round, by the add chains at its ends."""
        before, batch, after = self.samples["ticks"].astype(np.float64).T
        return np.asarray(batch / self.lookups * 2 * sampling.ADD_CHAIN_CYCLES / (before + after))

    def ghz(self) -> float:
        """The core clock."""
        chains = np.median(self.samples["ticks"][:, [0, 2]])
        return float(sampling.ADD_CHAIN_CYCLES / chains * self.clock.ticks_per_ns)
