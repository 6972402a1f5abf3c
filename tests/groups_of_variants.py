"""Groups of built-in variants, told apart by the words that these really write."""

from __future__ import annotations

import dataclasses

from pagebench import core
from pagebench.plan.groups import Cell, Contender, Group
from pagebench.units import KIB
from pagebench.variants import registry

NAMES = sorted(core.built_in_variants())


def group_of(
    contenders: list[Contender],
    order: int,
    size: int = 64,
    shared: bool = True,
    probe: str = "lookup",
    footprint: int = 64 * KIB,
) -> Group:
    numbers = registry.tail_words(core.built_in_variants(size), order)
    cells = [Cell(contender, "contender", numbers[contender.variant]) for contender in contenders]
    cells.append(dataclasses.replace(cells[0], role="aa"))
    return Group(order, footprint, "random", probe, "l2", shared, tuple(cells))


def every(layout: str = "plain", backing: str = "4k") -> list[Contender]:
    return [Contender(name, layout, backing) for name in NAMES]
