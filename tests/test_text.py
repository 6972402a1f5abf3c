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

import msgspec
import pytest
import reports
import summaries
from hypothesis import given, settings
from hypothesis import strategies as st
from reports import LONG
from summaries import made_up

from pagebench.plan.groups import Plan
from pagebench.report import text
from pagebench.results import judgement, summarise
from pagebench.units import GIB, KIB, MIB

GOLDEN = Path(__file__).parent / "golden"


def misfits(report: str) -> list[str]:
    lines = report.splitlines()
    return [line for line in lines if len(line) > text.WIDTH or not line.isascii() or line != line.rstrip()]


def check_golden(name: str, report: str, tests: str) -> None:
    """A report against its file, which those tests can write."""
    golden = GOLDEN / f"{name}.txt"
    if os.environ.get("PAGEBENCH_UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        golden.write_text(report)
    expected = golden.read_text().splitlines()
    changed = "\n".join(difflib.unified_diff(expected, report.splitlines(), str(golden), "now", lineterm=""))
    assert not changed, f"{changed}\nPAGEBENCH_UPDATE_GOLDEN=1 pytest {tests} takes it over"


@pytest.mark.parametrize("name", reports.NAMES)
def test_the_report_is_the_golden_one(name: str) -> None:
    check_golden(name, reports.text_of(name), "tests/test_text.py")


@pytest.mark.parametrize("name", reports.NAMES)
def test_every_line_fits_a_mail(name: str) -> None:
    report = reports.text_of(name)
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
def base() -> Odd:
    return Odd(reports.summary_of("untrusted"))


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
    for word in (
        "governor",
        "context switch",
        "hypervisor",
        "2m pages",
        "could not be copied",
        "fewer than ten",
    ):
        assert word in said
    for warning in base["warnings"]:
        assert warning in " ".join(text.render(summaries.typed(base)).split())


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
    found["calibration"] = draw(
        st.sampled_from(
            [
                None,
                {"l3_measured_bytes": 7654321, "latency_ns": []},
                {"l3_measured_bytes": 7654321, "latency_ns": [], "l3_half_life_ms": 123.456},
            ]
        )
    )
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
@pytest.mark.slow
def test_odd_numbers_and_names_fit_as_well(base: dict[str, Any], data: st.DataObject) -> None:
    odd = summaries.typed(data.draw(odd_summaries(base)))
    concluded = summarise.conclusions(odd.cells, odd.noise, odd.null)
    report = text.render(msgspec.structs.replace(odd, **concluded))
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
