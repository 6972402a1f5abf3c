"""What simulated caches make of a loop's accesses, typed: a line of a result file, what `cache` reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec

from pagebench.names import LINE_BYTES, PREDICTORS, Frames, HugePages, Policy, Prefetch
from pagebench.plan.groups import Natural, Plan, Positive
from pagebench.units import format_size

PerLookup = Annotated[float, msgspec.Meta(ge=0, le=1 << 24)]
Ways = Annotated[int, msgspec.Meta(ge=1, le=16)]


class Cache(msgspec.Struct, frozen=True):
    """One level, of lines of 64 bytes: any number of sets."""

    sets: Positive
    ways: Ways

    @property
    def bytes(self) -> int:
        """Its capacity."""
        return self.sets * self.ways * LINE_BYTES

    def __str__(self) -> str:
        return f"{format_size(self.bytes)}/{self.ways}"


class Tlb(msgspec.Struct, frozen=True):
    """One level for one or both sizes of page."""

    entries: Positive
    ways: Positive

    def __str__(self) -> str:
        return f"{self.entries}" if self.ways == self.entries else f"{self.entries}/{self.ways}"


class Tlbs(msgspec.Struct, frozen=True):
    """Data TLBs: the first level's for pages of 4K and of 2M, None where one is for both; the second level's.

    The second level has entries of both sizes; a hit there takes ``second_cycles`` more, where that is known.
    """

    first: Tlb
    first_2m: Tlb | None
    second: Tlb
    second_cycles: float | None = None

    def __str__(self) -> str:
        huge = f"+{self.first_2m}" if self.first_2m else ""
        return f"{self.first}{huge}, {self.second}"


class Geometry(msgspec.Struct, frozen=True, kw_only=True):
    """The caches and TLBs that are simulated.

    ``source`` says where the numbers are from.  ``tlbs`` is None where they are not known; none are simulated
    then.  ``inclusive``: what leaves the last level leaves the others too.  ``way_predictor``: a line of L1
    that is reached by another linear address than the last time is fetched from L2 again (AMD Zen).
    ``adds_at_rename``: adding an immediate takes no cycle (Intel since Golden Cove).  ``huge_pages`` are
    "split" where the host of a virtual machine maps them by pages of 4K, wherever those are.  ``frames``:
    which physical pages memory is in decides what shares a set: "drawn", or as the kernel's "pagemap" has it.
    """

    name: str
    source: str
    caches: Annotated[tuple[Cache, ...], msgspec.Meta(min_length=1, max_length=3)]
    tlbs: Tlbs | None = None
    policy: Policy = "lru"
    inclusive: bool = False
    prefetch: Prefetch = "none"
    way_predictor: bool = False
    adds_at_rename: bool = False
    huge_pages: HugePages = "whole"
    frames: Frames = "drawn"

    def __str__(self) -> str:
        """One line: ``48K/12, 2M/16, 5M/16 (size/ways), lru; TLB 96/6+32/4, 2048/16``."""
        caches = ", ".join(map(str, self.caches))
        tlbs = f"TLB entries {self.tlbs}" if self.tlbs else "no TLB"
        more = [
            *(["inclusive"] if self.inclusive else []),
            *([f"prefetch {self.prefetch}"] if self.prefetch != "none" else []),
            *(["way predictor"] if self.way_predictor else []),
            *(["2M pages split by the host"] if self.huge_pages == "split" else []),
            "frames drawn" if self.frames == "drawn" else "frames as in /proc/self/pagemap",
        ]
        return "; ".join([f"{caches} (size/ways), {self.policy}", tlbs, *more])


class Chain(msgspec.Struct, frozen=True):
    """What each lookup waits for the one before for: cycles in registers, and loads of struct pages.

    An average over the ways through the loop that were taken.  Without a load lookups run ahead of memory.
    """

    cycles: PerLookup
    loads: PerLookup


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """A cell's, per lookup unless said otherwise, of accesses to struct pages.

    ``misses`` of each cache level; ``aliases``: lines of L1 reached by another linear address than the last
    time, where there is a way predictor; ``tlb_misses`` of both levels, those of the second being page walks;
    ``walk_misses``: what page walks' loads missed, by cache level.  ``other_accesses`` are to the pattern
    itself and the stack, ``other_misses`` theirs.  ``mispredictions`` by kind of predictor, of ``branches``.
    ``lines`` and ``pages``: how many distinct physical ones all lookups together touched, ``all_lines``
    whether more lookups would touch no more; ``heads_share``:
    of the lookups.  ``chain``: see Chain.
    """

    lookups: Positive
    accesses: PerLookup
    misses: tuple[PerLookup, ...]
    aliases: PerLookup
    tlb_misses: tuple[PerLookup, ...]
    walk_misses: tuple[PerLookup, ...]
    other_accesses: PerLookup
    other_misses: tuple[PerLookup, ...]
    branches: PerLookup
    mispredictions: Mapping[str, PerLookup]
    lines: Natural
    all_lines: bool
    pages: Natural
    heads_share: PerLookup
    chain: Chain


class SimulatedCell(msgspec.Struct, frozen=True):
    """A cell of the plan, by the numbers of its group and of itself in that."""

    group: Natural
    cell: Natural
    counts: Counts


class Simulated(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="simulated"):
    """All cells of a plan whose loops can be recorded; ``refused``: why one cannot, by "variant probe"."""

    geometry: Geometry
    seed: Natural
    cells: tuple[SimulatedCell, ...]
    refused: Mapping[str, str]


def check_fits(simulated: Simulated, plan: Plan) -> None:
    """Whether all cells are the plan's, with counts of every level.  Raises ValueError."""
    levels = len(simulated.geometry.caches)
    for one in simulated.cells:
        if one.group >= len(plan.groups) or one.cell >= len(plan.groups[one.group].cells):
            raise ValueError("a cell that was simulated is none of the plan's")
        counts = one.counts
        lengths = {len(counts.misses), len(counts.walk_misses), len(counts.other_misses)}
        if (
            lengths != {levels}
            or len(counts.tlb_misses) != 2
            or set(counts.mispredictions) != set(PREDICTORS)
        ):
            raise ValueError("counts of a cell that was simulated do not fit its caches")
