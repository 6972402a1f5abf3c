"""The memmaps under groups: where they are, whose words are in them, verified."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pagebench import core, names, plan
from pagebench.core import Closing
from pagebench.errors import PagebenchError
from pagebench.host import resources
from pagebench.memmap import memmaps, models
from pagebench.memmap.folios import FolioMap
from pagebench.memmap.memmaps import MappedMemmap, Memmap, PlainMemmap
from pagebench.probes import PROBES

Ints = npt.NDArray[np.int64]
Regions = Mapping[plan.Place, core.Reservation]


@dataclass(frozen=True, slots=True)
class Placed:
    """A cell's loop wherever it may run, and the memmap it runs over.

    ``runs``: addresses of the copies, or of the original alone.
    """

    cell: plan.Cell
    variant: core.Variant
    runs: npt.NDArray[np.uint64]
    base: int


class Frames(Closing):
    """The memmaps for groups of one order and footprint; a context manager.

    Where frames are shared, one memmap is re-encoded for each encoding in
    turn; else each encoding, and the A/A copy, has one of its own.  Those in
    reserved memory stand at a drawn place of a drawn region.
    """

    def __init__(
        self,
        group: plan.Group,
        folio_map: FolioMap,
        regions: Regions,
        rng: np.random.Generator,
        memory_model: str | None = None,
    ) -> None:
        self.folio_map = folio_map
        self.shared = group.shared
        self._encoded: dict[int, int] = {}
        self._stack = ExitStack()
        self._memmaps: dict[plan.Place, Memmap] = {}
        places = plan.places_of(group)
        for layout, backing, role in places:
            if backing == "memfd":
                mapped = self._stack.enter_context(MappedMemmap(layout, folio_map))
                self._memmaps[layout, backing, role] = mapped
            elif memory_model is not None:
                model = models.find(memory_model)
                placed = self._stack.enter_context(memmaps.place(model, folio_map, backing=backing))
                self._memmaps[layout, backing, role] = placed
        reserved = [place for place in places if place not in self._memmaps]
        for backing in sorted({backing for _, backing, _ in reserved}):
            mine = [place for place in reserved if place[1] == backing]
            large = [r for (_, b, _), r in regions.items() if b == backing and r.size >= folio_map.bytes]
            for place, index in zip(mine, rng.permutation(len(large)), strict=False):
                slots = (large[index].size - folio_map.bytes) // folio_map.alignment + 1
                base = large[index].base + int(rng.integers(slots)) * folio_map.alignment
                self._memmaps[place] = PlainMemmap(base, folio_map)
        self._by_base = {memmap.base: memmap for memmap in self._memmaps.values()}

    def close(self) -> None:
        """Unmap what was mapped for these groups alone."""
        self._stack.close()

    def base(self, cell: plan.Cell) -> int:
        """The address of the memmap that a cell's lookups go through."""
        return self._memmaps[plan.place_of(cell, self.shared)].base

    def obtained(self, place: plan.Place) -> dict[str, int]:
        """Bytes by backing of a memmap that is these groups' own, once it is written."""
        size = int(self.folio_map.page_offsets.max()) * core.OFFSET_UNIT + self.folio_map.struct_page_bytes
        return resources.backing_obtained(self._memmaps[place].base, size)

    def forget(self) -> None:
        """Have every memmap written whole before it is used again."""
        self._encoded.clear()

    def encode(self, placed: Iterable[Placed]) -> list[Placed]:
        """Bring these cells' encodings into their memmaps: whole pages at first.

        Returns a cell for each memmap that was written.
        """
        written = []
        for p in placed:
            current = self._encoded.get(p.base)
            if current != p.cell.encoding:
                self._by_base[p.base].write(p.variant, current is None)
                self._encoded[p.base] = p.cell.encoding
                written.append(p)
        return written

    def verify(
        self, group: plan.Group, segments: Sequence[Sequence[Placed]], rng: np.random.Generator
    ) -> None:
        """Look every pfn up through a copy of each cell's loop, and hold it to the model.

        Raises PagebenchError that names pfn, got and expected.  lookup comes
        first: the probes that go on to write to a head must not have a wrong one.
        """
        probe = PROBES[group.probe]
        every = self.folio_map.page_pfns
        for placed in segments:
            self.encode(placed)
            for p in placed:
                run = int(rng.choice(p.runs))
                lookup = p.variant.probes["lookup"].run
                if probe.writes_tails:
                    self._scrub(p)
                    self._verify(p, group, run, "prep", self.folio_map.pfns)
                    self._verify(p, group, lookup, "lookup", every)
                    continue
                if group.probe not in ("lookup", "chain"):
                    self._verify(p, group, lookup, "lookup", every)
                before = self._counts(p) if probe.counts else None
                self._verify(p, group, run, group.probe, every)
                if before is not None:
                    self._check_counts(p, group, before, self._counts(p))

    def _verify(self, p: Placed, group: plan.Group, run: int, probe: str, pfns: Ints) -> None:
        every = pfns is self.folio_map.page_pfns
        offsets = self.folio_map.page_offsets if every else self.folio_map.offsets_of(pfns)
        found = core.verify(run, p.base, offsets, self._expected(p, probe, pfns))
        if found.wrong:
            raise wrong_head(str(p.cell.contender), group.title, self.folio_map, pfns, found)

    def _expected(self, p: Placed, probe: str, pfns: Ints) -> core.Offsets:
        """Offsets of what lookups of these pfns have to return."""
        identity = p.variant.name == names.IDENTITY
        if pfns is self.folio_map.page_pfns:  # every page, again and again: kept
            own, heads = self.folio_map.page_offsets, self.folio_map.head_offsets
        else:
            own = self.folio_map.offsets_of(pfns)
            heads = own if identity else self.folio_map.offsets_of(self.folio_map.heads_of(pfns))
        if PROBES[probe].try_get:
            is_head = self.folio_map.heads_of(pfns) == pfns
            return np.where(is_head, own, core.NO_PAGE)
        return own if identity else heads

    def expected(self, p: Placed, probe: str, pfns: Ints) -> npt.NDArray[np.uint64]:
        """The addresses that lookups of these pfns have to return; 0 for NULL."""
        offsets = self._expected(p, probe, pfns)
        addresses = p.base + offsets.astype(np.uint64) * np.uint64(core.OFFSET_UNIT)
        return np.where(offsets == core.NO_PAGE, np.uint64(0), addresses)

    def _ints(self, p: Placed) -> tuple[npt.NDArray[np.int32], Ints]:
        """The memmap as ints, and where in them the struct pages of ``page_pfns`` begin."""
        begin = self.folio_map.page_offsets.astype(np.int64) * (core.OFFSET_UNIT // 4)
        size = (int(begin.max()) * 4 + self.folio_map.struct_page_bytes) // 4
        return core.view(p.base, size * 4).view(np.int32), begin

    def _counts(self, p: Placed) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        ints, begin = self._ints(p)
        return ints[begin + p.variant.refcount_at // 4], ints[begin + p.variant.mapcount_at // 4]

    def _check_counts(
        self,
        p: Placed,
        group: plan.Group,
        before: tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]],
        after: tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]],
    ) -> None:
        """Every page's _refcount and _mapcount, after one lookup of each pfn."""
        probe = PROBES[group.probe]
        # Where lookups arrive.  Aliases are read-only and nobody arrives there.
        if p.variant.name == names.IDENTITY and not probe.try_get:
            at, hits = np.arange(len(self.folio_map.page_pfns)), np.ones(len(before[0]), np.int64)
        else:
            at = np.flatnonzero(self.folio_map.page_heads == self.folio_map.page_pfns)
            hits = 1 << self.folio_map.orders if not probe.try_get else np.ones(len(at), np.int64)
        for name, now, then, each in (
            ("_refcount", after[0], before[0], probe.refs),
            ("_mapcount", after[1], before[1], probe.maps),
        ):
            wrong = np.flatnonzero((now - then)[at] != each * hits)
            if len(wrong):
                index = int(at[wrong[0]])
                raise PagebenchError(
                    f"{p.cell.contender} leaves a wrong {name} ({group.title}): "
                    f"pfn {self.folio_map.page_pfns[index]} changed by {(now - then)[index]}, "
                    f"expected {each * hits[wrong[0]]}; it was not timed"
                )

    def _scrub(self, p: Placed) -> None:
        """Make every tail look like a head, so that only prep can mend it."""
        ints, begin = self._ints(p)
        tails = begin[self.folio_map.page_pfns != self.folio_map.page_heads] + core.OFFSET_UNIT // 4
        ints[tails] = ints[tails + 1] = 0


def wrong_head(
    contender: str, title: str, folio_map: FolioMap, pfns: Ints, found: core.Verification
) -> PagebenchError:
    """The error for a contender whose lookups of ``pfns`` are wrong."""
    pfn = int(pfns[found.first])
    head = int(folio_map.heads_of(pfns[found.first]))
    at = np.flatnonzero(folio_map.page_offsets.astype(np.int64) * core.OFFSET_UNIT == found.got)
    arrived = f"pfn {folio_map.page_pfns[at[0]]}" if len(at) else f"{found.got:+d} bytes from the memmap"
    return PagebenchError(
        f"{contender} finds wrong heads ({title}): {found.wrong} of {len(pfns)} pfns, "
        f"the first pfn {pfn}: got {arrived}, "
        f"expected pfn {head}; it was not timed"
    )
