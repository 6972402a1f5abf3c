"""Many machines as text and Markdown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import summaries
from planted_runs import header_with, model_of
from test_joining import CONTENDERS, MACHINES, PLAN, run_of
from test_text import check_golden, misfits

from pagebench import cli
from pagebench.report import join
from pagebench.results import joining
from pagebench.results.joining import Joined
from pagebench.units import KIB


@pytest.fixture
def joined(tmp_path: Path) -> Joined:
    runs = [run_of(tmp_path, "zen", 0.5), run_of(tmp_path, "xeon", -0.25), run_of(tmp_path, "arm", 1.0)]
    return joining.join(runs)


def test_the_report_is_the_golden_one(joined: Joined) -> None:
    report = join.render(joined)
    assert misfits(report) == []
    check_golden("join", report, "tests/test_join.py")


def test_every_line_fits_whatever_is_joined(tmp_path: Path) -> None:
    long = {"cpu_model": "A CPU of a name that no column has room for (R) (TM) @ 3.10GHz"}
    contenders = ("pointer-branch", "linux-7.2@hvo-shared:memfd", "linux-6.12+key")
    plan = summaries.plan_of(
        [
            summaries.group_of(contenders, order, size, "mixed:0.25", control=(order, size) == (2, 16 * KIB))
            for order in (2, 9, 22)
            for size in (16 * KIB, 1000 * KIB)
        ]
    )
    runs = []
    for name, machine in (("one", {}), ("two", long)):
        path = tmp_path / f"{name}-of-a-very-long-name-that-goes-on-and-on.jsonl"
        header = header_with(plan, machine)

        def model(group, cell, process, rounds):  # type: ignore[no-untyped-def]
            return 1e3 * summaries.made_up(group, cell, process, rounds)

        from planted_runs import run_of as planted

        runs.append(planted(path, plan, model, header))
    report = join.render(joining.join(runs))
    assert misfits(report) == []
    assert "22" in report


def test_markdown_has_a_row_a_cell_and_a_column_a_machine(joined: Joined) -> None:
    lines = join.to_markdown(joined).splitlines()
    rows = [line for line in lines if line.startswith("| chain")]
    assert len(rows) == len(joined.effects)
    assert {line.count("|") for line in lines if line.startswith("|")} == {3 + 4}
    assert "signs differ at" in join.to_markdown(joined)


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, machine in MACHINES.items():
        summaries.file_of(Path(f"{name}.jsonl"), PLAN, model_of(), header_with(PLAN, machine))
    files = [f"{name}.jsonl" for name in MACHINES]
    assert cli.main(("join", *files)) == 0
    assert capsys.readouterr().out.startswith("3 CPU models, 2 effects\n")
    assert cli.main(("join", "mine=zen.jsonl", *files[1:], "--format", "json")) == 0
    decoded = json.loads(capsys.readouterr().out)
    assert decoded["machines"][0]["runs"] == ["mine"]
    assert {effect["after"] for effect in decoded["effects"]} == {f"{CONTENDERS[1]}@plain"}
    assert cli.main(("join", "zen.jsonl")) == 2
    assert "name two result files or more" in capsys.readouterr().err
