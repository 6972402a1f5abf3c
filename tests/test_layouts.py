"""Layouts: what aliases in the kernel aliases here."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_folios import folio_map_of
from writable import is_writable

from pagebench import core, names
from pagebench.errors import PagebenchError
from pagebench.memmap import layouts, memmaps
from pagebench.memmap.folios import FolioMap
from pagebench.names import PAGE_SIZE
from pagebench.plan.groups import Cell, Contender, Group, Plan
from pagebench.units import KIB
from pagebench.variants import registry

ORDER = 9
PAGES = (64 << ORDER) // PAGE_SIZE


def frames_behind(base: int, pages: int) -> list[int]:
    """Physical frame numbers from /proc/self/pagemap; 0 where they are hidden."""
    with Path("/proc/self/pagemap").open("rb") as pagemap:
        pagemap.seek(base // PAGE_SIZE * 8)
        entries = struct.unpack(f"{pages}Q", pagemap.read(8 * pages))
    return [entry & ((1 << 55) - 1) for entry in entries]


def wrong(variant_name: str, mapped: memmaps.MappedMemmap) -> core.Verification:
    variant, folio_map = registry.find(variant_name), mapped.folio_map
    mapped.write(variant, True)
    run = variant.probes["lookup"].run
    return core.verify(run, mapped.base, folio_map.page_offsets, folio_map.head_offsets)


@pytest.mark.parametrize("name", ["plain", "hvo", "hvo-shared"])
def test_physical_frames_are_those_of_the_kernel(name: str) -> None:
    folio_map = FolioMap.uniform(ORDER, 4 * (64 << ORDER))
    with memmaps.MappedMemmap(name, folio_map) as mapped:
        mapped.write(registry.find("branchless" if name == "hvo-shared" else "fakehead"), True)
        frames = np.array(frames_behind(mapped.base, 4 * PAGES)).reshape(4, PAGES)
        if not frames.any():
            pytest.skip("/proc/self/pagemap hides frame numbers from all but root")
        first, rest = frames[:, 0], frames[:, 1:]
        assert len(set(first)) == 4
        if name == "plain":
            assert len(np.unique(frames)) == 4 * PAGES
        elif name == "hvo":
            assert (rest == first[:, None]).all()
        else:
            assert len(np.unique(rest)) == 1
            assert rest[0, 0] not in first


def test_a_write_through_one_address_is_read_through_the_other() -> None:
    folio_map = FolioMap.uniform(ORDER, 2 * (64 << ORDER))
    with memmaps.MappedMemmap("hvo", folio_map) as mapped:
        memory = core.view(mapped.base, folio_map.bytes)
        for folio in range(2):
            head = folio * PAGES * PAGE_SIZE
            memory[head + 100] = 17 + folio
            assert set(memory[head + 100 : head + PAGES * PAGE_SIZE : PAGE_SIZE]) == {17 + folio}


@pytest.mark.parametrize("name", ["hvo", "hvo-shared"])
def test_the_first_page_alone_can_be_written_to(name: str) -> None:
    with memmaps.MappedMemmap(name, FolioMap.uniform(ORDER, 64 << ORDER)) as mapped:
        assert is_writable(mapped.base) and is_writable(mapped.base + PAGE_SIZE - 1)
        assert not any(is_writable(mapped.base + page * PAGE_SIZE) for page in range(1, PAGES))


def test_which_variants_serve_which_layout_is_found_by_looking_up() -> None:
    folio_map = FolioMap.uniform(ORDER, 3 * (64 << ORDER))
    found = {}
    for name in names.LAYOUTS:
        with memmaps.MappedMemmap(name, folio_map) as mapped:
            for variant in ("pointer", "fakehead", "fakehead-select", "mask", "mask-branch", "branchless"):
                found[name, variant] = wrong(variant, mapped).wrong
    fake_heads = 3 * (PAGES - 1)
    # Shared tails point to the first folio's head, or hold a mask.
    elsewhere = 2 * (PAGES - 1) * (PAGE_SIZE // 64)
    pointers = ("pointer", "mask", "mask-branch", "branchless")
    fixed, masks = ("fakehead", "fakehead-select"), ("mask", "mask-branch", "branchless")
    assert found == {
        **{("plain", v): 0 for v in (*pointers, *fixed)},
        **{("hvo", v): fake_heads for v in pointers},
        **{("hvo", v): 0 for v in fixed},
        **{("hvo-shared", v): elsewhere for v in ("pointer", *fixed)},
        **{("hvo-shared", v): 0 for v in masks},
    }


def test_the_first_fake_head_is_named() -> None:
    with memmaps.MappedMemmap("hvo", FolioMap.uniform(ORDER, 64 << ORDER)) as mapped:
        found = wrong("pointer", mapped)
    assert (found.wrong, found.first, found.got) == (PAGES - 1, 64, PAGE_SIZE)


@st.composite
def mixed_maps(draw: st.DrawFn) -> FolioMap:
    """Folios of mixed orders one behind the other, some of them hugetlb's."""
    folios, optimised, pfn = [], [], 0
    for order, hugetlb in draw(
        st.lists(st.tuples(st.integers(0, 10), st.booleans()), min_size=1, max_size=8)
    ):
        pfn = -(-pfn // (1 << order)) << order
        folios.append((pfn, order))
        optimised.append(hugetlb)
        pfn += 1 << order
    return folio_map_of(64, folios, optimised)


@settings(max_examples=40, deadline=None)
@given(mixed_maps(), st.sampled_from([("hvo", "fakehead"), ("hvo-shared", "branchless")]))
def test_any_mix_of_folios_serves(folio_map: FolioMap, which: tuple[str, str]) -> None:
    name, variant = which
    with memmaps.MappedMemmap(name, folio_map) as mapped:
        assert wrong(variant, mapped).wrong == 0
        optimised = folio_map.optimised & (folio_map.orders >= 7)
        saved = int(((1 << folio_map.orders[optimised]) // 64 - 1).sum())
        pages = -(-folio_map.bytes // PAGE_SIZE)
        shared = len(set(folio_map.orders[optimised])) if name == "hvo-shared" else 0
        assert int(mapped.map.frames.max()) + 1 == pages - saved + shared
        assert int((~mapped.map.writable).sum()) == saved


def test_mappings_are_counted_as_the_kernel_counts_them() -> None:
    folio_map = FolioMap.uniform(ORDER, 16 * (64 << ORDER))
    with memmaps.MappedMemmap("hvo", folio_map) as mapped:
        maps = Path("/proc/self/maps").read_text().splitlines()
        inside = [
            line
            for line in maps
            if mapped.base <= int(line.split("-")[0], 16) < mapped.base + folio_map.bytes
        ]
        assert mapped.map.mappings == len(inside) == 16 * PAGES


def test_too_many_mappings_are_refused_with_both_numbers(tmp_path: Path) -> None:
    for name, text in {"proc/sys/vm/max_map_count": "70\n", "proc/self/maps": "a mapping\n" * 60}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    layouts.check_map_count(10, tmp_path)
    with pytest.raises(
        PagebenchError, match=r"needs 4096 mappings and 10 are free: sysctl vm.max_map_count=4166"
    ):
        layouts.check_map_count(4096, tmp_path)
    layouts.check_map_count(4096, tmp_path / "absent")
    assert layouts.frame_map("hvo", FolioMap.uniform(22, 1)).mappings == 65536


@pytest.mark.parametrize("size", [56, 96])
def test_only_powers_of_two_are_optimized(size: int) -> None:
    assert not names.LAYOUTS["hvo"].exists_at(18, size)
    assert layouts.frame_map("hvo", FolioMap.uniform(ORDER, 1, size)).writable.all()


def test_order_6_is_one_page_and_stays() -> None:
    assert [names.LAYOUTS["hvo"].exists_at(order, 64) for order in (6, 7)] == [False, True]
    assert names.LAYOUTS["plain"].exists_at(0, 64)


def held() -> tuple[int, int]:
    """Open files and mapped frames."""
    maps = Path("/proc/self/maps").read_text()
    return len(list(Path("/proc/self/fd").iterdir())), maps.count("memfd:pagebench")


def test_closing_gives_everything_back() -> None:
    before = held()
    mapped = memmaps.MappedMemmap("hvo", FolioMap.uniform(ORDER, 1 << 20))
    mapped.close()
    mapped.close()
    assert held() == before


# What device DAX makes of a memmap (VMEMMAP_RESERVE_NR): the head's page and the first of tails stay.
DAX = names.Layout("device DAX: each folio's second frame again, read-only", "last-kept", 2)


def test_a_layout_is_one_row(
    monkeypatch: pytest.MonkeyPatch, place: Callable[..., Any], tiny: Callable[..., Plan]
) -> None:
    """It is parsed, planned, counted, mapped and verified."""
    monkeypatch.setitem(names.LAYOUTS, "dax", DAX)  # type: ignore[arg-type]
    contender = Contender.parse("branchless@dax")
    assert (contender.backing, str(contender)) == ("memfd", "branchless@dax")
    with pytest.raises(PagebenchError, match="leave the backing out"):
        Contender.parse("branchless@dax:4k")
    asked = {
        "contenders": ("branchless", "branchless@dax"),
        "probes": ("chain", "prep"),
        "patterns": ("heads",),
    }
    planned = {
        (group.order, group.probe)
        for group in tiny(orders=(7, 8), footprints=("64K",), **asked).groups
        if contender in [cell.contender for cell in group.cells]
    }
    assert planned == {(8, "chain")}  # order 7 keeps both of its pages; tails may not be written
    folio_map = FolioMap.uniform(ORDER, 4 * (64 << ORDER))
    frames = layouts.frame_map("dax", folio_map).frames.reshape(4, PAGES)
    assert (frames[:, 2:] == frames[:, 1:2]).all()
    assert len(np.unique(frames)) == 2 * 4
    cells = (Cell(contender, "contender", 0), Cell(contender, "aa", 0))
    placement = place(Group(ORDER, 64 * KIB, "random", "chain", "l2", True, cells))
    assert [at.layout for at in placement.memmaps._memmaps] == ["dax"]
    placement.verify()
    with memmaps.MappedMemmap("dax", folio_map) as mapped:
        # No fake heads: behind the kept pages are tails alone.
        assert {
            name: wrong(name, mapped).wrong for name in ("pointer", "fakehead", "mask", "branchless")
        } == dict.fromkeys(("pointer", "fakehead", "mask", "branchless"), 0)
        assert not is_writable(mapped.base + 2 * PAGE_SIZE)
        assert is_writable(mapped.base + PAGE_SIZE)


def test_a_layout_that_nothing_can_map_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    half_added = names.Layout("each folio's last frame again", "last", 1)  # type: ignore[arg-type]
    monkeypatch.setitem(names.LAYOUTS, "half-added", half_added)  # type: ignore[arg-type]
    folio_map = FolioMap.uniform(ORDER, 64 << ORDER)
    with pytest.raises(PagebenchError, match="half-added maps pages from 'last': known: last-kept, shared"):
        layouts.frame_map("half-added", folio_map)
    with pytest.raises(PagebenchError, match="unknown layout 'hvo-share': did you mean 'hvo-shared'"):
        layouts.frame_map("hvo-share", folio_map)


def test_every_layout_can_be_mapped() -> None:
    assert {row.rest for row in names.LAYOUTS.values() if row.aliased} == set(layouts.ALIASES)
