"""What anybody may see: the kernel's own counts."""

from __future__ import annotations

from pathlib import Path

from planted import plant

from pagebench.host import memory_counts
from pagebench.host.memory_counts import MemoryCounts

THP = "sys/kernel/mm/transparent_hugepage"
POOLS = "sys/kernel/mm/hugepages"


def test_counts_of_a_kernel_that_says_all(tmp_path: Path) -> None:
    files = {
        "proc/vmstat": "nr_free_pages 100\nnr_anon_pages 20\nnr_file_pages 30\nnr_slab_reclaimable 4\n"
        "nr_slab_unreclaimable 6\nnr_page_table_pages 3\nnr_memmap_pages 7\nnr_memmap_boot_pages 90\n",
        "proc/buddyinfo": "Node 0, zone      DMA      1      0      2\n"
        "Node 0, zone   Normal     10     20     30\n",
        f"{THP}/hugepages-64kB/stats/nr_anon": "5\n",
        f"{THP}/hugepages-2048kB/stats/nr_anon": "2\n",
        f"{THP}/hugepages-2048kB/enabled": "always\n",
        f"{POOLS}/hugepages-2048kB/nr_hugepages": "32\n",
        f"{POOLS}/hugepages-1048576kB/nr_hugepages": "1\n",
    }
    assert memory_counts.describe(plant(tmp_path, files)) == MemoryCounts(
        pages={"anon": 20, "file": 30, "slab": 10, "pgtable": 3, "buddy": 100},
        free_blocks={0: 11, 1: 20, 2: 32},
        pools={9: 32, 18: 1},
        anon_folios={4: 5, 9: 2},
        memmap_pages=97,
    )


def test_counts_of_one_that_says_nothing_or_nonsense(tmp_path: Path) -> None:
    nothing = MemoryCounts({}, {}, {}, {}, None)
    assert memory_counts.describe(tmp_path) == nothing
    files = {
        "proc/vmstat": "nr_free_pages many\nnr_slab_reclaimable 4\n",
        "proc/buddyinfo": "Node 0, zone\nzone\nNode 0, zone DMA x y\n",
        f"{POOLS}/hugepages-2MkB/nr_hugepages": "32\n",
        f"{POOLS}/hugepages-2048kB/nr_hugepages": "-1\n",
    }
    assert memory_counts.describe(plant(tmp_path, files)) == nothing


def test_counts_of_this_machine_need_no_root() -> None:
    counts = memory_counts.describe()
    assert counts.pages["buddy"] > 0
    assert counts.free_blocks
