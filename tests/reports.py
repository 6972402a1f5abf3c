"""Summaries of every kind that reports are rendered of, each made once."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import summaries
from summaries import GHZ, Floats, made_up

from pagebench.plan import building, options
from pagebench.plan.groups import Cell, Group
from pagebench.report import text
from pagebench.results import result_file
from pagebench.units import KIB, MIB

LONG = (
    "pointer-branch",
    "pointer-select",
    "fakehead",
    "mask-select",
    "branchless",
    "branchless@hvo-shared",
    "linux-6.12+key",
    "linux-7.2@hvo-shared:memfd",
)


def default(path: Path) -> dict[str, Any]:
    """What `run` without options ends in."""
    asked = options.Options(rounds=7, seed=1, cpu=1)
    return summaries.summary_of(path, building.build(asked, summaries.LEVELS, 32 * MIB, None), made_up)


def many(path: Path) -> dict[str, Any]:
    """Eight contenders, names that do not fit a column, footprints and orders that are wide."""
    groups = [
        summaries.group_of(
            LONG, order, footprint, pattern, probe, control=(order, footprint) == (0, 16 * KIB)
        )
        for probe, pattern in (("chain", "random"), ("lookup", "mixed:0.25"))
        for order in (0, 9, 22)
        for footprint in (16 * KIB, 1000 * KIB, 128 * MIB)
    ]
    return summaries.summary_of(path, summaries.plan_of(groups, rounds=3), made_up)


def partial(path: Path) -> dict[str, Any]:
    """Interrupted in its first process: no interval, no control."""
    groups = [
        summaries.group_of(LONG[:4], order, 256 * KIB, probe=probe)
        for order in (0, 9)
        for probe in ("lookup", "chain")
    ]
    groups.append(summaries.group_of(LONG[:1], control=True, purpose="control"))
    return summaries.summary_of(path, summaries.plan_of(groups), made_up, samplings=3)


def untrusted(path: Path) -> dict[str, Any]:
    """All that can threaten a result, and a control that does not read one cycle."""

    def off(group: Group, cell: Cell, process: int, rounds: int) -> Floats:
        return made_up(group, cell, process, rounds) + (0.2 / GHZ if cell.role == "control" else 0.0)

    the_plan = summaries.plan_of([summaries.group_of(LONG[:5], control=True)], processes=6, rounds=7)
    changes = {
        "backing": {"2m": {"4k": 3 * MIB, "2m": MIB}},
        "steal_ticks": 1,
        "switches": [[2, 3], [4, 1]],
        "copies": [16, 16, 1, 16, 16, 16, 16, 16, 16],
    }
    lines = [summaries.sampling_of(the_plan, p, 0, off, **changes) for p in range(the_plan.processes)]
    header = summaries.header_of(
        the_plan, warnings=["governor is powersave: cpupower frequency-set -g performance"]
    )
    return summaries.as_json(result_file.read(summaries.write(path, [header, *lines])))


def counted(path: Path) -> dict[str, Any]:
    """A machine with a PMU."""
    the_plan = summaries.plan_of([summaries.group_of(LONG[:3], control=True)], processes=10, rounds=7)
    counts = [
        {
            "cycles": 9.0 + c,
            "instructions": 8.5 + c,
            "branch_misses": 0.003 * c,
            "l1d_misses": 0.0,
            "llc_misses": 12.25,
        }
        for c in range(len(the_plan.groups[0].cells))
    ]
    lines = [summaries.sampling_of(the_plan, p, 0, made_up, counts=counts) for p in range(the_plan.processes)]
    return summaries.as_json(result_file.read(summaries.write(path, [summaries.header_of(the_plan), *lines])))


REPORTS = {"default": default, "many": many, "partial": partial, "untrusted": untrusted, "counted": counted}
# Those of many cells take a second to be judged.
NAMES = [
    pytest.param(name, marks=[pytest.mark.slow] if name in ("default", "many") else []) for name in REPORTS
]


@cache
def _decoded(name: str) -> str:
    with tempfile.TemporaryDirectory() as directory:
        return json.dumps(REPORTS[name](Path(directory) / "r.jsonl"))


def summary_of(name: str) -> dict[str, Any]:
    """A copy of the caller's own."""
    decoded: dict[str, Any] = json.loads(_decoded(name))
    return decoded


@cache
def text_of(name: str) -> str:
    """Its text report."""
    return text.render(summaries.typed(summary_of(name)))
