"""Windows: a long sequence of lookups, of which each batch takes the next part."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from pagebench import core, names
from pagebench.memmap import patterns
from pagebench.memmap.folios import FolioMap
from pagebench.memmap.layouts import frame_map

Ints = npt.NDArray[np.int64]


class Windows:
    """A long sequence of lookups, handed out a window at a time."""

    def __init__(self, folio_map: FolioMap, pfns: Ints, rng: np.random.Generator) -> None:
        self._rng = rng
        self.folio_map = folio_map
        self.pfns = pfns
        self.offsets = folio_map.offsets_of(pfns)
        self._cursor = 0
        self._lines: dict[bool, Ints] = {}

    @cached_property
    def once(self) -> core.Offsets:
        """Where every page that is looked up is, each once, in a drawn order."""
        seen = np.zeros(int(self.folio_map.pfns[-1] + (1 << self.folio_map.orders[-1])), np.bool_)
        seen[self.pfns] = True
        return self._rng.permutation(self.folio_map.offsets_of(np.flatnonzero(seen)))

    def take(self, lengths: Ints) -> Ints:
        """Where the next windows of these lengths start, one after the other.

        They start over where the sequence has no room for the longest.
        """
        starts = self._cursor + np.cumsum(lengths) - lengths
        starts %= len(self.offsets) - int(lengths.max()) + 1
        self._cursor = int(starts[-1] + lengths[-1])
        return starts

    def addresses(self, starts: Ints) -> npt.NDArray[np.uint64]:
        """Where in memory the windows start."""
        base = np.uint64(self.offsets.ctypes.data)
        return base + starts.astype(np.uint64) * np.uint64(self.offsets.itemsize)

    def touched_bytes(self, head_too: bool, layout: str) -> int:
        """Bytes of physical lines under a layout; see patterns.touched_lines."""
        if head_too not in self._lines:
            self._lines[head_too] = patterns.touched_lines(self.folio_map, self.pfns, head_too)
        lines = self._lines[head_too]
        if not names.find_layout(layout).aliased:
            return len(lines) * names.LINE_BYTES
        return frame_map(layout, self.folio_map).touched_bytes(lines, names.LINE_BYTES)
