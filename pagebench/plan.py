"""From options to groups of cells: what a run measures."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pagebench import core, variants
from pagebench.errors import PagebenchError
from pagebench.memmap import BACKING_BYTES, MAX_FOLIO_ORDER, FolioMap, check_fits, reserved_bytes
from pagebench.patterns import Pattern
from pagebench.units import KIB, MIB, format_size, parse_size

PROBES = {
    "lookup": "independent lookups: throughput",
    "chain": "each address depends on the last result: latency",
    "flags": "chain through a load of the head's flags",
    "get": "lookup, atomic inc and dec of the head's _refcount",
}
# Probes whose use of the result touches the head's line.
HEAD_PROBES = ("flags", "get")
LAYOUTS = {"plain": "a frame of its own for each page of the memmap"}

DEFAULT_CONTENDERS = ("pointer-branch", "pointer-select", "fakehead", "mask-select", "branchless")
DEFAULT_ORDERS = (0, 2, 4, 9)
DEFAULT_FOOTPRINTS = ("16K", "256K", "2M", "128M")
DEFAULT_ROUNDS = 63
DEFAULT_PROCESSES = 24
QUICK_PROCESSES = 20
# Holm over some 25 comparisons cannot reject anything below this.
FEW_PROCESSES = 10
# What a pattern's window and its schedule take beside the memmaps, roughly.
WORKER_OVERHEAD_BYTES = 96 * MIB

LEVELS = ("l1", "l2", "l3", "dram")


@dataclass(frozen=True, slots=True)
class Levels:
    """Cache sizes in bytes that decide a cell's level.

    ``l3_bytes`` is what was measured to be there, not what is reported.
    """

    l1_bytes: int
    l2_bytes: int
    l3_bytes: int

    def of(self, footprint_bytes: int) -> str:
        """The first level that holds the footprint."""
        for level, size in zip(LEVELS, (self.l1_bytes, self.l2_bytes, self.l3_bytes), strict=False):
            if footprint_bytes <= size:
                return level
        return "dram"


@dataclass(frozen=True, slots=True)
class Contender:
    """variant@layout:backing"""

    variant: str
    layout: str = "plain"
    backing: str = "2m"

    @classmethod
    def parse(cls, text: str) -> Contender:
        """From ``mask``, ``mask@plain`` or ``mask@plain:4k``.  Raises PagebenchError."""
        variant, _, place = text.strip().partition("@")
        layout, _, backing = place.partition(":")
        contender = cls(variant, layout or "plain", backing or "2m")
        if contender.layout not in LAYOUTS:
            raise variants.nearest(contender.layout, LAYOUTS, "layout")
        if contender.backing not in BACKING_BYTES:
            raise variants.nearest(contender.backing, BACKING_BYTES, "backing")
        return contender

    def __str__(self) -> str:
        place = f"{self.variant}@{self.layout}"
        return place if self.backing == "2m" else f"{place}:{self.backing}"


@dataclass(frozen=True, slots=True)
class Cell:
    """What is sampled beside the others of its group.

    ``role`` is "contender", "identity" (the harness), "aa" (the reference
    again, a second copy of its code) or "control" (against ``branchless``).
    """

    contender: Contender
    role: str
    encoding: int


@dataclass(frozen=True, slots=True)
class Group:
    """Cells that differ only in contender; the first is the reference.

    ``shared``: contenders of all encodings take turns on the same frames.
    ``purpose``: "compare", or "control" where the positive control needed a
    group that nobody asked for.
    """

    order: int
    footprint_bytes: int
    pattern: str
    probe: str
    level: str
    shared: bool
    cells: tuple[Cell, ...]
    purpose: str = "compare"

    @property
    def title(self) -> str:
        """For messages: what the cells of the group have in common."""
        return f"{self.probe}, order {self.order}, {format_size(self.footprint_bytes)}, {self.pattern}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a run measures; JSON in a result file's header."""

    groups: tuple[Group, ...]
    reference: str
    struct_page_bytes: int
    processes: int
    rounds: int
    seed: int
    cpu: int
    levels: Levels
    margin_cycles: float

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists, contenders spelled out."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """The inverse of to_json.  Raises KeyError, TypeError for foreign data."""
        groups = tuple(
            Group(
                **{
                    **g,
                    "cells": tuple(
                        Cell(Contender(**c["contender"]), c["role"], c["encoding"]) for c in g["cells"]
                    ),
                }
            )
            for g in data["groups"]
        )
        return cls(**{**data, "groups": groups, "levels": Levels(**data["levels"])})

    @property
    def variant_names(self) -> tuple[str, ...]:
        """Every variant that is timed, in the order of the groups."""
        return tuple(dict.fromkeys(cell.contender.variant for group in self.groups for cell in group.cells))

    @property
    def cell_count(self) -> int:
        """Cells in all groups together."""
        return sum(len(group.cells) for group in self.groups)


@dataclass(frozen=True, slots=True)
class Grid:
    """A product of axes, before it is made into groups."""

    orders: Sequence[int]
    footprints: Sequence[str]
    patterns: Sequence[str]
    probes: Sequence[str]


# The main question in about a minute, and in about ten seconds.
DEFAULT_GRIDS = (
    Grid(DEFAULT_ORDERS, DEFAULT_FOOTPRINTS, ("random",), ("chain", "lookup")),
    Grid((2, 9), ("256K",), ("heads",), ("chain", "lookup")),
    Grid((0, 2, 9), ("256K",), ("random",), ("flags", "get")),
)
QUICK_GRIDS = (Grid((0, 2, 9), ("16K", "256K"), ("random",), ("chain",)),)
FULL_GRIDS = (
    Grid(
        (0, 2, 4, 6, 9),
        ("16K", "256K", "2M", "8M", "128M"),
        ("random", "heads", "tails", "mixed", "scan"),
        tuple(PROBES),
    ),
)


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for; None where nothing was said."""

    contenders: Sequence[str] = DEFAULT_CONTENDERS
    orders: Sequence[int] | None = None
    footprints: Sequence[str] | None = None
    patterns: Sequence[str] | None = None
    probes: Sequence[str] | None = None
    extent: str = "default"
    processes: int | None = None
    rounds: int = DEFAULT_ROUNDS
    seed: int = 0
    cpu: int = 0
    struct_page_bytes: int = 64
    margin_cycles: float = 0.25

    def grids(self) -> tuple[Grid, ...]:
        """One of the prepared grids, or, once an axis is named, its product.

        The axes that were not named then take the first prepared grid's.
        """
        grids = {"quick": QUICK_GRIDS, "default": DEFAULT_GRIDS, "full": FULL_GRIDS}[self.extent]
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
        raise variants.nearest(text, named, "footprint")
    size = parse_size(text)
    if size < KIB:
        raise PagebenchError(f"a footprint of {text} is too small: give 1K or more")
    return size


def _check_axes(grid: Grid) -> None:
    for order in grid.orders:
        if not 0 <= order <= MAX_FOLIO_ORDER:
            raise PagebenchError(f"there is no order {order}: folios have orders from 0 to {MAX_FOLIO_ORDER}")
    for probe in grid.probes:
        if probe not in PROBES:
            raise variants.nearest(probe, PROBES, "probe")


def _contenders(texts: Iterable[str], struct_page_bytes: int) -> list[Contender]:
    contenders = [Contender.parse(text) for text in texts]
    for contender in contenders:
        variants.find(contender.variant, struct_page_bytes)
        if contender.variant in variants.HARNESS:
            raise PagebenchError(
                f"{contender.variant} belongs to the harness and runs in every group: name other contenders"
            )
    if len(set(contenders)) < len(contenders):
        raise PagebenchError(
            "a contender is named twice: every group has an A/A copy of its reference already"
        )
    return contenders


def _cells(contenders: Sequence[Contender], numbers: Mapping[str, int], control: bool) -> tuple[Cell, ...]:
    reference = contenders[0]
    cells = [Cell(contender, "contender", numbers[contender.variant]) for contender in contenders]
    cells.append(Cell(reference, "aa", numbers[reference.variant]))
    # The harness reads nothing, so it may sit on any encoding's memmap.
    cells.append(
        Cell(
            dataclasses.replace(reference, variant=variants.IDENTITY), "identity", numbers[reference.variant]
        )
    )
    if control:
        if all(contender.variant != variants.CONTROL_REFERENCE for contender in contenders):
            partner = dataclasses.replace(reference, variant=variants.CONTROL_REFERENCE)
            cells.append(Cell(partner, "control-reference", numbers[partner.variant]))
        partner = dataclasses.replace(reference, variant=variants.CONTROL)
        cells.append(Cell(partner, "control", numbers[partner.variant]))
    return tuple(cells)


def build(options: Options, levels: Levels, l3_reported: int, available_bytes: int | None) -> Plan:
    """The plan for these options on a machine with these caches and memory.

    Raises PagebenchError for names, orders and sizes that do not exist, for
    memmaps that do not fit, and where nothing is left to measure.
    """
    contenders = _contenders(options.contenders, options.struct_page_bytes)
    if not contenders:
        raise PagebenchError("no contenders: name at least one, as in --contenders pointer,mask")
    known = core.built_in_variants(options.struct_page_bytes)
    timed = {
        name: known[name]
        for name in (*(c.variant for c in contenders), variants.CONTROL_REFERENCE, *variants.HARNESS)
    }
    groups: dict[tuple[Any, ...], Group] = {}
    missing: list[str] = []
    control_at: tuple[Any, ...] | None = None
    for grid in options.grids():
        _check_axes(grid)
        for order in grid.orders:
            numbers = variants.encodings(timed, order)
            for size in (footprint_bytes(text, levels, l3_reported) for text in grid.footprints):
                for pattern in map(Pattern.parse, grid.patterns):
                    for probe in grid.probes:
                        if not pattern.exists_at(order):
                            missing.append(f"{pattern} at order {order}")
                            continue
                        key = (probe, str(pattern), order, size)
                        control = control_at is None and probe == "chain" and levels.of(size) == "l1"
                        if control:
                            control_at = key
                        cells = _cells(contenders, numbers, control)
                        shared = len({cell.encoding for cell in cells}) == 1 or size <= levels.l3_bytes // 2
                        groups.setdefault(
                            key, Group(order, size, str(pattern), probe, levels.of(size), shared, cells)
                        )
    if not groups:
        what = f" ({missing[0]} has nothing to look up)" if missing else ""
        raise PagebenchError(f"nothing to measure{what}: name orders, footprints, patterns and probes")
    if control_at is None:
        groups["control",] = _control_group(options, levels, contenders[0], timed)
    processes = options.processes or (QUICK_PROCESSES if options.extent == "quick" else DEFAULT_PROCESSES)
    plan = Plan(
        groups=tuple(groups.values()),
        reference=str(contenders[0]),
        struct_page_bytes=options.struct_page_bytes,
        processes=processes,
        rounds=options.rounds,
        seed=options.seed,
        cpu=options.cpu,
        levels=levels,
        margin_cycles=options.margin_cycles,
    )
    check_fits(sum(region_sizes(plan).values()) + WORKER_OVERHEAD_BYTES, available_bytes)
    return plan


def _control_group(
    options: Options, levels: Levels, reference: Contender, timed: Mapping[str, core.Variant]
) -> Group:
    """The positive control in a group of its own, where no L1 chain is asked for."""
    size = levels.l1_bytes // 2
    cells = _cells([reference], variants.encodings(timed, 2), control=True)
    return Group(2, size, "random", "chain", "l1", True, cells, "control")


def regions_of(group: Group) -> list[tuple[str, str]]:
    """The memory that a group needs: (backing, role) pairs.

    One region for all where frames are shared; otherwise one per encoding and
    one for the A/A copy, "0", "1", … and "aa".
    """
    return sorted({(cell.contender.backing, role_of(cell, group.shared)) for cell in group.cells})


def role_of(cell: Cell, shared: bool) -> str:
    """Which of a group's regions a cell's memmap is in."""
    if shared:
        return "0"
    return "aa" if cell.role == "aa" else str(cell.encoding)


def region_sizes(plan: Plan) -> dict[tuple[str, str], int]:
    """Bytes of each region that a worker reserves, once for all groups."""
    sizes: dict[tuple[str, str], int] = {}
    for group in plan.groups:
        needed = FolioMap.uniform(group.order, group.footprint_bytes, plan.struct_page_bytes).bytes
        for region in regions_of(group):
            sizes[region] = max(sizes.get(region, 0), reserved_bytes(needed, region[0]))
    return sizes
