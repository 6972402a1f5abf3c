"""Folios of a capture under a plan: which file, which window of it, and the memmap of that."""

from __future__ import annotations

import dataclasses
import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np

from pagebench.errors import PagebenchError
from pagebench.host import captures
from pagebench.memmap.captured import captured_folios
from pagebench.memmap.folios import FolioMap
from pagebench.plan.groups import MachineFolios


def of(path: Path) -> MachineFolios:
    """Of a capture as it is now.  Raises PagebenchError for what is none."""
    captures.read(path)
    return MachineFolios(str(path.absolute()), _digest(path))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@lru_cache(maxsize=1)
def _capture(source: MachineFolios) -> captures.Capture:
    path = Path(source.path)
    capture = captures.read(path)
    if _digest(path) != source.sha256:
        raise PagebenchError(f"{path} is not the capture that this was planned for: start anew")
    return capture


def content(source: MachineFolios) -> bytes:
    """The capture's file.  Raises PagebenchError where it changed, or is not there."""
    _capture(source)
    return Path(source.path).read_bytes()


def whole_bytes(source: MachineFolios, struct_page_bytes: int) -> int:
    """Bytes of struct pages of the whole capture.  Raises PagebenchError where the file changed."""
    return _capture(source).pfns * struct_page_bytes


@lru_cache(maxsize=4)
def folio_map(source: MachineFolios, memmap_bytes: int, struct_page_bytes: int) -> FolioMap:
    """The folios of a window of so many bytes of memmap, or of the whole capture.

    Of a capture with a process the window with the most pages that are mapped, else that with the most tails.

    Raises PagebenchError where the file changed, and for a window that no folio fits into.
    """
    capture = _capture(source)
    pages = min(memmap_bytes // struct_page_bytes, capture.pfns)
    window = captured_folios(capture, pages, _start(capture, pages), struct_page_bytes)
    found = dataclasses.replace(window.folio_map, kinds=window.kinds)
    if capture.process is None:
        return found
    try:
        return dataclasses.replace(found, mapped=window.mapped(capture))
    except PagebenchError:  # nothing of it is in the window: patterns that want it say so
        return found


def _start(capture: captures.Capture, pages: int) -> int:
    """Where the window of so many pfns with the most mapped pages, or tails, begins; of those the first."""
    last = capture.first + capture.pfns - pages
    mapped = np.sort(capture.mapped_pfns()) if capture.process is not None else np.zeros(0, np.int64)
    if len(mapped):
        inside = np.searchsorted(mapped, mapped + pages) - np.arange(len(mapped))
        return int(min(mapped[inside.argmax()], last))
    begins = np.append(capture.run_pfns, capture.first + capture.pfns)
    counts = capture.runs["count"].astype(np.int64)
    tails = np.append(0, np.cumsum((capture.run_pages - counts) * ~capture.is_kind(*captures.ABSENT)))
    # Tails below any pfn, as if a run's were spread evenly.
    starts = begins[:-1][begins[:-1] + pages <= begins[-1]]
    if not len(starts):
        return capture.first
    inside = np.interp(starts + pages, begins, tails) - np.interp(starts, begins, tails)
    return int(starts[inside.argmax()])


def largest_order(found: FolioMap, optimised: bool = False) -> int:
    """The largest order of the folios, or of those that HVO optimizes; 0 where there are none."""
    orders = found.orders[found.optimised] if optimised else found.orders
    return int(orders.max(initial=0))
