"""From what was asked to a plan for this machine: variants loaded, the L3 measured, all of it checked."""

from __future__ import annotations

import dataclasses
import os
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from pagebench import core
from pagebench.errors import PagebenchError
from pagebench.host import machine, resources
from pagebench.measure import calibration
from pagebench.measure.contenders import Outside
from pagebench.plan import groups
from pagebench.plan.building import build, rebuild
from pagebench.plan.options import Options
from pagebench.results.lines import Calibration
from pagebench.units import KIB, MIB

# Where a machine does not say what caches it has.
ASSUMED_L1, ASSUMED_L2, ASSUMED_L3 = 32 * KIB, MIB, 32 * MIB


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """A plan, on which machine, and the L3 as measured where a cell is beyond L2."""

    plan: groups.Plan
    machine: machine.Machine
    calibration: Calibration | None


def prepare(asked: Mapping[str, Any], outside: Outside, levels: groups.Levels | None = None) -> Prepared:
    """The plan for what was asked, fields of Options that the user set; the L3 is measured for it.

    ``levels``: caches that are another machine's; nothing is measured then.  Raises PagebenchError for what
    cannot be measured.
    """
    options = Options(**{"seed": secrets.randbits(32), "cpu": machine.default_cpu(), **asked})
    objects, suggested = outside.load(options.struct_page_bytes)
    named = options.contenders or ()
    options = dataclasses.replace(
        options, objects=objects, contenders=options.contenders or suggested or None
    )
    check_cpu(options.cpu)
    described = machine.describe(options.cpu)
    reported = levels or reported_levels(described)
    available = resources.available_bytes()
    measured = None
    try:
        # A plan on what is reported first: what is wrong is said at once.
        draft = build(options, reported, reported.l3_bytes, available)
        _check_timed(named, draft)
        if levels is None and any(group.level in ("l3", "dram") for group in draft.groups):
            measured = calibration.measure_l3(options.cpu, reported)
            levels = dataclasses.replace(reported, l3_bytes=measured.l3_measured_bytes)
            draft = build(options, levels, reported.l3_bytes, available)
    except OSError as error:
        raise PagebenchError(f"{error.strerror}: choose another --cpu or smaller footprints") from error
    return Prepared(draft, described, measured)


def prepare_again(plan: groups.Plan, cpu: int, **changes: Any) -> Prepared:
    """The plan of another run for this machine; ``changes``: fields of it.

    Raises PagebenchError for what cannot be measured here.
    """
    check_cpu(cpu)
    described = machine.describe(cpu)
    levels, measured = reported_levels(described), None
    available = resources.available_bytes()
    try:
        if any(levels.of(group.footprint_bytes) in ("l3", "dram") for group in plan.groups):
            measured = calibration.measure_l3(cpu, levels)
            levels = dataclasses.replace(levels, l3_bytes=measured.l3_measured_bytes)
    except OSError as error:
        raise PagebenchError(f"{error.strerror}: choose another --cpu") from error
    return Prepared(rebuild(plan, levels, available, cpu=cpu, **changes), described, measured)


def reported_levels(described: machine.Machine) -> groups.Levels:
    """The caches as the machine reports them."""
    caches = described.caches
    return groups.Levels(
        caches.l1d_bytes or ASSUMED_L1, caches.l2_bytes or ASSUMED_L2, caches.l3_bytes or ASSUMED_L3
    )


def _check_timed(named: Sequence[str], plan: groups.Plan) -> None:
    """Whoever names a contender wants it timed."""
    timed = {cell.contender for group in plan.groups for cell in group.cells}
    for contender in map(groups.Contender.parse, named):
        if contender not in timed:
            raise PagebenchError(
                f"{contender} exists at none of these orders and probes: choose other ones, or leave it out"
            )


def check_cpu(cpu: int) -> None:
    """Refuse, before anything is written, a CPU that workers could not be pinned to."""
    allowed = os.sched_getaffinity(0)
    try:
        core.pin(cpu)
    except (OSError, OverflowError):
        usable = ", ".join(map(str, sorted(allowed)))
        raise PagebenchError(f"there is no CPU {cpu} to run on: choose a --cpu of {usable}") from None
    finally:
        os.sched_setaffinity(0, allowed)
