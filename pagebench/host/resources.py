"""How much memory there is to be had, and what pages a mapping obtained."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pagebench.host.files import ROOT, fields, read, size_bytes

HUGETLB = ("Private_Hugetlb", "Shared_Hugetlb")
PMD_MAPPED = ("AnonHugePages", "ShmemPmdMapped", "FilePmdMapped")


def _cgroup_room(root: Path) -> Iterator[int]:
    """Bytes left under each cgroup v2 limit above us; page cache that can be dropped counts as left."""
    entries = (read(root / "proc/self/cgroup") or "").splitlines()
    group = next((Path(entry[4:]) for entry in entries if entry.startswith("0::/")), Path())
    mounts = (root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified")
    for folder in {mount / path for mount in mounts for path in (group, *group.parents)}:
        limit, used = size_bytes(read(folder / "memory.max")), size_bytes(read(folder / "memory.current"))
        if limit is not None and used is not None:
            cache = size_bytes(fields(read(folder / "memory.stat"), " ").get("inactive_file")) or 0
            yield max(limit - used + cache, 0)


def available_bytes(root: Path = ROOT) -> int | None:
    """Bytes that can be had without swapping: MemAvailable, or less where a cgroup v2 allows less."""
    free = size_bytes(fields(read(root / "proc/meminfo")).get("MemAvailable"))
    return min([*_cgroup_room(root), *([] if free is None else [free])], default=None)


def backing_obtained(base: int, size: int, root: Path = ROOT) -> dict[str, int]:
    """Resident bytes of [base, base + size) that are mapped by a huge page ("2m") and by base pages ("4k").

    From /proc/self/smaps, which knows whole mappings only: of one that reaches beyond the range, the same
    share is taken to be huge inside as outside.  "2m" is the PMD size, or larger with hugetlb.
    """
    huge = small = 0
    text = read(root / "proc/self/smaps") or ""
    for bounds, body in re.findall(r"^([0-9a-f]+-[0-9a-f]+) .*\n((?:\w+:.*(?:\n|$))*)", text, re.MULTILINE):
        start, end = (int(bound, 16) for bound in bounds.split("-"))
        overlap = min(end, base + size) - max(start, base)
        if overlap > 0:
            counts = {key: size_bytes(value) or 0 for key, value in fields(body).items()}
            hugetlb, thp = (sum(counts.get(key, 0) for key in keys) for keys in (HUGETLB, PMD_MAPPED))
            resident = hugetlb + counts.get("Rss", 0)  # Rss leaves hugetlb out
            inside = min(resident, overlap)
            huge_inside = (hugetlb + thp) * inside // max(resident, 1)
            huge, small = huge + huge_inside, small + inside - huge_inside
    return {"4k": small, "2m": huge}


def mappings_left(root: Path = ROOT) -> tuple[int, int] | None:
    """How many mappings this process may still make, and may have in all (vm.max_map_count).

    None where that cannot be read.
    """
    allowed, maps = read(root / "proc/sys/vm/max_map_count"), read(root / "proc/self/maps")
    if allowed is None or maps is None or not allowed.isdecimal():
        return None
    return int(allowed) - len(maps.splitlines()), int(allowed)
