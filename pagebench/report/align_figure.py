"""Memory models against orders, proven: a figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from pagebench.memmap.models import NO_FOLIO, OK, WRONG
from pagebench.report import plots
from pagebench.results.proofs import ProofTable, Proven, tables_of
from pagebench.units import format_size

# Okabe and Ito: sky blue, vermilion; the pointer's ok is paler, as nothing is at stake there.
_FILL = {"mask": "#56B4E9", "pointer": "#cfe8f7", WRONG: "#D55E00", NO_FOLIO: "#eeeeee"}
_LABELS = {
    "mask": "ok: the mask finds every head",
    "pointer": "ok: the pointer is kept",
    WRONG: "share of tails whose head is not found",
    NO_FOLIO: "no such folio (crosses a section)",
}


def _panel(axes: Axes, table: ProofTable) -> None:
    """Draw a table: a square for each model and order."""
    page = table.base_page_bytes
    for y, row in enumerate(table.rows):
        for proof in row.proofs:
            kind = proof.encoding if proof.found == OK else proof.found
            bad, looked_up = proof.wrong_of
            text = {OK: OK, NO_FOLIO: "\N{EN DASH}"}.get(proof.found) or f"{100 * bad / looked_up:.0f}%"
            at = (proof.order - 0.5, y - 0.5)
            axes.add_patch(Rectangle(at, 1, 1, facecolor=_FILL[kind], edgecolor="white", linewidth=1.2))
            colour = "white" if kind == WRONG else "black" if kind == "mask" else "#666666"
            axes.text(proof.order, y, text, ha="center", va="center", fontsize=6.5, color=colour)
    orders = [proof.order for proof in table.rows[0].proofs]
    axes.set_xlim(-0.5, orders[-1] + 0.5)
    axes.set_ylim(len(table.rows) - 0.5, -0.5)
    axes.set_xticks(orders, [f"{order}\n{format_size(page << order)}" for order in orders], fontsize=6.5)
    axes.set_yticks(range(len(table.rows)), [row.first.model for row in table.rows])
    axes.tick_params(axis="y", pad=34)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(table.title[0].upper() + table.title[1:], loc="left")
    _beside(axes, len(table.rows) + 0.15, "order\nfolio", "", "#666666")
    if table.rows[0].first.encoding == "mask":
        _beside(axes, -0.9, "promised", "v7.1 / proof", "#666666")
        for y, row in enumerate(table.rows):
            right = f"{row.kernels_choice} / {row.allows}"
            _beside(axes, y, format_size(row.first.promised_bytes), right, "black")


def _beside(axes: Axes, y: float, left: str, right: str, colour: str) -> None:
    """Write on both sides of a row."""
    for x, text, align in ((0, left, "right"), (1, right, "left")):
        place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        at = (6 if x else -6, 0)
        axes.annotate(text, (x, y), at, ha=align, va="center", fontsize=7.5, color=colour, **place)


def figure(proven: Proven) -> Figure:
    """Draw models against orders, a panel for each base page and its struct pages."""
    tables = tables_of(proven.proofs)
    with plots.look():
        height = 0.9 + 2.15 * len(tables)
        fig = Figure(figsize=(plots.WIDTH_INCHES, height))
        fig.set_layout_engine("constrained", rect=(0, 0.35 / height, 1, 1 - 0.35 / height), h_pad=0.08)
        for axes, table in zip(fig.subplots(len(tables), 1, squeeze=False).flat, tables, strict=True):
            _panel(axes, table)
        fig.suptitle("Where the mask encoding finds every head, by memory model and folio order", fontsize=12)
        kinds = {proof.encoding if proof.found == OK else proof.found for proof in proven.proofs}
        handles = [Patch(color=_FILL[k], label=label) for k, label in _LABELS.items() if k in kinds]
        below: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 0)}
        fig.legend(handles=handles, ncols=len(handles), handlelength=1.2, **below).set_in_layout(False)
    return fig


def save(proven: Proven, directory: Path, stem: str) -> list[Path]:
    """Write the figure as ``stem.png`` and ``stem.svg``.  Raises OSError."""
    written = plots.save({"models": figure(proven)}, directory, stem)
    return [path.replace(path.with_stem(stem)) for path in written]
