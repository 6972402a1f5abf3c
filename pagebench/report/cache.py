"""Cache behaviour as text, 75 columns, and as CSV: what was simulated, per lookup."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from pagebench.names import LINE_BYTES
from pagebench.plan.groups import Cell, Group, Plan
from pagebench.report import WIDTH
from pagebench.report.tables import fixed, ordered, paragraph, short, size_text
from pagebench.results.explanation import Explained, Explanation, HeldOut
from pagebench.results.simulated import PREDICTORS, Counts, Simulated
from pagebench.units import format_size


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """A plan with what was simulated for it; with a run's file, its times explained."""

    plan: Plan
    simulated: Simulated
    explanation: Explanation | None = None
    warnings: tuple[str, ...] = ()


def rows(plan: Plan, simulated: Simulated) -> Iterator[tuple[Group, Cell, Counts]]:
    """Every cell that was simulated."""
    for one in simulated.cells:
        group = plan.groups[one.group]
        yield group, group.cells[one.cell], one.counts


COLUMN, NAME = 5, 21
HEADS = ("acc", "L1", "L2", "L3", "TLB1", "TLB2", "bim", "tage")


def render(behaviour: Behaviour) -> str:
    """The whole report: what was simulated, or, beside a run, what that explains."""
    simulated = behaviour.simulated
    lines = [*geometry(simulated, "cache behaviour"), *(f"! {warning}" for warning in behaviour.warnings)]
    if behaviour.explanation is None:
        lines += [*folios(behaviour.plan), "", *legend(), *tables(behaviour.plan, simulated)]
    else:
        lines += explained(behaviour.explanation)
    return "\n".join([*lines, *refused(simulated)]) + "\n"


def folios(plan: Plan) -> list[str]:
    """Whose folios they are, where that is a machine's."""
    if plan.folios is None:
        return []
    name = plan.folios.path.rpartition("/")[2]
    return paragraph(
        f"folios: a machine's, by {name}: in each footprint those with the most tails; ord is the largest "
        "order of them"
    )


def simulated_block(plan: Plan, simulated: Simulated | None) -> list[str]:
    """For the report of a run."""
    if simulated is None:
        return []
    return ["", *geometry(simulated, "simulated misses per lookup"), *legend(), *tables(plan, simulated)]


def geometry(simulated: Simulated, what: str) -> list[str]:
    """What was simulated."""
    found = simulated.geometry
    return [*paragraph(f"{what}, simulated: {found.name} ({found.source})"), *paragraph(f"  {found}")]


def legend() -> list[str]:
    """What a column means."""
    return paragraph(
        "acc: accesses to struct pages; L1 L2 L3: their misses; TLB1 TLB2: misses of the data TLBs (the "
        "second's walk page tables); bim, tage: branches that a bimodal and a TAGE predictor mispredict; "
        "uses: distinct physical lines that all lookups touched, in bytes; +2: and two more contenders "
        "with these numbers"
    )


def tables(plan: Plan, simulated: Simulated) -> list[str]:
    """A table for each pattern and the probes that have the same: a row per order, footprint, contender."""
    every = list(rows(plan, simulated))
    bodies: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for probe, pattern in ordered((group.probe, group.pattern) for group, _, _ in every):
        mine = [row for row in every if (row[0].probe, row[0].pattern) == (probe, pattern)]
        bodies.setdefault((pattern, tuple(_table(mine))), []).append(probe)
    return [
        line
        for (pattern, body), probes in bodies.items()
        for line in ("", f"{' and '.join(probes)}, {pattern}", *body)
    ]


def _table(mine: Sequence[tuple[Group, Cell, Counts]]) -> list[str]:
    levels = len(mine[0][2].misses)
    heads = [name for name in HEADS if not (name[0] == "L" and int(name[1]) > levels)]
    lines = [f"ord  mem {'':{NAME}}{''.join(name.rjust(COLUMN) for name in (*heads, 'uses'))}"]
    alike: dict[tuple[str, ...], list[str]] = {}
    for group, cell, counts in mine:
        values = [*map(per_lookup, _values(counts)), size_text(counts.lines * LINE_BYTES)]
        key = (f"{group.order:3} {size_text(group.footprint_bytes):>4}", *values)
        alike.setdefault(key, []).append(short(str(cell.contender)))
    for (where, *values), names in alike.items():
        more = f" +{len(names) - 1}" if len(names) > 1 else ""
        name = names[0][: NAME - len(more)] + more
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


def _values(counts: Counts) -> list[float]:
    return [
        counts.accesses,
        *counts.misses,
        *counts.tlb_misses,
        counts.mispredictions["bimodal"],
        counts.mispredictions["tage"],
    ]


def refused(simulated: Simulated) -> list[str]:
    """Which loops could not be recorded, and why."""
    return [line for loop, why in simulated.refused.items() for line in ["", *paragraph(f"{loop}: {why}")]]


def explained(explanation: Explanation) -> list[str]:
    """Measured and modelled times of every chain, and the rest."""
    lines = ["", *paragraph(_how_good(explanation)), ""]
    lines += parameters(explanation)
    ns = 1 / explanation.ghz
    for probe, pattern in ordered((row.probe, row.pattern) for row in explanation.rows):
        mine = [row for row in explanation.rows if (row.probe, row.pattern) == (probe, pattern)]
        modelled = [row for row in mine if row.terms is not None]
        if modelled:
            lines += ["", f"{probe}, {pattern}: ns per lookup, and what explains them"]
            lines.append(
                "ord  mem " + " " * NAME + "".join(name.rjust(6) for name in ("ns", *SHOWN)) + "   rest      "
            )
        for row in modelled:
            lines.append(_explained_row(row, ns))
        lines += _not_modelled(row for row in mine if row.terms is None)
    return lines


SHOWN = ("code", "cache", "tlb", "misp")


def _explained_row(row: Explained, ns: float) -> str:
    terms = row.terms
    assert terms is not None and row.rest_cycles is not None
    columns = (
        row.measured_cycles,
        terms.code + terms.form,
        terms.l2 + terms.l3 + terms.memory + terms.aliases,
        terms.tlb + terms.walks,
        terms.mispredictions,
    )
    values = "".join(fixed(value * ns, 6)[:6].rjust(6) for value in columns)
    share = "fitted" if row.fitted else f"{100 * row.rest_share:+.1f}%"
    where = f"{row.order:3} {size_text(row.footprint_bytes):>4} {short(row.contender)[:NAME]:{NAME}}"
    return f"{where}{values}{row.rest_cycles * ns:+7.2f}{share:>7}"


def _how_good(explanation: Explanation) -> str:
    """In words: the cells to which nothing was fitted."""

    def said(held_out: HeldOut, which: str) -> str:
        if not held_out.cells or held_out.median_rest is None or held_out.worst_rest is None:
            return f"{which}: none"
        return (
            f"{which}: {held_out.cells} cells, the rest is {100 * held_out.median_rest:.1f} % in the median, "
            f"{100 * held_out.worst_rest:.0f} % at worst, within 5 % in {held_out.close}"
        )

    return "cells that nothing was fitted to. " + "; ".join(
        (
            said(explanation.inside, "Up to half of L2"),
            said(explanation.hvo, "of these HVO's"),
            said(explanation.beyond, "beyond"),
        )
    )


PARAMETERS = {
    "load": "a hit of L1",
    "l2": "L2 more",
    "l3": "L3 more",
    "memory": "memory more",
    "tlb": "a hit of the second TLB",
    "walk": "a page walk",
    "misprediction": "a misprediction",
}


def parameters(explanation: Explanation) -> list[str]:
    """What one of each takes, and which cells say so."""
    lines = [f"core cycles at {explanation.ghz:.2f} GHz, and the cells that they were fitted to"]
    for name, what in PARAMETERS.items():
        found = explanation.parameters.get(name)
        if found is None:
            continue
        value = "-" if found.cycles is None else f"{found.cycles:.1f}"
        first, *more = found.source.split("; ")
        also = f" and {len(more)} more" if more else ""
        lines += textwrap.wrap(
            f"{what:24}{value:>7}  {first}{also}", WIDTH, subsequent_indent=" " * 33, break_on_hyphens=False
        )
    return lines


def _not_modelled(rows: Iterable[Explained]) -> list[str]:
    why: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        place = f"order {row.order} {format_size(row.footprint_bytes)}"
        why.setdefault(row.why_not, {}).setdefault(short(row.contender), []).append(place)
    lines = []
    for reason, contenders in why.items():
        by_places: dict[str, list[str]] = {}
        for name, places in contenders.items():
            by_places.setdefault(", ".join(places), []).append(name)
        said = "; ".join(f"{', '.join(mine)} at {places}" for places, mine in by_places.items())
        lines += paragraph(f"no model: {said}: {reason}")
    return lines


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
            *("lines", "pages", "heads_share"),
        ]
    )
    for group, cell, counts in rows(behaviour.plan, behaviour.simulated):
        values: list[Any] = [
            *(cell.contender, group.order, group.footprint_bytes, group.pattern, group.probe),
            *(counts.lookups, counts.accesses, *counts.misses, *counts.walk_misses, *counts.other_misses),
            *(counts.aliases, *counts.tlb_misses, counts.other_accesses, counts.branches),
            *(counts.mispredictions[kind] for kind in PREDICTORS),
            *(counts.lines, counts.pages, counts.heads_share),
        ]
        writer.writerow(values)
    return stream.getvalue()
