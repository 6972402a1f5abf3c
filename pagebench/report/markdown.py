"""A run as Markdown, for a pull request or an issue."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from pagebench.report.tables import LEVELS, difference, fixed, ordered, short
from pagebench.report.text import machine_fields
from pagebench.report.words import conclusion
from pagebench.results.summary import Row, Summary
from pagebench.units import format_size


def escaped(text: str) -> str:
    """Text of a file, which is not to become a column, an element, a link or somebody's name."""
    plain = re.sub(r"([\\|`*_\[\]])", r"\\\1", html.escape(text, quote=False))
    return plain.replace("#", "&#35;").replace("@", "&#64;").replace("://", "&#58;//")


def folded(title: str, content: Iterable[str]) -> list[str]:
    """What is shown when it is asked for."""
    return [f"<details><summary>{html.escape(title)}</summary>", "", *content, "", "</details>", ""]


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table whose first column is text, and whose others are numbers."""
    return [
        f"| {' | '.join(heads)} |",
        "|---|" + "--:|" * (len(heads) - 1),
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def render(summary: Summary) -> str:
    """The verdict, what the series' questions come to, all cells folded, machine and command."""
    # Longer than any in what it encloses.
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", summary.command)), default=0))
    lines = ["### What `compound_head()` costs", ""]
    lines += [f"- {escaped(text)}" for text in conclusion(summary)]
    lines += [f"- warning: {escaped(text)}" for text in summary.warnings] + [""]
    for tree in ordered(row.tree for row in summary.series):
        series = [row for row in summary.series if row.tree is tree]
        questions = ordered(row.question for row in series)
        asked = {question: [row for row in series if row.question == question] for question in questions}
        heads = [
            f"{escaped(name)}: {escaped(short(rows[0].before))} to {escaped(short(rows[0].after))}"
            for name, rows in asked.items()
        ]
        lines += [*table(["cell, ns per lookup", *heads], _rows(asked.values())), ""]
    compared = ordered(row.contender for row in summary.cells if row.verdict != "reference")
    reference = [row for row in summary.cells if row.verdict == "reference"]
    columns = [[row for row in summary.cells if row.contender == name] for name in compared]
    heads = [escaped(short(name)) for name in (summary.plan.reference, *compared)]
    everything = table(["cell, ns per lookup", *heads], _rows([reference, *columns]))
    lines += folded(f"all {len(summary.cells)} cells, against {short(summary.plan.reference)}", everything)
    lines += folded(
        "machine, compiler, limits",
        [
            *(f"- {label}: {escaped(text)}" for label, text in machine_fields(summary)),
            f"- limits: {escaped(summary.limits)}",
        ],
    )
    lines += [
        f"± is half of a 95 % interval over processes; \\* resolved and p < {summary.significant.level:g}, "
        f"+ resolved, = equivalent within {summary.margin_cycles:g} cycle, ? inconclusive.",
        "",
        fence,
        summary.command,
        fence,
    ]
    return "\n".join(lines) + "\n"


def _rows(columns: Iterable[Sequence[Row]]) -> Iterable[list[str]]:
    """A row a cell, a column a contender or a question."""
    columns = list(columns)
    of = [{(*row.place, row.level): row for row in column} for column in columns]
    for place in ordered((*row.place, row.level) for column in columns for row in column):
        probe, pattern, order, size, level = place
        where = f"{escaped(probe)}, {escaped(pattern)}, order {order}, {format_size(size)} ({LEVELS[level]})"
        yield [where, *(_value(column.get(place)) for column in of)]


def _value(row: Row | None) -> str:
    if row is None:
        return "-"
    if row.verdict == "reference":
        return fixed(row.ns.median, 6).strip()
    return escaped(difference(row.difference.ns, row.mark or "").strip()).replace("+-", " ±")
