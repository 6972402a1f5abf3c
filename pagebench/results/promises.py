"""What a self-test comes to: the processes of one run taken for many, over pairs whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from pagebench.errors import PagebenchError
from pagebench.names import LINE_BYTES, Level
from pagebench.results import judgement, statistics
from pagebench.results.comparison import Comparison, GroupSamples, by_group
from pagebench.results.resolving import START_S
from pagebench.results.result_file import Run
from pagebench.results.statistics import number
from pagebench.results.summary import Number
from pagebench.units import format_size

Kind = Literal["aa", "null", "control", "control-eighth"]
# True differences in core cycles, and how far the estimate over all processes may be off.
PLANTED: Mapping[Kind, tuple[float, float]] = {"control": (1.0, 0.05), "control-eighth": (0.125, 0.03)}
KNOWN_ZEROS: tuple[Kind, ...] = ("aa", "null")
# Shares that are promised: false alarms at most, what is planted found and intervals that hold the truth at
# least.  A count breaks its promise where chance alone would break it so in less than one case of a hundred.
# Intervals of 95 % cover 93.5 to 96 in simulation, see docs/method.md.
FALSE_ALARMS, FOUND, COVERAGE = 0.05, 0.95, 0.93
CHANCE = 0.01
# Seconds for which it is said what can be resolved in them.
BUDGETS_S = (10.0, 60.0, 600.0)
# Rounds farther from the median than so many median deviations are a neighbour's.
OUTLYING = 6.0


class Promise(msgspec.Struct, frozen=True):
    """``count`` of ``of`` cases, of which a share was promised: ``at_most`` so many, or at least.

    A promise of an estimate has ``count`` and ``of`` of 0, and says ``estimate_cycles`` beside the truth.
    """

    what: str
    share: float
    at_most: bool
    count: int
    of: int
    kept: bool
    estimate_cycles: Number = None
    true_cycles: Number = None
    tolerance_cycles: Number = None


class Resolves(msgspec.Struct, frozen=True):
    """What a run of one group resolves: ns by seconds spent, from runs of ``processes`` in ``seconds``."""

    probe: str
    pattern: str
    level: Level
    footprint_bytes: int
    processes: int
    seconds: float
    ns: Number
    ns_by_seconds: Mapping[str, Number]


class Scatter(msgspec.Struct, frozen=True):
    """Where the scatter of an A/A pair's difference in one round comes from: shares of its variance.

    ``placement_range_ns``: how far the best and the worst offset in a line are apart.
    """

    probe: str
    pattern: str
    level: Level
    footprint_bytes: int
    ns: Number
    placement: Number
    process: Number
    round: Number
    placement_range_ns: Number


class SelfTest(msgspec.Struct, frozen=True):
    """Promises with what was found, and what this machine resolves in which time."""

    runs: int
    processes: int
    promises: tuple[Promise, ...]
    resolves: tuple[Resolves, ...]
    scatter: tuple[Scatter, ...]

    @property
    def kept(self) -> bool:
        """Whether every promise is."""
        return all(promise.kept for promise in self.promises)


@dataclass(frozen=True, slots=True)
class Pair:
    """A pair of known difference, as one run saw it; ``floor`` in ns."""

    kind: Kind
    index: int
    comparison: Comparison
    floor: float

    @property
    def verdict(self) -> str:
        """What a report would say."""
        return statistics.verdict(self.comparison.ns, self.floor, 0.0)


def selftest(run: Run, processes: int) -> SelfTest:
    """Judge a run of a self-test's plan as many runs of so many processes.

    Raises PagebenchError where it has not two of them, or no pairs of known difference.
    """
    every = sorted({samples.key[0] for samples in run.samples})
    blocks = [every[i : i + processes] for i in range(0, len(every) - processes + 1, processes)]
    if len(blocks) < 2:
        raise PagebenchError(
            f"{run.path} has {len(every)} processes, and a self-test wants two runs of {processes} at least"
        )
    if not any(cell.role == "control-eighth" for group in run.plan.groups for cell in group.cells):
        raise PagebenchError(f"{run.path} is no self-test's: it has no planted differences")
    pairs = [pair for block in blocks for pair in _pairs(by_group(run, block))]
    pooled = by_group(run, every)
    truths = {(pair.kind, pair.index): pair for pair in _pairs(pooled)}
    held = [held for block in blocks for held in _held(run, block, set(every) - set(block))]
    where = [f"{format_size(group.footprint_bytes)} {group.pattern}" for group in run.plan.groups]
    return SelfTest(
        runs=len(blocks),
        processes=processes,
        promises=tuple(_promises(pairs, held, truths, where)),
        resolves=tuple(_resolves(run, pairs, truths, processes)),
        scatter=tuple(_scatter(samples) for samples in pooled.values()),
    )


def _known(samples: GroupSamples) -> Iterator[tuple[Kind, Comparison]]:
    for position, cell in enumerate(samples.group.cells):
        if cell.role == "aa":
            yield "aa", samples.compare(position, 0)
        elif cell.role == "null":
            yield "null", samples.compare(position, samples.null_reference(cell))
        elif cell.role == "control" or cell.role == "control-eighth":
            yield cell.role, samples.compare(position, samples.control_reference)


def _pairs(groups: Mapping[int, GroupSamples]) -> Iterator[Pair]:
    """Every pair of known difference, with the floor that a report would give it."""
    known = {index: list(_known(samples)) for index, samples in groups.items()}

    def of_level(kind: Kind, index: int) -> dict[int, float]:
        return {
            other: comparison.ns.estimate
            for other, comparisons in known.items()
            for kind_, comparison in comparisons
            if kind_ == kind and groups[other].noise_class == groups[index].noise_class
        }

    for index, comparisons in known.items():
        for kind, comparison in comparisons:
            noise, nulls = of_level("aa", index), of_level("null", index)
            own = noise.pop(index)
            if kind == "aa":
                floor = statistics.smallest_resolvable(comparison.ns, list(noise.values()), own)
                # Alone in its level there is no other noise to be judged by.
                floor = floor if noise else (comparison.ns.high - comparison.ns.low) / 2
            else:
                # A null is judged as a comparison of encodings is, by those of other groups.
                others = [null for other, null in nulls.items() if other != index and kind == "null"]
                floor = judgement.floor(comparison.ns, list(noise.values()), own, others)
            yield Pair(kind, index, comparison, floor)


def _promises(
    pairs: Sequence[Pair],
    held: Sequence[bool],
    truths: Mapping[tuple[Kind, int], Pair],
    where: Sequence[str],
) -> Iterator[Promise]:
    alarms: Sequence[tuple[Kind, str]] = (
        ("aa", "A/A pairs called a difference"),
        ("null", "nulls between encodings called a difference"),
    )
    for kind, what in alarms:
        called = [pair.verdict in ("faster", "slower") for pair in pairs if pair.kind == kind]
        if called:
            yield _counted(what, FALSE_ALARMS, True, called)
    yield _counted(
        "intervals of A/A pairs hold 0",
        COVERAGE,
        False,
        [not pair.comparison.ns.excludes_zero() for pair in pairs if pair.kind == "aa"],
    )
    yield _counted("intervals of adds hold what other runs say", COVERAGE, False, held)
    planted = [pair for pair in pairs if pair.kind in PLANTED]
    names: Mapping[Kind, str] = {
        "control": "one dependent add",
        "control-eighth": "an add in one page of eight",
    }
    for kind, name in names.items():
        mine = [pair for pair in planted if pair.kind == kind]
        if not mine:
            continue
        yield _counted(f"{name} is found", FOUND, False, [pair.verdict == "slower" for pair in mine])
        true, tolerance = PLANTED[kind]
        for pair in (pair for pair in truths.values() if pair.kind == kind):
            estimate = pair.comparison.cycles.estimate
            yield Promise(
                what=f"{name}, {where[pair.index]}",
                share=0.0,
                at_most=False,
                count=0,
                of=0,
                kept=abs(estimate - true) <= tolerance,
                estimate_cycles=number(estimate),
                true_cycles=true,
                tolerance_cycles=tolerance,
            )


def _held(run: Run, block: Sequence[int], others: set[int]) -> Iterator[bool]:
    """Whether a run's intervals of planted adds hold what all other runs estimate."""
    mine = by_group(run, block)
    for index, samples in by_group(run, others).items():
        if index not in mine:
            continue
        seen = dict(_known(mine[index]))
        for kind, truth in _known(samples):
            if kind in PLANTED and kind in seen:
                yield seen[kind].cycles.low <= truth.cycles.estimate <= seen[kind].cycles.high


def _counted(what: str, share: float, at_most: bool, cases: Sequence[bool]) -> Promise:
    count, of = sum(cases), len(cases)
    missed = count if at_most else of - count
    allowed = share if at_most else 1 - share
    return Promise(what, share, at_most, count, of, _chance(missed, of, allowed) >= CHANCE)


def _chance(missed: int, of: int, share: float) -> float:
    """How probable it is that so many or more of the cases miss, if each does so with that probability."""
    return 1 - sum(math.comb(of, k) * share**k * (1 - share) ** (of - k) for k in range(missed))


def _resolves(
    run: Run, pairs: Sequence[Pair], truths: Mapping[tuple[Kind, int], Pair], processes: int
) -> Iterator[Resolves]:
    """Floors by the square root of the time, and never below what known zeros read over all runs."""
    for index, group in enumerate(run.plan.groups):
        floors = [pair.floor for pair in pairs if pair.index == index and pair.kind in KNOWN_ZEROS]
        if not floors:
            continue
        zeros = [truths[kind, index] for kind in KNOWN_ZEROS if (kind, index) in truths]
        least = max(abs(zero.comparison.ns.estimate) for zero in zeros)
        lines = [samples.sampling for samples in run.samples if samples.sampling.group == index]
        each = START_S + float(np.mean([line.set_up_ns + line.sampling_ns for line in lines])) / 1e9
        seconds, ns = processes * each, max(least, float(np.median(floors)))
        yield Resolves(
            probe=group.probe,
            pattern=group.pattern,
            level=group.level,
            footprint_bytes=group.footprint_bytes,
            processes=processes,
            seconds=round(seconds, 2),
            ns=number(ns),
            ns_by_seconds={
                f"{spent:g}": number(max(least, ns * math.sqrt(seconds / spent))) for spent in BUDGETS_S
            },
        )


def _scatter(samples: GroupSamples) -> Scatter:
    """Shares of the variance of one round's difference between the reference and its copy.

    Both run at offsets drawn anew, so that d = f(offset of one) - f(offset of the other) + process + rest:
    f by least squares, what is left by a one-way analysis of variance.
    """
    (copy,) = (i for i, cell in enumerate(samples.group.cells) if cell.role == "aa")
    placements = np.array([line.placements for line in samples.lines])
    difference = samples.ns[:, copy] - samples.ns[:, 0]
    middle = np.nanmedian(difference)
    spread = float(np.nanmedian(np.abs(difference - middle)))
    kept = np.abs(difference - middle) <= OUTLYING * max(spread, 1e-9)
    process, _ = np.nonzero(kept)
    if len(process) <= LINE_BYTES + len(samples.lines):
        return _scatter_of(samples, None, 0.0)
    d = difference[kept] - difference[kept].mean()
    design = np.zeros((len(d), LINE_BYTES))
    rows = np.arange(len(d))
    np.add.at(design, (rows, placements[:, copy][kept]), 1.0)
    np.add.at(design, (rows, placements[:, 0][kept]), -1.0)
    design = design[:, np.unique(placements[:, [0, copy]])]
    # Within processes: what is a process' own is not laid to its placements.
    f, _, rank, _ = np.linalg.lstsq(_within(design, process), _within(d, process), rcond=None)
    placed = design @ f
    between, within = _components(d - placed, process, int(rank))
    # What fits so many offsets of rounds that placement does not move.
    by_chance = within * int(rank) / len(d)
    placement = max(0.0, float(placed.var()) - by_chance)
    apart = float(np.ptp(f)) * math.sqrt(placement / float(placed.var())) if placement else 0.0
    return _scatter_of(samples, (placement, between, within), apart)


def _scatter_of(
    samples: GroupSamples, parts: tuple[float, float, float] | None, placement_range_ns: float
) -> Scatter:
    """``parts``: variances by placement, process and round; None of too few rounds."""
    group = samples.group
    total = sum(parts) if parts else 0.0
    shares = [number(part / total) for part in parts] if parts and total else [None, None, None]
    return Scatter(
        probe=group.probe,
        pattern=group.pattern,
        level=group.level,
        footprint_bytes=group.footprint_bytes,
        ns=number(math.sqrt(total)) if parts else None,
        placement=shares[0],
        process=shares[1],
        round=shares[2],
        placement_range_ns=number(placement_range_ns) if parts and samples.at_core_clock else None,
    )


def _within(values: npt.NDArray[np.float64], group: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Values, or rows of them, less the mean of their group."""
    _, number = np.unique(group, return_inverse=True)
    sums = np.zeros((number.max() + 1, *values.shape[1:]))
    np.add.at(sums, number, values)
    counts = np.bincount(number).reshape(-1, *[1] * (values.ndim - 1))
    return np.asarray(values - (sums / counts)[number], np.float64)


def _components(
    values: npt.NDArray[np.float64], group: npt.NDArray[np.int64], fitted: int
) -> tuple[float, float]:
    """Variances between groups and within them, each estimated without bias; none is below 0.

    ``fitted``: how many parameters the values are the rest of.
    """
    counts = np.unique(group, return_counts=True)[1]
    rest = _within(values, group)
    within = float((rest**2).sum() / max(1, len(values) - len(counts) - fitted))
    means = np.array([values[group == one].mean() for one in np.unique(group)])
    between = float(means.var(ddof=1)) - within * float((1 / counts).mean()) if len(counts) > 1 else 0.0
    return max(between, 0.0), within
