from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np

K, M = 1 << 10, 1 << 20
CONTENDERS = (
    "pointer-branch@plain",
    "pointer-select@plain",
    "mask-select@plain",
    "mask-branch@plain",
    "branchless@hvo-shared",
    "branchless@plain",
    "linux-6.12+key@plain",
    "linux-7.2@hvo-shared:4k",
)
# ns on top of the reference, by contender, in L1
EXTRA = (0.0, 0.62, 0.62, 0.004, 3.9, 1.24, -0.35, 4.1)
LEVELS = {16 * K: ("l1", 2.6), 256 * K: ("l2", 5.1), 2 * M: ("l3", 18.0), 128 * M: ("dram", 104.0)}
GHZ = 3.24


def cell_of(contender: str, order: int, footprint: int, pattern: str, probe: str) -> dict[str, Any]:
    return {
        "contender": contender,
        "variant": contender.split("@")[0],
        "layout": contender.split("@")[1],
        "backing": "2m",
        "order": order,
        "footprint_bytes": footprint,
        "touched_bytes": footprint,
        "pattern": pattern,
        "probe": probe,
        "form": "select",
    }


def summary_of(
    contenders: int = 5,
    orders: tuple[int, ...] = (0, 2, 4, 9),
    footprints: tuple[int, ...] = tuple(LEVELS),
    patterns: tuple[str, ...] = ("random",),
    probes: tuple[str, ...] = ("chain",),
    spread: float = 0.002,
) -> dict[str, Any]:
    """A run as ``show --format json`` prints it; differences drown in noise as footprints grow."""
    rng = np.random.default_rng(1)
    summary: dict[str, Any] = {
        "tool": {"name": "pagebench", "version": "0.1.0", "commit": "b4ddb92+"},
        "machine": {
            "cpu_model": "AMD EPYC 7B13 64-Core Processor",
            "hypervisor": "KVM",
            "kernel_release": "6.18.44-0-generic",
            "caches": {"l1d_bytes": 32 * K, "l2_bytes": 512 * K, "l3_bytes": 32 * M},
        },
        "calibration": {"l3_measured_bytes": 6 * M},
        "plan": {"reference": CONTENDERS[0]},
        "cells": [],
        "harness": [],
        "noise": [],
        "control": {},
    }
    for probe in probes:
        for pattern in patterns:
            for order in orders:
                for footprint in footprints:
                    nearest = min(LEVELS, key=lambda size: abs(math.log(size / footprint)))
                    level, base = LEVELS[nearest]
                    noise = base**1.5 * spread
                    for i, name in enumerate((*CONTENDERS[:contenders], "identity@plain")):
                        is_harness = name.startswith("identity")
                        extra = -0.75 * base if is_harness else EXTRA[i]
                        estimate = 0.0 if i == 0 else extra + float(rng.normal(0, noise / 2))
                        half = 0.0 if i == 0 else noise * float(rng.uniform(0.8, 1.2))
                        floor = noise * float(rng.uniform(1.0, 1.3))
                        median = base + (extra if i == 0 else estimate)
                        resolved = abs(estimate) > max(half, floor)
                        verdict = ("slower" if estimate > 0 else "faster") if resolved else "inconclusive"
                        ends = {"estimate": estimate, "low": estimate - half, "high": estimate + half}
                        cell = cell_of(name, order, footprint, pattern, probe) | {
                            "level": level,
                            "ns": {
                                "median": median,
                                "low_quantile": median - noise,
                                "interval": [median - 4 * noise, median + 5 * noise],
                            },
                            "cycles": {"median": median * GHZ * float(rng.uniform(0.998, 1.002))},
                            "ratio": {"estimate": 1.0, "low": 1.0, "high": 1.0},
                            "difference": {"ns": ends, "cycles": {k: v * GHZ for k, v in ends.items()}},
                            "p_adjusted": None,
                            "verdict": None if is_harness else "reference" if i == 0 else verdict,
                            "smallest_resolvable_ns": floor,
                        }
                        summary["harness" if is_harness else "cells"].append(cell)
    summary["noise"] = copy.deepcopy(summary["cells"][:1])
    return summary
