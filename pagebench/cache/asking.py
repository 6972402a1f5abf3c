"""From what was asked to what is simulated: a plan and a geometry for it, or a run's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from pagebench import names, tool
from pagebench.cache import geometry, simulation
from pagebench.errors import PagebenchError
from pagebench.host import machine
from pagebench.measure import calibration
from pagebench.measure.contenders import Outside
from pagebench.measure.preparation import prepare
from pagebench.measure.progress import progress_bar
from pagebench.measure.timed_code import timed_code
from pagebench.plan.groups import Levels, Plan
from pagebench.report.cache import Behaviour
from pagebench.results import result_file, summarise
from pagebench.results.lines import Calibration, Tool, VariantCode
from pagebench.results.simulated import Geometry, Simulated
from pagebench.units import format_size

Changes = Mapping[str, Any]
# Of an L3 that moved: another one.
FAR = 2


def behaviour(asked: Mapping[str, Any], outside: Outside, cpu: str | None, changes: Changes) -> Behaviour:
    """Simulate what was asked, fields of Options, on this machine's caches or on those of ``cpu``.

    ``changes``: fields of Geometry that the user set.  Raises PagebenchError for what cannot be simulated.
    """
    named = None if cpu is None else geometry.find(cpu)
    prepared = prepare({"seed": 0, **asked}, outside, None if named is None else levels_of(named))
    found = _changed(named or _here(prepared.machine, prepared.calibration), changes)
    return Behaviour(
        tool=Tool(**tool.identity()),
        machine=prepared.machine,
        plan=prepared.plan,
        forms=_forms(timed_code(prepared.plan), prepared.plan),
        simulated=_simulate(prepared.plan, found),
    )


def beside(path: Path, cpu: str | None, changes: Changes) -> Behaviour:
    """What was measured by a run, explained by the caches of the machine that it was measured on.

    Raises PagebenchError where this is not the machine code that was timed.
    """
    run = result_file.read(path)
    if not run.samples:
        raise PagebenchError(f"{path} holds no finished group yet: go on with `run --resume {path}`")
    warnings = _differences(run.header.machine)
    if cpu is not None:
        warnings.append(f"the caches are of {cpu}, the times another CPU's: the rest says nothing")
    began, ended = (_l3(one) for one in (run.header.calibration, run.recalibration))
    if began and ended and max(began, ended) > FAR * min(began, ended):
        warnings.append(
            f"the L3 went from {format_size(began)} to {format_size(ended)} in this run: beyond L2 no one "
            "size of it explains all"
        )
    simulated = run.simulated
    if simulated is None or cpu is not None or changes:
        if timed_code(run.plan) != run.header.variants:
            raise PagebenchError(f"{path} was measured with other machine code (rebuilt since?): run again")
        found = geometry.find(cpu) if cpu is not None else _of_run(run)
        simulated = _simulate(run.plan, _changed(found, changes))
    summary = summarise.summarise(dataclasses.replace(run, simulated=simulated))
    return Behaviour(
        tool=summary.tool,
        machine=summary.machine,
        plan=run.plan,
        forms=_forms(run.header.variants, run.plan),
        simulated=simulated,
        explanation=summary.explanation,
        warnings=tuple(warnings),
    )


def _forms(codes: Mapping[str, VariantCode], plan: Plan) -> dict[str, dict[str, str]]:
    """The forms of the contenders' tail tests, by variant and probe."""
    contenders = {
        cell.contender.variant for group in plan.groups for cell in group.cells if cell.role == "contender"
    }
    return {
        name: {probe: code.form for probe, code in variant.probes.items()}
        for name, variant in codes.items()
        if name in contenders
    }


def into_file(path: Path) -> None:
    """Simulate what a run measured, and append that to its file; what cannot be simulated is said there."""
    run = result_file.read(path)
    if run.simulated is not None or not run.samples:
        return
    simulated = _simulate(run.plan, _of_run(run))
    writer = result_file.Writer.resume(run)
    try:
        writer.append(simulated)
    finally:
        writer.close()


def _differences(measured_on: machine.Machine) -> list[str]:
    """What of the machine is not as it was."""
    here = machine.describe(machine.default_cpu())
    if measured_on.cpu_model == here.cpu_model and measured_on.caches == here.caches:
        return []
    return [f"measured on another machine ({measured_on.cpu_model}), whose caches are simulated"]


def _l3(calibrated: Calibration | None) -> int | None:
    return None if calibrated is None else calibrated.l3_measured_bytes


def _of_run(run: result_file.Run) -> Geometry:
    """Of the L3 that was measured when a run began and when it ended, the smaller: so much there was."""
    measured = [one for one in (run.header.calibration, run.recalibration) if one is not None]
    return _here(run.header.machine, min(measured, key=lambda one: one.l3_measured_bytes, default=None))


def _here(described: machine.Machine, calibrated: Calibration | None) -> Geometry:
    """The geometry of a machine; of another one than this as far as its description goes."""
    measured, reported = _l3(calibrated), described.caches.l3_bytes
    if measured is not None and reported:
        measured = min(measured, reported)
    if _differences(described):
        return geometry.elsewhere(described, measured)
    try:
        huge_pages: names.HugePages = "whole" if calibration.huge_pages_reach(described.cpu) else "split"
    except OSError as error:
        raise PagebenchError(f"cannot simulate: {error.strerror}") from error
    return geometry.here(described, measured, huge_pages=huge_pages)


def _changed(found: Geometry, changes: Changes) -> Geometry:
    return geometry.check(msgspec.structs.replace(found, **changes))


def _simulate(plan: Plan, found: Geometry) -> Simulated:
    """With a bar of progress; what runs out of memory is said in a line."""
    try:
        with progress_bar("simulating") as progress:
            return simulation.simulate(plan, found, progress)
    except OSError as error:
        raise PagebenchError(f"cannot simulate: {error.strerror or error}") from error


def levels_of(found: Geometry) -> Levels:
    """The sizes that decide what level a footprint stays in."""
    sizes = [cache.bytes for cache in found.caches]
    return Levels(*sizes, *[sizes[-1]] * (3 - len(sizes)))
