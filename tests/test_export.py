"""What other tools read, and what they make of it."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np
import planted_runs
import pytest
import summaries
from summaries import Floats
from test_two_samples import GOB_NEW, GOB_OLD, JSON_NEW, JSON_OLD

from pagebench.plan.groups import Cell, Group
from pagebench.report import compare, export
from pagebench.results import changing
from pagebench.results.measured import Measured

# golang.org/x/perf/cmd/benchstat/testdata/csvOldNew.stdout, which benchstat printed of these samples:
# medians in seconds, what they reach, change, p; and the geometric means below.
BENCHSTAT = {
    "mask-select@plain": ("1.7180000000000001e-06", "1%", "1.4225000000000001e-06", "1%", "-17.20%", "0.000"),
    "branchless@plain": ("3.0655e-06", "0%", "3.0700000000000003e-06", "2%", "~", "0.446"),
}
GEOMETRIC_MEAN = 2.089754770302007e-06 / 2.294891936453654e-06
SAMPLES = {
    "old": {"mask-select": JSON_OLD, "branchless": GOB_OLD},
    "new": {"mask-select": JSON_NEW, "branchless": GOB_NEW},
}
# As in a file of Go benchmarks: name, iterations, then values with their units.
LINE = re.compile(r"Benchmark([A-Z]\S*)-(\d+)\t(\d+)\t(\S+) ns/op\t(\S+) cycles/op")


def go_run(path: Path) -> Measured:
    """A run of the samples that benchstat's own tests have: a process each."""
    samples = SAMPLES[path.stem]

    def model(group: Group, cell: Cell, process: int, rounds: int) -> Floats:
        name = cell.contender.variant
        return np.full(rounds, float(samples.get(name, samples["mask-select"])[process]))

    plan = summaries.plan_of([summaries.group_of(("mask-select", "branchless"), 2)], processes=10, rounds=3)
    return planted_runs.run_of(path, plan, model)


def test_our_columns_are_benchstats(tmp_path: Path) -> None:
    old, new = (go_run(tmp_path / f"{name}.jsonl") for name in SAMPLES)
    (found,) = changing.compare([old, new]).runs
    for cell in found.cells:
        before, before_reaches, after, after_reaches, change, p = BENCHSTAT[cell.contender]
        absolute = cell.absolute
        assert absolute.before.median == pytest.approx(float(before) * 1e9)
        assert absolute.after.median == pytest.approx(float(after) * 1e9)
        assert (compare.spread(absolute.before), compare.spread(absolute.after)) == (
            before_reaches,
            after_reaches,
        )
        assert f"{absolute.p:.3f}" == p
        assert (absolute.before.processes, absolute.after.processes) == (10, 10)
        assert compare.versus(absolute) == change
    (mean,) = found.means
    assert mean.ratio == pytest.approx(GEOMETRIC_MEAN)


def test_benchstats_samples_are_exported_as_they_were(tmp_path: Path) -> None:
    parsed: dict[str, list[float]] = {}
    for line in export.to_gobench(go_run(tmp_path / "old.jsonl")).splitlines():
        if line.startswith("Benchmark"):
            found = LINE.fullmatch(line)
            assert found, line
            parsed.setdefault(found[1], []).append(float(found[4]))
    name = "Chain/pattern=random/order=2/footprint=16K/contender="
    assert parsed == {
        name + "mask-select": [pytest.approx(ns) for ns in JSON_OLD],
        name + "branchless": [pytest.approx(ns) for ns in GOB_OLD],
    }


def test_lines_above_say_nothing_that_changes_from_run_to_run(tmp_path: Path) -> None:
    """benchstat sets only those side by side that have the same ones."""
    heads = [
        [line for line in export.to_gobench(go_run(tmp_path / f"{name}.jsonl")).splitlines() if ": " in line]
        for name in SAMPLES
    ]
    assert heads[0] == heads[1]
    assert [line.partition(":")[0] for line in heads[0]] == ["goos", "goarch", "pkg", "cpu"]


def test_csv_has_a_row_a_process_and_cell(tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(export.to_csv(go_run(tmp_path / "old.jsonl")))))
    assert len(rows) == 20
    assert [float(row["ns"]) for row in rows[:10]] == [pytest.approx(ns) for ns in JSON_OLD]
    assert float(rows[0]["cycles"]) == pytest.approx(JSON_OLD[0] * summaries.GHZ, rel=1e-3)


def test_a_process_without_a_valid_round_has_no_line(tmp_path: Path) -> None:
    plan = summaries.plan_of([summaries.group_of(("mask-select", "branchless"), 2)], processes=2, rounds=3)
    lines = [
        summaries.sampling_of(plan, 0, 0, summaries.made_up, switches=[[0, r] for r in range(3)]),
        summaries.sampling_of(plan, 1, 0, summaries.made_up),
    ]
    from pagebench.results.result_file import read

    path = summaries.write(tmp_path / "r.jsonl", [summaries.header_of(plan), *lines])
    text = export.to_gobench(Measured("r", read(path)))
    assert text.count("contender=mask-select-1") == 1
    assert text.count("contender=branchless-1") == 2
    assert "nan" not in text


def test_footprints_that_look_alike_are_told_apart(tmp_path: Path) -> None:
    sizes = (1900 << 10, 1920 << 10, 2 << 20)
    plan = summaries.plan_of(
        [summaries.group_of(("mask-select", "branchless"), 2, size) for size in sizes], processes=2, rounds=3
    )
    text = export.to_gobench(planted_runs.run_of(tmp_path / "r.jsonl", plan, summaries.made_up))
    assert set(re.findall(r"footprint=(\w+)/", text)) == {"1945600", "1966080", "2M"}
