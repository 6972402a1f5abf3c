"""Compiled objects: when they are compiled again, and where they are kept."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from own_variants import POINTER

from pagebench.errors import PagebenchError
from pagebench.variants import cache, compiled

pytestmark = pytest.mark.usefixtures("own_cache")


def compilations(notes: Path) -> int:
    return sum("-shared" in call for call in notes.read_text().splitlines())


class TestCache:
    def test_a_second_call_compiles_nothing(self, mine: Path, counting_cc: tuple[str, Path]) -> None:
        cc, notes = counting_cc
        first = compiled.user_variant("mine", mine, cc=cc)
        assert compilations(notes) == 1
        notes.write_text("")
        assert compiled.user_variant("mine", mine, cc=cc) == first
        assert notes.read_text() == "--version\n"

    @pytest.mark.slow
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
