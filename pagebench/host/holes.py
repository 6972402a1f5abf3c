"""Where there is no memory, by the memory blocks in /sys.

On v6.18 /proc/kpageflags says 0 of a pfn without memory, where older kernels say NOPAGE (kpage_read() in
fs/proc/page.c): read so, a hole is base pages that are nothing in particular.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from pagebench.host.captures import KINDS, RUN_DTYPE, joined
from pagebench.host.files import ROOT, read
from pagebench.names import PAGE_SIZE

BLOCKS = "sys/devices/system/memory"
NOPAGE, OTHER = KINDS.index("nopage"), KINDS.index("other")


def memory_ranges(root: Path = ROOT) -> list[tuple[int, int]] | None:
    """The pfns of memory that is online, as [first, last) that ascend; None where /sys does not say."""
    size = read(root / BLOCKS / "block_size_bytes")
    if size is None or not (pages := _hex(size) // PAGE_SIZE):
        return None
    numbers = sorted(
        int(path.parent.name.removeprefix("memory"))
        for path in (root / BLOCKS).glob("memory[0-9]*/state")
        if read(path) == "online"
    )
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        first = number * pages
        if ranges and ranges[-1][1] == first:
            ranges[-1] = (ranges[-1][0], first + pages)
        else:
            ranges.append((first, first + pages))
    return ranges or None


def _hex(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return 0


def punch(
    runs: npt.NDArray[np.void], first: int, memory: list[tuple[int, int]] | None
) -> npt.NDArray[np.void]:
    """Base pages that are nothing in particular and not in ``memory`` are no pages."""
    if memory is None:
        return runs
    parts: list[tuple[int, int, int]] = []
    pfn = first
    for kind, order, count in runs.tolist():
        end = pfn + (count << order)
        if kind == OTHER and not order:
            for begin, last, present in _split(pfn, end, memory):
                parts.append((OTHER if present else NOPAGE, 0, last - begin))
        else:
            parts.append((kind, order, count))
        pfn = end
    return joined(np.array(parts, RUN_DTYPE))


def _split(first: int, last: int, memory: list[tuple[int, int]]) -> list[tuple[int, int, bool]]:
    parts = []
    for begin, end in memory:
        if first < begin < last:
            parts.append((first, begin, False))
            first = begin
        if first < min(end, last) and begin <= first:
            parts.append((first, min(end, last), True))
            first = min(end, last)
    return [*parts, (first, last, False)] if first < last else parts
