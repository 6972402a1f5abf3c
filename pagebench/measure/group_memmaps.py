"""The memmaps under groups: where they are, and whose words are in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from pagebench import core, names
from pagebench.core import Closing
from pagebench.host import resources
from pagebench.measure.spare_cpu import SpareCpu
from pagebench.memmap import folios, memmaps, models
from pagebench.memmap.folios import FolioMap
from pagebench.memmap.memmaps import MappedMemmap, Memmap, PlainMemmap
from pagebench.plan import groups, places

Regions = Mapping[places.Place, core.Reservation]


def reserve(plan: groups.Plan, stack: ExitStack) -> Regions:
    """All memory for a plan's memmaps at once, reused by group after group: what is freed may go to the host.

    Raises PagebenchError where there is too little, OSError where it cannot be had.
    """
    sizes = places.region_sizes(plan)
    folios.check_fits(sum(sizes.values()), resources.available_bytes())
    alignment = max(folios.alignment(plan.struct_page_bytes, group.order) for group in plan.groups)
    return {
        place: stack.enter_context(
            core.Reservation(size, max(names.BACKINGS[place.backing].page_bytes, alignment), place.backing)
        )
        for place, size in sorted(sizes.items())
    }


@dataclass(frozen=True, slots=True)
class CellLoop:
    """A cell's loop wherever it may run, and the memmap it runs over.

    ``runs``: addresses of the copies, or of the original alone.
    """

    cell: groups.Cell
    variant: core.Variant
    runs: npt.NDArray[np.uint64]
    base: int


class GroupMemmaps(Closing):
    """The memmaps for groups of one order and footprint; a context manager.

    Where frames are shared, one memmap is re-encoded for each encoding in
    turn; else each encoding, and the A/A copy, has one of its own.  Those in
    reserved memory stand at a drawn place of a drawn region.
    """

    def __init__(
        self,
        group: groups.Group,
        folio_map: FolioMap,
        regions: Regions,
        rng: np.random.Generator,
        memory_model: str | None = None,
        spare: SpareCpu | None = None,
    ) -> None:
        self.folio_map = folio_map
        self.spare = spare or SpareCpu()
        self.shared = group.shared
        self._encoded: dict[int, int] = {}
        # Bases of memmaps whose every page was looked up since they left the caches.
        self.settled: set[int] = set()
        self._stack = ExitStack()
        self._memmaps: dict[places.Place, Memmap] = {}
        # Under which place the region that was drawn for a place was reserved.
        self.regions: dict[places.Place, places.Place] = {}
        needed = places.places_of(group)
        for place in needed:
            if names.BACKINGS[place.backing].by_frame:
                self._memmaps[place] = self._stack.enter_context(MappedMemmap(place.layout, folio_map))
            elif memory_model is not None:
                model = models.find(memory_model)
                modelled = memmaps.place(model, folio_map, backing=place.backing)
                self._memmaps[place] = self._stack.enter_context(modelled)
        reserved = [place for place in needed if place not in self._memmaps]
        for backing in sorted({place.backing for place in reserved}):
            mine = [place for place in reserved if place.backing == backing]
            large = [
                (of, region)
                for of, region in regions.items()
                if of.backing == backing and region.size >= folio_map.bytes
            ]
            for place, index in zip(mine, rng.permutation(len(large)), strict=False):
                self.regions[place], region = large[index]
                slots = (region.size - folio_map.bytes) // folio_map.alignment + 1
                base = region.base + int(rng.integers(slots)) * folio_map.alignment
                self._memmaps[place] = PlainMemmap(base, folio_map)
        self._by_base = {memmap.base: memmap for memmap in self._memmaps.values()}

    def close(self) -> None:
        """Unmap what was mapped for these groups alone."""
        self._stack.close()

    def base(self, cell: groups.Cell) -> int:
        """The address of the memmap that a cell's lookups go through."""
        return self.memmap(cell).base

    def memmap(self, cell: groups.Cell) -> Memmap:
        """The memmap that a cell's lookups go through."""
        return self._memmaps[places.place_of(cell, self.shared)]

    def obtained(self, place: places.Place) -> dict[str, int]:
        """Bytes by backing of a memmap that is these groups' own, once it is written."""
        return resources.backing_obtained(self._memmaps[place].base, self.bytes)

    @property
    def bytes(self) -> int:
        """From a memmap's lowest address to its end."""
        return int(self.folio_map.page_offsets.max()) * core.OFFSET_UNIT + self.folio_map.struct_page_bytes

    def flush(self) -> None:
        """Have every memmap out of the caches: what was verified last, or twice, is as cold as the others."""
        for base in self._by_base:
            self.spare.share(partial(self._flush, base), self.bytes)
        self.settled.clear()

    def _flush(self, base: int, part: slice) -> None:
        core.flush(base + part.start, part.stop - part.start)

    def forget(self) -> None:
        """Have every memmap written whole before it is used again."""
        self._encoded.clear()
        self.settled.clear()

    def encode(self, loops: Iterable[CellLoop]) -> list[CellLoop]:
        """Bring these cells' encodings into their memmaps: whole pages at first.

        Returns a cell for each memmap that was written.
        """
        written = []
        for loop in loops:
            current = self._encoded.get(loop.base)
            if current != loop.cell.tail_words:
                self._by_base[loop.base].write(loop.variant, current is None)
                self._encoded[loop.base] = loop.cell.tail_words
                written.append(loop)
        return written
