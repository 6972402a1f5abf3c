"""What changed from one run to another, typed: all that `compare` says, judged already.

``compare --format json`` is this, encoded.  Times are ns and core cycles per lookup.  A number is null where
there is none.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from pagebench.host.machine import Machine
from pagebench.names import Level, Verdict
from pagebench.results.lines import Compiler, Tool
from pagebench.results.summary import Estimate, Mark, Number
from pagebench.units import Unit

SCHEMA = 1

# What a cell is taken to first: with the same machine code in both runs.
Anchor = Literal["reference", "harness"]
Outcome = Literal["passed", "failed", "undecided"]


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is compared.  ``trusted``: what its positive control says; null where none is finished."""

    name: str
    created: str
    command: str
    tool: Tool
    machine: Machine
    compiler: Compiler
    core_ghz: Number
    processes: int
    complete: bool
    trusted: bool | None


class Differs(msgspec.Struct, frozen=True):
    """What is not alike in two runs; ``refused``: no numbers are compared across it unless forced."""

    what: str
    before: str
    after: str
    refused: bool = False


class Center(msgspec.Struct, frozen=True):
    """benchstat's column of a run: the median over processes, and the values that it lies between."""

    median: Number
    low: Number
    high: Number
    processes: int


class Absolute(msgspec.Struct, frozen=True):
    """A cell's times in both runs, each at its own core clock, as benchstat compares them.

    ``ratio``: of the medians; ``p``: of the Mann-Whitney U test, not adjusted.
    """

    before: Center
    after: Center
    ratio: Number
    p: Number


class Code(msgspec.Struct, frozen=True):
    """The variant's own part of a loop: its form, instructions and bytes.

    ``immovable``: it is tied to its address, as what calls something is.
    """

    form: str
    instructions: int
    bytes: int
    immovable: bool = False


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A cell in two runs.

    ``anchor``: what it is taken to in both runs; null where no loop has the same code in both.  Of the
    reference, that others are taken to, nothing is judged.  ``ns``, ``cycles``: the difference of the
    differences to it, inside L2 at the first run's core clock; ``percent``: of the cell's time in the first.
    ``aa_ns``: the largest |A/A| of the cell's probe and cache level in either run; ``between_runs_ns``: the
    root mean square of what differs there though the machine code is the same, ``between_runs_assumed`` where
    nothing says that.  ``outcome``: a gate's, and
    ``threshold_ns`` its threshold.
    """

    contender: str
    order: int
    footprint_bytes: int
    pattern: str
    probe: str
    level: Level
    level_after: Level
    code: Code
    code_after: Code
    same_code: bool
    absolute: Absolute
    anchor: Anchor | None
    ns: Estimate
    cycles: Estimate
    percent: Number
    p_adjusted: Number
    aa_ns: tuple[Number, Number]
    between_runs_ns: Number
    between_runs_assumed: bool
    smallest_resolvable_ns: Number
    verdict: Verdict | None
    mark: Mark | None
    threshold_ns: Number = None
    outcome: Outcome | None = None


class Mean(msgspec.Struct, frozen=True):
    """Geometric means over a probe's cells: of the ratios of times, and of what is judged of them.

    ``anchored``: of (cell / reference after) / (cell / reference before).
    """

    probe: str
    cells: int
    ratio: Number
    anchored: Number


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """Whether nothing got slower by more than ``amount`` ``unit``.

    ``missing``: cells of the first run that the second has not.  ``judges_ns``, ``judges_percent``: the
    smallest thresholds at which every cell would have passed or failed.  ``why_not``: what kept all cells
    from being judged.
    """

    amount: float
    unit: Unit
    passed: int
    failed: int
    undecided: int
    missing: int
    judges_ns: Number
    judges_percent: Number
    why_not: tuple[str, ...]

    @property
    def threshold(self) -> str:
        """As it is written."""
        return f"{self.amount:g} {self.unit}"

    @property
    def judged(self) -> int:
        """How many cells passed or failed."""
        return self.passed + self.failed


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """One run against the first.  ``only_before``, ``only_after``: cells that the other one has not."""

    before: Side
    after: Side
    reference: str
    differs: tuple[Differs, ...]
    same_code: tuple[str, ...]
    other_code: tuple[str, ...]
    cells: tuple[Change, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    means: tuple[Mean, ...]
    margin_cycles: float
    warnings: tuple[str, ...]
    gate: Gate | None = None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Runs against the first one, in the order in which they were named."""

    schema: int = SCHEMA
    runs: tuple[Changes, ...]
