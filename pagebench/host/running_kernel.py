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
class Finding(Generic[T]):
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

    compiled_in: Finding[bool]
    parameter: Finding[str]
    on: Finding[bool]
    in_use: Finding[bool]


@dataclass(frozen=True, slots=True)
class RunningKernel:
    """``word`` is the member of struct page that says what a tail's head is."""

    release: Finding[str]
    version: Finding[str]
    compiler: Finding[str]
    config: Finding[Mapping[str, str]]
    struct_page: Finding[btf.Struct]
    word: Finding[str]
    encoding: Finding[str]
    memory_model: Finding[str]
    hvo: Hvo
    base_page_bytes: int
    max_page_order: Finding[int]
    max_folio_order: Finding[int]
    pools: tuple[Pool, ...]

    def order_of(self, pool: Pool) -> int:
        """The order of a pool's pages."""
        return (pool.page_bytes // self.base_page_bytes).bit_length() - 1


def _text(root: Path, name: str) -> Finding[str]:
    """A file's text without the white space around it."""
    try:
        return Finding((root / name).read_text(errors="replace").strip(), f"/{name}")
    except OSError as error:
        return Finding(None, f"not readable: /{name}: {error.strerror}")


def _number(root: Path, name: str) -> int | None:
    text = _text(root, name).value or ""
    return int(text) if text.isdecimal() else None


def _config(root: Path, release: str) -> Finding[Mapping[str, str]]:
    """Every option that is set, without its CONFIG_."""
    reasons = []
    for name in (pattern.format(release=release) for pattern in CONFIGS):
        try:
            data = (root / name).read_bytes()
            text = (gzip.decompress(data) if name.endswith(".gz") else data).decode(errors="replace")
        except (OSError, EOFError, ValueError, zlib.error) as error:
            reasons.append(f"/{name}: {getattr(error, 'strerror', None) or 'damaged'}")
            continue
        if options := dict(re.findall(r"^CONFIG_(\w+)=(.+)$", text, re.MULTILINE)):
            return Finding(options, f"/{name}")
        reasons.append(f"/{name}: no options in it")
    return Finding(None, f"not readable: {', '.join(reasons)}")


def _structs(root: Path, names: Sequence[str]) -> dict[str, Finding[btf.Struct]]:
    try:
        types = btf.Btf((root / BTF).read_bytes())
        structs = {name: types.struct(name) for name in names}
    except (OSError, PagebenchError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        return dict.fromkeys(names, Finding(None, f"not readable: /{BTF}: {why}"))
    return {
        name: Finding(struct, f"/{BTF}" if struct else f"no struct {name} in /{BTF}")
        for name, struct in structs.items()
    }


def _compiler(root: Path) -> Finding[str]:
    text = _text(root, "proc/version")
    if text.value is None:
        return text
    match = re.search(r"\) \((.*)\) #", text.value)  # ... (user@host) (gcc ..., GNU ld ...) #1 ...
    return Finding(match[1], text.how) if match else Finding(None, f"no compiler in {text.how}")


def _word(page: Finding[btf.Struct]) -> Finding[str]:
    names = {member.name for member in page.value.members} if page.value else set()
    for word in ("compound_info", "compound_head"):
        if word in names:
            return Finding(word, f"{word} in struct page: {page.how}")
    return Finding(None, f"neither compound_info nor compound_head in {page.how}" if page.value else page.how)


def _memory_model(
    config: Finding[Mapping[str, str]], structs: Mapping[str, Finding[btf.Struct]], root: Path
) -> Finding[str]:
    options = config.value or {}
    for model in MODELS:
        if model in options:
            return Finding(model, f"CONFIG_{model}={options[model]} in {config.how}")
    usage, node = structs["mem_section_usage"], structs["pglist_data"]
    if usage.value:  # in SPARSEMEM alone since v5.3, the member with VMEMMAP alone: <linux/mmzone.h>
        has_map = usage.value.member("subsection_map")
        what = "has" if has_map else "has no"
        how = f"struct mem_section_usage {what} subsection_map in {usage.how}"
        return Finding("SPARSEMEM_VMEMMAP" if has_map else "SPARSEMEM", how)
    if node.value and node.value.member("node_mem_map"):
        return Finding("FLATMEM", f"struct pglist_data has node_mem_map in {node.how}")
    if _text(root, SYSCTL).value is not None:
        return Finding("SPARSEMEM_VMEMMAP", f"/{SYSCTL} is there, HVO depends on it")
    why = f"config {config.how}; BTF {usage.how}"
    if _text(root, HOTPLUG).value is not None:
        why = f"/{HOTPLUG}: SPARSEMEM, with or without VMEMMAP; {why}"
    return Finding(None, why)


def _pools(root: Path) -> tuple[Pool, ...]:
    pools = []
    for path in (root / HUGE_PAGES).glob("hugepages-*kB"):
        size = path.name.removeprefix("hugepages-").removesuffix("kB")
        here = f"{HUGE_PAGES}/{path.name}"
        counts = {name: _number(root, f"{here}/{name}_hugepages") for name in COUNTS}
        having = (node.parts[-3] for node in (root / NODES).glob(f"node*/hugepages/{path.name}"))
        nodes = sorted(having, key=lambda node: (len(node), node))  # node2 before node10
        files = {node: f"{NODES}/{node}/hugepages/{path.name}/nr_hugepages" for node in nodes}
        pools.append(Pool(int(size) << 10, counts, {node: _number(root, files[node]) for node in nodes}))
    return tuple(sorted(pools, key=lambda pool: pool.page_bytes))


def _parameter(root: Path) -> Finding[str]:
    line = _text(root, "proc/cmdline")
    if line.value is None:
        return Finding(None, line.how)
    words = line.value.partition(" -- ")[0].split()  # what follows is init's
    given = [word.partition("=")[2] for word in words if word.startswith(f"{PARAMETER}=")]
    return Finding(given[-1] if given else "", line.how)


def _compiled_in(
    config: Finding[Mapping[str, str]], page: Finding[btf.Struct], zone: Finding[btf.Struct], root: Path
) -> Finding[bool]:
    if config.value is not None:
        for option in HVO_OPTIONS:
            if option in config.value:
                return Finding(True, f"CONFIG_{option}={config.value[option]} in {config.how}")
        return Finding(False, f"no CONFIG_{HVO_OPTIONS[0]} in {config.how}")
    if _text(root, SYSCTL).value is not None:
        return Finding(True, f"/{SYSCTL} is there")
    if zone.value and _word(page).value == "compound_info":
        there = zone.value.member("vmemmap_tails") is not None
        return Finding(there, f"struct zone has {'' if there else 'no '}vmemmap_tails in {zone.how}")
    return Finding(None, f"no /{SYSCTL}; config {config.how}")


def _on(compiled_in: Finding[bool], parameter: Finding[str], root: Path) -> Finding[bool]:
    text = _text(root, SYSCTL)
    if text.value is not None:
        return Finding(text.value == "1", f"{text.value} in {text.how}")
    if compiled_in.value is False:
        return Finding(False, "not compiled in")
    if parameter.value:  # all that there was before v5.19
        return Finding(parameter.value == "on", f"{PARAMETER}={parameter.value} in {parameter.how}")
    return Finding(None, text.how)


def _in_use(
    hvo: Finding[bool], on: Finding[bool], pools: Sequence[Pool], size: int, base: int
) -> Finding[bool]:
    """Whether a huge page is optimized, which is when the static key of v5.19 ... v7.0 is on.

    A switch leaves the pages that there are as they are: 78f39084b41d ("mm: hugetlb_vmemmap: add
    hugetlb_optimize_vmemmap sysctl").  Which it takes: hugetlb_vmemmap_optimizable_size().
    """
    if hvo.value is False:
        return Finding(False, "not compiled in")
    if not pools and on.value is not False:
        return Finding(None, f"no pools in /{HUGE_PAGES}")
    fit = [pool for pool in pools if not size & (size - 1) and pool.page_bytes // base * size >= 2 * base]
    if not any(pool.counts["nr"] for pool in fit):
        return Finding(False, "no huge pages that it could optimize")
    if on.value is None:
        return Finding(None, on.how)
    wrong = "all were allocated while it was off" if on.value else "any was allocated while it was on"
    return Finding(on.value, f"there are huge pages; wrong if {wrong}")


def _encoding(page: Finding[btf.Struct], zone: Finding[btf.Struct], hvo: Finding[bool]) -> Finding[str]:
    """The pointer in compound_head; in compound_info as compound_info_has_mask() of v7.1 decides."""
    word = _word(page)
    if word.value != "compound_info" or page.value is None:
        return Finding("pointer" if word.value else None, word.how)
    size = page.value.size_bytes
    if size & (size - 1):
        return Finding("pointer", f"compound_info, but {size} bytes are no power of two")
    if zone.value and zone.value.member("vmemmap_tails"):
        return Finding("mask", f"compound_info in struct page, vmemmap_tails in struct zone: {page.how}")
    encodings = {True: "mask", False: "pointer", None: None}
    return Finding(encodings[hvo.value], f"compound_info, a mask where HVO is compiled in: {hvo.how}")


def _max_orders(
    zone: Finding[btf.Struct], page: Finding[btf.Struct], base: int
) -> tuple[Finding[int], Finding[int]]:
    """MAX_PAGE_ORDER, and since v7.1 MAX_FOLIO_ORDER, from the lengths of arrays: <linux/mmzone.h>."""
    if zone.value is None or page.value is None:
        return Finding(None, zone.how), Finding(None, zone.how)
    free, tails = zone.value.member("free_area"), zone.value.member("vmemmap_tails")
    largest: Finding[int] = Finding(None, f"no vmemmap_tails in struct zone in {zone.how}")
    if tails and tails.elements and page.value.size_bytes:
        least = (2 * base // page.value.size_bytes).bit_length() - 1  # VMEMMAP_TAIL_MIN_ORDER
        largest = Finding(least + tails.elements - 1, f"vmemmap_tails in struct zone in {zone.how}")
    buddy = free.elements - 1 if free and free.elements else None
    return Finding(buddy, f"free_area in struct zone in {zone.how}"), largest


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
