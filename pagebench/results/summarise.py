"""From a result file to a summary: what every report is made of, the same each time for a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from pagebench import names
from pagebench.errors import PagebenchError
from pagebench.plan.groups import Contender
from pagebench.plan.questions import QUESTIONS, of_trees
from pagebench.results import judgement, resolving, static, statistics
from pagebench.results.comparison import Comparison, GroupSamples, by_group, differing_clocks, estimate_of
from pagebench.results.explaining import explain
from pagebench.results.result_file import Run, Samples
from pagebench.results.statistics import number
from pagebench.results.summary import (
    Clock,
    Control,
    CoreClock,
    Finished,
    Interference,
    Row,
    SeriesRow,
    Summary,
)

# Ticks a second in /proc/stat, whatever the kernel's own HZ.
USER_HZ = 100
# The positive control is one core cycle; farther off than this, no trust.
CONTROL_CYCLES = 1.0
CONTROL_TOLERANCE = 0.05


@dataclass(frozen=True, slots=True)
class Compared:
    """A row that is not judged yet, of the group at ``index``."""

    row: Row
    comparison: Comparison
    index: int
    # Whether the two cells take turns, as those of different words or memmaps do.
    turns: bool = False


def summarise(run: Run, margin_cycles: float | None = None) -> Summary:
    """The summary of a run, or of as much of it as is finished.

    ``margin_cycles``: within which an interval is ``equivalent``; the plan's
    by default.  Raises PagebenchError where no group is finished.
    """
    if not run.samples:
        raise PagebenchError(f"{run.path} holds no finished group yet: go on with `run --resume {run.path}`")
    margin = run.plan.margin_cycles if margin_cycles is None else margin_cycles
    groups = by_group(run)

    harness: list[Row] = []
    cells: list[Row | Compared] = []  # the reference's row has nothing to be judged
    series: list[Compared] = []
    aa: dict[int, Compared] = {}
    nulls: dict[int, Compared] = {}
    control: Control | None = None
    for index, samples in groups.items():
        series += _answers(run, samples, index)
        for position, cell in enumerate(samples.group.cells):
            if cell.role == "control":
                control = control or _control(samples, position)
            elif cell.role == "null":
                comparison = samples.compare(position, samples.null_reference(cell))
                nulls[index] = Compared(samples.row(run, position, comparison), comparison, index)
            if cell.role.startswith(("control", "null")) or samples.group.purpose == "control":
                continue
            comparison = samples.compare(position, 0)
            row = samples.row(run, position, comparison)
            if cell.role == "identity":
                harness.append(row)
            elif cell.role == "aa":
                aa[index] = Compared(row, comparison, index)
            elif position == 0:
                cells.append(msgspec.structs.replace(row, verdict="reference"))
            else:
                cells.append(Compared(row, comparison, index, samples.take_turns(position, 0)))
    # The series' questions repeat comparisons of the tables: a family of their own.
    rows = iter(_judge(run, [one for one in cells if isinstance(one, Compared)], aa, nulls, margin))
    judged = [next(rows) if isinstance(one, Compared) else one for one in cells]
    noise = [
        msgspec.structs.replace(one.row, smallest_resolvable_ns=number(_floor(run, one, aa, {})))
        for one in aa.values()
    ]
    planned = run.plan.processes * len(run.plan.groups)
    finished = Finished(
        len(run.samples),
        planned if run.plan.target is None else max(planned, len(run.samples)),
        len({samples.sampling.process for samples in run.samples}),
    )
    interference = _interference(run)
    header, size = run.header, run.plan.struct_page_bytes
    return Summary(
        tool=header.tool,
        created=header.created,
        command=header.command,
        finished=finished,
        plan=header.plan,
        machine=header.machine,
        compiler=header.compiler,
        calibration=header.calibration,
        recalibration=run.recalibration,
        variants=header.variants,
        warnings=tuple(judgement.warnings(header.warnings, interference, finished, run, judged)),
        limits=judgement.LIMITS,
        margin_cycles=margin,
        masks_fall_back=bool(size & (size - 1)),
        clock=Clock(header.clock.kind, header.clock.granularity_ns, header.clock.cost_ns, _core_ghz(run)),
        interference=interference,
        timed_share=_timed_share(run),
        control=control,
        cells=tuple(judged),
        harness=tuple(harness),
        noise=tuple(noise),
        null=tuple(one.row for one in nulls.values()),
        series=tuple(row for row in _judge(run, series, aa, nulls, margin) if isinstance(row, SeriesRow)),
        resolution=resolving.resolution(run, judged, [*noise, *(one.row for one in nulls.values())]),
        predictor=None if header.prediction is None else header.prediction.name,
        simulated=run.simulated,
        explanation=None
        if run.simulated is None
        else explain(run.plan, judged, run.simulated, run.median_ghz),
        static=tuple(static.static(header.prediction, judged, harness)),
        **conclusions(judged, noise, [one.row for one in nulls.values()]),
    )


def conclusions(cells: Sequence[Row], noise: Sequence[Row], null: Sequence[Row]) -> dict[str, Any]:
    """The fields of a summary that follow from its rows."""
    return {
        "noise_maxima": tuple(judgement.maxima(noise)),
        "null_maxima": tuple(judgement.maxima(null)),
        "overall": tuple(judgement.overall(cells)),
        "resolved": tuple(judgement.resolved(cells)),
        "inconclusive": judgement.inconclusive(cells),
        "significant": judgement.significant(cells),
        "operations": tuple(judgement.operations(cells)),
    }


def _answers(run: Run, samples: GroupSamples, index: int) -> list[Compared]:
    """The questions that a group's contenders answer."""
    cells = samples.group.cells
    at = {str(cell.contender): i for i, cell in enumerate(cells) if cell.role == "contender"}
    trees = [one.tree for one in run.plan.objects if one.tree]
    answers: list[Compared] = []
    for question in (*QUESTIONS, *of_trees(trees)):
        before, after = (str(Contender.parse(text)) for text in (question.before, question.after))
        if before in at and after in at:
            comparison = samples.compare(at[after], at[before])
            row = samples.row(run, at[after], comparison)
            asked: dict[str, Any] = {
                "question": question.name,
                "before": before,
                "after": after,
                "tree": question.tree,
            }
            turns = samples.take_turns(at[after], at[before])
            answers.append(
                Compared(SeriesRow(**msgspec.structs.asdict(row), **asked), comparison, index, turns)
            )
    return answers


def _floor(run: Run, one: Compared, aa: Mapping[int, Compared], nulls: Mapping[int, Compared]) -> float:
    """What a comparison can resolve: its interval, and what is known to be zero in its probe and noise class.

    An A/A pair's own floor is that of the others.
    """
    groups = run.plan.groups

    def alike(index: int) -> tuple[object, ...]:
        return run.plan.noise_class(groups[index].probe, groups[index].footprint_bytes)

    def of_level(pairs: Mapping[int, Compared]) -> dict[int, float]:
        return {
            index: pair.comparison.ns.estimate
            for index, pair in pairs.items()
            if alike(index) == alike(one.index)
        }

    pairs = of_level(aa)
    own = pairs.pop(one.index)
    if one is aa[one.index]:
        return statistics.smallest_resolvable(one.comparison.ns, list(pairs.values()), own)
    turns = list(of_level(nulls).values()) if one.turns else []
    return judgement.floor(one.comparison.ns, list(pairs.values()), own, turns)


def _judge(
    run: Run,
    family: Sequence[Compared],
    aa: Mapping[int, Compared],
    nulls: Mapping[int, Compared],
    margin: float,
) -> list[Row]:
    """The rows with what can be resolved, p adjusted over the family, verdicts and marks."""
    judged = []
    adjusted = statistics.holm([one.comparison.p for one in family])
    for one, p in zip(family, adjusted, strict=True):
        floor, p_adjusted = _floor(run, one, aa, nulls), number(p)
        # The margin is in cycles; the core clock of the cell makes it ns.
        ns, cycles = one.row.ns.median, one.row.cycles.median
        margin_ns = margin * ns / cycles if ns and cycles else 0.0
        verdict = statistics.verdict(one.comparison.ns, floor, margin_ns)
        judged.append(
            msgspec.structs.replace(
                one.row,
                smallest_resolvable_ns=number(floor),
                p_adjusted=p_adjusted,
                verdict=verdict,
                mark=judgement.mark(verdict, p_adjusted),
            )
        )
    return judged


def _control(samples: GroupSamples, position: int) -> Control:
    """The control against its reference."""
    comparison = samples.compare(position, samples.control_reference)
    off = abs(comparison.cycles.estimate - CONTROL_CYCLES)
    return Control(
        cycles=estimate_of(comparison.cycles),
        ns=estimate_of(comparison.ns),
        expected_cycles=CONTROL_CYCLES,
        tolerance_cycles=CONTROL_TOLERANCE,
        trusted=bool(off <= CONTROL_TOLERANCE),
        order=samples.group.order,
        footprint_bytes=samples.group.footprint_bytes,
        processes=len(samples.lines),
    )


def _core_ghz(run: Run) -> CoreClock:
    medians = run.core_ghz
    return CoreClock(
        number(float(np.median(medians))), number(float(medians.min())), number(float(medians.max()))
    )


def _interference(run: Run) -> Interference:
    """What disturbed the run: dropped samples, switches, steal time."""
    lines = [samples.sampling for samples in run.samples]
    dropped = sum(int((~samples.valid).sum()) for samples in run.samples)
    count = sum(samples.valid.size for samples in run.samples)
    elapsed_s = sum(line.set_up_ns + line.sampling_ns for line in lines) / 1e9
    steal = sum(line.steal_ticks for line in lines) / USER_HZ
    return Interference(
        samples=count,
        samples_dropped=dropped,
        dropped_share=number(dropped / count),
        clock_dropped_share=number(sum(map(_clock_dropped, run.samples)) / count),
        clock_changed_share=number(_clock_changed(run)),
        context_switches=sum(len(line.switches) for line in lines),
        steal_share=number(steal / elapsed_s) if elapsed_s else None,
        immovable_loops=sum(copies == 1 for line in lines for copies in line.copies),
        unsteady_samplings=sum(not line.steady for line in lines),
    )


def _clock_dropped(samples: Samples) -> int:
    """How many samples were dropped that met no context switch."""
    dropped = ~samples.valid
    for cell, round_ in samples.sampling.switches:
        dropped[cell, round_] = False
    return int(dropped.sum())


def _clock_changed(run: Run) -> float:
    """Of the rounds beyond half of L2, those that some comparison leaves out for its cells' core clocks."""
    shares = [
        float(differing_clocks(samples.ghz, samples.ghz[:1]).any(axis=0).mean())
        for samples in run.samples
        if not run.plan.levels.at_core_clock(run.plan.groups[samples.sampling.group].footprint_bytes)
    ]
    return sum(shares) / len(shares) if shares else 0.0


def _timed_share(run: Run) -> dict[names.Level, float | None]:
    """Shares of the samplers' time: inside timed batches, by cache level."""
    shares: dict[names.Level, float | None] = {}
    for level in names.LEVELS:
        lines = [s.sampling for s in run.samples if run.plan.groups[s.sampling.group].level == level]
        sampling_ns = sum(line.sampling_ns for line in lines)
        if lines:
            timed = sum(line.timed_ns for line in lines)
            shares[level] = number(timed / sampling_ns) if sampling_ns else None
    return shares
