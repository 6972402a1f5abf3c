"""Memory models: what the kernel promises."""

from __future__ import annotations

from planted_models import FOUR_K

from pagebench import names
from pagebench.memmap import models
from pagebench.memmap.models import BASE_PAGES, MODELS
from pagebench.variants import registry


def test_base_pages_are_the_kernels() -> None:
    assert [page.max_folio_order for page in BASE_PAGES] == [22, 20, 18]
    assert [page.pfn_section_shift for page in BASE_PAGES] == [15, 13, 13]
    assert [page.pmd_bytes >> 20 for page in BASE_PAGES] == [2, 32, 512]
    assert [page.max_folio_vmemmap_align(64) >> 20 for page in BASE_PAGES] == [256, 64, 16]
    assert {page.max_folio_vmemmap_align(size) for page in BASE_PAGES for size in (56, 96)} == {0}


def test_promises_are_those_of_the_facts() -> None:
    promised = {model.name: [model.promised(page, 64) for page in BASE_PAGES] for model in MODELS}
    assert promised == {
        "vmemmap": [1 << 30, 64 << 20, 512 << 20],
        "vmemmap-pmd": [2 << 20, 32 << 20, 512 << 20],
        "sparsemem-boot": [2 << 20, 512 << 10, 512 << 10],
        "sparsemem": [4096, 16384, 65536],
        "sparsemem-aligned": [2 << 20, 512 << 10, 512 << 10],
        "flatmem": [64, 64, 64],
        "flatmem-aligned": [256 << 20, 64 << 20, 16 << 20],
    }
    # 56 << 15 is 7 << 18: what divides every multiple of it is 1 << 18.
    assert models.find("sparsemem-boot").promised(FOUR_K, 56) == 1 << 18


def test_only_powers_of_two_have_a_mask() -> None:
    for size in names.BUILT_IN_STRUCT_PAGES:
        numbers = registry.tail_words(
            {name: registry.find(name, size) for name in ("pointer", "mask", "branchless")}, 2
        )
        assert (numbers["mask"] != numbers["pointer"]) == models.has_mask(size) == (size == 64)
        assert numbers["mask"] == numbers["branchless"]
