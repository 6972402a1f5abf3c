"""Variants compiled at run time: what they find, how they fail."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from own_variants import POINTER, machine_code, wrong_lookups

from pagebench import core
from pagebench.errors import PagebenchError
from pagebench.variants import compiled, compiler, registry

ODD = """it's; a "dir", $(touch pwned) `x` & \\ %s 100% ünd so"""

needs_clang = pytest.mark.skipif(not shutil.which("clang"), reason="clang is not installed")
needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is not installed")


pytestmark = [pytest.mark.usefixtures("own_cache"), pytest.mark.slow]


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
        assert set(stated.values()) == ({"pointer", "mask", "null"} if size == 128 else {"pointer"})
        numbers = registry.tail_words(variants, 2)
        assert len(set(zip(stated.values(), numbers.values(), strict=True))) == len(set(stated.values()))

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
        assert len(set(numbers.values())) == 3  # and the null's
        assert len({(variant.encoding, numbers[name]) for name, variant in every.items()}) == 3


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
        left = [path for path in Path(log).parent.iterdir() if path.is_dir() and path.suffix != ".sources"]
        assert not left

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
