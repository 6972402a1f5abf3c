"""The cache simulator: against plain models, against itself, and by hand."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cache_models import (
    Access,
    CachesModel,
    TranslationModel,
    counters_misses,
    words,
)
from hypothesis import example, given
from hypothesis import strategies as st

from pagebench import core
from pagebench.core import Cache, CacheGeometry, CacheSim, Predictor, Region, Tlb, cachesim

LRU_WAYS = st.integers(1, 16)
SETS = st.one_of(st.integers(1, 70), st.sampled_from([64, 128, 1000, 1024]))


def caches(policies: Sequence[str], prefetches: Sequence[str] = ("none",)) -> st.SearchStrategy[Cache]:
    def ways(policy: str) -> st.SearchStrategy[int]:
        return st.sampled_from([1, 2, 4, 8, 16]) if policy == "plru" else LRU_WAYS

    return st.sampled_from(policies).flatmap(
        lambda policy: st.builds(
            Cache,
            SETS,
            ways(policy),
            st.just(policy),
            st.sampled_from(prefetches),  # type: ignore[arg-type]
        )
    )


def levels(*args: Sequence[str]) -> st.SearchStrategy[tuple[Cache, ...]]:
    return st.lists(caches(*args), min_size=1, max_size=3).map(tuple)


LRU = st.builds(CacheGeometry, levels(["lru"]), way_predictor=st.booleans())
ANY = st.builds(
    CacheGeometry,
    levels(["lru", "plru", "random"], ["none", "next-line", "stride"]),
    inclusive=st.booleans(),
    way_predictor=st.booleans(),
)


@st.composite
def streams(draw: st.DrawFn, longest: int = 600) -> list[Access]:
    """Lines that come again, some in strides, under few sites and linear addresses."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, lines = draw(st.integers(0, longest)), draw(st.sampled_from([1, 8, 50, 500, 5000, 1 << 31]))
    drawn = rng.integers(0, lines, n)
    stride = draw(st.integers(-3, 3))
    if stride:
        drawn = np.where(rng.random(n) < 0.3, drawn, np.abs(10_000 + stride * np.arange(n)))
    return [
        Access(int(line), int(linear), int(site), int(access_class))
        for line, linear, site, access_class in zip(
            drawn, rng.integers(0, 3, n) * 0x55, rng.integers(0, 2, n), rng.integers(0, 8, n), strict=True
        )
    ]


def check_counts(sim: CacheSim, model: CachesModel) -> None:
    counts, expected = sim.counts, model.counts
    assert counts.accesses.tolist() == expected.accesses
    assert counts.misses.tolist() == expected.misses
    assert counts.aliases.tolist() == expected.aliases
    assert counts.prefetches == expected.prefetches


@pytest.mark.parametrize("simd", [False, True], ids=["plain C", "SIMD"])
@given(geometry=LRU, stream=streams(longest=2500), outcomes=st.booleans())
def test_lru_is_the_models(simd: bool, geometry: CacheGeometry, stream: list[Access], outcomes: bool) -> None:
    model = CachesModel(geometry)
    expected = model.run(stream)
    with CacheSim(geometry, simd) as sim:
        got = sim.run(words(stream), outcomes)
        assert (None if got is None else got.tolist()) == (expected if outcomes else None)
        check_counts(sim, model)


@given(geometry=ANY, stream=streams())
def test_everything_else_is_the_models(geometry: CacheGeometry, stream: list[Access]) -> None:
    model = CachesModel(geometry)
    expected = model.run(stream)
    with CacheSim(geometry) as sim:
        outcomes = sim.run(words(stream), outcomes=True)
        assert outcomes is not None
        assert outcomes.tolist() == expected
        check_counts(sim, model)


@given(geometry=LRU, first=streams(), second=streams(), simd=st.booleans())
def test_caches_keep_what_they_hold_from_call_to_call(
    geometry: CacheGeometry, first: list[Access], second: list[Access], simd: bool
) -> None:
    model = CachesModel(geometry)
    with CacheSim(geometry, simd) as sim:
        for part, outcomes in ((first, False), (second, True), (first, False)):
            expected = model.run(part)
            got = sim.run(words(part), outcomes)
            assert (None if got is None else got.tolist()) == (expected if outcomes else None)
            check_counts(sim, model)


def available() -> list[str]:
    made = []
    for simd in ("avx2", "avx512"):
        try:
            CacheSim(CacheGeometry((Cache(1, 1),)), simd).close()  # type: ignore[arg-type]
            made.append(simd)
        except OSError as error:
            assert error.errno == errno.EOPNOTSUPP
    return made


@pytest.mark.parametrize("simd", available() or [None])
@given(
    ways=st.tuples(LRU_WAYS, LRU_WAYS, LRU_WAYS),
    sets=st.tuples(SETS, SETS, st.sampled_from([1, 2048, 32768, 40_003])),
    seed=st.integers(0, 2**32 - 1),
    n=st.one_of(st.integers(0, 40), st.integers(1000, 6000)),
    span=st.sampled_from([100, 3000, 100_000, 1 << 31]),
)
def test_simd_counts_as_plain_c_does(
    simd: Any, ways: tuple[int, ...], sets: tuple[int, ...], seed: int, n: int, span: int
) -> None:
    if simd is None:
        pytest.skip("no SIMD for caches on this machine")
    rng = np.random.default_rng(seed)
    accesses = (rng.integers(0, span, n) | rng.integers(0, 8, n) << 56).astype(np.uint64)
    geometry = CacheGeometry(tuple(map(Cache, sets, ways)))
    with CacheSim(geometry, False) as plain, CacheSim(geometry, simd) as fast:
        assert (plain.simd, fast.simd) == ("none", simd)
        for half in np.array_split(accesses, 2):
            plain.run(half)
            fast.run(half)
        assert plain.counts.accesses.sum() == n
        for name in ("accesses", "misses", "aliases", "tlb_misses"):
            assert (getattr(plain.counts, name) == getattr(fast.counts, name)).all()


@given(
    sets=st.one_of(st.integers(65, 1 << 15), st.sampled_from([65, 127, 129, 1 << 16])),
    lines=st.lists(st.one_of(st.integers(0, 2**38 - 1), st.integers(2**38 - 99, 2**38 - 1)), max_size=40),
    multiples=st.lists(st.integers(0, 2**16), max_size=20),
    simd=st.booleans(),
)
@example(sets=(1 << 22) - 1, lines=[2**38 - 1, 2**38 - 2], multiples=[1, 2, 65535, 65536], simd=True)
@example(sets=1 << 22, lines=[2**38 - 1, 2**38 - 2], multiples=[1, 2, 65534, 65535], simd=False)
def test_lines_are_divided_by_any_number_of_sets(
    sets: int, lines: list[int], multiples: list[int], simd: bool
) -> None:
    lines = [*lines, *(m * sets for m in multiples), *(m * sets - 1 for m in multiples if m)]
    stream = [Access(line) for line in lines + lines]
    geometry = CacheGeometry((Cache(sets, 2),))
    model = CachesModel(geometry)
    model.run(stream)
    with CacheSim(geometry, simd) as sim:
        sim.run(words(stream))
        check_counts(sim, model)


def outcomes_of(geometry: CacheGeometry, lines: list[int] | list[Access]) -> list[int]:
    stream = [line if isinstance(line, Access) else Access(line) for line in lines]
    with CacheSim(geometry) as sim:
        got = sim.run(words(stream), outcomes=True)
        assert got is not None
        return got.tolist()


def one(ways: int, policy: cachesim.Policy = "lru", **options: Any) -> CacheGeometry:
    return CacheGeometry((Cache(1, ways, policy),), **options)


def test_lru_by_hand() -> None:
    # 1 2 3 fill, 1 is used, so 4 takes 2's place.
    assert outcomes_of(one(3), [1, 2, 3, 1, 4, 1, 3, 2]) == [1, 1, 1, 0, 1, 0, 0, 1]


def test_plru_by_hand() -> None:
    # a b c d fill ways 0 to 3: the root points left, and there to a.  Using a turns both away: c goes, not b.
    a, b, c, d, e, f = range(6)
    assert outcomes_of(one(4, "plru"), [a, b, c, d, a, e, b, a, d, c]) == [1, 1, 1, 1, 0, 1, 0, 0, 0, 1]
    # True LRU would have b go.
    assert outcomes_of(one(4), [a, b, c, d, a, e, b]) == [1, 1, 1, 1, 0, 1, 1]
    # With nothing used again the order is that of bit reversal: a, c, b, d.
    fill, more = [a, b, c, d], [e, f, 10, 11]
    for gone in range(1, 5):
        kept = [line for line in fill if line not in [a, c, b, d][:gone]]
        assert outcomes_of(one(4, "plru"), [*fill, *more[:gone], *kept])[4 + gone :] == [0] * len(kept)


def test_random_is_the_same_each_time_and_not_lru() -> None:
    rng = np.random.default_rng(3)
    lines = rng.integers(0, 12, 2000).tolist()
    first = outcomes_of(one(8, "random"), lines)
    assert first == outcomes_of(one(8, "random"), lines)
    assert first != outcomes_of(one(8), lines)
    assert sum(first) / 2000 == pytest.approx(1 / 3, abs=0.05)
    # A loop over one line too many: LRU has none of it, random most.
    loop = list(range(9)) * 100
    assert sum(outcomes_of(one(8), loop)) == 900
    assert sum(outcomes_of(one(8, "random"), loop)) < 400


@pytest.mark.parametrize("inclusive", [False, True])
def test_an_inclusive_cache_takes_its_victims_along(inclusive: bool) -> None:
    # Line 0 stays in the first level by its use; the second never sees that, and loses it to 2.
    geometry = CacheGeometry((Cache(1, 2), Cache(1, 2)), inclusive=inclusive)
    assert outcomes_of(geometry, [0, 1, 0, 2, 0]) == [2, 2, 0, 2, 2 if inclusive else 0]


def test_every_level_that_missed_is_filled() -> None:
    geometry = CacheGeometry((Cache(1, 1), Cache(1, 2), Cache(1, 4)))
    assert outcomes_of(geometry, [0, 1, 2, 3, 3, 2, 0, 4, 1]) == [3, 3, 3, 3, 0, 1, 2, 3, 3]


def test_the_next_line_is_fetched_within_the_frame() -> None:
    geometry = CacheGeometry((Cache(64, 4, prefetch="next-line"),))
    with CacheSim(geometry) as sim:
        got = sim.run(words([Access(line) for line in (10, 11, 12, 13, 63, 64, 10)]), outcomes=True)
        # 10 brings 11, 12 brings 13; after 63 comes another frame; 64 brings 65.
        assert got is not None
        assert got.tolist() == [1, 0, 1, 0, 1, 1, 0]
        assert sim.counts.prefetches == 3
        sim.run(words([Access(20, access_class=core.WALK_CLASS)]))
        assert sim.counts.prefetches == 3


@pytest.mark.parametrize("step", [1, 3, -2])
def test_strides_are_learnt_by_site(step: int) -> None:
    geometry = CacheGeometry((Cache(64, 8, prefetch="stride"),))
    lines = [32 + i * step for i in range(8)]
    # The distance from nowhere, from the first to the second, the same again: from the third on.
    assert outcomes_of(geometry, lines) == [1, 1, 1, 0, 0, 0, 0, 0]
    other = [64 + 7 * i * i for i in range(8)]
    mixed = [Access(line, site=i) for pair in zip(lines, other, strict=True) for i, line in enumerate(pair)]
    assert outcomes_of(geometry, mixed)[::2] == [1, 1, 1, 0, 0, 0, 0, 0]
    muddled = [replace(access, site=0) for access in mixed]
    assert outcomes_of(geometry, muddled)[::2] == [1] * 8


def test_a_line_by_another_address_is_an_alias() -> None:
    stream = [Access(5, 1), Access(5, 1), Access(5, 2), Access(5, 2), Access(6, 9), Access(5, 1)]
    alias = core.OUTCOME_ALIAS
    assert outcomes_of(one(4, way_predictor=True), stream) == [1, 0, alias, 0, 1, alias]
    assert outcomes_of(one(4), stream) == [1, 0, 0, 0, 1, 0]


def test_classes_are_counted_apart() -> None:
    stream = [Access(i % 3, access_class=i % 8) for i in range(24)]
    with CacheSim(one(2)) as sim:
        sim.run(words(stream))
        assert sim.counts.accesses.tolist() == [3] * 8
        assert sim.counts.misses.tolist() == [[3] * 8]
        before = sim.counts
        sim.run(words(stream[:5]))
        since = sim.counts - before
        assert since.accesses.tolist() == [1] * 5 + [0] * 3
        assert before.accesses.tolist() == [3] * 8


BAD = {
    "no sets": (Cache(0, 1),),
    "too many sets": (Cache((1 << 22) + 1, 1),),
    "no ways": (Cache(1, 0),),
    "17 ways": (Cache(1, 17),),
    "PLRU of 12 ways": (Cache(64, 12, "plru"),),
    "the second level": (Cache(1, 1), Cache(0, 1)),
}


@pytest.mark.parametrize("caches", BAD.values(), ids=BAD)
def test_an_impossible_cache_is_refused(caches: tuple[Cache, ...]) -> None:
    with pytest.raises(OSError, match="simulating CacheGeometry") as caught:
        CacheSim(CacheGeometry(caches))
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    "tlbs",
    [
        {"tlb_4k": (Tlb(1, 0), None)},
        {"tlb_2m": (None, Tlb(1 << 16, 17))},
        {"tlb_2m": (Tlb(1, 4), None), "unified": (True, False)},
        {"tlb_2m": (None, Tlb(1, 4)), "unified": (False, True)},
    ],
)
def test_an_impossible_tlb_is_refused(tlbs: dict[str, Any]) -> None:
    with pytest.raises(OSError, match="simulating CacheGeometry") as caught:
        CacheSim(CacheGeometry((Cache(1, 1),), **tlbs))
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("levels", [0, 4])
def test_so_many_levels_are_refused(levels: int) -> None:
    with pytest.raises(ValueError, match=f"{levels} levels"):
        CacheSim(CacheGeometry((Cache(1, 1),) * levels))


@pytest.mark.parametrize("simd", [False, True])
@pytest.mark.parametrize("outcomes", [False, True])
@pytest.mark.parametrize(("sets", "largest"), [(1, 2**32 - 2), (3, 3 * (2**32 - 1) - 1), (64, 2**38 - 65)])
def test_a_line_without_a_tag_is_refused(sets: int, largest: int, outcomes: bool, simd: bool) -> None:
    with CacheSim(CacheGeometry((Cache(128, 1), Cache(sets, 2))), simd) as sim:
        # One in a whole batch, wherever it stands.
        for at in (0, 7, 1020, 1023):
            stream = np.zeros(1024, np.uint64)
            stream[at] = largest
            sim.run(stream, outcomes)
            before = sim.counts
            stream[at] += 1
            with pytest.raises(OSError, match="simulating caches") as caught:
                sim.run(stream, outcomes)
            assert caught.value.errno == errno.ERANGE
            assert not (sim.counts - before).accesses.any()


def test_foreign_arrays_are_refused() -> None:
    with CacheSim(one(1)) as sim, Predictor("bimodal") as predictor:
        for wrong in (np.zeros(4, np.int64), np.zeros((2, 2), np.uint64), np.zeros(8, np.uint64)[::2]):
            with pytest.raises(ValueError, match="contiguous row of uint64"):
                sim.run(wrong)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="contiguous row of uint64"):
                sim.translate([], wrong)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="contiguous row of uint64"):
                predictor.run(wrong)  # type: ignore[arg-type]


def test_closing_twice_is_closing_once() -> None:
    sim, predictor = CacheSim(one(1)), Predictor("tage")
    for _ in range(2):
        sim.close()
        predictor.close()


# Three regions, not back to back; the last page of the first is half there.
REGIONS = [
    Region(0x7000_0000_3000, 0x7000_0001_2800, 12, 0, np.arange(40, 24, -1, np.uint32), 0x123456),
    Region(0x7000_0020_0000, 0x7000_00E0_0000, 21, 1, np.array([7, 3, 5, 2, 9, 8], np.uint32), 0x999),
    Region(0x7000_0F00_0000, 0x7000_0F20_0000, 12, 6, np.arange(512, dtype=np.uint32) * 8191, 0x3FF_FFFF_00),
]


@st.composite
def recordings(draw: st.DrawFn) -> list[int]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    records = []
    for _ in range(draw(st.integers(0, 500))):
        region = REGIONS[rng.integers(0, 3)]
        pages = (region.end - region.begin - 1 >> region.page_shift) + 1
        page = int(rng.integers(0, min(pages, draw(st.sampled_from([2, 12, 512])))))
        address = region.begin + (page << region.page_shift) + int(rng.integers(0, 1 << region.page_shift))
        address = min(address, region.end - 1)
        records += [address | int(rng.integers(0, 1 << 15)) << 48] * int(rng.integers(1, 3))
        if rng.random() < 0.1:
            records.append(1 << 63 | int(rng.integers(0, 1 << 62)))
    return records


TLB = st.one_of(st.none(), st.builds(Tlb, st.sampled_from([1, 2, 3, 16]), st.sampled_from([1, 2, 4, 7, 96])))


@st.composite
def tlbs(draw: st.DrawFn) -> CacheGeometry:
    unified = draw(st.tuples(st.booleans(), st.booleans()))
    large = tuple(None if one else draw(TLB) for one in unified)
    small = (draw(TLB), draw(TLB))
    return CacheGeometry((Cache(64, 8),), tlb_4k=small, tlb_2m=(large[0], large[1]), unified=unified)


@given(geometry=tlbs(), first=recordings(), second=recordings())
def test_translation_is_the_models(geometry: CacheGeometry, first: list[int], second: list[int]) -> None:
    model = TranslationModel(geometry)
    with CacheSim(geometry) as sim:
        for records in (first, second):
            accesses = sim.translate(REGIONS, np.array(records, np.uint64))
            assert [Access.of(int(word)) for word in accesses] == model.translate(REGIONS, records)
            assert sim.counts.tlb_misses.tolist() == model.misses
        assert not sim.counts.accesses.any()


def test_the_order_of_regions_is_of_no_matter() -> None:
    record = np.array([REGIONS[0].begin, REGIONS[2].begin], np.uint64)
    with CacheSim(one(1)) as sim:
        assert (sim.translate(REGIONS, record) == sim.translate(REGIONS[::-1], record)).all()


def test_a_walk_comes_before_what_it_is_for() -> None:
    base = 1 << 40
    region = Region(base, base + (9 << 12), 12, 2, np.arange(100, 109, dtype=np.uint32), 5000)
    records = np.array([base, base + 4096, base, base + (8 << 12)], np.uint64)
    with CacheSim(CacheGeometry((Cache(1, 1),), tlb_4k=(Tlb(1, 2), None))) as sim:
        accesses = [Access.of(int(word)) for word in sim.translate([region], records)]
        walks = [access.line for access in accesses if access.access_class == core.WALK_CLASS]
        assert [access.line for access in accesses] == [5000, 6400, 5000, 6464, 6400, 5001, 6912]
        assert walks == [5000, 5000, 5001]
        assert sim.counts.tlb_misses[:, 2].tolist() == [3, 3]


@pytest.mark.parametrize(
    "address",
    [REGIONS[0].begin - 1, REGIONS[0].end, REGIONS[1].begin - 1, REGIONS[2].end, 0, (1 << 48) - 1],
)
def test_an_address_in_no_region_is_named(address: int) -> None:
    records = np.array([1 << 63, REGIONS[0].begin, REGIONS[1].end - 1, address | 3 << 48], np.uint64)
    with CacheSim(one(1)) as sim:
        with pytest.raises(OSError, match=f"record 3, address {address:#x}") as caught:
            sim.translate(REGIONS, records)
        assert caught.value.errno == errno.EFAULT
        with pytest.raises(OSError, match="record 1") as caught:
            sim.translate([], records)
        assert caught.value.errno == errno.EFAULT


def test_a_frame_beyond_memory_is_refused() -> None:
    frames = np.array([(1 << 23) - 1, 1 << 23], np.uint32)
    region = Region(0, 2 << 21, 21, 0, frames, 0)
    with CacheSim(one(1)) as sim:
        (last,) = sim.translate([region], np.array([(1 << 21) - 1], np.uint64))
        assert int(last) & (1 << 38) - 1 == (1 << 38) - 1
        with pytest.raises(OSError, match="record 0") as caught:
            sim.translate([region], np.array([1 << 21], np.uint64))
        assert caught.value.errno == errno.ERANGE


BAD_REGIONS = {
    "a page size": [replace(REGIONS[0], page_shift=13)],
    "not at a page": [replace(REGIONS[0], begin=REGIONS[0].begin + 8)],
    "empty": [replace(REGIONS[0], end=REGIONS[0].begin)],
    "above 48 bits": [replace(REGIONS[0], begin=1 << 48, end=(1 << 48) + 4096)],
    "a class": [replace(REGIONS[0], access_class=core.ACCESS_CLASSES)],
    "one in another": [REGIONS[2], replace(REGIONS[2], begin=REGIONS[2].begin + 4096)],
}


@pytest.mark.parametrize("regions", BAD_REGIONS.values(), ids=BAD_REGIONS)
def test_a_bad_region_is_refused(regions: list[Region]) -> None:
    with CacheSim(one(1)) as sim:
        with pytest.raises(OSError, match="translating a recording") as caught:
            sim.translate(regions, np.array([REGIONS[0].begin], np.uint64))
        assert caught.value.errno == errno.EINVAL


def test_a_region_needs_a_frame_for_every_page() -> None:
    with CacheSim(one(1)) as sim, pytest.raises(ValueError, match="15 frames"):
        sim.translate([replace(REGIONS[0], frames=REGIONS[0].frames[:15])], np.zeros(0, np.uint64))


def branches(outcomes: Sequence[bool], site: int = 5) -> cachesim.Words:
    """Records, with garbage in the bits that mean nothing."""
    rng = np.random.default_rng(1)
    garbage = rng.integers(0, 1 << 47, len(outcomes)).astype(np.uint64) << np.uint64(1)
    return garbage | np.array(outcomes, np.uint64) | np.uint64(1 << 63 | site << 48)


def miss_rate(kind: cachesim.PredictorKind, outcomes: Sequence[bool], warm_up: int = 0) -> float:
    with Predictor(kind) as predictor:
        predictor.run(branches(outcomes[:warm_up]))
        before = int(predictor.misses.sum())
        predictor.run(branches(outcomes[warm_up:]))
        assert predictor.branches[5] == predictor.branches.sum() == len(outcomes)
        assert predictor.misses[5] == predictor.misses.sum()
        return (int(predictor.misses.sum()) - before) / (len(outcomes) - warm_up)


LOOP_OF_7 = [*[True] * 6, False] * 1000
ALTERNATING = [True, False] * 2000


def test_a_loop_is_learnt_by_history_alone() -> None:
    assert miss_rate("bimodal", LOOP_OF_7, 700) == pytest.approx(1 / 7)
    assert miss_rate("gshare", LOOP_OF_7, 700) == 0
    assert miss_rate("tage", LOOP_OF_7, 700) == 0


def test_alternation_is_learnt_by_history_alone() -> None:
    assert miss_rate("bimodal", ALTERNATING, 100) >= 0.5
    assert miss_rate("gshare", ALTERNATING, 100) == 0
    assert miss_rate("tage", ALTERNATING, 100) == 0


def test_a_long_period_is_learnt_by_tage_alone() -> None:
    # 100 times the same: twelve outcomes do not tell which one is next, a hundred and thirty do.
    long = [*[True] * 40, False, *[True] * 58, False] * 200
    assert miss_rate("gshare", long, 10_000) >= 0.02
    assert miss_rate("tage", long, 10_000) < 0.005


@pytest.mark.parametrize("kind", ["bimodal", "gshare", "tage"])
def test_chance_is_not_learnt(kind: cachesim.PredictorKind) -> None:
    taken = np.random.default_rng(7).random(100_000) < 0.3
    assert miss_rate(kind, taken.tolist(), 20_000) == pytest.approx(0.33, abs=0.04)


@pytest.mark.parametrize("kind", ["bimodal", "gshare", "tage"])
@pytest.mark.parametrize("taken", [False, True])
def test_what_is_always_so_is_learnt_at_once(kind: cachesim.PredictorKind, taken: bool) -> None:
    # gshare learns it anew for each history that is on the way to the one that stays.
    assert miss_rate(kind, [taken] * 10_000) <= 0.002


@given(
    st.lists(st.tuples(st.integers(0, 63), st.booleans()), max_size=400),
    st.sampled_from([("bimodal", 0), ("gshare", 12)]),
)
def test_counters_are_the_models(
    outcomes: list[tuple[int, bool]], kind: tuple[cachesim.PredictorKind, int]
) -> None:
    records = [1 << 63 | site << 48 | taken for site, taken in outcomes]
    with Predictor(kind[0]) as predictor:
        predictor.run(np.array(records, np.uint64))
        assert int(predictor.misses.sum()) == counters_misses(outcomes, kind[1])
        expected = np.bincount([site for site, _ in outcomes], minlength=64)
        assert predictor.branches.tolist() == expected.tolist()


def test_accesses_are_no_branches() -> None:
    with Predictor("tage") as predictor:
        predictor.run(np.array([1, 5 << 48, 64 << 48], np.uint64))
        assert not predictor.branches.any()


def test_a_site_too_many_is_refused() -> None:
    with Predictor("gshare") as predictor:
        predictor.run(branches([True], site=63))
        with pytest.raises(OSError, match="predicting branches") as caught:
            predictor.run(branches([True], site=64))
        assert caught.value.errno == errno.ERANGE
        assert predictor.branches.sum() == 1
