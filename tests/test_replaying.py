"""A bundle run again: its own objects, whatever this build has; and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import TINY
from own_variants import POINTER

from pagebench import cli, core
from pagebench.errors import PagebenchError
from pagebench.measure import bundling, replaying
from pagebench.results import bundle, result_file
from pagebench.variants import cache

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("own_cache", "unpinned")]


MINE = ("--variant", "mine=mine.c", "--contenders", "pointer-select,mask-select,mine")


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mine.c").write_text(POINTER)
    assert cli.main(("run", *TINY, *MINE, "--no-plots", "-o", "r.jsonl")) == 0
    assert cli.main(("bundle", "r.jsonl")) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("bundle: r.tar.zst (")
    return tmp_path / "r.tar.zst"


def altered(path: Path, contents: dict[str, bytes], **changes: Any) -> Path:
    """A bundle with other files in it, and a manifest that says so."""
    manifest, before = bundle.unpack(path)
    merged = {**before, **contents}
    files = {name: bundle.describe("object", content) for name, content in merged.items()}
    fields = {name: getattr(manifest, name) for name in manifest.__struct_fields__}
    made = bundle.Manifest(**{**fields, "files": files, **changes})
    other = path.with_name("altered.tar.zst")
    other.write_bytes(bundle.pack(made, merged))
    return other


def test_the_same_objects_run_again_and_are_compared(
    bundled: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(("replay", str(bundled), "-o", "again.jsonl", "--seed", "7")) == 0
    out = capsys.readouterr().out
    assert out.startswith("here against bundle\n")
    assert "the same in both runs: pointer-select, mask-select, mine" in " ".join(out.split())
    again = result_file.read(Path("again.jsonl"))
    first = result_file.read(Path("r.jsonl"))
    assert again.plan.seed == 7
    assert again.header.command.endswith("replay " + str(bundled) + " --seed 7")
    assert {name: code.probes for name, code in again.header.variants.items()} == {
        name: code.probes for name, code in first.header.variants.items()
    }
    # All of it from the bundle: nothing of this build, and nothing from where the run had it.
    places = {Path(one.path).name.rsplit("-", 1)[0] for one in again.plan.objects}
    assert places == {"bundle-core", "bundle"}
    assert {one.name for one in again.plan.objects} == set(again.plan.variant_names)


def test_without_a_compiler_and_without_what_was_compiled(
    bundled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another-cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert cli.main(("replay", str(bundled), "-o", "again.jsonl")) == 0
    assert cli.main(("run", "--resume", "again.jsonl", "--no-plots")) == 0
    assert "mine" in capsys.readouterr().out


def test_another_machine_is_set_beside_and_not_compared(
    bundled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = Path("r.jsonl").read_bytes().splitlines(keepends=True)
    header = json.loads(lines[0])
    header["machine"]["model"] = "999"
    other = altered(bundled, {bundle.RESULT: json.dumps(header).encode() + b"\n" + b"".join(lines[1:])})
    assert cli.main(("replay", str(other), "-o", "again.jsonl")) == 0
    assert capsys.readouterr().out.startswith("2 CPU models, ")


def test_other_code_than_was_timed_is_not_run(bundled: Path) -> None:
    core_object = bytearray(core.built_in_object().read_bytes())
    code = core.built_in_variants()["mask-select"].probes["chain"].code
    at = core_object.index(code)
    core_object[at + len(code) - 1] ^= 1
    why = r"holds other machine code than its result was measured with|cannot be run here"
    with pytest.raises(PagebenchError, match=why):
        replaying.open_bundle(altered(bundled, {bundle.CORE: bytes(core_object)}))


def test_what_is_no_object_is_a_line(bundled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest, _ = bundle.unpack(bundled)
    for name in (bundle.CORE, manifest.objects["mine"]):
        other = altered(bundled, {name: b"\x7fELF and no more"})
        assert cli.main(("replay", str(other), "-o", "again.jsonl")) == 2
        err = capsys.readouterr().err
        assert err.startswith("pagebench: ") and err.count("\n") == 1
        assert not Path("again.jsonl").exists()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"architecture": "riscv64"}, "holds code for riscv64, this machine is .*: `join` sets its result"),
        ({"objects": {}}, "its objects are not those of its result"),
    ],
)
def test_bundles_of_elsewhere(changes: dict[str, Any], why: str, bundled: Path) -> None:
    with pytest.raises(PagebenchError, match=why):
        replaying.open_bundle(altered(bundled, {}, **changes))


def test_a_damaged_result_is_of_the_bundle(bundled: Path) -> None:
    with pytest.raises(
        PagebenchError, match=r"altered\.tar\.zst: its result file is not a pagebench result file"
    ):
        replaying.open_bundle(altered(bundled, {bundle.RESULT: b"other\n"}))


def test_what_a_bundle_leaves_in_the_cache_is_by_its_content(bundled: Path) -> None:
    first, again = (replaying.open_bundle(bundled) for _ in range(2))
    assert first.plan == again.plan
    place = Path(first.plan.objects[0].path)
    place.unlink()  # what is loaded stays what it was
    place.write_bytes(b"somebody wrote here")
    replaying.open_bundle(bundled)
    assert place.read_bytes() != b"somebody wrote here"
    assert place.parent == cache.directory()


def test_a_bundle_of_a_replay(bundled: Path) -> None:
    assert cli.main(("replay", str(bundled), "-o", "again.jsonl")) == 0
    manifest, contents = bundle.unpack(bundled)
    Path("again.tar.zst").write_bytes(bundling.collect(Path("again.jsonl")))
    again, contents_again = bundle.unpack(Path("again.tar.zst"))
    assert set(again.objects) == set(manifest.objects) == {"mine"}
    assert contents_again[again.objects["mine"]] == contents[manifest.objects["mine"]]
    assert contents_again[bundle.CORE] == contents[bundle.CORE]
