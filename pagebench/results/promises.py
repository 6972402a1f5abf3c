"""What a self-test comes to: the processes of one run taken for many, over pairs whose truth is known."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from pagebench.errors import PagebenchError
from pagebench.names import CORE_LEVELS, Level
from pagebench.plan.groups import Group
from pagebench.results import judgement, statistics
from pagebench.results.comparison import Comparison, GroupSamples
from pagebench.results.judgement import number
from pagebench.results.resolving import START_S
from pagebench.results.result_file import Run
from pagebench.results.summary import Number
from pagebench.units import format_size

Kind = Literal["aa", "null", "control", "control-eighth"]
# True differences in core cycles, and how far the estimate over all processes may be off.
PLANTED: Mapping[Kind, tuple[float, float]] = {"control": (1.0, 0.05), "control-eighth": (0.125, 0.03)}
KNOWN_ZEROS: tuple[Kind, ...] = ("aa", "null")
# Shares that are promised: false alarms at most, what is planted found and intervals that hold the truth at
# least.  A count breaks its promise where chance alone would break it so in less than one case of a hundred.
FALSE_ALARMS, FOUND, COVERAGE = 0.05, 0.95, statistics.CONFIDENCE
CHANCE = 0.01
# Seconds for which it is said what can be resolved in them.
BUDGETS_S = (10.0, 60.0, 600.0)
# Rounds farther from the median than so many median deviations are a neighbour's.
OUTLYING = 6.0
LINE_BYTES = 64


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
    pairs = [pair for block in blocks for pair in _pairs(_groups(run, block))]
    pooled = _groups(run, every)
    truths = {(pair.kind, pair.index): pair for pair in _pairs(pooled)}
    if not any(kind in PLANTED for kind, _ in truths):
        raise PagebenchError(f"{run.path} is no self-test's: it has no planted differences")
    where = [f"{format_size(group.footprint_bytes)} {group.pattern}" for group in run.plan.groups]
    return SelfTest(
        runs=len(blocks),
        processes=processes,
        promises=tuple(_promises(pairs, truths, where)),
        resolves=tuple(_resolves(run, pairs, truths, processes)),
        scatter=tuple(_scatter(samples) for samples in pooled.values()),
    )


def _groups(run: Run, processes: Sequence[int]) -> dict[int, GroupSamples]:
    """The groups of those processes alone, at the whole run's core clock."""
    by_group = defaultdict(list)
    wanted = set(processes)
    for samples in sorted(run.samples, key=lambda samples: samples.key):
        process, index = samples.key
        if process in wanted and run.plan.groups[index].purpose == "compare":
            by_group[index].append(samples)
    core_ghz = float(np.median(run.core_ghz))
    return {i: GroupSamples(run.plan.groups[i], some, core_ghz) for i, some in sorted(by_group.items())}


def _known(samples: GroupSamples) -> Iterator[tuple[Kind, Comparison]]:
    for position, cell in enumerate(samples.group.cells):
        if cell.role == "aa":
            yield "aa", samples.compare(position, 0)
        elif cell.role == "null":
            yield "null", samples.compare(position, samples.null_reference(cell))
        elif cell.role == "control" or cell.role == "control-eighth":
            # Over a random pattern the branch to one page in eight would be mispredicted.
            yield cell.role, samples.compare(position, samples.control_reference)


def _pairs(groups: Mapping[int, GroupSamples]) -> Iterator[Pair]:
    """Every pair of known difference, with the floor that a report would give it."""
    known = {index: list(_known(samples)) for index, samples in groups.items()}

    def of_level(kind: Kind, index: int) -> dict[int, float]:
        group = groups[index].group
        return {
            other: comparison.ns.estimate
            for other, comparisons in known.items()
            for kind_, comparison in comparisons
            if kind_ == kind and _level(groups[other].group) == _level(group)
        }

    for index, comparisons in known.items():
        for kind, comparison in comparisons:
            noise = of_level("aa", index)
            own = noise.pop(index)
            if kind == "aa":
                floor = statistics.smallest_resolvable(comparison.ns, list(noise.values()), own)
                # Alone in its level there is no other noise to be judged by.
                floor = floor if noise else (comparison.ns.high - comparison.ns.low) / 2
            else:
                floor = judgement.floor(comparison.ns, list(noise.values()), own)
            yield Pair(kind, index, comparison, floor)


def _level(group: Group) -> tuple[str, str]:
    return group.probe, group.level


def _promises(
    pairs: Sequence[Pair], truths: Mapping[tuple[Kind, int], Pair], where: Sequence[str]
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
    planted = [pair for pair in pairs if pair.kind in PLANTED]
    yield _counted(
        "intervals of adds hold what all runs say",
        COVERAGE,
        False,
        [
            pair.comparison.cycles.low
            <= truths[pair.kind, pair.index].comparison.cycles.estimate
            <= pair.comparison.cycles.high
            for pair in planted
        ],
    )
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
        seconds, ns = processes * each, float(np.median(floors))
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
    group = samples.group
    (copy,) = (i for i, cell in enumerate(group.cells) if cell.role == "aa")
    placements = np.array([line.placements for line in samples.lines])
    difference = samples.ns[:, copy] - samples.ns[:, 0]
    middle = np.nanmedian(difference)
    spread = float(np.nanmedian(np.abs(difference - middle)))
    kept = np.abs(difference - middle) <= OUTLYING * max(spread, 1e-9)
    process, _ = np.nonzero(kept)
    d = difference[kept] - difference[kept].mean()
    design = np.zeros((len(d), LINE_BYTES))
    rows = np.arange(len(d))
    np.add.at(design, (rows, placements[:, copy][kept]), 1.0)
    np.add.at(design, (rows, placements[:, 0][kept]), -1.0)
    design = design[:, np.unique(placements[:, [0, copy]])]
    # Within processes: what is a process' own is not laid to its placements.
    f, *_ = np.linalg.lstsq(_within(design, process), _within(d, process), rcond=None)
    placed = design @ f
    rest = d - placed
    between, within = _components(rest, process)
    total = float(placed.var()) + between + within
    shares: dict[str, Any] = {
        "placement": number(float(placed.var()) / total) if total else None,
        "process": number(between / total) if total else None,
        "round": number(within / total) if total else None,
    }
    return Scatter(
        probe=group.probe,
        pattern=group.pattern,
        level=group.level,
        footprint_bytes=group.footprint_bytes,
        ns=number(math.sqrt(total)),
        placement_range_ns=number(float(np.ptp(f))) if group.level in CORE_LEVELS else None,
        **shares,
    )


def _within(values: npt.NDArray[np.float64], group: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Values, or rows of them, less the mean of their group."""
    _, number = np.unique(group, return_inverse=True)
    sums = np.zeros((number.max() + 1, *values.shape[1:]))
    np.add.at(sums, number, values)
    counts = np.bincount(number).reshape(-1, *[1] * (values.ndim - 1))
    return np.asarray(values - (sums / counts)[number], np.float64)


def _components(values: npt.NDArray[np.float64], group: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Variances between groups and within them, each estimated without bias; none is below 0."""
    counts = np.unique(group, return_counts=True)[1]
    rest = _within(values, group)
    within = float((rest**2).sum() / max(1, len(values) - len(counts)))
    means = np.array([values[group == one].mean() for one in np.unique(group)])
    between = float(means.var(ddof=1)) - within * float((1 / counts).mean()) if len(counts) > 1 else 0.0
    return max(between, 0.0), within
