"""Measured times beside what explains them, as text: 75 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from pagebench.report import WIDTH
from pagebench.report.tables import cut, fixed, ordered, paragraph, short, size_text
from pagebench.results.explanation import Explained, Explanation, HeldOut
from pagebench.units import format_size

# Of a contender's name, as in the tables of what was simulated.
NAME = 21


def explained_tables(explanation: Explanation) -> list[str]:
    """Measured and modelled times of every chain, and the rest."""
    lines = ["", *how_good(explanation), ""]
    lines += parameters(explanation)
    ns = 1 / explanation.ghz
    for probe, pattern in ordered((row.probe, row.pattern) for row in explanation.rows):
        mine = [row for row in explanation.rows if (row.probe, row.pattern) == (probe, pattern)]
        modelled = [row for row in mine if row.terms is not None]
        if modelled:
            lines += ["", f"{probe}, {pattern}: ns per lookup, and what explains them"]
            lines.append(
                "ord  mem " + " " * NAME + "".join(name.rjust(6) for name in ("ns", *SHOWN)) + "   rest"
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
    where = f"{row.order:3} {size_text(row.footprint_bytes):>4} {cut(short(row.contender), NAME):{NAME}}"
    return f"{where}{values}{row.rest_cycles * ns:+7.2f}{share:>7}"


def how_good(explanation: Explanation) -> list[str]:
    """In words: the cells to which nothing was fitted."""

    def said(held_out: HeldOut, which: str) -> str:
        if not held_out.cells or held_out.median_rest is None or held_out.worst_rest is None:
            return f"{which}: none"
        return (
            f"{which}: {held_out.cells} cells, the rest is {100 * held_out.median_rest:.1f} % in the median, "
            f"{100 * held_out.worst_rest:.0f} % at worst, within 5 % in {held_out.close}"
        )

    parts = (
        said(explanation.inside, "up to half of L2"),
        said(explanation.hvo, "of these HVO's"),
        said(explanation.beyond, "beyond"),
    )
    return paragraph(
        "times explained by them, in cells that nothing was fitted to (`cache --with FILE` has each): "
        + "; ".join(parts)
    )


PARAMETERS = {
    "load": "a hit of L1",
    "l2": "L2 more",
    "l3": "L3 more",
    "memory": "memory more",
    "walk": "a page walk",
    "l3 in turns": "L3 more, in turns",
    "memory in turns": "memory more, in turns",
    "walk in turns": "a page walk, in turns",
    "tlb": "a hit of the second TLB",
    "misprediction": "a misprediction",
}


def parameters(explanation: Explanation) -> list[str]:
    """What one of each takes, and which cells say so."""
    lines = [f"core cycles at {explanation.ghz:.2f} GHz, and the cells that they were fitted to"]
    forms = {name: name for name in explanation.parameters if name.startswith("form of ")}
    for name, what in {**PARAMETERS, **forms}.items():
        found = explanation.parameters.get(name)
        if found is None or (found.cycles is None and name.endswith(" in turns")):
            continue
        value = "-" if found.cycles is None else f"{round(found.cycles, 1) + 0:.1f}"
        first, *more = found.source.split("; ")
        also = f" and {len(more)} more" if more else ""
        said = f"{cut(what, 24):24}{value:>7}  {first}{also}"
        lines += textwrap.wrap(said, WIDTH, subsequent_indent=" " * 33, break_on_hyphens=False)
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
