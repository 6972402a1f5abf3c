"""/proc/kpageflags, folded to runs of folios."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pagebench.core.extension import array, ffi, lib
from pagebench.names import FOLIO_KINDS

# struct pb_run
RUN_DTYPE = np.dtype([("kind", np.uint32), ("order", np.uint32), ("count", np.uint64)])
assert RUN_DTYPE.itemsize == ffi.sizeof("struct pb_run")
assert [f"PB_KIND_{kind.upper()}" for kind in FOLIO_KINDS] == [
    name for _, name in sorted(ffi.typeof("enum pb_kind").elements.items())
][:-1]

Runs = npt.NDArray[np.void]


class Fold:
    """Flags on their way to runs (RUN_DTYPE; ``kind`` is an index into FOLIO_KINDS), from pfn ``first`` on.

    Tails before any head belong to no folio that can be told: ``first`` is behind them.
    """

    def __init__(self, first: int) -> None:
        self._cdata: Any = ffi.new("struct pb_fold *")
        lib.pb_fold_init(first, self._cdata)

    @property
    def first(self) -> int:
        """The pfn of the first folio."""
        return int(self._cdata.first)

    @property
    def pfn(self) -> int:
        """The pfn behind the last page that was folded."""
        return int(self._cdata.pfn)

    @property
    def torn(self) -> int:
        """Pages of folios that changed while they were read, so that a head or tails are missing."""
        return int(self._cdata.torn)

    def add(self, flags: npt.NDArray[np.uint64]) -> Runs:
        """The flags of the next pages; the runs that they end."""
        runs = np.empty(len(flags) + lib.PB_RUNS_SPARE, RUN_DTYPE)
        ended = lib.pb_fold_pages(
            self._cdata, array("uint64_t[]", flags), len(flags), array("struct pb_run[]", runs)
        )
        return runs[:ended].copy()

    def end(self, cut: bool = False) -> Runs:
        """The runs that are left; ``cut``: the last folio goes on behind the last page, and is left out."""
        runs = np.empty(lib.PB_RUNS_SPARE, RUN_DTYPE)
        ended = lib.pb_fold_end(self._cdata, cut, array("struct pb_run[]", runs))
        return runs[:ended].copy()
