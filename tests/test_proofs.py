"""What came of the proofs: by model, by table, against the arithmetic."""

from __future__ import annotations

import dataclasses

import proven
import pytest

from pagebench.memmap.models import BASE_PAGES, MODELS, WRONG
from pagebench.results.proofs import by_model, disagreements, tables_of

# The highest order the mask is safe for, 64-byte struct pages, 4 KiB pages.  Its 24 for
# vmemmap is beyond MAX_FOLIO_ORDER, and in SPARSEMEM no folio is above a section's order, 15.
HIGHEST_SAFE = {
    "vmemmap": 22,
    "vmemmap-pmd": 15,
    "sparsemem-boot": 15,
    "sparsemem": 6,
    "sparsemem-aligned": 15,
    "flatmem": 0,
    "flatmem-aligned": 22,
}


@pytest.mark.slow
def test_highest_safe_orders_are_those_of_the_facts() -> None:
    rows = by_model(proven.all_orders().proofs)
    assert {row.first.model: row.highest_safe_order for row in rows} == HIGHEST_SAFE
    assert {row.first.model for row in rows if row.safe} == {
        "vmemmap",
        "sparsemem-boot",
        "sparsemem-aligned",
        "flatmem-aligned",
    }


@pytest.mark.slow
def test_struct_pages_that_keep_the_pointer_share_a_table_where_they_agree() -> None:
    tables = tables_of(proven.low_orders().proofs)
    assert [(table.base_page_bytes, table.struct_pages) for table in tables] == [
        (page.bytes, sizes) for page in BASE_PAGES for sizes in ((64,), (56, 96))
    ]
    assert all(len(table.rows) == len(MODELS) for table in tables)


def test_what_was_not_found_and_what_was_not_expected_disagree() -> None:
    proofs = proven.all_orders().proofs
    assert disagreements(proofs) == []
    wrong = dataclasses.replace(proofs[3], found=WRONG, wrong_heads=1)
    assert wrong.wrong_of == (1, wrong.heads)  # no tail was
    assert disagreements([*proofs[:3], wrong]) == [
        "vmemmap, order 3, base page 4K, struct page 64 bytes: found 'wrong', expected 'ok'"
    ]
