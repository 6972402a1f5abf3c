"""What commands do with their options, and where their output goes."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import planted_counts
import pytest
import summaries
from command_line import TINY, run

from pagebench import cli
from pagebench.cache import asking
from pagebench.commands import asked as asked_
from pagebench.commands import measuring
from pagebench.errors import PagebenchError
from pagebench.results import result_file

pytestmark = pytest.mark.usefixtures("unpinned")


def test_the_command_that_reproduces_a_run_is_one_that_runs_it(result_files: Path) -> None:
    """What the header tells to type has to parse to the same options."""
    words = ["run", "--quick", *TINY, "--margin", "0.125", "--struct-page", "96"]
    args = cli.parser().parse_args(words)
    asked = {name: getattr(args, name) for name in asked_.ASKED if getattr(args, name) is not None}
    again = cli.parser().parse_args(["run", *asked_.words_of(asked)])
    assert vars(again) == vars(args)


def test_plots_are_saved_beside_the_file_or_where_asked(
    result_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(("plot", "good.jsonl", "-o", "directory/plots")) == 0
    said = capsys.readouterr().out.split()
    assert said and all(Path(path).stat().st_size for path in said)
    assert {Path(path).suffix for path in said} == {".png", ".svg"}
    assert {Path(path).parent for path in said} == {Path("directory/plots")}


def test_show_as_text_and_as_json(result_files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(("show", "good.jsonl")) == 0
    assert "mask-select" in capsys.readouterr().out
    assert cli.main(("show", "good.jsonl", "--format", "json", "--margin", "0.5")) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["margin_cycles"] == 0.5
    assert [cell["contender"] for cell in found["cells"]] == ["pointer-branch@plain", "mask-select@plain"]


def test_a_file_cut_in_its_last_line_is_shown(result_files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("cut.jsonl").write_bytes(Path("good.jsonl").read_bytes()[:-50])
    assert cli.main(("show", "cut.jsonl", "--format", "json")) == 0
    finished = json.loads(capsys.readouterr().out)["finished"]
    assert finished["samplings"] == finished["planned"] - 1


def test_list_names_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(("list",)) == 0
    listed = capsys.readouterr().out
    for name in ("branchless", "hvo-shared", "mixed", "chain"):
        assert f"  {name}" in listed


QUICK: list[tuple[str, ...]] = [("run", "--help"), ("show", "good.jsonl")]
REST: list[tuple[str, ...]] = [("--help",), ("--version",), ("list",), ("asm", "mask")]
CLOSED = [*QUICK, *(pytest.param(args, marks=pytest.mark.slow) for args in REST)]


@pytest.mark.parametrize("args", CLOSED)
def test_a_reader_that_went_away_is_no_error(args: tuple[str, ...], result_files: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = run(*args, stdout=write)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, "")


def test_head_of_a_long_report(result_files: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m pagebench show good.jsonl --format json | head -1",
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("{\n", "")


@pytest.mark.parametrize("args", CLOSED)
def test_a_full_disk_under_standard_output_is_said(args: tuple[str, ...], result_files: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = run(*args, stdout=full)
    assert done.returncode == 2
    assert done.stderr == "pagebench: cannot write to standard output: No space left on device\n"


# ---- cache

CELLS = (
    *("--contenders", "pointer-select,pointer-branch", "--orders", "0,2", "--footprints", "16K"),
    *("--patterns", "random", "--probes", "chain", "--geometry", "zen2"),
)


@pytest.mark.usefixtures("own_cache")
class TestCache:
    def test_as_text(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(("cache", *CELLS, "--no-plots")) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        assert printed.out.startswith("cache behaviour, simulated: zen2 (AMD 56305")
        assert "\nchain, random\n" in printed.out
        assert "forms: select: pointer-select; branch: pointer-branch\n" in printed.out
        assert all(len(line) <= 75 for line in printed.out.splitlines())

    def test_csv_and_json_are_of_the_same_cells(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(("cache", *CELLS, "--no-plots", "--format", "csv")) == 0
        table = list(csv.DictReader(capsys.readouterr().out.splitlines()))
        assert cli.main(("cache", *CELLS, "--no-plots", "--format", "json")) == 0
        decoded = json.loads(capsys.readouterr().out)
        cells = decoded["simulated"]["cells"]
        assert len(table) == len(cells) == 4
        for row, cell in zip(table, cells, strict=True):
            assert float(row["accesses"]) == cell["counts"]["accesses"] == 1.0
            assert float(row["mispredictions_bimodal"]) == cell["counts"]["mispredictions"]["bimodal"]

    def test_a_geometry_of_the_json_is_one(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """What --geometry's refusals point to."""
        assert cli.main(("cache", *CELLS, "--no-plots", "--format", "json")) == 0
        found = json.loads(capsys.readouterr().out)["simulated"]["geometry"]
        file = tmp_path / "mine.json"
        file.write_text(json.dumps(found | {"name": "mine", "policy": "random"}))
        assert cli.main(("cache", *CELLS[:-1], str(file), "--no-plots")) == 0
        printed = capsys.readouterr().out
        assert printed.startswith("cache behaviour, simulated: mine (AMD 56305")
        assert "(size/ways), random;" in printed

    def test_options_of_the_caches(self, capsys: pytest.CaptureFixture[str]) -> None:
        words = ("--policy", "plru", "--prefetch", "stride", "--inclusive", "--huge-pages", "split")
        assert cli.main(("cache", *CELLS, *words, "--no-plots")) == 0
        said = " ".join(capsys.readouterr().out.split())
        for word in ("(size/ways), plru;", "inclusive;", "prefetch stride;", "2M pages split by the host"):
            assert word in said

    def test_the_seed_is_said_and_decides(self, capsys: pytest.CaptureFixture[str]) -> None:
        printed = []
        for seed in ("1", "1", "2"):
            assert cli.main(("cache", *CELLS, "--seed", seed, "--no-plots", "--format", "csv")) == 0
            printed.append(capsys.readouterr().out)
        assert printed[0] == printed[1] != printed[2]

    @pytest.mark.slow
    def test_pictures_are_left_where_asked(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        words = ("cache", *CELLS, "--footprints", "16K,256K,1M", "-o", str(tmp_path / "plots"))
        assert cli.main(words) == 0
        assert str(tmp_path / "plots") in capsys.readouterr().out
        assert {path.suffix for path in (tmp_path / "plots").iterdir()} == {".png", ".svg"}

    def test_a_variant_of_the_users_own(self, mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
        words = ("--variant", f"mine={mine}", "--contenders", "mine,pointer-select", *CELLS[2:], "--no-plots")
        assert cli.main(("cache", *words)) == 0
        assert "mine" in capsys.readouterr().out

    def test_with_a_file(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        plan = planted_counts.world(orders=(0, 2), footprints=(16 << 10,))
        path = summaries.file_of(tmp_path / "r.jsonl", plan, planted_counts.timed(planted_counts.PLANTED))
        simulated = planted_counts.simulated_of(plan, planted_counts.counts)
        summaries.append(path, simulated)
        assert cli.main(("cache", "--with", str(path), "--no-plots")) == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert "cache behaviour, simulated: planted (nowhere)" in printed
        assert "! measured on another machine (AMD EPYC 7B13 64-Core Processor)" in printed
        assert "a hit of L1 4.0 pointer-select@plain chain order 0 16K" in printed
        assert "no model: pointer-branch at order 0 16K: runs ahead" in printed
        assert cli.main(("cache", "--with", str(path), "--no-plots", "--format", "json")) == 0
        decoded = json.loads(capsys.readouterr().out)
        assert decoded["explanation"]["parameters"]["load"]["cycles"] == pytest.approx(4, abs=0.01)
        assert decoded["simulated"]["geometry"]["name"] == "planted"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--geometry", "zen55"), "unknown CPU 'zen55': did you mean 'zen5'?"),
        (("--geometry", "directory"), "directory is no file: name a CPU"),
        (("--geometry", "foreign.jsonl"), "foreign.jsonl is no geometry ("),
        (
            ("--geometry", "zen5", "--policy", "plru"),
            "tree-PLRU wants a power of two of ways, and zen5 has 12",
        ),
        (("--geometry", "zen5", "--orders", "99"), "99"),
        (("--geometry", "zen5", "--contenders", "mask-selekt"), "did you mean 'mask-select'?"),
        (("--with", "missing.jsonl"), "cannot read missing.jsonl"),
        (("--with", "foreign.jsonl"), "foreign.jsonl is not a pagebench result file"),
        (("--with", "corrupt.jsonl"), "corrupt.jsonl: line 4 is damaged"),
        (("--with", "header-only.jsonl"), "header-only.jsonl holds no finished group yet"),
        (("--with", "good.jsonl"), "good.jsonl was measured with other machine code"),
        (
            ("--with", "good.jsonl", "--orders", "2"),
            "--with takes its cells from good.jsonl: leave out --orders",
        ),
        (("--with", "good.jsonl", "--seed", "2"), "leave out --seed"),
    ],
)
def test_what_cache_refuses_is_a_line(
    words: tuple[str, ...], said: str, result_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(("cache", *words, "--no-plots")) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("pagebench: ") and printed.err.count("\n") == 1
    assert said in printed.err


def test_cache_to_a_process(result_files: Path) -> None:
    done = run("cache", *CELLS, "--no-plots")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("cache behaviour, simulated: zen2")
    done = run("cache", "--with", "missing.jsonl")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "pagebench: cannot read missing.jsonl: No such file or directory\n"


@pytest.mark.slow
def test_a_run_without_a_pmu_simulates_what_it_measured(tmp_path: Path) -> None:
    done = run("run", *TINY, "-o", "r.jsonl", "--no-plots", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "r.jsonl"
    measured = result_file.read(path)
    if any(samples.sampling.counts[0] for samples in measured.samples):
        assert measured.simulated is None
        return
    assert measured.simulated is not None
    assert len(measured.simulated.cells) == 2
    assert "misses per lookup, simulated: " in done.stdout
    # Beside it nothing has to be simulated again; and to resume what is finished changes nothing.
    before = path.read_bytes()
    beside = run("cache", "--with", "r.jsonl", "--no-plots", cwd=tmp_path)
    assert (beside.returncode, beside.stderr) == (0, "")
    resumed = run("run", "--resume", "r.jsonl", "--no-plots", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("error", "said"),
    [(PagebenchError("no caches here"), "no caches here"), (KeyboardInterrupt(), "interrupted")],
)
def test_what_cannot_be_simulated_is_said_and_the_run_is_kept(
    error: BaseException,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(path: Path) -> None:
        raise error

    monkeypatch.setattr(asking, "into_file", refuse)
    assert measuring._simulated(tmp_path / "r.jsonl") is None
    assert capsys.readouterr().err == f"pagebench: caches were not simulated: {said}\n"
