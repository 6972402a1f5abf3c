"""The variants by name, and which of them write the same words."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pagebench import core, names
from pagebench.errors import PagebenchError
from pagebench.variants import cache, compiled, compiler
from pagebench.variants.loaded import Loaded


def load(one: Loaded, struct_page_bytes: int | None = None) -> core.Variant:
    """A variant from elsewhere, under its own name; over struct pages of that size, where it is over several.

    What is loaded runs: it has to be in the cache, whatever a result file says.  Raises PagebenchError.
    """
    path = Path(one.path)
    if path.parent != cache.directory():
        raise PagebenchError(
            f"{one.path} ({one.name}) is not in the cache of what was compiled here: measure again"
        )
    variants = core.load_variants(path, struct_page_bytes)
    if one.inner not in variants:
        variants = core.load_variants(path)
    if one.inner not in variants:
        raise PagebenchError(f"{one.path} has no variant {one.inner}: measure again")
    return dataclasses.replace(variants[one.inner], name=one.name)


def object_of(struct_page_bytes: int) -> Path | None:
    """Where the variants over struct pages of that size are: None for the core itself.

    Compiles them when they are not built in.  Raises PagebenchError for sizes
    that no struct page has, or where nothing can compile.
    """
    if struct_page_bytes in core.built_in_struct_pages():
        return None
    return compiled.built_in(struct_page_bytes)


@functools.cache
def known(struct_page_bytes: int = 64, objects: tuple[Loaded, ...] = ()) -> Mapping[str, core.Variant]:
    """The variants over struct pages of that size, by name, and those of ``objects``.

    Raises PagebenchError like object_of(), for objects that cannot be loaded,
    and for struct pages of another size.
    """
    variants: dict[str, core.Variant] = {}
    if not any(one.built_in for one in objects):
        path = object_of(struct_page_bytes)
        variants |= core.built_in_variants(struct_page_bytes) if path is None else core.load_variants(path)
    for one in objects:
        if one.name in variants:
            raise PagebenchError(f"there is a variant {one.name} already: choose another name")
        variant = load(one, struct_page_bytes)
        if variant.struct_page_bytes != struct_page_bytes:
            raise PagebenchError(
                f"{one.name} has a struct page of {variant.struct_page_bytes} bytes, the others of "
                f"{struct_page_bytes}: give --struct-page {variant.struct_page_bytes}"
            )
        variants[one.name] = variant
    return variants


def find(name: str, struct_page_bytes: int = 64, objects: tuple[Loaded, ...] = ()) -> core.Variant:
    """A variant over struct pages of that size.

    Raises PagebenchError for an unknown name.
    """
    table = known(struct_page_bytes, objects)
    if name not in table:
        raise names.nearest(name, table, "variant")
    return table[name]


def recompiled(cc: str, struct_page_bytes: int) -> list[Loaded]:
    """The built-in variants by another compiler: ``mask+clang`` beside ``mask``.

    Raises PagebenchError where it cannot compile them.
    """
    path = compiled.built_in(struct_page_bytes, cc)
    label = Path(compiler.find(cc)[0]).name
    return [
        Loaded(f"{name}+{label}", name, str(path), core.compiler(path), core.variant_cflags(path))
        for name in core.load_variants(path)
        if name not in names.HARNESS
    ]


def of_tree(name: str, tree: Path, cc: str | None) -> tuple[list[Loaded], list[str]]:
    """A kernel tree's own, and the contenders that make sense of it.

    Each on plain; with the static key on it serves fake heads too, and where
    it writes masks, shared tails.  Raises PagebenchError for what is broken.
    """
    from pagebench.variants.kernel import build  # with pyelftools, which no worker needs

    loaded, contenders = [], []
    for built in build.build(name, tree, cc):
        (inner,) = core.load_variants(built.path)
        how = built.how if built.how == "kbuild" else f"{built.how} ({built.why})"
        loaded.append(
            Loaded(built.name, inner, str(built.path), f"{how}, {built.compiler}", built.cflags, name)
        )
        contenders.append(f"{built.name}@plain")
        if built.name != name:
            contenders.append(f"{built.name}@hvo")
        if built.encoding == "mask":
            contenders.append(f"{built.name}@hvo-shared")
    return loaded, contenders


def users_own(name: str, file: Path, struct_page_bytes: int) -> Loaded:
    """A user's own compound_head() over page.h.  Raises PagebenchError where it does not compile."""
    path = compiled.user_variant(name, file, struct_page_bytes)
    return Loaded(name, name, str(path), f"{file.name}, {core.compiler(path)}", core.variant_cflags(path))


def tail_words(variants: Mapping[str, core.Variant], order: int) -> dict[str, int]:
    """Which variants write the same memmap for folios of an order.

    Each in turn populates one folio (of order 2 at the most) at one address:
    same bytes, same number.  Base pages have no tails, so there all agree.
    """
    folio = np.array([(0, min(order, 2), 0)], core.FOLIO_DTYPE)
    seen: list[bytes] = []
    numbers = {}
    with core.Reservation(4096, 4096, "4k") as memory:
        for name, variant in variants.items():
            core.populate(variant, memory.base, folio)
            written = memory.bytes_at(0, variant.struct_page_bytes << min(order, 2))
            if written not in seen:
                seen.append(written)
            numbers[name] = seen.index(written)
    return numbers
