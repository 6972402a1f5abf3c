from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagebench import core, names
from pagebench.errors import PagebenchError
from pagebench.variants import registry

SIZES = (56, 64, 96)
NAMES = set(core.built_in_variants())
# By the word that set_compound_head() writes.
MASKS = {name for name in NAMES if name.startswith("mask") or name in ("branchless", "control")}
POINTERS = NAMES - MASKS


@pytest.mark.parametrize("size", SIZES)
def test_every_struct_page_size_has_the_same_variants(size: int) -> None:
    assert set(core.built_in_variants(size)) == NAMES
    assert {variant.struct_page_bytes for variant in core.built_in_variants(size).values()} == {size}


def test_find_gives_the_variant_over_that_struct_page() -> None:
    found = registry.find("mask", 96)
    assert (found.name, found.struct_page_bytes) == ("mask", 96)


@pytest.mark.parametrize(
    "name, meant", [("pionter", "pointer"), ("mask_select", "mask-select"), ("branch", "b")]
)
def test_an_unknown_name_comes_with_the_nearest(name: str, meant: str) -> None:
    with pytest.raises(PagebenchError, match=rf"^unknown variant '{name}': did you mean '{meant}"):
        registry.find(name)


def test_a_name_like_none_comes_with_all_of_them() -> None:
    with pytest.raises(PagebenchError) as raised:
        registry.find("xyzzy")
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
def test_the_encodings_of_64_byte_struct_pages_are_two(order: int) -> None:
    numbers = registry.encodings(core.built_in_variants(64), order)
    assert set(numbers) == NAMES
    assert {"pointer", "fakehead", "identity"} <= POINTERS and {"mask", "branchless"} <= MASKS
    assert len({numbers[name] for name in POINTERS}) == 1
    assert len({numbers[name] for name in MASKS}) == 1
    assert sorted(set(numbers.values())) == [0, 1]


@pytest.mark.parametrize("size", SIZES)
def test_base_pages_have_one_encoding(size: int) -> None:
    assert set(registry.encodings(core.built_in_variants(size), 0).values()) == {0}


@pytest.mark.parametrize("order", [1, 2, 9, 22])
@pytest.mark.parametrize("size", [56, 96])
def test_a_mask_that_falls_back_to_the_pointer_writes_the_same_words(size: int, order: int) -> None:
    assert set(registry.encodings(core.built_in_variants(size), order).values()) == {0}


def test_the_first_variant_has_encoding_0() -> None:
    known = core.built_in_variants()
    for first, second in (("mask", "pointer"), ("pointer", "mask")):
        numbers = registry.encodings({first: known[first], second: known[second]}, 2)
        assert numbers == {first: 0, second: 1}
