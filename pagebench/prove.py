"""The memory models, proven: whether the mask encoding finds every head at the worst addresses they allow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pagebench import core, names, tool
from pagebench.host import resources
from pagebench.memmap.arrangement import crosses_section
from pagebench.memmap.folios import FolioMap, check_fits
from pagebench.memmap.memmaps import ModelMemmap, place
from pagebench.memmap.models import (
    BASE_PAGES,
    MODELS,
    NO_FOLIO,
    OK,
    WRONG,
    BasePage,
    Model,
    arithmetic,
    has_mask,
)
from pagebench.results.proofs import Proof, Proven
from pagebench.variants import registry
from pagebench.variants.origin import origin_of

MASK = "mask"  # what is proven; `branchless` has the same masks
# What small folios fill for a proof: so many sections apart, or pages in a row.
PROOF_SECTIONS = 3
PROOF_PAGES = 1 << 15


def _look_up(variant: core.Variant, placed: ModelMemmap, folio_map: FolioMap) -> dict[str, int]:
    """Populate folios of one order, each in one array, and look every page up: a Proof's counts."""
    folios = placed.folios_of(folio_map)
    core.populate(variant, placed.base, folios)
    run, unit = variant.probes["lookup"].run, variant.struct_page_bytes // core.OFFSET_UNIT
    heads = np.ascontiguousarray(folios["head"])
    steps = np.arange(1, 1 << int(folios["order"][0]), dtype=np.uint32) * np.uint32(unit)
    tails = (heads[:, np.newaxis] + steps).ravel()
    wrong_tails = core.verify(run, placed.base, tails, np.repeat(heads, len(steps))).wrong
    wrong_heads = core.verify(run, placed.base, heads, heads).wrong
    return {"tails": len(tails), "wrong_tails": wrong_tails, "heads": len(heads), "wrong_heads": wrong_heads}


def _prove(model: Model, page: BasePage, variant: core.Variant, top: int) -> Iterator[Proof]:
    """Orders 0 to ``top`` of a model, all over the same addresses."""
    size = variant.struct_page_bytes
    pages = PROOF_SECTIONS << page.pfn_section_shift if model.sectioned else PROOF_PAGES
    maps = [FolioMap.uniform(order, pages * size, size) for order in range(top + 1)]
    maps = [folio_map for folio_map in maps if not crosses_section(model, folio_map, page)]
    with place(model, max(maps, key=lambda folio_map: folio_map.bytes), page) as placed:
        for order in range(top + 1):
            counts = _look_up(variant, placed, maps[order]) if order < len(maps) else {}
            wrong = counts.get("wrong_tails") or counts.get("wrong_heads")
            yield Proof(
                base_page_bytes=page.bytes,
                struct_page_bytes=size,
                model=model.name,
                order=order,
                encoding="mask" if has_mask(size) else "pointer",
                found=WRONG if wrong else OK if counts else NO_FOLIO,
                expected=arithmetic(model, page, size, order),
                needed_bytes=size << order,
                promised_bytes=placed.promised_bytes,
                obtained_bytes=placed.obtained_bytes,
                **counts,
            )


def prove(
    pages: Sequence[BasePage] = BASE_PAGES,
    struct_pages: Sequence[int] = names.BUILT_IN_STRUCT_PAGES,
    max_order: int | None = None,
) -> Proven:
    """Look every page up through the variant's own loop: each model, each order up to ``max_order``.

    One folio at the worst address proves an order: what the mask makes of a tail's address depends on the
    head's modulo ``sizeof(struct page) << order`` alone, and all that the model allows are multiples of the
    promised power of two.  Small folios fill sections all the same.  Raises PagebenchError, before anything
    is allocated, where memory does not suffice.
    """
    tops = [p.max_folio_order if max_order is None else min(p.max_folio_order, max_order) for p in pages]
    # The largest memmap, and for each of its pages at most three offsets.
    most = max(1 << max(tops), PROOF_SECTIONS * PROOF_PAGES)
    check_fits(most * (max(struct_pages) + 12), resources.available_bytes())
    proofs = [
        proof
        for page, top in zip(pages, tops, strict=True)
        for size in struct_pages
        for model in MODELS
        for proof in _prove(model, page, registry.find(MASK, size), top)
    ]
    return Proven(tool.identity(), origin_of(registry.find(MASK, struct_pages[0])), tuple(proofs))
