"""From options to groups of cells: what a run measures."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from pagebench import alignment, core, variants
from pagebench.errors import PagebenchError
from pagebench.layout import LAYOUTS, check_map_count, exists_at, frame_map
from pagebench.memmap import (
    BACKING_BYTES,
    MAX_FOLIO_ORDER,
    PAGE_SIZE,
    FolioMap,
    check_fits,
    check_reach,
    reserved_bytes,
)
from pagebench.patterns import Pattern
from pagebench.probes import PROBES
from pagebench.units import KIB, MIB, format_size, parse_size

# The first is the reference.  Layouts stand where they exist: from order 7 on.
DEFAULT_CONTENDERS = (
    "pointer-branch",
    "pointer-select",
    "fakehead",
    "mask-select",
    "branchless",
    "fakehead@hvo",
    "branchless@hvo-shared",
)
DEFAULT_ORDERS = (0, 2, 4, 9)
# 96M and not more: two HVO layouts of it fit vm.max_map_count as it comes.
DEFAULT_FOOTPRINTS = ("16K", "256K", "2M", "96M")
DEFAULT_ROUNDS = 63
DEFAULT_PROCESSES = 24
QUICK_PROCESSES = 20
# Holm over some 25 comparisons cannot reject anything below this.
FEW_PROCESSES = 10
# What a worker takes beside its memmaps, roughly: a pattern's window and its
# schedule, and for each page of the largest memmap pfn, head and offsets.
WORKER_OVERHEAD_BYTES = 96 * MIB
WORKER_BYTES_PER_PAGE = 64

LEVELS = ("l1", "l2", "l3", "dram")


@dataclass(frozen=True, slots=True)
class Levels:
    """Cache sizes in bytes that decide a cell's level.

    ``l3_bytes`` is what was measured to be there, not what is reported.
    """

    l1_bytes: int
    l2_bytes: int
    l3_bytes: int

    @property
    def shared_bytes(self) -> int:
        """Up to which size memmaps are shared and re-encoded.

        Half of the L3 that was measured, which moves, and twice L2 anyway.
        """
        return max(self.l3_bytes // 2, 2 * self.l2_bytes)

    def of(self, footprint_bytes: int) -> str:
        """The first level that holds the footprint."""
        for level, size in zip(LEVELS, (self.l1_bytes, self.l2_bytes, self.l3_bytes), strict=False):
            if footprint_bytes <= size:
                return level
        return "dram"


def default_backing(layout: str) -> str:
    """As kernels map a vmemmap that HVO left alone; aliases need 4 KiB frames."""
    return "2m" if layout == "plain" else "memfd"


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
        layout = layout or "plain"
        contender = cls(variant, layout, backing or default_backing(layout))
        if contender.layout not in LAYOUTS:
            raise variants.nearest(contender.layout, LAYOUTS, "layout")
        if contender.backing not in BACKING_BYTES:
            raise variants.nearest(contender.backing, BACKING_BYTES, "backing")
        if contender.layout != "plain" and contender.backing != "memfd":
            raise PagebenchError(
                f"{text}: layouts with aliases are mapped from a memfd, leave the backing out"
            )
        return contender

    def __str__(self) -> str:
        place = f"{self.variant}@{self.layout}"
        return place if self.backing == default_backing(self.layout) else f"{place}:{self.backing}"


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
    preset: str | None = None
    memory_model: str | None = None

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
        ("16K", "256K", "2M", "8M", "96M"),
        ("random", "heads", "tails", "mixed", "scan"),
        tuple(PROBES),
    ),
)


@dataclass(frozen=True, slots=True)
class Preset:
    """A question with its contenders and grids."""

    meaning: str
    contenders: Sequence[str]
    grids: Sequence[Grid]


PRESETS: Mapping[str, Preset] = {
    "series": Preset("what the series of v7.1 changes: the default run", DEFAULT_CONTENDERS, DEFAULT_GRIDS),
    "fake-heads": Preset(
        "the table of 31 Oct 2021: what the static key of HVO costs heads, tails and base pages",
        ("pointer-branch", "fakehead", "pointer-select", "fakehead-select"),
        (
            Grid((9,), ("256K",), ("heads-aligned", "tails"), ("lookup", "chain")),
            Grid((2,), ("256K",), ("heads-unaligned",), ("lookup", "chain")),
            Grid((0,), ("256K",), ("random",), ("lookup", "chain")),
        ),
    ),
    "branch": Preset(
        "the mask with a branch, as a select and branchless, predictable and not",
        ("mask-branch", "mask-select", "branchless"),
        (
            Grid(
                (2, 9),
                ("16K", "256K"),
                ("heads", "tails", "scan", "zap", "random", "mixed:0.1", "mixed:0.5"),
                ("lookup", "chain"),
            ),
        ),
    ),
}


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
    processes: int | None = None
    rounds: int = DEFAULT_ROUNDS
    seed: int = 0
    cpu: int = 0
    struct_page_bytes: int = 64
    margin_cycles: float = 0.25

    def prepared(self) -> Preset:
        """The preset that was named, or the default, quick or full run."""
        if self.preset is not None:
            if self.preset not in PRESETS:
                raise variants.nearest(self.preset, PRESETS, "preset")
            return PRESETS[self.preset]
        grids = {"quick": QUICK_GRIDS, "default": DEFAULT_GRIDS, "full": FULL_GRIDS}[self.extent]
        return Preset(self.extent, DEFAULT_CONTENDERS, grids)

    def grids(self) -> Sequence[Grid]:
        """The prepared grids, or, once an axis is named, a product.

        The axes that were not named then take the first prepared grid's.
        """
        grids = self.prepared().grids
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

    def harness(variant: str, role: str, encoding_of: str) -> Cell:
        # On a plain memmap: the harness finds no heads, and may write anywhere.
        backing = reference.backing if reference.layout == "plain" else "2m"
        return Cell(Contender(variant, "plain", backing), role, numbers[encoding_of])

    cells.append(harness(variants.IDENTITY, "identity", reference.variant))
    if control:
        cells.append(harness(variants.CONTROL_REFERENCE, "control-reference", variants.CONTROL_REFERENCE))
        cells.append(harness(variants.CONTROL, "control", variants.CONTROL))
        # A contender that is the same cell serves as well.
        twin = dataclasses.replace(cells[-2], role="contender")
        if twin in cells:
            del cells[-2]
    return tuple(cells)


def _present(contenders: Sequence[Contender], order: int, probe: str, options: Options) -> list[Contender]:
    """The contenders that have a cell at this order; none without the reference."""
    found = [
        contender
        for contender in contenders
        if exists_at(contender.layout, order, options.struct_page_bytes)
        and not (PROBES[probe].writes_tails and contender.layout != "plain")
        # HVO treats a vmemmap; a model's memmap is one as its allocator gives it.
        and (options.memory_model is None or contender.layout == "plain")
    ]
    return found if found and found[0] == contenders[0] else []


def build(options: Options, levels: Levels, l3_reported: int, available_bytes: int | None) -> Plan:
    """The plan for these options on a machine with these caches and memory.

    Raises PagebenchError for names, orders and sizes that do not exist, for
    memmaps that do not fit, and where nothing is left to measure.
    """
    if options.memory_model is not None:
        alignment.find(options.memory_model)
    named = options.prepared().contenders if options.contenders is None else options.contenders
    contenders = _contenders(named, options.struct_page_bytes)
    if not contenders:
        raise PagebenchError("no contenders: name at least one, as in --contenders pointer,mask")
    known = variants.known(options.struct_page_bytes)
    timed = {
        name: known[name]
        for name in (*(c.variant for c in contenders), variants.CONTROL_REFERENCE, *variants.HARNESS)
    }
    groups: dict[tuple[Any, ...], Group] = {}
    missing: list[str] = []
    control_at: tuple[Any, ...] | None = None
    for grid in options.grids():
        _check_axes(grid)
        sizes = [footprint_bytes(text, levels, l3_reported) for text in grid.footprints]
        patterns = [Pattern.parse(text) for text in grid.patterns]
        for order, size, pattern, probe in product(grid.orders, sizes, patterns, grid.probes):
            if not pattern.exists_at(order) or (PROBES[probe].writes_tails and pattern.name != "heads"):
                missing.append(f"{probe} over {pattern} at order {order}")
                continue
            present = _present(contenders, order, probe, options)
            if not present:
                missing.append(f"{contenders[0]} at order {order}")
                continue
            key = (probe, str(pattern), order, size)
            level = levels.of(size)
            control = (
                control_at is None and probe == "chain" and level == "l1" and options.memory_model is None
            )
            if control:
                control_at = key
            cells = _cells(present, variants.encodings(timed, order), control)
            # What is re-encoded is the memmap, which is a folio's at least.
            memmap = pattern.memmap_bytes(order, size, options.struct_page_bytes)
            shared = len({cell.encoding for cell in cells}) == 1 or memmap <= levels.shared_bytes
            groups.setdefault(key, Group(order, size, str(pattern), probe, level, shared, cells))
    if not groups:
        what = f" ({missing[0]} has no cell)" if missing else ""
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
        preset=options.preset,
        memory_model=options.memory_model,
    )
    largest = max(memmap_bytes(plan, group) for group in plan.groups)
    check_reach(largest)
    overhead = WORKER_OVERHEAD_BYTES + largest // plan.struct_page_bytes * WORKER_BYTES_PER_PAGE
    # Before anything is made that is as large.
    check_fits(sum(region_sizes(plan).values()) + overhead, available_bytes)
    mapped = [mapped_frames(plan, group) for group in plan.groups]
    frames = max(frames for frames, _ in mapped) * PAGE_SIZE
    if plan.memory_model is not None:
        frames += max(memmap_bytes(plan, group) * len(places_of(group)) for group in plan.groups)
    check_fits(sum(region_sizes(plan).values()) + frames + overhead, available_bytes)
    check_map_count(max(mappings for _, mappings in mapped))
    return plan


def _control_group(
    options: Options, levels: Levels, reference: Contender, timed: Mapping[str, core.Variant]
) -> Group:
    """The positive control in a group of its own, where no L1 chain is asked for."""
    size = levels.l1_bytes // 2
    # Base pages have no tails for a memory model to misplace.
    order = 2 if options.memory_model is None else 0
    cells = _cells([reference], variants.encodings(timed, order), control=True)
    return Group(order, size, "random", "chain", "l1", True, cells, "control")


# Where a cell's memmap is: layout, backing, and which of several alike.
Place = tuple[str, str, str]


def place_of(cell: Cell, shared: bool) -> Place:
    """Which of a group's memmaps a cell looks up in.

    One for all of a layout and backing where frames are shared; otherwise one
    per encoding, "0", "1", …, and one for the A/A copy.
    """
    role = "0" if shared else "aa" if cell.role == "aa" else str(cell.encoding)
    return cell.contender.layout, cell.contender.backing, role


def places_of(group: Group) -> list[Place]:
    """Every memmap of a group."""
    return sorted({place_of(cell, group.shared) for cell in group.cells})


def memmap_bytes(plan: Plan, group: Group) -> int:
    """Bytes of each memmap of a group."""
    pattern = Pattern.parse(group.pattern)
    return pattern.memmap_bytes(group.order, group.footprint_bytes, plan.struct_page_bytes)


def folio_map(plan: Plan, group: Group) -> FolioMap:
    """The folios that a group's memmaps cover."""
    found = Pattern.parse(group.pattern).folio_map(group.order, group.footprint_bytes, plan.struct_page_bytes)
    if plan.memory_model is None:
        return found
    arranged = alignment.Arrangement(alignment.find(plan.memory_model), found, alignment.BASE_PAGES[0])
    return dataclasses.replace(found, arrangement=arranged.page_offsets)


def region_sizes(plan: Plan) -> dict[Place, int]:
    """Bytes of each memmap that a worker reserves once, for all groups: those not of a memfd."""
    sizes: dict[Place, int] = {}
    for group in plan.groups:
        needed = memmap_bytes(plan, group)
        for place in places_of(group):
            if place[1] != "memfd" and plan.memory_model is None:
                sizes[place] = max(sizes.get(place, 0), reserved_bytes(needed, place[1]))
    return sizes


def mapped_frames(plan: Plan, group: Group) -> tuple[int, int]:
    """Frames and mappings of a group's memmaps that are mapped from a memfd."""
    maps = [
        frame_map(layout, folio_map(plan, group))
        for layout, backing, _ in places_of(group)
        if backing == "memfd"
    ]
    return sum(int(m.frames.max()) + 1 for m in maps), sum(m.mappings for m in maps)
