"""The report of a self-test, and the command."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import summaries
from summaries import Floats
from test_promises import PROCESSES, plan_of, run_of, scattered

from pagebench import cli
from pagebench.plan.groups import Cell, Group
from pagebench.report import selftest
from pagebench.results import promises, result_file, summarise


@pytest.fixture
def tested(tmp_path: Path) -> Callable[..., selftest.Tested]:
    def make(model: Any = scattered) -> selftest.Tested:
        run = run_of(tmp_path / "r.jsonl", model)
        return selftest.Tested(summarise.summarise(run), promises.selftest(run, PROCESSES))

    return make


def test_the_report_says_what_the_json_says(tested: Callable[..., selftest.Tested]) -> None:
    made = tested()
    text = selftest.render(made)
    assert max(map(len, text.splitlines())) <= 75
    assert "every promise is kept" in " ".join(text.split())
    decoded = json.loads(selftest.to_json(made))
    assert msgspec.convert(decoded, selftest.Tested) == made
    for promise in made.selftest.promises:
        (line,) = [line for line in text.splitlines() if line.startswith(f"kept   {promise.what} ")]
        counted, read = f"{promise.count} of {promise.of}", f"{promise.estimate_cycles or 0:.3f}"
        assert line.endswith(counted if promise.of else read)
    assert len(decoded["selftest"]["resolves"]) == len(decoded["selftest"]["scatter"]) == 5


def test_a_broken_promise_is_said_and_is_exit_code_4(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def off(group: Group, cell: Cell, process: int, rounds: int) -> Floats:
        return scattered(group, cell, process, rounds, null=0.3)

    path = summaries.file_of(tmp_path / "r.jsonl", plan_of(), off)
    assert cli.main(("selftest", "--of", str(path))) == 4
    out, err = capsys.readouterr()
    assert re.search(r"1 OF\s10\sPROMISES\sARE\sBROKEN", out)
    assert "BROKEN nulls between encodings called a difference" in out
    assert err == "pagebench: 1 promises are broken: nulls between encodings called a difference\n"


@pytest.mark.slow
def test_a_self_test_is_performed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.jsonl"
    code = cli.main(("selftest", "--runs", "2", "-o", str(path), "--seed", "1"))
    out = capsys.readouterr().out
    assert code in (0, 4)
    assert "2 runs of 6 processes" in out and out.endswith(f"raw data: {path}\n")
    run = result_file.read(path)
    assert run.header.command == "python -m pagebench selftest --runs 2 --processes 6 --seed 1"
    roles = {cell.role for group in run.plan.groups for cell in group.cells}
    assert {"aa", "null", "control", "control-eighth", "control-reference"} <= roles
