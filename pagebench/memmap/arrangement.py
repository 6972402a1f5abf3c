"""How a memory model lays a memmap out: its arrays at the worst addresses that the model allows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pagebench import core
from pagebench.errors import PagebenchError
from pagebench.memmap.folios import FolioMap, check_reach
from pagebench.memmap.models import BasePage, Model
from pagebench.units import format_size


def crosses_section(model: Model, folio_map: FolioMap, page: BasePage) -> bool:
    """Whether any of the folios is one that the model does not have."""
    first, last = folio_map.pfns, folio_map.pfns + (1 << folio_map.orders) - 1
    shift = page.pfn_section_shift
    return model.sectioned and bool(np.any(first >> shift != last >> shift))


class Arrangement:
    """How a model lays a memmap out from its lowest address: one array, or one a section.

    Sections stand in descending order.  Each array is at a multiple of ``promised_bytes`` and of no more,
    if the lowest is.
    """

    def __init__(self, model: Model, folio_map: FolioMap, page: BasePage) -> None:
        if crosses_section(model, folio_map, page):
            raise PagebenchError(
                f"{model.name} has no folio above order {page.pfn_section_shift} with "
                f"{format_size(page.bytes)} pages, as none crosses a section: choose smaller orders"
            )
        self._struct_page_bytes = size = folio_map.struct_page_bytes
        end = folio_map.bytes // size
        self.promised_bytes = model.promised(page, size)
        self._pages = 1 << page.pfn_section_shift if model.sectioned else end  # of one array
        self.arrays = -(-end // self._pages)
        twice = 2 * self.promised_bytes
        self.pitch = (self._pages * size // twice + 1) * twice
        self.bytes = (self.arrays - 1) * self.pitch + self._pages * size
        check_reach(self.bytes)

    def page_offsets(self, pfns: npt.NDArray[np.int64]) -> core.Offsets:
        """Where the struct pages of these pfns are, in units of 8 bytes from the lowest."""
        array, within = np.divmod(pfns, self._pages)
        distance = (self.arrays - 1 - array) * self.pitch + within * self._struct_page_bytes
        return np.asarray(distance // core.OFFSET_UNIT, np.uint32)
