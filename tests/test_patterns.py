from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from planted_folios import folio_map_of

from pagebench.errors import PagebenchError
from pagebench.memmap import patterns
from pagebench.memmap.folios import FolioMap
from pagebench.memmap.patterns import Pattern, candidates, draw, touched_bytes
from pagebench.names import PATTERNS, PatternRow
from pagebench.units import KIB, MIB

SIZES = (56, 64, 96)
LOOKUPS = 3000


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


places = st.tuples(
    st.integers(0, 12), st.sampled_from([KIB, 3000, 16 * KIB, 100 * KIB, 256 * KIB]), st.sampled_from(SIZES)
)


# Those over folios that can be made up; test_machine_folios.py has the others.
NAMES = sorted(name for name, row in PATTERNS.items() if row.folios != "captured")


def case_of(place: tuple[int, int, int], name: str) -> tuple[Pattern, FolioMap, int]:
    """A pattern over its folios, or none where it has nothing to look up."""
    order, footprint, size = place
    pattern = Pattern(name)
    assume(pattern.exists_at(order))
    folio_map = pattern.folio_map(order, footprint, size)
    if name.startswith("heads-"):
        aligned = folio_map.pfns * size % 4096 == 0
        wanted = aligned if name == "heads-aligned" else ~aligned
        assume(np.isin(folio_map.pfns[wanted], candidates(folio_map, footprint)).any())
    return pattern, folio_map, footprint


def brute_force_bytes(folio_map: FolioMap, pfns: list[int], head_too: bool) -> int:
    """Byte by byte what the kernel's accesses touch: the word, then the head's flags and _refcount."""
    head_of = dict(zip(folio_map.page_pfns.tolist(), folio_map.page_heads.tolist(), strict=True))
    touched = set()
    for pfn in set(pfns):
        touched |= {pfn * folio_map.struct_page_bytes + 8 + i for i in range(8)}
        if head_too:
            head = head_of[pfn] * folio_map.struct_page_bytes
            touched |= {head + i for i in range(8)} | {head + 52 + i for i in range(4)}
    return 64 * len({byte // 64 for byte in touched})


@given(places, st.sampled_from(NAMES), st.integers(0, 2**32))
def test_a_pattern_keeps_to_its_candidates(place: tuple[int, int, int], name: str, seed: int) -> None:
    pattern, folio_map, footprint = case_of(place, name)
    pfns = draw(pattern, folio_map, footprint, LOOKUPS, rng(seed))
    assert (pfns.dtype, pfns.shape) == (np.int64, (LOOKUPS,))
    assert set(pfns) <= set(candidates(folio_map, footprint))
    is_head = folio_map.heads_of(pfns) == pfns
    assert is_head.all() or not name.startswith("heads")
    assert not is_head.any() or name != "tails"
    aligned = pfns * folio_map.struct_page_bytes % 4096 == 0
    assert aligned.all() or name != "heads-aligned"
    assert not aligned.any() or name != "heads-unaligned"
    assert np.array_equal(pfns, draw(pattern, folio_map, footprint, LOOKUPS, rng(seed)))


@given(places, st.sampled_from(NAMES))
def test_the_size_of_a_memmap_is_known_before_it_is_made(place: tuple[int, int, int], name: str) -> None:
    order, footprint, size = place
    pattern = Pattern(name)
    assume(pattern.exists_at(order))
    assert pattern.memmap_bytes(order, footprint, size) == pattern.folio_map(order, footprint, size).bytes


@given(places)
def test_candidates_are_the_head_and_evenly_spaced_pages(place: tuple[int, int, int]) -> None:
    order, footprint, size = place
    folio_map = FolioMap.uniform(order, footprint, size)
    pfns = candidates(folio_map, footprint)
    assert set(pfns) <= set(folio_map.page_pfns)
    assert pfns[0] == 0
    if folio_map.bytes <= footprint:
        assert np.array_equal(pfns, folio_map.page_pfns)
    else:
        (spacing,) = set(np.diff(pfns).tolist())
        assert spacing % 2 == 1  # over all sets of a cache
        assert footprint // 2 <= len(pfns) * max(size, 64) <= footprint


@pytest.mark.parametrize("order", [9, 11, 18])
def test_a_folio_larger_than_the_footprint_is_walked_from_end_to_end(order: int) -> None:
    footprint = 16 * KIB
    folio_map = FolioMap.uniform(order, footprint)
    pfns = candidates(folio_map, footprint)
    assert folio_map.page_heads.max() == 0
    assert len(pfns) == footprint // 64
    ratio = (1 << order) // len(pfns)
    assert np.ptp(pfns) >= (ratio - 2) * (len(pfns) - 1)  # the spacing is odd, so short of the ratio
    sets = pfns % 64  # of an L1 with 64 sets
    assert np.bincount(sets, minlength=64).tolist() == [4] * 64


@given(places, st.sampled_from(NAMES), st.booleans(), st.integers(1, 300))
def test_touched_bytes_are_those_of_a_count_by_hand(
    place: tuple[int, int, int], name: str, head_too: bool, lookups: int
) -> None:
    pattern, folio_map, footprint = case_of(place, name)
    pfns = draw(pattern, folio_map, footprint, lookups, rng())
    touched = touched_bytes(folio_map, pfns, head_too)
    assert touched == brute_force_bytes(folio_map, pfns.tolist(), head_too)


@given(st.data(), st.sampled_from(SIZES), st.booleans())
def test_touched_bytes_of_folios_of_several_orders(data: st.DataObject, size: int, head_too: bool) -> None:
    folio_map = folio_map_of(size, [(0, 3), (8, 0), (9, 0), (12, 2), (32, 4), (50, 1)])
    pfns = data.draw(st.lists(st.sampled_from(folio_map.page_pfns.tolist()), min_size=1))
    touched = touched_bytes(folio_map, np.array(pfns), head_too)
    assert touched == brute_force_bytes(folio_map, pfns, head_too)


@given(places, st.sampled_from(NAMES), st.booleans())
def test_the_footprint_is_an_upper_bound(place: tuple[int, int, int], name: str, head_too: bool) -> None:
    pattern, folio_map, footprint = case_of(place, name)
    pfns = draw(pattern, folio_map, footprint, LOOKUPS, rng())
    whole_lines = -(-footprint // 64) * 64
    assert touched_bytes(folio_map, pfns, head_too) <= whole_lines


def test_random_touches_all_of_it() -> None:
    folio_map = FolioMap.uniform(2, 64 * KIB)
    pfns = draw(Pattern("random"), folio_map, 64 * KIB, 1 << 16, rng())
    assert touched_bytes(folio_map, pfns, False) == 64 * KIB


def test_heads_of_large_folios_touch_a_line_each() -> None:
    folio_map = FolioMap.uniform(9, 2 * MIB)
    pfns = draw(Pattern("heads"), folio_map, 2 * MIB, 10_000, rng())
    assert touched_bytes(folio_map, pfns, True) == 64 * (2 * MIB // (64 << 9))


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5, 0.9])
def test_mixed_has_its_share_of_heads(share: float) -> None:
    folio_map = FolioMap.uniform(4, 256 * KIB)
    pfns = draw(Pattern("mixed", share), folio_map, 256 * KIB, 100_000, rng())
    heads = np.mean(folio_map.heads_of(pfns) == pfns)
    assert abs(heads - share) < 5 * np.sqrt(share * (1 - share) / len(pfns))


def test_random_is_uniform_over_the_pages() -> None:
    folio_map = FolioMap.uniform(2, 16 * KIB)
    counts = np.bincount(draw(Pattern("random"), folio_map, 16 * KIB, 256_000, rng()), minlength=256)
    chi2 = float(((counts - 1000) ** 2 / 1000).sum())
    assert chi2 < 255 + 5 * np.sqrt(2 * 255)


@given(places, st.integers(0, 2**32))
def test_scan_goes_page_after_page_and_starts_over(place: tuple[int, int, int], seed: int) -> None:
    order, footprint, size = place
    folio_map = FolioMap.uniform(order, footprint, size)
    pfns = candidates(folio_map, footprint)
    walked = draw(Pattern("scan"), folio_map, footprint, LOOKUPS, rng(seed))
    rank = np.searchsorted(pfns, walked)
    assert np.array_equal(np.diff(rank) % len(pfns), np.full(LOOKUPS - 1, 1 % len(pfns)))


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_is_another_sequence(name: str) -> None:
    pattern = Pattern(name)
    folio_map = pattern.folio_map(3, 256 * KIB, 64)
    first, second = (draw(pattern, folio_map, 256 * KIB, LOOKUPS, rng(seed)) for seed in (1, 2))
    assert not np.array_equal(first, second)


@given(places, st.integers(0, 2**32))
def test_zap_goes_from_a_head_over_its_tails_folio_by_folio(place: tuple[int, int, int], seed: int) -> None:
    pattern, folio_map, footprint = case_of(place, "zap")
    pages = candidates(folio_map, footprint)
    pfns = draw(pattern, folio_map, footprint, 2 * len(pages), rng(seed))
    assert (
        sorted(pfns[: len(pages)]) == sorted(pfns[len(pages) :]) == pages.tolist()
    )  # every pass is all of it
    heads = folio_map.heads_of(pfns)
    goes_on = (np.diff(pfns) > 0) & (np.diff(heads) == 0)
    begins = pfns[1:] == heads[1:]
    assert pfns[0] == heads[0] and (goes_on | begins).all()
    assert np.count_nonzero(begins) + 1 == 2 * len(np.unique(heads))  # each folio once a pass


def test_slabs_have_each_order() -> None:
    pattern = Pattern("slab")
    folio_map = pattern.folio_map(3, 16 * KIB, 64)
    assert folio_map.bytes == 16 * KIB
    pages = {order: int((folio_map.orders == order).sum()) << order for order in range(4)}
    assert pages == {3: 128, 2: 64, 1: 32, 0: 32}
    assert len(folio_map.page_pfns) == 256  # without holes
    assert [order for order in range(8) if pattern.exists_at(order)] == [3]


def test_heads_that_may_be_fake_are_those_that_start_a_page() -> None:
    folio_map = FolioMap.uniform(4, 64 * KIB)
    aligned = set(draw(Pattern("heads-aligned"), folio_map, 64 * KIB, LOOKUPS, rng()))
    others = set(draw(Pattern("heads-unaligned"), folio_map, 64 * KIB, LOOKUPS, rng()))
    assert aligned == set(range(0, 1024, 64))
    assert aligned | others == set(range(0, 1024, 16)) and not aligned & others
    assert not Pattern("heads-unaligned").exists_at(6)
    with pytest.raises(PagebenchError, match="no page is of the pattern heads-unaligned"):
        draw(Pattern("heads-unaligned"), FolioMap.uniform(5, KIB), KIB, LOOKUPS, rng())


@pytest.mark.parametrize("name", ["tails", "mixed"])
def test_base_pages_have_no_tails_to_look_up(name: str) -> None:
    assert not Pattern(name).exists_at(0)
    assert Pattern(name).exists_at(1)
    assert not Pattern("zap").exists_at(0)
    with pytest.raises(PagebenchError, match=r"needs tail pages: give an order above 0"):
        draw(Pattern(name), FolioMap.uniform(0, 16 * KIB), 16 * KIB, 10, rng())


@pytest.mark.parametrize("text", NAMES)
def test_names_are_patterns(text: str) -> None:
    assert Pattern.parse(text) == Pattern(text)


@given(st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_what_a_pattern_is_called_is_what_is_parsed(share: float) -> None:
    pattern = Pattern("mixed", share)
    assert Pattern.parse(str(pattern)) == pattern


def test_a_mixed_pattern_always_says_its_share() -> None:
    assert str(Pattern.parse("mixed")) == "mixed:0.5"
    assert str(Pattern.parse("mixed:.25")) == "mixed:0.25"


@pytest.mark.parametrize(
    "text, why",
    [
        ("", "unknown pattern ''"),
        ("randon", "did you mean 'random'"),
        ("Heads", "did you mean 'heads'"),
        ("head:0.5", "did you mean 'heads'"),
        ("heads:0.5", "only mixed takes a share"),
        ("mixed:", "between 0 and 1, as in mixed:0.25"),
        ("mixed:0", "between 0 and 1"),
        ("mixed:1", "between 0 and 1"),
        ("mixed:-0.5", "between 0 and 1"),
        ("mixed:nan", "between 0 and 1"),
        ("mixed:half", "between 0 and 1"),
        ("mixed:0.5:0.5", "between 0 and 1"),
    ],
)
def test_what_is_no_pattern_is_refused(text: str, why: str) -> None:
    with pytest.raises(PagebenchError, match=why):
        Pattern.parse(text)


def test_a_pattern_that_nothing_draws_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(patterns.DRAWN) == set(PATTERNS)
    monkeypatch.setitem(PATTERNS, "every-other", PatternRow("half added"))  # type: ignore[arg-type]
    half_added, folio_map = Pattern.parse("every-other"), FolioMap.uniform(2, 16 * KIB)
    with pytest.raises(
        PagebenchError, match="no pfns can be drawn for the pattern every-other: known: random"
    ):
        draw(half_added, folio_map, 16 * KIB, 8, np.random.default_rng(0))
