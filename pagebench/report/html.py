"""A run as one HTML page that needs nothing else: verdict, tables, plots, machine code, machine, command."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from pagebench.code.plain import disassemble
from pagebench.plan.questions import SERIES, of_family
from pagebench.report import text
from pagebench.report.formats import FIGURES
from pagebench.report.tables import LEVELS, difference, fixed, ordered, short, significant
from pagebench.report.text import control, machine_fields, maxima_text
from pagebench.report.words import conclusion
from pagebench.results.summary import Estimate, Row, Summary
from pagebench.units import format_size

TEMPLATES = Path(__file__).parent / "page"


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table: what is shown, what it is sorted by where that is a number, and a class."""

    text: str
    value: float | None = None
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table that can be sorted by each of its columns."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


def render(summary: Summary) -> str:
    """The page.  Everything in it is escaped, but for its own style and script."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    macros: Any = environment.get_template("macros.html").module
    own = {name: Markup((TEMPLATES / name).read_text()) for name in ("page.css", "page.js")}
    return environment.get_template("page.html").render(
        summary=summary,
        style=own["page.css"],
        script=own["page.js"],
        sortable=macros.sortable,
        conclusion=conclusion(summary),
        control=f"Positive control: {control(summary)}.",
        answers=_answers(summary),
        plots=_plots(summary),
        cells=_cells(summary),
        code=_code(summary),
        machine=_machine(summary),
        legend=_legend(summary),
        text=text.render(summary),
    )


def _number(value: float | None, width: int = 8) -> Cell:
    return Cell("-" if value is None else fixed(value, width).strip(), value)


def _interval(ns: Estimate) -> Cell:
    if ns.estimate is None:
        return Cell("no data")
    shown = f"{ns.estimate:+.3f}"
    if ns.low is not None and ns.high is not None:
        shown += f" [{ns.low:+.3f}, {ns.high:+.3f}]"
    return Cell(shown, ns.estimate)


def _where(row: Row) -> list[Cell]:
    level = LEVELS[row.level] + (
        f", then {LEVELS[row.level_at_end]}" if row.level_at_end != row.level else ""
    )
    return [
        Cell(row.probe),
        Cell(row.pattern),
        Cell(str(row.order), row.order),
        Cell(format_size(row.footprint_bytes), row.footprint_bytes),
        Cell(level),
    ]


WHERE = ("probe", "pattern", "order", "footprint", "level")


def _verdict(row: Row) -> list[Cell]:
    return [
        _interval(row.difference.ns),
        Cell(row.verdict or "", None, row.verdict or ""),
        Cell(p_text(row.p_adjusted), row.p_adjusted),
    ]


def p_text(p: float | None) -> str:
    """A p, or that it is below what doubles tell from nothing."""
    return "-" if p is None else "<1e-15" if p < 1e-15 else f"{p:.2g}"


VERDICT = ("difference, ns [95 %]", "verdict", "p (Holm)")


def _answers(summary: Summary) -> list[Table]:
    """What the series changes, a column a question; of trees first."""
    of_the_series = {question.name for question in of_family(SERIES)}
    tables = []
    for tree, what in ((True, "What the later tree changes"), (False, "What the series of v7.1 changes")):
        rows = [row for row in summary.series if row.tree is tree and row.question in of_the_series]
        asked = ordered((row.question, row.before, row.after) for row in rows)
        at = {(*row.place, row.question, row.before, row.after): row for row in rows}
        places = ordered(row.place for row in rows)
        heads = [f"{name}: {short(before)} to {short(after)}" for name, before, after in asked]
        body = [
            [*_where(next(filter(None, of))), *map(_answer, of)]
            for of in ([at.get((*place, *one)) for one in asked] for place in places)
        ]
        if rows:
            tables.append(Table(what, (*WHERE, *heads), body, NOTE))
    return tables


NOTE = (
    "ns per lookup, after less before, with half of a 95 % interval: below zero is faster. * resolved and "
    "significant, + resolved, = equivalent, ? inconclusive."
)


def _answer(row: Row | None) -> Cell:
    if row is None:
        return Cell("-")
    shown = difference(row.difference.ns, row.mark or "").strip().replace("+-", " ±")
    return Cell(shown, row.difference.ns.estimate, row.verdict or "")


def _cells(summary: Summary) -> Table:
    heads = ("contender", *WHERE, "form", "ns", "cycles", *VERDICT, "ratio", "resolvable, ns")
    rows = [
        [
            Cell(short(row.contender)),
            *_where(row),
            Cell(row.form),
            _number(row.ns.median),
            _number(row.cycles.median),
            *_verdict(row),
            _number(row.ratio.estimate),
            _number(row.smallest_resolvable_ns),
        ]
        for row in (*summary.cells, *summary.noise, *summary.null, *summary.harness)
    ]
    return Table("", heads, rows)


def _legend(summary: Summary) -> str:
    return (
        f"Differences are to {short(summary.plan.reference)}, taken within the round, with 95 % intervals "
        f"over processes. Equivalent: the whole interval within {summary.margin_cycles:g} core cycle. Rows "
        "without a verdict are the harness' own: A/A pairs, nulls between encodings, the loop without a "
        "lookup. A click on a head sorts."
    )


def _plots(summary: Summary) -> list[tuple[str, str]]:
    """Each figure's name, and the figure as a data URL."""
    with tempfile.TemporaryDirectory(prefix="pagebench-") as scratch:
        files = [path for path in FIGURES["run"](summary, Path(scratch), "plot") if path.suffix == ".svg"]
        return [(path.stem.removeprefix("plot-"), _data_url(path.read_bytes())) for path in files]


def _data_url(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def _code(summary: Summary) -> Iterable[dict[str, object]]:
    """Every loop that was timed, as instructions."""
    for name, variant in summary.variants.items():
        origin = " ".join(filter(None, (variant.commit, variant.subject, variant.version, variant.source)))
        for probe, loop in variant.probes.items():
            yield {
                "name": name,
                "probe": probe,
                "form": loop.form,
                "instructions": loop.variant_instructions,
                "bytes": loop.variant_bytes,
                "immovable": loop.immovable,
                "origin": origin,
                "listing": "\n".join(disassemble(summary.machine.architecture, bytes.fromhex(loop.code))),
            }


def _machine(summary: Summary) -> list[tuple[str, str]]:
    finished, plan = summary.finished, summary.plan
    rows = [
        *machine_fields(summary),
        ("noise", f"largest |A/A| in ns: {maxima_text(summary.noise_maxima)}"),
        ("sampled", f"{finished.processes} processes x {plan.rounds} rounds, seed {plan.seed}"),
    ]
    if summary.null_maxima:
        rows.append(("null", f"largest null between encodings in ns: {maxima_text(summary.null_maxima)}"))
    floors = ", ".join(f"{r.probe} in {LEVELS[r.level]} {significant(r.ns)}" for r in summary.resolved)
    return [*rows, ("resolved", f"every difference down to, in ns: {floors}"), ("limits", summary.limits)]
