"""What follows from a run's numbers: marks, warnings, conclusions.  Renderers print, they never judge."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from pagebench.names import LEVELS, VERDICTS
from pagebench.results import statistics
from pagebench.results.result_file import Run
from pagebench.results.summary import (
    Finished,
    Inconclusive,
    Interference,
    Mark,
    NoiseMaximum,
    Number,
    Operation,
    Overall,
    Resolved,
    Row,
    Significant,
    Span,
)
from pagebench.units import format_size

SIGNIFICANT = 0.05
# Shares of the samples and of the time, and processes, at which a result is warned of.
DROPPED_SHARE, STEAL_SHARE, FEW_PROCESSES = 0.02, 0.01, 10
# Of the batches: quiet machines had 0.03 % and less, busy ones 0.16 % and more.
SWITCHED_SHARE = 0.001
# Zapping 2 MiB of base pages makes as many lookups.
OPERATION_LOOKUPS = 512

LIMITS = (
    "Not seen from user space: kernel mappings of the vmemmap, contention for "
    "_refcount between CPUs, NUMA (a shared tail may be remote), single lookups "
    "with code and branches cold and, in a VM, what nested paging adds to a TLB "
    "miss."
)


def mark(verdict: str, p_adjusted: Number) -> Mark:
    """A verdict's mark in tables: a difference may be resolved and not significant."""
    if verdict in ("faster", "slower"):
        return "*" if p_adjusted is not None and p_adjusted < SIGNIFICANT else "+"
    return "=" if verdict == "equivalent" else "?"


def warnings(
    of_machine: Iterable[str],
    interference: Interference,
    finished: Finished,
    run: Run,
    cells: Sequence[Row],
) -> list[str]:
    """What threatens this result, and what to do about it."""
    lines = list(of_machine)
    if interference.context_switches > SWITCHED_SHARE * interference.samples:
        lines.append(
            f"the machine is busy: {interference.context_switches} batches met a context switch; end other "
            "work on it, then run again"
        )
    changes = [
        (interference.clock_dropped_share or 0, "inside {:.2g} % of the samples"),
        (interference.clock_changed_share or 0, "beyond L2 between turns in {:.2g} % of the rounds"),
    ]
    if any(share > DROPPED_SHARE for share, _ in changes):
        told = " and ".join(text.format(100 * share) for share, text in changes if share)
        lines.append(
            f"the core clock changed {told}, which are left out: fix the frequency, if that can be done"
        )
    if (interference.steal_share or 0) > STEAL_SHARE:
        lines.append(
            "steal time is above 1 %: the hypervisor ran others on this CPU, and intervals are wider for it"
        )
    changed = sorted({row.footprint_bytes for row in cells if row.level_at_end != row.level})
    if changed:
        l3, l3_at_end = run.plan.levels.l3_bytes, run.levels_at_end.l3_bytes
        lines.append(
            f"the L3 to be had went from {format_size(l3)} to {format_size(l3_at_end)} during the run: "
            f"cells of {', '.join(map(format_size, changed))} (! in tables) are of no one cache level"
        )
    asked = {cell.contender.backing for group in run.plan.groups for cell in group.cells}
    if "2m" in asked and "4k" not in asked and any(row.backing not in ("2m", "memfd") for row in cells):
        lines.append(
            "2m pages were asked for and not obtained everywhere: "
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"
        )
    if interference.unsteady_samplings:
        lines.append(
            f"in {interference.unsteady_samplings} of {finished.samplings} samplings times still drifted "
            "after the burn-in: absolute times there are not those of a warm machine"
        )
    if interference.immovable_loops:
        lines.append("some loops could not be copied: their placement is one accident, not drawn anew")
    if min((row.processes for row in cells), default=finished.processes) < FEW_PROCESSES:
        lines.append("with fewer than ten processes intervals are rough and p says little")
    return lines


def maxima(noise: Sequence[Row]) -> list[NoiseMaximum]:
    """The largest differences of pairs whose true difference is zero, by cache level, over the probes."""
    lines = []
    for level in LEVELS:
        estimates = [row.difference.ns.estimate for row in noise if row.level == level]
        pairs = [abs(estimate) for estimate in estimates if estimate is not None]
        if pairs:
            lines.append(NoiseMaximum(level, max(pairs), len(pairs)))
    return lines


def _compared(cells: Sequence[Row]) -> list[Row]:
    return [row for row in cells if row.verdict != "reference"]


def spans(rows: Iterable[Row]) -> dict[str, Span]:
    """How many rows have which verdict, and the smallest and the largest of their differences."""
    rows = list(rows)
    verdicts: dict[str, Span] = {}
    for verdict in VERDICTS:
        sizes = [row.difference.ns.estimate for row in rows if row.verdict == verdict]
        known = sorted((size for size in sizes if size is not None), key=abs)
        if sizes:
            least, most = (known[0], known[-1]) if known else (None, None)
            verdicts[verdict] = Span(len(sizes), least, most)
    return verdicts


def overall(cells: Sequence[Row]) -> list[Overall]:
    """One line for each contender but the reference, counted from its cells."""
    lines = []
    for contender in dict.fromkeys(row.contender for row in _compared(cells)):
        mine = [row for row in cells if row.contender == contender]
        ratios = [row.ratio.estimate for row in mine if row.ratio.estimate]
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan
        lines.append(Overall(contender, len(mine), spans(mine), statistics.number(mean)))
    return lines


def resolved(cells: Sequence[Row]) -> list[Resolved]:
    """By probe and level, the largest of what its cells could resolve."""
    lines = []
    for probe in dict.fromkeys(row.probe for row in cells):
        for level in LEVELS:
            floors = [
                row.smallest_resolvable_ns
                for row in cells
                if (row.probe, row.level) == (probe, level) and row.smallest_resolvable_ns is not None
            ]
            if floors:
                lines.append(Resolved(probe, level, max(floors)))
    return lines


def inconclusive(cells: Sequence[Row]) -> Inconclusive:
    """The comparisons without a verdict."""
    rows = [row for row in cells if row.verdict == "inconclusive"]
    return Inconclusive(len(rows), tuple(dict.fromkeys((row.probe, row.level) for row in rows)))


def significant(cells: Sequence[Row]) -> Significant:
    """How many of the comparisons are significant."""
    ps = [row.p_adjusted for row in cells if row.p_adjusted is not None]
    return Significant(SIGNIFICANT, sum(p < SIGNIFICANT for p in ps), len(ps))


def operations(cells: Sequence[Row]) -> list[Operation]:
    """What lookups and differences are at the scale of a kernel operation: of order 9, or the largest."""
    random = [row for row in cells if row.probe in ("lookup", "chain") and row.pattern == "random"]
    orders = {row.order for row in random}
    order = 9 if 9 in orders else max(orders, default=0)
    lines = []
    for row in random:
        if row.order != order:
            continue
        ns = row.ns.median if row.verdict == "reference" else row.difference.ns.estimate
        us = None if ns is None or row.verdict == "inconclusive" else ns * OPERATION_LOOKUPS / 1000
        place = row.probe, row.contender, row.order, row.footprint_bytes
        lines.append(Operation(*place, OPERATION_LOOKUPS, row.verdict, us))
    return lines


def floor(
    interval: statistics.Interval, others: Sequence[float], own: float, nulls: Sequence[float] = ()
) -> float:
    """The smallest resolvable difference of a comparison: see statistics.smallest_resolvable().

    Nor does a cell get a verdict that its own group's A/A pair would get; nor one of cells that take turns
    that any of ``nulls`` would get.
    """
    resolvable = statistics.smallest_resolvable(interval, others, own)
    return max([resolvable, *(abs(null) for null in (own, *nulls) if math.isfinite(null))])
