"""Cache behaviour as text, 75 columns, and as CSV: what was simulated, per lookup."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from pagebench.host.machine import Machine
from pagebench.names import LINE_BYTES, PREDICTORS
from pagebench.plan.groups import Cell, Group, Plan
from pagebench.report.explained import explained_tables, how_good
from pagebench.report.tables import cut, ordered, paragraph, short, size_text
from pagebench.results.explanation import Explanation
from pagebench.results.lines import Tool
from pagebench.results.simulated import Counts, Simulated
from pagebench.results.summary import Row


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """A plan with what was simulated for it, and where; with a run's file, its times explained.

    ``forms``: what each variant's tail test is, by probe.
    """

    tool: Tool
    machine: Machine
    plan: Plan
    forms: Mapping[str, Mapping[str, str]]
    simulated: Simulated
    explanation: Explanation | None = None
    warnings: tuple[str, ...] = ()


def rows(plan: Plan, simulated: Simulated) -> Iterator[tuple[Group, Cell, Counts]]:
    """Every cell that was simulated."""
    for one in simulated.cells:
        group = plan.groups[one.group]
        yield group, group.cells[one.cell], one.counts


COLUMN, NAME = 5, 21
TLBS, PREDICTED = ("TLB1", "TLB2"), ("bim", "tage")


def render(behaviour: Behaviour) -> str:
    """The whole report: what was simulated, or, beside a run, what that explains."""
    simulated = behaviour.simulated
    lines = geometry(simulated, "cache behaviour")
    for warning in behaviour.warnings:
        lines += paragraph(f"! {warning}")
    if behaviour.explanation is None:
        lines += [
            *folios(behaviour.plan),
            *_forms(behaviour.forms),
            "",
            *legend(simulated),
            *tables(behaviour.plan, simulated),
        ]
    else:
        lines += explained_tables(behaviour.explanation)
    return "\n".join([*lines, *refused(simulated)]) + "\n"


def _forms(forms: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What has a branch that can be mispredicted."""
    by_form: dict[str, list[str]] = {}
    for variant, by_probe in forms.items():
        for form in dict.fromkeys(form for form in by_probe.values() if form != "none"):
            by_form.setdefault(form, []).append(variant)
    said = "; ".join(f"{form}: {', '.join(mine)}" for form, mine in by_form.items())
    return paragraph(f"forms: {said}") if said else []


def folios(plan: Plan) -> list[str]:
    """Whose folios they are, where that is a machine's."""
    if plan.folios is None:
        return []
    name = plan.folios.path.rpartition("/")[2]
    return paragraph(
        f"folios: a machine's, by {name}: in each footprint those with the most tails; ord is the largest "
        "order of them"
    )


def simulated_block(plan: Plan, simulated: Simulated | None, explanation: Explanation | None) -> list[str]:
    """For the report of a run."""
    if simulated is None:
        return []
    explained = [] if explanation is None else ["", *how_good(explanation)]
    return [
        "",
        *geometry(simulated, "misses per lookup"),
        *legend(simulated),
        *tables(plan, simulated),
        *refused(simulated),
        *explained,
    ]


def geometry(simulated: Simulated, what: str) -> list[str]:
    """What was simulated."""
    found = simulated.geometry
    return [*paragraph(f"{what}, simulated: {found.name} ({found.source})"), *paragraph(f"  {found}")]


def legend(simulated: Simulated) -> list[str]:
    """What a column means."""
    alias = (
        " (alias: those to a line of L1 that was last reached by another linear address, which a way "
        "predictor fetches again)"
    )
    return paragraph(
        f"acc: accesses to struct pages{alias if simulated.geometry.way_predictor else ''}; L1 L2 L3: their "
        "misses; TLB1 TLB2: misses of the data TLBs (the second's walk page tables); bim, tage: branches "
        "that a bimodal and a TAGE predictor mispredict; uses: distinct physical lines that all lookups "
        "touched, in bytes, > where more would touch more; +2: and two more contenders with these numbers"
    )


def tables(plan: Plan, simulated: Simulated) -> list[str]:
    """A table for each pattern and the probes that have the same: a row per order, footprint, contender."""
    every = list(rows(plan, simulated))
    tlbs = TLBS if simulated.geometry.tlbs else ()
    bodies: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for probe, pattern in ordered((group.probe, group.pattern) for group, _, _ in every):
        mine = [row for row in every if (row[0].probe, row[0].pattern) == (probe, pattern)]
        bodies.setdefault((pattern, tuple(_table(mine, tlbs))), []).append(probe)
    return [
        line
        for (pattern, body), probes in bodies.items()
        for line in ("", f"{' and '.join(probes)}, {pattern}", *body)
    ]


# What a PMU counts, and what simulated counts it is to be held against: all accesses, as it does.
_COUNTED: Mapping[str, tuple[str, Callable[[Counts], float]]] = {
    "l1d_misses": ("L1D", lambda counts: counts.misses[0] + counts.walk_misses[0] + counts.other_misses[0]),
    "llc_misses": (
        "LLC",
        lambda counts: counts.misses[-1] + counts.walk_misses[-1] + counts.other_misses[-1],
    ),
    "dtlb_misses": ("walks", lambda counts: counts.tlb_misses[-1]),
    "branch_misses": ("branch", lambda counts: counts.mispredictions["tage"]),
}


def side_by_side(cells: Sequence[Row], plan: Plan, simulated: Simulated | None) -> list[str]:
    """What a PMU counted beside what was simulated, where there is both."""
    counted = {(*row.place, row.contender): row for row in cells if row.counts}
    if simulated is None or not counted:
        return []
    events = [event for event in _COUNTED if any(event in row.counts for row in counted.values())]
    lines = ["", *paragraph("per lookup, counted by the PMU and simulated, with the pattern's own accesses")]
    heads = "".join(f"{_COUNTED[event][0]:>7}{'sim.':>5}" for event in events)
    last = None
    for group, cell, counts in rows(plan, simulated):
        probe, pattern = group.probe, group.pattern
        row = counted.get((probe, pattern, group.order, group.footprint_bytes, str(cell.contender)))
        if row is None:
            continue
        if (probe, pattern) != last:
            lines += [f"{probe}, {pattern}", f"ord  mem {'':{NAME - 3}}{heads}"]
            last = probe, pattern
        values = "".join(
            f"{_or_none(row.counts.get(event)):>7}{per_lookup(_COUNTED[event][1](counts)):>5}"
            for event in events
        )
        where = f"{group.order:3} {size_text(group.footprint_bytes):>4}"
        lines.append(f"{where} {cut(short(row.contender), NAME - 3):{NAME - 3}}{values}")
    return lines


def _or_none(value: float | None) -> str:
    return "-" if value is None else per_lookup(value)


def _table(mine: Sequence[tuple[Group, Cell, Counts]], tlbs: Sequence[str]) -> list[str]:
    levels = len(mine[0][2].misses)
    # Aliases, where there is a way predictor, are worth more than that a lookup is an access.
    aliases = any(counts.aliases for _, _, counts in mine)
    heads = ["alias" if aliases else "acc", *(f"L{i + 1}" for i in range(levels)), *tlbs, *PREDICTED]
    lines = [f"ord  mem {'':{NAME}}{''.join(name.rjust(COLUMN) for name in (*heads, 'uses'))}"]
    alike: dict[tuple[str, ...], list[str]] = {}
    for group, cell, counts in mine:
        values = [
            *map(per_lookup, _values(counts, aliases, bool(tlbs))),
            ("" if counts.all_lines else ">") + size_text(counts.lines * LINE_BYTES),
        ]
        key = (f"{group.order:3} {size_text(group.footprint_bytes):>4}", *values)
        alike.setdefault(key, []).append(short(str(cell.contender)))
    for (where, *values), names in alike.items():
        more = f" +{len(names) - 1}" if len(names) > 1 else ""
        name = cut(names[0], NAME - len(more)) + more
        lines.append(f"{where} {name:{NAME}}{''.join(value.rjust(COLUMN) for value in values)}")
    return lines


def per_lookup(value: float) -> str:
    """A count in four characters: 0, .826, 1.03, 14.0, 512."""
    if value == 0:
        return "0"
    if value < 0.9995:
        return f"{value:.3f}"[1:]
    texts = [f"{value:.{decimals}f}" for decimals in (2, 1, 0)]
    return next((text for text in texts if len(text) <= 4), texts[-1])


def _values(counts: Counts, aliases: bool, tlbs: bool) -> list[float]:
    return [
        counts.aliases if aliases else counts.accesses,
        *counts.misses,
        *(counts.tlb_misses if tlbs else ()),
        counts.mispredictions["bimodal"],
        counts.mispredictions["tage"],
    ]


def refused(simulated: Simulated) -> list[str]:
    """Which loops could not be recorded, and why."""
    return [line for loop, why in simulated.refused.items() for line in ["", *paragraph(f"{loop}: {why}")]]


def to_json(behaviour: Behaviour) -> str:
    """Plan and simulation, with every count."""
    return msgspec.json.format(msgspec.json.encode(behaviour), indent=1).decode()


def to_csv(behaviour: Behaviour) -> str:
    """A row a cell."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    levels = len(behaviour.simulated.geometry.caches)
    of_levels = [
        f"l{level}_{what}"
        for what in ("misses", "walk_misses", "other_misses")
        for level in range(1, levels + 1)
    ]
    writer.writerow(
        [
            *("contender", "order", "footprint_bytes", "pattern", "probe", "lookups", "accesses"),
            *of_levels,
            *("aliases", "tlb1_misses", "tlb2_misses", "other_accesses", "branches"),
            *(f"mispredictions_{kind}" for kind in PREDICTORS),
            *("lines", "all_lines", "pages", "heads_share"),
        ]
    )
    for group, cell, counts in rows(behaviour.plan, behaviour.simulated):
        values: list[Any] = [
            *(cell.contender, group.order, group.footprint_bytes, group.pattern, group.probe),
            *(counts.lookups, counts.accesses, *counts.misses, *counts.walk_misses, *counts.other_misses),
            *(counts.aliases, *counts.tlb_misses, counts.other_accesses, counts.branches),
            *(counts.mispredictions[kind] for kind in PREDICTORS),
            *(counts.lines, counts.all_lines, counts.pages, counts.heads_share),
        ]
        writer.writerow(values)
    return stream.getvalue()
