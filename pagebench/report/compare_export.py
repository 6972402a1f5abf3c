"""Runs compared, for other places than a terminal: CSV, and Markdown for a pull request."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from pagebench.report import compare
from pagebench.report.markdown import escaped, folded, table
from pagebench.report.tables import LEVELS, difference, fixed
from pagebench.results.change import Change, Changes, Comparison


def to_csv(comparison: Comparison) -> str:
    """A row a cell and run."""
    rows = [_flat(one, cell) for one in comparison.runs for cell in one.cells]
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0] if rows else (), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _flat(changes: Changes, cell: Change) -> dict[str, object]:
    """A cell's numbers by column."""
    absolute = cell.absolute
    return {
        "run": changes.after.name,
        "contender": cell.contender,
        "probe": cell.probe,
        "pattern": cell.pattern,
        "order": cell.order,
        "footprint_bytes": cell.footprint_bytes,
        "level": cell.level,
        "level_after": cell.level_after,
        "same_code": cell.same_code,
        "form": cell.code.form,
        "form_after": cell.code_after.form,
        "before_ns": absolute.before.median,
        "after_ns": absolute.after.median,
        "ratio": absolute.ratio,
        "p_mann_whitney": absolute.p,
        "anchor": cell.anchor,
        "difference_ns": cell.ns.estimate,
        "low_ns": cell.ns.low,
        "high_ns": cell.ns.high,
        "difference_cycles": cell.cycles.estimate,
        "percent": cell.percent,
        "p_holm": cell.p_adjusted,
        "verdict": cell.verdict,
        "aa_before_ns": cell.aa_ns[0],
        "aa_after_ns": cell.aa_ns[1],
        "between_runs_ns": cell.between_runs_ns,
        "smallest_resolvable_ns": cell.smallest_resolvable_ns,
        "threshold_ns": cell.threshold_ns,
        "outcome": cell.outcome,
    }


def to_markdown(comparison: Comparison) -> str:
    """For a comment in a pull request: the verdict, the cells that matter, the rest folded."""
    lines: list[str] = []
    for one in comparison.runs:
        lines += [f"### `{one.after.name}` against `{one.before.name}`", "", compare.verdict(one), ""]
        if one.gate is not None:
            lines += [f"**{compare.gate_verdict(one.gate)}**", ""]
            lines += [f"- not judged: {escaped(why)}" for why in one.gate.why_not]
        lines += [f"- warning: {escaped(text)}" for text in one.warnings] + [""]
        telling = [c for c in one.cells if c.verdict in ("faster", "slower") or c.outcome in compare.ALARMING]
        if telling:
            lines += [*_markdown_table(telling[: 2 * compare.LISTED], one), ""]
        if len(telling) > 2 * compare.LISTED:
            lines += [f"and {len(telling) - 2 * compare.LISTED} more, see below", ""]
        lines += folded(f"all {len(one.cells)} cells", _markdown_table(one.cells, one))
        about = (*compare.runs(one), *compare.differences(one), *compare.codes(one))
        lines += folded("what was compared", (f"- {label}: {escaped(text)}" for label, text in about))
    lines += folded("how to read it", compare.legend(comparison))
    return "\n".join(lines) + "\n"


def _markdown_table(cells: Iterable[Change], changes: Changes) -> list[str]:
    before, after = (escaped(side.name) for side in (changes.before, changes.after))
    gated = changes.gate is not None
    heads = ["cell", f"{before}, ns", f"{after}, ns", "change of difference, ns", "verdict"]
    return table([*heads, "gate"] if gated else heads, (_markdown_row(cell, gated) for cell in cells))


def _markdown_row(cell: Change, gated: bool) -> list[str]:
    centers = cell.absolute.before, cell.absolute.after
    times = [f"{fixed(center.median, 7).strip()} ±{compare.spread(center)}" for center in centers]
    shown = difference(cell.ns, "").strip().replace("+-", " ±") if cell.anchor else "-"
    said = "yardstick" if cell.verdict is None else f"{cell.verdict} (in {LEVELS[cell.level]})"
    return [escaped(compare.place(cell)), *times, shown, said, *([cell.outcome or "-"] if gated else [])]
