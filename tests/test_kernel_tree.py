"""Kernel trees: what their own compound_head() finds, what it is compiled to, and what broken trees say.

The trees are Debian's header packages, fetched by .ci/kernel-headers.
"""

from __future__ import annotations

import os
import platform
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pagebench import core
from pagebench.code import form
from pagebench.errors import PagebenchError
from pagebench.memmap.folios import FolioMap
from pagebench.memmap.memmaps import MappedMemmap
from pagebench.variants import compiled, compiler
from pagebench.variants.kernel import build, compilation
from pagebench.variants.kernel.jump_table import ENTRY, SECTION, Image
from pagebench.variants.kernel.tree import examine

HEADERS = Path(os.environ.get("PAGEBENCH_KERNEL_HEADERS") or Path.home() / ".cache/pagebench/kernel-headers")
POINTER, MASK = ("v6.1", "v6.12"), ("v7",)
TREES = (*POINTER, *MASK)
ODD = """it's; a "dir", $(touch pwned) `x` & %s"""

pytestmark = [
    pytest.mark.usefixtures("own_cache"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the header packages are amd64's"),
    pytest.mark.skipif(
        not all((HEADERS / name / "tree").exists() for name in TREES),
        reason=f"no kernel headers: run .ci/kernel-headers {HEADERS}, or set PAGEBENCH_KERNEL_HEADERS",
    ),
]
needs_clang = pytest.mark.skipif(not shutil.which("clang"), reason="clang is not installed")


def tree_of(name: str) -> Path:
    return HEADERS / name / "tree"


@pytest.fixture
def no_kbuild(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The compiler is called directly, and nothing is found that kbuild made."""
    monkeypatch.setattr(compilation, "by_kbuild", lambda *arguments: "not in this test")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "direct"))


def variant_of(built: build.Built) -> core.Variant:
    ((name, variant),) = core.load_variants(built.path).items()
    assert name == built.name
    return variant


def instructions(variant: core.Variant) -> dict[str, list[str]]:
    """The lookup's own instructions in every probe, the places that jumps go to left out."""
    text = {}
    for name, probe in variant.probes.items():
        own = [i for i in form.analyse(probe).instructions if i.in_variant]
        text[name] = [i.mnemonic if i.mnemonic.startswith("j") else f"{i.mnemonic} {i.operands}" for i in own]
    return text


def wrong_lookups(variant: core.Variant, layout: str, order: int) -> int:
    """How many lookups of every page of four folios go wrong, by the probes that only read."""
    folio_map = FolioMap.uniform(order, 4 * variant.struct_page_bytes << order, variant.struct_page_bytes)
    with MappedMemmap(layout, folio_map) as memmap:
        memmap.write(variant, True)
        probes = [variant.probes[name] for name in ("lookup", "chain")]
        places = folio_map.page_offsets, folio_map.head_offsets
        return sum(core.verify(probe.run, memmap.base, *places).wrong for probe in probes)


def wrong_anywhere(variant: core.Variant, layout: str, order: int) -> list[str]:
    """The probes with a wrong result over four folios, or that leave a wrong count behind."""
    folio_map = FolioMap.uniform(order, 4 * variant.struct_page_bytes << order, variant.struct_page_bytes)
    pages, heads, size = folio_map.page_offsets, folio_map.head_offsets, variant.struct_page_bytes
    wrong = []
    with MappedMemmap(layout, folio_map) as memmap:
        view = core.view(memmap.base, folio_map.bytes)

        def column(at: int) -> list[int]:
            every = np.ndarray((len(view) // size,), np.int32, view.data, at, (size,))
            return [int(n) for n in every[folio_map.pfns]]

        for name, probe in variant.probes.items():
            if probe.writes_tails and layout != "plain":
                continue
            memmap.write(variant, True)
            asked, expected, hits = pages, heads, 1 << order
            if probe.writes_tails:
                asked = expected = folio_map.offsets_of(folio_map.pfns)
                words = np.ndarray((len(view) // size,), np.uint64, view.data, 8, (size,))
                words[folio_map.page_pfns != folio_map.page_heads] = 0
            if probe.returns == "counted":
                expected, hits = np.where(pages == heads, pages, core.NO_PAGE), 1
            found = core.verify(variant.probes[name].run, memmap.base, asked, expected)
            lookup = core.verify(variant.probes["lookup"].run, memmap.base, pages, heads)
            counts = column(variant.refcount_at), column(variant.mapcount_at)
            if (
                found.wrong
                or lookup.wrong
                or counts
                != (
                    [1 + probe.adds_refs * hits] * len(folio_map.pfns),
                    [-1 + probe.adds_maps * hits] * len(folio_map.pfns),
                )
            ):
                wrong.append(name)
    return wrong


def links(directory: Path, to: Path, but: tuple[str, ...] = ()) -> Path:
    """A directory of links to another one's entries."""
    directory.mkdir(parents=True)
    for entry in to.iterdir():
        if entry.name not in but:
            (directory / entry.name).symlink_to(entry)
    return directory


def altered(tmp_path: Path, name: str, *but: str) -> Path:
    """A tree like ``name``'s beside its sources, of links, with a .config of its own and ``but`` left out."""
    tree = tree_of(name).resolve()
    copy = links(tmp_path / tree.name, tree, (".config", "include"))
    include = links(copy / "include", tree / "include", ("generated",))
    links(include / "generated", tree / "include/generated", but)
    shutil.copyfile(tree / ".config", copy / ".config")
    links(
        tmp_path / tree.name.replace("-amd64", "-common"),
        tree.parent / tree.name.replace("-amd64", "-common"),
    )
    return copy


def in_tree(tmp_path: Path, name: str) -> Path:
    """The same as a source tree that was configured in place: everything in one directory."""
    tree = tree_of(name).resolve()
    common = tree.parent / tree.name.replace("-amd64", "-common")
    merged = links(tmp_path / "linux", common, ("arch", "include", "scripts", "tools"))
    for part in ("include", "arch/x86/include"):
        links(merged / part, common / part)
        for entry in (tree / part).iterdir():
            if not (merged / part / entry.name).exists():
                (merged / part / entry.name).symlink_to(entry)
    for entry in (common / "arch/x86").iterdir():
        if entry.name != "include":
            (merged / "arch/x86" / entry.name).symlink_to(entry)
    for entry in (tree / ".config", tree / ".kernelvariables", tree / "scripts", tree / "tools"):
        (merged / entry.name).symlink_to(entry.resolve())
    return merged


class TestHeads:
    @pytest.mark.parametrize("order", [1, 7, 9])
    @pytest.mark.parametrize("name", POINTER)
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
    @pytest.mark.parametrize("name", MASK)
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
        tail_test = "arith" if name in MASK else "branch"
        for built in build.build("k", tree_of(name)):
            for probe in variant_of(built).probes.values():
                expected = tail_test if probe.lookups else "none"
                listing = form.analyse(probe)
                assert (probe.name, listing.form) == (probe.name, expected)
                assert listing.immovable == ""

    @pytest.mark.parametrize("name", POINTER)
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

    @pytest.mark.parametrize("name", TREES)
    def test_kbuild_and_the_compiler_alone_make_the_same(
        self, name: str, request: pytest.FixtureRequest
    ) -> None:
        either = [instructions(variant_of(built)) for built in build.build("k", tree_of(name))]
        request.getfixturevalue("no_kbuild")
        direct = build.build("k", tree_of(name))
        assert {(built.how, built.why) for built in direct} == {("direct", "not in this test")}
        assert [instructions(variant_of(built)) for built in direct] == either

    @pytest.mark.parametrize("name", POINTER)
    def test_prologues_and_thunks_do_not_change_it(
        self, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
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
    def test_another_compiler(self, name: str) -> None:
        for built in build.build("k", tree_of(name), "clang"):
            variant = variant_of(built)
            assert "clang" in built.compiler.lower()
            assert wrong_anywhere(variant, "plain", 9) == []
            assert form.analyse(variant.probes["lookup"]).form != "none"
            assert all(form.analyse(probe).bytes for probe in variant.probes.values())


def defined(path: Path) -> set[str]:
    image = Image.of(path)
    return {name for name in ("__fentry__", "__x86_return_thunk") if image.symbol(name) is not None}


@dataclass(frozen=True, slots=True)
class Site:
    """The first entry of a jump table: where in the file it and its branch are."""

    entry: int
    code: int


class TestJumpTable:
    KEY = "hugetlb_optimize_vmemmap_key"

    @pytest.fixture
    def image(self) -> Image:
        return Image.of(build.build("k", tree_of("v6.1"))[0].path)

    @pytest.fixture
    def site(self, image: Image) -> Site:
        address = image._elf.get_section_by_name(SECTION)["sh_addr"]
        entry = image._at(address, ENTRY.size)
        code, _, _ = ENTRY.unpack_from(image.content, entry)
        return Site(entry, image._at(address + code, 2))

    def test_on_and_off_again(self, image: Image) -> None:
        before = bytes(image.content)
        branches = image.set_key(self.KEY, on=True)
        assert sum(a != b for a, b in zip(before, image.content, strict=True)) == 2 * branches > 0
        assert image.set_key(self.KEY, on=True) == branches
        assert image.set_key(self.KEY, on=False) == branches
        assert bytes(image.content) == before

    def test_another_keys_branches_stay(self, image: Image, site: Site) -> None:
        branches = image.set_key(self.KEY, on=False)
        key = struct.unpack_from("<q", image.content, site.entry + 8)[0]
        struct.pack_into("<q", image.content, site.entry + 8, key + 16)
        assert image.set_key(self.KEY, on=True) == branches - 1
        assert image.content[site.code : site.code + 2] == b"\x66\x90"

    def test_a_branch_that_is_taken_while_off(self, image: Image, site: Site) -> None:
        key = struct.unpack_from("<q", image.content, site.entry + 8)[0]
        struct.pack_into("<q", image.content, site.entry + 8, key | 1)
        image.set_key(self.KEY, on=False)
        assert image.content[site.code] == 0xEB
        image.set_key(self.KEY, on=True)
        assert image.content[site.code : site.code + 2] == b"\x66\x90"

    @pytest.mark.parametrize(
        "found", [b"\x90\x90", b"\xeb\x7f", b"\x0f\x1f", b"\xe9\x00"], ids=lambda code: code.hex()
    )
    def test_what_is_neither_nop_nor_jump_is_refused(self, image: Image, site: Site, found: bytes) -> None:
        image.content[site.code : site.code + 2] = found
        before = bytes(image.content)
        with pytest.raises(PagebenchError, match="neither a nop nor a jump"):
            image.set_key(self.KEY, on=True)
        assert bytes(image.content) == before

    @pytest.mark.parametrize("away", [1 << 30, 4000], ids=["outside", "too far"])
    def test_a_target_that_no_jump_reaches_is_refused(self, image: Image, site: Site, away: int) -> None:
        struct.pack_into("<i", image.content, site.entry + 4, away if away > 4096 else -away)
        with pytest.raises(PagebenchError, match=r"not patched|no code"):
            image.set_key(self.KEY, on=True)

    def test_no_key_no_branches(self, image: Image) -> None:
        assert image.set_key("some_other_key", on=True) == 0


class TestPlaces:
    @pytest.mark.parametrize("name", POINTER)
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

    def test_where_kbuild_gives_up_the_compiler_goes_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setattr(compilation, "make", lambda *arguments: "objtool: it does not run")
        built = build.build("k", tree_of("v6.1"))
        assert {(one.how, one.why) for one in built} == {("direct", "objtool: it does not run")}

    def test_a_module_directorys_link(self, tmp_path: Path) -> None:
        (tmp_path / "build").symlink_to(tree_of("v6.12"))
        assert examine("k", tmp_path / "build").path == tree_of("v6.12").resolve()


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
        assert {file.suffix for file in (tmp_path / "pagebench").iterdir()} == {".so", ".log"}

    def test_a_tree_that_is_gone(self, tmp_path: Path, no_kbuild: None) -> None:
        tree = altered(tmp_path, "v6.1")
        built = build.build("k", tree)
        shutil.rmtree(tree)
        with pytest.raises(PagebenchError, match="is not there"):
            build.build("k", tree)
        assert all(core.load_variants(one.path) for one in built)


class TestBrokenTrees:
    def test_paths_with_spaces_and_quotes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        built = build.build("odd", altered(tmp_path / ODD, "v6.1"))
        assert {one.how for one in built} == {"direct"} and "kbuild does not take" in built[0].why
        assert wrong_anywhere(variant_of(built[1]), "hvo", 9) == []
        assert not list(tmp_path.rglob("pwned"))

    def test_a_cache_with_spaces_and_quotes(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ODD))
        assert "kbuild does not take" in build.build("odd", tree_of("v6.1"))[0].why

    def test_instrumented_trees_name_symbol_and_option(self, tmp_path: Path, no_kbuild: None) -> None:
        tree = altered(tmp_path, "v6.12")
        with (tree / ".config").open("a") as file:
            file.write("CONFIG_KASAN_GENERIC=y\nCONFIG_KCOV_INSTRUMENT_ALL=y\n")
        with pytest.raises(PagebenchError) as error:
            build.build("k", tree)
        assert "__asan_load8_noabort (CONFIG_KASAN)" in str(error.value)
        assert "__sanitizer_cov_trace_pc (CONFIG_KCOV)" in str(error.value)
        assert "all it said: " in str(error.value)

    @pytest.mark.parametrize("header", ["autoconf.h", "bounds.h", "asm-offsets.h", "utsrelease.h"])
    def test_missing_generated_headers(self, header: str, tmp_path: Path) -> None:
        with pytest.raises(
            PagebenchError, match=rf"no include/generated/{header}: run `make modules_prepare`"
        ):
            build.build("k", altered(tmp_path, "v6.1", header))

    @pytest.mark.parametrize(
        ("config", "named"),
        [
            ("# Linux/arm64 6.12 Kernel Configuration\nCONFIG_ARM64=y\n", "configured for aarch64"),
            ("# Linux/riscv 6.12 Kernel Configuration\nCONFIG_RISCV=y\n", "configured for riscv"),
            (
                "# Linux/x86 6.12 Kernel Configuration\nCONFIG_X86_32=y\n",
                "configured for x86 without 64 bits",
            ),
            ("", "configured for an unknown architecture"),
        ],
    )
    def test_another_architecture(self, config: str, named: str, tmp_path: Path) -> None:
        tree = altered(tmp_path, "v6.1")
        (tree / ".config").write_text(config)
        with pytest.raises(PagebenchError, match=f"{named}, and this machine is x86_64"):
            build.build("k", tree)

    def test_a_header_that_does_not_compile(self, tmp_path: Path, no_kbuild: None) -> None:
        tree = altered(tmp_path, "v6.1", "bounds.h")
        (tree / "include/generated/bounds.h").write_text("#error broken on purpose\n")
        with pytest.raises(PagebenchError, match=r"bounds\.h:1:2: error: #error broken on purpose") as error:
            build.build("k", tree)
        log = Path(str(error.value).rsplit("all it said: ", 1)[1])
        assert "broken on purpose" in log.read_text()

    def test_no_tree_at_all(self, tmp_path: Path) -> None:
        with pytest.raises(PagebenchError, match="is no kernel tree"):
            build.build("k", tmp_path)
        with pytest.raises(PagebenchError, match="is not there"):
            build.build("k", tmp_path / "none")

    def test_sources_that_are_not_there(self, tmp_path: Path) -> None:
        tree = altered(tmp_path, "v6.1")
        (tree / "Makefile").unlink()
        (tree / "Makefile").write_text("include /usr/src/linux-headers-0.0.0-common/Makefile\n")
        with pytest.raises(PagebenchError, match=r"sources in /usr/src/linux-headers-0.0.0-common"):
            build.build("k", tree)

    def test_not_configured(self, tmp_path: Path) -> None:
        tree = altered(tmp_path, "v6.1")
        (tree / ".config").unlink()
        with pytest.raises(PagebenchError, match="is not configured"):
            build.build("k", tree)

    @pytest.mark.parametrize("name", ["", "a@b", "a b", "a:b", "old+key", "x" * (compiled.NAME_LENGTH + 1)])
    def test_names_that_options_cannot_spell(self, name: str) -> None:
        with pytest.raises(PagebenchError, match="a kernel cannot be named"):
            build.build(name, tree_of("v6.1"))

    def test_a_compiler_that_is_not_there(self) -> None:
        with pytest.raises(PagebenchError, match=r"no compiler 'nocc'.*--kernel-cc"):
            build.build("k", tree_of("v6.1"), "nocc")


def test_the_compiler_is_the_trees_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert examine("k", tree_of("v6.1")).config_cc == ("gcc-12" if shutil.which("gcc-12") else "gcc")
    assert Path(compiler.find("gcc")[0]).is_absolute()
