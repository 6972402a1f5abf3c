"""What the running kernel is, and which contenders are its compound_head().

From its config, its BTF, /proc and /sys under ``root``, by options and members, never by version.  What is not
there is no error: its finding says why it is not known.
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

from pagebench import btf
from pagebench.errors import PagebenchError

ROOT = Path("/")
BTF = "sys/kernel/btf/vmlinux"
CONFIGS = ("proc/config.gz", "boot/config-{release}", "lib/modules/{release}/config")
SYSCTL = "proc/sys/vm/hugetlb_optimize_vmemmap"
PARAMETER = "hugetlb_free_vmemmap"
HUGE_PAGES = "sys/kernel/mm/hugepages"
NODES = "sys/devices/system/node"
HOTPLUG = "sys/devices/system/memory/block_size_bytes"

# What of the config decides how struct pages are encoded, laid out and allocated.
OPTIONS = (
    "64BIT",
    "PAGE_SHIFT",
    "FLATMEM",
    "SPARSEMEM",
    "SPARSEMEM_VMEMMAP",
    "MEMORY_HOTPLUG",
    "MEMCG",
    "KMSAN",
    "TRANSPARENT_HUGEPAGE",
    "HUGETLB_PAGE",
    "HUGETLB_PAGE_OPTIMIZE_VMEMMAP",
    "HUGETLB_PAGE_OPTIMIZE_VMEMMAP_DEFAULT_ON",
    "HUGETLB_PAGE_FREE_VMEMMAP",
    "HUGETLB_PAGE_FREE_VMEMMAP_DEFAULT_ON",
)
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
    """Huge pages of one size: on the whole machine, and on each node."""

    page_bytes: int
    pages: int | None
    free: int | None
    reserved: int | None
    surplus: int | None
    overcommit: int | None
    nodes: Mapping[str, int | None]


@dataclass(frozen=True, slots=True)
class Hvo:
    """The HugeTLB vmemmap optimization; ``parameter`` is what the command line says of it."""

    compiled_in: Found[bool]
    parameter: Found[str]
    on: Found[bool]
    in_use: Found[bool]


@dataclass(frozen=True, slots=True)
class Kernel:
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


@dataclass(frozen=True, slots=True)
class Counterpart:
    """A contender and the pages whose lookup it is; ``now`` is None where that is not known."""

    contender: str
    pages: str
    now: bool | None


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
        except (OSError, EOFError, zlib.error) as error:
            reasons.append(f"/{name}: {getattr(error, 'strerror', None) or 'damaged'}")
            continue
        if found := dict(re.findall(r"^CONFIG_(\w+)=(.+)$", text, re.MULTILINE)):
            return Found(found, f"/{name}")
        reasons.append(f"/{name}: no options in it")
    return Found(None, f"not readable: {', '.join(reasons)}")


def _structs(root: Path, names: Sequence[str]) -> dict[str, Found[btf.Struct]]:
    how = f"/{BTF}"
    try:
        types = btf.Btf((root / BTF).read_bytes())
        return {
            name: Found(struct, how) if (struct := types.struct(name)) else Found(None, f"no such type in {how}")
            for name in names
        }
    except OSError as error:
        how = f"not readable: {how}: {error.strerror}"
    except PagebenchError as error:
        how = f"not readable: {how}: {error}"
    return dict.fromkeys(names, Found(None, how))


def _compiler(root: Path) -> Found[str]:
    text = _text(root, "proc/version")
    match = re.search(r"\) \((.*)\) #", text.value or "")  # ... (user@host) (gcc ..., GNU ld ...) #1 ...
    return Found(match[1] if match else None, text.how)


def _word(page: Found[btf.Struct]) -> Found[str]:
    names = {member.name for member in page.value.members} if page.value else set()
    for word in ("compound_info", "compound_head"):
        if word in names:
            return Found(word, f"member of struct page in {page.how}")
    return Found(None, f"neither compound_head nor compound_info in {page.how}" if page.value else page.how)


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
    if (root / SYSCTL).exists():
        return Found("SPARSEMEM_VMEMMAP", f"/{SYSCTL} is there, HVO depends on it")
    why = f"config {config.how}; BTF {usage.how}"
    if (root / HOTPLUG).exists():
        why = f"/{HOTPLUG}: SPARSEMEM, with or without VMEMMAP; {why}"
    return Found(None, why)


def _pools(root: Path) -> tuple[Pool, ...]:
    pools = []
    for path in (root / HUGE_PAGES).glob("hugepages-*kB"):
        if not (size := path.name.removeprefix("hugepages-").removesuffix("kB")).isdecimal():
            continue
        here = f"{HUGE_PAGES}/{path.name}"
        nodes = sorted((root / NODES).glob(f"node*/hugepages/{path.name}"), key=lambda p: (len(str(p)), p))
        pools.append(
            Pool(
                int(size) << 10,
                *(_number(root, f"{here}/{name}_hugepages") for name in ("nr", "free", "resv", "surplus")),
                _number(root, f"{here}/nr_overcommit_hugepages"),
                {
                    node.parts[-3]: _number(root, str(node.relative_to(root) / "nr_hugepages"))
                    for node in nodes
                },
            )
        )
    return tuple(sorted(pools, key=lambda pool: pool.page_bytes))


def _parameter(root: Path) -> Found[str]:
    line = _text(root, "proc/cmdline")
    if line.value is None:
        return Found(None, line.how)
    words = line.value.partition(" -- ")[0].split()  # what follows is init's
    given = [word.partition("=")[2] for word in words if word.startswith(f"{PARAMETER}=")]
    return Found(given[-1] if given else "", f"{PARAMETER} in {line.how}")


def _compiled_in(
    config: Found[Mapping[str, str]], zone: Found[btf.Struct], word: Found[str], root: Path
) -> Found[bool]:
    if config.value is not None:
        for option in HVO_OPTIONS:
            if option in config.value:
                return Found(True, f"CONFIG_{option}={config.value[option]} in {config.how}")
        return Found(False, f"no CONFIG_{HVO_OPTIONS[0]} in {config.how}")
    if (root / SYSCTL).exists():
        return Found(True, f"/{SYSCTL} is there")
    if zone.value and word.value == "compound_info":
        there = zone.value.member("vmemmap_tails") is not None
        return Found(there, f"struct zone has {'' if there else 'no '}vmemmap_tails in {zone.how}")
    return Found(None, f"no /{SYSCTL}; config {config.how}")


def _on(compiled_in: Found[bool], config: Mapping[str, str], parameter: Found[str], root: Path) -> Found[bool]:
    text = _text(root, SYSCTL)
    if text.value in ("0", "1"):
        return Found(text.value == "1", f"{text.value} in {text.how}")
    if compiled_in.value is False:
        return Found(False, "not compiled in")
    if HVO_OPTIONS[1] in config:  # up to v5.18 no sysctl, set at boot for good
        if parameter.value:
            return Found(parameter.value == "on", parameter.how)
        return Found(f"{HVO_OPTIONS[1]}_DEFAULT_ON" in config, "the config's default, decided at boot")
    if compiled_in.value and not (root / SYSCTL).exists() and (root / SYSCTL).parent.is_dir():
        return Found(False, f"no /{SYSCTL}: nothing here that it could optimize")
    return Found(None, text.how)


def _in_use(on: Found[bool], pools: Sequence[Pool], size: int, base: int) -> Found[bool]:
    """Whether a huge page is optimized; the static key counts these since v5.19.

    By 78f39084b41d ("mm: hugetlb_vmemmap: add hugetlb_optimize_vmemmap sysctl"), and that fits pages in a pool
    as they were when it is switched.
    """
    # Two vmemmap pages or more: hugetlb_vmemmap_optimizable_size() in mm/hugetlb_vmemmap.h
    fit = [pool for pool in pools if pool.page_bytes // base * size >= 2 * base]
    if not pools and on.value is not False:
        return Found(None, f"not readable: /{HUGE_PAGES}")
    if not any(pool.pages for pool in fit):
        return Found(False, "no huge pages")
    if on.value is None:
        return Found(None, on.how)
    if on.value:
        return Found(True, "huge pages in the pools, unless they were allocated while it was off")
    return Found(False, "it is off, unless huge pages were allocated while it was on")


def _encoding(word: Found[str], compiled_in: Found[bool], page: Found[btf.Struct]) -> Found[str]:
    """As compound_info_has_mask() decides, 8c846c879e22 (v7.1); the word alone up to v7.0."""
    if word.value is None or page.value is None:
        return Found(None, word.how)
    if word.value == "compound_head":
        return Found("pointer", f"struct page has compound_head in {page.how}")
    size = page.value.size_bytes
    if size & (size - 1):
        return Found("pointer", f"compound_info, but {size} bytes are no power of two")
    if compiled_in.value is None:
        return Found(None, f"compound_info, a mask if HVO is compiled in: {compiled_in.how}")
    if not compiled_in.value:
        return Found("pointer", f"compound_info, but without HVO: {compiled_in.how}")
    return Found("mask", f"compound_info, with HVO: {compiled_in.how}")
