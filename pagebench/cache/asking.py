"""From what was asked to what is simulated: a plan, and a geometry for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from pagebench.cache import geometry, simulation
from pagebench.errors import PagebenchError
from pagebench.measure.contenders import Outside
from pagebench.measure.preparation import prepare
from pagebench.measure.progress import progress_bar
from pagebench.plan.groups import Levels
from pagebench.report.cache import Behaviour
from pagebench.results.simulated import Geometry, Simulated


def behaviour(
    asked: Mapping[str, Any], outside: Outside, cpu: str | None, changes: Mapping[str, Any]
) -> Behaviour:
    """Simulate what was asked, fields of Options, on this machine's caches or on those of ``cpu``.

    ``changes``: fields of Geometry that the user set.  Raises PagebenchError for what cannot be simulated.
    """
    asked = {"seed": 0, **asked}
    named = None if cpu is None else msgspec.structs.replace(geometry.find(cpu), **changes)
    prepared = prepare(asked, outside, None if named is None else levels_of(named))
    calibration = prepared.calibration
    measured = None if calibration is None else calibration.l3_measured_bytes
    found = named or msgspec.structs.replace(geometry.here(prepared.machine, measured), **changes)
    simulated = simulate(prepared.plan, geometry.check(found))
    return Behaviour(cpu_model=prepared.machine.cpu_model, plan=prepared.plan, simulated=simulated)


def simulate(plan: Any, found: Geometry) -> Simulated:
    """With a bar of progress; what runs out of memory is said in a line."""
    try:
        with progress_bar("simulating") as progress:
            return simulation.simulate(plan, found, progress)
    except OSError as error:
        raise PagebenchError(f"{error.strerror}: choose smaller footprints") from error


def levels_of(found: Geometry) -> Levels:
    """The sizes that decide what level a footprint stays in."""
    sizes = [cache.bytes for cache in found.caches]
    return Levels(*sizes, *[sizes[-1]] * (3 - len(sizes)))
