"""What goes into a bundle."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import summaries
from command_line import PLAN, TINY
from own_variants import POINTER

from pagebench import cli, core
from pagebench.errors import PagebenchError
from pagebench.measure import bundling
from pagebench.results import bundle

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("own_cache", "unpinned")]


def unpacked(path: Path) -> tuple[bundle.Manifest, dict[str, bytes]]:
    (path.parent / "b.tar.zst").write_bytes(bundling.collect(path))
    return bundle.unpack(path.parent / "b.tar.zst")


MINE = ("--variant", "mine=mine.c", "--contenders", "pointer-select,mask-select,mine")


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mine.h").write_text("#define ODD 1UL\n")
    Path("mine.c").write_text('#include "mine.h"\n' + POINTER)
    assert cli.main(("run", *TINY, *MINE, "--no-plots", "-o", "r.jsonl")) == 0
    capsys.readouterr()
    return tmp_path / "r.jsonl"


def test_a_run_of_built_in_variants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(("run", *TINY, "--no-plots", "-o", "r.jsonl")) == 0
    manifest, contents = unpacked(tmp_path / "r.jsonl")
    assert contents[bundle.RESULT] == Path("r.jsonl").read_bytes()
    assert contents[bundle.CORE] == core.built_in_object().read_bytes()
    assert contents["source/csrc/variant.h"] and contents["source/csrc/variants/branchless.c"]
    assert (manifest.objects, manifest.left_out) == ({}, ())
    assert manifest.architecture == platform.machine()
    assert manifest.versions["python"] == platform.python_version()


def test_a_users_own_variant_with_its_source(measured: Path) -> None:
    manifest, contents = unpacked(measured)
    assert list(manifest.objects) == ["mine"]
    assert contents[manifest.objects["mine"]].startswith(b"\x7fELF")
    assert POINTER.encode() in contents["source/mine/mine.c"]
    assert contents["source/mine/mine.h"] == b"#define ODD 1UL\n"
    assert {packed.what for packed in manifest.files.values()} == {"result", "object", "source"}


def test_sources_that_were_not_kept_are_said(measured: Path) -> None:
    import shutil

    from pagebench.results import result_file
    from pagebench.variants import cache

    (one,) = result_file.read(measured).plan.objects
    shutil.rmtree(cache.sources_of(Path(one.path)))
    manifest, _ = unpacked(measured)
    assert manifest.left_out == ("the sources of mine: they were not kept when it was compiled",)


def test_code_that_is_not_here_any_more(tmp_path: Path) -> None:
    path = summaries.file_of(tmp_path / "r.jsonl", PLAN, summaries.made_up)
    with pytest.raises(PagebenchError, match="measured with other machine code"):
        bundling.collect(path)


def test_nothing_measured_yet(tmp_path: Path) -> None:
    path = summaries.file_of(tmp_path / "r.jsonl", PLAN, summaries.made_up, samplings=0)
    with pytest.raises(PagebenchError, match="holds no finished group yet"):
        bundling.collect(path)
