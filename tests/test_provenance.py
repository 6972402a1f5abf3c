"""What is not alike in two runs, and what is not compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import planted_runs
import pytest

from pagebench.errors import PagebenchError
from pagebench.results import provenance
from pagebench.results.result_file import Run

PLAN = planted_runs.plan_with(orders=(2,), probes=("chain",), processes=2, rounds=3)


def run_of(path: Path, machine: dict[str, Any] | None = None, seed: int = 1, **changes: Any) -> Run:
    header = planted_runs.header_with(PLAN, machine, **changes)
    return planted_runs.run_of(path, PLAN, planted_runs.model_of(seed), header).run


def test_runs_of_one_machine_and_build_differ_in_nothing(tmp_path: Path) -> None:
    assert provenance.differs(run_of(tmp_path / "a.jsonl"), run_of(tmp_path / "b.jsonl", seed=2)) == []


@pytest.mark.parametrize(
    ("machine", "changes", "what"),
    [
        ({"kernel_release": "6.19.0"}, {}, "kernel"),
        ({"stepping": "2"}, {}, "stepping"),
        ({"thp_enabled": "never"}, {}, "THP"),
        ({"hypervisor": None}, {}, "hypervisor"),
        ({"mitigations": {"retbleed": "Vulnerable"}}, {}, "mitigations"),
        (
            {},
            {"compiler": {"name": "gcc 14.2.0", "cflags": "-O2 -std=gnu11 -fno-strict-aliasing"}},
            "compiler",
        ),
        ({}, {"compiler": {"name": "gcc 12.2.0", "cflags": "-O3"}}, "flags"),
        ({}, {"tool": {"name": "pagebench", "version": "0.2.0", "commit": ""}}, "pagebench"),
    ],
)
def test_what_differs_is_said_and_compared(
    machine: dict[str, Any], changes: dict[str, Any], what: str, tmp_path: Path
) -> None:
    before, after = run_of(tmp_path / "a.jsonl"), run_of(tmp_path / "b.jsonl", machine, **changes)
    (one,) = provenance.differs(before, after)
    assert (one.what, one.refused) == (what, False)
    if what == "flags":
        assert (one.before, one.after) == ("-O2 -std=gnu11 -fno-strict-aliasing", "-O3")
    provenance.check_comparable(before, after, [one], force=False)


@pytest.mark.parametrize("machine", [{"cpu_model": "another"}, {"model": "17"}, {"family": "26"}])
def test_another_cpu_model_is_refused_and_forced(machine: dict[str, str], tmp_path: Path) -> None:
    """One name stands for several models, as "AMD EPYC" in virtual machines."""
    before, after = run_of(tmp_path / "a.jsonl"), run_of(tmp_path / "b.jsonl", machine)
    found = provenance.differs(before, after)
    assert [(one.what, one.refused) for one in found] == [("CPU model", True)]
    with pytest.raises(PagebenchError, match=r"a\.jsonl and .*b\.jsonl are of different machines: CPU model"):
        provenance.check_comparable(before, after, found, force=False)
    provenance.check_comparable(before, after, found, force=True)


def test_what_is_refused_comes_first(tmp_path: Path) -> None:
    machine = {"architecture": "aarch64", "kernel_release": "6.19.0", "model": "17"}
    found = provenance.differs(run_of(tmp_path / "a.jsonl"), run_of(tmp_path / "b.jsonl", machine))
    assert [one.refused for one in found] == [True, True, False]


def test_another_core_clock_is_said(tmp_path: Path) -> None:
    before, after = run_of(tmp_path / "a.jsonl"), run_of(tmp_path / "b.jsonl")
    vars(after)["median_ghz"] = before.median_ghz * 1.05
    assert [one.what for one in provenance.differs(before, after)] == ["core clock"]


def test_cells_that_mean_something_else_are_not_compared(tmp_path: Path) -> None:
    before = run_of(tmp_path / "a.jsonl")
    other = msgspec.structs.replace(before.header, plan=_with_model(before))
    after = Run(before.path, other, before.samples, before.whole_bytes)
    with pytest.raises(PagebenchError, match="no cell in common: memory model is none in the one, sparsemem"):
        provenance.differs(before, after)


def _with_model(run: Run) -> Any:
    import dataclasses

    return dataclasses.replace(run.plan, memory_model="sparsemem")


def test_of_flags_those_that_differ_are_said(tmp_path: Path) -> None:
    for flags, sides in (
        ("-O2 -fno-strict-aliasing -std=gnu11", ("the same flags", "in another order or number")),
        ("-O2 -std=gnu11 -fno-strict-aliasing -m64", ("none of these", "-m64")),
        ("-std=gnu11 -O2", ("-fno-strict-aliasing", "none of these")),
    ):
        after = run_of(tmp_path / "b.jsonl", compiler={"name": "gcc 12.2.0", "cflags": flags})
        (one,) = provenance.differs(run_of(tmp_path / "a.jsonl"), after)
        assert (one.before, one.after) == sides


def test_what_a_variant_was_compiled_from_is_said(tmp_path: Path) -> None:
    header = planted_runs.header_with(PLAN)
    header["variants"]["branchless"]["source"] = "kbuild, gcc 14"
    after = planted_runs.run_of(tmp_path / "b.jsonl", PLAN, planted_runs.model_of(), header).run
    (one,) = provenance.differs(run_of(tmp_path / "a.jsonl"), after)
    assert (one.what, one.before, one.after) == ("branchless, source", "none", "kbuild, gcc 14")


@pytest.mark.parametrize(
    ("machine", "what"),
    [
        ({"caches": {"l1d_bytes": 1, "l2_bytes": 2, "l3_bytes": None, "line_bytes": 64}}, "caches"),
        ({"base_page_bytes": 65536}, "base pages"),
        ({"smt_active": True}, "SMT"),
        ({"clocksource": "hpet"}, "clock source"),
        ({"online_cpus": "0-63"}, "CPUs online"),
    ],
)
def test_more_of_the_machine_is_said(machine: dict[str, Any], what: str, tmp_path: Path) -> None:
    found = provenance.differs(run_of(tmp_path / "a.jsonl"), run_of(tmp_path / "b.jsonl", machine))
    assert [one.what for one in found] == [what]


def test_cpus_that_do_not_say_which_they_are_are_refused(tmp_path: Path) -> None:
    unknown = {"cpu_model": "unknown", "family": None, "model": None}
    before, after = (run_of(tmp_path / f"{name}.jsonl", unknown) for name in "ab")
    found = provenance.differs(before, after)
    assert [one.refused for one in found] == [True]
    with pytest.raises(PagebenchError, match="different machines"):
        provenance.check_comparable(before, after, found, force=False)
