"""The vocabulary: one word for one thing, in options, result files and reports alike.

Imports nothing heavy: no numpy and no compiled core.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from pagebench.errors import PagebenchError


def nearest(name: str, known: Iterable[str], what: str) -> PagebenchError:
    """The error for an unknown name, with the nearest known one."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
    return PagebenchError(f"unknown {what} {name!r}: {hint}")


def backing_name(obtained: Mapping[str, int]) -> str:
    """``2m``, ``4k``, ``mixed (87 % 2m)``, or ``unknown`` where nothing is resident; bytes by backing."""
    huge, small = obtained["2m"], obtained["4k"]
    if not huge:
        return "4k" if small else "unknown"
    percent = min(max(round(100 * huge / (huge + small)), 1), 99)
    return f"mixed ({percent} % 2m)" if small else "2m"
