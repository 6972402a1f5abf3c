"""Many processes: what they finish is kept, what stops them is said in a sentence."""

from __future__ import annotations

import json
import os
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import summaries

from pagebench.errors import PagebenchError
from pagebench.measure import runner
from pagebench.plan.groups import Plan
from pagebench.results import result_file
from pagebench.results.lines import Header
from pagebench.results.result_file import Run, Writer

GROUPS = [summaries.group_of(["pointer", "mask"], order=order) for order in (2, 9)]
PLAN = summaries.plan_of(GROUPS, processes=3, rounds=2)
EVERY = {(process, index) for process in range(3) for index in range(2)}


def nothing() -> None:
    pass


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts a script in Python's place; its ``samplings`` are the lines that a real worker would write."""

    def install(body: str) -> Path:
        lines = [
            [summaries.sampling_of(PLAN, process, index, lambda g, c, p, r: [5.0] * r) for index in range(2)]
            for process in range(3)
        ]
        (tmp_path / "lines.json").write_text(json.dumps(lines))
        script = tmp_path / "worker"
        script.write_text(
            f"#!{sys.executable}\n"
            "import json, os, sys, time\n"
            "job = json.load(sys.stdin)\n"
            f"open({str(tmp_path / 'jobs')!r}, 'a').write(json.dumps(job) + '\\n')\n"
            f"lines = json.load(open({str(tmp_path / 'lines.json')!r}))[job['process']]\n"
            "samplings = [json.dumps(lines[index]) for index in job['groups']]\n" + body
        )
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))
        return tmp_path / "jobs"

    return install


def start(
    path: Path, done: set[tuple[int, int]] | None = None, finished: Any = nothing, plan: Plan = PLAN
) -> None:
    if path.exists():
        writer = Writer.resume(result_file.read(path))
    else:
        writer = Writer.create(path, msgspec.convert(summaries.header_of(plan), Header))
    try:
        runner.run(plan, writer, {"pointer chain": True}, runner.missing(plan, done or set()), finished)
    finally:
        writer.close()


def read(path: Path) -> Run:
    run = result_file.read(path)
    assert all(count == 1 for count in Counter(samples.key for samples in run.samples).values())
    return run


ALL = "print('\\n'.join(samplings), flush=True)\n"


def test_one_worker_for_each_process_and_all_its_groups(
    worker: Callable[[str], Path], tmp_path: Path
) -> None:
    jobs = worker(ALL)
    kept: list[int] = []
    path = tmp_path / "r.jsonl"
    start(path, finished=lambda: kept.append(len(read(path).done)))
    assert read(path).done == EVERY
    assert kept == [1, 2, 3, 4, 5, 6]  # on disk before it counts
    given = [json.loads(line) for line in jobs.read_text().splitlines()]
    assert [(job["process"], job["groups"]) for job in given] == [(p, [0, 1]) for p in range(3)]
    assert all(msgspec.convert(job["plan"], Plan) == PLAN for job in given)
    assert all(job["movable"] == {"pointer chain": True} for job in given)


def test_what_is_done_is_not_done_again(worker: Callable[[str], Path], tmp_path: Path) -> None:
    jobs = worker(ALL)
    done = {(0, 0), (0, 1), (1, 1)}
    start(tmp_path / "r.jsonl", done)
    assert read(tmp_path / "r.jsonl").done == EVERY - done
    given = [json.loads(line) for line in jobs.read_text().splitlines()]
    assert [(job["process"], job["groups"]) for job in given] == [(1, [0]), (2, [0, 1])]


@pytest.mark.parametrize(
    "body, why",
    [
        (
            "print(json.dumps({'kind': 'error', 'message': 'no memory: choose less'}))\nsys.exit(2)\n",
            "no memory: choose less",
        ),
        (
            "os.kill(os.getpid(), 9)\n",
            r"a worker was killed by signal 9 \(out of memory\?\); what was measured so far is kept",
        ),
        (
            "os.kill(os.getpid(), 11)\n",
            r"a worker was killed by signal 11 \(it wrote to a page that is read-only",
        ),
        (
            "sys.stdout.write(samplings[0][:50]); sys.stdout.flush(); os.kill(os.getpid(), 9)\n",
            r"a worker was killed by signal 9 \(out of memory\?\)",
        ),
        ("raise SystemExit('all went\\nwrong')\n", "a worker failed: wrong"),
        ("1 / 0\n", "a worker failed: ZeroDivisionError"),
        ("os._exit(3)\n", "a worker failed: no message"),
    ],
)
def test_what_stops_a_worker_is_said_and_what_was_finished_is_kept(
    worker: Callable[[str], Path], tmp_path: Path, body: str, why: str
) -> None:
    stopped = textwrap.indent(body, "    ")
    first, second = (f"print(samplings[{i}], flush=True)\n" for i in range(2))
    worker(f"{first}if job['process'] == 1:\n{stopped}{second}")
    with pytest.raises(PagebenchError, match=why) as raised:
        start(tmp_path / "r.jsonl")
    assert "\n" not in str(raised.value)
    assert read(tmp_path / "r.jsonl").done == {(0, 0), (0, 1), (1, 0)}


def test_a_worker_that_dies_before_it_has_read_its_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "worker"
    script.write_text("#!/bin/sh\necho no Python here >&2\nexit 127\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    with pytest.raises(PagebenchError, match="a worker failed: no Python here"):
        start(tmp_path / "r.jsonl")


def test_an_interrupt_ends_the_worker(worker: Callable[[str], Path], tmp_path: Path) -> None:
    worker(
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "print(samplings[0], flush=True)\n"
        "time.sleep(600)\n"
    )

    def interrupt() -> None:
        raise KeyboardInterrupt

    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "r.jsonl", finished=interrupt)
    assert time.monotonic() - before < 300
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert read(tmp_path / "r.jsonl").done == {(0, 0)}


@pytest.mark.parametrize("samplings, cut", [(1, 0), (2, 100), (3, 1)])
@pytest.mark.slow
def test_a_run_that_was_killed_and_resumed_has_the_same_samplings(
    tiny: Callable[..., Plan],
    movable: Callable[[Plan], dict[str, bool]],
    tmp_path: Path,
    samplings: int,
    cut: int,
) -> None:
    """Real workers: stopped after some samplings, the file cut somewhere in the last."""
    made = tiny(processes=2)
    path = tmp_path / "r.jsonl"

    finished: list[None] = []

    def stop() -> None:
        finished.append(None)
        if len(finished) == samplings:
            raise KeyboardInterrupt

    writer = Writer.create(path, msgspec.convert(summaries.header_of(made), Header))
    with pytest.raises(KeyboardInterrupt):
        runner.run(made, writer, movable(made), runner.missing(made, set()), stop)
    writer.close()
    os.truncate(path, path.stat().st_size - cut)
    first = result_file.read(path)
    assert len(first.samples) == samplings - (cut > 0)
    writer = Writer.resume(first)
    runner.run(made, writer, movable(made), runner.missing(made, first.done), nothing)
    writer.close()
    again = read(path)
    assert again.done == {(process, index) for process in range(2) for index in range(len(made.groups))}
    kept = path.read_bytes()[: first.whole_bytes]
    assert [s.sampling for s in again.samples[: len(first.samples)]] == [s.sampling for s in first.samples]
    assert kept.endswith(b"\n")
