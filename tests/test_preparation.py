"""From what was asked to a plan for this machine."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import summaries

from pagebench.errors import PagebenchError
from pagebench.host import machine, resources
from pagebench.host.machine import Machine
from pagebench.measure import calibration
from pagebench.measure.contenders import Outside
from pagebench.measure.preparation import (
    ASSUMED_L1,
    ASSUMED_L2,
    ASSUMED_L3,
    check_cpu,
    prepare,
    reported_levels,
)
from pagebench.plan.groups import Levels, Plan
from pagebench.results.lines import Calibration
from pagebench.units import GIB, KIB, MIB

ASKED: dict[str, Any] = {
    "contenders": ("pointer-select", "mask-select"),
    "orders": (2,),
    "footprints": ("16K",),
    "patterns": ("random",),
    "probes": ("chain",),
}
LEVELS = Levels(32 * KIB, MIB, 8 * MIB)
Measured = list[tuple[int, Levels]]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Measured:
    """The L3 is 5M whenever it is measured: the calls."""
    calls: Measured = []

    def measure(cpu: int, reported: Levels) -> Calibration:
        calls.append((cpu, reported))
        return Calibration(5 * MIB, ((MIB, 9.0), (2 * MIB, 12.5)))

    monkeypatch.setattr(calibration, "measure_l3", measure)
    monkeypatch.setattr(machine, "describe", lambda cpu: described())
    monkeypatch.setattr(resources, "available_bytes", lambda *_: 8 * GIB)
    return calls


def described(**caches: int | None) -> Machine:
    decoded = {**summaries.MACHINE, "cpu": machine.default_cpu()}
    return msgspec.convert({**decoded, "caches": {**decoded["caches"], **caches}}, Machine)


def test_what_stays_in_l2_needs_no_measurement(measured: Measured) -> None:
    found = prepare(ASKED, Outside())
    assert measured == [] and found.calibration is None
    assert found.plan.levels == reported_levels(described())
    assert found.machine == described()


def test_beyond_l2_the_l3_is_measured_once(measured: Measured) -> None:
    found = prepare(ASKED | {"footprints": ("16K", "4M", "dram")}, Outside())
    assert measured == [(machine.default_cpu(), reported_levels(described()))]
    assert found.calibration is not None
    assert found.plan.levels.l3_bytes == found.calibration.l3_measured_bytes == 5 * MIB
    assert {group.level for group in found.plan.groups} == {"l1", "l3", "dram"}


def test_another_machines_caches_are_taken_as_they_are(measured: Measured) -> None:
    found = prepare(ASKED | {"footprints": ("4M",)}, Outside(), LEVELS)
    assert measured == [] and found.calibration is None
    assert found.plan.levels == LEVELS


def test_every_run_draws_its_own_seed_unless_it_is_told(measured: Measured) -> None:
    seeds = {prepare(ASKED, Outside()).plan.seed for _ in range(4)}
    assert len(seeds) == 4
    assert prepare(ASKED | {"seed": 7}, Outside()).plan.seed == 7


def test_a_contender_that_was_named_is_timed(measured: Measured) -> None:
    with pytest.raises(
        PagebenchError, match=r"mask-select@hvo-shared exists at none of these orders and probes"
    ):
        prepare(ASKED | {"contenders": ("pointer-select", "mask-select@hvo-shared")}, Outside())


def test_what_is_wrong_is_said_before_anything_is_measured(measured: Measured) -> None:
    for wrong in ({"contenders": ("nobody",)}, {"patterns": ("never",)}, {"probes": ("none",)}):
        with pytest.raises(PagebenchError, match=r"unknown|did you mean"):
            prepare({**ASKED, "footprints": ("dram",), **wrong}, Outside())
    assert measured == []


def test_memory_that_cannot_be_had_is_a_line(measured: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Calibration:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(calibration, "measure_l3", refuse)
    with pytest.raises(
        PagebenchError, match=r"^Cannot allocate memory: choose another --cpu or smaller footprints$"
    ):
        prepare(ASKED | {"footprints": ("dram",)}, Outside())


def test_levels_that_are_not_reported_are_assumed() -> None:
    nothing = described(l1d_bytes=None, l2_bytes=None, l3_bytes=None)
    assert reported_levels(nothing) == Levels(ASSUMED_L1, ASSUMED_L2, ASSUMED_L3)
    assert reported_levels(described(l3_bytes=None)).l3_bytes == ASSUMED_L3
    assert reported_levels(described()).l1_bytes == summaries.MACHINE["caches"]["l1d_bytes"]


@pytest.mark.parametrize("cpu", [100_000, 1 << 40])
def test_a_cpu_that_is_not_there_is_refused(cpu: int) -> None:
    allowed = os.sched_getaffinity(0)
    with pytest.raises(
        PagebenchError, match=rf"^there is no CPU {cpu} to run on: choose a --cpu of {min(allowed)}"
    ):
        check_cpu(cpu)
    assert os.sched_getaffinity(0) == allowed


def test_a_cpu_that_is_there_is_left_again() -> None:
    allowed = os.sched_getaffinity(0)
    check_cpu(max(allowed))
    assert os.sched_getaffinity(0) == allowed


def test_it_is_a_plan_as_any_other(measured: Measured, tiny: Callable[..., Plan]) -> None:
    found = prepare({**ASKED, "processes": 2, "rounds": 7, "seed": 5}, Outside()).plan
    expected = dataclasses.replace(tiny(found.levels, probes=("chain",)), cpu=found.cpu)
    assert [group.title for group in found.groups] == [group.title for group in expected.groups]
    assert (found.processes, found.rounds, found.seed) == (2, 7, 5)
