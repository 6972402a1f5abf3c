"""Runs that nobody measured: times are planted, the files are real.

A model says what each round of each cell takes; the rest is as a worker would
have written it.  Without a random generator, so that reports of it are the
same on every machine.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from pagebench.host.machine import Machine
from pagebench.plan.groups import Cell, Contender, Group, Levels, Plan
from pagebench.results import lines, result_file, summarise, summary
from pagebench.units import KIB, MIB

Floats = npt.NDArray[np.float64]
# ns of a cell's rounds in one process: (group, cell, process, rounds) -> (rounds,)
Model = Callable[[Group, Cell, int, int], Floats]

LEVELS = Levels(32 * KIB, 512 * KIB, 8 * MIB)
GHZ = 3.2
TICKS_PER_NS = 2.5
LOOKUPS = 100_000
ADD_CHAIN_CYCLES = 24_000
MASKS = ("mask", "branchless", "control", "linux-7")

MACHINE = {
    "cpu_model": "AMD EPYC 7B13 64-Core Processor",
    "vendor": "AuthenticAMD",
    "family": "25",
    "model": "1",
    "stepping": "0",
    "architecture": "x86_64",
    "online_cpus": "0-1",
    "cpu": 1,
    "thread_siblings": "1",
    "smt_active": False,
    "caches": {"l1d_bytes": 32 * KIB, "l2_bytes": 512 * KIB, "l3_bytes": 32 * MIB, "line_bytes": 64},
    "kernel_release": "6.18.44",
    "kernel_version": "#1 SMP PREEMPT_DYNAMIC",
    "hypervisor": "KVM",
    "base_page_bytes": 4096,
    "thp_enabled": "madvise",
    "thp_defrag": "madvise",
    "memory_bytes": 8 << 30,
    "clocksource": "tsc",
    "constant_tsc": True,
    "nonstop_tsc": True,
    "governor": None,
    "turbo": None,
    "mitigations": {"spectre_v2": "Mitigation: Retpolines"},
    "load_1min": 0.1,
    "pmu": "none",
}


def contender_of(text: str) -> Contender:
    """As Contender.parse, but for layouts and backings that may not exist yet."""
    variant, _, place = text.partition("@")
    layout, _, backing = place.partition(":")
    layout = layout or "plain"
    return Contender(variant, layout, backing or ("2m" if layout == "plain" else "memfd"))


def group_of(
    contenders: Sequence[str],
    order: int = 2,
    footprint: int = 16 * KIB,
    pattern: str = "random",
    probe: str = "chain",
    control: bool = False,
    purpose: str = "compare",
) -> Group:
    """A group as a plan has it, of any contenders; the first is the reference."""

    def cell(contender: Contender, role: str) -> Cell:
        return Cell(contender, role, int(order > 0 and contender.variant.startswith(MASKS)))

    named = [contender_of(text) for text in contenders]
    cells = [cell(contender, "contender") for contender in named]
    cells.append(cell(named[0], "aa"))
    cells.append(Cell(Contender("identity"), "identity", cells[0].tail_words))
    if control:
        cells.append(cell(Contender("control-reference"), "control-reference"))
        cells.append(cell(Contender("control"), "control"))
    level = LEVELS.of(footprint)
    return Group(order, footprint, pattern, probe, level, level != "dram", tuple(cells), purpose)


def plan_of(
    groups: Iterable[Group], processes: int = 12, rounds: int = 9, seed: int = 1, margin_cycles: float = 0.25
) -> Plan:
    groups = tuple(groups)
    reference = str(groups[0].cells[0].contender)
    return Plan(groups, reference, 64, processes, rounds, seed, 1, LEVELS, margin_cycles)


def header_of(plan: Plan, **changes: Any) -> dict[str, Any]:
    """What a session writes first; ``changes`` replace keys of it."""
    forms = {"fakehead": "branch", "branchless": "arith", "control": "arith", "identity": "none"}
    harness = ("identity", "control-reference", "control")

    def code(name: str) -> dict[str, Any]:
        form = next(
            (word for word in ("branch", "select") if name.endswith(f"-{word}")), forms.get(name, "select")
        )
        probes = dict.fromkeys(group.probe for group in plan.groups)
        return {
            "commit": "" if name in harness else "8c846c879e22",
            "subject": "mm: rework compound_head() for power-of-2 sizeof(struct page)",
            "version": "" if name in harness else "v7.1",
            "source": "clang 19.1.0" if name == "linux-7.2" else "",
            "struct_page_bytes": 64,
            "cflags": "",
            "probes": {
                probe: {
                    "form": form,
                    "variant_instructions": 4 + len(name) % 5,
                    "variant_bytes": 14 + len(name) % 9,
                    "immovable": "",
                    "code": "c3",
                }
                for probe in probes
            },
        }

    return {
        "kind": lines.KIND,
        "schema": lines.SCHEMA,
        "tool": {"name": "pagebench", "version": "0.1.0", "commit": "0123456789ab"},
        "created": "2026-01-02T03:04:05+00:00",
        "command": f"python -m pagebench run --seed {plan.seed}",
        "plan": msgspec.to_builtins(plan),
        "machine": MACHINE,
        "warnings": ["no PMU: cycles come from the add chain, and cache misses are simulated"],
        "compiler": {"name": "gcc 12.2.0", "cflags": "-O2 -std=gnu11 -fno-strict-aliasing"},
        "calibration": {
            "l3_measured_bytes": LEVELS.l3_bytes,
            "latency_ns": [[MIB, 9.0], [2 * MIB, 12.5]],
            "l3_half_life_ms": 29.4,
        },
        "clock": {"kind": "counter", "granularity_ns": 10.0, "cost_ns": 8.2},
        "variants": {name: code(name) for name in plan.variant_names},
        "prediction": None,
        **changes,
    }


def sampling_of(
    plan: Plan, process: int, index: int, model: Model, ghz: float = GHZ, **changes: Any
) -> dict[str, Any]:
    """A finished sampling's line; ``changes`` replace keys of it."""
    group = plan.groups[index]
    encodings = sorted({cell.tail_words for cell in group.cells}) if group.shared else [0]
    ns = np.array([model(group, cell, process, plan.rounds) for cell in group.cells])
    chain_ticks = np.full((2, len(encodings), plan.rounds), round(ADD_CHAIN_CYCLES / ghz * TICKS_PER_NS))
    backings = {cell.contender.backing for cell in group.cells}
    return {
        "kind": "sampling",
        "process": process,
        "group": index,
        "ticks_per_ns": TICKS_PER_NS,
        "touched_bytes": {cell.contender.layout: group.footprint_bytes for cell in group.cells},
        "backing": {b: {"4k": 0, "2m": 0, b: 4 * MIB} if b != "memfd" else {} for b in sorted(backings)},
        "lookups": [LOOKUPS] * plan.rounds,
        "warm_up": LOOKUPS // 4,
        "burn_in_rounds": 0,
        "steady": True,
        "ticks": np.round(np.maximum(ns, 0) * LOOKUPS * TICKS_PER_NS).astype(int).tolist(),
        "add_chain_cycles": ADD_CHAIN_CYCLES,
        "add_chain_ticks": chain_ticks.tolist(),
        "segment": [encodings.index(cell.tail_words) if group.shared else 0 for cell in group.cells],
        "switches": [],
        "copies": [16] * len(group.cells),
        "placements": [[(7 * i) % 64 for i in range(plan.rounds)] for _ in group.cells],
        "sampling_ns": 2_000_000,
        "timed_ns": 1_500_000,
        "encoding_ns": 50_000,
        "counts": [{} for _ in group.cells],
        "steal_ticks": 0,
        "set_up_ns": 8_000_000,
        **changes,
    }


def write(path: Path, lines: Iterable[dict[str, Any]]) -> Path:
    path.write_bytes(b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines))
    return path


def append(path: Path, line: Any) -> None:
    """A line behind a result file's others."""
    with path.open("ab") as file:
        file.write(msgspec.json.encode(line) + b"\n")


def file_of(
    path: Path, plan: Plan, model: Model, header: dict[str, Any] | None = None, samplings: int | None = None
) -> Path:
    """The result file of a run under a model, or of its first ``samplings``."""
    every = [(process, index) for process in range(plan.processes) for index in range(len(plan.groups))]
    lines = [sampling_of(plan, process, index, model) for process, index in every[:samplings]]
    return write(path, [header or header_of(plan), *lines])


def as_json(run: result_file.Run, margin_cycles: float | None = None) -> dict[str, Any]:
    """A run's summary as ``show --format json`` prints it."""
    printed = summary.to_json(summarise.summarise(run, margin_cycles))
    decoded: dict[str, Any] = json.loads(printed)
    return decoded


def typed(decoded: dict[str, Any]) -> summary.Summary:
    """The inverse of as_json(): what renderers take."""
    return msgspec.convert(decoded, summary.Summary)


def summary_of(path: Path, plan: Plan, model: Model, **kwargs: Any) -> dict[str, Any]:
    return as_json(result_file.read(file_of(path, plan, model, **kwargs)))


def jitter(*key: object) -> float:
    """Between -1 and 1, by the key alone: the same on every machine."""
    return zlib.crc32(repr(key).encode()) / 2**31 - 1


# What reports of a made-up machine show, in ns: the level's latency, and what a variant adds to it.
LATENCY = {"l1": 2.6, "l2": 5.1, "l3": 18.0, "dram": 104.0}
NOISE = {"l1": 0.002, "l2": 0.004, "l3": 0.04, "dram": 0.6}
ADDED = {
    "pointer-branch": 0.0,
    "pointer-select": 0.62,
    "fakehead": 0.31,
    "mask-select": 0.005,
    "encoding-null": 0.005,
    "branchless": 0.62,
    "control-reference": 0.62,
    "control": 0.62 + 1 / GHZ,
    "linux-6.12+key": -0.35,
    "linux-7.2": 0.03,
}


def made_up(group: Group, cell: Cell, process: int, rounds: int) -> Floats:
    """A plausible machine: processes differ, rounds differ less, levels cost what they cost."""
    key = (group.order, group.footprint_bytes, group.pattern, group.probe, str(cell.contender), cell.role)
    noise = NOISE[group.level]
    if group.purpose == "control" or cell.role.startswith("control"):
        noise = 0.0005
    if cell.role == "identity":
        own = 0.5
    else:
        own = LATENCY[group.level] * (0.4 if group.probe == "lookup" else 1.0) + ADDED[cell.contender.variant]
    if cell.contender.layout == "hvo-shared":
        own += 0.4
    own += noise * jitter(process, *key)
    return np.array([own + 0.3 * noise * jitter(process, round_, *key) for round_ in range(rounds)])


def typed_machine() -> Machine:
    """MACHINE as a result file has it."""
    return msgspec.convert(MACHINE, Machine)
