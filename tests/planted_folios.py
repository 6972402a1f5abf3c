"""Memmaps of folios that a test names one by one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pagebench.memmap.folios import FolioMap


def folio_map_of(
    struct_page_bytes: int, folios: Sequence[tuple[int, int]], optimised: Sequence[bool] = (True,)
) -> FolioMap:
    """From (head pfn, order) pairs; ``optimised`` for each folio, or once for all."""
    array = np.array(folios, np.int64).reshape(-1, 2)
    return FolioMap(struct_page_bytes, array[:, 0], array[:, 1], np.array(optimised, np.bool_))
