"""Traces: what is recorded is what valgrind sees, and linear addresses get physical ones."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import groupby, pairwise
from pathlib import Path

import lackeys
import numpy as np
import pytest
from hand_made import loop
from hypothesis import given
from hypothesis import strategies as st

from pagebench import core
from pagebench.cache import recorded, traces
from pagebench.code.recording import BRANCH, Site
from pagebench.errors import PagebenchError
from pagebench.names import PAGE_SIZE
from pagebench.units import KIB

pytestmark = pytest.mark.usefixtures("own_cache")
SHIFTS = st.sampled_from([12, 21])


def frames(seed: int = 0) -> traces.Frames:
    return traces.Frames(np.random.default_rng(seed))


class TestFrames:
    @given(st.integers(0, 2**32), st.lists(st.tuples(st.integers(1, 3000), SHIFTS), max_size=5))
    def test_no_frame_is_drawn_twice(self, seed: int, draws: list[tuple[int, int]]) -> None:
        drawn = frames(seed)
        bytes_seen: dict[int, list[int]] = {12: [], 21: []}
        for count, shift in draws:
            new = drawn.draw(count, shift)
            assert (new.dtype, len(new)) == (np.uint32, count)
            bytes_seen[shift] += (new.astype(np.int64) << shift).tolist()
        every = bytes_seen[12] + bytes_seen[21]
        assert len(set(every)) == len(every)
        # Nor is one of 4K inside one of 2M.
        assert not {at >> 21 for at in bytes_seen[12]} & {at >> 21 for at in bytes_seen[21]}

    def test_they_are_the_seeds(self) -> None:
        assert frames(1).draw(100, 12).tolist() == frames(1).draw(100, 12).tolist()
        assert frames(1).draw(100, 12).tolist() != frames(2).draw(100, 12).tolist()

    def test_their_colours_are_drawn(self) -> None:
        """As in a machine, not page after page: sets of a physically indexed cache fill by chance."""
        colours = np.bincount(frames().draw(64 * 64, 12) % 64, minlength=64)
        assert colours.min() > 20 and colours.max() < 120
        assert np.ptp(colours) > 5

    def test_page_tables_have_lines_of_their_own(self) -> None:
        drawn = frames()
        ends = []
        for pages in (1, 8, 9, 5000, 1):
            begin = drawn.tables(pages)
            ends.append((begin, begin + pages // 8 + 2))
        assert all(end <= begin for (_, end), (begin, _) in pairwise(ends))
        # Above all frames, so that none is a page table's.
        assert ends[0][0] * 64 >= traces.SMALL_FRAMES + traces.LARGE_FRAMES
        assert ends[-1][1] * 64 < traces.SMALL_FRAMES + traces.LARGE_FRAMES + traces.TABLES


def memory_of(base: int, size: int, shift: int = 12, its: list[int] | None = None) -> traces.Memory:
    return traces.Memory(base, size, shift, None if its is None else np.array(its, np.uint32), frames())


class TestMemory:
    @given(st.integers(1 << 30, 1 << 40), st.integers(1, 1 << 22), SHIFTS, st.integers(0, 4096), st.data())
    def test_regions_never_overlap_and_translate(
        self, base: int, size: int, shift: int, in_page: int, data: st.DataObject
    ) -> None:
        memory = memory_of(base, size, shift)
        offsets = np.zeros(data.draw(st.integers(1, 4000)), np.uint32)
        memory.add_pattern(offsets)
        pages = data.draw(st.lists(st.integers(1 << 20, 1 << 22), max_size=traces.OTHER_PAGES, unique=True))
        stack = np.array([page * PAGE_SIZE + in_page % PAGE_SIZE // 8 * 8 for page in pages], np.uint64)
        memory.add_other(stack, "it")
        memory.add_other(stack, "it")
        for one, other in pairwise(memory.regions):
            assert one.begin < one.end <= other.begin
        for region in memory.regions:
            assert region.begin % (1 << region.page_shift) == 0
            assert len(region.frames) == region.end - region.begin >> region.page_shift
        ends = [base, base + size - 1, offsets.ctypes.data, offsets.ctypes.data + offsets.nbytes - 1]
        records = np.concatenate([np.array(ends, np.uint64), stack])
        with core.CacheSim(core.CacheGeometry((core.Cache(64, 8),))) as sim:
            sim.run(sim.translate(memory.regions, records))
            counts = sim.counts.accesses
        # A page that is drawn for the stack may be the memmap's.
        assert counts[traces.MEMMAP] + counts[traces.OTHER] == len(stack) + 2
        assert counts[traces.PATTERN] == 2

    def test_frames_that_are_shared_stay_shared(self) -> None:
        memory = memory_of(1 << 30, 4 * PAGE_SIZE, 12, [0, 1, 1, 0])
        ((physical,),) = [[region.frames.tolist() for region in memory.regions]]
        assert physical[0] == physical[3] != physical[1] == physical[2]

    def test_a_memmap_may_begin_and_end_inside_pages(self) -> None:
        (region,) = memory_of((1 << 30) + 1000, PAGE_SIZE).regions
        assert (region.begin, region.end) == (1 << 30, (1 << 30) + 2 * PAGE_SIZE)

    def test_a_stack_is_a_few_pages(self) -> None:
        memory = memory_of(1 << 30, PAGE_SIZE)
        pages = np.arange(100, 100 + traces.OTHER_PAGES, dtype=np.uint64) * np.uint64(PAGE_SIZE)
        memory.add_other(pages, "it")
        memory.add_other(pages, "it")
        assert [region.access_class for region in memory.regions].count(traces.OTHER) == traces.OTHER_PAGES
        with pytest.raises(
            PagebenchError, match=f"it touches {traces.OTHER_PAGES + 1} pages beside the memmap"
        ):
            memory.add_other(np.array([1 << 36], np.uint64), "it")

    def test_a_memmaps_own_are_no_stack(self) -> None:
        memory = memory_of(1 << 30, 64 * PAGE_SIZE)
        memory.add_other((1 << 30) + np.arange(64, dtype=np.uint64) * np.uint64(PAGE_SIZE), "it")
        assert len(memory.regions) == 1


SITES = (Site(0, "load", 4), Site(4, "update", 8), Site(8, "branch", 0))


def record_of(site: int, address: int) -> int:
    return site << 48 | address


class TestRecords:
    @pytest.mark.parametrize(
        ("record", "over"),
        [
            (record_of(0, 60), False),
            (record_of(0, 61), True),
            (record_of(1, 56), False),
            (record_of(1, 60), True),
            (record_of(1, (1 << 40) + 127), True),
            (BRANCH | record_of(2, 1), False),
        ],
    )
    def test_an_access_over_two_lines_is_refused(self, record: int, over: bool) -> None:
        records = np.array([record_of(0, 0), record, record_of(1, 64)], np.uint64)
        if over:
            with pytest.raises(PagebenchError, match=r"^it has an access over two lines: not simulated$"):
                traces.check_sites(SITES, records, "it")
        else:
            traces.check_sites(SITES, records, "it")

    def test_accesses_are_all_but_branches(self) -> None:
        records = np.array([record_of(1, 72), BRANCH | record_of(2, 1), record_of(0, 8)], np.uint64)
        assert traces.accesses_of(records).tolist() == [72, 8]

    def test_chunks_come_to_the_same(self) -> None:
        one = ("", "by hand")
        ready = recorded.record(
            {one: loop("1: mov eax, [rsi]; mov ecx, [rdi]; add rsi, 4; dec rdx; jne 1b; ret")}
        )
        memory, offsets = np.zeros(8, np.uint64), np.arange(1000, dtype=np.uint32)

        def every(chunk: int) -> Iterator[list[int]]:
            with core.Recorder(ready.loops, 4000) as recorder:
                for part in traces.records(recorder, ready.runs[one], memory.ctypes.data, offsets, chunk):
                    yield part.tolist()

        (whole,) = every(1000)
        parts = list(every(300))
        assert [len(part) for part in parts] == [901, 901, 901, 301]
        # But for the return's, and where a chunk's last branch falls through.
        mine = [record for part in parts for record in part[:-1] if record < BRANCH]
        assert mine == [record for record in whole[:-1] if record < BRANCH]

    def test_a_loop_that_records_more_than_its_sites_gets_smaller_chunks(self) -> None:
        """It has a loop of its own, of a thousand loads."""
        one = ("", "by hand")
        ready = recorded.record(
            {
                one: loop(
                    "1: mov eax, [rsi]; mov ecx, 1000; 2: mov r8, [rdi]; dec ecx; jnz 2b; "
                    "add rsi, 4; dec rdx; jne 1b; ret"
                )
            }
        )
        memory, offsets = np.zeros(8, np.uint64), np.arange(100, dtype=np.uint32)

        def every(room: int) -> list[int]:
            with core.Recorder(ready.loops, room) as recorder:
                parts = [
                    traces.accesses_of(part)
                    for part in traces.records(recorder, ready.runs[one], memory.ctypes.data, offsets, 80)
                ]
            assert len(parts) > 1
            return np.concatenate(parts).tolist()

        # A load from the sequence, and the thousand; and of each chunk the return.
        found = every(5000)
        assert found.count(memory.ctypes.data) == 100 * 1000
        assert [at for at in found if at in range(offsets.ctypes.data, offsets.ctypes.data + 400)] == [
            offsets.ctypes.data + 4 * i for i in range(100)
        ]
        with pytest.raises(traces.NotSimulatedError):
            every(500)

    def test_a_chunk_has_room_for_its_records(self) -> None:
        for sites in (1, 10, 100):
            for turns in (1, 512):
                chunk = traces.chunk_lookups([SITES[0]] * sites, turns)
                assert chunk == 1 or chunk * sites * turns + 1 <= traces.CHUNK


# ---- By valgrind.

needs_valgrind = pytest.mark.skipif(
    not shutil.which("valgrind"), reason="no valgrind here: apt-get install valgrind"
)
# One of each probe, over patterns and orders that differ; the fake heads' with a counter on the stack.
LOOPS = [
    ("pointer-branch", "lookup", "random", 2),
    ("mask-select", "lookup", "heads", 0),
    ("pointer-branch", "chain", "tails", 4),
    ("branchless", "flags", "random", 9),
    ("fakehead", "flags", "random", 6),
    ("mask", "get", "mixed:0.25", 2),
    ("fakehead", "gup", "random", 6),
    ("branchless", "zap", "scan", 9),
    ("mask", "try_get", "random", 2),
    ("fakehead", "try_get", "heads", 2),
    ("mask", "prep", "heads", 6),
]
GEOMETRIES = {
    # Small enough that sets collide in both.
    "4K/2, 16K/4": (core.Cache(32, 2), core.Cache(64, 4)),
    "48K/12, 1M/16": (core.Cache(64, 12), core.Cache(1024, 16)),
    "32K/8, 256K/8": (core.Cache(64, 8), core.Cache(512, 8)),
}
FOOTPRINT, LOOKUPS = 256 * KIB, 2000


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lackeys.build(tmp_path_factory.mktemp("valgrind"))


def recording_of(scratch: Path, one: tuple[str, str, str, int], lookups: int) -> lackeys.Recording:
    variant, probe, pattern, order = one
    if probe == "prep":
        lookups //= 1 << order
    return lackeys.record(scratch, variant, probe, pattern, order, FOOTPRINT, lookups)


def without_repeats(seen: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Valgrind has a `lock add` as two loads and a store."""
    return [one for one, _ in groupby(seen)]


@needs_valgrind
@pytest.mark.slow
@pytest.mark.parametrize("one", LOOPS, ids=lambda one: " ".join(map(str, one)))
def test_addresses_are_lackeys(program: Path, one: tuple[str, str, str, int], tmp_path: Path) -> None:
    recording = recording_of(tmp_path, one, 700)
    seen = lackeys.without_modifies(lackeys.lackey(program, recording))
    mine = lackeys.as_lackey_sees(recording)
    assert len(mine) > 600
    assert without_repeats(seen) == without_repeats(mine)


@needs_valgrind
@pytest.mark.slow
@pytest.mark.parametrize("one", LOOPS, ids=lambda one: " ".join(map(str, one)))
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_misses_are_cachegrinds(
    program: Path, one: tuple[str, str, str, int], geometry: str, tmp_path: Path
) -> None:
    recording = recording_of(tmp_path, one, LOOKUPS)
    caches = GEOMETRIES[geometry]
    expected = lackeys.cachegrind(program, recording, *caches)
    assert expected[0] >= expected[1] > 0
    assert lackeys.simulated(recording, *caches, simd=True) == expected
    assert lackeys.simulated(recording, *caches, simd=False) == expected
