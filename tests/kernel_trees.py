"""Kernel trees to compile against: Debian's header packages, from .ci/kernel-headers, and changed copies."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

import numpy as np
import pytest

from pagebench import core
from pagebench.code import form
from pagebench.memmap.folios import FolioMap
from pagebench.memmap.memmaps import MappedMemmap
from pagebench.variants.kernel import build

HEADERS = Path(os.environ.get("PAGEBENCH_KERNEL_HEADERS") or Path.home() / ".cache/pagebench/kernel-headers")
POINTER_TREES, MASK_TREES = ("v6.1", "v6.12"), ("v7",)
TREES = (*POINTER_TREES, *MASK_TREES)
ODD = """it's; a "dir", $(touch pwned) `x` & %s"""


def tree_of(name: str) -> Path:
    return HEADERS / name / "tree"


def variant_of(built: build.Built) -> core.Variant:
    ((name, variant),) = core.load_variants(built.path).items()
    assert name == built.name
    return variant


def instructions(variant: core.Variant) -> dict[str, list[str]]:
    """The lookup's own instructions in every probe, the places that jumps go to left out."""
    text = {}
    for name, probe in variant.probes.items():
        own = [i for i in form.analyse(probe).instructions if i.in_variant]
        text[name] = [i.mnemonic if i.mnemonic.startswith("j") else f"{i.mnemonic} {i.operands}" for i in own]
    return text


def wrong_lookups(variant: core.Variant, layout: str, order: int) -> int:
    """How many lookups of every page of four folios go wrong, by the probes that only read."""
    folio_map = FolioMap.uniform(order, 4 * variant.struct_page_bytes << order, variant.struct_page_bytes)
    with MappedMemmap(layout, folio_map) as memmap:
        memmap.write(variant, True)
        probes = [variant.probes[name] for name in ("lookup", "chain")]
        places = folio_map.page_offsets, folio_map.head_offsets
        return sum(core.verify(probe.run, memmap.base, *places).wrong for probe in probes)


def wrong_anywhere(variant: core.Variant, layout: str, order: int) -> list[str]:
    """The probes with a wrong result over four folios, or that leave a wrong count behind."""
    folio_map = FolioMap.uniform(order, 4 * variant.struct_page_bytes << order, variant.struct_page_bytes)
    pages, heads, size = folio_map.page_offsets, folio_map.head_offsets, variant.struct_page_bytes
    wrong = []
    with MappedMemmap(layout, folio_map) as memmap:
        view = core.view(memmap.base, folio_map.bytes)

        def column(at: int) -> list[int]:
            every = np.ndarray((len(view) // size,), np.int32, view.data, at, (size,))
            return [int(n) for n in every[folio_map.pfns]]

        for name, probe in variant.probes.items():
            if probe.writes_tails and layout != "plain":
                continue
            memmap.write(variant, True)
            asked, expected, hits = pages, heads, 1 << order
            if probe.writes_tails:
                asked = expected = folio_map.offsets_of(folio_map.pfns)
                words = np.ndarray((len(view) // size,), np.uint64, view.data, 8, (size,))
                words[folio_map.page_pfns != folio_map.page_heads] = 0
            if probe.returns == "counted":
                expected, hits = np.where(pages == heads, pages, core.NO_PAGE), 1
            found = core.verify(variant.probes[name].run, memmap.base, asked, expected)
            lookup = core.verify(variant.probes["lookup"].run, memmap.base, pages, heads)
            counts = column(variant.refcount_at), column(variant.mapcount_at)
            if (
                found.wrong
                or lookup.wrong
                or counts
                != (
                    [1 + probe.adds_refs * hits] * len(folio_map.pfns),
                    [-1 + probe.adds_maps * hits] * len(folio_map.pfns),
                )
            ):
                wrong.append(name)
    return wrong


def links(directory: Path, to: Path, but: tuple[str, ...] = ()) -> Path:
    """A directory of links to another one's entries."""
    directory.mkdir(parents=True)
    for entry in to.iterdir():
        if entry.name not in but:
            (directory / entry.name).symlink_to(entry)
    return directory


def altered(tmp_path: Path, name: str, *but: str) -> Path:
    """A tree like ``name``'s beside its sources, of links, with a .config of its own and ``but`` left out."""
    tree = tree_of(name).resolve()
    copy = links(tmp_path / tree.name, tree, (".config", "include"))
    include = links(copy / "include", tree / "include", ("generated",))
    links(include / "generated", tree / "include/generated", but)
    shutil.copyfile(tree / ".config", copy / ".config")
    links(
        tmp_path / tree.name.replace("-amd64", "-common"),
        tree.parent / tree.name.replace("-amd64", "-common"),
    )
    return copy


def in_tree(tmp_path: Path, name: str) -> Path:
    """The same as a source tree that was configured in place: everything in one directory."""
    tree = tree_of(name).resolve()
    common = tree.parent / tree.name.replace("-amd64", "-common")
    merged = links(tmp_path / "linux", common, ("arch", "include", "scripts", "tools"))
    for part in ("include", "arch/x86/include"):
        links(merged / part, common / part)
        for entry in (tree / part).iterdir():
            if not (merged / part / entry.name).exists():
                (merged / part / entry.name).symlink_to(entry)
    for entry in (common / "arch/x86").iterdir():
        if entry.name != "include":
            (merged / "arch/x86" / entry.name).symlink_to(entry)
    for entry in (tree / ".config", tree / ".kernelvariables", tree / "scripts", tree / "tools"):
        (merged / entry.name).symlink_to(entry.resolve())
    return merged


_MISSING = (
    "the header packages are amd64's"
    if platform.machine() != "x86_64"
    else f"no kernel headers: run .ci/kernel-headers {HEADERS}, or set PAGEBENCH_KERNEL_HEADERS"
    if not all((HEADERS / name / "tree").exists() for name in TREES)
    else ""
)
with_trees = pytest.mark.skipif(bool(_MISSING), reason=_MISSING or "they are here")
