"""The size of a cache from latencies."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from pagebench import core
from pagebench.host import machine
from pagebench.measure import calibration
from pagebench.plan.groups import Levels
from pagebench.units import KIB, MIB

L2 = 2 * MIB


def latencies(
    cache: int, footprints: list[int], inside: float = 50.0, outside: float = 140.0, l2: float = 6.0
) -> list[tuple[int, float]]:
    """Of random lookups: a footprint F over a cache of C misses with the share 1 - C / F."""

    def ns(footprint: int) -> float:
        in_l2, misses = min(1.0, L2 / footprint), max(0.0, 1 - cache / footprint)
        return l2 * in_l2 + inside * (1 - in_l2 - misses) + outside * misses

    return [(footprint, ns(footprint)) for footprint in [L2 // 2, *footprints]]


@pytest.mark.parametrize("cache", [4 * MIB, 5 * MIB, 9 * MIB, 60 * MIB])
def test_the_size_is_recovered(cache: int) -> None:
    footprints = [4 * MIB << i for i in range(7)]
    assert calibration.full_at(latencies(cache, footprints), L2) == pytest.approx(cache, rel=0.02)


@pytest.mark.parametrize("off", [-0.03, 0.03])
@pytest.mark.parametrize("at", range(6))
def test_one_latency_that_is_off_moves_the_size_little(at: int, off: float) -> None:
    measured = latencies(6 * MIB, [4 * MIB << i for i in range(5)])
    measured[at] = measured[at][0], measured[at][1] * (1 + off)
    assert calibration.full_at(measured, L2) == pytest.approx(6 * MIB, rel=0.15)


@pytest.mark.parametrize("cache, last", [(4, 64), (6, 64), (20, 128), (60, 512), (100, 512), (600, 512)])
def test_footprints_grow_until_the_caches_end_is_in_sight(
    monkeypatch: pytest.MonkeyPatch, cache: int, last: int
) -> None:
    """Hits of L2 grow rarer with the footprint, which is no end of the L3."""

    def latency(clock: object, footprint: int, rng: object) -> float:
        return latencies(cache * MIB, [footprint])[-1][1]

    monkeypatch.setattr(calibration, "_latency_ns", latency)
    monkeypatch.setattr(calibration, "_half_life_ms", lambda *_: 29.0)
    monkeypatch.setattr(calibration.resources, "available_bytes", lambda: 64 << 30)
    measured = calibration.measure_l3(machine.default_cpu(), Levels(32 * KIB, L2, 260 * MIB))
    assert measured.latency_ns[-1][0] == last * MIB
    assert measured.l3_half_life_ms == 29.0
    assert measured.l3_measured_bytes == pytest.approx(min(cache, 512) * MIB, rel=0.02)


@pytest.mark.parametrize("half_life", [3.0, 12.0, 29.0, 70.0])
@pytest.mark.parametrize("sharp", [1, 4])
def test_a_half_life_is_recovered(half_life: float, sharp: int) -> None:
    """Of lines that leave at random, or all at about the same time."""

    def ns(wait: float) -> float:
        return 120.0 - 90.0 * 0.5 ** ((wait / half_life) ** sharp)

    later = [(wait, ns(wait)) for wait in calibration.WAITS_MS]
    assert calibration.half_life(30.0, 120.0, later) == pytest.approx(half_life, rel=0.25)


def test_no_more_is_waited_than_it_needs() -> None:
    later = iter([(5.0, 31.0), (10.0, 100.0), (20.0, 120.0)])
    assert calibration.half_life(30.0, 120.0, later) == pytest.approx(8.1, abs=0.1)
    assert next(later) == (20.0, 120.0)


def test_what_stays_has_no_half_life() -> None:
    assert calibration.half_life(30.0, 120.0, [(5.0, 30.0), (80.0, 74.0)]) is None


def test_nor_has_what_never_was_there() -> None:
    assert calibration.half_life(100.0, 120.0, [(5.0, 119.0)]) is None


@pytest.mark.slow
def test_of_this_machines_l3() -> None:
    clock, rng = core.Clock(), np.random.default_rng(0)
    found = calibration._half_life_ms(clock, 4 * (machine.describe(0).caches.l2_bytes or MIB), rng)
    assert found is None or 0 < found <= 1.5 * calibration.WAITS_MS[-1]


def test_no_more_memory_is_taken_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_latency_ns", lambda *_: 10.0)
    monkeypatch.setattr(calibration, "_half_life_ms", lambda *_: None)
    monkeypatch.setattr(calibration.resources, "available_bytes", lambda: 600 * MIB)
    measured = calibration.measure_l3(machine.default_cpu(), Levels(32 * KIB, L2, 260 * MIB))
    assert measured.latency_ns[-1][0] == 128 * MIB


def test_where_nothing_misses_the_largest_fits() -> None:
    assert calibration.full_at([(MIB, 5.0), (4 * MIB, 5.0), (8 * MIB, 5.0)], L2) == 8 * MIB
    assert calibration.full_at([(MIB, 5.0), (4 * MIB, 5.0)], L2) == 4 * MIB


def test_this_machines_l3_is_measured_and_the_cpus_are_given_back() -> None:
    allowed = os.sched_getaffinity(0)
    measured = calibration.measure_l3(machine.default_cpu(), Levels(32 * KIB, 64 * KIB, 256 * KIB))
    assert os.sched_getaffinity(0) == allowed
    footprints = [footprint for footprint, _ in measured.latency_ns]
    assert footprints == [32 * KIB, 128 * KIB, 256 * KIB, 512 * KIB]
    assert all(ns > 0 for _, ns in measured.latency_ns)
    assert footprints[1] <= measured.l3_measured_bytes <= footprints[-1]


@pytest.mark.parametrize("spread, reach", [(3.1, True), (4.6, False)])
def test_huge_pages_reach_as_far_as_a_line_in_each_page_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, spread: float, reach: bool
) -> None:
    """With an entry of the TLB for each small page there would be too few of them."""
    seen: list[tuple[int, int]] = []

    def chase(clock: object, memory: object, folio_map: object, pfns: Any, warm: int) -> float:
        lines = np.unique(pfns)
        seen.append((len(lines), len(np.unique(lines // 64))))
        # Spread over as many sets of L1, too.
        assert len(np.unique(lines % 64)) == 64
        return 3.0 if len(seen) == 1 else spread

    monkeypatch.setattr(calibration, "_chase_ns", chase)
    assert calibration.huge_pages_reach(machine.default_cpu()) is reach
    assert seen == [(calibration.SPREAD, 4), (calibration.SPREAD, calibration.SPREAD)]


@pytest.mark.slow
def test_whether_they_reach_is_a_matter_of_the_machine() -> None:
    allowed = os.sched_getaffinity(0)
    assert calibration.huge_pages_reach(machine.default_cpu()) in (True, False)
    assert os.sched_getaffinity(0) == allowed
