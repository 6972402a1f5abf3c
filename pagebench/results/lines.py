"""The lines of a result file, typed: a header, then samplings.  What does not fit its type is damaged.

A *sampling* is one group in one process.  Numbers carry their unit in their key.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import msgspec

from pagebench import names
from pagebench.host.machine import Machine
from pagebench.names import LINE_BYTES
from pagebench.plan.groups import Plan

KIND = "pagebench"
SCHEMA = 3

# No clock and no counter comes near; sums of them still fit 64 bits.
Natural = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=1 << 53)]
Placement = Annotated[int, msgspec.Meta(ge=0, lt=LINE_BYTES)]
# Of clocks: from one tick in a microsecond to a thousand in a nanosecond.
TicksPerNs = Annotated[float, msgspec.Meta(ge=1e-3, le=1e3)]
CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Tool(msgspec.Struct, frozen=True):
    """Which pagebench wrote the file; ``commit`` is empty where nobody knows."""

    name: str
    version: str
    commit: str


class Compiler(msgspec.Struct, frozen=True):
    """What compiled the built-in variants."""

    name: str
    cflags: str


class Clock(msgspec.Struct, frozen=True):
    """``kind`` is "counter" or "gettime"; its step, and what a read costs."""

    kind: str
    granularity_ns: float
    cost_ns: float


class Calibration(msgspec.Struct, frozen=True):
    """The L3 that was there; ``latency_ns``: (footprint bytes, ns per lookup) pairs, growing.

    ``l3_half_life_ms``: half of what was not looked up for so long had left the L3.  None where it stays
    longer than anybody waited, or where no L3 was seen.
    """

    l3_measured_bytes: Natural
    latency_ns: tuple[tuple[Natural, float], ...]
    l3_half_life_ms: Annotated[float, msgspec.Meta(ge=0)] | None = None


class ProbeCode(msgspec.Struct, frozen=True):
    """A loop as it was timed: its form, the variant's own part in it, and the bytes of all, in hexadecimal.

    ``immovable`` says why it was not copied to drawn addresses; empty where it was.
    """

    form: str
    variant_instructions: Natural
    variant_bytes: Natural
    immovable: str
    code: str


class VariantCode(msgspec.Struct, frozen=True):
    """A variant's origin, and its loops by probe; ``source`` and ``cflags`` of those not built in."""

    commit: str
    subject: str
    version: str
    struct_page_bytes: Positive
    source: str
    cflags: str
    probes: Mapping[str, ProbeCode]


class Prediction(msgspec.Struct, frozen=True):
    """What loops should take by ``tool``, that takes the core for a ``cpu``: cycles of a turn.

    ``cycles``: by variant, then by probe; null of a loop with a way around.
    """

    tool: str
    cpu: str
    cycles: Mapping[str, Mapping[str, float | None]]

    @property
    def name(self) -> str:
        """Tool and core, for a title."""
        return f"{self.tool}, as {self.cpu}"


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked, where, and with what code; ``warnings`` are of the machine as the run began."""

    kind: str = KIND
    schema: int = SCHEMA
    tool: Tool
    created: str
    command: str
    plan: Plan
    machine: Machine
    warnings: tuple[str, ...]
    compiler: Compiler
    calibration: Calibration | None
    clock: Clock
    variants: Mapping[str, VariantCode]
    prediction: Prediction | None = None


class Sampling(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="sampling"):
    """One group in one process: raw samples, and what was obtained.

    ``ticks``: (cells, rounds), of batches of ``lookups`` (rounds).  ``add_chain_ticks``: (2, segments,
    rounds), of the ``add_chain_cycles`` dependent adds before and after each segment of a round;
    ``segment``: each cell's.  ``switches``: (cell, round) of batches into which a context switch fell.
    ``touched_bytes`` by layout; ``backing``: bytes obtained by backing, under each that was asked for.
    ``burn_in_rounds`` were not kept; ``steady``: whether times stood still behind them.
    ``copies``: at how many addresses each cell's loop ran; ``placements`` (cells, rounds): where in a line of
    64 bytes the copy began that ran.  ``counts``: hardware events per lookup.
    """

    process: Natural
    group: Natural
    ticks_per_ns: TicksPerNs
    touched_bytes: Mapping[str, Natural]
    backing: Mapping[str, Mapping[str, Natural]]
    lookups: tuple[Positive, ...]
    warm_up: Natural
    burn_in_rounds: Natural
    steady: bool
    ticks: tuple[tuple[Natural, ...], ...]
    add_chain_cycles: Positive
    add_chain_ticks: tuple[tuple[tuple[Natural, ...], ...], ...]
    segment: tuple[Natural, ...]
    switches: tuple[tuple[Natural, Natural], ...]
    copies: tuple[Positive, ...]
    placements: tuple[tuple[Placement, ...], ...]
    sampling_ns: Natural
    timed_ns: Natural
    encoding_ns: Natural
    counts: tuple[Mapping[str, float], ...]
    steal_ticks: Natural
    set_up_ns: Annotated[int, msgspec.Meta(ge=-(1 << 53), le=1 << 53)]


class Recalibration(msgspec.Struct, frozen=True, tag_field="kind", tag="recalibration"):
    """The L3 that was there when the last sampling of a session was finished."""

    calibration: Calibration


def check_fits(sampling: Sampling, plan: Plan) -> None:
    """Whether a sampling is one of the plan's.  Raises ValueError that says what does not fit."""
    too_many = sampling.process >= plan.processes and plan.target is None
    if sampling.group >= len(plan.groups) or too_many:
        raise ValueError("it is of a group or process that the plan does not have")
    cells = plan.groups[sampling.group].cells
    rounds, segments = len(sampling.lookups), 1 + max(sampling.segment, default=0)
    chain = [len(sampling.add_chain_ticks), *{len(side) for side in sampling.add_chain_ticks}]
    fits = {
        "rounds": rounds == plan.rounds
        and {rounds} == {len(row) for row in (*sampling.ticks, *sampling.placements)},
        "cells": {len(cells)}
        == {
            len(of_cells)
            for of_cells in (
                sampling.ticks,
                sampling.segment,
                sampling.copies,
                sampling.placements,
                sampling.counts,
            )
        },
        "add chains": chain == [2, segments]
        and {rounds} == {len(row) for side in sampling.add_chain_ticks for row in side},
        "context switches": all(cell < len(cells) and at < rounds for cell, at in sampling.switches),
        "layouts": all(cell.contender.layout in sampling.touched_bytes for cell in cells),
        "names": not any(CONTROL_CHARACTERS.search(event) for counts in sampling.counts for event in counts),
        "backings": all(
            backing in sampling.backing
            and (backing == "memfd" or {"4k", "2m"} <= {*sampling.backing[backing]})
            for backing in {cell.contender.backing for cell in cells}
        ),
    }
    if wrong := [what for what, fit in fits.items() if not fit]:
        raise ValueError(f"its {', '.join(wrong)} do not fit the plan")


def check_roles(plan: Plan) -> None:
    """Whether every group has what is compared in it.  Raises ValueError."""
    for group in plan.groups:
        roles = [cell.role for cell in group.cells]
        known = {"control": "control-reference", "control-eighth": "control-reference"}
        twins = {
            dataclasses.replace(c.contender, variant=names.NULL_REFERENCE)
            for c in group.cells
            if c.role == "null"
        }
        if twins - {c.contender for c in group.cells}:
            raise ValueError(f"a group's null has nothing to be compared with ({group.title})")
        missing = {known[role] for role in roles if role in known} - set(roles)
        if roles[0] != "contender" or roles.count("aa") != 1 or roles.count("identity") != 1 or missing:
            raise ValueError(f"a group lacks cells ({group.title})")
        if group.probe not in names.PROBES:
            raise ValueError(f"there is no probe {group.probe[:40]!r}")


def check_variants(header: Header) -> None:
    """Whether it says what every cell's code is.  Raises ValueError."""
    for group in header.plan.groups:
        for cell in group.cells:
            variant = header.variants.get(cell.contender.variant)
            if variant is None or group.probe not in variant.probes:
                raise ValueError(f"the code of {cell.contender.variant[:40]} for {group.probe} is missing")
    for variant in header.variants.values():
        for probe in variant.probes.values():
            bytes.fromhex(probe.code)


def check_printable(decoded: Any) -> None:
    """Refuse text that would move a terminal's cursor.  Raises ValueError with what it is."""
    for text in _texts(decoded):
        if CONTROL_CHARACTERS.search(text):
            raise ValueError(f"control characters in {text[:40]!r}")


def _texts(decoded: Any) -> Iterator[str]:
    if isinstance(decoded, str):
        yield decoded
    elif isinstance(decoded, dict):
        for key, value in decoded.items():
            yield key
            yield from _texts(value)
    elif isinstance(decoded, list):
        for value in decoded:
            yield from _texts(value)
