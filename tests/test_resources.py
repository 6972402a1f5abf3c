"""Memory to be had, and what pages a mapping obtained."""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

import pytest
from planted import plant

from pagebench.host import resources
from pagebench.units import MIB


class TestAvailableBytes:
    """MemAvailable, and the cgroups above us where they leave less."""

    MEMORY = "MemTotal: 8000 kB\nMemAvailable: 7000 kB\n"

    def test_without_a_limit_it_is_memavailable(self, tmp_path: Path) -> None:
        files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}
        assert (
            resources.available_bytes(plant(tmp_path, {"proc/meminfo": self.MEMORY, **files})) == 7000 << 10
        )

    @pytest.mark.parametrize(
        "group", ["sys/fs/cgroup/ci/job", "sys/fs/cgroup/ci", "sys/fs/cgroup", "sys/fs/cgroup/unified"]
    )
    def test_the_lowest_limit_above_us_counts(self, tmp_path: Path, group: str) -> None:
        limit = {f"{group}/memory.max": "4096000\n", f"{group}/memory.current": "1000000\n"}
        files = {"proc/meminfo": self.MEMORY, "proc/self/cgroup": "4:memory:/x\n0::/ci/job\n", **limit}
        assert resources.available_bytes(plant(tmp_path, files)) == 3_096_000

    def test_cache_that_can_be_dropped_is_available(self, tmp_path: Path) -> None:
        group = "sys/fs/cgroup/ci"
        files = {
            "proc/meminfo": self.MEMORY,
            "proc/self/cgroup": "0::/ci\n",
            f"{group}/memory.max": "4096000\n",
            f"{group}/memory.current": "4000000\n",
            f"{group}/memory.stat": "anon 100\nfile 3500000\ninactive_file 3000000\nactive_file 500000\n",
        }
        assert resources.available_bytes(plant(tmp_path, files)) == 3_096_000


def vma(start: int, size: int, rss: int, path: str = "", **fields: int) -> str:
    lines = [f"{start:x}-{start + size:x} rw-p 00000000 00:00 0 {path}", f"Size: {size >> 10} kB"]
    lines += [f"Rss:            {rss >> 10} kB", "KernelPageSize:        4 kB"]
    lines += [f"{key}:    {value >> 10} kB" for key, value in fields.items()]
    return "\n".join([*lines, "THPeligible:           1", "VmFlags: rd wr mr mw me ac hg", ""])


BASE = 0x7F00_0000_0000


@pytest.mark.parametrize(
    ("vmas", "expected"),
    [
        ([vma(BASE, 8 * MIB, 8 * MIB, AnonHugePages=8 * MIB)], (0, 8)),
        ([vma(BASE, 8 * MIB, 8 * MIB, AnonHugePages=0)], (8, 0)),
        ([vma(BASE, 8 * MIB, 8 * MIB, AnonHugePages=6 * MIB)], (2, 6)),
        ([vma(BASE, 4 * MIB, 4 * MIB, AnonHugePages=4 * MIB), vma(BASE + 4 * MIB, 4 * MIB, 4 * MIB)], (4, 4)),
        # reaches beyond the range, where nothing was touched
        ([vma(BASE - MIB, 16 * MIB, 8 * MIB, AnonHugePages=8 * MIB)], (0, 8)),
        # reaches beyond the range and is resident there: the same share on both sides
        ([vma(BASE - 8 * MIB, 16 * MIB, 16 * MIB, AnonHugePages=8 * MIB)], (4, 4)),
        ([vma(BASE, 8 * MIB, 0, path="/anon_hugepage (deleted)", Private_Hugetlb=8 * MIB)], (0, 8)),
        ([vma(BASE, 8 * MIB, 8 * MIB, path="/memfd:memmap (deleted)", ShmemPmdMapped=8 * MIB)], (0, 8)),
        # neighbours are none of ours
        ([vma(BASE - MIB, MIB, MIB), vma(BASE, 8 * MIB, 8 * MIB), vma(BASE + 8 * MIB, MIB, MIB)], (8, 0)),
        ([vma(BASE, 8 * MIB, 0)], (0, 0)),
    ],
)
def test_backing_of_a_range(tmp_path: Path, vmas: list[str], expected: tuple[int, int]) -> None:
    root = plant(tmp_path, {"proc/self/smaps": vma(0x1000, 0x2000, 0x2000, "/usr/bin/a:b") + "".join(vmas)})
    small, huge = expected
    assert resources.backing_obtained(BASE, 8 * MIB, root) == {"4k": small * MIB, "2m": huge * MIB}


def test_only_touched_memory_is_backed() -> None:
    pages = 16
    with mmap.mmap(-1, pages * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for page in range(pages):
            memory[page * mmap.PAGESIZE] = 1
        obtained = resources.backing_obtained(base, pages * mmap.PAGESIZE)
    assert sum(obtained.values()) == pages * mmap.PAGESIZE
