"""What anybody may see of a machine's folios: counts of free blocks, huge pages and pages by kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pagebench.host.files import ROOT, fields, read
from pagebench.names import PAGE_SIZE

THP = "sys/kernel/mm/transparent_hugepage"
POOLS = "sys/kernel/mm/hugepages"
# Kinds by the counters of /proc/vmstat that add up to them.
VMSTAT = {
    "anon": ("nr_anon_pages",),
    "file": ("nr_file_pages",),
    "slab": ("nr_slab_reclaimable", "nr_slab_unreclaimable"),
    "pgtable": ("nr_page_table_pages",),
    "buddy": ("nr_free_pages",),
}
MEMMAP = ("nr_memmap_pages", "nr_memmap_boot_pages")


@dataclass(frozen=True, slots=True)
class MemoryCounts:
    """``pages`` by kind, large folios' among them; ``free_blocks``, ``anon_folios`` and ``pools`` by order.

    ``memmap_pages`` is what struct pages take as the kernel counts, about a second late.  Empty or None where
    the kernel does not say.
    """

    pages: Mapping[str, int]
    free_blocks: Mapping[int, int]
    pools: Mapping[int, int]
    anon_folios: Mapping[int, int]
    memmap_pages: int | None


def _by_order(root: Path, folder: str, file: str) -> dict[int, int]:
    counts = {}
    for path in (root / folder).glob(f"hugepages-*kB/{file}"):
        size = path.relative_to(root / folder).parts[0].removeprefix("hugepages-").removesuffix("kB")
        text = read(path) or ""
        if size.isdecimal() and text.isdecimal() and int(size) << 10 >= PAGE_SIZE:
            counts[((int(size) << 10) // PAGE_SIZE).bit_length() - 1] = int(text)
    return dict(sorted(counts.items()))


def _free_blocks(root: Path) -> dict[int, int]:
    """From lines as ``Node 0, zone Normal 4 3 ...``: blocks of order 0, 1, ..."""
    blocks: Counter[int] = Counter()
    for line in (read(root / "proc/buddyinfo") or "").splitlines():
        _, zone, rest = line.partition(" zone ")
        words = rest.split()[1:]
        if zone and all(word.isdecimal() for word in words):
            blocks.update(dict(enumerate(map(int, words))))
    return dict(blocks)


def describe(root: Path = ROOT) -> MemoryCounts:
    """What there is to be seen without root."""
    numbers = {
        name: int(value)
        for name, value in fields(read(root / "proc/vmstat"), " ").items()
        if value.isdecimal()
    }
    memmap = [numbers[name] for name in MEMMAP if name in numbers]
    return MemoryCounts(
        pages={
            kind: sum(numbers[name] for name in names)
            for kind, names in VMSTAT.items()
            if all(name in numbers for name in names)
        },
        free_blocks=_free_blocks(root),
        pools=_by_order(root, POOLS, "nr_hugepages"),
        anon_folios=_by_order(root, THP, "stats/nr_anon"),
        memmap_pages=sum(memmap) if memmap else None,
    )
