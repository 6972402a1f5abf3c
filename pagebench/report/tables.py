"""The tables of the text report, and how a number stands in them."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

from pagebench.plan.questions import SERIES, of_family
from pagebench.results.summary import Estimate, Operation, Row, SeriesRow, Summary
from pagebench.units import format_size

WIDTH = 75

# In a table, beside its label, harness and reference columns.
DIFFERENCES_PER_TABLE = 4

CELL = 13


LEVELS = {"l1": "L1", "l2": "L2", "l3": "L3", "dram": "DRAM"}


def _decimals(ns: float) -> int:
    """Digits after the point that fit the column and the noise."""
    return 3 if abs(ns) < 10 else 2 if abs(ns) < 100 else 1


def significant(value: float) -> str:
    """Two significant digits, for noise floors."""
    return f"{value:.1g}" if value < 0.001 else f"{float(f'{value:.2g}'):g}"


def fixed(value: float | None, width: int) -> str:
    """A number of ns in so many columns; - where there is none."""
    if value is None:
        return "-".rjust(width)
    for decimals in range(min(_decimals(value), max(0, width - 3)), -1, -1):
        if len(text := f"{value:.{decimals}f}") <= width:
            return text.rjust(width)
    return f"{value:.0e}".replace("e+0", "e").rjust(width)


def size_text(size: int) -> str:
    """A footprint in the four characters of its column."""
    text = format_size(size)
    if len(text) <= 4:
        return text
    number, unit = float(text[:-1]), text[-1]
    if number < 999.5:
        return f"{number:.0f}{unit}"
    return f"{min(number / 1024, 0.99):.2f}"[1:] + {"K": "M", "M": "G", "G": "T"}[unit]


def _difference(row: Row | None) -> str:
    """A row's difference, with its mark."""
    return "-".rjust(CELL) if row is None else difference(row.difference.ns, row.mark or "")


def difference(ns: Estimate, mark: str) -> str:
    """``+0.501+-.002*``: estimate, half of the interval, verdict."""
    if ns.estimate is None:
        return "no data".rjust(CELL)
    half = math.inf
    if ns.low is not None and ns.high is not None:
        half = (ns.high - ns.low) / 2
    for decimals in range(_decimals(max(abs(ns.estimate), half if half < math.inf else 0)), -1, -1):
        width = f"{half:.{decimals}f}"
        if width.startswith("0."):
            width = width[1:]
        if len(text := f"{ns.estimate:+.{decimals}f}+-{width}{mark}") <= CELL:
            return text.rjust(CELL)
    return f"{ns.estimate:+.0e}{mark}".rjust(CELL)


def _wrapped_name(name: str, width: int) -> list[str]:
    """A contender's name over several lines, broken behind - and before @ and +."""
    lines = [""]
    for part in re.findall(r"[@+]?[^-@+]+-?", name):
        if len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return [line[i : i + width] for line in lines for i in range(0, len(line), width)]


def short(name: str) -> str:
    """Without @plain, where every kernel's vmemmap starts."""
    return name.removesuffix("@plain")


def cut(name: str, width: int) -> str:
    """A name in so many characters; one that had to be cut ends in ~."""
    return name if len(name) <= width else f"{name[: width - 1]}~"


def ordered(values: Iterable[Any]) -> list[Any]:
    """Each value once, in the order of its first coming."""
    return list(dict.fromkeys(values))


def paragraph(text: str) -> list[str]:
    """A text wrapped to the width of the report."""
    return textwrap.wrap(text, WIDTH, break_on_hyphens=False)


def comparison_tables(summary: Summary) -> list[str]:
    """Every probe and pattern: the reference, and differences to it."""
    lines: list[str] = []
    for probe, pattern in ordered((cell.probe, cell.pattern) for cell in summary.cells):
        cells = [c for c in summary.cells if (c.probe, c.pattern) == (probe, pattern)]
        others = ordered(c.contender for c in cells if c.verdict != "reference")
        for i in range(0, max(1, len(others)), DIFFERENCES_PER_TABLE):
            shown = others[i : i + DIFFERENCES_PER_TABLE]
            lines += [
                "",
                *_table(summary, probe, pattern, cells, shown),
                *_touched(cells, shown, first=i == 0),
            ]
    return lines


def series_tables(summary: Summary) -> list[str]:
    """What the series of v7.1 does, to pages that HVO touches and to others; what trees do, apart."""
    return [
        line
        for tree in (False, True)
        for line in _series_table([row for row in summary.series if row.tree is tree], tree)
    ]


def _series_table(rows: Sequence[SeriesRow], tree: bool) -> list[str]:
    pages = {question.name: question.pages for question in of_family(SERIES)}
    asked = [question for question in pages if any(row.question == question for row in rows)]
    if not asked:
        return []
    what = "the later tree" if tree else "the series of v7.1"
    lines = ["", f"what {what} changes, in ns per lookup (less is faster)"]
    for question in asked:
        one = next(row for row in rows if row.question == question)
        text = f"  {question}: {pages[question]}: {short(one.before)}, then {short(one.after)}"
        lines += textwrap.wrap(text, WIDTH, subsequent_indent="    ", break_on_hyphens=False)
    lines.append(
        "probe   pattern          ord  mem" + "".join(question.rjust(CELL + 1) for question in asked)
    )
    keys = ordered((r.probe, r.pattern, r.order, r.footprint_bytes) for r in rows)
    tables = ordered(key[:2] for key in keys)
    keys.sort(key=lambda key: tables.index(key[:2]))
    for key in keys:
        mine = {r.question: r for r in rows if (r.probe, r.pattern, r.order, r.footprint_bytes) == key}
        cells = "".join(" " + _difference(mine.get(question)) for question in asked)
        changed = _changed(mine.values())
        lines.append(f"{key[0]:7} {key[1][:15]:15} {key[2]:4} {size_text(key[3]):>4}{changed}{cells[1:]}")
    return lines


# 31 Oct 2021, "Free the 2nd vmemmap page associated with each HugeTLB page", v7.
PUBLISHED = {
    "heads-aligned": ("head, aligned", "+40 %"),
    "heads-unaligned": ("head, unaligned", "+20 %"),
    "tails": ("tail", "0 %"),
    "random": ("non-compound", "-"),
}


def fake_heads_table(summary: Summary) -> list[str]:
    """What the static key costs, beside what was published for it."""
    if summary.plan.preset != "fake-heads":
        return []
    lines = [
        "",
        "the static key of HVO, off to on: published, and here for a tail test that",
        "is a branch and one that is a select (ratio and difference in ns)",
        f"{'page':16} {'probe':7} {'publ.':>6} {'branch':>8} {'ns':>13} {'select':>8} {'ns':>13}",
    ]
    asked = {
        (row.question, row.probe, row.pattern, row.order, row.footprint_bytes): row for row in summary.series
    }
    several = len({key[:3] for key in asked}) < len(asked)
    for probe, pattern in product(ordered(row.probe for row in summary.series), PUBLISHED):
        name, published = PUBLISHED[pattern]
        for order, footprint in ordered(key[3:] for key in asked if key[1:3] == (probe, pattern)):
            line = f"{name:16} {probe:7} {published:>6}"
            for question in ("key, branch", "key, select"):
                row = asked.get((question, probe, pattern, order, footprint))
                ratio = row.ratio.estimate if row else None
                percent = "-" if ratio is None else f"{100 * (ratio - 1):+.0f} %"
                line += f" {percent:>8} {_difference(row)}"
            lines += [line, f"  (order {order}, {format_size(footprint)})"] if several else [line]
    return lines


def _table(
    summary: Summary, probe: str, pattern: str, cells: Sequence[Row], others: Sequence[str]
) -> list[str]:
    """One probe and pattern: a row per order and footprint, a column per contender."""
    reference = next(c.contender for c in cells if c.verdict == "reference")
    names = [["loop"], ["ref"], *(_wrapped_name(short(o), CELL) for o in others)]
    widths = [4, 6, *[CELL] * len(others)]
    lines = paragraph(f"{probe}, {pattern}: ns per lookup, and the difference to {short(reference)}")
    for row in range(depth := max(map(len, names))):
        place = [name[row - depth + len(name)] if row - depth + len(name) >= 0 else "" for name in names]
        label = "ord mem" if row == depth - 1 else ""
        lines.append(
            (f"{label:7} " + " ".join(text.rjust(w) for text, w in zip(place, widths, strict=True))).rstrip()
        )
    for order, footprint in ordered((c.order, c.footprint_bytes) for c in cells):
        at = [c for c in cells if (c.order, c.footprint_bytes) == (order, footprint)]
        mine = {c.contender: c for c in at}
        if others and not any(other in mine for other in others):
            continue
        harness = [
            h
            for h in summary.harness
            if (h.probe, h.pattern, h.order, h.footprint_bytes) == (probe, pattern, order, footprint)
        ]
        texts = [
            fixed(harness[0].ns.median if harness else None, 4),
            fixed(mine[reference].ns.median if reference in mine else None, 6),
            *(_difference(mine.get(other)) for other in others),
        ]
        lines.append(f"{order:2} {size_text(footprint):>4}{_changed(at)}" + " ".join(texts))
    return lines


def _changed(rows: Iterable[Row]) -> str:
    """Behind a footprint whose cache level was another one when the run ended."""
    return "!" if any(row.level_at_end != row.level for row in rows) else " "


def _touched(cells: Sequence[Row], others: Sequence[str], first: bool) -> list[str]:
    """What a table's contenders really touched, where that is not the footprint."""
    touched = ordered(
        (c.order, c.footprint_bytes, c.layout, c.touched_bytes)
        for c in cells
        if c.touched_bytes != c.footprint_bytes
        and (c.contender in others or (first and c.verdict == "reference"))
    )
    text = "; ".join(f"order {o} {format_size(f)} {layout}: {format_size(t)}" for o, f, layout, t in touched)
    return textwrap.wrap(f"lines touched: {text}", WIDTH) if text else []


# Where a column of six characters takes no whole word.
EVENTS = {"instructions": "instr", "branch_misses": "br_misses"}


def counts_table(summary: Summary) -> list[str]:
    """What a PMU counted per lookup; one line that says so where there is none."""
    counted = [c for c in (*summary.cells, *summary.harness) if c.counts]
    if not counted:
        return []
    events = ordered(event for c in counted for event in c.counts)
    lines = ["", "per lookup, counted by the PMU in rounds of their own"]
    heads = [_wrapped_name(EVENTS.get(event, event).replace("_", "-"), 6) for event in events]
    for row in range(depth := max(map(len, heads))):
        place = [head[row - depth + len(head)] if row - depth + len(head) >= 0 else "" for head in heads]
        lines.append((" " * 33 + "".join(text.rjust(7) for text in place)).rstrip())
    for probe, pattern in ordered((c.probe, c.pattern) for c in counted):
        lines.append(f"{probe}, {pattern}")
        for c in (c for c in counted if (c.probe, c.pattern) == (probe, pattern)):
            values = "".join(fixed(c.counts.get(event), 7) for event in events)
            where = f"{c.order:2} {size_text(c.footprint_bytes):>4} {short(c.contender)[:25]:25}"
            lines.append(where + values)
    return lines


def static_table(summary: Summary) -> list[str]:
    """What a model of the core predicts, beside what was measured."""
    if summary.predictor is None:
        return []
    title = (
        f"core cycles of a turn in L1, by {summary.predictor}, and as measured; what is left unexplained, "
        "of the turn and of its difference to the reference; - where a loop has a way around"
    )
    lines = ["", *paragraph(title), f"{'':27} ord  mem predicted measured    rest  of diff."]
    for row in summary.static:
        numbers = [
            "-" if value is None else f"{value:.2f}" for value in (row.predicted, row.measured, row.rest)
        ]
        difference = "-" if row.difference_rest is None else f"{row.difference_rest:+.2f}"
        lines.append(
            f"{row.probe:7}{short(row.contender)[:20]:20} {row.order:3} {size_text(row.footprint_bytes):>4} "
            f"{numbers[0]:>9} {numbers[1]:>8} {numbers[2]:>7} {difference:>9}"
        )
    return lines


def zap_table(summary: Summary) -> list[str]:
    """What a difference is at the scale of a kernel operation."""
    rows = summary.operations
    if not rows:
        return []
    every = ordered(row.footprint_bytes for row in rows)
    title = (
        f"{rows[0].lookups} random lookups (zapping 2 MiB makes as many), in us, order {rows[0].order}: "
        "reference, differences"
    )
    lines = ["", *textwrap.wrap(title, WIDTH)]
    for footprints in (every[i : i + 5] for i in range(0, len(every), 5)):
        lines.append(f"{'':31}" + "".join(format_size(f).rjust(8) for f in footprints))
        for probe, name in ordered((row.probe, row.contender) for row in rows):
            mine = {row.footprint_bytes: row for row in rows if (row.probe, row.contender) == (probe, name)}
            texts = [_operation(mine.get(footprint)) for footprint in footprints]
            lines.append(f"{probe:7} {short(name)[:23]:23}" + "".join(text.rjust(8) for text in texts))
    return lines


def _operation(row: Operation | None) -> str:
    if row is not None and row.verdict == "inconclusive":
        return "?"
    if row is None or row.us is None:
        return "-"
    return f"{row.us:.2f}" if row.verdict == "reference" else f"{row.us:+.2f}"
