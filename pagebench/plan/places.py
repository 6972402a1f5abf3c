"""Where a cell's memmap is, and what memory that takes."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from pagebench import names
from pagebench.memmap import arrangement, models
from pagebench.memmap.folios import FolioMap, reserved_bytes
from pagebench.memmap.layouts import frame_map
from pagebench.memmap.patterns import Pattern
from pagebench.names import PAGE_SIZE
from pagebench.plan import machine_folios
from pagebench.plan.groups import Cell, Group, Plan
from pagebench.units import MIB

# What a worker takes beside its memmaps, roughly: a pattern's window and its
# schedule, and for each page of the largest memmap pfn, head and offsets.
WORKER_OVERHEAD_BYTES = 96 * MIB
WORKER_BYTES_PER_PAGE = 64


class Place(NamedTuple):
    """Which memmap of a group a cell looks up in: ``copy`` tells those apart that are otherwise alike."""

    layout: str
    backing: str
    copy: str


def place_of(cell: Cell, shared: bool) -> Place:
    """Which of a group's memmaps a cell looks up in.

    One for all of a layout and backing where frames are shared; otherwise one
    per encoding, "0", "1", …, and one for the A/A copy.
    """
    copy = "0" if shared else "aa" if cell.role == "aa" else str(cell.tail_words)
    return Place(cell.contender.layout, cell.contender.backing, copy)


def places_of(group: Group) -> list[Place]:
    """Every memmap of a group."""
    return sorted({place_of(cell, group.shared) for cell in group.cells})


def of_machine(plan: Plan, group: Group) -> bool:
    """Whether its folios are a machine's; the control's are its own."""
    return plan.folios is not None and group.purpose == "compare"


def memmap_bytes(plan: Plan, group: Group) -> int:
    """Bytes of each memmap of a group."""
    if of_machine(plan, group):
        return folio_map(plan, group).bytes
    pattern = Pattern.parse(group.pattern)
    return pattern.memmap_bytes(group.order, group.footprint_bytes, plan.struct_page_bytes)


def folio_map(plan: Plan, group: Group) -> FolioMap:
    """The folios that a group's memmaps cover."""
    pattern, size = Pattern.parse(group.pattern), plan.struct_page_bytes
    if plan.folios is not None and of_machine(plan, group):
        return machine_folios.folio_map(plan.folios, group.footprint_bytes, size)
    in_a_row = pattern.folio_map(group.order, group.footprint_bytes, size)
    if plan.memory_model is None:
        return in_a_row
    arranged = arrangement.Arrangement(models.find(plan.memory_model), in_a_row, models.BASE_PAGES[0])
    return dataclasses.replace(in_a_row, arrangement=arranged.page_offsets)


def region_sizes(plan: Plan) -> dict[Place, int]:
    """Bytes of each memmap that a worker reserves once, for all groups: those not of a memfd."""
    sizes: dict[Place, int] = {}
    for group in plan.groups:
        needed = memmap_bytes(plan, group)
        for place in places_of(group):
            if not names.BACKINGS[place.backing].by_frame and plan.memory_model is None:
                sizes[place] = max(sizes.get(place, 0), reserved_bytes(needed, place.backing))
    return sizes


def reserved_memory_bytes(plan: Plan) -> int:
    """Bytes that a worker takes but for memmaps that are a group's own."""
    largest = max(memmap_bytes(plan, group) for group in plan.groups)
    overhead = WORKER_OVERHEAD_BYTES + largest // plan.struct_page_bytes * WORKER_BYTES_PER_PAGE
    return sum(region_sizes(plan).values()) + overhead


def memory_bytes(plan: Plan) -> int:
    """Bytes that a worker takes at most."""
    frames = max(mapped_frames(plan, group)[0] for group in plan.groups) * PAGE_SIZE
    if plan.memory_model is not None:
        frames += max(memmap_bytes(plan, group) * len(places_of(group)) for group in plan.groups)
    return reserved_memory_bytes(plan) + frames


def mapped_frames(plan: Plan, group: Group) -> tuple[int, int]:
    """Frames and mappings of a group's memmaps that are mapped from a memfd."""
    maps = [
        frame_map(place.layout, folio_map(plan, group))
        for place in places_of(group)
        if names.BACKINGS[place.backing].by_frame
    ]
    return sum(int(m.frames.max()) + 1 for m in maps), sum(m.mappings for m in maps)
