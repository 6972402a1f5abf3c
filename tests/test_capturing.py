"""Captures of planted machines, and of this one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from planted import plant
from planted_captures import Named, named
from planted_kernels import GIB, MIB, SYSCTL, plain, pool

from pagebench.capturing import capture
from pagebench.errors import PagebenchError
from pagebench.host import captures

HEAD, TAIL, HUGE, THP, BUDDY = 1 << 15, 1 << 16, 1 << 17, 1 << 22, 1 << 10
PRESENT = 1 << 63


@pytest.fixture(autouse=True)
def base_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: 4096)


def huge(order: int, optimized: bool) -> list[int]:
    """The flags of a huge page's pages."""
    return [HUGE | (HEAD if not pfn or (optimized and pfn % 64 == 0) else TAIL) for pfn in range(1 << order)]


FLAGS = [*huge(9, True) * 2, *[BUDDY] * 500, THP | HEAD, *[THP | TAIL] * 3, *[0] * 8, *huge(9, False)]
RUNS: list[Named] = [
    ("hugetlb", 9, 2),
    ("buddy", 0, 500),
    ("large", 2, 1),
    ("other", 0, 8),
    ("hugetlb", 9, 1),
]


def machine(root: Path, flags: Sequence[int] = FLAGS, **pools: int) -> Path:
    files = plain() | pool(2 * MIB, pools.get("small", 3), {}) | pool(GIB, pools.get("large", 0), {})
    return plant(root, files | {SYSCTL: "1", "proc/kpageflags": np.array(flags, np.uint64).tobytes()})


def test_a_machine_with_fake_heads(tmp_path: Path) -> None:
    found = capture(root=machine(tmp_path))
    assert (found.first, named(found.runs)) == (0, RUNS)
    assert (found.fake_heads, found.unsure, found.torn) == (14, 0, 0)
    assert (found.pools, found.hvo, found.struct_page_bytes) == ({9: 3, 18: 0}, "on", 64)
    assert found.pfns == len(FLAGS)


@pytest.mark.parametrize("first", [0, 1, 63, 64, 100, 512, 1000, 1023, 1024, 1525, 1534])
@pytest.mark.parametrize("count", [1, 2, 64, 500, 512, 600, 1024, 2048, 1 << 30])
def test_a_window_has_the_folios_that_are_whole_in_it(first: int, count: int, tmp_path: Path) -> None:
    starts, whole = 0, []
    for kind, order, folios in RUNS:
        for _ in range(folios):
            if first <= starts and starts + (1 << order) <= first + count:
                whole.append((kind, order, starts))
            starts += 1 << order
    if not whole:
        with pytest.raises(PagebenchError, match=f"no whole folio in window {first},{count}"):
            capture((first, count), root=machine(tmp_path))
        return
    found = capture((first, count), root=machine(tmp_path))
    at, made = found.first, []
    for kind, order, folios in named(found.runs):
        for _ in range(folios):
            made.append((kind, order, at))
            at += 1 << order
    assert (made, found.torn) == (whole, 0)


def test_holes_by_the_memory_blocks(tmp_path: Path) -> None:
    blocks = "sys/devices/system/memory"
    root = plant(
        machine(tmp_path), {f"{blocks}/block_size_bytes": "5e4000", f"{blocks}/memory0/state": "online"}
    )
    assert named(capture(root=root).runs)[3] == ("nopage", 0, 8)  # 0x5e4 pages are where it begins


def test_a_process(tmp_path: Path) -> None:
    root = machine(tmp_path)
    pfns = [3, 4, 1024, 700, 701, 9999]
    entries = np.array([PRESENT | pfn for pfn in pfns], np.uint64).tobytes()
    smaps = "0-6000 rw-p 00000000 00:00 0\nRss: 24 kB\n"
    found = capture(pid=7, root=plant(root, {"proc/7/smaps": smaps, "proc/7/pagemap": entries}))
    assert found.process and found.process.outside == 1
    assert found.process.stretches.tolist() == [(0, 3, 2), (2, 0, 1), (1, 188, 2)]
    assert found.mapped_pfns().tolist() == pfns[:-1]


def test_other_base_pages_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: 65536)
    with pytest.raises(PagebenchError, match="this kernel has 64K pages"):
        capture(root=machine(tmp_path))


def test_no_flags_at_all(tmp_path: Path) -> None:
    with pytest.raises(PagebenchError, match="no whole folio in /proc/kpageflags"):
        capture(root=machine(tmp_path, []))
    with pytest.raises(PagebenchError, match="no whole folio in window 9999,1"):
        capture((9999, 1), root=machine(tmp_path))


real = pytest.mark.skipif(not os.access("/proc/kpageflags", os.R_OK), reason="page flags are for root")
POOL = Path("/sys/kernel/mm/hugepages")
HVO = Path("/") / SYSCTL
HUGE_PAGES = 16


@real
def test_of_this_machine(tmp_path: Path) -> None:
    found = capture((0, 1 << 18))
    captures.write(found, tmp_path / "c.gz")
    assert named(captures.read(tmp_path / "c.gz").runs) == named(found.runs)
    assert found.torn < found.pfns // 100


@pytest.fixture
def pools() -> Iterator[Callable[[str, int, str], None]]:
    """Sets a pool and the switch for a test; both are put back."""
    files = [*POOL.glob("*/nr_hugepages"), HVO]
    if not HVO.exists() or not POOL.exists():
        pytest.skip("this kernel has no HVO")
    if not all(os.access(file, os.W_OK) for file in files):
        pytest.skip("pools are root's to set")
    before = {file: file.read_text() for file in files}
    if any(text.strip() != "0" for text in before.values()):
        pytest.skip("huge pages or HVO are in use here")

    def fill(size: str, count: int, hvo: str) -> None:
        HVO.write_text(hvo)
        file = POOL / f"hugepages-{size}" / "nr_hugepages"
        if not file.exists():
            pytest.skip(f"no pool of {size}")
        file.write_text(str(count))
        if int(file.read_text()) < count:
            pytest.skip(f"no {count} huge pages of {size} were to be had")

    try:
        yield fill
    finally:
        for file in files:
            try:
                file.write_text(before[file])
            except OSError:
                time.sleep(1)
                file.write_text(before[file])


@real
@pytest.mark.slow
@pytest.mark.parametrize("hvo", ["0", "1"])
@pytest.mark.parametrize(("size", "order", "count"), [("2048kB", 9, HUGE_PAGES), ("1048576kB", 18, 1)])
def test_of_real_pools(
    size: str, order: int, count: int, hvo: str, pools: Callable[[str, int, str], None]
) -> None:
    pools(size, count, hvo)
    found = capture()
    hugetlb = found.runs[found.is_kind("hugetlb")]
    assert set(hugetlb["order"].tolist()) <= {order}
    seen = int(hugetlb["count"].sum())
    # Some kernels say nothing of memory that was initialised late.
    assert 0 < seen <= count
    assert found.fake_heads == (seen * ((1 << order - 6) - 1) if hvo == "1" else 0)
    assert (found.unsure, found.torn) == (0, 0)
