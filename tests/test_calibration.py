"""The size of a cache from latencies."""

from __future__ import annotations

import os

import pytest

from pagebench.host import machine
from pagebench.measure import calibration
from pagebench.plan.groups import Levels
from pagebench.units import KIB, MIB


def latencies(
    cache: int, footprints: list[int], inside: float = 10.0, outside: float = 100.0
) -> list[tuple[int, float]]:
    """Of random lookups: a footprint F over a cache of C misses with the share 1 - C / F."""
    return [(f, inside + (outside - inside) * max(0.0, 1 - cache / f)) for f in footprints]


@pytest.mark.parametrize("cache", [3 * MIB, 4 * MIB, 5 * MIB, 9 * MIB, 60 * MIB])
def test_the_size_is_recovered(cache: int) -> None:
    footprints = [2 * MIB << i for i in range(8)]
    assert calibration.full_at(latencies(cache, footprints)) == pytest.approx(cache, rel=0.02)


@pytest.mark.parametrize("off", [-0.03, 0.03])
@pytest.mark.parametrize("at", range(5))
def test_one_latency_that_is_off_moves_the_size_little(at: int, off: float) -> None:
    measured = latencies(6 * MIB, [4 * MIB << i for i in range(5)])
    measured[at] = measured[at][0], measured[at][1] * (1 + off)
    assert calibration.full_at(measured) == pytest.approx(6 * MIB, rel=0.1)


@pytest.mark.parametrize("cache, last", [(3, 64), (6, 64), (20, 256), (60, 512), (100, 512), (600, 512)])
def test_footprints_grow_until_the_caches_end_is_in_sight(
    monkeypatch: pytest.MonkeyPatch, cache: int, last: int
) -> None:
    def latency(clock: object, footprint: int, rng: object) -> float:
        return latencies(cache * MIB, [footprint])[0][1]

    monkeypatch.setattr(calibration, "_latency_ns", latency)
    monkeypatch.setattr(calibration.resources, "available_bytes", lambda: 64 << 30)
    measured = calibration.measure_l3(machine.default_cpu(), Levels(32 * KIB, 2 * MIB, 260 * MIB))
    assert measured.latency_ns[-1][0] == last * MIB
    assert measured.l3_measured_bytes == pytest.approx(min(max(cache, 4), 512) * MIB, rel=0.02)


def test_no_more_memory_is_taken_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_latency_ns", lambda *_: 10.0)
    monkeypatch.setattr(calibration.resources, "available_bytes", lambda: 600 * MIB)
    measured = calibration.measure_l3(machine.default_cpu(), Levels(32 * KIB, 2 * MIB, 260 * MIB))
    assert measured.latency_ns[-1][0] == 128 * MIB


def test_where_nothing_misses_the_largest_fits() -> None:
    assert calibration.full_at([(MIB, 5.0), (2 * MIB, 5.0), (4 * MIB, 5.0)]) == 4 * MIB
    assert calibration.full_at([(MIB, 5.0)]) == MIB


def test_the_first_footprint_is_taken_to_be_inside() -> None:
    assert calibration.full_at([(MIB, 50.0), (2 * MIB, 99.0), (4 * MIB, 100.0)]) == MIB


def test_this_machines_l3_is_measured_and_the_cpus_are_given_back() -> None:
    allowed = os.sched_getaffinity(0)
    measured = calibration.measure_l3(machine.default_cpu(), Levels(32 * KIB, 64 * KIB, 256 * KIB))
    assert os.sched_getaffinity(0) == allowed
    footprints = [footprint for footprint, _ in measured.latency_ns]
    assert footprints == [128 * KIB, 256 * KIB, 512 * KIB]
    assert all(ns > 0 for _, ns in measured.latency_ns)
    assert footprints[0] <= measured.l3_measured_bytes <= footprints[-1]
