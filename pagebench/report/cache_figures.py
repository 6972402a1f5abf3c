"""Cache behaviour in pictures: misses as heat maps, and times beside what explains them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pagebench.names import Level
from pagebench.report import plots
from pagebench.report.cache import Behaviour, per_lookup, rows
from pagebench.report.tables import ordered, short
from pagebench.results.explanation import Explained, Explanation, Terms
from pagebench.results.simulated import Counts
from pagebench.units import format_size

# Okabe and Ito: what a lookup waits for, from the core outwards.
_TERMS: dict[str, tuple[str, Callable[[Terms], float]]] = {
    "code, with hits of L1": ("#0072B2", lambda terms: terms.code + terms.form),
    "L2": ("#56B4E9", lambda terms: terms.l2),
    "L3 and memory": ("#CFE8F7", lambda terms: terms.l3 + terms.memory),
    "aliases (way predictor)": ("#D55E00", lambda terms: terms.aliases),
    "TLB and page walks": ("#E69F00", lambda terms: terms.tlb + terms.walks),
    "mispredicted branches": ("#882255", lambda terms: terms.mispredictions),
}
# Where latencies are cycles of the core, or nearly; beyond, one bar would hide all others.
_DRAWN_LEVELS: tuple[Level, ...] = ("l1", "l2")
_BAR = 0.72


class _Cell(NamedTuple):
    order: int
    footprint: int
    contender: str
    counts: Counts


def _cells_of(behaviour: Behaviour, probe: str, pattern: str) -> list[_Cell]:
    return [
        _Cell(group.order, group.footprint_bytes, short(str(cell.contender)), counts)
        for group, cell, counts in rows(behaviour.plan, behaviour.simulated)
        if (group.probe, group.pattern) == (probe, pattern)
    ]


def _misses(level: int, counts: Counts) -> float:
    return counts.misses[level]


def heat_map(
    behaviour: Behaviour, what: str, axis: str, labels: Sequence[str], cells: Mapping[tuple[str, int], Counts]
) -> Figure:
    """Misses per lookup of each level: a row a label, a column a number on ``axis``."""
    numbers = sorted({number for _, number in cells})
    spelled = [format_size(number) if axis == "footprint" else str(number) for number in numbers]
    levels = [f"misses of L{i + 1}" for i in range(len(behaviour.simulated.geometry.caches))]
    measures: list[tuple[str, Callable[[Counts], float]]] = [
        (title, partial(_misses, i)) for i, title in enumerate(levels)
    ]
    if behaviour.simulated.geometry.tlbs is not None:
        measures.append(("page walks", lambda counts: counts.tlb_misses[1]))
    # The first panel, and all that have something to show.
    measures[1:] = [one for one in measures[1:] if any(one[1](counts) >= 0.0005 for counts in cells.values())]
    with plots.look():
        height = 0.75 + 0.33 * len(labels)
        fig = Figure(figsize=(plots.WIDTH_INCHES, height + 0.6))
        for axes, (title, measure) in zip(
            fig.subplots(1, len(measures), squeeze=False, sharey=True).flat, measures, strict=True
        ):
            shares = np.full((len(labels), len(numbers)), np.nan)
            for (label, number), counts in cells.items():
                shares[labels.index(label), numbers.index(number)] = measure(counts)
            axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.25, aspect="auto")
            for (y, x), share in np.ndenumerate(shares):
                if np.isfinite(share):
                    colour = "white" if share > 0.8 else "#333333"
                    axes.text(x, y, per_lookup(share), ha="center", va="center", fontsize=7.5, color=colour)
            axes.set_title(title)
            axes.set_xticks(range(len(numbers)), spelled, fontsize=7.5)
            axes.set_yticks(range(len(labels)), labels)
            axes.set_xlabel(axis)
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
        geometry = behaviour.simulated.geometry
        note = f"{geometry.name}: {geometry}"
        plots.finish(fig, behaviour, f"Simulated misses per lookup: {what}", note, [])
    return fig


def explained(explanation: Explanation, behaviour: Any, probe: str, pattern: str) -> Figure | None:
    """Measured times of one probe and pattern beside bars of what explains them; None where no model holds.

    A panel a footprint up to L2, a bar a contender and order.
    """
    drawn = [
        row
        for row in explanation.rows
        if (row.probe, row.pattern) == (probe, pattern) and row.terms and row.level in _DRAWN_LEVELS
    ]
    if not drawn:
        return None
    footprints = sorted({row.footprint_bytes for row in drawn})
    bars = sorted(
        dict.fromkeys((row.order, row.contender) for row in drawn),
        key=lambda bar: bar[0],
    )
    at, y = {}, 0.0
    for i, bar in enumerate(bars):
        y += 1.6 if i and bar[0] != bars[i - 1][0] else 1.0
        at[bar] = y
    shown = [name for name, (_, of) in _TERMS.items() if any(of(row.terms) > 0 for row in drawn if row.terms)]
    with plots.look():
        fig = Figure(figsize=(plots.WIDTH_INCHES, 1.2 + 0.21 * y))
        panels = fig.subplots(1, len(footprints), squeeze=False, sharey=True).flat
        for axes, footprint in zip(panels, footprints, strict=True):
            for row in (row for row in drawn if row.footprint_bytes == footprint):
                _bar(axes, row, at[row.order, row.contender], shown, 1 / explanation.ghz)
            axes.set_title(format_size(footprint))
            axes.set_xlabel("ns per lookup")
            axes.set_xlim(left=0)
        axes.set_ylim(y + 0.7, 0.3)
        labels = [f"{short(name)}, order {order}" for order, name in at]
        axes.set_yticks(list(at.values()), labels, fontsize=7.5)
        handles: list[Any] = [Patch(color=_TERMS[name][0], label=name) for name in shown]
        handles.append(Line2D([], [], color="k", marker="|", ls="", ms=9, mew=2, label="measured"))
        title = f"Latency, measured and explained: {probe}, {pattern}"
        fitted = "paler bars: latencies were fitted to these cells"
        note = f"bars: simulated events times what each takes at {explanation.ghz:.2f} GHz; {fitted}"
        plots.finish(fig, behaviour, title, note, handles)
    return fig


def _bar(axes: Any, row: Explained, y: float, shown: Sequence[str], ns: float) -> None:
    left = 0.0
    for name in shown:
        colour, of = _TERMS[name]
        assert row.terms is not None
        width = of(row.terms) * ns
        axes.barh(y, width, _BAR, left, color=colour, alpha=0.45 if row.fitted else 1.0, linewidth=0)
        left += width
    axes.plot([row.measured_cycles * ns] * 2, [y - 0.45, y + 0.45], color="k", linewidth=1.8)


def explained_figures(explanation: Explanation | None, of: Any) -> dict[str, Figure]:
    """A figure for each probe and pattern with a model; ``of`` has the machine and the tool for its foot."""
    if explanation is None:
        return {}
    drawn = {
        f"explained-{probe}-{pattern}": explained(explanation, of, probe, pattern)
        for probe, pattern in ordered((row.probe, row.pattern) for row in explanation.rows)
    }
    return {name: fig for name, fig in drawn.items() if fig is not None}


def figures(behaviour: Behaviour) -> dict[str, Figure]:
    """Heat maps where they differ by row; beside a run, its times explained."""
    if behaviour.explanation is not None:
        return explained_figures(behaviour.explanation, behaviour)
    drawn = {}
    pairs = ordered((group.probe, group.pattern) for group, _, _ in rows(behaviour.plan, behaviour.simulated))
    for probe, pattern in pairs:
        cells = _cells_of(behaviour, probe, pattern)
        by = _by_order if pattern == "heads" else _by_contender
        fig = by(behaviour, f"{probe}, {pattern}", cells)
        if fig is not None:
            drawn[f"misses-{probe}-{pattern}"] = fig
    return drawn


def _by_contender(behaviour: Behaviour, what: str, cells: Sequence[_Cell]) -> Figure | None:
    """At the largest order, where layouts differ: plain rows are alike whatever the order."""
    order = max(cell.order for cell in cells)
    table = {(cell.contender, cell.footprint): cell.counts for cell in cells if cell.order == order}
    labels = ordered(name for name, _ in table)
    if len(table) == len(labels):
        return None
    return heat_map(behaviour, f"{what}, order {order}", "footprint", labels, table)


def _by_order(behaviour: Behaviour, what: str, cells: Sequence[_Cell]) -> Figure | None:
    """As many heads, farther apart: what the order does to sets."""
    size, of = behaviour.plan.struct_page_bytes, cells[0].contender
    table = {
        (f"order {cell.order}", (cell.footprint // size) >> cell.order): cell.counts
        for cell in cells
        if cell.contender == of and cell.footprint >> cell.order >= size
    }
    labels = ordered(label for label, _ in table)
    if len(table) == len(labels):
        return None
    return heat_map(
        behaviour, f"{what} alone, {of}", "how many heads, each in a line of its own", labels, table
    )


def save(behaviour: Behaviour, directory: Path, stem: str) -> list[Path]:
    """Write all figures as PNG and SVG.  Raises OSError."""
    return plots.save(figures(behaviour), directory, stem)
