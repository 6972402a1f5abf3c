"""A run from beginning to end: look at the machine, plan, sample, keep."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pagebench import core, tool
from pagebench.errors import PagebenchError
from pagebench.host import machine
from pagebench.measure import calibration, runner
from pagebench.measure.contenders import Outside
from pagebench.measure.preparation import Prepared, check_cpu, prepare, reported_levels
from pagebench.measure.progress import progress_bar
from pagebench.measure.timed_code import movable_loops, predicted, timed_code
from pagebench.plan.places import memory_bytes
from pagebench.results import resolving, result_file, summarise
from pagebench.results.lines import Clock, Compiler, Header, Recalibration, Tool
from pagebench.units import GIB, format_size
from pagebench.variants import registry

DIRECTORY = Path("pagebench-results")
INTERRUPTED = 130
# So much memory is announced.
WORTH_SAYING = GIB


def start(
    asked: Mapping[str, Any],
    outside: Outside,
    output: Path | None,
    words: Sequence[str],
    static: bool = False,
) -> Path:
    """Perform a run into a new result file and return its path.

    ``asked``: fields of Options that the user set; ``words``: how they were typed, command first;
    ``static``: whether loops are predicted.  Raises PagebenchError for what cannot be measured or written.
    """
    return begin(prepare(asked, outside), output, words, static)


def begin(prepared: Prepared, output: Path | None, words: Sequence[str], static: bool = False) -> Path:
    """Perform what was prepared: see start()."""
    draft, described = prepared.plan, prepared.machine
    clock = core.Clock(10_000_000)
    stand_ins = [Path(one.path) for one in draft.objects if one.built_in]
    built = stand_ins[0] if stand_ins else registry.object_of(draft.struct_page_bytes)
    words = [*words, "--seed", str(draft.seed)]
    header = Header(
        tool=Tool(**tool.identity()),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=shlex.join(["python", "-m", "pagebench", *words]),
        plan=draft,
        machine=described,
        warnings=tuple(machine.warnings(described)),
        compiler=Compiler(core.compiler(built), core.variant_cflags(built)),
        calibration=prepared.calibration,
        clock=Clock(clock.kind, clock.granularity_ns, clock.cost_ns),
        variants=timed_code(draft),
        prediction=predicted(draft) if static else None,
    )
    path = output or DIRECTORY / f"{datetime.now():%Y%m%d-%H%M%S}.jsonl"
    writer = result_file.Writer.create(path, header)
    try:
        _sample(header, writer, set())
    except PagebenchError as error:
        if error.exit_code != INTERRUPTED and not result_file.read(path).samples:
            path.unlink()  # nothing was measured
        raise
    return path


def resume(path: Path) -> Path:
    """Go on with a run that was interrupted.

    Raises PagebenchError where this is not the machine code that was timed.
    """
    run = result_file.read(path)
    if timed_code(run.plan) != run.header.variants:
        raise PagebenchError(f"{path} was measured with other machine code (rebuilt since?): start a new run")
    check_cpu(run.plan.cpu)
    described = machine.describe(run.plan.cpu)
    for what in ("cpu_model", "kernel_release", "hypervisor"):
        if getattr(described, what) != getattr(run.header.machine, what):
            raise PagebenchError(f"{path} was measured on another machine ({what} differs): start a new run")
    _sample(run.header, result_file.Writer.resume(run), run.done)
    return path


def _sample(header: Header, writer: result_file.Writer, done: set[tuple[int, int]]) -> None:
    needed = memory_bytes(header.plan)
    if needed >= WORTH_SAYING:
        print(f"pagebench: this run takes {format_size(needed)} of memory", file=sys.stderr)
    try:
        with progress_bar() as progress:
            sampled = _run(header, writer, done, progress)
        if sampled and header.calibration is not None:
            _recalibrate(header, writer)
    except KeyboardInterrupt:
        raise PagebenchError(
            f"interrupted: what was measured is kept, see `pagebench show {writer.path}`; "
            f"go on with `pagebench run --resume {writer.path}`",
            exit_code=INTERRUPTED,
        ) from None
    finally:
        writer.close()


def _recalibrate(header: Header, writer: result_file.Writer) -> None:
    """Measure the L3 again; where that fails, all else is measured, and it is said."""
    try:
        again = calibration.measure_l3(header.plan.cpu, reported_levels(header.machine))
    except OSError as error:
        print(f"pagebench: the L3 was not measured again ({error.strerror})", file=sys.stderr)
    else:
        writer.append(Recalibration(again))


def _run(
    header: Header,
    writer: result_file.Writer,
    done: Collection[tuple[int, int]],
    progress: Callable[[int, int], None],
) -> bool:
    """Sample what is not ``done``, and with a target go on until it is resolved or time is up.

    Returns whether there was anything to sample.
    """
    plan, movable = header.plan, movable_loops(header.variants)
    finished = len(done)

    def sample(wanted: Mapping[int, Sequence[int]]) -> None:
        total = finished + sum(map(len, wanted.values()))

        def count() -> None:
            nonlocal finished
            finished += 1
            progress(finished, total)

        progress(finished, total)
        runner.run(plan, writer, movable, wanted, count)

    started = time.monotonic()
    sample(runner.missing(plan, done))
    if plan.target is not None:
        _resolve(writer.path, started + plan.target.at_most_s, sample)
    return finished > len(done)


def _resolve(path: Path, deadline: float, sample: Callable[[Mapping[int, Sequence[int]]], None]) -> None:
    """Process after process of the groups that want more, until all is resolved or time is up.

    Widths of intervals scatter, and to stop at the first look that they please would be to choose them: it is
    resolved what two looks in a row, some processes apart, find so.
    """
    took, before = 0.0, False
    while True:
        run = result_file.read(path)
        found = summarise.summarise(run).resolution
        assert found
        groups, more = resolving.groups_of(run, found.unresolved), 0
        if groups:
            more, before = resolving.until_next_look(found.unresolved), False
        elif not found.unresolved and not before:
            groups, before = list(range(len(run.plan.groups))), True
            more = max(2, run.plan.processes // 3)
        if not more:
            return
        first = 1 + max(process for process, _ in run.done)
        for process in range(first, first + more):
            started = time.monotonic()
            if started + took > deadline:
                return
            sample({process: groups})
            took = time.monotonic() - started
