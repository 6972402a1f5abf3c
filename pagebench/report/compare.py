"""Runs compared: text of 75 columns, Markdown for a pull request, CSV."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Sequence

from pagebench.names import VERDICTS
from pagebench.report.tables import (
    CELL,
    LEVELS,
    WIDTH,
    difference,
    fixed,
    ordered,
    paragraph,
    short,
    size_text,
)
from pagebench.report.text import fields
from pagebench.results.change import Absolute, Center, Change, Changes, Code, Comparison, Gate
from pagebench.results.gate import exit_code
from pagebench.results.judgement import SIGNIFICANT
from pagebench.units import format_size

# In a list of cells that did not pass; the tables have them all.
LISTED = 10
ALARMING = ("failed", "undecided")


def render(comparison: Comparison) -> str:
    """The text report of every run against the first."""
    lines: list[str] = []
    for one in comparison.runs:
        lines += [*_block(one), ""]
    report = "\n".join(line.rstrip() for line in [*lines, *legend(comparison)]) + "\n"
    return report.encode("ascii", "replace").decode()


def _block(changes: Changes) -> list[str]:
    return [
        *paragraph(f"{changes.after.name} against {changes.before.name}"),
        "",
        *paragraph(verdict(changes)),
        *(line for text in _gate(changes) for line in _item(text)),
        "",
        *fields([*runs(changes), *differences(changes), *codes(changes)]),
        *fields(("warning", text) for text in changes.warnings),
        *_tables(changes),
        "",
        *_means(changes),
        "",
        *_resolves(changes),
        *_missing(changes),
    ]


def _item(text: str) -> list[str]:
    indent = "  " if text.startswith("  ") else ""
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent + indent, break_on_hyphens=False)


def verdict(changes: Changes) -> str:
    """What came of it, in a sentence or two."""
    judged = [cell for cell in changes.cells if cell.verdict is not None]
    counts = Counter(cell.verdict for cell in judged)
    if not judged:
        return "Nothing was judged: no cell can be taken to what has the same machine code in both runs."
    parts = [f"{name} in {counts[name]}" for name in VERDICTS if counts[name]]
    parts = [part + _sizes(judged, part.split()[0]) for part in parts]
    found = [cell for cell in judged if cell.verdict in ("faster", "slower")]
    of = f"{len(judged)} cell{'s' if len(judged) != 1 else ''} judged, {', '.join(parts)}"
    if not found:
        return f"Nothing is resolved: {of}."
    are = "s are" if len(found) != 1 else " is"
    text = f"{len(found)} change{are} resolved: {of}."
    same = sum(cell.same_code for cell in found)
    if same:
        text += f" In {same} of them the machine code is the same in both: there the machine differs."
    return text


def _sizes(cells: Sequence[Change], verdict: str) -> str:
    if verdict not in ("faster", "slower"):
        return ""
    sizes = sorted(abs(cell.ns.estimate) for cell in cells if cell.verdict == verdict and cell.ns.estimate)
    span = f"{_plain(sizes[0])} to {_plain(sizes[-1])}" if len(sizes) > 1 else _plain(sizes[0])
    return f" (by {span} ns)"


def _gate(changes: Changes) -> list[str]:
    """What a gate says: sentences, then the cells that did not pass."""
    gate = changes.gate
    if gate is None:
        return []
    lines = [gate_verdict(gate)]
    for outcome, label in (("failed", "slower by more than that"), ("undecided", "undecided")):
        mine = [cell for cell in changes.cells if cell.outcome == outcome]
        if mine:
            lines.append(f"{label}:")
            lines += [f"  {_outcome(cell)}" for cell in mine[:LISTED]]
        if len(mine) > LISTED:
            lines.append(f"  and {len(mine) - LISTED} more")
    lines += [f"not judged: {why}" for why in gate.why_not]
    return lines


def gate_verdict(gate: Gate) -> str:
    """How many cells were judged, and the exit code for it."""
    every = gate.judged + gate.undecided + gate.missing
    judged = f"{gate.judged} of {every} cells judged, {gate.passed} passed, {gate.failed} failed"
    code = exit_code(gate)
    what = {
        0: f"Gate passed: no cell got slower by more than {gate.threshold}",
        1: f"Gate FAILED: slower by more than {gate.threshold}",
        3: f"Gate undecided: whether cells got slower by more than {gate.threshold} is not resolved",
    }[code]
    text = f"{what} ({judged}; exit code {code})."
    if code == 3 and not gate.why_not and gate.judges_ns is not None and gate.judges_percent is not None:
        text += (
            f" These two runs can judge every cell at {gate.judges_ns:g} ns, or {gate.judges_percent:g} %; "
            "more --processes narrow that."
        )
    return text


def _outcome(cell: Change) -> str:
    ns, limit = cell.ns, cell.threshold_ns
    change = "no data"
    if ns.estimate is not None:
        low, high = (f"{end:+.3f}" if end is not None else "unknown" for end in (ns.low, ns.high))
        change = f"{ns.estimate:+.3f} ns [{low}, {high}]"
        change += "" if limit is None else f", threshold {limit:.3f}"
    blame = cell.outcome == "failed" and cell.same_code
    code = "; the same machine code in both: the machine differs" if blame else ""
    return f"{place(cell)}: {change}{code}"


def place(cell: Change) -> str:
    """Which cell it is, in words."""
    size = format_size(cell.footprint_bytes)
    return f"{short(cell.contender)} ({cell.probe}, {cell.pattern}, order {cell.order}, {size})"


def _plain(value: float) -> str:
    """Two significant digits or three, never in powers of ten."""
    if 0.01 <= abs(value) < 99.5:
        return f"{value:.2g}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.0f}"


TRUST = {True: "good", False: "OFF", None: "not finished"}


def runs(changes: Changes) -> list[tuple[str, str]]:
    """Both runs, and what both have."""
    rows = []
    for what, side in (("before", changes.before), ("after", changes.after)):
        ghz = "unknown" if side.core_ghz is None else f"{side.core_ghz:.2f} GHz"
        partial = "" if side.complete else ", not finished"
        text = (
            f"{side.created}, {side.processes} processes{partial}, core {ghz}, control {TRUST[side.trusted]}"
        )
        fits = len(side.name) <= 10
        rows.append((side.name if fits else what, text if fits else f"{side.name}: {text}"))
    machine, compiler = changes.before.machine, changes.before.compiler
    told = {row.what for row in changes.differs}
    both = {
        "CPU model": ("cpu", f"{machine.cpu_model}, {machine.hypervisor or 'no hypervisor seen'}"),
        "kernel": ("kernel", f"{machine.kernel_release} {machine.architecture}"),
        "compiler": ("compiler", compiler.name),
    }
    return [*rows, *(row for what, row in both.items() if what not in told)]


def differences(changes: Changes) -> list[tuple[str, str]]:
    """What is not alike in both runs."""
    return [
        (
            "differs",
            f"{row.what}: {row.before}; then {row.after}{' (compared by --force)' if row.refused else ''}",
        )
        for row in changes.differs
    ]


def codes(changes: Changes) -> list[tuple[str, str]]:
    """Whose machine code is the same in both runs, and what became of the others."""
    rows = []
    if changes.same_code:
        rows.append(("code", f"the same in both runs: {', '.join(changes.same_code)}"))
    for name in changes.other_code:
        became = ordered(
            f"{cell.probe} {_became(cell)}"
            for cell in changes.cells
            if cell.contender.partition("@")[0] == name and not cell.same_code
        )
        rows.append(("code", f"other: {name}: {'; '.join(became)}"))
    return rows


def _became(cell: Change) -> str:
    if cell.code == cell.code_after and cell.code.immovable:
        return f"{_form(cell.code)} in both, but not known to be the same: it may call something else"
    return f"{_form(cell.code)}, then {_form(cell.code_after)}"


def _form(code: Code) -> str:
    return f"{code.form} of {code.instructions} instructions, {code.bytes} bytes"


HEADS = (
    f"{'':8}{'before':>10}{'':8}{'after':>10}{'':5}{'change of':>14}{'':5}{'A/A':>9}",
    f"{'ord mem':8}{'ns':>6} {'+-%':>3}{'vs base':>8}{'ns':>6} {'+-%':>3}{'p':>5}"
    f"{'difference':>14}{'Holm':>5}{'old':>5}{'new':>5}{'runs':>5}",
)


def _tables(changes: Changes) -> list[str]:
    """Probe by probe, a contender at a time: benchstat's columns, then what is judged."""
    lines: list[str] = []
    for probe, pattern, contender in ordered((c.probe, c.pattern, c.contender) for c in changes.cells):
        cells = [c for c in changes.cells if (c.probe, c.pattern, c.contender) == (probe, pattern, contender)]
        for anchor in ordered(cell.anchor for cell in cells):
            mine = [cell for cell in cells if cell.anchor == anchor]
            lines += [
                "",
                *paragraph(f"{probe}, {pattern}: {short(contender)}{_taken_to(mine, changes.reference)}"),
                *HEADS,
            ]
            lines += [_row(cell) for cell in mine]
    return lines


def _taken_to(cells: Sequence[Change], reference: str) -> str:
    anchor = cells[0].anchor
    if anchor is None:
        return ", taken to nothing: no loop has the same machine code in both runs"
    if anchor == "reference":
        return f", taken to {short(reference)}"
    what = "; what others are taken to, not judged" if all(cell.verdict is None for cell in cells) else ""
    return f", taken to the harness' loop{what}"


def _row(cell: Change) -> str:
    absolute = cell.absolute
    base = versus(absolute)
    if len(base) > 7:
        base = f"{base.partition('.')[0]}%"
    if len(base) > 7:
        base = ">+9999%"
    changed = "!" if cell.level_after != cell.level else " "
    shown = difference(cell.ns, cell.mark or "") if cell.anchor else "-".rjust(CELL)
    noise = "".join(_noise(ns).rjust(5) for ns in cell.aa_ns)
    between = _noise(cell.between_runs_ns)
    noise += (f"~{between[:3]}" if cell.between_runs_assumed else between).rjust(5)
    return (
        f"{cell.order:2} {size_text(cell.footprint_bytes):>4}{changed}{_times(absolute.before)}{base:>8}"
        f"{_times(absolute.after)}{_p(absolute.p):>5}{shown:>14}{_p(cell.p_adjusted):>5}{noise}"
    )


def _times(center: Center) -> str:
    """The median, and how far the ends of its interval are from it in percent, as benchstat has it."""
    return f"{fixed(center.median, 6)} {spread(center):>3}"


def _p(p: float | None) -> str:
    """Three digits, without the zero before the point."""
    return "-" if p is None else f"{p:.3f}".removeprefix("0")[:4]


def versus(absolute: Absolute) -> str:
    """benchstat's change; ~ where its test finds none."""
    if absolute.p is None or absolute.p > SIGNIFICANT or absolute.ratio is None:
        return "~"
    return "0.00%" if absolute.ratio == 1 else f"{100 * (absolute.ratio - 1):+.2f}%"


def spread(center: Center) -> str:
    """benchstat's +-: the farther end; ``inf`` where there is none."""
    if center.median is None or center.low is None or center.high is None or not center.median:
        return "inf"
    share = max(center.high / center.median - 1, 1 - center.low / center.median)
    return f"{100 * share:.0f}%" if share < 0.995 else ">99"


def _noise(ns: float | None) -> str:
    if ns is None or ns > 9999:
        return "-" if ns is None else "huge"
    text = f"{ns:.3f}" if ns < 0.0995 else f"{ns:.2f}" if ns < 9.95 else f"{ns:.0f}"
    return text.removeprefix("0")


def _means(changes: Changes) -> list[str]:
    lines = [f"{'geometric means':18}{'cells':>6}{'after/before':>14}{'to the reference':>18}"]
    for mean in changes.means:
        ratio, anchored = ("-" if value is None else f"{value:.4f}" for value in (mean.ratio, mean.anchored))
        lines.append(f"{mean.probe:18}{mean.cells:6}{ratio:>14}{anchored:>18}")
    return lines


def _resolves(changes: Changes) -> list[str]:
    """How fine the comparison is, by probe and level."""
    largest: dict[str, dict[str, float]] = {}
    for cell in changes.cells:
        if cell.verdict is not None:
            of_probe = largest.setdefault(cell.probe, {})
            floor = math.inf if cell.smallest_resolvable_ns is None else cell.smallest_resolvable_ns
            of_probe[cell.level] = max(of_probe.get(cell.level, 0.0), floor)
    lines = [
        f"{probe}: every change was resolved down to, in ns: "
        + ", ".join(f"{LEVELS[level]} {_plain(of_probe[level])}" for level in LEVELS if level in of_probe)
        for probe, of_probe in largest.items()
    ]
    return [line for text in lines for line in paragraph(text + ".")]


def _missing(changes: Changes) -> list[str]:
    lines = []
    for name, other, cells in (
        (changes.before.name, changes.after.name, changes.only_before),
        (changes.after.name, changes.before.name, changes.only_after),
    ):
        if cells:
            more = f"; and {len(cells) - LISTED} more" if len(cells) > LISTED else ""
            lines += ["", *paragraph(f"in {name}, not in {other}: {'; '.join(cells[:LISTED])}{more}")]
    return lines


def legend(comparison: Comparison) -> list[str]:
    """What the columns mean."""
    margin = comparison.runs[0].margin_cycles
    return paragraph(
        "before, after: medians over processes, each run at its own core clock, and how far the interval "
        "reaches; vs base and p: of these, ~ where p > 0.05 (Mann-Whitney, not adjusted), as benchstat. "
        "Absolute times of two runs differ by themselves: nothing is judged by them. Change of difference: "
        "of what a cell takes more than what it is taken to, in ns at the first run's core clock, "
        "+- half of a 95 % interval: * resolved (it excludes zero, exceeds what is known to be zero, and "
        f"p < {SIGNIFICANT:g}); = equivalent within {margin:g} cycle; ? inconclusive. Holm: its p, adjusted "
        "over all cells that are judged. A/A: the largest of either run; runs: what cells of the same "
        "machine code and kind differ by between these runs, root mean square, ~ where it is assumed. !: "
        "another cache level."
    )
