"""A summary in pictures: what a lookup takes, and how contenders differ from the reference.

The only importer of matplotlib, and never of pyplot: no windows, no state, half the time to import.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import signal
import tempfile
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import cycle
from multiprocessing import get_context
from operator import attrgetter
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator

from pagebench.errors import PagebenchError
from pagebench.host import processes
from pagebench.results.summary import Row, Summary
from pagebench.units import format_size

WIDTH_INCHES = 10.0  # 1000 pixels
DPI = 100
LOG_SCALE_FROM = 8.0  # highest over lowest time from which y is logarithmic
PAGE_BYTES = 4096

# Okabe and Ito, Color Universal Design (2008); their yellow, too pale on white, gave way to Tol's wine.
# One marker more than colours, so that no pair returns within 72 contenders.
_COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#882255")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<")
# Where lines coincide, the one below shows through the gaps of those above.
_DASHES = ("-", (0, (5, 2)), (0, (6, 2, 1.5, 2)), (0, (2.5, 1.5)))
_HARNESS: dict[str, Any] = {"color": "#999999", "linestyle": ":", "linewidth": 1.0}
_GREY, _SHADE = "#666666", "#dddddd"


@contextlib.contextmanager
def look() -> Iterator[None]:
    """Matplotlib as shipped, plus ours: a user's matplotlibrc does not change a report."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rc("font", size=9)
        matplotlib.rc("axes", **{"titlesize": "medium", "spines.top": False, "spines.right": False})
        matplotlib.rc("lines", linewidth=1.3, markerfacecolor="none")
        matplotlib.rc("legend", frameon=False, handlelength=3.2)
        matplotlib.rc("svg", hashsalt="pagebench")
        matplotlib.rc("text", parse_math=False)  # names and CPUs are text of a file
        yield


def _column(rows: Iterable[Row], path: str) -> npt.NDArray[np.float64]:
    """The numbers at ``path``, as in "difference.ns.low", one a row; NaN where there is none."""
    number = attrgetter(path)
    return np.array([number(row) for row in rows], dtype=np.float64)


def _ends(rows: Iterable[Row]) -> npt.NDArray[np.float64]:
    """The ends of the medians' intervals: (2, rows)."""
    return np.array([row.ns.interval for row in rows], dtype=np.float64).reshape(-1, 2).T


def _distinct(cells: Iterable[Row], key: str) -> list[Any]:
    """Values of ``key`` in order of first appearance."""
    return list(dict.fromkeys(getattr(cell, key) for cell in cells))


def _select(cells: Iterable[Row], **keys: Any) -> list[Row]:
    """Cells that have all these values, by order and footprint."""
    some = (cell for cell in cells if all(getattr(cell, key) == value for key, value in keys.items()))
    return sorted(some, key=lambda cell: (cell.order, cell.footprint_bytes))


def _styles(summary: Summary, cells: Iterable[Row], **changes: Any) -> dict[str, dict[str, Any]]:
    """How each contender of ``cells`` is drawn, the same in every figure of a summary."""
    there, all_names = _distinct(cells, "contender"), _distinct(summary.cells, "contender")
    looks = zip(all_names, cycle(_COLOURS), cycle(_MARKERS), cycle(_DASHES), strict=False)
    return {n: {"color": c, "marker": m, "linestyle": d} | changes for n, c, m, d in looks if n in there}


def _dodge(contenders: Collection[str], width: float) -> dict[str, float]:
    """Offsets that set contenders side by side, centred on 0, in slots that fill ``width``."""
    n = len(contenders)
    return {name: (i - (n - 1) / 2) * width / n for i, name in enumerate(contenders)}


def _panels(count: int, columns: int, xlabel: str, shared: bool) -> tuple[Figure, list[Axes]]:
    """Make a figure of ``count`` panels, row by row; the last row may be short."""
    if not count:
        raise PagebenchError("nothing to draw with this probe and pattern: `show` lists what was measured")
    rows = math.ceil(count / columns)
    fig = Figure(figsize=(WIDTH_INCHES, 0.6 + max(3.6, (3.2 if shared else 2.7) * rows)))
    grid = list(fig.subplots(rows, columns, squeeze=False, sharex=shared, sharey=shared).flat)
    for axes in grid[count:]:
        axes.remove()
    panels = grid[:count]
    for axes in panels[-columns:]:  # those with none below
        axes.set_xlabel(xlabel)
        axes.tick_params(labelbottom=True)
    for axes in panels[::columns]:
        axes.set_ylabel("ns per lookup")
    return fig, panels


def finish(fig: Figure, summary: Any, title: str, note: str, handles: Sequence[Any]) -> None:
    """Add title and note above, legend and footer below; the figure grows by the latter.

    The footer says where and by what: ``summary`` is a Summary, or whatever else has a machine and a tool.
    """
    machine, tool = summary.machine, summary.tool
    host = f"VM ({machine.hypervisor})" if machine.hypervisor else "no hypervisor seen"
    cpu, release = machine.cpu_model, machine.kernel_release
    by = f"{tool.name} {tool.version} ({tool.commit or 'commit unknown'})"
    footer = textwrap.fill("  ·  ".join((cpu, host, f"Linux {release}", by)), 150)
    footer_inches = 0.13 * (footer.count("\n") + 1) + 0.08
    longest = max((len(str(handle.get_label())) for handle in handles), default=0)
    columns = max(1, min(len(handles), int((WIDTH_INCHES - 0.2) / (0.078 * longest + 0.6))))
    below = footer_inches + 0.2 * math.ceil(len(handles) / columns) + 0.15
    height = fig.get_figheight() + below
    fig.set_figheight(height)
    panels = (0, below / height, 1, 1 - below / height)
    fig.set_layout_engine("constrained", rect=panels, h_pad=0.06, w_pad=0.06)
    fig.suptitle(f"{title}\n", fontsize=12)  # the empty line is the note's
    fig.text(0.5, 1 - 0.34 / height, note, ha="center", va="top", fontsize=8.5, color=_GREY)
    place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, footer_inches / height)}
    if handles:
        fig.legend(handles=handles, ncols=columns, **place).set_in_layout(False)
    fig.text(0.01, 0.06 / height, footer, va="bottom", fontsize=7, color=_GREY)


def _footprint_axis(axes: Axes, footprints: Sequence[int], margin: float, octave_inches: float) -> None:
    """Make x logarithmic, ticks at the footprints that were measured; ``margin`` in octaves."""
    axes.set_xscale("log", base=2)
    axes.set_xlim(footprints[0] / 2**margin, footprints[-1] * 2**margin)
    ticks = [footprints[0]]
    for footprint in footprints[1:]:
        ticks += [footprint] if math.log2(footprint / ticks[-1]) * octave_inches > 0.15 else []
    labels = [format_size(tick) for tick in ticks]
    gap = np.diff(np.log2(ticks)).min(initial=math.inf) * octave_inches
    axes.set_xticks(ticks, labels)
    axes.tick_params(axis="x", labelrotation=90 if gap < 0.08 * max(map(len, labels)) + 0.08 else 0)
    axes.minorticks_off()


def _time_axis(axes: Axes, ns: npt.NDArray[np.float64]) -> None:
    """Make y logarithmic where the times in ``ns`` need it, else let it begin at 0."""
    low, high = np.nanmin(ns), np.nanmax(ns)
    if 0 < low * LOG_SCALE_FROM < high:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axes.set_ylim(min(0.0, 1.08 * low), 1.08 * high or 1.0)


def _cycles_axis(axes: Axes, cells: Sequence[Row]) -> None:
    """Add a scale in core cycles on the right, where one clock frequency holds for all cells."""
    ghz = _column(cells, "cycles.median") / _column(cells, "ns.median")
    if ghz.min() > 0 and ghz.max() < 1.05 * ghz.min():
        factor = float(np.median(ghz))
        scale = (lambda y: np.multiply(y, factor), lambda y: np.divide(y, factor))
        axes.secondary_yaxis("right", functions=scale).set_ylabel("core cycles")


def _mark_caches(axes: Axes, summary: Summary) -> None:
    """Draw the cache sizes inside the x range, labelled above it: reported, and L3 as obtained."""
    caches = summary.machine.caches
    got = summary.calibration.l3_measured_bytes if summary.calibration else None
    sizes = {"L1d": caches.l1d_bytes, "L2": caches.l2_bytes, "L3": caches.l3_bytes}
    sizes |= {"L3 got": got} if got != sizes["L3"] else {}
    low, high = axes.get_xlim()
    for name, size in sizes.items():
        if size and low < size < high:
            place = math.log(size / low) / math.log(high / low)
            align = "left" if place < 0.1 else "right" if place > 0.9 else "center"
            dashes, height = ("--", 1.06) if name == "L3 got" else ("-", 1.01)
            axes.axvline(size, color=_GREY, linewidth=0.7, linestyle=dashes, zorder=0)
            axes.text(size, height, name, ha=align, fontsize=7, c=_GREY, transform=axes.get_xaxis_transform())


def latency(summary: Summary, probe: str, pattern: str) -> Figure:
    """Draw ns per lookup (median, 95 % interval as a band) against footprint, a panel per order.

    Contenders are set side by side in x, within half an octave of the footprint; the harness stands on it.
    Raises :class:`PagebenchError` where nothing was measured.
    """
    cells = _select(summary.cells, probe=probe, pattern=pattern)
    orders, footprints = (sorted(_distinct(cells, key)) for key in ("order", "footprint_bytes"))
    harness = _select(summary.harness, probe=probe, pattern=pattern)
    styles, identities = _styles(summary, cells), dict.fromkeys(_distinct(harness, "contender"), _HARNESS)
    columns = len(orders) if len(orders) <= 4 else math.ceil(len(orders) / 2)
    with look():
        fig, panels = _panels(len(orders), columns, "footprint", shared=True)
        octaves = np.log2(footprints)
        margin = max(0.09 * (octaves[-1] - octaves[0]), 0.7)
        octave_inches = ((WIDTH_INCHES - 0.8) / columns - 0.15) / (octaves[-1] - octaves[0] + 2 * margin)
        gap = np.diff(octaves).min(initial=2.5)
        dodge = _dodge(styles, min(0.4 * gap, 0.06 * len(styles) / octave_inches))
        ends = _ends(cells)
        _time_axis(panels[0], np.concatenate([_column(cells + harness, "ns.median"), *ends]))
        for order, axes in zip(orders, panels, strict=True):
            _footprint_axis(axes, footprints, margin, octave_inches)
            _mark_caches(axes, summary)
            size = format_size(PAGE_BYTES << order)
            axes.set_title(f"order {order} ({size[:-1]} {size[-1]}iB {'folio' if order else 'page'})", pad=24)
            axes.grid(axis="y", color="#e4e4e4", linewidth=0.6)
            for name, style in (identities | styles).items():
                row = _select(cells + harness, order=order, contender=name)
                x = _column(row, "footprint_bytes") * 2 ** dodge.get(name, 0.0)
                axes.plot(x, _column(row, "ns.median"), label=name, **style)
                if name in styles:
                    low, high = _ends(row)
                    axes.fill_between(x, low, high, label=name, color=style["color"], alpha=0.2, linewidth=0)
        handles = [Line2D([], [], label=name, **style) for name, style in styles.items()]
        handles += [Line2D([], [], label=f"{name} (the harness)", **_HARNESS) for name in identities]
        note = "median; band: its 95 % interval; contenders set side by side at each footprint"
        finish(fig, summary, f"Time per lookup in ns: probe {probe}, pattern {pattern}", note, handles)
    return fig


def _compared(summary: Summary, probe: str, pattern: str) -> list[Row]:
    cells = _select(summary.cells, probe=probe, pattern=pattern)
    return [cell for cell in cells if cell.verdict != "reference"]


def differences(summary: Summary, probe: str, pattern: str) -> Figure:
    """Draw the difference to the reference (ns per lookup, 95 % interval) by order, a panel per footprint.

    What a cell can resolve is shaded around zero; its point is filled if the verdict is faster or slower.
    Raises :class:`PagebenchError` where nothing was compared.
    """
    cells = _compared(summary, probe, pattern)
    orders, footprints = (sorted(_distinct(cells, key)) for key in ("order", "footprint_bytes"))
    styles = _styles(summary, cells, linestyle="")
    dodge = _dodge(styles, 0.8)
    with look():
        fig, panels = _panels(len(footprints), min(len(footprints), 2), "order, folio size", shared=False)
        for footprint, axes in zip(footprints, panels, strict=True):
            here = _select(cells, footprint_bytes=footprint)
            levels = "/".join(str(level).upper() for level in _distinct(here, "level"))
            axes.set_title(f"footprint {format_size(footprint)} ({levels})")
            axes.use_sticky_edges = False
            axes.axhline(0, color="black", linewidth=0.8, zorder=1)
            for name, style in styles.items():
                row = _select(here, contender=name)
                x = np.searchsorted(orders, _column(row, "order")) + dodge[name]
                y, low, high = (_column(row, f"difference.ns.{end}") for end in ("estimate", "low", "high"))
                floor = _column(row, "smallest_resolvable_ns")
                axes.bar(x, 2 * floor, 0.8 / len(styles), -floor, label=name, color=_SHADE, zorder=0)
                axes.vlines(x, low, high, label=name, color=style["color"], linewidth=1.3, zorder=2)
                axes.plot(x, y, label=name, **style)
                clear = np.array([cell.verdict in ("faster", "slower") for cell in row], dtype=bool)
                axes.plot(x[clear], y[clear], **style | {"markerfacecolor": style["color"]})
            for edge in range(1, len(orders)):
                axes.axvline(edge - 0.5, color="#cccccc", linewidth=0.6, zorder=0)
            axes.set_xlim(-0.5, len(orders) - 0.5)
            axes.set_xticks(range(len(orders)), [f"{o}\n{format_size(PAGE_BYTES << o)}" for o in orders])
            _cycles_axis(axes, here)
        handles: list[Any] = [Line2D([], [], label=name, **style) for name, style in styles.items()]
        handles.append(Line2D([], [], c="k", mfc="k", marker="o", ls="", label="filled: faster or slower"))
        handles.append(Patch(color=_SHADE, label="smallest resolvable difference"))
        title = f"Difference to {summary.plan.reference} in ns per lookup"
        note = f"probe {probe}, pattern {pattern}; above 0 is slower; bars: 95 % interval; a scale per panel"
        finish(fig, summary, title, note, handles)
    return fig


def figures(summary: Summary) -> dict[str, Figure]:
    """Draw all that a run should leave: latency where footprints differ, differences where anything may."""
    drawn: dict[str, Figure] = {}
    for probe, pattern in dict.fromkeys((cell.probe, cell.pattern) for cell in summary.cells):
        if len(_distinct(_select(summary.cells, probe=probe, pattern=pattern), "footprint_bytes")) > 1:
            drawn[f"latency-{probe}-{pattern}"] = latency(summary, probe, pattern)
        if _compared(summary, probe, pattern):
            drawn[f"differences-{probe}-{pattern}"] = differences(summary, probe, pattern)
    return drawn


def save(figures: Mapping[str, Figure], directory: Path, stem: str) -> list[Path]:
    """Write each figure as ``stem-name.png``, 1000 pixels wide, and ``.svg``, then empty it.

    The same summary gives the same bytes.  A file appears whole or not at all.  Raises ``OSError``.
    """
    if not figures:
        return []
    directory.mkdir(parents=True, exist_ok=True)
    stems = {name: f"{stem}-{re.sub('[^a-zA-Z0-9_.+-]', '_', name)}" for name in figures}
    cpus = min(len(figures), len(os.sched_getaffinity(0)))
    # Figures hold functions and cannot be sent: a child has them from its parent.
    children = ProcessPoolExecutor(cpus, get_context("fork"), _begin, (os.getpid(), figures))
    with look(), tempfile.TemporaryDirectory(prefix=".plots-", dir=directory) as partial, children:
        written = children.map(_write, figures, [Path(partial, name) for name in stems.values()])
        try:
            paths = [path for of_figure in list(written) for path in of_figure]
        except BrokenProcessPool as error:
            raise OSError(0, "a process that drew was killed (out of memory?)") from error
        for fig in figures.values():
            fig.clear()
        return [path.replace(directory / path.name) for path in paths]


_inherited: dict[str, Figure] = {}


def _begin(parent: int, figures: Mapping[str, Figure]) -> None:
    """In a child: an interrupt is its parent's."""
    processes.end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _inherited.update(figures)


def _write(name: str, stem: Path) -> list[Path]:
    """A figure's files, laid out once."""
    fig, paths = _inherited[name], []
    fig.draw_without_rendering()
    fig.set_layout_engine("none")
    for axes in fig.axes:  # the solver's last bits differ from run to run
        axes.set_position(tuple(np.round(axes.get_position().bounds, 6)))
    for suffix, metadata in (("png", {}), ("svg", {"Date": None})):
        path = stem.with_name(f"{stem.name}.{suffix}")
        fig.savefig(path, format=suffix, dpi=DPI, metadata=metadata)
        paths.append(path)
    return paths
