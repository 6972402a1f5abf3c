"""A gate's outcomes, and that silence is no pass."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from test_changing import change_of, side_of

from pagebench.errors import PagebenchError
from pagebench.results import gate
from pagebench.results.gate import Candidate, Threshold
from pagebench.results.summary import Estimate

FIFTH = Threshold(0.2, "ns")


def candidate(estimate: float, half: float, p: float = 0.0, why_not: str = "", **changes: Any) -> Candidate:
    ends = Estimate(estimate, estimate - half, estimate + half)
    change = msgspec.structs.replace(change_of(), ns=ends, smallest_resolvable_ns=half, **changes)
    return Candidate(change, 4.0, 3.0, lambda _: p, why_not)


def outcome(
    *candidates: Candidate, missing: int = 0, **sides: Any
) -> tuple[list[str | None], gate.Gate, int]:
    before, after = (side_of(name, **sides) for name in ("old", "new"))
    judged, found = gate.judge(FIFTH, candidates, missing, before, after)
    return [change.outcome for change in judged], found, gate.exit_code(found)


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [("5%", 5.0, "%"), (".2 ns", 0.2, "ns"), ("0.5cycles", 0.5, "cycles"), ("1cycle", 1.0, "cycles")],
)
def test_thresholds(text: str, amount: float, unit: str) -> None:
    found = Threshold.parse(text)
    assert (found.amount, found.unit) == (amount, unit)


@pytest.mark.parametrize("text", ["", "5", "0ns", "-1%", "5 percent", "nan%", "1e3ns"])
def test_what_is_no_threshold(text: str) -> None:
    with pytest.raises(PagebenchError, match=r"is no threshold: write it as 5%, 0.2ns or 0.5cycles"):
        Threshold.parse(text)


def test_a_threshold_in_ns_of_a_cell() -> None:
    assert Threshold(5.0, "%").ns(4.0, 3.0) == pytest.approx(0.2)
    assert Threshold(0.6, "cycles").ns(4.0, 3.0) == pytest.approx(0.2)
    assert Threshold(0.2, "ns").ns(4.0, 3.0) == 0.2


@pytest.mark.parametrize(
    ("one", "expected", "code"),
    [
        (candidate(0.0, 0.1), "passed", 0),
        (candidate(-3.0, 1.0), "passed", 0),  # faster, by whatever
        (candidate(0.5, 0.1), "failed", 1),
        (candidate(0.5, 0.1, p=0.06), "undecided", 3),
        (candidate(0.5, 0.6), "undecided", 3),  # below what is resolved
        (candidate(0.15, 0.1), "undecided", 3),  # resolved, but not whether it is above the threshold
        (candidate(0.0, 0.3), "undecided", 3),
        (candidate(0.0, math.inf), "undecided", 3),
        # A/A pairs that read more than the threshold: an interval alone is not believed.
        (candidate(0.0, 0.1, aa_ns=(0.01, 0.3)), "undecided", 3),
        (candidate(0.0, 0.1, why_not="the L3 is another one"), "undecided", 3),
    ],
)
def test_outcomes(one: Candidate, expected: str, code: int) -> None:
    assert outcome(one)[::2] == ([expected], code)


def test_one_that_failed_weighs_more_than_one_that_is_undecided() -> None:
    outcomes, found, code = outcome(candidate(0.5, 0.1), candidate(0.0, 0.3), candidate(0.0, 0.1))
    assert outcomes == ["failed", "undecided", "passed"]
    assert (found.failed, found.undecided, found.passed, found.judged, code) == (1, 1, 1, 2, 1)


def test_p_is_adjusted_for_the_number_of_cells() -> None:
    few, many = [candidate(0.5, 0.1, p=0.02)], [candidate(0.5, 0.1, p=0.02)] * 3
    assert outcome(*few)[0] == ["failed"]
    assert outcome(*many)[0] == ["undecided"] * 3


@pytest.mark.parametrize("trusted", [False, None])
def test_nothing_is_judged_by_a_run_that_is_not_to_be_trusted(trusted: bool | None) -> None:
    outcomes, found, code = outcome(candidate(0.0, 0.1), candidate(0.5, 0.1), trusted=trusted)
    assert outcomes == ["undecided", "undecided"]
    assert code == 3
    assert all("control" in why for why in found.why_not)


def test_silence_is_no_pass() -> None:
    assert outcome()[2] == 3
    _, found, code = outcome(candidate(0.0, 0.1), missing=2)
    assert code == 3
    assert "2 cells of old are not in new" in found.why_not
    assert outcome(candidate(0.0, 0.1), complete=False)[2] == 3


def test_the_threshold_that_would_be_judged() -> None:
    _, found, _ = outcome(candidate(0.1, 0.3), candidate(-0.5, 0.1))
    assert found.judges_ns == pytest.approx(0.4)
    assert found.judges_percent == pytest.approx(10.0)
    exact = gate.judge(
        Threshold(0.41, "ns"), [candidate(0.1, 0.3), candidate(-0.5, 0.1)], 0, side_of(), side_of()
    )
    assert gate.exit_code(exact[1]) == 0


def test_what_could_be_judged_is_rounded_up_and_counts_what_failed() -> None:
    _, found, _ = outcome(candidate(0.1, 0.2341), candidate(1.0, 0.1))
    assert found.failed == 1
    assert found.judges_ns == pytest.approx(1.1)
    _, found, _ = outcome(candidate(0.1, 0.2341))
    assert found.judges_ns == pytest.approx(0.34)


def test_an_aa_pair_of_one_run_alone_is_not_enough() -> None:
    assert outcome(candidate(0.0, 0.1, aa_ns=(0.01, None)))[::2] == (["undecided"], 3)
