"""Kernels to be described, planted as files."""

from __future__ import annotations

import dataclasses
import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from planted import plant
from test_btf import Types

from pagebench.host import machine, running_kernel
from pagebench.plan.counterparts import counterparts

MIB, GIB = 1 << 20, 1 << 30
BTF = "sys/kernel/btf/vmlinux"
SYSCTL = "proc/sys/vm/hugetlb_optimize_vmemmap"
RELEASE = "6.18.0-test"
CONFIG = """\
#
# Linux/x86 6.18.0 Kernel Configuration
#
CONFIG_64BIT=y
CONFIG_SPARSEMEM=y
CONFIG_SPARSEMEM_VMEMMAP=y
# CONFIG_KMSAN is not set
CONFIG_HUGETLB_PAGE=y
CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP=y
# CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP_DEFAULT_ON is not set
"""
FLAT = "CONFIG_64BIT=y\nCONFIG_FLATMEM=y\n"

Files = dict[str, str | bytes]


def types_of(
    word: str = "compound_head", size: int = 64, tails: int | None = None, model: str = "SPARSEMEM_VMEMMAP"
) -> bytes:
    types = Types()
    long = types.int("long unsigned int", 8)
    pointer = types.pointer()
    lru = types.struct("", 16, [("lru", types.array(pointer, 2), 0)])
    tail = types.struct("", 8, [(word, long, 0)])
    either = types.union("", 16, [("", lru, 0), ("", tail, 0)])
    types.struct("page", size, [("flags", long, 0), ("", either, 8), ("_refcount", types.int("int", 4), 52)])
    area = types.struct("free_area", 16, [("nr_free", long, 0)])
    zone = [("free_area", types.array(area, 11), 0)]
    if tails is not None:
        zone.append(("vmemmap_tails", types.array(pointer, tails), 176))
    types.struct("zone", 512, zone)
    node = [("node_zones", types.array(types.count, 4), 0)]
    if model == "FLATMEM":
        node.append(("node_mem_map", pointer, 2048))
    else:
        usage = [("rcu", lru, 0)]
        if model == "SPARSEMEM_VMEMMAP":
            usage.append(("subsection_map", types.array(long, 1), 16))
        types.struct("mem_section_usage", 24, usage)
    types.struct("pglist_data", 4096, node)
    return types.data()


def pool(size: int, pages: int, nodes: Mapping[str, int]) -> Files:
    here = f"sys/kernel/mm/hugepages/hugepages-{size >> 10}kB"
    counts = {"nr": pages, "free": pages, "resv": 0, "surplus": 0, "nr_overcommit": 0}
    files: Files = {f"{here}/{name}_hugepages": f"{count}\n" for name, count in counts.items()}
    for node, count in nodes.items():
        files[f"sys/devices/system/node/{node}/{here[14:]}/nr_hugepages"] = f"{count}\n"
    return files


def plain(order: str = "proc/config.gz", config: str = CONFIG) -> Files:
    """v6.18 with HVO compiled in and off."""
    return {
        "proc/sys/kernel/osrelease": f"{RELEASE}\n",
        "proc/sys/kernel/version": "#1 SMP PREEMPT_DYNAMIC\n",
        "proc/version": f"Linux version {RELEASE} (me@here) (gcc-15 (Debian) 15.2.0, GNU ld (GNU) 2.45) #1\n",
        "proc/cmdline": "root=/dev/sda1 quiet -- hugetlb_free_vmemmap=on\n",
        order: gzip.compress(config.encode()) if order.endswith(".gz") else config,
        BTF: types_of(),
        SYSCTL: "0\n",
        **pool(2 * MIB, 0, {"node0": 0, "node10": 0, "node2": 0}),
        **pool(GIB, 0, {"node0": 0}),
    }


def mask(**changes: Any) -> Files:
    """v7.1 on a machine whose config cannot be read."""
    files = plain() | {BTF: types_of("compound_info", **({"tails": 16} | changes))}
    return {name: text for name, text in files.items() if "config" not in name}


def describe(root: Path, files: Files) -> running_kernel.RunningKernel:
    return running_kernel.describe(plant(root, files))


def now(found: running_kernel.RunningKernel) -> dict[str, bool | None]:
    return {counterpart.contender: counterpart.now for counterpart in counterparts(found)}


def machine_of(root: Path) -> machine.Machine:
    found = machine.describe(0, root)
    caches = machine.Caches(32 << 10, MIB, 32 * MIB, 64)
    return dataclasses.replace(
        found, cpu_model="Zen", architecture="x86_64", online_cpus="0-1", caches=caches, memory_bytes=8 * GIB
    )


def every_kernel() -> dict[str, Files]:
    without = CONFIG.replace("CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP=y", "")
    return {
        "hvo off": plain(),
        "hvo on": plain() | {SYSCTL: "1"} | pool(2 * MIB, 4, {}),
        "no hvo": {name: text for name, text in plain(config=without).items() if name != SYSCTL},
        "80 bytes": plain() | {BTF: types_of(size=80)},
        "mask": mask(),
        "mask, no hvo": {name: t for name, t in mask(tails=None).items() if name != SYSCTL},
    }
