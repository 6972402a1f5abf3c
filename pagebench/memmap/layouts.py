"""Layouts: which page frames back the memmap.

``hvo`` and ``hvo-shared`` are what the HugeTLB vmemmap optimization makes of
it in v5.17 ... v7.0 and since v7.1: a folio whose memmap is
two vmemmap pages or more keeps the first, and the rest is mapped read-only
from the same frame again, or from one frame of tails for each order.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pagebench.errors import PagebenchError
from pagebench.host import resources
from pagebench.host.files import ROOT
from pagebench.memmap.folios import FolioMap
from pagebench.names import PAGE_SIZE


def exists_at(layout: str, order: int, struct_page_bytes: int) -> bool:
    """Whether a layout differs from ``plain`` for folios of this order.

    HVO wants two vmemmap pages at least, and struct pages that fill pages.
    """
    power_of_two = struct_page_bytes & (struct_page_bytes - 1) == 0
    return layout == "plain" or (power_of_two and struct_page_bytes << order >= 2 * PAGE_SIZE)


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


def frame_map(layout: str, folio_map: FolioMap) -> FrameMap:
    """The frames of a layout for these folios.

    Only folios marked ``optimised`` whose memmap is two pages or more, and
    starts at one, are treated; the others stay plain, as on a real machine.
    """
    size = folio_map.struct_page_bytes
    pages = -(-folio_map.bytes // PAGE_SIZE)
    frames = np.arange(pages, dtype=np.int64)
    writable = np.ones(pages, np.bool_)
    folios = folio_map.folios.copy()
    tails: list[tuple[int, int, int]] = []
    for order in np.unique(folio_map.orders):
        mine = (folio_map.orders == order) & folio_map.optimised
        if layout == "plain" or not exists_at(layout, int(order), size) or not mine.any():
            continue
        first = folio_map.pfns[mine] * size // PAGE_SIZE
        count = (size << int(order)) // PAGE_SIZE
        rest = first[:, None] + np.arange(1, count)
        writable[rest] = False
        folios["pages"][mine] = PAGE_SIZE // size
        if layout == "hvo":
            frames[rest] = first[:, None]
        else:
            shared = pages + len(tails)
            frames[rest] = shared
            tails.append((shared, int(order), int(first[0]) * PAGE_SIZE))
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
