"""Memory for memmaps: as asked for or refused, given back once, and verified."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from populated import Memmap
from writable import is_writable

from pagebench import core
from pagebench.host import resources
from pagebench.memmap.folios import FolioMap
from pagebench.names import BUILT_IN_STRUCT_PAGES

MIB = 1 << 20
# Positive for the C library, yet beyond any address space: refused whatever vm.overcommit_memory says.
TOO_MUCH = 1 << 62


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@given(
    shift=st.integers(3, 24),
    size=st.integers(1, 4 * MIB),
    backing=st.sampled_from(["4k", "2m"]),
)
def test_reservations_are_aligned_and_zero(shift: int, size: int, backing: str) -> None:
    with core.Reservation(size, 1 << shift, backing) as memory:
        assert memory.base % (1 << shift) == 0
        assert memory.size == size
        for offset in (0, size - 1):
            assert memory.bytes_at(offset, 1) == b"\0"


def test_a_reservation_is_zero_even_where_one_was_before() -> None:
    for _ in range(3):
        with core.Reservation(MIB, 4096, "4k") as memory:
            assert not any(memory.bytes_at(0, MIB))
            core.ffi.memmove(core.ffi.cast("char *", memory.base), b"\xa5" * MIB, MIB)
            assert memory.bytes_at(MIB - 1, 1) == b"\xa5"


def test_a_backing_is_not_that_of_the_reservation_before() -> None:
    for alignment in (4096, 2 * MIB):
        core.Reservation(8 * MIB, alignment, "2m").close()
        with core.Reservation(8 * MIB, alignment, "4k") as memory:
            assert resources.backing_obtained(memory.base, memory.size) == {"4k": 8 * MIB, "2m": 0}


def test_a_reservation_is_resident_until_closed() -> None:
    before = resident_bytes()
    for backing in ("4k", "2m"):
        for _ in range(4):
            with core.Reservation(64 * MIB, 2 * MIB, backing) as memory:
                # Of the whole process, what others gave back meanwhile would be missing.
                assert sum(resources.backing_obtained(memory.base, memory.size).values()) == 64 * MIB
            assert resident_bytes() - before < 32 * MIB


def test_a_reservation_is_closed_once() -> None:
    memory = core.Reservation(4096, 4096, "4k")
    memory.close()
    memory.close()
    with memory:
        pass


def test_a_reservation_is_closed_on_the_way_out_of_an_error() -> None:
    before = resident_bytes()
    for _ in range(4):
        with pytest.raises(RuntimeError), core.Reservation(64 * MIB, 4096, "4k"):
            raise RuntimeError
    assert resident_bytes() - before < 32 * MIB


@pytest.mark.parametrize(
    ("offset", "size"), [(-1, 1), (0, 4097), (4096, 1), (4097, 0), (1, -1), (0, 1 << 70)]
)
def test_bytes_outside_a_reservation(offset: int, size: int) -> None:
    with core.Reservation(4096, 4096, "4k") as memory:
        assert memory.bytes_at(4096, 0) == b""
        with pytest.raises(IndexError, match="outside the 4096 bytes reserved"):
            memory.bytes_at(offset, size)


@pytest.mark.parametrize("backing", ["4k", "2m"])
def test_too_much_memory(backing: str) -> None:
    with pytest.raises(OSError, match=f"reserving {TOO_MUCH} bytes aligned to 4096: .*memory") as caught:
        core.Reservation(TOO_MUCH, 4096, backing)
    assert caught.value.errno == errno.ENOMEM


@pytest.mark.parametrize(("size", "alignment"), [(4096, 4097), (4096, 0), (0, 4096)])
def test_no_size_and_no_alignment(size: int, alignment: int) -> None:
    with pytest.raises(OSError, match=f"reserving {size} bytes aligned to {alignment}: Invalid") as caught:
        core.Reservation(size, alignment, "4k")
    assert caught.value.errno == errno.EINVAL


def test_frames_alias_and_are_unmapped_once() -> None:
    frames = core.FrameMapping(np.array([0, 0, 1], np.uint32), np.array([True, False, True]), 1 << 16)
    assert frames.base % (1 << 16) == 0
    assert is_writable(frames.base)
    assert not is_writable(frames.base + 4096)
    core.ffi.memmove(core.ffi.cast("char *", frames.base), b"head", 4)
    for alias in (frames.base + 4096, frames.all_frames):
        assert bytes(core.view(alias, 5)) == b"head\0"
    frames.close()
    frames.close()


LOOKING = sorted(set(core.built_in_variants()) - {"identity"})


@given(
    name=st.sampled_from(LOOKING),
    size=st.sampled_from(BUILT_IN_STRUCT_PAGES),
    probe=st.sampled_from(["lookup", "chain", "flags"]),
    order=st.integers(1, 9),
    data=st.data(),
)
def test_verification_finds_what_was_planted(
    name: str, size: int, probe: str, order: int, data: st.DataObject
) -> None:
    variant = core.built_in_variants(size)[name]
    run = variant.probes[probe].run
    with Memmap(variant, order, folios=4) as memmap:
        tails = [i for i in range(4 << order) if i % (1 << order)]
        planted = sorted(data.draw(st.sets(st.sampled_from(tails), max_size=5)))
        shuffle = np.array(data.draw(st.permutations(range(4 << order))) if order < 4 else [*tails, 0])
        for tail in planted:
            memmap.write_word(tail, 0)
        found = core.verify(run, memmap.base, memmap.offsets[shuffle], memmap.heads[shuffle])
        where = np.flatnonzero(np.isin(shuffle, planted))
        assert found.wrong == len(planted)
        if planted:
            assert found.first == where[0]
            assert found.got == memmap.offsets[shuffle[where[0]]] * core.OFFSET_UNIT


def test_verification_gives_what_was_got_on_either_side_of_the_base() -> None:
    variant = core.built_in_variants()["pointer"]
    with Memmap(variant, order=2, folios=2) as memmap:
        for distance in (-64, 1 << 40):
            memmap.write_word(5, (memmap.base + distance) | 1)
            run = variant.probes["lookup"].run
            found = core.verify(run, memmap.base, memmap.offsets, memmap.heads)
            assert found == core.Verification(wrong=1, first=5, got=distance)


@pytest.mark.slow
def test_flushed_lines_come_from_memory_again() -> None:
    """A chain through 256 KiB, which any L2 holds: first after flushing it, then right after that."""
    folio_map = FolioMap.uniform(0, 256 << 10)
    variant = core.built_in_variants()["pointer-select"]
    clock = core.Clock(1_000_000)
    offsets = np.random.default_rng(0).permutation(folio_map.offsets_of(folio_map.page_pfns))
    samples = np.zeros(2, core.SAMPLE_DTYPE)
    samples["run"], samples["offsets"], samples["lookups"] = (
        variant.probes["chain"].run,
        offsets.ctypes.data,
        len(offsets),
    )
    slower = 0
    with core.Reservation(folio_map.bytes, 2 << 20, "2m") as memory:
        samples["base"] = memory.base
        core.populate(variant, memory.base, folio_map.folios)
        written = memory.bytes_at(0, memory.size)
        for _ in range(21):
            core.flush(memory.base, memory.size)
            core.run_samples(clock, samples)
            slower += int(samples["ticks"][0]) > 2 * int(samples["ticks"][1])
        assert memory.bytes_at(0, memory.size) == written
    assert slower > 15
