"""Many processes, one at a time: progress, checkpoint, resume."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO

import msgspec

from pagebench.errors import PagebenchError
from pagebench.measure.job import Failure, Job
from pagebench.plan.groups import Plan
from pagebench.results.lines import Sampling, check_fits
from pagebench.results.result_file import Writer

# What a signal that ends a worker is likely to mean.
WHY_KILLED: Mapping[int, str] = {
    signal.SIGKILL: " (out of memory?)",
    signal.SIGSEGV: " (it wrote to a page that is read-only, as a tail is under HVO, or left the memmap)",
}


@contextmanager
def _worker(job: Job, complaints: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A worker with its job; ended, whatever happens, when the block is left.

    In a session of its own: an interrupt at the terminal is the parent's.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "pagebench.measure.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=complaints,
        start_new_session=True,
    )
    assert process.stdin and process.stdout
    try:
        with suppress(BrokenPipeError):  # it died at once: its exit status tells
            process.stdin.write(msgspec.json.encode(job))
            process.stdin.close()
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _samplings(job: Job) -> Iterator[Sampling]:
    """The samplings of one worker, as it finishes them.

    Raises PagebenchError for what a worker was stopped by.
    """
    with tempfile.TemporaryFile() as complaints, _worker(job, complaints) as process:
        assert process.stdout
        for text in process.stdout:
            if not text.endswith(b"\n"):
                break  # cut short: the exit status tells why
            line = msgspec.json.decode(text, type=Failure | Sampling)
            if isinstance(line, Failure):
                raise PagebenchError(line.message)
            check_fits(line, job.plan)
            yield line
        status = process.wait()
        if status < 0:
            why = WHY_KILLED.get(-status, "")
            raise PagebenchError(
                f"a worker was killed by signal {-status}{why}; what was measured so far is kept"
            )
        if status:
            complaints.seek(0)
            said = complaints.read().decode(errors="replace").splitlines() or ["no message"]
            raise PagebenchError(f"a worker failed: {said[-1]}")


def missing(plan: Plan, done: Collection[tuple[int, int]]) -> dict[int, list[int]]:
    """By process, the groups of a plan that are not among the (process, group) pairs ``done``."""
    every = range(len(plan.groups))
    left = {
        process: [index for index in every if (process, index) not in done]
        for process in range(plan.processes)
    }
    return {process: groups for process, groups in left.items() if groups}


def run(
    plan: Plan,
    writer: Writer,
    movable: Mapping[str, bool],
    wanted: Mapping[int, Sequence[int]],
    finished: Callable[[], None],
) -> None:
    """Sample the groups ``wanted`` of each process, one worker after another.

    ``movable``: "variant probe" to whether its loop may be copied.
    ``finished`` is called behind each sampling.
    """
    for process, groups in wanted.items():
        for sampling in _samplings(Job(plan, process, tuple(groups), movable)):
            writer.append(sampling)
            finished()
