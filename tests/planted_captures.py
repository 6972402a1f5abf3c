"""Captures of made-up machines."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pagebench.host.captures import KINDS, RUN_DTYPE, Capture

Named = tuple[str, int, int]
HERE = Path(__file__).parent / "captures"


def runs_of(runs: Sequence[Named]) -> npt.NDArray[np.void]:
    """From (kind, order, count)."""
    return np.array([(KINDS.index(kind), order, count) for kind, order, count in runs], RUN_DTYPE)


def named(runs: npt.NDArray[np.void]) -> list[Named]:
    """And back."""
    return [(KINDS[kind], order, count) for kind, order, count in runs.tolist()]


def capture_of(runs: Sequence[Named], first: int = 0, **changes: Any) -> Capture:
    """Of this architecture."""
    return Capture(platform.machine(), first, runs_of(runs), **changes)


def aligned(first: int, wanted: Sequence[tuple[str, int]]) -> list[Named]:
    """Runs of folios of these kinds and orders, or of the largest order that fits there; joined."""
    runs: list[Named] = []
    at = first
    for kind, order in wanted:
        while at % (1 << order):
            order -= 1
        at += 1 << order
        if runs and runs[-1][:2] == (kind, order):
            runs[-1] = (kind, order, runs[-1][2] + 1)
        else:
            runs.append((kind, order, 1))
    return runs
