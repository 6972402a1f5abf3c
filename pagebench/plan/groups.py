"""The plan of a run: contenders, cells, groups.  Pure data: needs no memmap and no compiled core."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pagebench import names
from pagebench.errors import PagebenchError
from pagebench.units import format_size
from pagebench.variants import loaded


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

    @classmethod
    def parse(cls, text: str) -> Contender:
        """From ``mask``, ``mask@plain`` or ``mask@plain:4k``.  Raises PagebenchError."""
        variant, _, place = text.strip().partition("@")
        layout, _, backing = place.partition(":")
        layout = layout or names.PLAIN
        row = names.find_layout(layout)
        contender = cls(variant, layout, backing or row.default_backing)
        by_frame = names.find_backing(contender.backing).by_frame
        if row.aliased and not by_frame:
            raise PagebenchError(
                f"{text}: layouts with aliases are mapped from a memfd, leave the backing out"
            )
        return contender

    def __str__(self) -> str:
        place = f"{self.variant}@{self.layout}"
        default = names.find_layout(self.layout).default_backing
        return place if self.backing == default else f"{place}:{self.backing}"


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
    # Variants from elsewhere than the core.
    objects: tuple[loaded.Loaded, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists, contenders spelled out."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """The inverse of to_json.  Raises KeyError, TypeError, ValueError for foreign data."""
        groups = tuple(
            Group(
                **{
                    **g,
                    "cells": tuple(
                        Cell(_known(Contender(**c["contender"])), c["role"], c["encoding"])
                        for c in g["cells"]
                    ),
                }
            )
            for g in data["groups"]
        )
        objects = tuple(loaded.Loaded(**one) for one in data["objects"])
        return cls(**{**data, "groups": groups, "levels": Levels(**data["levels"]), "objects": objects})

    @property
    def variant_names(self) -> tuple[str, ...]:
        """Every variant that is timed, in the order of the groups."""
        return tuple(dict.fromkeys(cell.contender.variant for group in self.groups for cell in group.cells))

    @property
    def cell_count(self) -> int:
        """Cells in all groups together."""
        return sum(len(group.cells) for group in self.groups)


def _known(contender: Contender) -> Contender:
    if contender.layout not in names.LAYOUTS or contender.backing not in names.BACKINGS:
        raise ValueError(f"unknown layout or backing: {contender.layout!r}, {contender.backing!r}")
    return contender
