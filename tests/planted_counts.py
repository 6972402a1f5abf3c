"""What simulated caches came to that nobody simulated, and times that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import summaries
from summaries import GHZ, Floats

from pagebench.plan.groups import Cell, Group, Plan
from pagebench.report.cache import Behaviour
from pagebench.results.explaining import explain
from pagebench.results.lines import Header
from pagebench.results.simulated import (
    PREDICTORS,
    Cache,
    Chain,
    Counts,
    Geometry,
    Simulated,
    SimulatedCell,
    Tlb,
    Tlbs,
)
from pagebench.results.summary import Cycles, Difference, Estimate, Row, Times
from pagebench.units import KIB, MIB

GEOMETRY = Geometry(
    name="planted",
    source="nowhere",
    caches=(Cache(64, 8), Cache(1024, 8), Cache(8192, 16)),
    tlbs=Tlbs(Tlb(64, 64), None, Tlb(2048, 16), 7.0),
    way_predictor=True,
)
Model = Callable[[Group, Cell], Counts]


def counts_of(
    misses: tuple[float, ...] = (0.0, 0.0, 0.0),
    chain: tuple[float, float] = (8.0, 1.0),
    wrong: float = 0.0,
    **changes: Any,
) -> Counts:
    """Of a chase in L1, but for what is said; ``wrong``: mispredictions."""
    usual: dict[str, Any] = {
        "lookups": 1000,
        "accesses": 1.0,
        "misses": misses,
        "aliases": 0.0,
        "tlb_misses": (0.0, 0.0),
        "walk_misses": (0.0,) * len(misses),
        "other_accesses": 1.0,
        "other_misses": (0.0625,) * len(misses),
        "branches": 1.0,
        "mispredictions": {
            kind: wrong * share for kind, share in zip(PREDICTORS, (1, 1, 0.875), strict=True)
        },
        "lines": 256,
        "all_lines": True,
        "pages": 4,
        "heads_share": 0.25,
        "chain": Chain(*chain),
    }
    return Counts(**(usual | changes))


def simulated_of(plan: Plan, model: Model, **changes: Any) -> Simulated:
    """All contenders of a plan."""
    cells = [
        SimulatedCell(index, number, model(group, cell))
        for index, group in enumerate(plan.groups)
        for number, cell in enumerate(group.cells)
        if group.purpose == "compare" and cell.role == "contender"
    ]
    usual: dict[str, Any] = {"geometry": GEOMETRY, "seed": plan.seed, "cells": tuple(cells), "refused": {}}
    return Simulated(**(usual | changes))


@dataclass(frozen=True)
class Latencies:
    """Cycles that one of each takes in the planted machine; ``forms``: by variant, what its takes more."""

    load: float = 4.0
    l2: float = 10.0
    l3: float = 35.0
    memory: float = 250.0
    tlb: float = 7.0
    walk: float = 21.0
    misprediction: float = 14.0
    forms: Mapping[str, float] | None = None

    def cycles(self, variant: str, counts: Counts, loads: float) -> float:
        """Of a lookup, in whose chain are so many loads."""
        steps = zip((self.l2, self.l3, self.memory), counts.misses, strict=False)
        return (
            counts.chain.cycles
            + loads * self.load
            + (self.forms or {}).get(variant, 0.0)
            + sum(step * misses for step, misses in steps)
            + counts.aliases * self.l2
            + counts.tlb_misses[0] * self.tlb
            + counts.tlb_misses[1] * self.walk
            + counts.mispredictions["bimodal"] * self.misprediction
        )


PLANTED = Latencies(forms={"mask-select": 1.5})


def row_of(group: Group, cell: Cell, cycles: float | None) -> Row:
    """A summary's row, of that time alone."""
    ns = None if cycles is None else cycles / GHZ
    nothing = Estimate(None, None, None)
    return Row(
        contender=str(cell.contender),
        variant=cell.contender.variant,
        layout=cell.contender.layout,
        backing=cell.contender.backing,
        order=group.order,
        footprint_bytes=group.footprint_bytes,
        touched_bytes=group.footprint_bytes,
        pattern=group.pattern,
        probe=group.probe,
        level=group.level,
        level_at_end=group.level,
        form="",
        processes=10,
        counts={},
        rounds_dropped=0.0,
        ns=Times(ns, ns, (ns, ns)),
        cycles=Cycles(cycles),
        ratio=nothing,
        difference=Difference(nothing, nothing),
    )


def rows_of(plan: Plan, took: Callable[[Group, Cell], float | None]) -> list[Row]:
    """A row for every contender."""
    return [
        row_of(group, cell, took(group, cell))
        for group in plan.groups
        for cell in group.cells
        if cell.role == "contender"
    ]


# ---- A world: two forms that load in their chain, one that runs ahead at order 0, one with aliases.

FOOTPRINTS = {16 * KIB: 0.0, 256 * KIB: 0.9, 4 * MIB: 0.99, 96 * MIB: 1.0}
MISSES = {
    16 * KIB: (0.0, 0.0, 0.0),
    256 * KIB: (0.875, 0.0, 0.0),
    4 * MIB: (0.992, 0.861, 0.0),
    96 * MIB: (1.0, 0.996, 0.917),
}
CONTENDERS = ("pointer-select", "mask-select", "pointer-branch", "mask-select@hvo-shared:memfd")


def world(
    orders: Iterable[int] = (0, 2, 9),
    footprints: Iterable[int] = tuple(MISSES),
    probes: tuple[str, ...] = ("chain",),
) -> Plan:
    """Its plan."""
    return summaries.plan_of(
        [
            summaries.group_of(
                [name for name in CONTENDERS if order == 9 or "@" not in name], order, footprint, probe=probe
            )
            for probe in probes
            for order in orders
            for footprint in footprints
        ],
        rounds=3,
    )


def counts(group: Group, cell: Cell) -> Counts:
    """What its caches come to."""
    misses, branch = MISSES[group.footprint_bytes], cell.contender.variant == "pointer-branch"
    tail = 1 - 2.0**-group.order
    far = group.footprint_bytes == 96 * MIB
    aliased = cell.contender.layout != "plain"
    return counts_of(
        misses,
        (7.0 if branch else 8.0, tail if branch else 1.0),
        wrong=min(tail, 1 - tail) if branch else 0.0,
        aliases=0.75 * (1 - misses[0]) if aliased else 0.0,
        tlb_misses=(0.98, 0.75) if far and aliased else (0.0, 0.0),
        lines=group.footprint_bytes // 64,
        pages=group.footprint_bytes // 4096,
    )


def loads(found: Counts) -> float:
    """As the world has it: a branch that is foreseen wrongly waits for its word."""
    return min(1.0, found.chain.loads + found.mispredictions["bimodal"])


def took(latencies: Latencies) -> Callable[[Group, Cell], float]:
    """Cycles of a cell of the world."""

    def cycles(group: Group, cell: Cell) -> float:
        found = counts(group, cell)
        return latencies.cycles(cell.contender.variant, found, loads(found))

    return cycles


def timed(latencies: Latencies) -> summaries.Model:
    """The same for a result file: harness and controls take what they take anywhere."""

    def model(group: Group, cell: Cell, process: int, rounds: int) -> Floats:
        if cell.role != "contender" and cell.role != "aa":
            return summaries.made_up(group, cell, process, rounds)
        jitter = [
            1 + 1e-3 * summaries.jitter(process, round_, str(cell.contender)) for round_ in range(rounds)
        ]
        return took(latencies)(group, cell) / GHZ * np.array(jitter)

    return model


def behaviour(plan: Plan, model: Model = counts, explanation: bool = False, **changes: Any) -> Behaviour:
    """What `cache` reports of it."""
    header = msgspec.convert(summaries.header_of(plan), Header)
    simulated = simulated_of(plan, model, **changes)
    compared = [cell for group in plan.groups for cell in group.cells if cell.role == "contender"]
    explained = None
    if explanation:
        explained = explain(plan, rows_of(plan, took(PLANTED)), simulated, GHZ)
    forms = {name: {p: code.form for p, code in one.probes.items()} for name, one in header.variants.items()}
    return Behaviour(
        tool=header.tool,
        machine=header.machine,
        plan=plan,
        forms={cell.contender.variant: forms[cell.contender.variant] for cell in compared},
        simulated=simulated,
        explanation=explained,
        warnings=("measured on another machine (x), whose caches are simulated",) if explanation else (),
    )
