"""The loops that every peer measures: Python's way to the same probe functions over the same memmaps."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import ExitStack

import numpy as np

from pagebench import core
from pagebench.memmap.folios import FolioMap
from pagebench.memmap.patterns import Pattern, draw
from pagebench.units import MIB
from pagebench.variants import registry

# A and A again are one, B - A is a difference.
NAMES = {"A": "pointer-select", "A again": "pointer-select", "B": "branchless"}
ORDER = 9
LOOKUPS, WINDOW = 4096, 1 << 20


def loops(footprint: int, stack: ExitStack) -> dict[str, Callable[[], object]]:
    """By name, what makes LOOKUPS lookups: the next part of a window of random ones each time."""
    folio_map = FolioMap.uniform(ORDER, footprint)
    pfns = draw(Pattern("random"), folio_map, footprint, WINDOW, np.random.default_rng())
    offsets = folio_map.offsets_of(pfns)
    memmaps: dict[str, int] = {}
    for name in dict.fromkeys(NAMES.values()):
        memory = stack.enter_context(core.Reservation(folio_map.bytes, 2 * MIB, "2m"))
        core.populate(registry.find(name), memory.base, folio_map.folios)
        memmaps[name] = memory.base
    prototype = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    cursor = 0

    def loop(variant: str) -> Callable[[], object]:
        run, base = prototype(registry.find(variant).probes["chain"].run), memmaps[variant]

        def call() -> object:
            nonlocal cursor
            cursor = (cursor + LOOKUPS) % WINDOW
            return run(base, offsets.ctypes.data + 4 * cursor, LOOKUPS)

        return call

    return {name: loop(variant) for name, variant in NAMES.items()}
