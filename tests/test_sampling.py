"""The schedule keeps its laws, and what it timed is checked."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
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
from pagebench.measure.schedule import williams_rows
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
    placement: Placement,
    clock: core.Clock,
    rounds: int = ROUNDS,
    seed: int = 0,
    counters: Any = None,
    **more: Any,
) -> GroupSampler:
    group = placement.group
    rng = np.random.default_rng(seed)
    pattern = patterns.Pattern.parse(group.pattern)
    pfns = patterns.draw(pattern, placement.folio_map, group.footprint_bytes, 1 << 20, rng)
    windows = Windows(placement.folio_map, pfns, rng)
    return GroupSampler(
        group, placement.loops, placement.memmaps, windows, clock, counters, rounds, rng, **more
    )


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
    assert np.shape(line["add_chain_ticks"]) == (2, 3, ROUNDS)
    assert np.min(line["ticks"]) > 0 and np.min(line["add_chain_ticks"]) > 0
    assert line["add_chain_cycles"] == sampling.ADD_CHAIN_CYCLES
    assert line["copies"] == [1] * cells
    assert line["counts"] == [{}] * cells
    assert all(0 <= cell < cells and 0 <= round_ < ROUNDS for cell, round_ in line["switches"])
    # The loop without a lookup has a turn of its own.
    turns = [(cell.tail_words, cell.role == "identity") for cell in placement.group.cells]
    assert line["segment"] == [sorted(set(turns)).index(turn) for turn in turns]
    assert 0 < line["timed_ns"] < line["sampling_ns"]
    # Batches of a round are equally long, and not the same from round to round.
    spread = np.ptp(line["lookups"]) / np.mean(line["lookups"])
    assert 0 < spread <= 2 * sampling.DITHER + 0.01
    assert 0 < line["warm_up"] < np.min(line["lookups"])


@pytest.mark.parametrize("probe", ["get", "gup", "zap", "flags", "try_get"])
def test_probes_that_go_on_with_the_head(place: Place, clock: core.Clock, probe: str) -> None:
    line = sampler_of(place(shared_group(probe=probe)), clock, rounds=2).run()
    assert np.min(line["ticks"]) > 0


@pytest.mark.parametrize("make, segments", [(shared_group, 3), (own_group, 1)])
def test_a_burn_in_is_not_kept(
    place: Place, clock: core.Clock, make: Callable[..., groups.Group], segments: int
) -> None:
    placement = place(make(footprint=64 * KIB))
    line = sampler_of(placement, clock, rounds=9).run()
    assert line["burn_in_rounds"] in range(2 * sampling.BURN_IN_ROUNDS, 99, sampling.BURN_IN_ROUNDS)
    assert line["steady"] or line["burn_in_rounds"] == sampling.BURN_IN_STEPS * sampling.BURN_IN_ROUNDS
    assert np.shape(line["ticks"]) == (len(placement.group.cells), 9)
    assert np.shape(line["lookups"]) == (9,)
    assert np.shape(line["add_chain_ticks"]) == (2, segments, 9)
    roomy = sampler_of(place(shared_group()), clock, rounds=9, crowded=False).run()
    assert (roomy["burn_in_rounds"], roomy["steady"]) == (0, True)


@pytest.mark.parametrize("drift, steps", [((9, 5, 3, 3, 3), 4), ((5, 5), 2), (range(9, 0, -1), 8)])
def test_a_burn_in_goes_on_until_times_stand_still(
    place: Place, clock: core.Clock, monkeypatch: pytest.MonkeyPatch, drift: Sequence[int], steps: int
) -> None:
    sampler = sampler_of(place(own_group()), clock)
    times = iter(drift)

    def sample(schedules: Sequence[schedule.Schedule], per_block: int) -> int:
        ticks = next(times)
        for one in schedules:
            one.samples["ticks"] = 1000 * ticks
        return 0

    monkeypatch.setattr(sampler, "_sample", sample)
    steady = steps < sampling.BURN_IN_STEPS
    assert sampler._burn_in(100.0) == (steps * sampling.BURN_IN_ROUNDS, steady)


def test_every_memmap_is_settled_by_a_cell_that_reads(
    place: Place, clock: core.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every page once, by turns in drawn orders; the harness' loop stands on the reference's memmap."""
    placement = place(own_group(footprint=64 * KIB))
    sampler = sampler_of(placement, clock)
    ran: list[npt.NDArray[Any]] = []
    monkeypatch.setattr(sampling.core, "run_samples", lambda _, samples: ran.append(samples))
    (segment,) = sampler.segments
    readers = sampler._readers(segment)
    assert all(loop.cell.role != "identity" for loop in readers)
    assert {loop.base for loop in readers} == {loop.base for loop in placement.loops}
    sampler._settle(readers, 64)
    (samples,) = ran
    lookups = placement.loops[0].variant.probes["lookup"]
    assert set(samples["run"].tolist()) == {loop.variant.probes["lookup"].run for loop in readers}
    assert lookups.run in samples["run"]
    once = len(sampler.windows.once)
    for loop in readers:
        mine = samples[samples["base"] == loop.base]
        assert mine["lookups"].sum() == once and len(mine) == 64
    firsts = samples["base"].reshape(64, -1)[:, 0]
    assert set(firsts.tolist()) == {loop.base for loop in readers}


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
    assert sampler_of(place(shared_group()), clock, crowded=False)._extra_visits([0, 2, 3]) == []


@pytest.mark.parametrize(("probe", "most"), [("lookup", 1), ("flags", 2), ("get", 2)])
def test_the_harness_visits_count_where_its_probe_reads_the_head(
    place: Place, clock: core.Clock, probe: str, most: int
) -> None:
    group = dataclasses.replace(
        summaries.group_of(["pointer-select", "mask-select"], probe=probe), shared=False
    )
    placement = place(group)
    sampler = sampler_of(placement, clock)
    (segment,) = sampler.segments
    bases = [placement.loops[c].base for c in (*segment, *sampler._extra_visits(segment))]
    assert set(Counter(bases).values()) == {most} if most > 1 else not sampler._extra_visits(segment)


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
        assert set(drawn) == set(runs.tolist()) and set(drawn.values()) == {100}


def test_the_same_seed_draws_the_same_schedule(place: Place, clock: core.Clock) -> None:
    placement = place(shared_group())

    def drawn(seed: int) -> tuple[bytes, bytes, bytes]:
        sampler = sampler_of(placement, clock, seed=seed)
        schedule = schedule_of(sampler, sampler.segments[0])
        return schedule.order.tobytes(), schedule.starts.tobytes(), sampler.windows.pfns.tobytes()

    assert drawn(1) == drawn(1)
    assert drawn(1)[0] != drawn(2)[0] and drawn(1)[2] != drawn(2)[2]


@pytest.mark.parametrize("per_block", [1, 2, 5])
def test_segments_take_turns_and_every_round_is_run_once(
    place: Place, clock: core.Clock, monkeypatch: pytest.MonkeyPatch, per_block: int
) -> None:
    placement = place(shared_group())
    sampler = sampler_of(placement, clock, crowded=False)
    schedules = [schedule_of(sampler, segment) for segment in sampler.segments]
    ran: list[tuple[int, int]] = []
    sizes = [schedule.samples.shape[1] for schedule in schedules]

    def run_samples(_: core.Clock, samples: npt.NDArray[Any]) -> None:
        for number, one in enumerate(schedules):
            if np.shares_memory(samples, one.samples):
                ran.append((number, samples.size // sizes[number]))

    monkeypatch.setattr(sampling.core, "run_samples", run_samples)
    sampler._sample(schedules, per_block)
    blocks = -(-ROUNDS // per_block)
    for block in range(blocks):
        assert {number for number, _ in ran[3 * block : 3 * block + 3]} == {0, 1, 2}
    for number in range(3):
        assert sum(rounds for n, rounds in ran if n == number) == ROUNDS


def test_the_loop_without_a_lookup_asks_for_no_words(place: Place, clock: core.Clock) -> None:
    placement = place(shared_group())
    sampler = sampler_of(placement, clock)
    alone = next(s for s in sampler.segments if placement.group.cells[s[0]].role == "identity")
    masks = next(s for s in sampler.segments if placement.group.cells[s[0]].tail_words == 1)
    base = placement.loops[masks[0]].base
    sampler._bring_in(masks)
    sampler._bring_in(alone)
    assert placement.memmaps._encoded[base] == 1


def test_re_encoding_takes_its_share_of_the_time_at_most_but_for_a_whole_design(
    place: Place, clock: core.Clock
) -> None:
    sampler = sampler_of(place(shared_group()), clock, rounds=50)
    round_ns = len(sampler.loops) * sampler.batch_ns * (1 + sampling.WARM_UP)
    for encode_ns in (0, 1e3, 1e5, 2e5, 1e12):
        rounds = sampler._rounds_per_block(encode_ns)
        whole = math.ceil(50 / williams_rows(len(sampler.segments)))
        assert 1 <= rounds <= whole < 50
        assert rounds == whole or encode_ns <= sampling.ENCODING_SHARE * rounds * round_ns


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
