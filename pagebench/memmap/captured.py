"""Folios of a capture as a memmap: the mixture of orders and kinds that a machine had."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pagebench.errors import PagebenchError
from pagebench.host.captures import ABSENT, KINDS, Capture
from pagebench.memmap.folios import FolioMap
from pagebench.memmap.patterns import NoPagesError

HUGETLB = KINDS.index("hugetlb")


@dataclass(frozen=True)
class CapturedFolios:
    """A window of a capture: its folios, and what each is.

    ``kinds`` (uint8) has an index into captures.KINDS for each folio of ``folio_map``, whose pfns are those
    of the machine less ``base_pfn``.  Huge pages of a pool are ``optimised`` there, the others are not.
    """

    folio_map: FolioMap
    kinds: npt.NDArray[np.uint8]
    base_pfn: int
    pages: int

    def mapped(self, capture: Capture) -> npt.NDArray[np.int64]:
        """What the capture's process has mapped of the window, as pfns of the folio map, in its order.

        Raises PagebenchError where that is nothing, or the capture has no process.
        """
        pfns = capture.mapped_pfns() - self.base_pfn
        pfns = pfns[(pfns >= 0) & (pfns < self.pages)]
        folio = np.searchsorted(self.folio_map.pfns, pfns, side="right") - 1
        pfns, folio = pfns[folio >= 0], folio[folio >= 0]
        inside = pfns < self.folio_map.pfns[folio] + (1 << self.folio_map.orders[folio])
        if not inside.any():
            raise PagebenchError(
                f"the process has nothing mapped in the {self.pages} pfns from {self.base_pfn}"
            )
        return np.asarray(pfns[inside])

    def pages_of(self, *kinds: str) -> npt.NDArray[np.int64]:
        """Every page of the folios of these kinds, ascending, as pfns of the folio map."""
        wanted = np.isin(self.kinds, [KINDS.index(kind) for kind in kinds])
        return self.folio_map.page_pfns[np.repeat(wanted, 1 << self.folio_map.orders)]


def captured_folios(
    capture: Capture, pages: int | None = None, start: int | None = None, struct_page_bytes: int | None = None
) -> CapturedFolios:
    """The folios that lie whole in a window of ``pages`` pfns, from pfn ``start`` of the machine on.

    By default all of the capture, and struct pages as it has them.  The window begins at ``start`` or as far
    before it as keeps every folio aligned that fits into it.
    What has no struct page is left out, and leaves a hole.  Raises PagebenchError where no folio is left.
    """
    first, behind = capture.first if start is None else start, capture.first + capture.pfns
    fits = behind - first if pages is None else pages
    orders = capture.runs["order"].astype(np.int64)
    fitting = orders[(1 << orders <= fits) & ~capture.is_kind(*ABSENT)]
    if not len(fitting):
        raise NoPagesError(f"no folio of the capture fits into {fits} pfns")
    base = first >> int(fitting.max()) << int(fitting.max())
    end = behind if pages is None else base + pages
    pfns, found = _whole_folios(capture, base, end)
    if not len(pfns):
        raise NoPagesError(f"no folio of the capture is whole in the {end - base} pfns from {base} on")
    folio_map = FolioMap(
        struct_page_bytes or capture.struct_page_bytes,
        pfns - base,
        found["order"].astype(np.int64),
        found["kind"] == HUGETLB,
    )
    return CapturedFolios(folio_map, found["kind"].astype(np.uint8), base, end - base)


def _whole_folios(
    capture: Capture, base: int, end: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.void]]:
    """The head's pfn of each folio in [base, end), and the run that it is from."""
    runs, begin = capture.runs, capture.run_pfns
    order = runs["order"].astype(np.int64)
    size = 1 << order
    skipped = np.clip(-(-(base - begin) // size), 0, None)
    counts = np.minimum(runs["count"].astype(np.int64), (end - begin) // size) - skipped
    counts[(counts < 0) | capture.is_kind(*ABSENT)] = 0
    run = np.repeat(np.arange(len(runs)), counts)
    number = np.arange(len(run)) - np.repeat(np.cumsum(counts) - counts, counts)
    return begin[run] + (skipped[run] + number) * size[run], runs[run]
