"""The registry, and what every variant says of itself held to what it does."""

from __future__ import annotations

import numpy as np
import pytest

from pagebench import core
from pagebench.errors import PagebenchError
from pagebench.memmap import models
from pagebench.names import BUILT_IN_STRUCT_PAGES as SIZES
from pagebench.variants import registry

NAMES = set(core.built_in_variants())


@pytest.mark.parametrize("name", sorted(NAMES))
def test_find_gives_the_variant_over_that_struct_page(name: str) -> None:
    found = registry.find(name, 96)
    assert (found.name, found.struct_page_bytes) == (name, 96)


@pytest.mark.parametrize(
    "name, meant", [("pionter", "pointer"), ("mask_select", "mask-select"), ("branch", "b")]
)
def test_an_unknown_name_comes_with_the_nearest(name: str, meant: str) -> None:
    with pytest.raises(PagebenchError, match=rf"^unknown variant '{name}': did you mean '{meant}"):
        registry.find(name)


def test_a_name_like_none_comes_with_all_of_them() -> None:
    with pytest.raises(PagebenchError) as raised:
        registry.find("?!")
    assert set(str(raised.value).partition("known: ")[2].split(", ")) == NAMES


@pytest.mark.parametrize("order", [1, 2, 9, 18, 22])
@pytest.mark.parametrize("size", SIZES)
def test_variants_share_words_by_the_encoding_that_they_state(size: int, order: int) -> None:
    variants = core.built_in_variants(size)
    numbers = registry.tail_words(variants, order)
    assert numbers.keys() == variants.keys()
    stated = {(variant.encoding, numbers[name]) for name, variant in variants.items()}
    encodings = {"pointer", "mask"} if models.has_mask(size) else {"pointer"}
    assert {encoding for encoding, _ in stated} == encodings
    assert {number for _, number in stated} == set(range(len(encodings)))
    assert len(stated) == len(encodings)


@pytest.mark.parametrize("size", SIZES)
def test_the_words_are_those_of_the_encoding_stated(size: int) -> None:
    folio = np.array([(0, 3, 0)], core.FOLIO_DTYPE)
    with core.Reservation(4096, 4096, "4k") as memory:
        words = {"pointer": memory.base + 1, "mask": (1 << 64) - (size << 3) | 1}
        for name, variant in core.built_in_variants(size).items():
            core.populate(variant, memory.base, folio)
            found = {
                int.from_bytes(memory.bytes_at(tail * size + 8, 8), "little") for tail in range(1, 1 << 3)
            }
            assert found == {words[variant.encoding]}, name


@pytest.mark.parametrize("size", SIZES)
def test_base_pages_have_one_encoding(size: int) -> None:
    assert set(registry.tail_words(core.built_in_variants(size), 0).values()) == {0}


def test_the_first_variant_has_encoding_0() -> None:
    known = core.built_in_variants()
    for first, second in (("mask", "pointer"), ("pointer", "mask")):
        numbers = registry.tail_words({first: known[first], second: known[second]}, 2)
        assert numbers == {first: 0, second: 1}
