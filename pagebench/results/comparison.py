"""One group's samples, cell against cell: what is estimated before anything is judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pagebench import names
from pagebench.plan.groups import Cell
from pagebench.results import statistics
from pagebench.results.result_file import SAME_CLOCK, Run, Samples
from pagebench.results.statistics import number
from pagebench.results.summary import Cycles, Difference, Estimate, Row, Times


@dataclass(frozen=True, slots=True)
class Comparison:
    """One cell against another of its group, over processes."""

    ns: statistics.Interval
    cycles: statistics.Interval
    ratio: statistics.Interval
    p: float


@dataclass(frozen=True, slots=True)
class Paired:
    """One cell against another of its group: the trimmed mean over rounds, of each process."""

    ns: statistics.Floats
    cycles: statistics.Floats
    ratio: statistics.Floats


class GroupSamples:
    """One group's samples over its processes: arrays (processes, cells, rounds).

    Where caches run at the core's clock, times are those of the run's median clock, whichever one a round
    met: cycles are what is compared there, and ns another unit of them.
    """

    def __init__(self, run: Run, index: int, processes: Sequence[Samples]) -> None:
        self.group = group = run.plan.groups[index]
        self.lines = [samples.sampling for samples in processes]
        self.valid = np.stack([samples.valid for samples in processes])
        measured_ns = np.where(self.valid, np.stack([samples.ns for samples in processes]), np.nan)
        self.ghz = np.stack([samples.ghz for samples in processes])
        self.cycles = measured_ns * self.ghz
        self.noise_class = run.plan.noise_class(group.probe, group.footprint_bytes)
        self.at_core_clock = run.plan.levels.at_core_clock(group.footprint_bytes)
        self.median_ghz = run.median_ghz
        self.ns = self.cycles / self.median_ghz if self.at_core_clock else measured_ns

    @cached_property
    def _quantiles(self) -> tuple[statistics.Floats, statistics.Floats, statistics.Floats]:
        """Over the rounds of each process and cell: the low quantile and the median of ns, that of cycles."""
        low, median = statistics.quantiles(self.ns, statistics.LOW_QUANTILE, 0.5)
        return low, median, statistics.quantiles(self.cycles, 0.5)[0]

    def paired(self, cell: int, against: int) -> Paired:
        """One cell against another, within the round.

        Cells that take turns may have met different core clocks.  Beyond the caches that run at it, rounds in
        which they did are left out.
        """
        comparable = self.at_core_clock | ~differing_clocks(self.ghz[:, cell], self.ghz[:, against])
        ns, cycles = (values[:, [cell, against]] for values in (self.ns, self.cycles))
        with np.errstate(divide="ignore", invalid="ignore"):
            kinds = np.stack([ns[:, 0] - ns[:, 1], cycles[:, 0] - cycles[:, 1], ns[:, 0] / ns[:, 1]])
        return Paired(*statistics.trimmed_mean(np.where(comparable, kinds, np.nan)))

    def compare(self, cell: int, against: int) -> Comparison:
        """Differences and ratios of two cells, over processes."""
        paired = self.paired(cell, against)
        return Comparison(
            statistics.median_interval(paired.ns),
            statistics.median_interval(paired.cycles),
            statistics.median_interval(paired.ratio),
            statistics.t_test_p(paired.ns),
        )

    def medians(self, cell: int) -> statistics.Floats:
        """The median of a cell's rounds in ns, of each process."""
        return np.asarray(self._quantiles[1][:, cell])

    def median_cycles(self, cell: int) -> statistics.Floats:
        """The median of a cell's rounds in core cycles, of each process."""
        return np.asarray(self._quantiles[2][:, cell])

    def take_turns(self, cell: int, against: int) -> bool:
        """Whether two cells are of different words or memmaps."""
        first, second = (self.group.cells[i] for i in (cell, against))
        return (first.contender.layout, first.contender.backing, first.tail_words) != (
            second.contender.layout,
            second.contender.backing,
            second.tail_words,
        )

    @property
    def harness(self) -> int:
        """The position of the loop without a lookup."""
        return next(i for i, cell in enumerate(self.group.cells) if cell.role == "identity")

    @property
    def control_reference(self) -> int:
        """The position of the cell that a control is compared with."""
        return next(i for i, cell in enumerate(self.group.cells) if cell.role == "control-reference")

    def null_reference(self, null: Cell) -> int:
        """The position of the cell that a null is compared with; a contender may serve."""
        twin = dataclasses.replace(null.contender, variant=names.NULL_REFERENCE)
        return next(i for i, cell in enumerate(self.group.cells) if cell.contender == twin)

    def row(self, run: Run, position: int, comparison: Comparison) -> Row:
        """What is said of a cell before it is judged."""
        cell = self.group.cells[position]
        layout, variant = cell.contender.layout, cell.contender.variant
        low_ns, median_ns, median_cycles = (of_kind[:, position] for of_kind in self._quantiles)
        median = statistics.median_interval(median_ns)
        low, cycles = statistics.median(low_ns), statistics.median(median_cycles)
        return Row(
            contender=str(cell.contender),
            variant=variant,
            layout=layout,
            backing=self._obtained(cell.contender.backing),
            order=self.group.order,
            footprint_bytes=self.group.footprint_bytes,
            touched_bytes=int(np.median([line.touched_bytes[layout] for line in self.lines])),
            pattern=self.group.pattern,
            probe=self.group.probe,
            level=self.group.level,
            level_at_end=run.levels_at_end.of(self.group.footprint_bytes),
            form=run.header.variants[variant].probes[self.group.probe].form,
            processes=len(self.lines),
            counts=self._counts(position),
            rounds_dropped=number(float(np.mean(~self.valid))),
            ns=Times(number(median.estimate), number(low), (number(median.low), number(median.high))),
            cycles=Cycles(number(cycles)),
            ratio=estimate_of(comparison.ratio),
            difference=Difference(estimate_of(comparison.ns), estimate_of(comparison.cycles)),
        )

    def _obtained(self, backing: str) -> str:
        """What was mapped where this backing was asked for, over all processes."""
        if backing == "memfd":
            return backing
        total: dict[str, int] = {}
        for line in self.lines:
            for name, size in line.backing[backing].items():
                total[name] = total.get(name, 0) + size
        return names.backing_name(total)

    def _counts(self, position: int) -> dict[str, float | None]:
        """Hardware events per lookup: medians over processes; empty without a PMU."""
        counted = [line.counts[position] for line in self.lines]
        events = dict.fromkeys(event for counts in counted for event in counts)
        return {
            event: number(float(np.median([counts[event] for counts in counted if event in counts])))
            for event in events
        }


def differing_clocks(ghz: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Where two cells met core clocks that differ by more than 1 %."""
    return np.abs(ghz / other - 1) > SAME_CLOCK


def estimate_of(interval: statistics.Interval) -> Estimate:
    """An interval as a summary has it."""
    return Estimate(number(interval.estimate), number(interval.low), number(interval.high))


def by_group(run: Run, processes: Collection[int] | None = None) -> dict[int, GroupSamples]:
    """The samples of each group that has any, processes in order; of these ``processes``, or all."""
    by_group: dict[int, list[Samples]] = {}
    for samples in sorted(run.samples, key=lambda samples: samples.key):
        process, index = samples.key
        if processes is None or process in processes:
            by_group.setdefault(index, []).append(samples)
    return {index: GroupSamples(run, index, some) for index, some in sorted(by_group.items())}
