"""Comparisons as they are printed, and a gate's exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import planted_runs
import pytest
import summaries
from command_line import run
from planted_runs import header_with, model_of, plan_with, recoded
from test_text import check_golden, misfits

from pagebench import cli
from pagebench.report import compare, compare_export
from pagebench.results import changing, gate, summary
from pagebench.results.change import Comparison
from pagebench.units import KIB, MIB

PLAN = plan_with(orders=(0, 2), probes=("chain",))
NARROW = header_with(PLAN, {"kernel_release": "6.19.0", "stepping": "2"})


def comparison(
    tmp_path: Path, threshold: str | None = None, header: Any = None, plan: Any = PLAN, **after: Any
) -> Comparison:
    runs = [
        planted_runs.run_of(tmp_path / "old.jsonl", plan, model_of(1)),
        planted_runs.run_of(tmp_path / "new.jsonl", plan, model_of(2, **after), header),
    ]
    return changing.compare(runs, False, None if threshold is None else gate.Threshold.parse(threshold))


def slower(tmp_path: Path) -> Comparison:
    header = recoded(NARROW, "branchless", variant_instructions=9, variant_bytes=31)
    return comparison(tmp_path, "5%", header, slower={"branchless": 0.5})


CASES = {
    "compare-same": lambda path: comparison(path, "0.2ns"),
    "compare-slower": slower,
    "compare-noisy": lambda path: comparison(path, "0.005ns"),
}


@pytest.mark.parametrize("name", CASES)
def test_the_report_is_the_golden_one(name: str, tmp_path: Path) -> None:
    report = compare.render(CASES[name](tmp_path))
    assert misfits(report) == []
    check_golden(name, report, "tests/test_compare.py")


def wide(tmp_path: Path) -> Comparison:
    """Names, sizes and times that do not fit a column."""
    contenders = ("pointer-branch", "linux-6.12+key", "linux-7.2@hvo-shared:memfd")
    groups = [
        summaries.group_of(contenders, 22, size, "mixed:0.25", "lookup", control=size == 16 * KIB)
        for size in (16 * KIB, 1000 * KIB, 999 * MIB)
    ]
    runs = [
        planted_runs.run_of(
            tmp_path / f"{name}.jsonl",
            summaries.plan_of(groups),
            lambda group, cell, process, rounds: 1e4 * summaries.made_up(group, cell, process, rounds),
        )
        for name in ("a-result-file-of-a-very-long-name", "new", "newer")
    ]
    return changing.compare(runs, False, gate.Threshold(1.0, "ns"))


def test_every_line_fits_whatever_is_compared(tmp_path: Path) -> None:
    report = compare.render(wide(tmp_path))
    assert misfits(report) == []
    assert report.count("against a-result-file-of-a-very-long-name") == 2
    assert "are the same run" in report


def test_nothing_reads_the_same(tmp_path: Path) -> None:
    report = compare.render(comparison(tmp_path))
    assert report.splitlines()[2].startswith("Nothing is resolved: 4 cells judged, equivalent in 4")
    assert "no difference" not in report


def test_an_alarm_says_that_it_is_not_the_code(tmp_path: Path) -> None:
    report = compare.render(comparison(tmp_path, "5%", slower={"branchless": 0.5}))
    assert "Gate FAILED" in report
    assert "the same machine code in both: the machine differs" in " ".join(report.split())


def test_json_is_the_typed_comparison(tmp_path: Path) -> None:
    found = slower(tmp_path)
    decoded = json.loads(summary.to_json(found))
    (run,) = decoded["runs"]
    assert run["gate"]["failed"] == 2
    assert {cell["outcome"] for cell in run["cells"]} == {None, "passed", "failed"}
    assert [row["what"] for row in run["differs"]] == ["stepping", "kernel"]


def test_csv_has_every_cell(tmp_path: Path) -> None:
    found = slower(tmp_path)
    rows = list(csv.DictReader(io.StringIO(compare_export.to_csv(found))))
    assert len(rows) == len(found.runs[0].cells) == 6
    for row, cell in zip(rows, found.runs[0].cells, strict=True):
        assert float(row["difference_ns"]) == cell.ns.estimate
        assert row["verdict"] == (cell.verdict or "")
        assert row["outcome"] == (cell.outcome or "")


def test_markdown_says_first_what_matters(tmp_path: Path) -> None:
    text = compare_export.to_markdown(slower(tmp_path))
    shown, _, folded = text.partition("<details>")
    assert "**Gate FAILED: slower by more than 5 %" in shown
    assert shown.count("| branchless (") == 2
    assert "mask-select" not in shown
    assert "mask-select" in folded
    assert text.count("<details>") == text.count("</details>") == 3
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables} == {7}


@pytest.mark.parametrize("pattern", ["a|b", "<img src=x>"])
def test_markdown_escapes_what_a_file_says(pattern: str, tmp_path: Path) -> None:
    plan = summaries.plan_of([summaries.group_of(planted_runs.CONTENDERS, 2, pattern=pattern, control=True)])
    text = compare_export.to_markdown(comparison(tmp_path, plan=plan))
    assert pattern not in text
    assert {line.count("|") - line.count(r"\|") for line in text.splitlines() if line.startswith("|")} == {6}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    summaries.file_of(Path("old.jsonl"), PLAN, model_of(1))
    summaries.file_of(Path("new.jsonl"), PLAN, model_of(2))
    header = recoded(header_with(PLAN), "branchless")
    summaries.file_of(Path("slow.jsonl"), PLAN, model_of(3, slower={"branchless": 0.5}), header)
    return tmp_path


@pytest.mark.parametrize(
    ("names", "threshold", "code", "said"),
    [
        (("old.jsonl", "new.jsonl"), "0.2ns", 0, ""),
        (("old.jsonl", "slow.jsonl"), "5%", 1, "a slow-down is resolved, --fail-above 5%"),
        (("slow.jsonl", "old.jsonl"), "5%", 0, ""),
        (("old.jsonl", "new.jsonl"), "0.1%", 3, "not every cell is judged, --fail-above 0.1%"),
        (("old.jsonl", "new.jsonl", "slow.jsonl"), "5%", 1, "a slow-down is resolved"),
    ],
)
def test_exit_codes(
    names: tuple[str, ...],
    threshold: str,
    code: int,
    said: str,
    files: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(("compare", *names, "--fail-above", threshold)) == code
    out, err = capsys.readouterr()
    assert f"exit code {code}" in " ".join(out.split())
    assert said in err and err.count("\n") == (code != 0)


@pytest.mark.parametrize("format_", ["text", "json", "csv", "markdown"])
def test_runs_are_named_as_they_were(format_: str, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(("compare", "v1=old.jsonl", "v2=new.jsonl", "--format", format_)) == 0
    assert "v2" in capsys.readouterr().out


def test_files_of_one_name_are_told_apart(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("again").mkdir()
    Path("again/old.jsonl").write_bytes(Path("new.jsonl").read_bytes())
    assert cli.main(("compare", "old.jsonl", "again/old.jsonl")) == 0
    assert capsys.readouterr().out.startswith("again/old.jsonl against old.jsonl\n")


def test_whoever_stops_reading_still_gets_the_exit_code(files: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = run("compare", "old.jsonl", "slow.jsonl", "--fail-above", "5%", stdout=write, cwd=files)
    finally:
        os.close(write)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def test_names_that_do_not_fit_a_label_are_whole_beside_it(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("20261130-200112", "20261130-205512"):
        Path(f"{name}.jsonl").write_bytes(Path("old.jsonl").read_bytes())
    Path("20261130-205512.jsonl").write_bytes(Path("new.jsonl").read_bytes())
    assert cli.main(("compare", "20261130-200112.jsonl", "20261130-205512.jsonl")) == 0
    out = capsys.readouterr().out
    assert "\nbefore     20261130-200112: " in out and "\nafter      20261130-205512: " in out
    long = "a-name-that-goes-on-" * 5
    assert cli.main(("compare", f"{long}=old.jsonl", "new.jsonl")) == 0
    assert misfits(capsys.readouterr().out) == []


def test_a_report_does_not_take_the_place_of_its_result_file(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("old.html").write_bytes(Path("old.jsonl").read_bytes())
    before = Path("old.html").read_bytes()
    assert cli.main(("report", "old.html")) == 2
    assert cli.main(("report", "old.html", "-o", "./old.html")) == 2
    assert "is the result file itself" in capsys.readouterr().err
    assert Path("old.html").read_bytes() == before


def test_ascii_streams_are_no_error(files: Path) -> None:
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "pagebench", "compare", "old.jsonl", "new.jsonl", "--format", "markdown"],
        cwd=files,
        env=env,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
