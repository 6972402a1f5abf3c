"""From options to a plan: what there is to ask for, and which cells answer it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from pagebench import core, names
from pagebench.errors import PagebenchError
from pagebench.memmap import models
from pagebench.memmap.folios import MAX_FOLIO_ORDER, check_fits, check_reach
from pagebench.memmap.layouts import check_map_count, exists_at
from pagebench.memmap.patterns import Pattern
from pagebench.names import PAGE_SIZE
from pagebench.plan import (
    Cell,
    Contender,
    Group,
    Levels,
    Plan,
    mapped_frames,
    memmap_bytes,
    places_of,
    region_sizes,
)
from pagebench.probes import PROBES
from pagebench.units import KIB, MIB, parse_size
from pagebench.variants import loaded, registry

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
# What a worker takes beside its memmaps, roughly: a pattern's window and its
# schedule, and for each page of the largest memmap pfn, head and offsets.
WORKER_OVERHEAD_BYTES = 96 * MIB
WORKER_BYTES_PER_PAGE = 64


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
    objects: tuple[loaded.Loaded, ...] = ()
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
                raise names.nearest(self.preset, PRESETS, "preset")
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
        raise names.nearest(text, named, "footprint")
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
            raise names.nearest(probe, PROBES, "probe")


def _contenders(texts: Iterable[str], options: Options) -> list[Contender]:
    contenders = [Contender.parse(text) for text in texts]
    for contender in contenders:
        registry.find(contender.variant, options.struct_page_bytes, options.objects)
        if contender.variant in names.HARNESS:
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

    cells.append(harness(names.IDENTITY, "identity", reference.variant))
    if control:
        cells.append(harness(names.CONTROL_REFERENCE, "control-reference", names.CONTROL_REFERENCE))
        cells.append(harness(names.CONTROL, "control", names.CONTROL))
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
        models.find(options.memory_model)
    named = options.prepared().contenders if options.contenders is None else options.contenders
    contenders = _contenders(named, options)
    if not contenders:
        raise PagebenchError("no contenders: name at least one, as in --contenders pointer,mask")
    known = registry.known(options.struct_page_bytes, options.objects)
    timed = {
        name: known[name]
        for name in (*(c.variant for c in contenders), names.CONTROL_REFERENCE, *names.HARNESS)
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
            cells = _cells(present, registry.encodings(timed, order), control)
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
        objects=tuple(one for one in options.objects if one.name in timed),
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
    cells = _cells([reference], registry.encodings(timed, order), control=True)
    return Group(order, size, "random", "chain", "l1", True, cells, "control")
