"""Formats of reports: a row each; and no report needs the compiled core."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
import summaries
import test_promises

from pagebench import cli, report, results
from pagebench.report import formats

PLAN = summaries.plan_of([summaries.group_of(["pointer-branch", "mask-select"], control=True)], rounds=3)
COMMANDS = {
    "run": ("show", "good.jsonl"),
    "compare": ("compare", "good.jsonl", "good.jsonl"),
    "export": ("export", "good.jsonl"),
    "join": ("join", "good.jsonl", "good.jsonl"),
    "align": ("align", "--max-order", "0", "--struct-page", "64", "--base-page", "4K"),
    "info": ("info",),
    "selftest": ("selftest", "--of", "selftest.jsonl"),
    "capture": ("capture", "--summary"),
    "cache": ("cache", "--orders", "0", "--footprints", "16K", "--patterns", "random", "--geometry", "zen5"),
}


@pytest.fixture
def good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    summaries.file_of(Path("good.jsonl"), PLAN, summaries.made_up)
    summaries.file_of(Path("selftest.jsonl"), test_promises.plan_of(runs=2), test_promises.scattered)


def test_every_subject_is_a_command_and_has_text_and_json() -> None:
    assert formats.FORMATS.keys() == COMMANDS.keys()
    # What is exported is for other programs as it is.
    assert all({"text", "json"} <= rows.keys() for name, rows in formats.FORMATS.items() if name != "export")
    assert formats.FIGURES.keys() <= formats.FORMATS.keys()


@pytest.mark.parametrize("subject", COMMANDS)
@pytest.mark.usefixtures("good")
def test_a_format_is_one_row(
    subject: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plots = ("--no-plots",) if subject in ("align", "cache") else ()
    assert cli.main((*COMMANDS[subject], "--format", "types", *plots)) == 2
    assert "invalid choice: 'types'" in capsys.readouterr().err
    rows = {**formats.FORMATS[subject], "types": lambda content: f"a {type(content).__name__}"}
    monkeypatch.setitem(formats.FORMATS, subject, rows)  # type: ignore[arg-type]
    assert cli.main((*COMMANDS[subject], "--format", "types", *plots)) == 0
    said = capsys.readouterr().out
    assert said.startswith("a ") and said.count("\n") == 1
    with pytest.raises(SystemExit):
        cli.main((COMMANDS[subject][0], "--help"))
    assert "types" in capsys.readouterr().out


@pytest.mark.parametrize("subject", [name for name, rows in formats.FORMATS.items() if "json" in rows])
@pytest.mark.usefixtures("good")
def test_json_is_json(subject: str, capsys: pytest.CaptureFixture[str]) -> None:
    plots = ("--no-plots",) if subject in ("align", "cache") else ()
    assert cli.main((*COMMANDS[subject], "--format", "json", *plots)) == 0
    assert isinstance(json.loads(capsys.readouterr().out), dict)


def test_figures_are_written_by_their_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(content: object, directory: Path, stem: str) -> list[Path]:
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(formats.FIGURES, "align", full)  # type: ignore[arg-type]
    assert cli.main((*COMMANDS["align"], "-o", str(tmp_path))) == 2
    said = f"cannot write plots to {tmp_path}: No space left on device; name another with -o, or --no-plots"
    assert said in capsys.readouterr().err


WITHOUT_CORE = """
import importlib, sys
for name in ("_core", "core", "variants.registry", "variants.compiled", "measure", "prove"):
    sys.modules[f"pagebench.{name}"] = None  # ImportError, whoever asks for it
importlib.import_module(sys.argv[1])
"""


@pytest.mark.parametrize(
    "name",
    [
        module.name
        for room in (report, results)
        for module in pkgutil.iter_modules(room.__path__, f"{room.__name__}.")
    ],
)
@pytest.mark.slow
def test_reading_judging_and_reporting_need_no_compiled_core(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CORE, name], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
