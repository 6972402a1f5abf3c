"""Presets: questions with their contenders and axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pagebench.names import PROBES
from pagebench.plan.questions import SERIES, STATIC_KEY, contenders_of, of_family

# The first is the reference.  Layouts stand where they exist: from order 7 on.
DEFAULT_CONTENDERS = (*contenders_of(of_family(SERIES)), "pointer-select", "mask-select")
DEFAULT_ORDERS = (0, 2, 4, 9)
# 96M and not more: two HVO layouts of it fit vm.max_map_count as it comes.
DEFAULT_FOOTPRINTS = ("16K", "256K", "2M", "96M")


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
# What page orders, layouts and footprints do to caches; nothing is timed.
CACHE_GRIDS = (
    Grid(DEFAULT_ORDERS, DEFAULT_FOOTPRINTS, ("random",), ("chain",)),
    Grid((9,), ("64K", "1M", "8M"), ("random",), ("chain",)),
    # The same numbers of heads, farther and farther apart.
    *(
        Grid((order,), [str(heads * 64 << order) for heads in (64, 256, 1024)], ("heads",), ("flags",))
        for order in (0, 2, 4, 6, 9)
    ),
)
# A captured machine's folios; orders are its own.
MACHINE_GRIDS = (Grid((0,), ("256K", "2M", "96M"), ("random",), ("chain", "lookup")),)
# Pairs whose true differences are known, at each cache level.
SELFTEST_CONTENDERS = ("mask-select", "pointer-select")
SELFTEST_GRIDS = (
    Grid((9,), DEFAULT_FOOTPRINTS, ("random",), ("chain", "lookup")),
    Grid((9,), ("16K", "256K"), ("scan",), ("chain",)),
)
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
        contenders_of(of_family(STATIC_KEY)),
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
