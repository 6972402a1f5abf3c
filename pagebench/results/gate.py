"""A gate: whether a run got slower than another by more than a threshold.

A cell has failed where a larger slow-down is resolved, it has passed where a larger one is ruled out,
and else it is undecided.  Silence is no pass: what was not judged is counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from pagebench.errors import PagebenchError
from pagebench.results import statistics
from pagebench.results.change import Change, Gate, Outcome, Side
from pagebench.results.judgement import SIGNIFICANT
from pagebench.results.statistics import number
from pagebench.results.summary import Summary
from pagebench.units import Unit, parse_amount

FAILED, UNDECIDED = 1, 3


@dataclass(frozen=True, slots=True)
class Threshold:
    """The slow-down from which a gate fails: in ns, core cycles or % of what a cell took before."""

    amount: float
    unit: Unit

    @classmethod
    def parse(cls, text: str) -> Threshold:
        """From ``5%``, ``0.2ns`` or ``0.5cycles``.  Raises PagebenchError."""
        found = parse_amount(text)
        if found is None:
            raise PagebenchError(f"{text!r} is no threshold: write it as 5%, 0.2ns or 0.5cycles")
        return cls(*found)

    def ns(self, before_ns: float, cycles_per_ns: float) -> float:
        """In ns, of a cell."""
        return self.amount * {"ns": 1.0, "cycles": 1 / cycles_per_ns, "%": before_ns / 100}[self.unit]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cell to be judged: its ``change``, what it took before, and the core's cycles per ns.

    ``p_beyond``: p that it did not get slower by more than so many ns.  ``why_not``: what keeps it from being
    judged; empty where nothing does.
    """

    change: Change
    before_ns: float
    cycles_per_ns: float
    p_beyond: Callable[[float], float]
    why_not: str = ""


def judge(
    threshold: Threshold, candidates: Sequence[Candidate], missing: int, before: Side, after: Side
) -> tuple[list[Change], Gate]:
    """The cells with their outcomes, and the gate's."""
    untrusted = [side for side in (before, after) if side.trusted is not True]
    limits = [threshold.ns(one.before_ns, one.cycles_per_ns) for one in candidates]
    ps = [one.p_beyond(limit) for one, limit in zip(candidates, limits, strict=True)]
    judged = []
    for one, limit, p in zip(candidates, limits, statistics.holm(ps), strict=True):
        outcome = "undecided" if untrusted or one.why_not else _outcome(one.change, limit, p)
        judged.append(msgspec.structs.replace(one.change, threshold_ns=number(limit), outcome=outcome))
    counts = {
        name: sum(change.outcome == name for change in judged) for name in ("passed", "failed", "undecided")
    }
    ends = [(_end(one.change), one.before_ns) for one in candidates]
    why_not = [_distrust(side) for side in untrusted]
    reasons = [one.why_not for one in candidates if one.why_not]
    why_not += [f"{reasons.count(why)} cells: {why}" for why in dict.fromkeys(reasons)]
    why_not += [f"{side.name} is not finished" for side in (before, after) if not side.complete]
    if missing:
        why_not.append(f"{missing} cells of {before.name} are not in {after.name}")
    if not judged:
        why_not.append("no cell was compared")
    gate = Gate(
        amount=threshold.amount,
        unit=threshold.unit,
        **counts,
        missing=missing,
        judges_ns=_rounded_up(max((max(end, 0.0) for end, _ in ends), default=math.nan)),
        judges_percent=_rounded_up(max((max(100 * end / ns, 0.0) for end, ns in ends), default=math.nan)),
        why_not=tuple(why_not),
    )
    return judged, gate


def _rounded_up(value: float) -> float | None:
    """Two significant digits, and not less."""
    if not math.isfinite(value):
        return None
    if value == 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return number(math.ceil(value / unit * (1 - 1e-12)) * unit)


def judge_within(threshold: Threshold, summary: Summary) -> list[Outcome]:
    """The comparisons of one run, each contender with the reference.

    Differences are taken within the round there: the interval and what the run resolves are all there is.
    """
    reference_ns = {row.place: row.ns.median for row in summary.cells if row.verdict == "reference"}
    outcomes: list[Outcome] = []
    for row in summary.cells:
        if row.verdict == "reference":
            continue
        ns, floor, before = row.difference.ns, row.smallest_resolvable_ns, reference_ns.get(row.place)
        ends = ns.estimate, ns.low, ns.high, floor, before, row.cycles.median, row.ns.median
        if any(end is None for end in ends):
            outcomes.append("undecided")
            continue
        estimate, low, high, floor, before, cycles, own = (float(end) for end in ends if end is not None)
        limit = threshold.ns(before, cycles / own)
        if low > limit and row.mark == "*":
            outcomes.append("failed")
        else:
            outcomes.append("passed" if max(high, estimate + floor) <= limit else "undecided")
    return outcomes


def exit_code(gate: Gate) -> int:
    """1 where a slow-down is resolved, 3 where not every cell was judged, 0 else."""
    if gate.failed:
        return FAILED
    return UNDECIDED if gate.undecided or gate.missing or gate.why_not or not gate.judged else 0


def _outcome(change: Change, limit: float, p_adjusted: float) -> Outcome:
    estimate, floor = change.ns.estimate, change.smallest_resolvable_ns
    if estimate is None or floor is None:
        return "undecided"
    if estimate > max(limit, floor) and p_adjusted < SIGNIFICANT:
        return "failed"
    return "passed" if _end(change) <= limit else "undecided"


def _end(change: Change) -> float:
    """The largest slow-down that is not ruled out: by the interval, and by what A/A pairs read."""
    estimate, high = change.ns.estimate, change.ns.high
    known = [aa for aa in change.aa_ns if aa is not None]
    if estimate is None or high is None or len(known) < len(change.aa_ns):
        return math.inf
    return max(high, estimate + max(known))


def _distrust(side: Side) -> str:
    if side.trusted is None:
        return f"the positive control of {side.name} is not finished"
    return f"the positive control of {side.name} is off: it is not to be trusted, run it again"
