"""What can be asked for: axes, their names and defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pagebench import names
from pagebench.errors import PagebenchError
from pagebench.plan.groups import Levels, MachineFolios, Target
from pagebench.plan.presets import (
    CACHE_GRIDS,
    DEFAULT_CONTENDERS,
    DEFAULT_GRIDS,
    FULL_GRIDS,
    MACHINE_GRIDS,
    PRESETS,
    QUICK_GRIDS,
    SELFTEST_CONTENDERS,
    SELFTEST_GRIDS,
    Grid,
    Preset,
)
from pagebench.units import KIB, MIB, parse_size
from pagebench.variants import loaded

DEFAULT_ROUNDS = 42
DEFAULT_PROCESSES = 14
DEFAULT_MARGIN_CYCLES = 0.25
# With a target: what an interval of the median wants, and how long a run may go on by default.
FEWEST_PROCESSES = 6
AT_MOST = "10min"
SELFTEST_RUNS = 20


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for; None where nothing was said."""

    contenders: Sequence[str] | None = None
    orders: Sequence[int] | None = None
    footprints: Sequence[str] | None = None
    patterns: Sequence[str] | None = None
    probes: Sequence[str] | None = None
    extent: str = "default"
    preset: str | None = None
    memory_model: str | None = None
    objects: tuple[loaded.Loaded, ...] = ()
    processes: int | None = None
    rounds: int = DEFAULT_ROUNDS
    seed: int = 0
    cpu: int = 0
    struct_page_bytes: int = 64
    margin_cycles: float = DEFAULT_MARGIN_CYCLES
    resolve: str | None = None
    at_most: str | None = None
    folios: MachineFolios | None = None

    def prepared(self) -> Preset:
        """The preset that was named, or the default, quick or full run."""
        if self.preset is not None:
            if self.preset not in PRESETS:
                raise names.nearest(self.preset, PRESETS, "preset")
            return PRESETS[self.preset]
        if self.extent == "selftest":
            return Preset(self.extent, SELFTEST_CONTENDERS, SELFTEST_GRIDS)
        grids = {
            "quick": QUICK_GRIDS,
            "default": DEFAULT_GRIDS,
            "full": FULL_GRIDS,
            "cache": CACHE_GRIDS,
        }[self.extent]
        return Preset(self.extent, DEFAULT_CONTENDERS, grids)

    def target(self) -> Target | None:
        """What is to be resolved.  Raises PagebenchError."""
        if self.resolve is None:
            if self.at_most is not None:
                raise PagebenchError("--at-most is for --resolve: say what is to be resolved by then")
            return None
        return Target.parse(self.resolve, self.at_most or AT_MOST)

    def fewest_processes(self) -> int:
        """As many as were asked for, or as what was asked for takes."""
        if self.resolve is not None:
            return max(self.processes or 0, FEWEST_PROCESSES)
        return self.processes or DEFAULT_PROCESSES

    def grids(self) -> Sequence[Grid]:
        """The prepared grids, or, once an axis is named, a product.

        The axes that were not named then take the first prepared grid's.
        """
        grids = self.prepared().grids if self.folios is None else MACHINE_GRIDS
        first = grids[0]
        if all(axis is None for axis in (self.orders, self.footprints, self.patterns, self.probes)):
            return grids
        return (
            Grid(
                first.orders if self.orders is None else self.orders,
                first.footprints if self.footprints is None else self.footprints,
                first.patterns if self.patterns is None else self.patterns,
                first.probes if self.probes is None else self.probes,
            ),
        )


def footprint_bytes(text: str, levels: Levels, l3_reported: int) -> int:
    """A footprint in bytes: a size, or half of a cache by its level's name.

    ``l3`` is four times L2 and ``dram`` the larger of 128 MiB and four times
    the L3 reported, since the L3 that one gets is not the L3 reported.
    """
    named = {
        "l1": levels.l1_bytes // 2,
        "l2": levels.l2_bytes // 2,
        "l3": 4 * levels.l2_bytes,
        "dram": max(128 * MIB, 4 * l3_reported),
    }
    if text.lower() in named:
        return named[text.lower()]
    if text and text[0].isalpha():
        raise names.nearest(text, named, "footprint")
    size = parse_size(text)
    if size < KIB:
        raise PagebenchError(f"a footprint of {text} is too small: give 1K or more")
    return size
