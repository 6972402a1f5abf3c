"""A run for a cover letter: 72 columns and 40 lines at most."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Collection, Sequence

from pagebench.plan.questions import SERIES, of_family
from pagebench.report.tables import LEVELS, cut, difference, ordered, short, significant, size_text
from pagebench.report.text import command_lines
from pagebench.results.summary import Row, SeriesRow, Summary
from pagebench.units import format_size

WIDTH, LINES = 72, 40
COLUMNS = 3
COMMAND_LINES = 4
# What a cover letter is asked first: latency, throughput, with a reference taken; and of which folios.
PROBES = ("chain", "lookup", "get")
ORDERS = (0, 9, 2, 4)


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def render(summary: Summary) -> str:
    """The mail; every number in it is in the full report, too."""
    head, foot = _head(summary), _foot(summary)
    budget = LINES - len(head) - len(foot) - 2  # two empty lines
    lines = [*head, "", *_rows(summary, budget), "", *foot]
    text = "\n".join(line.rstrip() for line in lines[:LINES]) + "\n"
    return text.encode("ascii", "replace").decode()


def _head(summary: Summary) -> list[str]:
    machine, plan, finished = summary.machine, summary.plan, summary.finished
    ghz = summary.clock.core_ghz.median
    where = f"{machine.cpu_model}, {machine.hypervisor or 'bare metal'}"
    clock = "" if ghz is None else f", {ghz:.2f} GHz"
    l3 = (
        ""
        if summary.calibration is None
        else f", L3 {format_size(summary.calibration.l3_measured_bytes)} as measured"
    )
    partial = (
        ""
        if finished.samplings >= finished.planned
        else f", UNFINISHED: {finished.samplings} of {finished.planned}"
    )
    text = [
        f"compound_head() by pagebench {summary.tool.version} ({summary.tool.commit or 'unknown commit'})",
        cut(f"machine:  {where}{clock}{l3}", WIDTH),
        cut(f"kernel:   {machine.kernel_release}, THP {machine.thp_enabled}; {summary.compiler.name}", WIDTH),
        f"code:     {_code(summary)}",
        f"sampled:  {finished.processes} processes x {plan.rounds} rounds{partial}; "
        f"code at {_placement(summary)}",
        f"checked:  {_control(summary)}",
        f"noise:    largest |A/A| in ns: {_noise(summary)}",
    ]
    return [line for part in text for line in _wrapped(part, " " * 10)[:3]]


def _code(summary: Summary) -> str:
    """What is compared, as compiled: of a kernel tree its release, too."""
    told = []
    asked = [name for row in summary.series for name in (row.before, row.after)]
    for name in ordered(name.partition("@")[0] for name in asked or [summary.plan.reference]):
        variant = summary.variants[name]
        loop = next(iter(variant.probes.values()))
        release = f" ({variant.version})" if variant.source and variant.version else ""
        told.append(f"{name}{release}: {loop.form}, {loop.variant_instructions} insns")
    return "; ".join(told)


def _placement(summary: Summary) -> str:
    stuck = summary.interference.immovable_loops
    return "drawn addresses" if not stuck else f"drawn addresses, but for {stuck} loops"


def _control(summary: Summary) -> str:
    control = summary.control
    if control is None or control.cycles.estimate is None:
        return "nothing yet: the positive control is not finished"
    verdict = "good" if control.trusted else "NOT TO BE TRUSTED"
    return f"one dependent add reads {control.cycles.estimate:.3f} cycles: {verdict}"


def _noise(summary: Summary) -> str:
    return ", ".join(f"{LEVELS[maximum.level]} {significant(maximum.ns)}" for maximum in summary.noise_maxima)


def _rows(summary: Summary, budget: int) -> list[str]:
    """The series' questions, or the contenders that were named; the most telling rows that fit."""
    asked = _columns(summary)
    titles = [line for name, (what, _) in asked.items() for line in _wrapped(f"  {name}: {what}", "    ")[:2]]
    lines = ["ns per lookup (chain: latency, lookup: throughput), after - before:", *titles]
    names = [cut(name, 13) for name in asked]
    lines.append(
        f"{'probe':7} {'pattern':9}{'ord':>3} {'mem':>4}" + "".join(name.rjust(14) for name in names)
    )
    table = {name: {row.place: row for row in rows} for name, (_, rows) in asked.items()}
    places = ordered(place for rows in table.values() for place in rows)
    if not places:
        return ["Nothing is compared: there is one contender alone."]
    places.sort(key=_telling(places))
    room = budget - len(lines) - 1
    if len(_marks(summary, asked, len(places) - room)) > 1:
        room -= 1
    shown = sorted(
        places[: max(0, room)],
        key=lambda place: (PROBES.index(place[0]) if place[0] in PROBES else len(PROBES), place),
    )
    for place in shown:
        cells = (table[name].get(place) for name in asked)
        changes = "".join(
            ("-" if row is None else difference(row.difference.ns, row.mark or "").strip()).rjust(14)
            for row in cells
        )
        lines.append(f"{place[0]:7} {place[1][:9]:9}{place[2]:3} {size_text(place[3]):>4}{changes}")
    return [*lines, *_marks(summary, asked, len(places) - len(shown))]


def _marks(summary: Summary, asked: Collection[str], left: int) -> list[str]:
    """What marks mean, and what there was no room for; one line, or two."""
    level, margin = summary.significant.level, summary.margin_cycles
    told = [f"* p<{level:g} + p above = within {margin:g} cycle ? inconclusive"]
    if left > 0:
        told.append(f"{left} rows more")
    unseen = len({row.contender for row in summary.cells if row.verdict != "reference"}) - len(asked)
    if not any(row.question in asked for row in summary.series) and unseen > 0:
        told.append(f"{unseen} contender{'s' * (unseen > 1)} more")
    return _wrapped("; ".join(told))[:2]


def _columns(summary: Summary) -> dict[str, tuple[str, Sequence[Row]]]:
    """By a column's title: what it compares, and its rows."""
    trees = any(row.tree for row in summary.series)
    series: Sequence[SeriesRow] = [row for row in summary.series if row.tree is trees]
    questions = [q for q in of_family(SERIES) if any(row.question == q.name for row in series)]
    if questions:
        columns: dict[str, tuple[str, Sequence[Row]]] = {}
        for question in questions[:COLUMNS]:
            rows = [row for row in series if row.question == question.name]
            what = f"{question.which}: {short(rows[0].before)}, then {short(rows[0].after)}"
            columns[question.name] = (what, rows)
        return columns
    reference = short(summary.plan.reference)
    compared = [row for row in summary.cells if row.verdict != "reference"]
    return {
        short(name): (f"against {reference}", [row for row in compared if row.contender == name])
        for name in ordered(row.contender for row in compared)[:COLUMNS]
    }


_Place = tuple[str, str, int, int]


def _telling(places: Sequence[_Place]) -> Callable[[_Place], tuple[int, ...]]:
    """A rank of rows: what is asked first, in the smallest and the largest footprint."""
    sizes = sorted({place[3] for place in places})
    ends = [sizes[0], sizes[-1], *sizes[1:-1]]

    def rank(place: _Place) -> tuple[int, ...]:
        probe, pattern, order, size = place
        return (
            int(pattern != "random"),
            PROBES.index(probe) // 2 if probe in PROBES else len(PROBES),
            ends.index(size) // 2,
            ORDERS.index(order) if order in ORDERS else len(ORDERS),
            PROBES.index(probe) if probe in PROBES else len(PROBES),
            ends.index(size),
        )

    return rank


def _foot(summary: Summary) -> list[str]:
    """What was not resolved, and how to see the rest."""
    lines: list[str] = []
    by_probe = {
        probe: [f"{LEVELS[r.level]} {significant(r.ns)}" for r in summary.resolved if r.probe == probe]
        for probe in ordered(row.probe for row in summary.resolved)
    }
    floors = [f"{probe} {', '.join(levels)}" for probe, levels in by_probe.items()]
    lines += _wrapped(f"Resolved down to, in ns: {'; '.join(floors)}.")[:3]
    unresolved = summary.inconclusive
    if unresolved.count:
        where = ", ".join(f"{probe} in {LEVELS[level]}" for probe, level in unresolved.where)
        lines += _wrapped(
            f"Not resolved: {unresolved.count} of {summary.significant.comparisons} ({where})."
        )[:2]
    else:
        lines.append(f"Of {summary.significant.comparisons} comparisons none is inconclusive.")
    warned = len(summary.warnings)
    lines += _wrapped(
        "User space: no kernel mappings, no contention, no NUMA."
        + (f" {warned} warning{'s' * (warned > 1)}, see the report." if warned else "")
    )
    command = command_lines(summary.command, WIDTH)
    if len(command) <= COMMAND_LINES and max(map(len, command)) <= WIDTH:
        return [*lines, *command]
    return [*lines, "The command is in the result file."]
