"""One run against another: cells matched by meaning, differences of differences, verdicts.

All absolute times of a run move with it, and differences within it move from run to run by more than its own
intervals say.  So a cell is first taken to what has the same machine code in both runs, its group's reference
or the harness' loop, and these differences are compared.  And what differs though its own code is the same in
both runs says how much runs differ by themselves.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pagebench import names
from pagebench.errors import PagebenchError
from pagebench.results import statistics, two_samples
from pagebench.results.between_runs import BetweenRuns
from pagebench.results.change import Absolute, Anchor, Center, Change, Changes, Code, Comparison, Mean
from pagebench.results.comparison import GroupSamples, Paired, estimate_of
from pagebench.results.gate import Candidate, Threshold, judge
from pagebench.results.judgement import SIGNIFICANT, mark
from pagebench.results.lines import ProbeCode
from pagebench.results.measured import Measured, NoiseClass, Place
from pagebench.results.provenance import check_comparable, differs
from pagebench.results.statistics import Floats, Interval, number
from pagebench.units import format_size

# The L3 that one gets moves; where it does by more than this, it is another machine beyond L2.
SAME_L3 = 1.5
NOWHERE = Interval(math.nan, -math.inf, math.inf)


def compare(runs: Sequence[Measured], force: bool = False, threshold: Threshold | None = None) -> Comparison:
    """Runs against the first one; judged by a gate where there is a threshold.

    ``force``: compare CPU models all the same.  Raises PagebenchError for runs that are not to be compared,
    or that have no cell in common.
    """
    for run in runs:
        _ = run.summary  # which says what is missing
    first, *others = runs
    return Comparison(runs=tuple(_changes(first, other, force, threshold) for other in others))


@dataclass(frozen=True, slots=True)
class _Drafted:
    """A cell in both runs, before it is judged.

    ``sides``: the anchored differences of each process in ns, of either run; ``yardstick``: it is what others
    are taken to.  ``branches``: a branch tests for tails in one of its loops, or in what it is taken to.
    ``assumed``: how much runs differ there, if nothing says it.
    """

    place: Place
    noise_class: NoiseClass
    same_code: bool
    anchor: Anchor | None
    yardstick: bool
    sides: tuple[Floats, Floats]
    ns: Interval
    turns: bool
    branches: bool
    assumed: BetweenRuns

    @property
    def judged(self) -> bool:
        """Whether there is something to be judged."""
        return self.anchor is not None and not self.yardstick


def _changes(before: Measured, after: Measured, force: bool, threshold: Threshold | None) -> Changes:
    found = differs(before.run, after.run)
    check_comparable(before.run, after.run, found, force)
    common = [place for place in before.at if place in after.at]
    if not common:
        raise PagebenchError(
            f"{before.run.path} and {after.run.path} have no cell in common: one has "
            f"{next(iter(before.at), 'none')}, one {next(iter(after.at), 'none')}"
        )
    drafts = _drafts(before, after, common)
    between = {one.place: _between_runs(one, drafts) for one in drafts}
    judged = [one for one in drafts if one.judged]
    adjusted = statistics.holm([_p(one, between[one.place]) for one in judged])
    p_of = {one.place: p for one, p in zip(judged, adjusted, strict=True)}
    cells = [_change(before, after, one, between[one.place], p_of.get(one.place)) for one in drafts]
    missing = [place for place in before.at if place not in after.at]
    gate = None
    if threshold is not None:
        candidates = [
            _candidate(before, after, one, change, between[one.place])
            for one, change in zip(drafts, cells, strict=True)
            if not one.yardstick
        ]
        outcomes, gate = judge(threshold, candidates, len(missing), before.side, after.side)
        rest = iter(outcomes)
        cells = [change if one.yardstick else next(rest) for one, change in zip(drafts, cells, strict=True)]
    same = _same_variants(before, after)
    return Changes(
        before=before.side,
        after=after.side,
        reference=before.run.plan.reference,
        differs=tuple(found),
        same_code=tuple(name for name, alike in same.items() if alike),
        other_code=tuple(name for name, alike in same.items() if not alike),
        cells=tuple(cells),
        only_before=tuple(map(str, missing)),
        only_after=tuple(str(place) for place in after.at if place not in before.at),
        means=tuple(_means(cells, before, after)),
        margin_cycles=before.run.plan.margin_cycles,
        warnings=tuple(_warnings(before, after, drafts, between)),
        gate=gate,
    )


def _same_loop(first: ProbeCode, second: ProbeCode) -> bool:
    """Whether it is the same machine code for sure: what cannot be copied may call something else."""
    return first.code == second.code and not first.immovable and not second.immovable


def _same_variants(before: Measured, after: Measured) -> dict[str, bool]:
    """Every contender's variant that both runs have: whether all its loops have the same code in both."""
    same: dict[str, bool] = {}
    for place in before.at:
        if place in after.at:
            variant, probe = before.rows[place].variant, place.probe
            alike = _same_loop(before.code(variant, probe), after.code(variant, probe))
            same[variant] = same.get(variant, True) and alike
    return same


def _drafts(before: Measured, after: Measured, common: Sequence[Place]) -> list[_Drafted]:
    """Each cell that both runs have, taken to what has the same code in both."""
    contenders = Counter(place[:4] for place in common)
    return [_draft(before, after, place, contenders[place[:4]] > 1) for place in common]


def _draft(before: Measured, after: Measured, place: Place, others: bool) -> _Drafted:
    """``others``: whether both runs have other contenders of its group."""
    (samples, position), (samples_after, position_after) = before.at[place], after.at[place]
    probe, variant = place.probe, before.rows[place].variant

    def same(name: str) -> bool:
        return _same_loop(before.code(name, probe), after.code(name, probe))

    reference = samples.group.cells[0].contender
    of_reference = reference == samples_after.group.cells[0].contender
    anchor: Anchor | None = None
    against = 0, 0
    if of_reference and position and same(reference.variant):
        anchor = "reference"
    elif same(names.IDENTITY):
        anchor, against = "harness", (samples.harness, samples_after.harness)
    sides, interval = (np.array([math.nan]), np.array([math.nan])), NOWHERE
    if anchor is not None:
        paired, paired_after = (
            of_run.paired(cell, to)
            for of_run, cell, to in (
                (samples, position, against[0]),
                (samples_after, position_after, against[1]),
            )
        )
        sides = _in_ns(samples, paired), _in_ns(samples, paired_after)
        interval = two_samples.difference(*sides)
    to_reference = anchor == "reference"
    loops = [run.code(variant, probe).form for run in (before, after)]
    loops += [before.code(reference.variant, probe).form] if to_reference else []
    times = [math.fabs(statistics.median(samples.medians(cell))) for cell in (position, against[0])]
    return _Drafted(
        place=place,
        noise_class=before.noise_class(place),
        same_code=same(variant),
        anchor=anchor,
        yardstick=of_reference and not position and same(variant) and others,
        sides=sides,
        ns=interval,
        turns=to_reference and samples.take_turns(position, 0),
        branches="branch" in loops,
        assumed=BetweenRuns.unknown(samples.at_core_clock, samples.median_ghz, max(times)),
    )


def _in_ns(first: GroupSamples, paired: Paired) -> Floats:
    """Of each process; where caches run at the core's clock, at that of the first run, be it another one."""
    return paired.cycles / first.median_ghz if first.at_core_clock else paired.ns


def _between_runs(one: _Drafted, drafts: Iterable[_Drafted]) -> BetweenRuns:
    """What of its probe and cache level differs in other contenders, though their code is the same.

    Branches differ from run to run by a multiple of what the other forms do.
    """
    known_zeros: dict[bool, list[float]] = {True: [], False: []}
    for other in drafts:
        if (
            other.place.contender != one.place.contender
            and other.same_code
            and other.noise_class == one.noise_class
        ):
            known_zeros[other.branches].append(other.ns.estimate)
    found = BetweenRuns.of(known_zeros[one.branches])
    if found is None and not one.branches:
        found = BetweenRuns.of(known_zeros[True])
    return found or one.assumed


def _p(one: _Drafted, between: BetweenRuns) -> float:
    """By the processes' scatter, and by what differs between runs anyway: the larger one."""
    p = two_samples.yuen_welch_p(*one.sides)
    return p if math.isnan(p) else max(p, between.p(one.ns.estimate))


def _change(
    before: Measured, after: Measured, one: _Drafted, between: BetweenRuns, p_adjusted: float | None
) -> Change:
    """A cell with its verdict."""
    place, row, row_after = one.place, before.rows[one.place], after.rows[one.place]
    interval = between.widened(one.ns)
    # Without an A/A pair of its kind in both runs nothing is resolved.
    aa = tuple(run.aa_ns.get(one.noise_class, math.inf) for run in (before, after))
    nulls = [run.null_ns.get(one.noise_class, 0.0) for run in (before, after)] if one.turns else []
    floor = max((interval.high - interval.low) / 2, *aa, *nulls)
    per_ns = _cycles_per_ns(before, place)
    verdict = None
    if one.judged:
        verdict = statistics.verdict(interval, floor, before.run.plan.margin_cycles / per_ns)
        if verdict in ("faster", "slower") and not (p_adjusted is not None and p_adjusted < SIGNIFICANT):
            verdict = "inconclusive"
    codes = [run.code(row.variant, place.probe) for run in (before, after)]
    medians = [samples.medians(position) for samples, position in (before.at[place], after.at[place])]
    in_cycles = Interval(*(end * per_ns for end in (interval.estimate, interval.low, interval.high)))
    before_ns = statistics.median(medians[0])
    return Change(
        contender=place.contender,
        order=place.order,
        footprint_bytes=place.footprint_bytes,
        pattern=place.pattern,
        probe=place.probe,
        level=row.level,
        level_after=row_after.level,
        code=_code(codes[0]),
        code_after=_code(codes[1]),
        same_code=one.same_code,
        absolute=_absolute(*medians),
        anchor=one.anchor,
        ns=estimate_of(interval),
        cycles=estimate_of(in_cycles),
        percent=number(100 * interval.estimate / before_ns) if before_ns else None,
        p_adjusted=None if p_adjusted is None else number(p_adjusted),
        aa_ns=(number(aa[0]), number(aa[1])),
        between_runs_ns=number(between.ns),
        between_runs_assumed=between.assumed,
        smallest_resolvable_ns=number(floor),
        verdict=verdict,
        mark=None if verdict is None else mark(verdict, p_adjusted),
    )


def _absolute(before: Floats, after: Floats) -> Absolute:
    """Two runs' medians, one of each process, as benchstat has them."""
    first, second = _center(before), _center(after)
    ratio = second.median / first.median if first.median and second.median is not None else math.nan
    return Absolute(first, second, number(ratio), number(two_samples.mann_whitney_p(before, after)))


def _center(values: Floats) -> Center:
    found = two_samples.order_statistics(values)
    return Center(number(found.estimate), number(found.low), number(found.high), len(values))


def _code(loop: ProbeCode) -> Code:
    return Code(loop.form, loop.variant_instructions, loop.variant_bytes, bool(loop.immovable))


def _cycles_per_ns(before: Measured, place: Place) -> float:
    """The core clock of a cell in the first run, in GHz."""
    row = before.rows[place]
    if row.ns.median and row.cycles.median:
        return row.cycles.median / row.ns.median
    return before.run.median_ghz


def _candidate(
    before: Measured, after: Measured, one: _Drafted, change: Change, between: BetweenRuns
) -> Candidate:
    """A cell for a gate."""
    rows = before.rows[one.place], after.rows[one.place]

    def p_beyond(limit: float) -> float:
        p = two_samples.yuen_welch_p(*one.sides, beyond=limit)
        off = one.ns.estimate - limit
        half = between.p(off) / 2
        return p if math.isnan(p) else max(p, half if off > 0 else 1 - half)

    why_not = ""
    if one.anchor is None:
        why_not = "no loop of theirs has the same machine code in both runs, so that nothing can be judged"
    elif len({level for row in rows for level in (row.level, row.level_at_end)}) > 1:
        why_not = "their cache level is another one, in one of the runs or at its end, since the L3 is"
    elif rows[0].backing != rows[1].backing:
        why_not = (
            f"their memmaps are on {rows[0].backing} pages in one run, on {rows[1].backing} in the other"
        )
    return Candidate(
        change,
        change.absolute.before.median or math.nan,
        _cycles_per_ns(before, one.place),
        p_beyond,
        why_not,
    )


def _means(cells: Sequence[Change], before: Measured, after: Measured) -> list[Mean]:
    """By probe."""
    means = []
    for probe in dict.fromkeys(change.probe for change in cells):
        ratios, anchored = [], []
        for change in cells:
            if change.probe != probe:
                continue
            place = Place(probe, change.pattern, change.order, change.footprint_bytes, change.contender)
            if change.absolute.ratio:
                ratios.append(math.log(change.absolute.ratio))
            rows = before.rows[place].ratio.estimate, after.rows[place].ratio.estimate
            if change.anchor == "reference" and rows[0] and rows[1]:
                anchored.append(math.log(rows[1] / rows[0]))
        means.append(Mean(probe, len(ratios), _geometric(ratios), _geometric(anchored)))
    return means


def _geometric(logarithms: Sequence[float]) -> float | None:
    return number(math.exp(sum(logarithms) / len(logarithms))) if logarithms else None


def _same_run(before: Measured, after: Measured) -> bool:
    """Whether a process of a group is in both, tick for tick."""
    first = {samples.key: samples.sampling.ticks for samples in before.run.samples}
    return any(first.get(samples.key) == samples.sampling.ticks for samples in after.run.samples)


def _warnings(
    before: Measured, after: Measured, drafts: Sequence[_Drafted], between: Mapping[Place, BetweenRuns]
) -> list[str]:
    """What threatens the comparison."""
    lines = []
    if _same_run(before, after):
        lines.append(f"{before.name} and {after.name} are the same run: that shows nothing")
    for run in (before, after):
        of_run = [text for text in run.summary.warnings if text not in run.run.header.warnings]
        lines += [f"{run.name}: {text}" for text in of_run]
    for side in (before.side, after.side):
        if side.trusted is False:
            lines.append(f"{side.name}: its positive control is off, it is not to be trusted: run it again")
        if not side.complete:
            lines.append(f"{side.name} is not finished: only what both have is compared")
    l3 = [run.run.plan.levels.l3_bytes for run in (before, after)]
    beyond = any(one.place.footprint_bytes > before.run.plan.levels.l2_bytes for one in drafts)
    if beyond and max(l3) > SAME_L3 * min(l3):
        sizes = " and ".join(map(format_size, l3))
        lines.append(f"the L3 to be had was {sizes}: beyond L2 it is not one machine that is compared")
    assumed = [one for one in drafts if one.judged and between[one.place].assumed]
    if assumed:
        form = "a branch" if any(one.branches for one in assumed) else "its kind"
        lines.append(
            f"for {len(assumed)} cells no other contender of {form} has the same machine code in both runs: "
            "how much runs differ there is assumed (~), not known; name one that does not change, as "
            "pointer-branch, or compare both in one run"
        )
    return lines
