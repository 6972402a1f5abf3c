"""Variants compiled at run time: what they find, how they fail, when they are compiled again."""

from __future__ import annotations

import itertools
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from pagebench import core, names
from pagebench.architecture import ARCHITECTURES
from pagebench.errors import PagebenchError
from pagebench.memmap import folios
from pagebench.variants import cache, compiled, compiler, registry

POINTER = """\
static inline struct page *compound_head(const struct page *page)
{
	unsigned long head = READ_ONCE(page->compound_head);

	return (struct page *)(head & 1 ? head - 1 : (unsigned long)page);
}

static inline void set_compound_head(struct page *tail, struct page *head, unsigned int order)
{
	(void)order;
	set_compound_pointer(tail, head);
}
"""

ODD = """it's; a "dir", $(touch pwned) `x` & \\ %s 100% ünd so"""

needs_clang = pytest.mark.skipif(not shutil.which("clang"), reason="clang is not installed")
needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is not installed")


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.c"
    file.write_text(POINTER)
    return file


@pytest.fixture
def counting_cc(tmp_path: Path) -> tuple[str, Path]:
    """A compiler that notes how it was called, and its notes."""
    script, notes = tmp_path / "counting cc", tmp_path / "calls"
    script.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$*\" >> '{notes}'\nexec {compiler.find()[0]} \"$@\"\n")
    script.chmod(0o755)
    return str(script), notes


def compilations(notes: Path) -> int:
    return sum("-shared" in call for call in notes.read_text().splitlines())


def wrong_lookups(variant: core.Variant, order: int) -> int:
    """How many lookups of every page of three folios go wrong, over all probes that look up."""
    folio_map = folios.FolioMap.uniform(
        order, 3 * (variant.struct_page_bytes << order), variant.struct_page_bytes
    )
    pages = folio_map.page_pfns
    heads = pages if variant.name == names.IDENTITY else folio_map.heads_of(pages)
    size = folios.reserved_bytes(folio_map.bytes, "4k")
    with core.Reservation(size, folio_map.alignment, "4k") as memory:
        core.populate(variant, memory.base, folio_map.folios)
        return sum(
            core.verify(
                variant.probes[probe].run,
                memory.base,
                folio_map.offsets_of(pages),
                folio_map.offsets_of(heads),
            ).wrong
            for probe in variant.probes
            if variant.probes[probe].lookups
        )


def machine_code(variant: core.Variant) -> dict[str, bytes]:
    return {name: probe.code for name, probe in variant.probes.items()}


class TestStructPages:
    @pytest.mark.parametrize("size", [72, 80, 128])
    def test_all_variants_find_every_head(self, size: int) -> None:
        loaded = core.load_variants(compiled.built_in(size))
        assert set(loaded) == set(core.built_in_variants(64))
        for variant in loaded.values():
            assert variant.struct_page_bytes == size
            for order in range(10):
                assert wrong_lookups(variant, order) == 0, f"{variant.name}, order {order}"

    @pytest.mark.parametrize("size", [72, 80, 128])
    def test_the_mask_is_for_powers_of_two(self, size: int) -> None:
        variants = core.load_variants(compiled.built_in(size))
        stated = {name: variant.encoding for name, variant in variants.items()}
        assert set(stated.values()) == ({"pointer", "mask"} if size == 128 else {"pointer"})
        numbers = registry.tail_words(variants, 2)
        assert len(set(zip(stated.values(), numbers.values(), strict=True))) == len(set(stated.values()))

    def test_built_in_are_what_the_core_holds(self) -> None:
        assert core.built_in_struct_pages() == [56, 64, 96]
        assert not core.built_in_variants(72)

    @pytest.mark.parametrize("size", [0, 48, 60, 70, 264, -64])
    def test_a_size_that_none_has(self, size: int) -> None:
        with pytest.raises(PagebenchError, match=r"multiple of 8 from 56 to 256"):
            compiled.built_in(size)
        with pytest.raises(PagebenchError, match=rf"no struct page has {size} bytes"):
            compiled.user_variant("mine", Path("mine.c"), size)

    def test_the_same_code_as_in_the_core(self) -> None:
        path = compiled.built_in(64)
        if (core.compiler(path), core.variant_cflags(path)) != (core.compiler(), core.variant_cflags()):
            pytest.skip(f"the core was built with {core.compiler()}, not {core.compiler(path)}")
        loaded, built_in = core.load_variants(path), core.built_in_variants(64)
        assert {n: machine_code(v) for n, v in loaded.items()} == {
            n: machine_code(v) for n, v in built_in.items()
        }


class TestObjects:
    def test_export_nothing_but_the_registry(self) -> None:
        with compiled.built_in(72).open("rb") as file:
            symbols = ELFFile(file).get_section_by_name(".dynsym")
            assert isinstance(symbols, SymbolTableSection)
            defined = [s for s in symbols.iter_symbols() if s["st_shndx"] != "SHN_UNDEF"]
            exported = {symbol.name for symbol in defined}
        assert exported == {"pb_variants", "pb_compiler", "pb_variant_cflags", "pb_layout"}

    def test_each_keeps_its_own_code(self) -> None:
        before = {name: machine_code(variant) for name, variant in core.built_in_variants(64).items()}
        builds = [core.load_variants(compiled.built_in(size)) for size in (72, 80, 128)]
        builds.append(dict(core.built_in_variants(64)))
        probes = [p for build in builds for variant in build.values() for p in variant.probes.values()]
        places = sorted((probe.start, probe.start + len(probe.code)) for probe in probes)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(places))
        assert all(probe.start <= probe.run < probe.start + len(probe.code) for probe in probes)
        assert before == {name: machine_code(variant) for name, variant in core.built_in_variants(64).items()}
        for build in builds:
            assert wrong_lookups(build["mask"], 4) == 0

    @needs_clang
    @needs_gcc
    def test_two_compilers_side_by_side(self) -> None:
        paths = {cc: compiled.built_in(64, cc) for cc in ("gcc", "clang")}
        assert paths["gcc"] != paths["clang"]
        assert core.compiler(paths["gcc"]).startswith("gcc ")
        assert "clang" in core.compiler(paths["clang"]).lower()
        both = {cc: core.load_variants(path) for cc, path in paths.items()}
        for build in both.values():
            for variant in build.values():
                assert all(wrong_lookups(variant, order) == 0 for order in (0, 2, 9))
        assert machine_code(both["gcc"]["fakehead"]) != machine_code(both["clang"]["fakehead"])
        # One memmap serves both: the encoding is the source's, not the compiler's.
        every = {f"{cc} {name}": variant for cc, build in both.items() for name, variant in build.items()}
        numbers = registry.tail_words(every, 2)
        assert len(set(numbers.values())) == 2
        assert len({(variant.encoding, numbers[name]) for name, variant in every.items()}) == 2

    def test_the_same_file_twice(self) -> None:
        path = compiled.built_in(72)
        first, second = core.load_variants(path), core.load_variants(path)
        assert first["mask"].probes["chain"].run == second["mask"].probes["chain"].run

    def test_what_cannot_be_loaded(self, tmp_path: Path) -> None:
        with pytest.raises(PagebenchError, match=r"cannot load variants: .*none\.so"):
            core.load_variants(tmp_path / "none.so")
        text = tmp_path / "text.so"
        text.write_text("not an object")
        with pytest.raises(PagebenchError, match=r"cannot load variants: .*text\.so"):
            core.load_variants(text)

    def test_what_is_not_ours(self) -> None:
        import _ctypes

        with pytest.raises(PagebenchError, match=r"holds no variants"):
            core.load_variants(Path(_ctypes.__file__))

    def test_of_another_build_of_pagebench(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        copy = Path(shutil.copy(compiled.built_in(72), tmp_path))
        abi = core.abi()
        for module in (core, core.variant):
            monkeypatch.setattr(module, "abi", lambda: [*abi[:-1], (abi[-1][0], 8)])
        with pytest.raises(PagebenchError, match=r"another build of pagebench"):
            core.load_variants(copy)
        with pytest.raises(PagebenchError, match=r"error: .*built from other sources: build it again"):
            compiled.built_in(72)


class TestUserVariant:
    @pytest.mark.parametrize("name", ["mine", "my-own_2.0+x", "M", "x" * 24])
    def test_good(self, name: str, mine: Path) -> None:
        loaded = core.load_variants(compiled.user_variant(name, mine))
        assert list(loaded) == [name]
        variant = loaded[name]
        assert (variant.name, variant.commit, variant.version) == (name, "", "")
        assert (variant.encoding, variant.form, variant.fixes_fake_heads) == ("", "", False)
        assert variant.subject == "user's own, mine.c"
        assert all(wrong_lookups(variant, order) == 0 for order in range(10))
        assert registry.tail_words({name: variant, **core.built_in_variants(64)}, 2)["pointer"] == 0

    def test_compiled_as_the_built_in_ones(self, mine: Path) -> None:
        lines = (compiler.sources() / "variants" / "mask-select.c").read_text().splitlines(True)
        mine.write_text("".join(line for line in lines if not line.startswith("#include")))
        loaded = core.load_variants(compiled.user_variant("mine", mine))
        built_in = core.load_variants(compiled.built_in(64))["mask-select"]
        assert machine_code(loaded["mine"]) == machine_code(built_in)

    @pytest.mark.parametrize("encoding", ["pointer", "mask"])
    def test_an_encoding_instead_of_a_set_compound_head(self, encoding: str, mine: Path) -> None:
        lookup = POINTER.split("static inline void")[0]
        if encoding == "mask":
            lookup = lookup.replace("head - 1 :", "(unsigned long)page & head :")
        mine.write_text(f"#define PB_ENCODING {encoding}\n{lookup}")
        variant = core.load_variants(compiled.user_variant("mine", mine))["mine"]
        assert (variant.encoding, variant.form) == (encoding, "")
        assert all(wrong_lookups(variant, order) == 0 for order in (0, 2, 9))

    def test_over_other_struct_pages(self, mine: Path) -> None:
        mine.write_text(f'_Static_assert(sizeof(struct page) == 80, "");\n{POINTER}')
        variant = core.load_variants(compiled.user_variant("mine", mine, 80))["mine"]
        assert variant.struct_page_bytes == 80
        assert all(wrong_lookups(variant, order) == 0 for order in (0, 4, 9))

    def test_wrong(self, mine: Path) -> None:
        mine.write_text(POINTER.replace("head - 1 :", "head + 63 :"))
        variant = core.load_variants(compiled.user_variant("wrong", mine))["wrong"]
        assert wrong_lookups(variant, 0) == 0
        looking = sum(probe.lookups > 0 for probe in variant.probes.values())
        assert wrong_lookups(variant, 2) == looking * 3 * 3

    def test_does_not_compile(self, mine: Path, cache: Path) -> None:
        mine.write_text(POINTER.replace("(void)order;", "(void)order"))
        with pytest.raises(PagebenchError) as caught:
            compiled.user_variant("mine", mine)
        said, _, log = str(caught.value).partition("; all it said: ")
        assert said.startswith(f"{Path(compiler.find()[0]).name} cannot compile mine.c: {mine}:")
        assert "error: expected ';'" in said
        assert "\n" not in str(caught.value)
        assert Path(log).parent == cache / "pagebench"
        assert said.split("error: ")[1] in Path(log).read_text()
        assert "-DPB_STRUCT_PAGE=64" in Path(log).read_text().splitlines()[0]
        assert not Path(log).with_suffix(".so").exists()
        assert not [path for path in Path(log).parent.iterdir() if path.is_dir()]

    @pytest.mark.parametrize(
        ("text", "error"),
        [
            ("", "compound_head"),
            (POINTER.split("static inline void")[0], "set_compound_head"),
            ("#define PB_ENCODING pointer\n" + POINTER, "set_compound_head"),
            ("#define PB_ENCODING pionter\n" + POINTER.split("static inline void")[0], "PB_SET_pionter"),
            (POINTER.replace(", unsigned int order", "").replace("(void)order;", ""), "too many arguments"),
            (POINTER.replace("(void)order;", "outside(order);"), "outside"),
            (
                "void outside(int);\n" + POINTER.replace("(void)order;", "outside(order);"),
                "undefined .*outside",
            ),
            (POINTER + "#if 1\n", "unterminated #if"),
            ('#include "none.h"\n' + POINTER, "none.h"),
            ((Path(compiler.__file__).parent / "compiler.py").read_text(), "error"),
        ],
    )
    def test_first_error(self, text: str, error: str, mine: Path) -> None:
        mine.write_text(text)
        with pytest.raises(PagebenchError, match=rf"cannot compile mine\.c: .*{error}.*; all it said: "):
            compiled.user_variant("mine", mine)

    def test_brings_variant_h_itself(self, mine: Path) -> None:
        """As a copy of a built-in one does."""
        mine.write_text(
            '#define PB_ID mask\n#define PB_NAME "mask"\n#define PB_COMMIT ""\n#define PB_SUBJECT ""\n'
            f'#define PB_VERSION ""\n{POINTER}#include "variant.h"\n'
        )
        with pytest.raises(PagebenchError, match=r"leave variant\.h out"):
            compiled.user_variant("mine", mine)
        mine.write_text(mine.read_text().replace('#include "variant.h"\n', ""))
        assert list(core.load_variants(compiled.user_variant("mine", mine))) == ["mine"]

    def test_what_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(
            PagebenchError, match=r"cannot read .*/none\.c for the variant mine: No such file"
        ):
            compiled.user_variant("mine", tmp_path / "none.c")
        with pytest.raises(PagebenchError, match=r"cannot read .* for the variant mine: Is a directory"):
            compiled.user_variant("mine", tmp_path)

    @pytest.mark.parametrize(
        "name", ["", "-x", "2", "a b", "a@hvo", "a:4k", "a,b", "a/b", "é", 'a"', "x" * 25, "a\n"]
    )
    def test_names(self, name: str, mine: Path) -> None:
        with pytest.raises(PagebenchError, match=r"a variant cannot be named"):
            compiled.user_variant(name, mine)

    @pytest.mark.parametrize("odd", [ODD, "line\nbreak", "tab\tand ??, comma"])
    def test_odd_paths(
        self, odd: str, tmp_path: Path, counting_cc: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of the source, its header, the compiler, the cache and the scratch directory."""
        place = tmp_path / odd
        place.mkdir()
        (place / "own.h").write_text("")
        file = place / f"{odd}.c"
        file.write_text('#include "own.h"\n' + POINTER)
        cc = place / "c c"
        shutil.copy(counting_cc[0], cc)
        monkeypatch.setenv("XDG_CACHE_HOME", str(place))
        monkeypatch.setenv("TMPDIR", str(place))
        monkeypatch.chdir(place)
        path = compiled.user_variant("mine", Path(file.name), cc=str(cc))
        assert path.parent == place / "pagebench"
        variant = core.load_variants(path)["mine"]
        assert wrong_lookups(variant, 2) == 0
        assert variant.subject == "user's own, " + "".join(c if c.isprintable() else "?" for c in file.name)
        assert not list(tmp_path.rglob("pwned"))

        file.write_text("#error first\n" + POINTER)
        with pytest.raises(PagebenchError, match=r"first"):
            compiled.user_variant("mine", file, cc=str(cc))

    def test_name_in_no_encoding(self, tmp_path: Path) -> None:
        file = Path(f"{tmp_path}/\udcff.c")
        file.write_text(POINTER)
        loaded = core.load_variants(compiled.user_variant("mine", file))
        assert loaded["mine"].subject == "user's own, \N{REPLACEMENT CHARACTER}.c"

    def test_text_in_no_encoding(self, mine: Path) -> None:
        mine.write_bytes(b"/* \xff\x00 */\r\n" + POINTER.encode() + b"/* ends in */ \\")
        assert wrong_lookups(core.load_variants(compiled.user_variant("mine", mine))["mine"], 2) == 0


class TestCache:
    def test_a_second_call_compiles_nothing(self, mine: Path, counting_cc: tuple[str, Path]) -> None:
        cc, notes = counting_cc
        first = compiled.user_variant("mine", mine, cc=cc)
        assert compilations(notes) == 1
        notes.write_text("")
        assert compiled.user_variant("mine", mine, cc=cc) == first
        assert notes.read_text() == "--version\n"

    def test_what_differs_is_compiled_again(self, mine: Path, counting_cc: tuple[str, Path]) -> None:
        cc, notes = counting_cc
        header = mine.parent / "own.h"
        header.write_text('#include "deeper.h"\n')
        deeper = mine.parent / "deeper.h"
        deeper.write_text("")
        mine.write_text('#include "own.h"\n' + POINTER)
        paths = [compiled.user_variant("mine", mine, cc=cc)]
        paths.append(compiled.user_variant("other", mine, cc=cc))
        paths.append(compiled.user_variant("mine", mine, 72, cc=cc))
        paths.append(compiled.user_variant("mine", mine, cc=f"'{cc}' -O1"))
        deeper.write_text("/* changed */")
        paths.append(compiled.user_variant("mine", mine, cc=cc))
        mine.write_text(mine.read_text() + "\n")
        paths.append(compiled.user_variant("mine", mine, cc=cc))
        Path(cc).write_text(Path(cc).read_text().replace("exec ", 'test "$*" = --version && echo new\nexec '))
        paths.append(compiled.user_variant("mine", mine, cc=cc))
        assert len(set(paths)) == len(paths) == compilations(notes)

    def test_a_failure_is_not_kept(self, mine: Path) -> None:
        header = mine.parent / "own.h"
        mine.write_text(f"#if __has_include({str(header)!r})\n".replace("'", '"') + POINTER + "#endif\n")
        with pytest.raises(PagebenchError):
            compiled.user_variant("mine", mine)
        header.write_text("")
        assert compiled.user_variant("mine", mine).exists()

    def test_home_where_nothing_is_set(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        for value in ("", "relative"):
            monkeypatch.setenv("XDG_CACHE_HOME", value)
            assert cache.directory() == tmp_path / ".cache" / "pagebench"
        monkeypatch.delenv("XDG_CACHE_HOME")
        assert cache.directory() == tmp_path / ".cache" / "pagebench"

    def test_not_writable(self, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(mine))  # a file: nothing can be made in it
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        path = compiled.user_variant("mine", mine)
        assert path.parent.parent == tmp_path
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert compiled.user_variant("mine", mine) == path

        path.parent.chmod(0o777)
        with pytest.raises(PagebenchError, match=r"is not this user's alone"):
            compiled.user_variant("mine", mine)
        path.parent.rename(tmp_path / "elsewhere")
        path.parent.symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere").chmod(0o700)
        with pytest.raises(PagebenchError, match=r"is not this user's alone"):
            compiled.user_variant("mine", mine)
        monkeypatch.setattr(tempfile, "tempdir", str(mine))
        with pytest.raises(PagebenchError, match=r"cannot write to .*set XDG_CACHE_HOME"):
            compiled.user_variant("mine", mine)


class TestCompiler:
    @pytest.fixture
    def no_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        """A PATH of one empty directory."""
        directory = tmp_path / "bin"
        directory.mkdir()
        monkeypatch.setenv("PATH", str(directory))
        yield directory

    def test_none(self, no_path: Path, mine: Path) -> None:
        with pytest.raises(PagebenchError) as caught:
            compiled.built_in(72)
        assert str(caught.value) == (
            "struct pages of 72 bytes have to be compiled (built in: 56, 64, 96) and there is no C compiler "
            "(cc, gcc, clang): install gcc or clang, or name one with --cc"
        )
        with pytest.raises(PagebenchError, match=r"^there is no C compiler .* install gcc or clang"):
            compiled.user_variant("mine", mine)

    def test_the_first_of_three(self, no_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("clang", "gcc", "cc"):
            (no_path / name).write_text("#!/bin/sh\n")
            (no_path / name).chmod(0o755)
            assert compiler.find() == [str(no_path / name)]
        monkeypatch.setenv("CC", "  clang -m64 ")
        assert compiler.find() == [str(no_path / "clang"), "-m64"]
        assert compiler.find("gcc '-DX=a b'") == [str(no_path / "gcc"), "-DX=a b"]

    @pytest.mark.parametrize("asked", ["no-such-cc", "no-such-cc -O2", "it's", " "])
    def test_there_is_none_of_that_name(self, asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(compiler.CompilerError, match=r"there is no compiler .*\(--cc\)"):
            compiler.find(asked)
        if asked.strip():
            monkeypatch.setenv("CC", asked)
            with pytest.raises(PagebenchError, match=r"there is no compiler .*\(\$CC\)"):
                compiled.built_in(72)

    @pytest.mark.parametrize("name", ["true", "false"])
    def test_is_none(self, name: str) -> None:
        with pytest.raises(PagebenchError, match=rf"{name} (made nothing of|cannot compile) the built-in"):
            compiled.built_in(72, name)

    def test_of_another_machine(self) -> None:
        other = next(name for name in ARCHITECTURES if name != platform.machine())
        name = f"{other}-linux-gnu-gcc"
        if not shutil.which(name):
            pytest.skip(f"{name} is not installed")
        with pytest.raises(PagebenchError, match=rf"{name} cannot compile the built-in variants: .*error: "):
            compiled.built_in(72, name)

    def test_flags_it_does_not_know_are_left_out(self, tmp_path: Path) -> None:
        picky = tmp_path / "picky"
        picky.write_text(
            f'#!/bin/sh\ncase "$*" in *-falign-loops*) exit 1;; esac\nexec {compiler.find()[0]} "$@"\n'
        )
        picky.chmod(0o755)
        every, flags = compiler.variant_cflags(compiler.find()), compiler.variant_cflags([str(picky)])
        assert [flag for flag in every if flag != "-falign-loops=1"] == flags
        assert flags[: len(compiler.COMMON)] == list(compiler.COMMON)

    def test_machines_without_probes(self) -> None:
        with pytest.raises(PagebenchError, match=r"not for riscv64"):
            compiler.variant_cflags(compiler.find(), "riscv64")

    @pytest.mark.parametrize(
        ("messages", "first"),
        [
            ("", "no message"),
            ("strange\nthings\n", "strange"),
            ("In file included from a.c:1:\nb.h:2:3: warning: w\nb.h:4:5: error: e\n", "b.h:4:5: error: e"),
            ("a.c:1:1: fatal error: x.h: No such file\n", "a.c:1:1: fatal error: x.h: No such file"),
            (
                "ld: undefined reference to `f'\ncollect2: error: ld returned 1\n",
                "ld: undefined reference to `f'",
            ),
        ],
    )
    def test_first_error(self, messages: str, first: str) -> None:
        assert compiler.first_error(messages) == first

    def test_messages_are_not_translated(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
        assert compiler.run(["/bin/sh", "-c", "echo $LC_ALL"]).stdout == "C\n"

    def test_the_sources_are_found(self) -> None:
        assert (compiler.sources() / "page.h").is_file()
