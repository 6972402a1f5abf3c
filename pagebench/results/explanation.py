"""What an explanation of measured times is, typed: parameters, cells by terms, and the rest."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from pagebench.names import Level

Number = float | None


class Terms(msgspec.Struct, frozen=True):
    """Core cycles of a lookup, by what they are waited for.

    ``code``: the chain through registers and hits of L1; ``form``: what the variant's form takes more, as
    seen in its own cell at order 0 in L1; ``l2``, ``l3``, ``memory``: what misses of the level before take
    more; ``aliases``: lines reached by another linear address; ``tlb``: hits of the second-level TLB;
    ``walks`` of page tables; ``mispredictions`` of branches.
    """

    code: float
    form: float
    l2: float
    l3: float
    memory: float
    aliases: float
    tlb: float
    walks: float
    mispredictions: float

    @property
    def total(self) -> float:
        """All of them."""
        return float(sum(msgspec.structs.astuple(self)))


class Parameter(msgspec.Struct, frozen=True):
    """Cycles that one of something takes, and which cells or which source say so; null where none does."""

    cycles: Number
    source: str


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """A cell: measured, modelled, and the rest in cycles; ``fitted``: a parameter is from it.

    ``terms`` is null where no model holds, and ``why_not`` says why.
    """

    contender: str
    order: int
    footprint_bytes: int
    pattern: str
    probe: str
    level: Level
    core_clock: bool
    measured_cycles: float
    terms: Terms | None
    rest_cycles: Number
    fitted: bool
    why_not: str

    @property
    def rest_share(self) -> float:
        """Of the measured time."""
        return 0.0 if self.rest_cycles is None else self.rest_cycles / self.measured_cycles


class HeldOut(msgspec.Struct, frozen=True):
    """How well cells are explained that nothing was fitted to: shares of the measured time."""

    cells: int
    median_rest: Number
    worst_rest: Number
    close: int


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """All chains of a run: ``parameters`` by term, ``rows``, and how good it is.

    ``inside``: cells up to half of L2; ``hvo``: of those, HVO's; ``beyond``: all others.  ``ghz``: the core
    clock by which cycles are ns.
    """

    ghz: float
    parameters: Mapping[str, Parameter]
    rows: tuple[Explained, ...]
    inside: HeldOut
    hvo: HeldOut
    beyond: HeldOut
