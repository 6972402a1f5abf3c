"""The schedule keeps its laws, and what it timed is checked."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import summaries
from conftest import Placement

from pagebench import core
from pagebench.errors import PagebenchError
from pagebench.measure import sampling, schedule
from pagebench.measure.sampling import GroupSampler
from pagebench.measure.windows import Windows
from pagebench.memmap import patterns
from pagebench.plan import groups
from pagebench.units import KIB

Place = Callable[..., Placement]
ROUNDS = 6


@pytest.fixture(scope="module")
def clock() -> core.Clock:
    return core.Clock(5_000_000)


def sampler_of(
    placement: Placement, clock: core.Clock, rounds: int = ROUNDS, seed: int = 0, counters: Any = None
) -> GroupSampler:
    group = placement.group
    rng = np.random.default_rng(seed)
    pattern = patterns.Pattern.parse(group.pattern)
    pfns = patterns.draw(pattern, placement.folio_map, group.footprint_bytes, 1 << 20, rng)
    windows = Windows(placement.folio_map, pfns)
    return GroupSampler(group, placement.loops, placement.memmaps, windows, clock, counters, rounds, rng)


def shared_group(**kwargs: Any) -> groups.Group:
    return summaries.group_of(["pointer-select", "mask-select", "fakehead"], **kwargs)


def own_group(**kwargs: Any) -> groups.Group:
    return dataclasses.replace(shared_group(**kwargs), shared=False, level="l2")


def test_a_group_is_sampled(place: Place, clock: core.Clock) -> None:
    placement = place(shared_group(control=True))
    line = sampler_of(placement, clock).run()
    cells = len(placement.group.cells)
    assert np.shape(line["ticks"]) == (cells, ROUNDS)
    assert np.shape(line["lookups"]) == (ROUNDS,)
    assert np.shape(line["add_chain_ticks"]) == (2, 2, ROUNDS)
    assert np.min(line["ticks"]) > 0 and np.min(line["add_chain_ticks"]) > 0
    assert line["add_chain_cycles"] == sampling.ADD_CHAIN_CYCLES
    assert line["copies"] == [1] * cells
    assert line["counts"] == [{}] * cells
    assert all(0 <= cell < cells and 0 <= round_ < ROUNDS for cell, round_ in line["switches"])
    encodings = [cell.tail_words for cell in placement.group.cells]
    assert line["segment"] == encodings
    assert 0 < line["timed_ns"] < line["sampling_ns"]
    # Batches of a round are equally long, and not the same from round to round.
    spread = np.ptp(line["lookups"]) / np.mean(line["lookups"])
    assert 0 < spread <= 2 * sampling.DITHER + 0.01
    assert 0 < line["warm_up"] < np.min(line["lookups"])


@pytest.mark.parametrize("probe", ["get", "gup", "zap", "flags", "try_get"])
def test_probes_that_go_on_with_the_head(place: Place, clock: core.Clock, probe: str) -> None:
    line = sampler_of(place(shared_group(probe=probe)), clock, rounds=2).run()
    assert np.min(line["ticks"]) > 0


def test_a_burn_in_is_not_kept(place: Place, clock: core.Clock) -> None:
    placement = place(own_group(footprint=64 * KIB))
    sampler = sampler_of(placement, clock, rounds=9)
    assert (sampler.burn_in, sampler.rounds) == (3, 12)
    line = sampler.run()
    assert np.shape(line["ticks"]) == (len(placement.group.cells), 9)
    assert np.shape(line["lookups"]) == (9,)
    assert np.shape(line["add_chain_ticks"]) == (2, 1, 9)
    assert sampler_of(place(shared_group()), clock, rounds=9).burn_in == 0


@pytest.mark.parametrize("cell", [0, 2, 4])
@pytest.mark.parametrize("off", [64, 1])
def test_one_wrong_result_is_found(
    place: Place, clock: core.Clock, monkeypatch: pytest.MonkeyPatch, cell: int, off: int
) -> None:
    placement = place(shared_group())
    sampler = sampler_of(placement, clock)
    victim = placement.loops[cell]
    real = sampling.expected_addresses

    def expected(folio_map: Any, p: Any, *rest: Any) -> npt.NDArray[np.uint64]:
        addresses = real(folio_map, p, *rest)
        if p is victim:
            addresses[-1] += np.uint64(off)
        return addresses

    monkeypatch.setattr(sampling, "expected_addresses", expected)
    name = str(victim.cell.contender)
    with pytest.raises(
        PagebenchError, match=rf"^{name} returned a wrong head while it was timed \(chain, order 2"
    ):
        sampler.run()


def test_every_memmap_gets_as_many_visits(place: Place, clock: core.Clock) -> None:
    """Three pointers on one memmap, one mask and the A/A copy on theirs: the latter are visited again."""
    contenders = ["pointer-select", "fakehead", "pointer-branch", "mask-select"]
    group = dataclasses.replace(summaries.group_of(contenders), shared=False)
    placement = place(group)
    sampler = sampler_of(placement, clock)
    (segment,) = sampler.segments
    visits = [*segment, *sampler._extra_visits(segment)]
    assert visits[: len(group.cells)] == list(range(len(group.cells)))
    reading = [placement.loops[c].base for c in visits if group.cells[c].role != "identity"]
    times = Counter(reading)
    assert len(times) == 3 and set(times.values()) == {3}
    line = sampler.run()
    assert np.shape(line["ticks"])[0] == len(group.cells)  # and not kept
    assert sampler_of(place(shared_group()), clock)._extra_visits([0, 2, 3]) == []


def schedule_of(sampler: GroupSampler, segment: list[int], length: int = 500) -> schedule.Schedule:
    lengths = length + np.arange(sampler.rounds)
    return sampler._schedule(segment, lengths, 100)


@pytest.mark.parametrize("make", [shared_group, own_group])
def test_a_schedule_times_every_cell_in_every_round(
    place: Place, clock: core.Clock, make: Callable[[], groups.Group]
) -> None:
    placement = place(make())
    sampler = sampler_of(placement, clock, rounds=20)
    for segment in sampler.segments:
        schedule = schedule_of(sampler, segment)
        samples = schedule.samples
        assert samples.shape == (sampler.rounds, len(schedule.visits) + 2)
        ends = samples[:, [0, -1]]
        assert set(ends["run"].flat) == {core.ADD_CHAIN}
        assert set(ends["lookups"].flat) == {sampling.ADD_CHAIN_CYCLES}
        batches = samples[:, 1:-1]
        assert (batches["warm_up"] == 100).all()
        assert (batches["lookups"] == 500 + np.arange(sampler.rounds)[:, None]).all()
        for at, order in np.ndenumerate(schedule.order):
            p = placement.loops[schedule.visits[order]]
            assert batches[at]["base"] == p.base
            assert batches[at]["run"] in p.runs
        assert all(sorted(row) == list(range(len(schedule.visits))) for row in schedule.order.tolist())
        # Windows, warm-up included, lie in the sequence, and nobody's overlap another's.
        starts = schedule.starts
        offsets = sampler.windows.offsets
        assert (batches["offsets"] == offsets.ctypes.data + 4 * starts.astype(np.uint64)).all()
        spans = sorted(zip(starts.flat, (starts + 100 + batches["lookups"].astype(int)).flat, strict=True))
        assert spans[0][0] >= 0 and spans[-1][1] <= len(offsets)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def test_a_copy_is_drawn_for_each_visit(place: Place, clock: core.Clock) -> None:
    placement = place(shared_group())
    runs = np.array([1000, 2000, 3000], np.uint64)  # never run here
    many = [dataclasses.replace(p, runs=runs) for p in placement.loops]
    sampler = sampler_of(dataclasses.replace(placement, loops=many), clock, rounds=300)
    schedule = schedule_of(sampler, sampler.segments[0])
    for place_ in range(len(schedule.visits)):
        drawn = Counter(schedule.samples[:, 1:-1]["run"][schedule.order == place_].tolist())
        assert set(drawn) == set(runs.tolist()) and min(drawn.values()) > 60


def test_the_same_seed_draws_the_same_schedule(place: Place, clock: core.Clock) -> None:
    placement = place(shared_group())

    def drawn(seed: int) -> tuple[bytes, bytes, bytes]:
        sampler = sampler_of(placement, clock, seed=seed)
        schedule = schedule_of(sampler, sampler.segments[0])
        return schedule.order.tobytes(), schedule.starts.tobytes(), sampler.windows.pfns.tobytes()

    assert drawn(1) == drawn(1)
    assert drawn(1)[0] != drawn(2)[0] and drawn(1)[2] != drawn(2)[2]


@pytest.mark.parametrize("per_block", [1, 2, 5])
def test_encodings_alternate_abba_and_every_round_is_run_once(
    place: Place, clock: core.Clock, monkeypatch: pytest.MonkeyPatch, per_block: int
) -> None:
    placement = place(shared_group())
    sampler = sampler_of(placement, clock)
    schedules = [schedule_of(sampler, segment) for segment in sampler.segments]
    ran: list[tuple[int, int]] = []
    encoded: list[int] = []
    sizes = [schedule.samples.shape[1] for schedule in schedules]

    def run_samples(_: core.Clock, samples: npt.NDArray[Any]) -> None:
        if samples.size == 1:  # a pass to settle
            return
        for number, one in enumerate(schedules):
            if np.shares_memory(samples, one.samples):
                ran.append((number, samples.size // sizes[number]))

    monkeypatch.setattr(sampling.core, "run_samples", run_samples)
    real = placement.memmaps.encode
    monkeypatch.setattr(
        placement.memmaps,
        "encode",
        lambda placed: [encoded.append(p.cell.tail_words) or p for p in real(placed)],
    )
    sampler._sample(schedules, per_block)
    blocks = -(-ROUNDS // per_block)
    assert [number for number, _ in ran] == ([0, 1, 1, 0] * blocks)[: 2 * blocks]
    for number in (0, 1):
        assert sum(rounds for n, rounds in ran if n == number) == ROUNDS
    assert encoded == ([0, 1] * blocks)[: blocks + 1]  # once a block, since a block ends as the next begins


def test_re_encoding_takes_a_tenth_of_the_time_at_most(place: Place, clock: core.Clock) -> None:
    sampler = sampler_of(place(shared_group()), clock, rounds=50)
    round_ns = len(sampler.loops) * sampling.BATCH_NS * (1 + sampling.WARM_UP)
    for encode_ns in (0, 1e3, 1e5, 2e5, 1e12):
        rounds = sampler._rounds_per_block(encode_ns)
        assert 1 <= rounds <= 50
        assert rounds == 50 or encode_ns <= sampling.ENCODING_SHARE * rounds * round_ns


class FakeCounters:
    """Counts each batch's lookups, in rounds of their own."""

    events = ("cycles", "l1d_misses")

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def run(self, row: npt.NDArray[Any]) -> dict[str, float]:
        assert row.shape == (1,)
        self.seen.append((int(row["base"][0]), int(row["run"][0])))
        found = {"cycles": float(len(self.seen))}
        return found if len(self.seen) % 2 else {**found, "l1d_misses": 1.0}


def test_counts_are_medians_of_rounds_after_the_timed_ones(place: Place, clock: core.Clock) -> None:
    placement = place(shared_group())
    counters = FakeCounters()
    line = sampler_of(placement, clock, rounds=9, counters=counters).run()
    cells = len(placement.loops)
    each = min(9, sampling.COUNTED_ROUNDS)
    assert len(counters.seen) == cells * each
    order = [c for part in schedule.segments(placement.group) for c in part]
    for place_, c in enumerate(order):
        mine = counters.seen[place_ * each : (place_ + 1) * each]
        assert set(mine) == {(placement.loops[c].base, int(placement.loops[c].runs[0]))}
        assert line["counts"][c] == {"cycles": place_ * each + (each + 1) / 2, "l1d_misses": 1.0}
