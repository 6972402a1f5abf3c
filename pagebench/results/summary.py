"""The summary of a run, typed: everything that a report says, judged already.

``show --format json`` is this, encoded; docs/summary.schema.json is its schema.  Times are ns and core cycles
per lookup.  A number is null where there is none: an interval of one process has no ends.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from pagebench.host.machine import Machine
from pagebench.names import Level, Verdict
from pagebench.plan.groups import Plan, Target
from pagebench.results.explanation import Explanation
from pagebench.results.lines import Calibration, Compiler, Tool, VariantCode
from pagebench.results.simulated import Simulated

SCHEMA = 2

Number = float | None
# * resolved, and significant after Holm's adjustment; + resolved; = equivalent; ? inconclusive.
Mark = Literal["*", "+", "=", "?"]


class Estimate(msgspec.Struct, frozen=True):
    """A point estimate with the ends of its 95 % interval over processes."""

    estimate: Number
    low: Number
    high: Number


class Times(msgspec.Struct, frozen=True):
    """Medians and low quantiles over rounds, then medians over processes; the median's interval.

    Up to half of L2, at the run's median core clock.
    """

    median: Number
    low_quantile: Number
    interval: tuple[Number, Number]


class Cycles(msgspec.Struct, frozen=True):
    """Core cycles, by the add chain around each round."""

    median: Number


class Difference(msgspec.Struct, frozen=True):
    """To the group's reference, taken within the round."""

    ns: Estimate
    cycles: Estimate


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A cell: what it is, what it takes, and how it differs from the group's reference.

    ``backing`` is the one obtained; ``counts`` are hardware events per lookup, empty without a PMU;
    ``smallest_resolvable_ns``: below it there is no verdict.  Harness and A/A rows have no verdict.
    ``level_at_end``: by the L3 that was there when the run ended.
    """

    contender: str
    variant: str
    layout: str
    backing: str
    order: int
    footprint_bytes: int
    touched_bytes: int
    pattern: str
    probe: str
    level: Level
    level_at_end: Level
    form: str
    processes: int
    counts: Mapping[str, Number]
    rounds_dropped: Number
    ns: Times
    cycles: Cycles
    ratio: Estimate
    difference: Difference
    p_adjusted: Number = None
    verdict: Verdict | None = None
    mark: Mark | None = None
    smallest_resolvable_ns: Number = None

    @property
    def place(self) -> tuple[str, str, int, int]:
        """Probe, pattern, order and footprint: what the cells of a group have in common."""
        return self.probe, self.pattern, self.order, self.footprint_bytes


class SeriesRow(Row, frozen=True, kw_only=True):
    """A question's answer: ``after`` compared with ``before``; ``tree``: of kernel trees."""

    question: str
    before: str
    after: str
    tree: bool


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """The positive control: one dependent add.  A run whose control is off is not to be trusted."""

    cycles: Estimate
    ns: Estimate
    expected_cycles: float
    tolerance_cycles: float
    trusted: bool
    order: int
    footprint_bytes: int
    processes: int


class Finished(msgspec.Struct, frozen=True):
    """Samplings (a group in a process) that are finished and that were planned; processes begun."""

    samplings: int
    planned: int
    processes: int


class CoreClock(msgspec.Struct, frozen=True):
    """The core clock in GHz: the median of the samplings' medians, and their range."""

    median: Number
    low: Number
    high: Number


class Clock(msgspec.Struct, frozen=True):
    """The clock that timed: its kind, its step, what a read costs; and the core's, by the add chain."""

    kind: str
    granularity_ns: float
    cost_ns: float
    core_ghz: CoreClock


class Interference(msgspec.Struct, frozen=True):
    """What disturbed the run.

    ``clock_dropped_share``: of the samples, those in which the core clock changed by more than 1 %.
    ``clock_changed_share``: of the rounds beyond half of L2, those whose cells met core clocks that differ by
    more than 1 %; their comparisons leave them out.  ``steal_share`` is of the workers' time.
    """

    samples: int
    samples_dropped: int
    dropped_share: Number
    clock_dropped_share: Number
    clock_changed_share: Number
    context_switches: int
    steal_share: Number
    immovable_loops: int
    unsteady_samplings: int


class NoiseMaximum(msgspec.Struct, frozen=True):
    """The largest |A/A| or |null between encodings| of a cache level, over ``pairs``."""

    level: Level
    ns: float
    pairs: int


class Resolved(msgspec.Struct, frozen=True):
    """Every difference of this probe and level was resolved down to so many ns."""

    probe: str
    level: Level
    ns: float


class Span(msgspec.Struct, frozen=True):
    """How many cells have a verdict, and the smallest and largest of their differences, by size."""

    count: int
    least_ns: Number
    most_ns: Number


class Overall(msgspec.Struct, frozen=True):
    """All cells of a contender: how many have which verdict, and the geometric mean of their ratios."""

    contender: str
    cells: int
    verdicts: Mapping[str, Span]
    geometric_mean_ratio: Number


class Inconclusive(msgspec.Struct, frozen=True):
    """Where neither a difference nor its absence was shown: (probe, level) pairs."""

    count: int
    where: tuple[tuple[str, Level], ...]


class Significant(msgspec.Struct, frozen=True):
    """How many comparisons have p below ``level`` (t-test over processes, Holm-adjusted)."""

    level: float
    below: int
    comparisons: int


class Operation(msgspec.Struct, frozen=True):
    """``lookups`` random lookups of a contender in us: of the reference, or the difference to it.

    Null where that is inconclusive.
    """

    probe: str
    contender: str
    order: int
    footprint_bytes: int
    lookups: int
    verdict: Verdict | None
    us: Number


class Unresolved(msgspec.Struct, frozen=True, kw_only=True):
    """A comparison that does not resolve the target yet.

    ``resolvable``: what it resolves, in the target's unit.  ``processes_needed`` is null where no number of
    them helps: a difference that is known to be zero reads more than the target.
    """

    contender: str
    probe: str
    pattern: str
    order: int
    footprint_bytes: int
    level: Level
    resolvable: Number
    processes: int
    processes_needed: int | None


class Resolution(msgspec.Struct, frozen=True):
    """What was asked to be resolved, in so many comparisons, and which do not; the seconds for the rest."""

    target: Target
    comparisons: int
    unresolved: tuple[Unresolved, ...]
    seconds_needed: float


class Static(msgspec.Struct, frozen=True, kw_only=True):
    """Cycles of a turn in L1: predicted, measured, and what the prediction leaves unexplained.

    ``difference_rest``: what it leaves of the difference to the reference.  Null where the loop has a way
    around, and in the reference's row.
    """

    contender: str
    probe: str
    order: int
    footprint_bytes: int
    predicted: Number
    measured: Number
    rest: Number
    difference_rest: Number


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A run, or as much of it as is finished."""

    schema: int = SCHEMA
    tool: Tool
    created: str
    command: str
    finished: Finished
    plan: Plan
    machine: Machine
    compiler: Compiler
    calibration: Calibration | None
    recalibration: Calibration | None
    variants: Mapping[str, VariantCode]
    warnings: tuple[str, ...]
    limits: str
    margin_cycles: float
    masks_fall_back: bool
    clock: Clock
    interference: Interference
    timed_share: Mapping[Level, Number]
    control: Control | None
    cells: tuple[Row, ...]
    harness: tuple[Row, ...]
    noise: tuple[Row, ...]
    null: tuple[Row, ...]
    series: tuple[SeriesRow, ...]
    noise_maxima: tuple[NoiseMaximum, ...]
    null_maxima: tuple[NoiseMaximum, ...]
    overall: tuple[Overall, ...]
    resolved: tuple[Resolved, ...]
    inconclusive: Inconclusive
    significant: Significant
    resolution: Resolution | None
    predictor: str | None
    static: tuple[Static, ...]
    operations: tuple[Operation, ...]
    simulated: Simulated | None
    explanation: Explanation | None


def to_json(judged: msgspec.Struct) -> str:
    """A summary, or what is made of several, as JSON, indented."""
    return msgspec.json.format(msgspec.json.encode(judged), indent=1).decode()


def json_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of what to_json() gives."""
    schema = _by_any_version(msgspec.json.schema(Summary))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _by_any_version(schema: Any) -> Any:
    """What each msgspec makes of it: from 0.23 on it names keys, and takes the indent off descriptions."""
    if isinstance(schema, list):
        return [_by_any_version(value) for value in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: inspect.cleandoc(value)
        if key == "description" and isinstance(value, str)
        else _by_any_version(value)
        for key, value in schema.items()
        if key != "propertyNames"
    }
