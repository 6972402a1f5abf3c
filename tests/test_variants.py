"""The registry, and what every variant says of itself held to what it does."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagebench import core, names
from pagebench.errors import PagebenchError
from pagebench.memmap import models
from pagebench.names import BUILT_IN_STRUCT_PAGES as SIZES
from pagebench.variants import registry

NAMES = set(core.built_in_variants())


@pytest.mark.parametrize("size", SIZES)
def test_every_struct_page_size_has_the_same_variants(size: int) -> None:
    assert set(core.built_in_variants(size)) == NAMES
    assert {variant.struct_page_bytes for variant in core.built_in_variants(size).values()} == {size}


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


@given(
    st.text(max_size=30),
    st.lists(st.from_regex(r"[a-z0-9@:-]{1,12}", fullmatch=True), min_size=1, max_size=6),
)
def test_the_hint_is_a_known_name(name: str, known: list[str]) -> None:
    message = str(names.nearest(name, known, "probe"))
    assert message.startswith(f"unknown probe {name!r}: ")
    hint = message.removeprefix(f"unknown probe {name!r}: ")
    if meant := re.fullmatch(r"did you mean '(.*)'\?", hint):
        assert meant[1] in known
    else:
        assert hint == f"known: {', '.join(sorted(known))}"
    assert name not in known or hint == f"did you mean {name!r}?"


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
def test_probes_are_those_of_the_vocabulary_and_do_the_same_for_all(size: int) -> None:
    described = {}
    for variant in core.built_in_variants(size).values():
        assert tuple(variant.probes) == tuple(names.PROBES)
        for probe in variant.probes.values():
            own = dataclasses.replace(probe, run=0, start=0, code=b"", variant_code=(0, 0), cdata=None)
            assert described.setdefault(probe.name, own) == own


@pytest.mark.parametrize("size", SIZES)
def test_base_pages_have_one_encoding(size: int) -> None:
    assert set(registry.tail_words(core.built_in_variants(size), 0).values()) == {0}


def test_the_first_variant_has_encoding_0() -> None:
    known = core.built_in_variants()
    for first, second in (("mask", "pointer"), ("pointer", "mask")):
        numbers = registry.tail_words({first: known[first], second: known[second]}, 2)
        assert numbers == {first: 0, second: 1}
