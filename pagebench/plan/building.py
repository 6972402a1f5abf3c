"""From options to a plan: which cells answer what was asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any, Literal

import numpy as np

from pagebench import core, names
from pagebench.errors import PagebenchError
from pagebench.memmap import models
from pagebench.memmap.folios import check_fits, check_reach
from pagebench.memmap.layouts import check_map_count
from pagebench.memmap.patterns import NoPagesError, Pattern, draw
from pagebench.names import MAX_FOLIO_ORDER, ORDERS
from pagebench.plan import machine_folios
from pagebench.plan.groups import Cell, Contender, Group, Levels, Plan, Role
from pagebench.plan.options import Options, footprint_bytes
from pagebench.plan.places import mapped_frames, memmap_bytes, memory_bytes, reserved_memory_bytes
from pagebench.plan.presets import Grid
from pagebench.units import format_size
from pagebench.variants import registry

Control = Literal["control-reference", "control", "control-eighth"]


def _check_axes(grid: Grid) -> None:
    for order in grid.orders:
        if order not in ORDERS:
            raise PagebenchError(f"there is no order {order}: folios have orders from 0 to {MAX_FOLIO_ORDER}")
    for probe in grid.probes:
        if probe not in names.PROBES:
            raise names.nearest(probe, names.PROBES, "probe")


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


def _cells(
    contenders: Sequence[Contender], numbers: Mapping[str, int], controls: Sequence[Control], null: bool
) -> tuple[Cell, ...]:
    """A group's: the contenders, and what the harness measures beside them."""
    reference = contenders[0]
    cells = [Cell(contender, "contender", numbers[contender.variant]) for contender in contenders]
    cells.append(Cell(reference, "aa", numbers[reference.variant]))

    def harness(variant: str, role: Role, encoding_of: str) -> Cell:
        # On a plain memmap: the harness finds no heads, and may write anywhere.
        own = not names.LAYOUTS[reference.layout].aliased
        backing = reference.backing if own else names.LAYOUTS[names.PLAIN].default_backing
        return Cell(Contender(variant, names.PLAIN, backing), role, numbers[encoding_of])

    cells.append(harness(names.IDENTITY, "identity", reference.variant))
    cells += [harness(control, control, control) for control in controls]
    if null and numbers[names.ENCODING_NULL] != numbers[names.NULL_REFERENCE]:
        null_reference = harness(names.NULL_REFERENCE, "null-reference", names.NULL_REFERENCE)
        # A contender that is the same cell serves as well.
        if dataclasses.replace(null_reference, role="contender") not in cells:
            cells.append(null_reference)
        cells.append(harness(names.ENCODING_NULL, "null", names.ENCODING_NULL))
    return tuple(cells)


def _machine_orders(options: Options, size: int, pattern: Pattern) -> tuple[int, int]:
    """The largest order of the machine's folios, and of those that HVO optimizes.  Raises PagebenchError."""
    assert options.folios is not None
    if pattern.row.folios == "slabs":
        raise PagebenchError(f"the pattern {pattern} has folios of its own: leave it or --folios out")
    found = machine_folios.folio_map(options.folios, size, options.struct_page_bytes)
    # Which pages there are depends on the window.
    draw(pattern, found, size, 1, np.random.default_rng(0))
    return machine_folios.largest_order(found), machine_folios.largest_order(found, optimised=True)


def _take_turns(contenders: Sequence[Contender], numbers: Mapping[str, int]) -> bool:
    """Whether contenders differ in their memmap or in the words in it."""
    return len({(c.layout, c.backing, numbers[c.variant]) for c in contenders}) > 1


def _present(
    contenders: Sequence[Contender], order: int, probe: core.Probe, options: Options
) -> list[Contender]:
    """The contenders that have a cell where HVO's folios are of this order; none without the reference."""
    # Aliased tails are read-only; and a model's memmap is one as its allocator gives it, before HVO.
    own_frames = probe.writes_tails or options.memory_model is not None
    present = [
        contender
        for contender in contenders
        if (layout := names.LAYOUTS[contender.layout]).exists_at(order, options.struct_page_bytes)
        and not (own_frames and layout.aliased)
    ]
    return present if present and present[0] == contenders[0] else []


def _controls(
    options: Options, probe: str, level: names.Level, pattern: str, first: bool, inside_l2: bool
) -> tuple[Control, ...]:
    """What of the controls a group has: in a run the first chain in L1, in a self-test every one inside L2.

    That of one page in eight is for pages that come one after the other.
    """
    if probe != "chain" or options.memory_model is not None:
        return ()
    if options.extent == "selftest" and inside_l2:
        eighth: tuple[Control, ...] = ("control-eighth",) if pattern == "scan" else ()
        return ("control-reference", "control", *eighth)
    return ("control-reference", "control") if first and level == "l1" else ()


def build(options: Options, levels: Levels, l3_reported: int, available_bytes: int | None) -> Plan:
    """The plan for these options on a machine with these caches and memory.

    Raises PagebenchError for names, orders and sizes that do not exist, for
    memmaps that do not fit, and where nothing is left to measure.
    """
    if options.memory_model is not None:
        models.find(options.memory_model)
    if options.folios is not None and (options.orders is not None or options.memory_model is not None):
        what = "--orders" if options.orders is not None else "--memory-model"
        raise PagebenchError(f"--folios brings orders and memmap of a machine: leave {what} out")
    named = options.prepared().contenders if options.contenders is None else options.contenders
    contenders = _contenders(named, options)
    if not contenders:
        raise PagebenchError("no contenders: name at least one, as in --contenders pointer,mask")
    known = registry.known(options.struct_page_bytes, options.objects)
    timed = {
        name: known[name]
        for name in (
            *(c.variant for c in contenders),
            names.NULL_REFERENCE,
            *names.HARNESS,
        )
    }
    probes = timed[names.IDENTITY].probes  # what they do is the same for all variants
    groups: dict[tuple[Any, ...], Group] = {}
    missing: list[str] = []
    control_at: tuple[Any, ...] | None = None
    for grid in options.grids():
        _check_axes(grid)
        sizes = [footprint_bytes(text, levels, l3_reported) for text in grid.footprints]
        if options.folios is not None:
            whole = machine_folios.whole_bytes(options.folios, options.struct_page_bytes)
            sizes = [min(size, whole) for size in sizes]
        patterns = [Pattern.parse(text) for text in grid.patterns]
        for asked, size, pattern, probe in product(grid.orders, sizes, patterns, grid.probes):
            order = optimised_order = asked
            if options.folios is not None:
                try:
                    order, optimised_order = _machine_orders(options, size, pattern)
                except NoPagesError as error:
                    missing.append(f"{probe} over {format_size(size)}: {error}")
                    continue
            if not pattern.exists_at(order) or (probes[probe].writes_tails and pattern.name != "heads"):
                missing.append(f"{probe} over {pattern} at order {order}")
                continue
            present = _present(contenders, optimised_order, probes[probe], options)
            if not present:
                missing.append(f"{contenders[0]} at order {order}")
                continue
            key = (probe, str(pattern), order, size)
            level = levels.of(size)
            inside_l2 = size <= levels.l2_bytes // 2
            controls = _controls(options, probe, level, str(pattern), control_at is None, inside_l2)
            if controls:
                control_at = key
            words = registry.tail_words(timed, order)
            # A memory model may misplace the null's own tails.
            null = options.memory_model is None and _take_turns(present, words)
            cells = _cells(present, words, controls, null)
            group = Group(order, size, str(pattern), probe, level, True, cells)
            shared = _shares_frames(group, levels, options.struct_page_bytes, options.folios is not None)
            groups.setdefault(key, dataclasses.replace(group, shared=shared))
    if not groups:
        what = f" ({missing[0]}{'' if ': ' in missing[0] else ' has no cell'})" if missing else ""
        raise PagebenchError(f"nothing to measure{what}: name orders, footprints, patterns and probes")
    if control_at is None:
        groups["control",] = _control_group(options, levels, contenders[0], timed)
    plan = Plan(
        groups=tuple(groups.values()),
        reference=str(contenders[0]),
        struct_page_bytes=options.struct_page_bytes,
        processes=options.fewest_processes(),
        rounds=options.rounds,
        seed=options.seed,
        cpu=options.cpu,
        levels=levels,
        margin_cycles=options.margin_cycles,
        preset=options.preset,
        memory_model=options.memory_model,
        objects=tuple(one for one in options.objects if one.name in timed),
        target=options.target(),
        folios=options.folios,
    )
    _check_memory(plan, available_bytes)
    return plan


def _check_memory(plan: Plan, available_bytes: int | None) -> None:
    """Whether its memmaps can be had here.  Raises PagebenchError."""
    check_reach(max(memmap_bytes(plan, group) for group in plan.groups))
    # Before anything is made that is as large.
    check_fits(reserved_memory_bytes(plan), available_bytes)
    check_fits(memory_bytes(plan), available_bytes)
    check_map_count(max(mapped_frames(plan, group)[1] for group in plan.groups))


def _shares_frames(group: Group, levels: Levels, struct_page_bytes: int, of_machine: bool) -> bool:
    """Whether contenders of all encodings take turns on the same frames."""
    if len({cell.tail_words for cell in group.cells}) == 1:
        return True
    # What is re-encoded is the memmap, which is a folio's at least.
    memmap = group.footprint_bytes
    if not of_machine:
        memmap = Pattern.parse(group.pattern).memmap_bytes(group.order, memmap, struct_page_bytes)
    return memmap <= levels.shared_bytes


def rebuild(plan: Plan, levels: Levels, available_bytes: int | None, **changes: Any) -> Plan:
    """A plan of another machine for this one's caches: the same cells; ``changes``: other fields of it.

    Raises PagebenchError where its memmaps cannot be had here.
    """
    groups = tuple(
        dataclasses.replace(
            group,
            level=levels.of(group.footprint_bytes),
            shared=_shares_frames(group, levels, plan.struct_page_bytes, plan.folios is not None),
        )
        for group in plan.groups
    )
    rebuilt = dataclasses.replace(plan, groups=groups, levels=levels, **changes)
    _check_memory(rebuilt, available_bytes)
    return rebuilt


def _control_group(
    options: Options, levels: Levels, reference: Contender, timed: Mapping[str, core.Variant]
) -> Group:
    """The positive control in a group of its own, where no L1 chain is asked for."""
    size = levels.l1_bytes // 2
    # Base pages have no tails for a memory model to misplace.
    order = 2 if options.memory_model is None else 0
    words = registry.tail_words(timed, order)
    cells = _cells([reference], words, ("control-reference", "control"), null=False)
    return Group(order, size, "random", "chain", "l1", True, cells, "control")
