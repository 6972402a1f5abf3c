"""One process of a run: really measured, small."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import summaries
from hypothesis import given
from hypothesis import strategies as st

from pagebench import core
from pagebench.errors import PagebenchError
from pagebench.measure import sampling, worker
from pagebench.measure.job import Job
from pagebench.plan import groups
from pagebench.plan.groups import Plan
from pagebench.results import result_file
from pagebench.units import KIB

pytestmark = pytest.mark.usefixtures("unpinned")
Build = Callable[..., Plan]
Movable = Callable[[Plan], dict[str, bool]]


def job(
    the_plan: Plan, movable: Mapping[str, bool], process: int = 0, groups: list[int] | None = None
) -> Job:
    wanted = range(len(the_plan.groups)) if groups is None else groups
    return Job(the_plan, process, tuple(wanted), movable)


@contextmanager
def worker_of(the_plan: Plan, movable: Mapping[str, bool], process: int = 0) -> Iterator[worker.Worker]:
    with ExitStack() as stack:
        yield worker.Worker(the_plan, process, movable, stack)


def test_a_line_for_each_group_that_a_result_file_takes(
    tiny: Build, movable: Movable, tmp_path: Path
) -> None:
    made = tiny(footprints=("16K", "64K"), contenders=("pointer-select", "mask-select", "fakehead"))
    told = msgspec.json.decode(msgspec.json.encode(job(made, movable(made), process=1)), type=Job)
    lines = [msgspec.to_builtins(sampling) for sampling in worker.run_job(told)]
    assert sorted(line["group"] for line in lines) == list(range(len(made.groups)))
    path = summaries.write(tmp_path / "r.jsonl", [summaries.header_of(made), *lines])
    for samples, line in zip(result_file.read(path).samples, lines, strict=True):
        group = made.groups[samples.sampling.group]
        assert samples.sampling.process == 1
        assert samples.ns.shape == (len(group.cells), made.rounds)
        assert (samples.ns > 0).all() and (samples.ghz > 0).all()
        assert set(line["touched_bytes"]) == {"plain"}
        assert 0 < line["touched_bytes"]["plain"] <= group.footprint_bytes
        assert set(line["backing"]) == {"2m"}
        assert sum(line["backing"]["2m"].values()) > 0
        assert list(line["copies"]) == [worker.COPIES] * len(group.cells)
        assert 0 < line["timed_ns"] < line["sampling_ns"]
        # Shared frames: as many segments as encodings and one of the harness, an add chain around each.
        encodings = [(cell.tail_words, cell.role == "identity") for cell in group.cells]
        assert np.shape(line["add_chain_ticks"]) == (2, len(set(encodings)), made.rounds)
        same = [[a == b for a in line["segment"]] for b in line["segment"]]
        assert same == [[a == b for a in encodings] for b in encodings]


def test_only_the_groups_asked_for_are_sampled(tiny: Build, movable: Movable) -> None:
    made = tiny()
    assert [sampling.group for sampling in worker.run_job(job(made, movable(made), groups=[1]))] == [1]


@pytest.mark.slow
def test_layouts_and_struct_page_sizes(tiny: Build, movable: Movable) -> None:
    made = tiny(
        contenders=("fakehead", "branchless", "fakehead@hvo", "branchless@hvo-shared", "pointer@plain:4k"),
        orders=(9,),
        footprints=("64K",),
        probes=("lookup", "gup"),
    )
    compared = [index for index, group in enumerate(made.groups) if group.purpose == "compare"]
    for sampled in worker.run_job(job(made, movable(made), groups=compared)):
        assert set(sampled.backing) == {"2m", "4k", "memfd"}
        touched = sampled.touched_bytes
        assert touched["hvo-shared"] < touched["plain"]
    made = tiny(struct_page_bytes=56)
    assert len(list(worker.run_job(job(made, movable(made))))) == len(made.groups)


def test_frames_of_their_own_beyond_the_cache(tiny: Build, movable: Movable) -> None:
    small = groups.Levels(4 * KIB, 8 * KIB, 16 * KIB)
    made = tiny(levels=small, footprints=("256K",), probes=("chain",), rounds=9)
    assert not made.groups[0].shared
    (sampled, *_) = worker.run_job(job(made, movable(made), groups=[0]))
    assert np.shape(sampled.ticks) == (len(made.groups[0].cells), 9)
    assert set(sampled.segment) == {0}


@pytest.mark.slow
def test_draws_depend_on_seed_process_and_use_alone(tiny: Build, movable: Movable) -> None:
    made, other = tiny(), tiny(seed=6)

    def drawn(the_plan: Plan, process: int) -> tuple[list[int], list[int], list[int]]:
        with worker_of(the_plan, movable(the_plan), process) as w:
            group = the_plan.groups[0]
            runs = np.concatenate([w.copies[loop] for loop in sorted(w.copies)]).astype(np.int64)
            windows = w.windows(group, w.memmaps(group).folio_map)
            return (
                (runs - runs.min()).tolist(),
                windows.pfns.tolist(),
                w.rng("group", 0).integers(99, size=9).tolist(),
            )

    first = drawn(made, 0)
    assert first == drawn(made, 0)
    for another in (drawn(made, 1), drawn(other, 0)):
        assert all(a != b for a, b in zip(first, another, strict=True))


def test_every_copy_is_its_loop_and_starts_anywhere_in_a_line(tiny: Build, movable: Movable) -> None:
    made = tiny()
    with worker_of(made, movable(made)) as w:
        starts = []
        for (name, probe, _), runs in w.copies.items():
            loop = w.variants[name].probes[probe]
            before = loop.run - loop.start
            for run in runs:
                start = int(run) - before
                starts.append(start)
                code = core.view(start, len(loop.code)).tobytes()
                assert code == loop.code
        assert len(set(starts)) == len(starts) == worker.COPIES * len(w.copies)
        assert len({start % worker.LINE_BYTES for start in starts}) > 32
        # The A/A pair's second copy is a copy of its own.
        reference = made.groups[0].cells[0].contender.variant
        assert not set(w.copies[reference, "chain", True]) & set(w.copies[reference, "chain", False])


@pytest.mark.slow
def test_a_loop_that_may_not_be_copied_stays_where_it_is(tiny: Build, movable: Movable) -> None:
    made = tiny(probes=("chain",))
    fixed = movable(made) | {"mask-select chain": False}
    with worker_of(made, fixed) as w:
        assert w.copies["mask-select", "chain", False].tolist() == [
            w.variants["mask-select"].probes["chain"].run
        ]
        assert len(w.copies["pointer-select", "chain", False]) == worker.COPIES
    (sampled,) = worker.run_job(job(made, fixed))
    by_variant = {c.contender.variant: n for c, n in zip(made.groups[0].cells, sampled.copies, strict=True)}
    assert by_variant["mask-select"] == 1 and by_variant["pointer-select"] == worker.COPIES
    with worker_of(made, dict.fromkeys(fixed, False)) as w:
        assert {len(runs) for runs in w.copies.values()} == {1}


def test_groups_over_one_memmap_share_it(tiny: Build, movable: Movable) -> None:
    made = tiny(patterns=("random", "heads"))
    with worker_of(made, movable(made)) as w:
        first, *others = made.groups
        frames = w.memmaps(first)
        windows = w.windows(first, frames.folio_map)
        for group in others:
            if worker.memmap_key(group) == worker.memmap_key(first):
                assert w.memmaps(group) is frames
                again = w.windows(group, frames.folio_map)
                assert (again is windows) == (group.pattern == first.pattern)
                windows, first = again, group


@given(st.integers(0, 2**32), st.data())
def test_groups_are_drawn_in_any_order_but_memmap_by_memmap(seed: int, data: st.DataObject) -> None:
    groups = [
        summaries.group_of(["pointer"], order=order, footprint=size, probe=probe, pattern=pattern)
        for order in (0, 2)
        for size in (16 * KIB, 64 * KIB)
        for probe in ("chain", "lookup")
        for pattern in ("random", "heads")
    ]
    wanted = data.draw(st.lists(st.sampled_from(range(len(groups))), unique=True, min_size=1))
    order = worker.group_order(groups, wanted, np.random.default_rng(seed))
    assert sorted(order) == sorted(wanted)
    for of in (worker.memmap_key, lambda group: (worker.memmap_key(group), group.pattern)):
        seen = [of(groups[index]) for index in order]
        changes = 1 + sum(a != b for a, b in itertools.pairwise(seen))
        assert changes == len(set(seen))


def test_the_order_of_groups_is_not_always_the_same() -> None:
    groups = [summaries.group_of(["pointer"], order=order) for order in range(6)]
    orders = {tuple(worker.group_order(groups, range(6), np.random.default_rng(seed))) for seed in range(20)}
    assert len(orders) > 10


def start(job_: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pagebench.measure.worker"],
        input=msgspec.json.encode(job_).decode(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_worker_is_a_process_that_reads_a_job_and_writes_lines(tiny: Build, movable: Movable) -> None:
    made = tiny(probes=("chain",))
    done = start(job(made, movable(made)))
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = map(json.loads, done.stdout.splitlines())
    assert (line["kind"], line["process"], line["group"]) == ("sampling", 0, 0)


def test_what_a_user_can_mend_is_an_error_line(tiny: Build, movable: Movable) -> None:
    beyond = 1 + max(os.sched_getaffinity(0))
    made = tiny(cpu=4000 + beyond)
    done = start(job(made, movable(made)))
    assert (done.returncode, done.stderr) == (2, "")
    line = json.loads(done.stdout)
    assert line["kind"] == "error"
    assert f"CPU {made.cpu}" in line["message"] and "\n" not in line["message"]


def test_wrong_results_while_timed_are_an_error(
    tiny: Build, movable: Movable, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tiny(probes=("chain",))

    def run_samples(clock: core.Clock, samples: Any, real: Any = core.run_samples) -> None:
        real(clock, samples)
        if len(samples) and samples["run"][0] == core.ADD_CHAIN:  # a schedule
            samples["last"][1] += 64

    monkeypatch.setattr(sampling.core, "run_samples", run_samples)
    with pytest.raises(
        PagebenchError, match=r"returned a wrong head while it was timed \(chain, order 2, 16K"
    ):
        list(worker.run_job(job(made, movable(made))))
