"""A kernel tree's code, compiled by its kbuild or by the compiler alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from kernel_trees import (
    ODD,
    POINTER_TREES,
    TREES,
    altered,
    instructions,
    tree_of,
    variant_of,
    with_trees,
    wrong_anywhere,
)

from pagebench.code import form
from pagebench.errors import PagebenchError
from pagebench.variants.kernel import build, compilation
from pagebench.variants.kernel.jump_table import Image

pytestmark = [with_trees, pytest.mark.usefixtures("own_cache"), pytest.mark.slow]

needs_clang = pytest.mark.skipif(not shutil.which("clang"), reason="clang is not installed")


@pytest.mark.parametrize("name", TREES)
def test_kbuild_and_the_compiler_alone_make_the_same(name: str, request: pytest.FixtureRequest) -> None:
    either = [instructions(variant_of(built)) for built in build.build("k", tree_of(name))]
    request.getfixturevalue("no_kbuild")
    direct = build.build("k", tree_of(name))
    assert {(built.how, built.why) for built in direct} == {("direct", "not in this test")}
    assert [instructions(variant_of(built)) for built in direct] == either


@pytest.mark.parametrize("name", POINTER_TREES)
def test_prologues_and_thunks_do_not_change_it(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without = build.build("k", tree_of(name))
    if without[0].how != "kbuild":
        pytest.skip(f"kbuild does not run here: {without[0].why}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compilation, "KBUILD", "obj-m := probe.o kernel_tree.o\nccflags-y := {flags}\n")
    as_is = build.build("k", tree_of(name))
    for one, other in zip(without, as_is, strict=True):
        assert "call" in form.analyse(variant_of(other).probes["lookup"]).immovable
        assert {"__fentry__", "__x86_return_thunk"} <= defined(other.path)
        assert not {"__fentry__", "__x86_return_thunk"} & defined(one.path)
        assert instructions(variant_of(one)) == instructions(variant_of(other))
        assert wrong_anywhere(variant_of(other), "plain", 9) == []


@needs_clang
@pytest.mark.parametrize("name", TREES)
def test_another_compiler(name: str) -> None:
    for built in build.build("k", tree_of(name), "clang"):
        variant = variant_of(built)
        assert "clang" in built.compiler.lower()
        assert wrong_anywhere(variant, "plain", 9) == []
        assert form.analyse(variant.probes["lookup"]).form != "none"
        assert all(form.analyse(probe).bytes for probe in variant.probes.values())


def defined(path: Path) -> set[str]:
    image = Image.of(path)
    return {name for name in ("__fentry__", "__x86_return_thunk") if image.symbol(name) is not None}


def test_where_kbuild_gives_up_the_compiler_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compilation, "make", lambda *arguments: "objtool: it does not run")
    built = build.build("k", tree_of("v6.1"))
    assert {(one.how, one.why) for one in built} == {("direct", "objtool: it does not run")}


def test_paths_with_spaces_and_quotes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    built = build.build("odd", altered(tmp_path / ODD, "v6.1"))
    assert {one.how for one in built} == {"direct"} and "kbuild does not take" in built[0].why
    assert wrong_anywhere(variant_of(built[1]), "hvo", 9) == []
    assert not list(tmp_path.rglob("pwned"))


def test_a_cache_with_spaces_and_quotes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ODD))
    assert "kbuild does not take" in build.build("odd", tree_of("v6.1"))[0].why


def test_a_header_that_does_not_compile(tmp_path: Path, no_kbuild: None) -> None:
    tree = altered(tmp_path, "v6.1", "bounds.h")
    (tree / "include/generated/bounds.h").write_text("#error broken on purpose\n")
    with pytest.raises(PagebenchError, match=r"bounds\.h:1:2: error: #error broken on purpose") as error:
        build.build("k", tree)
    log = Path(str(error.value).rsplit("all it said: ", 1)[1])
    assert "broken on purpose" in log.read_text()


def test_a_compiler_that_is_not_there() -> None:
    with pytest.raises(PagebenchError, match=r"no compiler 'nocc'.*--kernel-cc"):
        build.build("k", tree_of("v6.1"), "nocc")
