"""Runs with known differences between contenders, and their cells summary again."""

from __future__ import annotations

from typing import Any

import numpy as np
import summaries
from summaries import GHZ, Floats

from pagebench.plan.groups import Cell, Group, Plan
from pagebench.units import KIB

INTERVAL = {"estimate", "low", "high"}

NAMES = ("pointer-branch", "mask-select", "branchless", "pointer-select")
PLANTED = {"pointer-branch": 5.0, "mask-select": 5.0, "branchless": 5.5, "pointer-select": 4.5}

HARNESS = {"identity": 1.0, "control-reference": 5.5, "control": 5.5 + 1 / GHZ}


def planted(group: Group, cell: Cell, process: int, rounds: int) -> Floats:
    """Constant differences under a drift that cells share, and a little of each process's own."""
    base = {**PLANTED, **HARNESS}[cell.contender.variant]
    number = [*PLANTED, *HARNESS].index(cell.contender.variant) + 10 * (cell.role == "aa")
    drift = np.linspace(0, 0.2, rounds) * (1 + process % 3)
    # Even over twelve processes, and none of the reference's: differences have the planted median.
    own = ((5 * process + 7 * number) % 12 - 5.5) / 5.5 if number else 0.0
    return base + drift + 0.002 * own


def exactly(group: Group, cell: Cell, process: int, rounds: int) -> Floats:
    base = {**PLANTED, **HARNESS}[cell.contender.variant]
    return np.full(rounds, base)


def plan_with(*groups: Group, **kwargs: Any) -> Plan:
    return summaries.plan_of(
        groups
        or (
            summaries.group_of(NAMES, control=True),
            summaries.group_of(NAMES, order=9),
            summaries.group_of(NAMES, order=2, probe="lookup", footprint=256 * KIB),
        ),
        **kwargs,
    )


def cell_of(summary: dict[str, Any], variant: str, key: str = "cells", **keys: Any) -> dict[str, Any]:
    for cell in summary[key]:
        if cell["variant"] == variant and all(cell[k] == v for k, v in keys.items()):
            return dict(cell)
    raise KeyError(variant)
