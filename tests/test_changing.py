"""Two runs compared: what is found, what is not, and what nobody may believe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import planted_runs
import pytest
import summaries
from planted_runs import CONTENDERS, header_with, model_of, plan_with, recoded

from pagebench.errors import PagebenchError
from pagebench.results import gate
from pagebench.results.change import Absolute, Center, Change, Changes, Code, Side
from pagebench.results.changing import compare
from pagebench.results.lines import Calibration, Compiler, Recalibration, Tool
from pagebench.results.measured import Measured
from pagebench.results.result_file import read
from pagebench.results.summary import Estimate
from pagebench.units import KIB, MIB

CODE = Code("arith", 6, 20)


def side_of(name: str = "run", trusted: bool | None = True, complete: bool = True) -> Side:
    machine = summaries.typed_machine()
    tool, compiler = Tool("pagebench", "0.1.0", ""), Compiler("gcc", "-O2")
    return Side(
        name=name,
        created="",
        command="",
        tool=tool,
        machine=machine,
        compiler=compiler,
        core_ghz=3.2,
        processes=12,
        complete=complete,
        trusted=trusted,
    )


def change_of(**changes: Any) -> Change:
    center = Center(4.0, 3.9, 4.1, 12)
    fields: dict[str, Any] = {
        "contender": "branchless@plain",
        "order": 2,
        "footprint_bytes": 16 * KIB,
        "pattern": "random",
        "probe": "chain",
        "level": "l1",
        "level_after": "l1",
        "code": CODE,
        "code_after": CODE,
        "same_code": False,
        "absolute": Absolute(center, center, 1.0, 1.0),
        "anchor": "reference",
        "ns": Estimate(0.0, -0.1, 0.1),
        "cycles": Estimate(0.0, -0.3, 0.3),
        "percent": 0.0,
        "p_adjusted": 1.0,
        "aa_ns": (0.01, 0.02),
        "between_runs_ns": 0.01,
        "between_runs_assumed": False,
        "smallest_resolvable_ns": 0.1,
        "verdict": "inconclusive",
        "mark": "?",
        **changes,
    }
    return Change(**fields)


def pair(
    tmp_path: Path, plan: Any = None, header: Any = None, header_after: Any = None, **after: Any
) -> list[Measured]:
    plan = plan or plan_with()
    return [
        planted_runs.run_of(tmp_path / "old.jsonl", plan, model_of(1), header),
        planted_runs.run_of(tmp_path / "new.jsonl", plan, model_of(2, **after), header_after),
    ]


def changes(runs: list[Measured], **kwargs: Any) -> Changes:
    return compare(runs, **kwargs).runs[0]


def verdicts(found: Changes) -> set[tuple[str, str | None]]:
    return {(cell.contender.removesuffix("@plain"), cell.verdict) for cell in found.cells}


def test_nothing_is_resolved_of_one_code_measured_twice(tmp_path: Path) -> None:
    found = changes(pair(tmp_path), threshold=gate.Threshold(0.1, "ns"))
    assert {cell.verdict for cell in found.cells} == {None, "equivalent"}
    assert found.gate is not None
    assert (found.gate.judged, found.gate.passed, gate.exit_code(found.gate)) == (12, 12, 0)
    assert set(found.same_code) == set(CONTENDERS)
    assert found.other_code == ()


def test_a_whole_run_that_is_slower_is_no_difference(tmp_path: Path) -> None:
    """As on a machine with a neighbour: 3 % of everything."""
    found = changes(pair(tmp_path, scale=1.03))
    absolute = [cell.absolute for cell in found.cells]
    assert all(
        one.p is not None and one.p < 1e-4 for one in absolute
    )  # what benchstat would call significant
    assert not {verdict for _, verdict in verdicts(found)} & {"faster", "slower"}


@pytest.mark.parametrize(("ns", "verdict"), [(0.5, "slower"), (-0.5, "faster")])
def test_what_became_slower_is_found(ns: float, verdict: str, tmp_path: Path) -> None:
    plan = plan_with()
    other = recoded(header_with(plan), "branchless")
    found = changes(pair(tmp_path, plan, header_after=other, slower={"branchless": ns}))
    assert verdicts(found) == {
        ("pointer-branch", None),
        ("mask-select", "equivalent"),
        ("branchless", verdict),
    }
    changed = [cell for cell in found.cells if cell.verdict == verdict]
    assert len(changed) == 6
    for cell in changed:
        assert cell.ns.estimate == pytest.approx(ns, abs=0.01)
        assert cell.cycles.estimate == pytest.approx(ns * summaries.GHZ, abs=0.05)
        assert cell.percent == pytest.approx(100 * ns / 4.5, abs=0.5)
        assert (cell.mark, cell.same_code, cell.anchor) == ("*", False, "reference")
    assert found.other_code == ("branchless",)


def test_a_gate_fails_by_what_is_slower_than_its_threshold(tmp_path: Path) -> None:
    plan = plan_with()
    runs = pair(
        tmp_path, plan, header_after=recoded(header_with(plan), "branchless"), slower={"branchless": 0.5}
    )
    for amount, code in ((0.3, 1), (0.505, 3), (0.8, 0)):
        found = changes(runs, threshold=gate.Threshold(amount, "ns")).gate
        assert found is not None
        assert gate.exit_code(found) == code, amount
    by_percent = changes(runs, threshold=gate.Threshold(5.0, "%")).gate
    assert by_percent is not None
    assert (by_percent.failed, by_percent.passed) == (6, 6)


def test_the_reference_is_judged_by_the_harness_once_its_code_is_another(tmp_path: Path) -> None:
    plan = plan_with()
    other = recoded(header_with(plan), "pointer-branch")
    found = changes(pair(tmp_path, plan, header_after=other, slower={"pointer-branch": 0.5}))
    assert ("pointer-branch", "slower") in verdicts(found)
    # The others did not change, whatever became of the reference.
    assert {("mask-select", "equivalent"), ("branchless", "equivalent")} <= verdicts(found)
    assert {cell.anchor for cell in found.cells} == {"harness"}


def test_nothing_is_judged_where_no_loop_is_the_same(tmp_path: Path) -> None:
    plan = plan_with()
    header = header_with(plan)
    for variant in (*CONTENDERS, "identity"):
        header = recoded(header, variant)
    found = changes(pair(tmp_path, plan, header_after=header), threshold=gate.Threshold(9.0, "ns"))
    assert {(cell.anchor, cell.verdict, cell.outcome) for cell in found.cells} == {(None, None, "undecided")}
    assert found.gate is not None
    assert gate.exit_code(found.gate) == 3
    assert any("same machine code" in why for why in found.gate.why_not)


def test_a_loop_that_may_call_something_else_is_not_the_same_for_sure(tmp_path: Path) -> None:
    plan = plan_with()
    header = header_with(plan)
    for probe in header["variants"]["branchless"]["probes"].values():
        probe["immovable"] = "it calls"
    found = changes(pair(tmp_path, plan, header, header))
    assert found.other_code == ("branchless",)


def test_runs_that_differ_by_themselves_widen_what_is_resolved(tmp_path: Path) -> None:
    """What did not change differs by 0.2 ns: what changed has to differ by more."""
    plan = plan_with(contenders=("pointer-branch", "mask-select", "branchless"))
    header = recoded(header_with(plan), "branchless")
    quiet = changes(pair(tmp_path, plan, header_after=header, slower={"branchless": 0.2}))
    shaken = changes(
        pair(tmp_path, plan, header_after=header, slower={"branchless": 0.2, "mask-select": 0.2})
    )
    assert ("branchless", "slower") in verdicts(quiet)
    assert ("branchless", "inconclusive") in verdicts(shaken)
    of = {cell.contender: cell for cell in shaken.cells}["branchless@plain"]
    assert of.between_runs_ns is not None
    assert 0.1 < of.between_runs_ns < 0.25


def test_cells_are_matched_by_meaning_and_what_is_missing_is_said(tmp_path: Path) -> None:
    before = planted_runs.run_of(tmp_path / "old.jsonl", plan_with(orders=(0, 2)), model_of(1))
    after = planted_runs.run_of(
        tmp_path / "new.jsonl",
        plan_with(orders=(9, 2), contenders=("pointer-branch", "branchless")),
        model_of(2),
    )
    found = changes([before, after], threshold=gate.Threshold(1.0, "ns"))
    assert {(cell.order, cell.contender) for cell in found.cells} == {
        (2, "pointer-branch@plain"),
        (2, "branchless@plain"),
    }
    assert len(found.only_before) == 6 + 2
    assert "chain, random, order 2, 16K, mask-select" in found.only_before
    assert len(found.only_after) == 4
    assert found.gate is not None
    assert (found.gate.missing, gate.exit_code(found.gate)) == (8, 3)


def test_nothing_in_common_is_an_error(tmp_path: Path) -> None:
    before = planted_runs.run_of(tmp_path / "old.jsonl", plan_with(orders=(0,)), model_of(1))
    after = planted_runs.run_of(tmp_path / "new.jsonl", plan_with(orders=(9,)), model_of(2))
    with pytest.raises(PagebenchError, match=r"no cell in common: one has chain, random, order 0, 16K"):
        compare([before, after])


def test_another_cpu_model_is_refused(tmp_path: Path) -> None:
    plan = plan_with(orders=(2,), probes=("chain",))
    runs = pair(tmp_path, plan, header_after=header_with(plan, {"model": "99"}))
    with pytest.raises(PagebenchError, match="different machines"):
        compare(runs)
    assert changes(runs, force=True).differs[0].refused


def test_inside_l2_times_are_at_the_first_runs_clock(tmp_path: Path) -> None:
    """A faster clock is no faster code: cycles are the same."""
    plan = plan_with(orders=(2,), probes=("chain",))
    lines = [
        summaries.sampling_of(plan, p, 0, model_of(2, scale=1 / 1.1), ghz=1.1 * summaries.GHZ)
        for p in range(12)
    ]
    before = planted_runs.run_of(tmp_path / "old.jsonl", plan, model_of(1))
    path = summaries.write(tmp_path / "new.jsonl", [summaries.header_of(plan), *lines])
    found = changes([before, Measured("new", read(path))])
    assert ("core clock", "3.20 GHz", "3.52 GHz") in [(d.what, d.before, d.after) for d in found.differs]
    assert {cell.verdict for cell in found.cells} == {None, "equivalent"}
    for cell in found.cells:
        assert cell.absolute.ratio == pytest.approx(1 / 1.1, rel=0.01)  # each at its own clock
    branchless = {cell.contender: cell for cell in found.cells}["branchless@plain"]
    assert branchless.ns.estimate == pytest.approx(0.0, abs=0.01)


def test_an_l3_that_is_another_one_is_not_judged(tmp_path: Path) -> None:
    import dataclasses

    group = summaries.group_of(CONTENDERS, 2, 6 * MIB)
    control = summaries.group_of(CONTENDERS, 2, control=True)
    plan = summaries.plan_of([control, group])
    small = dataclasses.replace(
        plan,
        levels=dataclasses.replace(plan.levels, l3_bytes=4 * MIB),
        groups=(control, dataclasses.replace(group, level="dram")),
    )
    before = planted_runs.run_of(tmp_path / "old.jsonl", plan, model_of(1))
    after = planted_runs.run_of(tmp_path / "new.jsonl", small, model_of(2))
    found = changes([before, after], threshold=gate.Threshold(1.0, "ns"))
    outcomes = {
        (cell.level, cell.level_after, cell.outcome) for cell in found.cells if cell.verdict is not None
    }
    assert outcomes == {("l1", "l1", "passed"), ("l3", "dram", "undecided")}
    assert any("the L3 to be had was 8M and 4M" in text for text in found.warnings)


def test_geometric_means_by_probe(tmp_path: Path) -> None:
    plan = plan_with()
    other = recoded(header_with(plan), "branchless")
    found = changes(pair(tmp_path, plan, header_after=other, slower={"branchless": 0.45}))
    for mean in found.means:
        assert mean.cells == 9
        assert mean.ratio == pytest.approx(1.1 ** (1 / 3), rel=0.002)
        assert mean.anchored == pytest.approx(1.1**0.5, rel=0.002)


@pytest.mark.slow
def test_false_alarms_are_as_rare_as_promised(tmp_path: Path) -> None:
    """Forty pairs of runs of one code, each run with noise of its own that stays for the whole run."""
    plan = plan_with(orders=(0, 2, 4, 9), probes=("chain",))
    alarms = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        runs = []
        for name in ("old", "new"):
            own = {variant: float(rng.normal(0, 0.02)) for variant in CONTENDERS}
            model = model_of(int(rng.integers(1 << 30)), slower=own)
            runs.append(planted_runs.run_of(tmp_path / f"{name}.jsonl", plan, model))
        alarms += any(cell.verdict in ("faster", "slower") for cell in changes(runs).cells)
    assert alarms <= 5  # 95 % of binomial(40, 0.05) is within


def test_a_branch_is_held_to_what_branches_differ_by(tmp_path: Path) -> None:
    """Selects repeat to a thousandth of a ns, branches do not: 0.04 ns of a branch are nothing yet."""
    contenders = ("pointer-select", "mask-select", "pointer-branch")
    plan = plan_with(contenders=contenders)
    other = recoded(header_with(plan), "pointer-branch")

    def model(seed: int, slower: float) -> Any:
        inner = model_of(seed, slower={"pointer-branch": slower})

        def quiet(group: Any, cell: Any, process: int, rounds: int) -> Any:
            named = {"pointer-select": 4.0}.get(cell.contender.variant)
            if named is None:
                return inner(group, cell, process, rounds)
            return np.full(rounds, named) + 0.0001 * process

        return quiet

    runs = [
        planted_runs.run_of(tmp_path / "old.jsonl", plan, model(1, 0.0)),
        planted_runs.run_of(tmp_path / "new.jsonl", plan, model(2, 0.04), other),
    ]
    found = changes(runs)
    of = {cell.contender: cell for cell in found.cells}["pointer-branch@plain"]
    assert (of.verdict, of.between_runs_assumed) == ("equivalent", True) or of.verdict == "inconclusive"
    assert of.between_runs_ns == pytest.approx(0.25 / summaries.GHZ)
    assert any("no other contender of a branch has the same machine code" in text for text in found.warnings)
    # A large one is one all the same.
    runs[1] = planted_runs.run_of(tmp_path / "newer.jsonl", plan, model(3, 0.9), other)
    assert ("pointer-branch", "slower") in verdicts(changes(runs))


def test_without_an_aa_pair_in_both_nothing_is_resolved(tmp_path: Path) -> None:
    plan = plan_with(orders=(2,), probes=("chain",))
    other = recoded(header_with(plan), "branchless")
    before = planted_runs.run_of(tmp_path / "old.jsonl", plan, model_of(1))
    aa = [cell.role for cell in plan.groups[0].cells].index("aa")
    dropped = {"switches": [[aa, round_] for round_ in range(plan.rounds)]}
    lines = [
        summaries.sampling_of(plan, p, 0, model_of(2, slower={"branchless": 1.0}), **dropped)
        for p in range(plan.processes)
    ]
    after = Measured("new", read(summaries.write(tmp_path / "new.jsonl", [other, *lines])))
    found = changes([before, after], threshold=gate.Threshold(0.2, "ns"))
    assert not {verdict for _, verdict in verdicts(found)} & {"faster", "slower"}
    assert found.gate is not None
    assert gate.exit_code(found.gate) == 3


def test_a_run_that_is_in_both_files_is_noticed(tmp_path: Path) -> None:
    plan = plan_with(orders=(2,), probes=("chain",))
    path = summaries.file_of(tmp_path / "old.jsonl", plan, model_of(1))
    header, *lines = path.read_bytes().splitlines(keepends=True)
    for name, some in (("same", lines), ("moved", lines[::-1]), ("part", lines[1:])):
        (tmp_path / f"{name}.jsonl").write_bytes(b"".join([header, *some]))
        runs = [Measured("old", read(path)), Measured("new", read(tmp_path / f"{name}.jsonl"))]
        assert any("are the same run" in text for text in changes(runs).warnings), name
    other = planted_runs.run_of(tmp_path / "other.jsonl", plan, model_of(2))
    assert not any(
        "are the same run" in text for text in changes([Measured("old", read(path)), other]).warnings
    )


def test_an_l3_that_went_away_during_a_run_is_not_judged(tmp_path: Path) -> None:
    group = summaries.group_of(CONTENDERS, 2, 6 * MIB)
    plan = summaries.plan_of([summaries.group_of(CONTENDERS, 2, control=True), group])
    runs = []
    for seed, name in ((1, "old"), (2, "new")):
        path = summaries.file_of(tmp_path / f"{name}.jsonl", plan, model_of(seed))
        if name == "new":
            summaries.append(path, Recalibration(Calibration(MIB, ())))
        runs.append(Measured(name, read(path)))
    found = changes(runs, threshold=gate.Threshold(1.0, "ns"))
    outcomes = {(cell.level, cell.outcome) for cell in found.cells if cell.verdict is not None}
    assert outcomes == {("l1", "passed"), ("l3", "undecided")}
    assert any("new: the L3 to be had went from" in text for text in found.warnings)


def test_memmaps_on_other_pages_are_not_judged(tmp_path: Path) -> None:
    plan = plan_with(orders=(2,), probes=("chain",))
    before = planted_runs.run_of(tmp_path / "old.jsonl", plan, model_of(1))
    small = {"backing": {"2m": {"4k": 4 * MIB, "2m": 0}}}
    lines = [summaries.sampling_of(plan, p, 0, model_of(2), **small) for p in range(plan.processes)]
    path = summaries.write(tmp_path / "new.jsonl", [summaries.header_of(plan), *lines])
    found = changes([before, Measured("new", read(path))], threshold=gate.Threshold(1.0, "ns")).gate
    assert found is not None
    assert gate.exit_code(found) == 3
    assert any("on 2m pages in one run, on 4k in the other" in why for why in found.why_not)
