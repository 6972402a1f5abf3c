"""Variants of kernel trees: what their own compound_head() finds, what it is compiled to, when again."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel_trees import (
    HEADERS,
    MASK_TREES,
    POINTER_TREES,
    TREES,
    altered,
    in_tree,
    instructions,
    links,
    tree_of,
    variant_of,
    with_trees,
    wrong_anywhere,
    wrong_lookups,
)

from pagebench import core
from pagebench.code import form
from pagebench.errors import PagebenchError
from pagebench.variants import cache, compiler
from pagebench.variants.kernel import build, compilation
from pagebench.variants.kernel.tree import examine

pytestmark = [with_trees, pytest.mark.usefixtures("own_cache"), pytest.mark.slow]
needs_clang = pytest.mark.skipif(not shutil.which("clang"), reason="clang is not installed")


class TestHeads:
    @pytest.mark.parametrize("order", [1, 7, 9])
    @pytest.mark.parametrize("name", POINTER_TREES)
    def test_the_key_serves_hvo(self, name: str, order: int) -> None:
        off, on = map(variant_of, build.build("old", tree_of(name)))
        assert (off.name, on.name) == ("old", "old+key")
        assert wrong_anywhere(off, "plain", order) == []
        assert wrong_anywhere(on, "plain", order) == []
        if order >= 7:
            assert wrong_anywhere(on, "hvo", order) == []
            # One fake head in each page of tails but the first.
            assert wrong_lookups(off, "hvo", order) == 2 * 4 * ((64 << order) // 4096 - 1)
            assert wrong_lookups(on, "hvo-shared", order)

    @pytest.mark.parametrize("order", [1, 7, 9])
    @pytest.mark.parametrize("name", MASK_TREES)
    def test_the_mask_serves_shared_tails(self, name: str, order: int) -> None:
        (new,) = map(variant_of, build.build("new", tree_of(name)))
        assert wrong_anywhere(new, "plain", order) == []
        if order >= 7:
            assert wrong_anywhere(new, "hvo-shared", order) == []
            assert wrong_lookups(new, "hvo", order)

    def test_what_is_said_of_them(self) -> None:
        for name, encoding in (("v6.1", "pointer"), ("v6.12", "pointer"), ("v7", "mask")):
            for built in build.build("k", tree_of(name)):
                variant = variant_of(built)
                assert (built.encoding, built.release) == (encoding, variant.version)
                assert variant.version.startswith(name[1:])
                assert (variant.struct_page_bytes, variant.subject) == (64, "compound_head() of the tree")
                assert built.how in ("kbuild", "direct") and bool(built.why) == (built.how == "direct")
                assert "-mcmodel=kernel" in built.cflags and str(HEADERS) not in built.cflags
                assert built.compiler


class TestMachineCode:
    @pytest.mark.parametrize("name", TREES)
    def test_forms(self, name: str) -> None:
        tail_test = "arith" if name in MASK_TREES else "branch"
        for built in build.build("k", tree_of(name)):
            for probe in variant_of(built).probes.values():
                expected = tail_test if probe.lookups else "none"
                listing = form.analyse(probe)
                assert (probe.name, listing.form) == (probe.name, expected)
                assert listing.immovable == ""

    @pytest.mark.parametrize("name", POINTER_TREES)
    def test_the_key_is_a_jump_over_a_nop(self, name: str) -> None:
        first, second = build.build("k", tree_of(name))
        off, on = variant_of(first), variant_of(second)
        # One in every lookup, and one in page_ref_add_unless().
        sites_of = {p.name: p.lookups or int(p.returns == "counted") for p in off.probes.values()}
        assert first.branches == second.branches == sum(sites_of.values())
        for probe, other in zip(off.probes.values(), on.probes.values(), strict=True):
            differs = [i for i, (a, b) in enumerate(zip(probe.code, other.code, strict=True)) if a != b]
            sites = sites_of[probe.name]
            assert len(differs) == 2 * sites
            for at in differs[::2]:
                assert probe.code[at : at + 2] == b"\x66\x90" and other.code[at : at + 1] == b"\xeb"
        assert instructions(off)["lookup"] == [i for i in instructions(off)["lookup"] if "0xfff" not in i]
        assert any("0xfff" in i for i in instructions(on)["lookup"])

    def test_without_a_key_there_is_one_variant(self) -> None:
        (built,) = build.build("k", tree_of("v7"))
        assert (built.key, built.branches) == ("", 0)


class TestPlaces:
    @pytest.mark.parametrize("name", POINTER_TREES)
    def test_a_source_tree(self, name: str, tmp_path: Path) -> None:
        tree = in_tree(tmp_path, name)
        assert examine("k", tree).source == tree
        built = build.build("k", tree)
        reference = build.build("k", tree_of(name))
        assert [one.how for one in built] == [one.how for one in reference]
        for one, other in zip(built, reference, strict=True):
            assert instructions(variant_of(one)) == instructions(variant_of(other))

    def test_an_output_directory(self, tmp_path: Path, no_kbuild: None) -> None:
        source = in_tree(tmp_path, "v6.1")
        tree = links(tmp_path / "build", tree_of("v6.1").resolve(), ("Makefile",))
        (tree / "Makefile").write_text(
            f"# Automatically generated\nexport KBUILD_OUTPUT = .\ninclude {source}/Makefile\n"
        )
        assert examine("k", tree).source == source
        (tree / "Makefile").write_text("# Older than v4.20\n")
        (tree / "source").symlink_to(source)
        assert examine("k", tree).source == source
        assert wrong_anywhere(variant_of(build.build("k", tree)[1]), "hvo", 9) == []


class TestCache:
    def test_a_second_run_compiles_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        first = build.build("again", tree_of("v6.1"))
        monkeypatch.setattr(compilation, "choose", None)
        assert build.build("again", tree_of("v6.1")) == first

    def test_a_changed_header_compiles_again(self, tmp_path: Path, no_kbuild: None) -> None:
        tree = altered(tmp_path, "v6.1", "compile.h")
        first = build.build("k", tree)
        (tree / "include/generated/compile.h").write_text("/* another */\n")
        second = build.build("k", tree)
        assert first[0].path != second[0].path

    @pytest.mark.parametrize("name", TREES)
    def test_nothing_is_written_into_the_tree(
        self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def state() -> Iterator[tuple[str, int, int]]:
            for file in sorted((HEADERS / name).rglob("*")):
                status = file.lstat()
                yield str(file), status.st_mtime_ns, status.st_size

        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        before = list(state())
        build.build("k", tree_of(name))
        assert list(state()) == before
        assert {file.suffix for file in (tmp_path / "pagebench").iterdir()} == {".so", ".log", ".sources"}

    def test_what_it_was_compiled_from_is_kept(self) -> None:
        for built in build.build("k", tree_of("v6.12")):
            kept = {path.name: path.read_bytes() for path in cache.sources_of(built.path).iterdir()}
            assert {"config", "autoconf.h", "page-flags.h", "mm_types.h", "mm.h", "kernel_tree.c"} == set(
                kept
            )
            assert b"compound_head(" in kept["page-flags.h"]
            assert kept["config"] == (tree_of("v6.12") / ".config").read_bytes()

    def test_a_tree_that_is_gone(self, tmp_path: Path, no_kbuild: None) -> None:
        tree = altered(tmp_path, "v6.1")
        built = build.build("k", tree)
        shutil.rmtree(tree)
        with pytest.raises(PagebenchError, match="is not there"):
            build.build("k", tree)
        assert all(core.load_variants(one.path) for one in built)


def test_the_compiler_is_the_trees_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert examine("k", tree_of("v6.1")).config_cc == ("gcc-12" if shutil.which("gcc-12") else "gcc")
    assert Path(compiler.find("gcc")[0]).is_absolute()
