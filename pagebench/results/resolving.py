"""What a run was asked to resolve: which comparisons do, and what the others would take."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pagebench.results.result_file import Run
from pagebench.results.summary import Resolution, Row, Unresolved

# A worker's start, beside the groups that it samples.
START_S = 0.4
# Intervals of a few processes scatter themselves.
SPARE = 1.1
# A known zero is off for good if an interval of 99.9 % says so, of as many processes at least.
WIDER, ENOUGH_PROCESSES = 1.7, 12


def resolution(run: Run, cells: Sequence[Row], known_zeros: Sequence[Row]) -> Resolution | None:
    """Whether every comparison of ``cells`` resolves the run's target; None of a run without one.

    ``known_zeros``: A/A pairs and nulls.  One that is off by more than the target does not come nearer by
    more processes, and what it is a floor for neither.
    """
    target = run.plan.target
    if target is None:
        return None
    compared = [row for row in cells if row.verdict != "reference"]
    reference_ns = {row.place: row.ns.median for row in cells if row.verdict == "reference"}
    unresolved = []
    for row in compared:
        # The target in ns, at the cell's clock and its reference's time.
        ghz = (row.cycles.median or math.nan) / (row.ns.median or math.nan)
        per_unit = {"ns": 1.0, "cycles": 1 / ghz, "%": (reference_ns[row.place] or math.nan) / 100}
        asked_ns = target.amount * per_unit[target.unit]
        resolvable_ns = row.smallest_resolvable_ns
        if resolvable_ns is not None and resolvable_ns <= asked_ns:
            continue
        off = any(
            asked_ns < _least(zero) <= (resolvable_ns or 0.0)
            for zero in known_zeros
            if _noise_class(run, zero) == _noise_class(run, row)
        )
        ratio = math.nan if resolvable_ns is None else resolvable_ns / asked_ns
        # What is not known yet may be with twice as many.
        factor = 2.0 if math.isnan(ratio) else ratio**2 * SPARE
        needed = None if off else math.ceil(row.processes * factor)
        unresolved.append(
            Unresolved(
                contender=row.contender,
                probe=row.probe,
                pattern=row.pattern,
                order=row.order,
                footprint_bytes=row.footprint_bytes,
                level=row.level,
                resolvable=None if math.isnan(ratio) else ratio * target.amount,
                processes=row.processes,
                processes_needed=needed,
            )
        )
    return Resolution(target, len(compared), tuple(unresolved), _seconds_needed(run, unresolved))


def _noise_class(run: Run, row: Row | Unresolved) -> tuple[object, ...]:
    return run.plan.noise_class(row.probe, row.footprint_bytes)


def _least(row: Row) -> float:
    """How near to zero a known zero may be."""
    ns = row.difference.ns
    if ns.estimate is None or ns.low is None or ns.high is None or row.processes < ENOUGH_PROCESSES:
        return 0.0
    return max(0.0, abs(ns.estimate) - WIDER * (ns.high - ns.low) / 2)


def groups_of(run: Run, unresolved: Sequence[Unresolved]) -> list[int]:
    """The groups that have to go on: what a cell resolves depends on the A/A pairs of its noise class."""
    wanted = {_noise_class(run, one) for one in unresolved if one.processes_needed is not None}
    return [
        index
        for index, group in enumerate(run.plan.groups)
        if run.plan.noise_class(group.probe, group.footprint_bytes) in wanted
    ]


def until_next_look(unresolved: Sequence[Unresolved]) -> int:
    """How many processes to add before it is worth asking again: a tenth at least, twice as many at most."""
    wanted = [
        (one.processes_needed - one.processes, one.processes)
        for one in unresolved
        if one.processes_needed is not None
    ]
    nearest, have = min(wanted)
    return max(1, have // 10, min(nearest, have))


def _seconds_needed(run: Run, unresolved: Sequence[Unresolved]) -> float:
    """For as many more processes as help."""
    more = [one.processes_needed - one.processes for one in unresolved if one.processes_needed is not None]
    if not more:
        return 0.0
    going_on = set(groups_of(run, unresolved))
    lines = [samples.sampling for samples in run.samples if samples.sampling.group in going_on]
    processes = len({line.process for line in lines})
    ns = sum(line.set_up_ns + line.sampling_ns for line in lines) / processes
    return round(max(more) * (START_S + ns / 1e9), 1)
