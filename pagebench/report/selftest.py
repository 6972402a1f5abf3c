"""The report of a self-test: promises with what was found, what is resolved in which time, and why."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pagebench.report.tables import LEVELS, paragraph, significant, size_text
from pagebench.report.text import fields, machine_fields
from pagebench.results.promises import Promise, Resolves, Scatter, SelfTest
from pagebench.results.summary import Number, Summary
from pagebench.units import duration


class Tested(msgspec.Struct, frozen=True):
    """A self-test, and the summary of all its processes as of one run."""

    summary: Summary
    selftest: SelfTest


def render(tested: Tested) -> str:
    """Text, every line 75 columns or less."""
    summary, found = tested.summary, tested.selftest
    tool = summary.tool
    broken = sum(not promise.kept for promise in found.promises)
    what = "every promise is kept" if not broken else f"{broken} OF {len(found.promises)} PROMISES ARE BROKEN"
    lines = [
        f"pagebench {tool.version} ({tool.commit or 'unknown commit'}), {summary.created}, self-test",
        "",
        *fields([*machine_fields(summary), *(("warning", text) for text in summary.warnings)]),
        "",
        *paragraph(
            f"{found.runs} runs of {found.processes} processes over pairs whose true difference is known: "
            f"{what}."
        ),
        "",
        *_promises(found.promises),
        "",
        *_resolves(found.resolves),
        "",
        *_scatter(found.scatter),
    ]
    report = "\n".join(line.rstrip() for line in lines) + "\n"
    return report.encode("ascii", "replace").decode()


def to_json(tested: Tested) -> str:
    """Both, as JSON, indented."""
    return msgspec.json.format(msgspec.json.encode(tested), indent=1).decode()


def _promises(promises: Sequence[Promise]) -> list[str]:
    lines = [f"{'':6} {'promise':43} {'promised':>11}  found"]
    for promise in promises:
        if promise.of:
            bound = f"{'<=' if promise.at_most else '>='} {100 * promise.share:g} %"
            seen = f"{promise.count} of {promise.of}"
        else:
            bound = f"{promise.true_cycles:g}+-{promise.tolerance_cycles:g}"
            estimate = promise.estimate_cycles
            seen = "-" if estimate is None else f"{estimate:.3f}"
        lines.append(f"{'kept' if promise.kept else 'BROKEN':6} {promise.what:43} {bound:>11}  {seen}")
    return lines


def _place(row: Resolves | Scatter) -> str:
    return f"{row.probe:7} {row.pattern:7} {LEVELS[row.level]:5} {size_text(row.footprint_bytes):>4}"


PLACE = f"{'probe':7} {'pattern':7} {'level':5}  mem"


def _resolves(rows: Sequence[Resolves]) -> list[str]:
    budgets = list(rows[0].ns_by_seconds)
    heads = "".join(f"{'in ' + duration(float(budget)):>10}" for budget in budgets)
    lines = paragraph("what a run of one group resolves, in ns: as run here, and in other times")
    lines.append(f"{PLACE} {'as run':>8} {'in':>8}{heads}")
    for row in rows:
        spent = "".join(f"{_floor(row.ns_by_seconds[budget]):>10}" for budget in budgets)
        lines.append(f"{_place(row)} {_floor(row.ns):>8} {f'{row.seconds:.1f} s':>8}{spent}")
    return lines


def _floor(value: Number) -> str:
    return "-" if value is None else significant(value)


def _scatter(rows: Sequence[Scatter]) -> list[str]:
    lines = [
        *paragraph(
            "where the scatter of an A/A pair's difference in one round comes from, in shares of its "
            "variance; and how far the worst placement of its code is behind the best"
        ),
        f"{PLACE} {'sd, ns':>8} {'placement':>10} {'process':>8} {'round':>7} {'behind':>9}",
    ]
    for row in rows:
        shares = row.placement, row.process, row.round
        texts = ["-" if share is None else f"{100 * share:.0f} %" for share in shares]
        lines.append(
            f"{_place(row)} {_floor(row.ns):>8} {texts[0]:>10} {texts[1]:>8} {texts[2]:>7} "
            f"{_floor(row.placement_range_ns):>9}"
        )
    return lines
