"""The size of a cache from latencies."""

from __future__ import annotations

import os

import pytest

from pagebench.host import machine
from pagebench.measure import calibration
from pagebench.units import KIB, MIB


def latencies(
    cache: int, footprints: list[int], inside: float = 10.0, outside: float = 100.0
) -> list[tuple[int, float]]:
    """Of random lookups: a footprint F over a cache of C misses with the share 1 - C / F."""
    return [(f, inside + (outside - inside) * max(0.0, 1 - cache / f)) for f in footprints]


@pytest.mark.parametrize("cache", [3 * MIB, 4 * MIB, 5 * MIB, 9 * MIB])
def test_the_size_is_recovered(cache: int) -> None:
    footprints = [2 * MIB << i for i in range(12)]  # the last far outside
    assert calibration.full_at(latencies(cache, footprints)) == pytest.approx(cache, rel=0.02)


def test_where_nothing_misses_the_largest_fits() -> None:
    assert calibration.full_at([(MIB, 5.0), (2 * MIB, 5.0), (4 * MIB, 5.0)]) == 4 * MIB
    assert calibration.full_at([(MIB, 5.0)]) == MIB


def test_the_first_footprint_is_taken_to_be_inside() -> None:
    assert calibration.full_at([(MIB, 50.0), (2 * MIB, 99.0), (4 * MIB, 100.0)]) == MIB


def test_this_machines_l3_is_measured_and_the_cpus_are_given_back() -> None:
    allowed = os.sched_getaffinity(0)
    measured = calibration.measure_l3(machine.default_cpu(), 64 * KIB, 256 * KIB)
    assert os.sched_getaffinity(0) == allowed
    footprints = [footprint for footprint, _ in measured.latency_ns]
    assert footprints == [128 * KIB, 256 * KIB, 512 * KIB]
    assert all(ns > 0 for _, ns in measured.latency_ns)
    assert footprints[0] <= measured.l3_measured_bytes <= footprints[-1]
