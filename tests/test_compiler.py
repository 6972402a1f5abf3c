"""The C compiler: which one, with which flags, and what it says."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagebench.architecture import ARCHITECTURES
from pagebench.errors import PagebenchError
from pagebench.variants import compiled, compiler

pytestmark = pytest.mark.usefixtures("own_cache")


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
            "(cc, gcc, clang): install gcc or clang, or name one with $CC"
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
