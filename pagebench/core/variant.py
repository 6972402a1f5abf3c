"""Variants: what a struct pb_variant says of itself, from the core and from shared objects."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pagebench.core.extension import FILE, address, ffi, lib, string
from pagebench.errors import PagebenchError

Returns = Literal["head", "page", "counted"]
RETURNS: Mapping[int, Returns] = {
    lib.PB_RETURNS_HEAD: "head",
    lib.PB_RETURNS_PAGE: "page",
    lib.PB_RETURNS_COUNTED: "counted",
}


@dataclass(frozen=True, slots=True)
class Probe:
    """One timed loop of one variant, and what one turn of it does: see ``struct pb_probe``.

    ``variant_code`` is where, in bytes from ``start``, the variant's own
    instructions begin and end (``(begin, end)``, the marks of variant.h).

    ``lookups``: how many compound_head() it calls.  ``returns``: of a page, its head, the page itself, or
    that where its _refcount is not 0 and NULL elsewhere.  ``uses_head``: touches the head's line.
    ``writes_counts``: be it only to put them back.  ``writes_tails``: takes heads only and writes to every
    tail, so that none may be mapped read-only.  ``adds_refs``, ``adds_maps``: what it adds to _refcount and
    _mapcount of the page that it returns.
    """

    name: str
    run: int
    start: int
    code: bytes
    variant_code: tuple[int, int]
    cdata: Any
    lookups: int
    returns: Returns
    uses_head: bool
    writes_counts: bool
    writes_tails: bool
    adds_refs: int
    adds_maps: int


@dataclass(frozen=True, slots=True)
class Variant:
    """A ``struct pb_variant``: a compound_head() with its probes.

    ``encoding`` is what its set_compound_head() writes ("pointer", "mask"), ``form`` what its tail test is
    promised to become in every probe with a lookup ("branch", "select", "arith", "none"); both empty where
    nothing is promised.  ``fixes_fake_heads``: it has code for them.
    """

    name: str
    commit: str
    subject: str
    version: str
    encoding: str
    form: str
    fixes_fake_heads: bool
    struct_page_bytes: int
    mapcount_at: int
    refcount_at: int
    probes: Mapping[str, Probe]
    cdata: Any


def _probe(variant: Any, row: Any) -> Probe:
    start, end = address(row.start), address(row.end)
    marks: dict[int, int] = {}
    for i in range(variant.marks_end - variant.marks):
        mark = variant.marks[i]
        where = address(variant.marks + i) + mark.where
        if start <= where <= end:
            if mark.kind in marks:
                raise PagebenchError(
                    f"the compiler duplicated the loop {string(row.name)} of {string(variant.name)}: "
                    "what is the variant's and what is the harness cannot be told apart"
                )
            marks[mark.kind] = where - start
    return Probe(
        name=string(row.name),
        run=address(row.run),
        start=start,
        code=bytes(ffi.buffer(row.start, end - start)),
        variant_code=(marks[0], marks[1]),
        cdata=ffi.addressof(row),
        lookups=row.lookups,
        returns=RETURNS[row.returns],
        uses_head=bool(row.uses_head),
        writes_counts=bool(row.writes_counts),
        writes_tails=bool(row.writes_tails),
        adds_refs=row.adds_refs,
        adds_maps=row.adds_maps,
    )


def wrap_variant(cdata: Any) -> Variant:
    """A Variant over a ``const struct pb_variant *``, which has to outlive it."""
    probes = [_probe(cdata, cdata.probes[i]) for i in range(cdata.probe_count)]
    return Variant(
        name=string(cdata.name),
        commit=string(cdata.commit),
        subject=string(cdata.subject),
        version=string(cdata.version),
        encoding=string(cdata.encoding),
        form=string(cdata.form),
        fixes_fake_heads=bool(cdata.fixes_fake_heads),
        struct_page_bytes=cdata.struct_page_bytes,
        mapcount_at=cdata.mapcount_at,
        refcount_at=cdata.refcount_at,
        probes={probe.name: probe for probe in probes},
        cdata=cdata,
    )


@cache
def built_in_variants(struct_page_bytes: int = 64) -> Mapping[str, Variant]:
    """The variants of the core over struct pages of that size, by name."""
    table = ffi.new("const struct pb_variant *const **")
    count = lib.pb_variants(table)
    variants = [
        wrap_variant(table[0][i]) for i in range(count) if table[0][i].struct_page_bytes == struct_page_bytes
    ]
    return {variant.name: variant for variant in sorted(variants, key=lambda v: v.name)}


def built_in_object() -> Path:
    """The extension's file, which is a shared object of variants as well."""
    return FILE


def built_in_struct_pages() -> list[int]:
    """The sizes of struct pages, in bytes, that there are built-in variants for."""
    table = ffi.new("const struct pb_variant *const **")
    return sorted({int(table[0][i].struct_page_bytes) for i in range(lib.pb_variants(table))})


def abi() -> list[tuple[str, int]]:
    """The layout of variants' structs in this core: C expressions with their values."""
    return _layout(lib.pb_layout)


def _layout(says: Any) -> list[tuple[str, int]]:
    rows = ffi.new("const struct pb_layout_row **")
    return [(string(rows[0][i].what), int(rows[0][i].value)) for i in range(says(rows))]


def load_object(path: Path) -> ctypes.CDLL:
    """A shared object, loaded until the process ends.  Raises PagebenchError."""
    try:
        return ctypes.CDLL(str(path), mode=os.RTLD_NOW | os.RTLD_LOCAL)
    except OSError as error:
        raise PagebenchError(f"cannot load compiled code: {error}") from error


@cache
def _load(path: Path) -> ctypes.CDLL:
    """A shared object that pagebench.variants made.  Raises PagebenchError."""
    loaded = load_object(path)
    try:
        says = pointer_to(loaded, "pb_layout", "size_t (*)(const struct pb_layout_row **)")
    except ValueError:
        raise PagebenchError(f"{path} holds no variants: compile them with pagebench") from None
    if _layout(says) != abi():
        raise PagebenchError(f"{path} was compiled for another build of pagebench: compile it again")
    return loaded


def pointer_to(loaded: ctypes.CDLL, symbol: str, ctype: str) -> Any:
    """A symbol's address.  Raises ValueError where there is none."""
    return ffi.cast(ctype, ctypes.addressof(ctypes.c_char.in_dll(loaded, symbol)))


def load_variants(path: Path, struct_page_bytes: int | None = None) -> dict[str, Variant]:
    """The variants of a shared object that :mod:`pagebench.variants.compiled` made, or of a core, by name.

    ``struct_page_bytes``: of these struct pages alone, where an object has variants over several.  It stays
    loaded, out of sight of every other one, until the process ends.  Raises PagebenchError for a file that
    cannot be loaded or is none of pagebench's.
    """
    loaded = _load(path.resolve())
    table = ffi.new("const struct pb_variant *const **")
    count = pointer_to(loaded, "pb_variants", "size_t (*)(const struct pb_variant *const **)")(table)
    wanted = [table[0][i] for i in range(count)]
    if struct_page_bytes is not None:
        wanted = [cdata for cdata in wanted if cdata.struct_page_bytes == struct_page_bytes]
    variants = [wrap_variant(cdata) for cdata in wanted]
    return {variant.name: variant for variant in sorted(variants, key=lambda v: v.name)}


def _say(symbol: str, path: Path | None) -> str:
    if path is None:
        return string(getattr(lib, symbol)())
    return string(pointer_to(_load(path.resolve()), symbol, "const char *(*)(void)")())


def compiler(path: Path | None = None) -> str:
    """The compiler that the core, or a shared object of variants, was built with."""
    return _say("pb_compiler", path)


def variant_cflags(path: Path | None = None) -> str:
    """The flags that the variants of the core, or of a shared object, were compiled with."""
    return _say("pb_variant_cflags", path)


def built_commit() -> str:
    """The commit that the core was built from; empty outside a checkout."""
    return string(lib.pb_built_commit())
