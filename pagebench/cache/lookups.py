"""Which pages a simulation looks up: until caches are as full as they get, then those that are counted."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from pagebench import core, names
from pagebench.measure.windows import Windows
from pagebench.memmap import patterns
from pagebench.memmap.folios import FolioMap
from pagebench.names import LINE_BYTES
from pagebench.plan import groups
from pagebench.results.simulated import Geometry

# Lookups that are counted; and before them, once the caches are as full as they get, of the pattern.
COUNTED, WARM = 1 << 16, 1 << 14
# As many of a probe that does much in each.
FEWEST = 1 << 10
# As many times the lookups that fill a cache on average, or that see every page.
AMPLE, EVERY = 1.2, 4


@dataclass(frozen=True)
class Lookups:
    """``every`` one, in one array; of it those to warm by, by layout, and those that are ``counted``."""

    every: core.Offsets
    counted: core.Offsets
    heads_share: float
    warm: Mapping[str, tuple[core.Offsets, ...]]

    @classmethod
    def draw(
        cls,
        group: groups.Group,
        folio_map: FolioMap,
        layouts: Collection[str],
        geometry: Geometry,
        turns: int,
        rng: np.random.Generator,
    ) -> Lookups:
        """For a group's layouts; each lookup does what an ordinary one does ``turns`` times."""
        pattern = patterns.Pattern.parse(group.pattern)
        counted = max(FEWEST, COUNTED // turns)
        capacity = geometry.caches[-1].bytes // LINE_BYTES
        all_pages = Windows(folio_map, patterns.candidates(folio_map, group.footprint_bytes), rng)
        lines = all_pages.touched_bytes(False, names.PLAIN) // LINE_BYTES
        before: dict[str, int] = {}
        for layout in layouts:
            own = all_pages.touched_bytes(False, layout) // LINE_BYTES
            before[layout] = _before(pattern, layout, lines, own, capacity)
        longest = max(WARM + int(most) for most in before.values()) + counted
        once_first = not pattern.row.in_passes and 0 in before.values()
        pool = max(longest, EVERY * lines if once_first else 0)
        windows = Windows(folio_map, patterns.draw(pattern, folio_map, group.footprint_bytes, pool, rng), rng)
        pfns = windows.pfns[-counted:]
        once = [windows.once] if once_first else []
        every = np.concatenate([*once, windows.offsets[-longest:]])
        warm = {}
        for layout, most in before.items():
            behind = every[len(every) - counted - WARM - most : len(every) - counted]
            first = (every[: len(once[0])],) if once and not most else ()
            warm[layout] = (*first, behind)
        return cls(every, every[-counted:], float(np.mean(folio_map.heads_of(pfns) == pfns)), warm)


def _before(pattern: patterns.Pattern, layout: str, lines: int, own: int, capacity: int) -> int:
    """How many lookups fill the caches; 0 where all lines fit, and are to be looked up once each.

    Of the ``lines`` of a memmap ``own`` are physical ones.  Where tails are shared, so many of the lookups go
    to others than those few.
    """
    rate = own / lines if names.find_layout(layout).rest == "shared" else 1.0
    if pattern.row.in_passes:
        return int(AMPLE * min(lines, capacity * lines / own))
    if own <= capacity:
        return 0
    # So many of so many lines are seen after so many draws, on average.
    return int(AMPLE * own * math.log(own / (own - min(capacity, 0.9 * own))) / rate)
