"""What was measured, explained: cycles of the loop's chain, misses times what they take, and the rest.

Latencies are fitted to named cells of the run itself: the L3 that one gets moves from hour to hour, and with
it every latency beyond L2.  All other cells are held out.  What no term explains is the rest, never hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from pagebench import names
from pagebench.plan.groups import Plan
from pagebench.results.explanation import Explained, Explanation, HeldOut, Parameter, Terms
from pagebench.results.simulated import Counts, Simulated
from pagebench.results.statistics import median, number
from pagebench.results.summary import Row
from pagebench.units import format_size

# The pages of which every lookup waits for the page's own word, whatever the variant.
CHASE_ORDER = 0
# Of lookups: as many at least wait for a load, or else they run ahead of memory.
LATENCY_BOUND = 0.9
FORESEEN = 0.001
# What share of the measured time is a good explanation, as it is counted.
CLOSE = 0.05


@dataclass(frozen=True)
class _Cell:
    row: Row
    counts: Counts
    cycles: float
    # Whether encodings take turns in its group.
    turns: bool

    @property
    def name(self) -> str:
        row = self.row
        return (
            f"{row.contender} {row.probe} order {row.order} {format_size(row.footprint_bytes)} {row.pattern}"
        )

    @property
    def ahead(self) -> float:
        """The share of lookups that are predicted not to wait for a load, and so have the next one's begin.

        Right or wrong, that one does not miss then.  Predictions that know nothing of the outcome go wrong in
        h (1 - p) + (1 - h) p, where h of the ways have no load and p are predicted to have none.
        """
        h, wrong = 1 - self.counts.chain.loads, self.counts.mispredictions["bimodal"]
        return max(0.0, (wrong - h) / (1 - 2 * h)) if FORESEEN < h < 0.5 else 0.0

    @property
    def misses(self) -> list[float]:
        """Of three levels, that a lookup waits for."""
        return [share * (1 - self.ahead) for share in [*self.counts.misses, 0.0, 0.0][:3]]

    def count(self, step: str) -> float:
        """How often a lookup waits for it."""
        level = step.removesuffix(" in turns")
        return self.walks if level == "walk" else self.misses[("l2", "l3", "memory").index(level)]

    @property
    def walks(self) -> float:
        """Of page tables."""
        return self.counts.tlb_misses[-1] * (1 - self.ahead)

    @property
    def chase(self) -> bool:
        """Whether every lookup waits for the load of the one before, and for nothing but that."""
        counts, row = self.counts, self.row
        return (
            row.probe == "chain"
            and row.layout == names.PLAIN
            and row.pattern == "random"
            and counts.chain.loads > 1 - FORESEEN
            and counts.mispredictions["bimodal"] < FORESEEN
        )

    @property
    def loads(self) -> float:
        """Loads in the chain; where a branch is foreseen wrongly, its word's load has to come back first."""
        chain, wrong = self.counts.chain, self.counts.mispredictions["bimodal"]
        return min(chain.loads + wrong, max(1.0, float(np.ceil(chain.loads - FORESEEN))))


def explain(plan: Plan, cells: Sequence[Row], simulated: Simulated | None, ghz: float) -> Explanation | None:
    """Fit the parameters and model every chain; None where nothing was simulated.

    ``cells`` are a summary's, ``ghz`` the run's median core clock.
    """
    if simulated is None:
        return None
    measured = list(_paired(plan, cells, simulated, ghz))
    fit = _Fit(simulated, plan)
    fit.fit(measured)
    rows = tuple(fit.explained(cell) for cell in measured)
    modelled = [row for row in rows if row.terms is not None and not row.fitted]
    inside = [row for row in modelled if row.core_clock]
    return Explanation(
        ghz=ghz,
        parameters=fit.parameters,
        rows=rows,
        inside=_held_out(inside),
        hvo=_held_out(row for row in inside if f"@{names.PLAIN}" not in row.contender),
        beyond=_held_out(row for row in modelled if not row.core_clock),
    )


def _paired(plan: Plan, cells: Sequence[Row], simulated: Simulated, ghz: float) -> Iterable[_Cell]:
    counts = {}
    turns = {
        (group.order, group.footprint_bytes, group.pattern, group.probe): len(
            {cell.tail_words for cell in group.cells}
        )
        > 1
        for group in plan.groups
    }
    for one in simulated.cells:
        group = plan.groups[one.group]
        place = (group.order, group.footprint_bytes, group.pattern, group.probe)
        counts[(str(group.cells[one.cell].contender), *place)] = one.counts
    for row in cells:
        key = (row.contender, row.order, row.footprint_bytes, row.pattern, row.probe)
        # Not of a damaged file that says 0.
        if key in counts and row.ns.median is not None and row.ns.median > 0:
            yield _Cell(row, counts[key], row.ns.median * ghz, turns[key[1:]])


def _held_out(rows: Iterable[Explained]) -> HeldOut:
    rests = [abs(row.rest_share) for row in rows]
    if not rests:
        return HeldOut(0, None, None, 0)
    return HeldOut(
        len(rests), number(median(np.array(rests))), number(max(rests)), sum(rest <= CLOSE for rest in rests)
    )


class _Fit:
    """The parameters, one after the other: each from cells in which nothing else is unknown."""

    def __init__(self, simulated: Simulated, plan: Plan) -> None:
        self._plan = plan
        self._tlbs = simulated.geometry.tlbs
        self.parameters: dict[str, Parameter] = {}
        self.forms: dict[str, float] = {}
        self.used: set[str] = set()

    def _set(self, name: str, cycles: float | None, cells: Sequence[_Cell]) -> None:
        said = "; ".join(cell.name for cell in cells) or "no cell of this run tells"
        self.parameters[name] = Parameter(None if cycles is None else number(cycles), said)
        self.used |= {cell.name for cell in cells}

    def _of(self, name: str) -> float:
        parameter = self.parameters.get(name)
        return 0.0 if parameter is None or parameter.cycles is None else parameter.cycles

    def fit(self, measured: Sequence[_Cell]) -> None:
        """All of them, from the chases outwards."""
        tlbs = self._tlbs
        if tlbs is not None and tlbs.second_cycles is not None:
            self.parameters["tlb"] = Parameter(tlbs.second_cycles, "documented")
        chases = [cell for cell in measured if cell.chase]
        of_base_pages = [cell for cell in chases if cell.row.order == CHASE_ORDER]
        self._fit_loads([cell for cell in of_base_pages if cell.misses[0] < FORESEEN])
        self._fit_l2(of_base_pages)
        for turns in (False, True):
            self._fit_beyond(turns, chases, measured)
        self._fit_mispredictions(measured)

    def _fit_loads(self, in_l1: Sequence[_Cell]) -> None:
        """A hit of L1, as the form that takes least of it does; what others take more is their form's."""
        if not in_l1:
            self._set("load", None, [])
            return
        least = min(in_l1, key=lambda cell: cell.cycles - cell.counts.chain.cycles)
        self._set("load", least.cycles - least.counts.chain.cycles, [least])
        for cell in in_l1:
            more = cell.cycles - cell.counts.chain.cycles - self._of("load")
            if cell.row.variant not in self.forms:
                self.forms[cell.row.variant] = more
                self._set(f"form of {cell.row.variant}", more, [cell])
            self.used.add(cell.name)

    def _fit_l2(self, chases: Sequence[_Cell]) -> None:
        """What L2 takes more, from the smallest chases that miss L1: they are farthest from L2's edge."""
        inside = [cell for cell in chases if cell.misses[0] > FORESEEN and cell.misses[1] < FORESEEN]
        smallest = min((cell.row.footprint_bytes for cell in inside), default=0)
        self._fit_steps(("l2",), [cell for cell in inside if cell.row.footprint_bytes == smallest])

    def _fit_beyond(self, turns: bool, chases: Sequence[_Cell], measured: Sequence[_Cell]) -> None:
        """What the L3 and memory take more, where encodings take turns and where they do not; and page walks.

        Walks and misses go together but in HVO's cells.  Where there is none to tell them apart, what a walk
        takes is in what memory takes.
        """
        beyond = [cell for cell in chases if cell.turns is turns and cell.misses[1] > FORESEEN]
        lowest = min((cell.row.order for cell in beyond), default=0)
        cells = [cell for cell in beyond if cell.row.order == lowest]
        together = [cell.walks / cell.misses[-1] for cell in cells if cell.misses[-1] > FORESEEN]
        apart = [
            cell
            for cell in measured
            if together
            and cell.turns is turns
            and cell not in cells
            and cell.row.probe == "chain"
            and cell.loads >= LATENCY_BOUND
            # What a misprediction takes is not known yet.
            and cell.counts.mispredictions["bimodal"] < 20 * FORESEEN
            and cell.walks >= max(0.1, 2 * max(together) * cell.misses[-1])
        ]
        walks = ("walk",) if apart else ()
        self._fit_steps(
            tuple(_step(name, turns) for name in ("l3", "memory", *walks)),
            [*cells, *sorted(apart, key=lambda cell: cell.misses[-1] / cell.walks)[:1]],
        )

    def _fit_steps(self, steps: Sequence[str], cells: Sequence[_Cell]) -> None:
        """Least squares of relative errors; what is known already is taken out first."""
        counts = np.array([[cell.count(step) for step in steps] for cell in cells]).reshape(-1, len(steps))
        seen = counts.max(axis=0, initial=0.0) > FORESEEN
        took = np.array([cell.cycles - self._terms(cell).total for cell in cells])
        weights = 1 / np.array([cell.cycles for cell in cells])
        fitted = iter(_nonnegative(counts[:, seen] * weights[:, None], took * weights) if seen.any() else [])
        for i, step in enumerate(steps):
            mine = [cell for cell, count in zip(cells, counts[:, i], strict=True) if count > FORESEEN]
            self._set(step, next(fitted) if seen[i] else None, mine)

    def _fit_one(
        self, name: str, measured: Sequence[_Cell], count: Callable[[_Cell], float], least: float
    ) -> None:
        """From the one cell in which there are most of something, the smaller and the nearer to L1 first."""
        able = [cell for cell in measured if self._why_not(cell) == "" and count(cell) >= least]
        if not able:
            self._set(name, None, [])
            return
        # In life a cell of fewer unknowns; counts are alike to a per cent.
        found = min(able, key=lambda cell: (cell.row.footprint_bytes, -round(count(cell), 2)))
        terms = self._terms(found)
        self._set(name, max(0.0, (found.cycles - terms.total) / count(found)), [found])

    def _fit_mispredictions(self, measured: Sequence[_Cell]) -> None:
        self._fit_one(
            "misprediction",
            [cell for cell in measured if cell.row.probe == "chain"],
            lambda cell: cell.counts.mispredictions["bimodal"],
            0.1,
        )

    def _code(self, cell: _Cell) -> float:
        return cell.counts.chain.cycles + cell.loads * self._of("load")

    def _terms(self, cell: _Cell) -> Terms:
        counts, misses = cell.counts, cell.misses
        return Terms(
            code=self._code(cell),
            form=self.forms.get(cell.row.variant, 0.0),
            l2=misses[0] * self._of("l2"),
            l3=misses[1] * self._of(_step("l3", cell.turns)),
            memory=misses[2] * self._of(_step("memory", cell.turns)),
            aliases=counts.aliases * self._of("l2"),
            tlb=counts.tlb_misses[0] * (1 - cell.ahead) * self._of("tlb"),
            walks=cell.walks * self._of(_step("walk", cell.turns)),
            mispredictions=counts.mispredictions["bimodal"] * self._of("misprediction"),
        )

    def _why_not(self, cell: _Cell) -> str:
        """Why no model holds."""
        if cell.row.probe not in CHAINS:
            return "not a chain: lookups overlap"
        if cell.loads < LATENCY_BOUND:
            return "runs ahead: lookups do not wait for memory"
        if self.parameters["load"].cycles is None:
            return "no chase in L1 in this run"
        steps = ("l2", _step("l3", cell.turns), _step("memory", cell.turns))
        for step, share in zip(steps, cell.misses, strict=True):
            if share > FORESEEN and self.parameters[step].cycles is None:
                return f"no chase in this run tells what {step} takes"
        return ""

    def explained(self, cell: _Cell) -> Explained:
        """A cell by all terms."""
        row, why_not = cell.row, self._why_not(cell)
        terms = None if why_not else _rounded(self._terms(cell))
        return Explained(
            contender=row.contender,
            order=row.order,
            footprint_bytes=row.footprint_bytes,
            pattern=row.pattern,
            probe=row.probe,
            level=row.level,
            core_clock=self._plan.levels.at_core_clock(row.footprint_bytes),
            measured_cycles=round(cell.cycles, 4),
            terms=terms,
            rest_cycles=None if terms is None else round(cell.cycles - terms.total, 4),
            fitted=cell.name in self.used,
            why_not=why_not,
        )


def _step(name: str, turns: bool) -> str:
    """The parameter's name: where encodings take turns, lines were last looked up longer ago."""
    return f"{name} in turns" if turns else name


# Probes of which each lookup waits for the one before.
CHAINS = ("chain", "flags")


def _rounded(terms: Terms) -> Terms:
    return Terms(*(round(value, 4) for value in msgspec.structs.astuple(terms)))


def _nonnegative(shares: np.ndarray, took: np.ndarray) -> list[float]:
    """Least squares; what comes out below 0 is 0, and the others are fitted again."""
    kept = np.ones(shares.shape[1], np.bool_)
    while kept.any():
        solved = np.linalg.lstsq(shares[:, kept], took, rcond=None)[0]
        if solved.min() >= 0:
            break
        kept[np.flatnonzero(kept)[solved.argmin()]] = False
    found = np.zeros(shares.shape[1])
    if kept.any():
        found[kept] = solved
    return [float(value) for value in found]
