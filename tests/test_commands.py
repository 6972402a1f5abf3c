"""What commands do with their options, and where their output goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import TINY, run

from pagebench import cli, commands

pytestmark = pytest.mark.usefixtures("unpinned")


def test_the_command_that_reproduces_a_run_is_one_that_runs_it(result_files: Path) -> None:
    """What the header tells to type has to parse to the same options."""
    words = ["run", "--quick", *TINY, "--margin", "0.125", "--struct-page", "96"]
    args = cli.parser().parse_args(words)
    asked = {name: getattr(args, name) for name in commands.ASKED if getattr(args, name) is not None}
    again = cli.parser().parse_args(["run", *commands.words_of(asked)])
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
