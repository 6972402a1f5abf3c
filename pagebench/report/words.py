"""A run's verdicts in sentences, for every format that has words."""

from __future__ import annotations

from collections.abc import Sequence

from pagebench.plan.questions import SERIES, of_family
from pagebench.report.tables import ordered, short, significant
from pagebench.results.judgement import spans
from pagebench.results.summary import Row, Span, Summary


def _span(span: Span) -> str:
    if span.least_ns is None or span.most_ns is None:
        return ""
    least, most = significant(abs(span.least_ns)), significant(abs(span.most_ns))
    return f" (by {least} ns)" if span.count == 1 else f" (by {least} to {most} ns)"


def _counted(rows: Sequence[Row]) -> str:
    return ", ".join(
        f"{verdict} in {span.count}" + (_span(span) if verdict in ("faster", "slower") else "")
        for verdict, span in spans(rows).items()
    )


def verdicts(summary: Summary) -> list[str]:
    """A sentence for each contender, counted from its cells."""
    lines = []
    for row in summary.overall:
        mean = "unknown" if row.geometric_mean_ratio is None else f"{row.geometric_mean_ratio:.3f}"
        cells = [cell for cell in summary.cells if cell.contender == row.contender]
        lines.append(
            f"{short(row.contender)} against {short(summary.plan.reference)}, {row.cells} cells: "
            f"{_counted(cells)}; geometric mean of ratios {mean}."
        )
    return lines


def answers(summary: Summary) -> list[str]:
    """A sentence for each question of the series that the run answers; of kernel trees first."""
    lines = []
    for tree in (True, False):
        rows = [row for row in summary.series if row.tree is tree]
        for question in of_family(SERIES):
            mine = [row for row in rows if row.question == question.name]
            which = question.pages[0].upper() + question.pages[1:]
            lines += [
                f"{which}: {short(after)} against {short(before)}, {len(mine)} cells: {_counted(mine)}."
                for before, after in ordered((row.before, row.after) for row in mine)
            ]
    return lines


def conclusion(summary: Summary) -> list[str]:
    """What comes first: whether the run is to be trusted, what was asked, what was not resolved."""
    lines = []
    if summary.control is None:
        lines.append("Not finished: nothing here was checked against a known difference yet.")
    elif not summary.control.trusted:
        lines.append("This run is not to be trusted: its positive control does not read one core cycle.")
    lines += answers(summary) or verdicts(summary)
    unresolved = summary.inconclusive.count
    of = summary.significant.comparisons
    if unresolved:
        lines.append(
            f"{unresolved} of {of} comparisons are inconclusive: neither a difference nor its absence was "
            "shown."
        )
    return lines
