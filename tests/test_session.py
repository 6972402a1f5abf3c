"""A run from beginning to end: what it leaves, what an interrupt leaves, and how it goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import summaries
from command_line import PLAN, TINY, contents, run

from pagebench import __version__, cli
from pagebench.errors import PagebenchError
from pagebench.measure import runner
from pagebench.results import result_file

pytestmark = pytest.mark.usefixtures("unpinned")


def test_wrong_code_found_by_a_worker_leaves_no_file(
    result_files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was measured, so that the same command can be given again."""

    def fail(*_: object) -> None:
        raise PagebenchError("mask@plain finds wrong heads")

    monkeypatch.setattr(runner, "run", fail)
    before = contents(result_files)
    assert cli.main(("run", "-o", "new.jsonl", *TINY)) == 2
    assert capsys.readouterr().err == "pagebench: mask@plain finds wrong heads\n"
    assert contents(result_files) == before


def test_a_run_leaves_a_report_raw_data_and_nothing_on_standard_error(tmp_path: Path) -> None:
    summaries.file_of(tmp_path / "good.jsonl", PLAN, summaries.made_up)
    done = run("run", "-o", "deep/r.jsonl", "--no-plots", "--seed", "7", *TINY, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"pagebench {__version__} (")
    assert done.stdout.endswith("raw data: deep/r.jsonl\n")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.glob("deep/*")] == ["deep/r.jsonl"]
    header = json.loads((tmp_path / "deep/r.jsonl").read_bytes().splitlines()[0])
    assert header["command"] == f"python -m pagebench run {' '.join(TINY)} --seed 7"
    # What tests plant elsewhere is what a run writes.
    planted_header, planted_sampling = (
        json.loads(line) for line in (tmp_path / "good.jsonl").read_bytes().splitlines()[:2]
    )
    sampling = json.loads((tmp_path / "deep/r.jsonl").read_bytes().splitlines()[1])
    assert set(header) == set(planted_header) and set(sampling) == set(planted_sampling)
    for key in ("tool", "compiler", "clock", "machine", "plan"):
        assert set(header[key]) == set(planted_header[key]), key
    known, planted = header["variants"]["mask-select"], planted_header["variants"]["mask-select"]
    assert set(known) == set(planted) and set(known["probes"]["chain"]) == set(planted["probes"]["chain"])
    again = run("show", "deep/r.jsonl", cwd=tmp_path)
    assert done.stdout.startswith(again.stdout)


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen in half a minute")


@pytest.mark.slow
def test_an_interrupt_keeps_what_was_measured_and_resume_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    args = ("run", "-o", str(path), "--no-plots", *TINY[:-2], "--processes", "12", "--seed", "3")
    with subprocess.Popen(
        [sys.executable, "-m", "pagebench", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(lambda: path.exists() and path.read_bytes().count(b"\n") >= 3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.startswith("pagebench: interrupted: what was measured is kept") and err.count("\n") == 1
    assert f"--resume {path}" in err
    first = result_file.read(path)
    assert 2 <= len(first.samples) < 12

    shown = run("show", str(path))
    assert (shown.returncode, shown.stderr) == (0, "")
    assert f"{len(first.samples)} of 12 samplings (groups in processes) are finished" in " ".join(
        shown.stdout.split()
    )

    with path.open("ab") as file:  # as if it had been killed in the middle of a line
        file.write(b'{"kind":"sampling","process":')
    resumed = run("run", "--resume", str(path), "--no-plots")
    assert (resumed.returncode, resumed.stderr) == (0, "")
    run_ = result_file.read(path)
    assert run_.done == {(process, 0) for process in range(12)} and len(run_.samples) == 12
    assert [samples.sampling for samples in run_.samples[: len(first.samples)]] == [
        samples.sampling for samples in first.samples
    ]
    assert "are finished" not in resumed.stdout

    once_more = run("run", "--resume", str(path), "--no-plots")
    assert once_more.stdout == resumed.stdout and len(result_file.read(path).samples) == 12


@pytest.mark.slow
def test_an_interrupt_before_anything_is_finished(
    result_files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run", interrupt)
    assert cli.main(("run", "-o", "new.jsonl", *TINY)) == 130
    assert "interrupted" in capsys.readouterr().err
    assert result_file.read(Path("new.jsonl")).samples == ()  # and --resume goes on from there
    monkeypatch.undo()
    monkeypatch.chdir(result_files)
    assert cli.main(("run", "--resume", "new.jsonl", "--no-plots")) == 0
    assert len(result_file.read(Path("new.jsonl")).samples) == 2
