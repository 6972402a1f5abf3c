"""Sizes and times as people write them: 16K, 2M, 1G; 40 s, 12 min."""

from __future__ import annotations

import re
from typing import Literal

from pagebench.errors import PagebenchError

# Of a difference; "%" is of what it is a difference to.
Unit = Literal["ns", "%", "cycles"]

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def parse_size(text: str) -> int:
    """Bytes in ``16K``, ``2M``, ``1G`` or a plain number; binary units.

    Raises PagebenchError for anything else.
    """
    match = re.fullmatch(r"(\d+)([KMG]?)(?:iB|B)?", text.strip(), re.IGNORECASE)
    if not match:
        raise PagebenchError(f"{text!r} is not a size: write it as 16K, 2M or 1G")
    return int(match[1]) * {"": 1, "K": KIB, "M": MIB, "G": GIB}[match[2].upper()]


def parse_amount(text: str) -> tuple[float, Unit] | None:
    """A difference as ``0.02ns``, ``0.5%`` or ``0.1cycles``; None of anything else, and of nothing."""
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+) *(ns|%|cycles?)", text.strip())
    if not found or not 0 < float(found[1]) < 1e9:
        return None
    units: dict[str, Unit] = {"n": "ns", "%": "%", "c": "cycles"}
    return float(found[1]), units[found[2][0]]


def format_size(size: int) -> str:
    """The shortest exact form (``16K``), else one decimal (``1.9M``)."""
    for unit, letter in ((GIB, "G"), (MIB, "M"), (KIB, "K")):
        if size >= unit:
            return f"{size // unit}{letter}" if size % unit == 0 else f"{size / unit:.1f}{letter}"
    return str(size)


def duration(seconds: float) -> str:
    """A time as people say it: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
