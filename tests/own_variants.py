"""A user's own variant, and what a variant compiled at run time finds."""

from __future__ import annotations

from pagebench import core, names
from pagebench.memmap import folios

POINTER = """\
static inline struct page *compound_head(const struct page *page)
{
	unsigned long head = READ_ONCE(page->compound_head);

	return (struct page *)(head & 1 ? head - 1 : (unsigned long)page);
}

static inline void set_compound_head(struct page *tail, struct page *head, unsigned int order)
{
	(void)order;
	set_compound_pointer(tail, head);
}
"""


def wrong_lookups(variant: core.Variant, order: int) -> int:
    """How many lookups of every page of three folios go wrong, over all probes that look up."""
    folio_map = folios.FolioMap.uniform(
        order, 3 * (variant.struct_page_bytes << order), variant.struct_page_bytes
    )
    pages = folio_map.page_pfns
    heads = pages if variant.name == names.IDENTITY else folio_map.heads_of(pages)
    size = folios.reserved_bytes(folio_map.bytes, "4k")
    with core.Reservation(size, folio_map.alignment, "4k") as memory:
        core.populate(variant, memory.base, folio_map.folios)
        return sum(
            core.verify(
                variant.probes[probe].run,
                memory.base,
                folio_map.offsets_of(pages),
                folio_map.offsets_of(heads),
            ).wrong
            for probe in variant.probes
            if variant.probes[probe].lookups
        )


def machine_code(variant: core.Variant) -> dict[str, bytes]:
    return {name: probe.code for name, probe in variant.probes.items()}
