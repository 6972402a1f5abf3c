"""Effects over machines: signs, sizes, and who cannot tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import planted_runs
import pytest
import summaries
from planted_runs import header_with, model_of

from pagebench.errors import PagebenchError
from pagebench.results import joining
from pagebench.results.joining import Effect, Joined
from pagebench.results.measured import Measured

CONTENDERS = ("mask-select", "branchless")
PLAN = summaries.plan_of([summaries.group_of(CONTENDERS, order, control=order == 2) for order in (2, 9)])
MACHINES = {
    "zen": {},
    "xeon": {"cpu_model": "Intel(R) Xeon(R)", "family": "6", "model": "207"},
    "arm": {"cpu_model": "Neoverse-V2", "family": "8", "model": "0xd4f", "architecture": "aarch64"},
}


def run_of(
    tmp_path: Path, machine: str, ns: float, seed: int = 1, plan: Any = PLAN, **kwargs: Any
) -> Measured:
    """branchless takes so much more than mask-select."""
    model = model_of(seed, slower={"branchless": ns - 0.5})
    path = tmp_path / f"{machine}-{seed}.jsonl"
    return planted_runs.run_of(path, plan, model, header_with(plan, MACHINES[machine]), **kwargs)


def at_order(joined: Joined, order: int) -> Effect:
    (effect,) = (effect for effect in joined.effects if effect.order == order)
    return effect


def test_signs_that_agree_and_the_best_and_the_worst(tmp_path: Path) -> None:
    runs = [run_of(tmp_path, "zen", 0.5), run_of(tmp_path, "xeon", 2.0), run_of(tmp_path, "arm", 1.0)]
    joined = joining.join(runs)
    assert [machine.cpu for machine in joined.machines] == [
        "AMD EPYC 7B13 64-Core Processor, family 25, model 1",
        "Intel(R) Xeon(R), family 6, model 207",
        "Neoverse-V2, family 8, model 0xd4f",
    ]
    for effect in joined.effects:
        assert (effect.sign, effect.best, effect.worst, effect.unresolved) == ("slower", 0, 1, ())
        estimates = [size.ns.estimate for size in effect.sizes if size is not None]
        assert estimates == [pytest.approx(ns, abs=0.01) for ns in (0.5, 2.0, 1.0)]
    assert joined.warnings == ()


def test_signs_that_differ(tmp_path: Path) -> None:
    joined = joining.join([run_of(tmp_path, "zen", 0.5), run_of(tmp_path, "xeon", -0.5)])
    effect = at_order(joined, 2)
    assert (effect.sign, effect.best, effect.worst) == ("both", 1, 0)


def test_a_machine_that_cannot_tell_is_said_and_does_not_decide(tmp_path: Path) -> None:
    plan = summaries.plan_of(PLAN.groups, processes=2)
    joined = joining.join(
        [run_of(tmp_path, "zen", 0.5), run_of(tmp_path, "xeon", 0.1, plan=plan, samplings=2)]
    )
    effect = at_order(joined, 2)
    assert (effect.sign, effect.unresolved) == ("slower", (1,))
    assert any("Intel(R) Xeon(R), family 6, model 207 resolves none" in text for text in joined.warnings)


def test_runs_of_one_model_are_one_row(tmp_path: Path) -> None:
    joined = joining.join(
        [
            run_of(tmp_path, "zen", 0.5, seed=1),
            run_of(tmp_path, "xeon", 1.0),
            run_of(tmp_path, "zen", 0.7, seed=2),
        ]
    )
    assert [machine.runs for machine in joined.machines] == [("zen-1", "zen-2"), ("xeon-1",)]
    size = at_order(joined, 2).sizes[0]
    assert size is not None
    assert (size.runs, size.verdict) == (2, "slower")
    assert size.ns.estimate == pytest.approx(0.6, abs=0.01)
    assert size.ns.low is not None and size.ns.low < 0.51
    assert size.ns.high is not None and size.ns.high > 0.69


def test_runs_of_one_model_that_disagree_resolve_nothing(tmp_path: Path) -> None:
    joined = joining.join(
        [
            run_of(tmp_path, "zen", 0.5, seed=1),
            run_of(tmp_path, "zen", -0.5, seed=2),
            run_of(tmp_path, "xeon", 1.0),
        ]
    )
    effect = at_order(joined, 2)
    assert effect.unresolved == (0,)
    assert effect.sign == "slower"


def test_a_control_that_is_off_does_not_count(tmp_path: Path) -> None:
    def off(group: Any, cell: Any, process: int, rounds: int) -> Any:
        ns = model_of(1, slower={"branchless": -2.0})(group, cell, process, rounds)
        return ns + (0.2 if cell.role == "control" else 0.0)

    header = header_with(PLAN, MACHINES["xeon"])
    untrusted = planted_runs.run_of(tmp_path / "off.jsonl", PLAN, off, header)
    joined = joining.join([run_of(tmp_path, "zen", 0.5), untrusted])
    effect = at_order(joined, 2)
    assert (effect.sign, effect.worst, effect.unresolved) == ("slower", 0, (1,))
    assert any("control is off" in text for text in joined.warnings)


def test_what_a_machine_did_not_measure_is_empty(tmp_path: Path) -> None:
    half = summaries.plan_of([PLAN.groups[0]])
    joined = joining.join([run_of(tmp_path, "zen", 0.5), run_of(tmp_path, "xeon", 0.5, plan=half)])
    assert at_order(joined, 9).sizes[1] is None
    assert at_order(joined, 2).sizes[1] is not None


def test_the_series_questions_where_runs_answer_them(tmp_path: Path) -> None:
    contenders = ("pointer-branch", "branchless", "mask-select")
    plan = summaries.plan_of([summaries.group_of(contenders, 2, control=True)])
    joined = joining.join([run_of(tmp_path, "zen", 0.5, plan=plan), run_of(tmp_path, "xeon", 0.5, plan=plan)])
    assert [(e.question, e.before, e.after) for e in joined.effects] == [
        ("key off", "pointer-branch@plain", "branchless@plain")
    ]


def test_one_model_alone_is_said(tmp_path: Path) -> None:
    joined = joining.join([run_of(tmp_path, "zen", 0.5, seed=1), run_of(tmp_path, "zen", 0.5, seed=2)])
    assert joined.warnings == ("all runs are of one CPU model: `compare` says how they differ",)


def test_what_does_not_measure_the_same(tmp_path: Path) -> None:
    import dataclasses

    other = dataclasses.replace(PLAN, memory_model="sparsemem")
    with pytest.raises(PagebenchError, match="memory model is none in the one, sparsemem in the other"):
        joining.join([run_of(tmp_path, "zen", 0.5), run_of(tmp_path, "xeon", 0.5, plan=other)])


def test_runs_that_compare_nothing(tmp_path: Path) -> None:
    plan = summaries.plan_of([summaries.group_of(("mask-select",), 2, control=True)])
    with pytest.raises(PagebenchError, match="compare nothing: give each two contenders"):
        joining.join([run_of(tmp_path, name, 0.5, plan=plan) for name in ("zen", "xeon")])


def test_other_code_of_one_name_is_refused_on_one_model_and_said_of_two(tmp_path: Path) -> None:
    other = planted_runs.recoded(header_with(PLAN, MACHINES["zen"]), "branchless")
    changed = planted_runs.run_of(tmp_path / "changed.jsonl", PLAN, model_of(3), other)
    with pytest.raises(PagebenchError, match=r"branchless is other machine code in .*: `compare` tells"):
        joining.join([run_of(tmp_path, "zen", 0.5), changed])
    joined = joining.join([run_of(tmp_path, "xeon", 0.5), changed])
    assert joined.warnings == ("other machine code on other machines: branchless",)


def test_a_run_of_a_model_whose_control_is_off_does_not_silence_the_others(tmp_path: Path) -> None:
    def off(group: Any, cell: Any, process: int, rounds: int) -> Any:
        ns = model_of(1, slower={"branchless": 3.0})(group, cell, process, rounds)
        return ns + (0.2 if cell.role == "control" else 0.0)

    header = header_with(PLAN, MACHINES["zen"])
    untrusted = planted_runs.run_of(tmp_path / "off.jsonl", PLAN, off, header)
    joined = joining.join([run_of(tmp_path, "zen", 0.5), untrusted, run_of(tmp_path, "xeon", 1.0)])
    size = at_order(joined, 2).sizes[0]
    assert size is not None
    assert (size.runs, size.ns.estimate) == (1, pytest.approx(0.5, abs=0.01))
    assert any(text.startswith("off: its positive control is off") for text in joined.warnings)


def test_a_model_without_these_effects_is_said(tmp_path: Path) -> None:
    plan = summaries.plan_of([summaries.group_of(("pointer-branch", "branchless"), 2, control=True)])
    runs = [run_of(tmp_path, "zen", 0.5, plan=plan), run_of(tmp_path, "xeon", 0.5)]
    assert any(
        "Intel(R) Xeon(R), family 6, model 207 measured none" in text for text in joining.join(runs).warnings
    )
