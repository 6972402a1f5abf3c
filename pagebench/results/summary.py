"""From a result file to a summary: what every report is made of.

The summary is a dict of plain values, the same each time for a file; ``show
--format json`` prints it.  Times are in ns and core cycles per lookup.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pagebench import names
from pagebench.errors import PagebenchError
from pagebench.plan.groups import Contender, Group
from pagebench.plan.questions import QUESTIONS, of_trees
from pagebench.results import statistics
from pagebench.results.result_file import Block, Run

SCHEMA = 1
# Ticks a second in /proc/stat, whatever the kernel's own HZ.
USER_HZ = 100
# The positive control is one core cycle; farther off than this, no trust.
CONTROL_CYCLES = 1.0
CONTROL_TOLERANCE = 0.05


@dataclass(frozen=True, slots=True)
class Comparison:
    """One cell against another of its group, over processes."""

    ns: statistics.Interval
    cycles: statistics.Interval
    ratio: statistics.Interval
    p: float


class Samples:
    """One group's samples over its processes: arrays (processes, cells, rounds)."""

    def __init__(self, blocks: list[Block], seed: int) -> None:
        self.blocks = blocks
        self.seed = seed
        valid = np.stack([block.valid for block in blocks])
        self.ns = np.where(valid, np.stack([block.ns for block in blocks]), np.nan)
        self.cycles = self.ns * np.stack([block.ghz for block in blocks])

    def _over_processes(self, values: statistics.Floats) -> statistics.Interval:
        return statistics.cluster_interval(values, self.seed)

    def compare(self, cell: int, against: int) -> Comparison:
        """Differences and ratios within the round, trimmed within the process."""
        ns, cycles = self.ns, self.cycles
        difference = statistics.trimmed_mean(ns[:, cell] - ns[:, against])
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = ns[:, cell] / ns[:, against]
        return Comparison(
            self._over_processes(difference),
            self._over_processes(statistics.trimmed_mean(cycles[:, cell] - cycles[:, against])),
            self._over_processes(statistics.trimmed_mean(ratio)),
            statistics.t_test_p(difference),
        )

    def absolute(self, cell: int) -> dict[str, Any]:
        """Median and low quantile over rounds, then the median over processes."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a process without a valid round
            median = self._over_processes(np.nanmedian(self.ns[:, cell], axis=-1))
            low = np.nanmedian(np.nanquantile(self.ns[:, cell], statistics.LOW_QUANTILE, axis=-1))
            cycles = np.nanmedian(np.nanmedian(self.cycles[:, cell], axis=-1))
        return {
            "ns": {
                "median": _number(median.estimate),
                "low_quantile": _number(float(low)),
                "interval": [_number(median.low), _number(median.high)],
            },
            "cycles": {"median": _number(float(cycles))},
        }


def _number(value: float) -> float | None:
    return float(f"{value:.7g}") if math.isfinite(value) else None


def _interval(interval: statistics.Interval) -> dict[str, float | None]:
    return {key: _number(getattr(interval, key)) for key in ("estimate", "low", "high")}


def _obtained(blocks: list[Block], backing: str) -> str:
    """What was mapped where this backing was asked for, over all processes."""
    if backing == "memfd":
        return backing
    total: dict[str, int] = {}
    for block in blocks:
        for name, size in block.line["backing"][backing].items():
            total[name] = total.get(name, 0) + size
    return names.backing_name(total)


def _counts(blocks: list[Block], position: int) -> dict[str, float | None]:
    """Hardware events per lookup: medians over processes; empty without a PMU."""
    found = [block.line["counts"][position] for block in blocks]
    events = dict.fromkeys(event for counts in found for event in counts)
    return {
        event: _number(float(np.median([counts[event] for counts in found if event in counts])))
        for event in events
    }


def _describe(run: Run, group: Group, position: int, blocks: list[Block]) -> dict[str, Any]:
    cell = group.cells[position]
    return {
        "contender": str(cell.contender),
        "variant": cell.contender.variant,
        "layout": cell.contender.layout,
        "backing": _obtained(blocks, cell.contender.backing),
        "order": group.order,
        "footprint_bytes": group.footprint_bytes,
        "touched_bytes": int(
            np.median([block.line["touched_bytes"][cell.contender.layout] for block in blocks])
        ),
        "pattern": group.pattern,
        "probe": group.probe,
        "level": group.level,
        "form": run.header["variants"][cell.contender.variant]["probes"][group.probe]["form"],
        "processes": len(blocks),
        "counts": _counts(blocks, position),
        "rounds_dropped": _number(float(np.mean([~block.valid for block in blocks]))),
    }


def _row(described: dict[str, Any], absolute: dict[str, Any], compared: Comparison) -> dict[str, Any]:
    return {
        **described,
        **absolute,
        "ratio": _interval(compared.ratio),
        "difference": {"ns": _interval(compared.ns), "cycles": _interval(compared.cycles)},
        "p_adjusted": None,
        "verdict": None,
        "smallest_resolvable_ns": None,
    }


def summarise(run: Run, margin_cycles: float | None = None) -> dict[str, Any]:
    """The summary of a run, or of as much of it as is finished.

    ``margin_cycles``: within which an interval is ``equivalent``; the plan's
    by default.  Raises PagebenchError where no group is finished.
    """
    if not run.blocks:
        raise PagebenchError(f"{run.path} holds no finished group yet: go on with `run --resume {run.path}`")
    margin = run.plan.margin_cycles if margin_cycles is None else margin_cycles
    seed = run.plan.seed
    by_group: dict[int, list[Block]] = {}
    for block in run.blocks:
        by_group.setdefault(block.group, []).append(block)

    cells, harness, noise, series = [], [], [], []
    differences: list[tuple[dict[str, Any], Comparison, int]] = []
    aa: dict[int, Comparison] = {}
    control: dict[str, Any] | None = None
    for index, blocks in sorted(by_group.items()):
        group = run.plan.groups[index]
        samples = Samples(blocks, seed)
        for question in (*QUESTIONS, *of_trees([one.tree for one in run.plan.objects if one.tree])):
            before, after = (str(Contender.parse(text)) for text in (question.before, question.after))
            at = {str(c.contender): i for i, c in enumerate(group.cells) if c.role == "contender"}
            if before in at and after in at:
                compared = samples.compare(at[after], at[before])
                described = _describe(run, group, at[after], blocks)
                row = _row(described, samples.absolute(at[after]), compared)
                said = {"question": question.name, "before": before, "after": after, "tree": question.tree}
                series.append({**row, **said})
                differences.append((series[-1], compared, index))
        for position, cell in enumerate(group.cells):
            if cell.role == "control-reference" or (group.purpose == "control" and cell.role != "control"):
                continue
            compared = samples.compare(position, 0)
            row = _row(_describe(run, group, position, blocks), samples.absolute(position), compared)
            if cell.role == "identity":
                harness.append(row)
            elif cell.role == "aa":
                noise.append(row)
                aa[index] = compared
                differences.append((row, compared, index))
            elif cell.role == "control":
                twin = dataclasses.replace(cell.contender, variant=names.CONTROL_REFERENCE)
                partner = next(i for i, c in enumerate(group.cells) if c.contender == twin)
                control = _control(samples.compare(position, partner), group, len(blocks))
            elif position == 0:
                cells.append({**row, "verdict": "reference"})
            else:
                cells.append(row)
                differences.append((row, compared, index))
    _judge(run, differences, aa, margin)
    return {
        "schema": SCHEMA,
        "tool": run.header["tool"],
        "created": run.header["created"],
        "command": run.header["command"],
        "finished": {
            "blocks": len(run.blocks),
            "planned": run.plan.processes * len(run.plan.groups),
            "processes": len({block.process for block in run.blocks}),
        },
        "plan": run.header["plan"],
        "machine": run.header["machine"],
        "compiler": run.header["compiler"],
        "calibration": run.header["calibration"],
        "variants": run.header["variants"],
        "warnings": run.header["warnings"],
        "margin_cycles": margin,
        "clock": {**run.header["clock"], "core_ghz": _core_ghz(run)},
        "interference": _interference(run),
        "sampling": _sampling(run),
        "control": control,
        "cells": cells,
        "harness": harness,
        "noise": noise,
        "series": series,
    }


def _judge(
    run: Run,
    differences: list[tuple[dict[str, Any], Comparison, int]],
    aa: Mapping[int, Comparison],
    margin: float,
) -> None:
    """Fill in what can be resolved, adjusted p-values and verdicts."""
    groups = run.plan.groups

    def level(index: int) -> tuple[str, str]:
        return groups[index].probe, groups[index].level

    for row, compared, index in differences:
        others = [aa[i].ns.estimate for i in aa if i != index and level(i) == level(index)]
        own = aa[index].ns.estimate
        resolvable = statistics.smallest_resolvable(compared.ns, others, own)
        if compared is not aa[index] and math.isfinite(own):
            # Nor does a cell get a verdict that its own group's A/A pair would get.
            resolvable = max(resolvable, abs(own))
        row["smallest_resolvable_ns"] = _number(resolvable)
    # The series' questions repeat comparisons of the tables: a family of its own.
    for series in (False, True):
        judged = [
            (row, compared)
            for row, compared, index in differences
            if compared is not aa[index] and ("question" in row) == series
        ]
        adjusted = statistics.holm([compared.p for _, compared in judged])
        for (row, compared), p in zip(judged, adjusted, strict=True):
            row["p_adjusted"] = _number(p)
            # The margin is in cycles; the core clock of the cell makes it ns.
            ns, cycles = row["ns"]["median"], row["cycles"]["median"]
            margin_ns = margin * ns / cycles if ns and cycles else 0.0
            resolvable = row["smallest_resolvable_ns"]
            floor = math.inf if resolvable is None else resolvable
            row["verdict"] = statistics.verdict(compared.ns, floor, margin_ns)


def _control(compared: Comparison, group: Group, processes: int) -> dict[str, Any]:
    off = abs(compared.cycles.estimate - CONTROL_CYCLES)
    return {
        "cycles": _interval(compared.cycles),
        "ns": _interval(compared.ns),
        "expected_cycles": CONTROL_CYCLES,
        "tolerance_cycles": CONTROL_TOLERANCE,
        "trusted": bool(off <= CONTROL_TOLERANCE),
        "order": group.order,
        "footprint_bytes": group.footprint_bytes,
        "processes": processes,
    }


def _core_ghz(run: Run) -> dict[str, float | None]:
    per_block = np.array([np.median(block.ghz) for block in run.blocks])
    return {
        "median": _number(float(np.median(per_block))),
        "low": _number(float(per_block.min())),
        "high": _number(float(per_block.max())),
    }


def _interference(run: Run) -> dict[str, Any]:
    """What disturbed the run: dropped samples, switches, stolen time."""
    invalid = sum(int((~block.valid).sum()) for block in run.blocks)
    samples = sum(block.valid.size for block in run.blocks)
    switched = sum(len(block.line["switches"]) for block in run.blocks)
    sampling_s = sum(block.line["sampling_ns"] for block in run.blocks) / 1e9
    steal = sum(block.line["steal_ticks"] for block in run.blocks) / USER_HZ
    return {
        "samples": samples,
        "samples_dropped": invalid,
        "context_switches": switched,
        "steal_share": _number(steal / sampling_s) if sampling_s else None,
        "immovable_loops": sum(1 for block in run.blocks for copies in block.line["copies"] if copies == 1),
    }


def _sampling(run: Run) -> dict[str, float | None]:
    """Shares of the samplers' time: inside timed batches, by cache level."""
    shares = {}
    for level in ("l1", "l2", "l3", "dram"):
        blocks = [b for b in run.blocks if run.plan.groups[b.group].level == level]
        if blocks:
            timed = sum(block.line["timed_ns"] for block in blocks)
            shares[level] = _number(timed / sum(block.line["sampling_ns"] for block in blocks))
    return shares
