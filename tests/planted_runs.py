"""Two runs of one plan, to be compared: times planted, what differs between them chosen."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import summaries
from summaries import Floats, Model

from pagebench.plan.groups import Cell, Group, Plan
from pagebench.results.measured import Measured
from pagebench.results.result_file import read
from pagebench.units import KIB

CONTENDERS = ("pointer-branch", "mask-select", "branchless")
TIMES = {"pointer-branch": 5.0, "mask-select": 4.0, "branchless": 4.5, "identity": 0.5}
CONTROL = {"control-reference": 6.0, "control": 6.0 + 1 / summaries.GHZ}
JITTER = 0.004


def model_of(seed: int = 1, slower: Mapping[str, float] | None = None, scale: float = 1.0) -> Model:
    """``slower``: by contender's variant, in ns; ``scale``: of every time of the run."""

    def model(group: Group, cell: Cell, process: int, rounds: int) -> Floats:
        name = cell.contender.variant
        of_cell = [seed, process, group.order, len(group.probe), *name.encode(), cell.role == "aa"]
        draw = np.random.default_rng([*of_cell, group.footprint_bytes])
        ns = {**TIMES, **CONTROL}[name] + (slower or {}).get(name, 0.0)
        return np.asarray(scale * (ns + JITTER * draw.normal() + JITTER * draw.normal(size=rounds)))

    return model


def plan_with(**kwargs: Any) -> Plan:
    orders = kwargs.pop("orders", (0, 2, 9))
    contenders = kwargs.pop("contenders", CONTENDERS)
    probes = kwargs.pop("probes", ("chain", "lookup"))
    groups = [
        summaries.group_of(
            contenders, order, 16 * KIB, probe=probe, control=(order, probe) == (orders[0], "chain")
        )
        for probe in probes
        for order in orders
    ]
    return summaries.plan_of(groups, **kwargs)


def header_with(plan: Plan, machine: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """``machine``: fields of it; ``changes``: of the header."""
    header = copy.deepcopy(summaries.header_of(plan, **changes))
    header["machine"].update(machine or {})
    return header


def recoded(header: dict[str, Any], variant: str, code: str = "90c3", **changes: Any) -> dict[str, Any]:
    """A header in which a variant's loops are other machine code."""
    header = copy.deepcopy(header)
    for probe in header["variants"][variant]["probes"].values():
        probe.update(code=code, **changes)
    return header


def run_of(
    path: Path, plan: Plan, model: Model, header: dict[str, Any] | None = None, samplings: int | None = None
) -> Measured:
    return Measured(path.stem, read(summaries.file_of(path, plan, model, header, samplings)))
