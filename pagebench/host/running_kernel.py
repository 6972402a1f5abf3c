"""What the running kernel is, as far as its compound_head() depends on it.

From its config, its BTF, /proc and /sys under ``root``, by options and members, never by version.  What is
not there is no error: the finding says why it is not known.
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pagebench.errors import PagebenchError
from pagebench.host import btf
from pagebench.host.files import ROOT

BTF = "sys/kernel/btf/vmlinux"
CONFIGS = ("proc/config.gz", "boot/config-{release}", "lib/modules/{release}/config")
SYSCTL = "proc/sys/vm/hugetlb_optimize_vmemmap"
PARAMETER = "hugetlb_free_vmemmap"
HUGE_PAGES = "sys/kernel/mm/hugepages"
NODES = "sys/devices/system/node"
COUNTS = ("nr", "free", "resv", "surplus", "nr_overcommit")  # of files *_hugepages
HOTPLUG = "sys/devices/system/memory/block_size_bytes"

# The second is its name from v5.14 to v5.18: 47010c040dec ("mm: hugetlb_vmemmap: cleanup
# CONFIG_HUGETLB_PAGE_FREE_VMEMMAP*", v5.19).
HVO_OPTIONS = ("HUGETLB_PAGE_OPTIMIZE_VMEMMAP", "HUGETLB_PAGE_FREE_VMEMMAP")
MODELS = ("SPARSEMEM_VMEMMAP", "SPARSEMEM", "FLATMEM")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """A fact and how it was found; None and why it is not known."""

    value: T | None
    how: str


@dataclass(frozen=True, slots=True)
class Pool:
    """Huge pages of one size: ``counts`` by the kernel's names (COUNTS), and how many each node has."""

    page_bytes: int
    counts: Mapping[str, int | None]
    nodes: Mapping[str, int | None]


@dataclass(frozen=True, slots=True)
class Hvo:
    """The HugeTLB vmemmap optimization; ``parameter`` is what the command line says of it."""

    compiled_in: Found[bool]
    parameter: Found[str]
    on: Found[bool]
    in_use: Found[bool]


@dataclass(frozen=True, slots=True)
class RunningKernel:
    """``word`` is the member of struct page that says what a tail's head is."""

    release: Found[str]
    version: Found[str]
    compiler: Found[str]
    config: Found[Mapping[str, str]]
    struct_page: Found[btf.Struct]
    word: Found[str]
    encoding: Found[str]
    memory_model: Found[str]
    hvo: Hvo
    base_page_bytes: int
    max_page_order: Found[int]
    max_folio_order: Found[int]
    pools: tuple[Pool, ...]

    def order_of(self, pool: Pool) -> int:
        """The order of a pool's pages."""
        return (pool.page_bytes // self.base_page_bytes).bit_length() - 1


def _text(root: Path, name: str) -> Found[str]:
    """A file's text without the white space around it."""
    try:
        return Found((root / name).read_text(errors="replace").strip(), f"/{name}")
    except OSError as error:
        return Found(None, f"not readable: /{name}: {error.strerror}")


def _number(root: Path, name: str) -> int | None:
    text = _text(root, name).value or ""
    return int(text) if text.isdecimal() else None


def _config(root: Path, release: str) -> Found[Mapping[str, str]]:
    """Every option that is set, without its CONFIG_."""
    reasons = []
    for name in (pattern.format(release=release) for pattern in CONFIGS):
        try:
            data = (root / name).read_bytes()
            text = (gzip.decompress(data) if name.endswith(".gz") else data).decode(errors="replace")
        except (OSError, EOFError, ValueError, zlib.error) as error:
            reasons.append(f"/{name}: {getattr(error, 'strerror', None) or 'damaged'}")
            continue
        if found := dict(re.findall(r"^CONFIG_(\w+)=(.+)$", text, re.MULTILINE)):
            return Found(found, f"/{name}")
        reasons.append(f"/{name}: no options in it")
    return Found(None, f"not readable: {', '.join(reasons)}")


def _structs(root: Path, names: Sequence[str]) -> dict[str, Found[btf.Struct]]:
    try:
        types = btf.Btf((root / BTF).read_bytes())
        found = {name: types.struct(name) for name in names}
    except (OSError, PagebenchError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        return dict.fromkeys(names, Found(None, f"not readable: /{BTF}: {why}"))
    return {name: Found(it, f"/{BTF}" if it else f"no struct {name} in /{BTF}") for name, it in found.items()}


def _compiler(root: Path) -> Found[str]:
    text = _text(root, "proc/version")
    if text.value is None:
        return text
    match = re.search(r"\) \((.*)\) #", text.value)  # ... (user@host) (gcc ..., GNU ld ...) #1 ...
    return Found(match[1], text.how) if match else Found(None, f"no compiler in {text.how}")


def _word(page: Found[btf.Struct]) -> Found[str]:
    names = {member.name for member in page.value.members} if page.value else set()
    for word in ("compound_info", "compound_head"):
        if word in names:
            return Found(word, f"{word} in struct page: {page.how}")
    return Found(None, f"neither compound_info nor compound_head in {page.how}" if page.value else page.how)


def _memory_model(
    config: Found[Mapping[str, str]], structs: Mapping[str, Found[btf.Struct]], root: Path
) -> Found[str]:
    options = config.value or {}
    for model in MODELS:
        if model in options:
            return Found(model, f"CONFIG_{model}={options[model]} in {config.how}")
    usage, node = structs["mem_section_usage"], structs["pglist_data"]
    if usage.value:  # in SPARSEMEM alone since v5.3, the member with VMEMMAP alone: <linux/mmzone.h>
        map_found = usage.value.member("subsection_map")
        what = "has" if map_found else "has no"
        how = f"struct mem_section_usage {what} subsection_map in {usage.how}"
        return Found("SPARSEMEM_VMEMMAP" if map_found else "SPARSEMEM", how)
    if node.value and node.value.member("node_mem_map"):
        return Found("FLATMEM", f"struct pglist_data has node_mem_map in {node.how}")
    if _text(root, SYSCTL).value is not None:
        return Found("SPARSEMEM_VMEMMAP", f"/{SYSCTL} is there, HVO depends on it")
    why = f"config {config.how}; BTF {usage.how}"
    if _text(root, HOTPLUG).value is not None:
        why = f"/{HOTPLUG}: SPARSEMEM, with or without VMEMMAP; {why}"
    return Found(None, why)


def _pools(root: Path) -> tuple[Pool, ...]:
    pools = []
    for path in (root / HUGE_PAGES).glob("hugepages-*kB"):
        size = path.name.removeprefix("hugepages-").removesuffix("kB")
        here = f"{HUGE_PAGES}/{path.name}"
        counts = {name: _number(root, f"{here}/{name}_hugepages") for name in COUNTS}
        found = (node.parts[-3] for node in (root / NODES).glob(f"node*/hugepages/{path.name}"))
        nodes = sorted(found, key=lambda node: (len(node), node))  # node2 before node10
        files = {node: f"{NODES}/{node}/hugepages/{path.name}/nr_hugepages" for node in nodes}
        pools.append(Pool(int(size) << 10, counts, {node: _number(root, files[node]) for node in nodes}))
    return tuple(sorted(pools, key=lambda pool: pool.page_bytes))


def _parameter(root: Path) -> Found[str]:
    line = _text(root, "proc/cmdline")
    if line.value is None:
        return Found(None, line.how)
    words = line.value.partition(" -- ")[0].split()  # what follows is init's
    given = [word.partition("=")[2] for word in words if word.startswith(f"{PARAMETER}=")]
    return Found(given[-1] if given else "", line.how)


def _compiled_in(
    config: Found[Mapping[str, str]], page: Found[btf.Struct], zone: Found[btf.Struct], root: Path
) -> Found[bool]:
    if config.value is not None:
        for option in HVO_OPTIONS:
            if option in config.value:
                return Found(True, f"CONFIG_{option}={config.value[option]} in {config.how}")
        return Found(False, f"no CONFIG_{HVO_OPTIONS[0]} in {config.how}")
    if _text(root, SYSCTL).value is not None:
        return Found(True, f"/{SYSCTL} is there")
    if zone.value and _word(page).value == "compound_info":
        there = zone.value.member("vmemmap_tails") is not None
        return Found(there, f"struct zone has {'' if there else 'no '}vmemmap_tails in {zone.how}")
    return Found(None, f"no /{SYSCTL}; config {config.how}")


def _on(compiled_in: Found[bool], parameter: Found[str], root: Path) -> Found[bool]:
    text = _text(root, SYSCTL)
    if text.value is not None:
        return Found(text.value == "1", f"{text.value} in {text.how}")
    if compiled_in.value is False:
        return Found(False, "not compiled in")
    if parameter.value:  # all that there was before v5.19
        return Found(parameter.value == "on", f"{PARAMETER}={parameter.value} in {parameter.how}")
    return Found(None, text.how)


def _in_use(hvo: Found[bool], on: Found[bool], pools: Sequence[Pool], size: int, base: int) -> Found[bool]:
    """Whether a huge page is optimized, which is when the static key of v5.19 ... v7.0 is on.

    A switch leaves the pages that there are as they are: 78f39084b41d ("mm: hugetlb_vmemmap: add
    hugetlb_optimize_vmemmap sysctl").  Which it takes: hugetlb_vmemmap_optimizable_size().
    """
    if hvo.value is False:
        return Found(False, "not compiled in")
    if not pools and on.value is not False:
        return Found(None, f"no pools in /{HUGE_PAGES}")
    fit = [pool for pool in pools if not size & (size - 1) and pool.page_bytes // base * size >= 2 * base]
    if not any(pool.counts["nr"] for pool in fit):
        return Found(False, "no huge pages that it could optimize")
    if on.value is None:
        return Found(None, on.how)
    wrong = "all were allocated while it was off" if on.value else "any was allocated while it was on"
    return Found(on.value, f"there are huge pages; wrong if {wrong}")


def _encoding(page: Found[btf.Struct], zone: Found[btf.Struct], hvo: Found[bool]) -> Found[str]:
    """The pointer in compound_head; in compound_info as compound_info_has_mask() of v7.1 decides."""
    word = _word(page)
    if word.value != "compound_info" or page.value is None:
        return Found("pointer" if word.value else None, word.how)
    size = page.value.size_bytes
    if size & (size - 1):
        return Found("pointer", f"compound_info, but {size} bytes are no power of two")
    if zone.value and zone.value.member("vmemmap_tails"):
        return Found("mask", f"compound_info in struct page, vmemmap_tails in struct zone: {page.how}")
    encodings = {True: "mask", False: "pointer", None: None}
    return Found(encodings[hvo.value], f"compound_info, a mask where HVO is compiled in: {hvo.how}")


def _max_orders(zone: Found[btf.Struct], page: Found[btf.Struct], base: int) -> tuple[Found[int], Found[int]]:
    """MAX_PAGE_ORDER, and since v7.1 MAX_FOLIO_ORDER, from the lengths of arrays: <linux/mmzone.h>."""
    if zone.value is None or page.value is None:
        return Found(None, zone.how), Found(None, zone.how)
    free, tails = zone.value.member("free_area"), zone.value.member("vmemmap_tails")
    largest: Found[int] = Found(None, f"no vmemmap_tails in struct zone in {zone.how}")
    if tails and tails.elements and page.value.size_bytes:
        least = (2 * base // page.value.size_bytes).bit_length() - 1  # VMEMMAP_TAIL_MIN_ORDER
        largest = Found(least + tails.elements - 1, f"vmemmap_tails in struct zone in {zone.how}")
    buddy = free.elements - 1 if free and free.elements else None
    return Found(buddy, f"free_area in struct zone in {zone.how}"), largest


def describe(root: Path = ROOT) -> RunningKernel:
    """Everything that there is to know of the running kernel."""
    release = _text(root, "proc/sys/kernel/osrelease")
    config = _config(root, release.value or os.uname().release)
    structs = _structs(root, ("page", "zone", "pglist_data", "mem_section_usage"))
    page, zone = structs["page"], structs["zone"]
    base = os.sysconf("SC_PAGE_SIZE")
    parameter, pools = _parameter(root), _pools(root)
    compiled_in = _compiled_in(config, page, zone, root)
    on = _on(compiled_in, parameter, root)
    size = page.value.size_bytes if page.value else 64  # as most are
    max_page_order, max_folio_order = _max_orders(zone, page, base)
    return RunningKernel(
        release=release,
        version=_text(root, "proc/sys/kernel/version"),
        compiler=_compiler(root),
        config=config,
        struct_page=page,
        word=_word(page),
        encoding=_encoding(page, zone, compiled_in),
        memory_model=_memory_model(config, structs, root),
        hvo=Hvo(compiled_in, parameter, on, _in_use(compiled_in, on, pools, size, base)),
        base_page_bytes=base,
        max_page_order=max_page_order,
        max_folio_order=max_folio_order,
        pools=pools,
    )
