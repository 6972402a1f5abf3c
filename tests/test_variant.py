"""What a struct pb_variant says of itself, from the core and from shared objects."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from pagebench import core, names
from pagebench.errors import PagebenchError
from pagebench.names import BUILT_IN_STRUCT_PAGES as SIZES
from pagebench.variants import compiled

pytestmark = pytest.mark.usefixtures("own_cache")
NAMES = set(core.built_in_variants())


@pytest.mark.parametrize("size", SIZES)
def test_every_struct_page_size_has_the_same_variants(size: int) -> None:
    assert set(core.built_in_variants(size)) == NAMES
    assert {variant.struct_page_bytes for variant in core.built_in_variants(size).values()} == {size}


@pytest.mark.parametrize("size", SIZES)
def test_probes_are_those_of_the_vocabulary_and_do_the_same_for_all(size: int) -> None:
    described = {}
    for variant in core.built_in_variants(size).values():
        assert tuple(variant.probes) == tuple(names.PROBES)
        for probe in variant.probes.values():
            own = dataclasses.replace(probe, run=0, start=0, code=b"", variant_code=(0, 0), cdata=None)
            assert described.setdefault(probe.name, own) == own


def test_built_in_are_what_the_core_holds() -> None:
    assert core.built_in_struct_pages() == [56, 64, 96]
    assert not core.built_in_variants(72)


def test_an_object_that_is_loaded_twice(mine: Path) -> None:
    path = compiled.user_variant("mine", mine)
    first, second = core.load_variants(path), core.load_variants(path)
    assert first["mine"].probes["chain"].run == second["mine"].probes["chain"].run


def test_an_object_that_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(PagebenchError, match=r"cannot load compiled code: .*none\.so"):
        core.load_variants(tmp_path / "none.so")
    text = tmp_path / "text.so"
    text.write_text("not an object")
    with pytest.raises(PagebenchError, match=r"cannot load compiled code: .*text\.so"):
        core.load_variants(text)


def test_an_object_that_is_not_ours() -> None:
    import _ctypes

    with pytest.raises(PagebenchError, match=r"holds no variants"):
        core.load_variants(Path(_ctypes.__file__))


def test_the_layout_is_that_of_every_field() -> None:
    expected = []
    for struct in ("struct pb_variant", "struct pb_probe", "struct pb_mark"):
        expected.append((f"sizeof({struct})", core.ffi.sizeof(struct)))
        fields = core.ffi.typeof(struct).fields
        expected += [(f"offsetof({struct}, {name})", field.offset) for name, field in fields]
    assert core.abi() == expected


def test_a_copy_of_the_core_is_an_object_like_others(tmp_path: Path) -> None:
    """Its variants can be looked up with by another build: a bundle's are."""
    copy = Path(shutil.copy(core.built_in_object(), tmp_path / "core.so"))
    copied, built_in = core.load_variants(copy, 96), core.built_in_variants(96)
    assert copied.keys() == built_in.keys()
    for name, variant in built_in.items():
        for probe in variant.probes:
            assert copied[name].probes[probe].code == variant.probes[probe].code
            assert copied[name].probes[probe].run != variant.probes[probe].run


@pytest.mark.slow
def test_an_object_of_another_build_of_pagebench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Path(shutil.copy(compiled.built_in(72), tmp_path))
    abi = core.abi()
    for module in (core, core.variant):
        monkeypatch.setattr(module, "abi", lambda: [*abi[:-1], (abi[-1][0], 8)])
    with pytest.raises(PagebenchError, match=r"another build of pagebench"):
        core.load_variants(copy)
    with pytest.raises(PagebenchError, match=r"error: .*built from other sources: build it again"):
        compiled.built_in(72)
