"""A self-test keeps its word, finds what breaks it, and says where scatter comes from."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import summaries
from summaries import GHZ, Floats

from pagebench.errors import PagebenchError
from pagebench.plan.groups import Cell, Contender, Group, Plan
from pagebench.results import promises, result_file
from pagebench.units import KIB

RUNS, PROCESSES, ROUNDS = 20, 6, 9
SCATTER = 0.002
PLANTED = {"control": 1.0 / GHZ, "control-eighth": 0.125 / GHZ}


def scattered(group: Group, cell: Cell, process: int, rounds: int, **more: float) -> Floats:
    """5 ns, what is planted, and a scatter of each cell's own; ``more``: ns added by role."""
    number = group.cells.index(cell)
    rng = np.random.default_rng([process, number, len(group.probe), group.footprint_bytes])
    own = rng.normal(0, SCATTER, rounds) + rng.normal(0, SCATTER)
    return 5.0 + PLANTED.get(cell.role, 0.0) + more.get(cell.role, 0.0) + own


def plan_of(runs: int = RUNS) -> Plan:
    def group(probe: str, footprint: int, pattern: str) -> Group:
        made = summaries.group_of(("mask-select", "pointer-select"), probe=probe, footprint=footprint)
        harness = [Cell(Contender("encoding-null"), "null", 2)]
        if probe == "chain":
            harness += [
                Cell(Contender("control-reference"), "control-reference", 1),
                Cell(Contender("control"), "control", 1),
            ]
        if pattern == "scan":
            harness.append(Cell(Contender("control-eighth"), "control-eighth", 1))
        return dataclasses.replace(made, pattern=pattern, cells=(*made.cells, *harness))

    groups = [
        group("chain", 16 * KIB, "random"),
        group("chain", 256 * KIB, "random"),
        group("chain", 16 * KIB, "scan"),
        group("lookup", 16 * KIB, "random"),
        group("lookup", 24 * KIB, "random"),
    ]
    return summaries.plan_of(groups, processes=runs * PROCESSES, rounds=ROUNDS)


def run_of(path: Path, model: Any = scattered, plan: Plan | None = None) -> result_file.Run:
    return result_file.read(summaries.file_of(path, plan or plan_of(), model))


def test_promises_are_kept_where_nothing_is_wrong(tmp_path: Path) -> None:
    found = promises.selftest(run_of(tmp_path / "r.jsonl"), PROCESSES)
    assert found.kept and found.runs == RUNS
    by_name = {promise.what: promise for promise in found.promises}
    assert by_name["A/A pairs called a difference"].of == 5 * RUNS
    assert by_name["nulls between encodings called a difference"].of == 5 * RUNS
    assert by_name["one dependent add is found"].count == by_name["one dependent add is found"].of == 3 * RUNS
    assert by_name["an add in one page of eight is found"].of == RUNS
    estimate = by_name["an add in one page of eight, 16K scan"].estimate_cycles
    assert estimate == pytest.approx(0.125, abs=0.01)


def test_false_alarms_are_those_of_runs_of_so_many_processes(tmp_path: Path) -> None:
    """Three runs of four see one null that is off: so many are counted, and no other promise breaks."""

    def off(group: Group, cell: Cell, process: int, rounds: int) -> Floats:
        seen = group.footprint_bytes == 256 * KIB and process // PROCESSES % 4 > 0
        return scattered(group, cell, process, rounds, null=0.1 * seen)

    found = promises.selftest(run_of(tmp_path / "r.jsonl", off), PROCESSES)
    (broken,) = [promise for promise in found.promises if not promise.kept]
    assert broken.what == "nulls between encodings called a difference"
    assert RUNS * 3 / 4 <= broken.count <= RUNS * 3 / 4 + 5


def test_an_aa_pair_that_is_off_breaks_two_promises(tmp_path: Path) -> None:
    def off(group: Group, cell: Cell, process: int, rounds: int) -> Floats:
        drawn = np.random.default_rng([process // PROCESSES, len(group.probe), group.footprint_bytes])
        return scattered(group, cell, process, rounds, aa=drawn.choice([-0.1, 0.0, 0.1]))

    found = promises.selftest(run_of(tmp_path / "r.jsonl", off), PROCESSES)
    broken = {promise.what for promise in found.promises if not promise.kept}
    assert "intervals of A/A pairs hold 0" in broken


@pytest.mark.parametrize(
    ("role", "off_cycles", "broken"),
    [
        ("control", 0.1, {"one dependent add, 16K random", "one dependent add, 16K scan"}),
        ("control-eighth", -0.2, {"an add in one page of eight is found"}),
    ],
)
def test_what_is_planted_and_read_otherwise_breaks_a_promise(
    tmp_path: Path, role: str, off_cycles: float, broken: set[str]
) -> None:
    def off(group: Group, cell: Cell, process: int, rounds: int) -> Floats:
        return scattered(group, cell, process, rounds, **{role: off_cycles / GHZ})

    found = promises.selftest(run_of(tmp_path / "r.jsonl", off), PROCESSES)
    assert broken <= {promise.what for promise in found.promises if not promise.kept}


@pytest.mark.parametrize(
    ("missed", "of", "share"), [(0, 20, 0.05), (3, 20, 0.05), (12, 200, 0.05), (1, 1, 0.2)]
)
def test_chance_is_the_binomial_tail(missed: int, of: int, share: float) -> None:
    expected = scipy.stats.binom.sf(missed - 1, of, share)
    assert promises._chance(missed, of, share) == pytest.approx(expected, abs=1e-12)


def test_a_promise_breaks_where_chance_would_hardly() -> None:
    for missed in range(40):
        promise = promises._counted("it", 0.05, True, [True] * missed + [False] * (200 - missed))
        assert promise.kept == (scipy.stats.binom.sf(missed - 1, 200, 0.05) >= promises.CHANCE)
        other = promises._counted("it", 0.95, False, [False] * missed + [True] * (200 - missed))
        assert other.kept == promise.kept and other.count == 200 - missed


def placed(path: Path, placement: float, process: float, rest: float) -> promises.Scatter:
    """A run whose loops take a sine of their offset, and scatter by process and round."""
    plan = plan_of(runs=10)
    plan = dataclasses.replace(plan, groups=plan.groups[2:3], rounds=42)
    rng = np.random.default_rng(1)
    lines = []
    for number in range(plan.processes):
        line = summaries.sampling_of(plan, number, 0, lambda g, c, p, r: np.full(r, 5.0))
        offsets = rng.integers(0, 64, np.shape(line["ticks"]))
        ns = 5.0 + placement * np.sin(offsets * math.tau / 64) + rng.normal(0, rest, offsets.shape)
        ns += rng.normal(0, process, (len(ns), 1))
        ticks = np.round(ns * summaries.LOOKUPS * summaries.TICKS_PER_NS).astype(int)
        lines.append(line | {"ticks": ticks.tolist(), "placements": offsets.tolist()})
    run = result_file.read(summaries.write(path, [summaries.header_of(plan), *lines]))
    (found,) = promises.selftest(run, PROCESSES).scatter
    return found


@pytest.mark.parametrize(
    ("placement", "process", "rest"),
    [(0.1, 0.0, 0.01), (0.0, 0.05, 0.01), (0.0, 0.0, 0.02), (0.05, 0.03, 0.04)],
)
def test_scatter_is_told_apart(tmp_path: Path, placement: float, process: float, rest: float) -> None:
    found = placed(tmp_path / "r.jsonl", placement, process, rest)
    # Two cells differ: a sine has half of its squared amplitude for a variance.
    planted = np.array([placement**2, 2 * process**2, 2 * rest**2])
    shares = np.array([found.placement, found.process, found.round])
    assert shares == pytest.approx(planted / planted.sum(), abs=0.08)
    assert shares.sum() == pytest.approx(1)
    assert found.ns == pytest.approx(math.sqrt(planted.sum()), rel=0.25)
    assert found.placement_range_ns == pytest.approx(2 * placement, abs=0.03)


def test_what_is_resolved_goes_by_the_root_of_the_time(tmp_path: Path) -> None:
    found = promises.selftest(run_of(tmp_path / "r.jsonl"), PROCESSES)
    row = found.resolves[0]
    assert row.seconds == pytest.approx(PROCESSES * (0.4 + 0.010), abs=0.01)
    assert row.ns and row.ns_by_seconds["10"] and row.ns_by_seconds["600"]
    assert row.ns_by_seconds["10"] == pytest.approx(row.ns * math.sqrt(row.seconds / 10))
    assert row.ns_by_seconds["600"] >= row.ns * math.sqrt(row.seconds / 600)


def test_a_run_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PagebenchError, match="a self-test wants two runs of 6 at least"):
        promises.selftest(run_of(tmp_path / "few.jsonl", plan=plan_of(runs=1)), PROCESSES)
    group = summaries.group_of(("mask-select", "pointer-select"), control=True)
    plain = summaries.plan_of([group], processes=12)
    with pytest.raises(PagebenchError, match="is no self-test's"):
        promises.selftest(run_of(tmp_path / "plain.jsonl", summaries.made_up, plain), PROCESSES)
