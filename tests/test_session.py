"""A run from beginning to end: what it leaves, what an interrupt leaves, and how it goes on."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
import summaries
from command_line import PLAN, TINY, contents, run

from pagebench import __version__, cli
from pagebench.errors import PagebenchError
from pagebench.measure import runner, session
from pagebench.plan.groups import Cell, Group, Plan, Target
from pagebench.results import result_file, summarise
from pagebench.results.lines import Header, Sampling

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


class FakeRunner:
    """Finishes samplings at once, of a scatter that more processes average away; notes what it was given."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now = 0.0
        self.given: list[tuple[int, list[int]]] = []

    def run(
        self,
        plan: Plan,
        writer: result_file.Writer,
        movable: object,
        wanted: Mapping[int, Sequence[int]],
        finished: Callable[[], None],
    ) -> None:
        for process, indices in wanted.items():
            self.given.append((process, list(indices)))
            for index in indices:
                line = summaries.sampling_of(plan, process, index, scattered)
                writer.append(msgspec.convert(line, Sampling))
                finished()
            self.now += self.seconds


def scattered(group: Group, cell: Cell, process: int, rounds: int) -> npt.NDArray[np.float64]:
    rng = np.random.default_rng([process, group.order, group.cells.index(cell)])
    scatter = 0.1 if group.probe == "lookup" else 0.001
    return np.full(rounds, 5.0 + rng.normal(0, scatter))


@pytest.fixture
def resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[FakeRunner, Path]]:
    """Runs with a target whose workers take no time but ``seconds`` of a planted clock."""

    def started(target: str, at_most: str, seconds: float) -> tuple[FakeRunner, Path]:
        fake, path = FakeRunner(seconds), tmp_path / "r.jsonl"
        monkeypatch.setattr(runner, "run", fake.run)
        monkeypatch.setattr(session.time, "monotonic", lambda: fake.now)
        groups = [summaries.group_of(("pointer", "mask"), probe=probe) for probe in ("chain", "lookup")]
        plan = summaries.plan_of(groups, processes=6)
        plan = dataclasses.replace(plan, target=Target.parse(target, at_most))
        header = msgspec.convert(summaries.header_of(plan, calibration=None), Header)
        session._sample(header, result_file.Writer.create(path, header), set())
        return fake, path

    return started


def test_a_target_is_gone_on_for_until_it_is_resolved(
    resolved: Callable[..., tuple[FakeRunner, Path]],
) -> None:
    fake, path = resolved("0.05ns", "1h", 1.0)
    first, more, confirming = fake.given[:6], fake.given[6:-2], fake.given[-2:]
    assert first == [(process, [0, 1]) for process in range(6)]
    assert more and all(groups == [1] for _, groups in more)  # chains resolve it from the beginning
    assert all(groups == [0, 1] for _, groups in confirming)  # and all does at a second look
    assert [process for process, _ in fake.given] == list(range(len(fake.given)))
    found = summarise.summarise(result_file.read(path)).resolution
    assert found and not found.unresolved and found.comparisons == 2


def test_a_target_is_given_up_when_time_is_up(resolved: Callable[..., tuple[FakeRunner, Path]]) -> None:
    fake, path = resolved("0.0005ns", "30s", 1.0)
    assert fake.now == 30
    found = summarise.summarise(result_file.read(path)).resolution
    assert found and len(found.unresolved) == 2
    assert found.seconds_needed > 60


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
