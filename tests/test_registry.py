"""The registry, and what every variant says of itself held to what it does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pagebench import core, names
from pagebench.errors import PagebenchError
from pagebench.memmap import models
from pagebench.names import BUILT_IN_STRUCT_PAGES as SIZES
from pagebench.variants import compiled, compiler, registry
from pagebench.variants.kernel import build
from pagebench.variants.kernel.build import Built
from pagebench.variants.loaded import Loaded

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
    encodings = {"pointer", "mask", "null"} if models.has_mask(size) else {"pointer"}
    assert {encoding for encoding, _ in stated} == encodings
    assert {number for _, number in stated} == set(range(len(encodings)))
    assert len(stated) == len(encodings)


@pytest.mark.parametrize("size", SIZES)
def test_the_words_are_those_of_the_encoding_stated(size: int) -> None:
    folio = np.array([(0, 3, 0)], core.FOLIO_DTYPE)
    with core.Reservation(4096, 4096, "4k") as memory:
        mask = (1 << 64) - (size << 3) | 1
        words = {"pointer": memory.base + 1, "mask": mask, "null": mask & ((1 << 63) - 1)}
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


def loaded(name: str, inner: str, path: Path) -> Loaded:
    return Loaded(name, inner, str(path), "a test", "")


@pytest.mark.usefixtures("own_cache")
class TestFromElsewhere:
    def test_a_users_own_is_known_beside_the_others(self, mine: Path) -> None:
        own = registry.users_own("mine", mine, 64)
        assert (own.name, own.inner, own.tree) == ("mine", "mine", "")
        assert own.source == f"mine.c, {core.compiler(Path(own.path))}"
        assert own.cflags == core.variant_cflags(Path(own.path))
        known = registry.known(64, (own,))
        assert set(known) == NAMES | {"mine"}
        assert registry.find("mine", 64, (own,)) is known["mine"]
        assert set(registry.known(64)) == NAMES

    def test_it_is_known_by_its_own_name(self, mine: Path) -> None:
        path = compiled.user_variant("mine", mine)
        known = registry.known(64, (loaded("one", "mine", path), loaded("another", "mine", path)))
        assert {known[name].name for name in ("one", "another")} == {"one", "another"}
        assert known["one"].probes["chain"].run == known["another"].probes["chain"].run

    def test_a_name_that_there_is_already(self, mine: Path) -> None:
        path = compiled.user_variant("mine", mine)
        for objects in ((loaded("mask", "mine", path),), (loaded("x", "mine", path),) * 2):
            with pytest.raises(PagebenchError, match=rf"there is a variant {objects[0].name} already"):
                registry.known(64, objects)

    def test_a_struct_page_of_another_size(self, mine: Path) -> None:
        path = compiled.user_variant("mine", mine, 80)
        with pytest.raises(PagebenchError, match=r"struct page of 80 bytes, .* of 64: give --struct-page 80"):
            registry.known(64, (loaded("mine", "mine", path),))

    @pytest.mark.slow
    def test_struct_pages_that_are_not_built_in_are_compiled(self) -> None:
        assert registry.object_of(64) is None
        assert registry.object_of(72) == compiled.built_in(72)
        assert registry.find("mask", 72).struct_page_bytes == 72

    @pytest.mark.slow
    def test_another_compilers_are_the_built_in_ones_but_for_the_harness(self) -> None:
        cc = Path(compiler.find()[0]).name
        ours = registry.recompiled(cc, 64)
        assert {one.name: one.inner for one in ours} == {
            f"{name}+{cc}": name for name in NAMES - set(names.HARNESS)
        }
        assert {registry.load(one).name for one in ours} == {one.name for one in ours}
        assert {one.source for one in ours} == {core.compiler(Path(ours[0].path))}

    def test_a_trees_own_come_with_the_layouts_that_they_make_sense_on(
        self, mine: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = compiled.user_variant("mine", mine)
        pointers = [
            Built(name, path, "direct", "a test", "cc", "-O2", "6.12", "pointer", "", 0)
            for name in ("old", "old+key")
        ]
        masks = [Built("new", path, "kbuild", "", "cc", "-O2", "7.1", "mask", "", 0)]
        monkeypatch.setattr(build, "build", lambda name, tree, cc: masks if name == "new" else pointers)
        objects, contenders = registry.of_tree("old", Path("linux"), None)
        assert contenders == ["old@plain", "old+key@plain", "old+key@hvo"]
        assert [(one.name, one.source, one.tree) for one in objects] == [
            ("old", "direct (a test), cc", "old"),
            ("old+key", "direct (a test), cc", "old"),
        ]
        objects, contenders = registry.of_tree("new", Path("linux"), None)
        assert contenders == ["new@plain", "new@hvo-shared"]
        assert [one.source for one in objects] == ["kbuild, cc"]
