"""The plan of a run: contenders, cells, groups.  Pure data: needs no memmap and no compiled core."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from pagebench import names
from pagebench.errors import PagebenchError
from pagebench.names import MAX_FOLIO_ORDER, Level
from pagebench.units import Unit, format_size, parse_amount
from pagebench.variants import loaded

Natural = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=1 << 53)]
Role = Literal[
    "contender",
    "aa",
    "identity",
    "control-reference",
    "control",
    "control-eighth",
    "null-reference",
    "null",
]


@dataclass(frozen=True, slots=True)
class Levels:
    """Cache sizes in bytes that decide a cell's level.

    ``l3_bytes`` is what was measured to be there, not what is reported.
    """

    l1_bytes: Positive
    l2_bytes: Positive
    l3_bytes: Positive

    @property
    def shared_bytes(self) -> int:
        """Up to which size memmaps are shared and re-encoded.

        Half of the L3 that was measured, which moves, and twice L2 anyway.
        """
        return max(self.l3_bytes // 2, 2 * self.l2_bytes)

    def at_core_clock(self, footprint_bytes: int) -> bool:
        """Whether lookups stay well inside the caches that run at the core's clock, half of L2.

        What they take is then core cycles, whatever a cycle took.
        """
        return footprint_bytes <= self.l2_bytes // 2

    def of(self, footprint_bytes: int) -> Level:
        """The first level that holds the footprint."""
        for level, size in zip(names.LEVELS, (self.l1_bytes, self.l2_bytes, self.l3_bytes), strict=False):
            if footprint_bytes <= size:
                return level
        return "dram"


@dataclass(frozen=True, slots=True)
class Contender:
    """variant@layout:backing"""

    variant: str
    layout: str = names.PLAIN
    backing: str = names.LAYOUTS[names.PLAIN].default_backing

    def __post_init__(self) -> None:
        """Refuse layouts and backings of a later version: they are not taken for any that there is."""
        if self.layout not in names.LAYOUTS or self.backing not in names.BACKINGS:
            raise ValueError(f"unknown layout or backing: {self.layout}:{self.backing}")

    @classmethod
    def parse(cls, text: str) -> Contender:
        """From ``mask``, ``mask@plain`` or ``mask@plain:4k``.  Raises PagebenchError."""
        variant, _, place = text.strip().partition("@")
        layout, _, backing = place.partition(":")
        layout = layout or names.PLAIN
        row = names.find_layout(layout)
        backing = backing or row.default_backing
        if row.aliased and not names.find_backing(backing).by_frame:
            raise PagebenchError(
                f"{text}: layouts with aliases are mapped from a memfd, leave the backing out"
            )
        names.find_backing(backing)
        return cls(variant, layout, backing)

    def __str__(self) -> str:
        place = f"{self.variant}@{self.layout}"
        default = names.find_layout(self.layout).default_backing
        return place if self.backing == default else f"{place}:{self.backing}"


@dataclass(frozen=True, slots=True)
class Cell:
    """What is sampled beside the others of its group.

    ``role`` is "contender", "identity" (the harness), "aa" (the reference again, a second copy of its code)
    "control" and "control-eighth" (against their "control-reference") or "null" (against ``mask-select``, its
    "null-reference", whose code it is, over other words).  ``tail_words``: cells of the same number
    write the same words into tails, and share a memmap without its being re-encoded.
    """

    contender: Contender
    role: Role
    tail_words: Natural


@dataclass(frozen=True, slots=True)
class Group:
    """Cells that differ only in contender; the first is the reference.

    ``shared``: contenders of all encodings take turns on the same frames.
    ``purpose``: "compare", or "control" where the positive control needed a
    group that nobody asked for.
    """

    order: Annotated[int, msgspec.Meta(ge=0, le=MAX_FOLIO_ORDER)]
    footprint_bytes: Positive
    pattern: str
    probe: str
    level: Level
    shared: bool
    cells: Annotated[tuple[Cell, ...], msgspec.Meta(min_length=1)]
    purpose: Literal["compare", "control"] = "compare"

    @property
    def title(self) -> str:
        """For messages: what the cells of the group have in common."""
        return f"{self.probe}, order {self.order}, {format_size(self.footprint_bytes)}, {self.pattern}"


@dataclass(frozen=True, slots=True)
class Target:
    """What every comparison is to resolve, and how long a run may go on for it.

    ``unit``: ns, core cycles, or "%" of the reference's time.
    """

    amount: Annotated[float, msgspec.Meta(gt=0)]
    unit: Unit
    at_most_s: Annotated[float, msgspec.Meta(gt=0)]

    @classmethod
    def parse(cls, amount: str, at_most: str) -> Target:
        """From ``0.02ns``, ``0.5%`` or ``0.1cycles``, and ``90s``, ``10min`` or ``2h``.

        Raises PagebenchError.
        """
        found = parse_amount(amount)
        if found is None:
            raise PagebenchError(f"{amount!r} cannot be resolved: write it as 0.02ns, 0.5% or 0.1cycles")
        time = re.fullmatch(r"(\d+\.?\d*|\.\d+) *(s|min|h)", at_most.strip())
        if not time or float(time[1]) == 0:
            raise PagebenchError(f"{at_most!r} is no time to stop at: write it as 90s, 10min or 2h")
        seconds = float(time[1]) * {"s": 1, "min": 60, "h": 3600}[time[2]]
        return cls(*found, seconds)

    def __str__(self) -> str:
        return f"{self.amount:g} {self.unit}"


@dataclass(frozen=True, slots=True)
class MachineFolios:
    """A capture that memmaps are made of: the file, and a digest of what it held when the plan was made."""

    path: str
    sha256: str

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a run measures; part of a result file's header, against whose types it is checked.

    With a ``target`` there are as many ``processes`` at least, and more of them for the groups that want it.
    """

    groups: Annotated[tuple[Group, ...], msgspec.Meta(min_length=1)]
    reference: str
    struct_page_bytes: Positive
    processes: Positive
    rounds: Positive
    seed: Annotated[int, msgspec.Meta(ge=0)]
    cpu: Natural
    levels: Levels
    margin_cycles: Annotated[float, msgspec.Meta(gt=0)]
    preset: str | None = None
    memory_model: str | None = None
    # Variants from elsewhere than the core.
    objects: tuple[loaded.Loaded, ...] = ()
    target: Target | None = None
    # The machine whose folios they are; of one order by default.
    folios: MachineFolios | None = None

    def noise_class(self, probe: str, footprint_bytes: int) -> tuple[str, Level, bool]:
        """What is as noisy as each other: a probe in a cache level, in the outer half of L2 apart."""
        return probe, self.levels.of(footprint_bytes), self.levels.at_core_clock(footprint_bytes)

    @property
    def variant_names(self) -> tuple[str, ...]:
        """Every variant that is timed, in the order of the groups."""
        return tuple(dict.fromkeys(cell.contender.variant for group in self.groups for cell in group.cells))
