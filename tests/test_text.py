"""Text reports, compared whole with the files under tests/golden/.

After a change of wording:  PAGEBENCH_UPDATE_GOLDEN=1 pytest tests/test_text.py
writes them anew; then read the diff.
"""

from __future__ import annotations

import copy
import difflib
import os
import re
from pathlib import Path
from typing import Any

import pytest
import summaries
from hypothesis import given, settings
from hypothesis import strategies as st
from summaries import GHZ, Floats, made_up

from pagebench.plan import building, options
from pagebench.plan.groups import Cell, Group, Plan
from pagebench.report import text
from pagebench.results import judgement, result_file, summarise
from pagebench.units import GIB, KIB, MIB

GOLDEN = Path(__file__).parent / "golden"
LONG = (
    "pointer-branch",
    "pointer-select",
    "fakehead",
    "mask-select",
    "branchless",
    "branchless@hvo-shared",
    "linux-6.12+key",
    "linux-7.2@hvo-shared:memfd",
)


def default(path: Path) -> dict[str, Any]:
    """What `run` without options ends in."""
    asked = options.Options(rounds=7, seed=1, cpu=1)
    return summaries.summary_of(path, building.build(asked, summaries.LEVELS, 32 * MIB, None), made_up)


def many(path: Path) -> dict[str, Any]:
    """Eight contenders, names that do not fit a column, footprints and orders that are wide."""
    groups = [
        summaries.group_of(
            LONG, order, footprint, pattern, probe, control=(order, footprint) == (0, 16 * KIB)
        )
        for probe, pattern in (("chain", "random"), ("lookup", "mixed:0.25"))
        for order in (0, 9, 22)
        for footprint in (16 * KIB, 1000 * KIB, 128 * MIB)
    ]
    return summaries.summary_of(path, summaries.plan_of(groups, rounds=3), made_up)


def partial(path: Path) -> dict[str, Any]:
    """Interrupted in its first process: no interval, no control."""
    groups = [
        summaries.group_of(LONG[:4], order, 256 * KIB, probe=probe)
        for order in (0, 9)
        for probe in ("lookup", "chain")
    ]
    groups.append(summaries.group_of(LONG[:1], control=True, purpose="control"))
    return summaries.summary_of(path, summaries.plan_of(groups), made_up, samplings=3)


def untrusted(path: Path) -> dict[str, Any]:
    """All that can threaten a result, and a control that does not read one cycle."""

    def off(group: Group, cell: Cell, process: int, rounds: int) -> Floats:
        return made_up(group, cell, process, rounds) + (0.2 / GHZ if cell.role == "control" else 0.0)

    the_plan = summaries.plan_of([summaries.group_of(LONG[:5], control=True)], processes=6, rounds=7)
    changes = {
        "backing": {"2m": {"4k": 3 * MIB, "2m": MIB}},
        "steal_ticks": 1,
        "switches": [[2, 3], [4, 1]],
        "copies": [16, 16, 1, 16, 16, 16, 16, 16],
    }
    lines = [summaries.sampling_of(the_plan, p, 0, off, **changes) for p in range(the_plan.processes)]
    header = summaries.header_of(
        the_plan, warnings=["governor is powersave: cpupower frequency-set -g performance"]
    )
    return summaries.as_json(result_file.read(summaries.write(path, [header, *lines])))


def counted(path: Path) -> dict[str, Any]:
    """A machine with a PMU."""
    the_plan = summaries.plan_of([summaries.group_of(LONG[:3], control=True)], processes=10, rounds=7)
    counts = [
        {
            "cycles": 9.0 + c,
            "instructions": 8.5 + c,
            "branch_misses": 0.003 * c,
            "l1d_misses": 0.0,
            "llc_misses": 12.25,
        }
        for c in range(len(the_plan.groups[0].cells))
    ]
    lines = [summaries.sampling_of(the_plan, p, 0, made_up, counts=counts) for p in range(the_plan.processes)]
    return summaries.as_json(result_file.read(summaries.write(path, [summaries.header_of(the_plan), *lines])))


REPORTS = {"default": default, "many": many, "partial": partial, "untrusted": untrusted, "counted": counted}


def misfits(report: str) -> list[str]:
    lines = report.splitlines()
    return [line for line in lines if len(line) > text.WIDTH or not line.isascii() or line != line.rstrip()]


@pytest.mark.parametrize("name", REPORTS)
def test_the_report_is_the_golden_one(name: str, tmp_path: Path) -> None:
    report = text.render(summaries.typed(REPORTS[name](tmp_path / "r.jsonl")))
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("PAGEBENCH_UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        golden.write_text(report)
    expected = golden.read_text().splitlines()
    changed = "\n".join(difflib.unified_diff(expected, report.splitlines(), str(golden), "now", lineterm=""))
    assert not changed, f"{changed}\nPAGEBENCH_UPDATE_GOLDEN=1 pytest tests/test_text.py takes it over"


@pytest.mark.parametrize("name", REPORTS)
def test_every_line_fits_a_mail(name: str, tmp_path: Path) -> None:
    report = text.render(summaries.typed(REPORTS[name](tmp_path / "r.jsonl")))
    assert misfits(report) == []
    assert report.endswith("\n") and not report.endswith("\n\n")


class Odd(dict[str, Any]):
    """A summary that is not printed whole when a test fails."""

    def __repr__(self) -> str:
        cells = [
            (c["contender"], c["order"], c["footprint_bytes"], c["ns"], c["difference"]["ns"])
            for c in self["cells"]
        ]
        return f"{cells} {self['command']}"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Odd:
    return Odd(untrusted(tmp_path_factory.mktemp("base") / "r.jsonl"))


def find(report: str, label: str) -> str:
    """A field of the header, unwrapped."""
    lines = report.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"{label:10} "))
    end = next(i for i in range(start + 1, len(lines)) if not lines[i].startswith(" " * 11))
    return " ".join(line[11:] for line in lines[start:end])


def test_an_untrusted_control_is_shouted(base: dict[str, Any]) -> None:
    assert "NOT TO BE TRUSTED" in find(text.render(summaries.typed(base)), "control")
    trusted = base | {"control": base["control"] | {"trusted": True}}
    assert "NOT TO BE TRUSTED" not in text.render(summaries.typed(trusted))
    assert "good" in find(text.render(summaries.typed(trusted)), "control")


def test_what_threatens_a_result_is_said_beside_it(base: dict[str, Any]) -> None:
    said = " ".join(base["warnings"])
    for word in ("governor", "dropped", "hypervisor", "2m pages", "could not be copied", "fewer than ten"):
        assert word in said
    for warning in base["warnings"]:
        assert warning in " ".join(text.render(summaries.typed(base)).split())


def test_the_numbers_in_the_table_are_those_of_the_summary(base: dict[str, Any]) -> None:
    report = text.render(summaries.typed(base))
    (row,) = [line for line in report.splitlines() if line.startswith(" 2  16K")]
    cells = {cell["contender"]: cell for cell in base["cells"]}
    shown = row.split()
    assert float(shown[3]) == pytest.approx(cells["pointer-branch@plain"]["ns"]["median"], abs=6e-4)
    for number, name in zip(
        shown[4:], ("pointer-select", "fakehead", "mask-select", "branchless"), strict=True
    ):
        estimate = cells[f"{name}@plain"]["difference"]["ns"]["estimate"]
        assert float(number.split("+-")[0]) == pytest.approx(estimate, abs=6e-4)


def test_no_verdict_ever_reads_the_same(base: dict[str, Any]) -> None:
    assert "the same as" not in text.render(summaries.typed(base)) and "identical" not in text.render(
        summaries.typed(base)
    )


numbers = st.one_of(
    st.none(),
    st.floats(1e-9, 1e-3),
    st.floats(1e-3, 1e3),
    st.floats(1e3, 1e5),
)
signed = st.one_of(numbers, numbers.map(lambda x: None if x is None else -x), st.just(0.0))
shares = st.one_of(st.none(), st.floats(0, 1))


@st.composite
def ends(draw: st.DrawFn) -> dict[str, float | None]:
    estimate, below, above = draw(signed), draw(numbers), draw(numbers)
    if estimate is None or below is None or above is None:
        return {"estimate": estimate, "low": None, "high": None}
    return {"estimate": estimate, "low": estimate - below, "high": estimate + above}


@st.composite
def odd_summaries(draw: st.DrawFn, base: dict[str, Any]) -> dict[str, Any]:
    """Numbers, names and sizes that no run has been seen with, but that one could have."""
    found = copy.deepcopy(base)
    name = st.from_regex(
        r"(linux|mask|my)-[a-z0-9.+-]{1,16}(@hvo-shared(:memfd)?|@plain:4k|@plain)", fullmatch=True
    )
    names = draw(st.lists(name, min_size=4, max_size=4, unique=True))
    orders = st.integers(0, 22)
    sizes = st.one_of(
        st.sampled_from([KIB, 16 * KIB, 1000 * KIB, 96 * MIB, 32 * GIB]), st.integers(KIB, 32 * GIB)
    )
    order, footprint, touched = draw(orders), draw(sizes), draw(sizes)
    probe = draw(st.sampled_from(["lookup", "chain", "try_get", "prep"]))
    pattern = draw(st.sampled_from(["random", "heads-unaligned", "mixed:0.3333333333333333"]))
    for row in (*found["cells"], *found["harness"], *found["noise"], *found["series"]):
        row |= {"order": order, "footprint_bytes": footprint, "touched_bytes": touched}
        row |= {"probe": probe, "pattern": pattern}
        row["ns"] = {
            "median": draw(numbers),
            "low_quantile": draw(numbers),
            "interval": [draw(numbers), draw(numbers)],
        }
        row["cycles"] = {"median": draw(numbers)}
        row["ratio"] = dict.fromkeys(("low", "high")) | {"estimate": draw(numbers)}
        row["difference"] = {"ns": draw(ends()), "cycles": draw(ends())}
        row["smallest_resolvable_ns"] = draw(numbers)
        if row["verdict"] not in (None, "reference"):
            resolved = (
                ["faster", "slower", "equivalent"] if row["difference"]["ns"]["low"] is not None else []
            )
            row["verdict"] = draw(st.sampled_from(["inconclusive", *resolved]))
            row["p_adjusted"] = draw(shares)
            row["mark"] = judgement.mark(row["verdict"], row["p_adjusted"])
        if draw(st.booleans()):
            row["counts"] = {
                "cycles": draw(numbers),
                "branch_misses": draw(numbers),
                "dtlb_misses": draw(numbers),
            }
    for cell, new in zip([c for c in found["cells"] if c["verdict"] != "reference"], names, strict=True):
        cell["contender"] = new
    found["control"]["cycles"] = draw(ends())
    found["interference"] |= {"steal_share": draw(shares), "dropped_share": draw(shares)}
    found["calibration"] = draw(st.sampled_from([None, {"l3_measured_bytes": 7654321, "latency_ns": []}]))
    found["plan"]["seed"] = draw(st.integers(0, 2**64))
    found["machine"]["cpu_model"] = draw(
        st.sampled_from(["Intel(R) Xeon(R) 6980P", "x" * 90, "Caf\u00e9 \u00ae CPU"])
    )
    found["machine"]["hypervisor"] = draw(st.sampled_from([None, "KVM", "Google Compute Engine"]))
    found["machine"]["kernel_release"] = draw(
        st.sampled_from(["6.18.0", "7.1.0-rc1-00017-g0123456789ab-" + "x" * 50])
    )
    found["machine"]["caches"] = draw(
        st.sampled_from([found["machine"]["caches"], dict.fromkeys(found["machine"]["caches"])])
    )
    words = ["--contenders", ",".join(names), "--orders", "2", "--footprints", "1000K," * 20 + "1G"]
    found["command"] = " ".join(
        ["python -m pagebench run", *words[: 2 * draw(st.integers(0, 3))], "--seed 1"]
    )
    return Odd(found)


@settings(max_examples=100)
@given(data=st.data())
def test_odd_numbers_and_names_fit_as_well(base: dict[str, Any], data: st.DataObject) -> None:
    report = text.render(summarise.conclude(summaries.typed(data.draw(odd_summaries(base)))))
    lines = misfits(report)
    assert lines == []
    assert not re.search(r"\bNone\b|\bnan\b", report)


def test_the_command_can_be_pasted_into_a_shell(base: dict[str, Any]) -> None:
    """Broken over lines it is still the same words."""
    import shlex

    names = ",".join(LONG)
    command = (
        f"python -m pagebench run --contenders {names} --orders 0,2,9 --footprints 16K,128M --seed 12345"
    )
    report = text.render(summaries.typed(base | {"command": command}))
    pasted = report.partition("reproduce with:\n")[2]
    assert shlex.split(pasted.replace("\\\n", "")) == shlex.split(command)


def plan_of_page_size(size: int) -> Plan:
    import dataclasses

    return dataclasses.replace(summaries.plan_of([summaries.group_of(LONG[:2])]), struct_page_bytes=size)


def test_a_struct_page_of_another_size_is_said(tmp_path: Path) -> None:
    for size, said in ((64, False), (96, True)):
        decoded = summaries.summary_of(tmp_path / f"{size}.jsonl", plan_of_page_size(size), made_up)
        report = text.render(summaries.typed(decoded))
        assert ("sizeof(struct page) is 96" in report) == said
