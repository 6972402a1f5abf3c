"""The memmaps under groups: where they are, whose words are in them, verified."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pagebench import core, plan, variants
from pagebench.errors import PagebenchError
from pagebench.memmap import FolioMap

Regions = Mapping[tuple[str, str], core.Reservation]


@dataclass(frozen=True, slots=True)
class Placed:
    """A cell's loop wherever it may run, and the memmap it runs over.

    ``runs``: addresses of the copies, or of the original alone.
    """

    cell: plan.Cell
    variant: core.Variant
    runs: npt.NDArray[np.uint64]
    base: int


class Frames:
    """The memmaps for groups of one order and footprint, in drawn places.

    Where frames are shared, one memmap is re-encoded for each encoding in
    turn; else each encoding, and the A/A copy, has a memmap of its own in a
    region drawn for it.
    """

    def __init__(
        self, group: plan.Group, struct_page_bytes: int, regions: Regions, rng: np.random.Generator
    ) -> None:
        self.folio_map = FolioMap.uniform(group.order, group.footprint_bytes, struct_page_bytes)
        self.shared = group.shared
        self.bases: dict[tuple[str, str], int] = {}
        self._encoded: dict[int, int] = {}
        wanted = plan.regions_of(group)
        for backing in sorted({backing for backing, _ in wanted}):
            roles = [role for b, role in wanted if b == backing]
            large = [r for (b, _), r in regions.items() if b == backing and r.size >= self.folio_map.bytes]
            for role, index in zip(roles, rng.permutation(len(large)), strict=False):
                region, alignment = large[index], self.folio_map.alignment
                slots = (region.size - self.folio_map.bytes) // alignment + 1
                self.bases[backing, role] = region.base + int(rng.integers(slots)) * alignment

    def base(self, cell: plan.Cell) -> int:
        """The address of the memmap that a cell's lookups go through."""
        return self.bases[cell.contender.backing, plan.role_of(cell, self.shared)]

    def encode(self, placed: Iterable[Placed]) -> list[Placed]:
        """Bring these cells' encodings into their memmaps: whole pages at first.

        Returns a cell for each memmap that was written.
        """
        written = []
        for p in placed:
            current = self._encoded.get(p.base)
            if current == p.cell.encoding:
                continue
            (core.populate if current is None else core.encode)(p.variant, p.base, self.folio_map.folios)
            self._encoded[p.base] = p.cell.encoding
            written.append(p)
        return written

    def verify(
        self, group: plan.Group, segments: Sequence[Sequence[Placed]], rng: np.random.Generator
    ) -> None:
        """Look every pfn up through a copy of each cell's loop.

        Raises PagebenchError that names pfn, got and expected.  lookup comes
        first: the probes that go on to write to a head must not have a wrong one.
        """
        pages = self.folio_map.offsets_of(self.folio_map.page_pfns)
        heads = self.folio_map.offsets_of(self.folio_map.page_heads)
        for placed in segments:
            self.encode(placed)
            for p in placed:
                expected = pages if p.variant.name == variants.IDENTITY else heads
                runs = [int(rng.choice(p.runs))]
                if group.probe in plan.HEAD_PROBES:
                    runs.insert(0, p.variant.probes["lookup"].run)
                for run in runs:
                    found = core.verify(run, p.base, pages, expected)
                    if found.wrong:
                        raise wrong_head(str(p.cell.contender), group.title, self.folio_map, found)

    def expected(self, p: Placed, pfns: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        """The addresses that lookups of these pfns have to return."""
        heads = pfns if p.variant.name == variants.IDENTITY else self.folio_map.heads_of(pfns)
        return p.base + self.folio_map.offsets_of(heads).astype(np.uint64) * np.uint64(core.OFFSET_UNIT)


def wrong_head(contender: str, title: str, folio_map: FolioMap, found: core.Verification) -> PagebenchError:
    """The error for a contender whose lookups are wrong."""
    pfn, head = int(folio_map.page_pfns[found.first]), int(folio_map.page_heads[found.first])
    got, rest = divmod(found.got, folio_map.struct_page_bytes)
    inside = rest == 0 and 0 <= got <= int(folio_map.page_pfns[-1])
    return PagebenchError(
        f"{contender} finds wrong heads ({title}): {found.wrong} of {len(folio_map.page_pfns)} pfns, "
        f"the first pfn {pfn}: got {f'pfn {got}' if inside else f'{found.got:+d} bytes from the memmap'}, "
        f"expected pfn {head}; it was not timed"
    )
