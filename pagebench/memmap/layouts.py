"""Layouts: which page frames back the memmap.

Each is a row of names.LAYOUTS; here is how its frames are found.  ``hvo`` and ``hvo-shared`` are what the
HugeTLB vmemmap optimization makes of a memmap in v5.17 ... v7.0 and since v7.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pagebench import names
from pagebench.errors import PagebenchError
from pagebench.host import resources
from pagebench.host.files import ROOT
from pagebench.memmap.folios import FolioMap
from pagebench.names import PAGE_SIZE

Ints = npt.NDArray[np.int64]
# The frame of the vmemmap pages behind the kept ones, for each folio of an order: given its last kept page's
# frame and a frame that is free for this order.  By Layout.rest, for what is aliased.
ALIASES: Mapping[str, Callable[[Ints, int], Ints]] = {
    "last-kept": lambda last_kept, free: last_kept,
    "shared": lambda last_kept, free: np.full_like(last_kept, free),
}


@dataclass(frozen=True)
class FrameMap:
    """The frame behind each page of a memmap.

    ``frames`` (uint32, dense from 0) and ``writable`` (bool) have one entry a
    page of the memmap.  ``folios`` are the FolioMap's, with the number of
    struct pages that may be written through the memmap.  ``tails`` holds, for
    each frame of shared tails, (frame, order, head's offset in bytes).
    """

    frames: npt.NDArray[np.uint32]
    writable: npt.NDArray[np.bool_]
    folios: npt.NDArray[np.void]
    tails: tuple[tuple[int, int, int], ...]

    @property
    def mappings(self) -> int:
        """How many mappings it takes: runs of frames that follow each other."""
        joined = (np.diff(self.frames.astype(np.int64)) == 1) & (self.writable[1:] == self.writable[:-1])
        return len(self.frames) - int(np.count_nonzero(joined))

    def touched_bytes(self, line: npt.NDArray[np.int64], line_bytes: int) -> int:
        """Bytes of physical lines behind these lines of the memmap."""
        per_page = PAGE_SIZE // line_bytes
        seen = np.zeros((int(self.frames.max()) + 1) * per_page, np.bool_)
        seen[self.frames[line // per_page].astype(np.int64) * per_page + line % per_page] = True
        return int(np.count_nonzero(seen)) * line_bytes


def frame_map(name: str, folio_map: FolioMap) -> FrameMap:
    """The frames of a layout for these folios.

    Only folios marked ``optimised`` whose memmap is more pages than the layout keeps are optimized; the
    others stay plain, as on a real machine.  Raises PagebenchError for a layout that is not known, or that
    nothing here can map.
    """
    layout = names.find_layout(name)
    if layout.aliased and layout.rest not in ALIASES:
        raise PagebenchError(
            f"the layout {name} maps pages from {layout.rest!r}: known: {', '.join(ALIASES)}"
        )
    size, kept = folio_map.struct_page_bytes, layout.kept_pages
    pages = -(-folio_map.bytes // PAGE_SIZE)
    frames = np.arange(pages, dtype=np.int64)
    writable = np.ones(pages, np.bool_)
    folios = folio_map.folios.copy()
    tails: list[tuple[int, int, int]] = []
    for order in np.unique(folio_map.orders):
        mine = (folio_map.orders == order) & folio_map.optimised
        if not layout.aliased or not layout.exists_at(int(order), size) or not mine.any():
            continue
        first = folio_map.pfns[mine] * size // PAGE_SIZE
        rest = first[:, None] + np.arange(kept, (size << int(order)) // PAGE_SIZE)
        free = pages + len(tails)
        alias = ALIASES[layout.rest](first + kept - 1, free)
        frames[rest] = alias[:, None]
        writable[rest] = False
        folios["pages"][mine] = kept * PAGE_SIZE // size
        if free in alias:
            tails.append((free, int(order), int(first[0]) * PAGE_SIZE))
    used, dense = np.unique(frames, return_inverse=True)
    return FrameMap(
        frames=dense.astype(np.uint32),
        writable=writable,
        folios=folios,
        tails=tuple((int(np.searchsorted(used, frame)), order, head) for frame, order, head in tails),
    )


def check_map_count(mappings: int, root: Path = ROOT) -> None:
    """Refuse, before anything is mapped, more mappings than the kernel allows.

    Raises PagebenchError with both numbers and the sysctl's name.
    """
    left = resources.mappings_left(root)
    if left is not None and mappings > left[0]:
        raise PagebenchError(
            f"the layout needs {mappings} mappings and {left[0]} are free: "
            f"sysctl vm.max_map_count={left[1] + mappings} allows it"
        )
