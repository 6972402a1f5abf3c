"""The text report: 75 columns, ASCII, ready for a mail."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence

from pagebench.architecture import ARCHITECTURES
from pagebench.plan.groups import Plan
from pagebench.report.cache import folios, side_by_side, simulated_block
from pagebench.report.tables import (
    LEVELS,
    WIDTH,
    comparison_tables,
    counts_table,
    fake_heads_table,
    ordered,
    paragraph,
    series_tables,
    short,
    significant,
    static_table,
    zap_table,
)
from pagebench.report.words import verdicts
from pagebench.results.summary import NoiseMaximum, Summary
from pagebench.units import duration, format_size

CLOCKS = {
    **{("counter", one.name): one.counter for one in ARCHITECTURES.values()},
    **{("gettime", name): "clock_gettime" for name in ARCHITECTURES},
}


def fields(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Label and text, wrapped under itself."""
    lines = []
    for label, text in rows:
        wrapped = textwrap.wrap(text, WIDTH - 11) or [""]
        lines += [f"{label if i == 0 else '':10} {line}" for i, line in enumerate(wrapped)]
    return lines


def _percent(share: float | None) -> str:
    if share is None:
        return "unknown"
    return "none" if share == 0 else f"{100 * share:.2g} %"


def _folios(plan: Plan) -> list[tuple[str, str]]:
    """Whose folios they are, where that is a machine's."""
    return [("folios", " ".join(folios(plan)).removeprefix("folios: "))] if plan.folios else []


def machine_fields(summary: Summary) -> list[tuple[str, str]]:
    """What was measured on, and by what: labels and texts for fields()."""
    machine, clock, caches = summary.machine, summary.clock, summary.machine.caches
    levels = {"L1d": caches.l1d_bytes, "L2": caches.l2_bytes, "L3": caches.l3_bytes}
    sizes = [f"{name} {format_size(size)}" for name, size in levels.items() if size]
    if summary.calibration:
        half_life = summary.calibration.l3_half_life_ms
        gone = "" if half_life is None else f", half of it gone after {half_life:.0f} idle ms"
        sizes.append(f"of the L3 {format_size(summary.calibration.l3_measured_bytes)} measured{gone}")
    ghz = clock.core_ghz
    backings = ordered(row.backing for row in summary.cells)
    return [
        ("cpu", f"{machine.cpu_model}, {machine.hypervisor or 'bare metal'}, CPU {machine.cpu}"),
        ("caches", ", ".join(sizes)),
        ("kernel", f"{machine.kernel_release} {machine.architecture}, THP {machine.thp_enabled}"),
        *_folios(summary.plan),
        ("backing", f"memmaps on {' and '.join(backings)} pages, as obtained"),
        (
            "clock",
            f"{CLOCKS.get((clock.kind, machine.architecture), clock.kind)}, "
            f"step {clock.granularity_ns:.1f} ns, a read {clock.cost_ns:.1f} ns; core "
            f"{ghz.median:.2f} GHz ({ghz.low:.2f} to {ghz.high:.2f}), from a chain of adds; "
            "times inside L2 are at the median of it",
        ),
        ("compiler", f"{summary.compiler.name} {summary.compiler.cflags}"),
    ]


def control(summary: Summary) -> str:
    """What the positive control read, and whether the run is to be trusted."""
    control = summary.control
    if control is None or control.cycles.estimate is None:
        return "not finished: nothing here was checked against a known difference yet"
    cycles = control.cycles
    read = f"one dependent add reads {cycles.estimate:.3f} cycles"
    if cycles.low is not None:
        read += f" [{cycles.low:.3f}, {cycles.high:.3f}]"
    expected = f"expected {control.expected_cycles:.2f} +- {control.tolerance_cycles:.2f}"
    if control.trusted:
        return f"{read}, {expected}: good"
    return f"{read}, {expected}: THIS RUN IS NOT TO BE TRUSTED; run again on a quieter machine"


def maxima_text(maxima: Sequence[NoiseMaximum]) -> str:
    """By cache level, over the probes."""
    parts = [f"{LEVELS[maximum.level]} {significant(maximum.ns)}" for maximum in maxima]
    pairs = sum(maximum.pairs for maximum in maxima)
    return f"{', '.join(parts)} ({pairs} pair{'s' if pairs != 1 else ''})"


def _header(summary: Summary) -> list[str]:
    tool, plan, finished = summary.tool, summary.plan, summary.finished
    disturbed = summary.interference
    title = f"pagebench {tool.version} ({tool.commit or 'unknown commit'}), {summary.created}"
    rows = [
        *machine_fields(summary),
        ("control", control(summary)),
        ("noise", f"largest |A/A| in ns: {maxima_text(summary.noise_maxima)}"),
        *(
            [("null", f"largest null between encodings in ns: {maxima_text(summary.null_maxima)}")]
            if summary.null
            else []
        ),
        (
            "sampled",
            f"{finished.processes} processes x {plan.rounds} rounds, seed {plan.seed}; "
            f"{_percent(disturbed.dropped_share)} of the samples dropped, "
            f"{disturbed.context_switches} context switches, "
            f"steal time {_percent(disturbed.steal_share)}",
        ),
    ]
    if finished.samplings < finished.planned:
        done = f"{finished.samplings} of {finished.planned} samplings (groups in processes)"
        rows.append(("partial", f"{done} are finished: go on with --resume"))
    if plan.struct_page_bytes != 64:
        falls = ": no power of two, so that masks fall back to the tagged pointer, as in the kernel"
        size = f"sizeof(struct page) is {plan.struct_page_bytes}"
        rows.append(("page", f"{size}{falls if summary.masks_fall_back else ''}"))
    if plan.memory_model:
        rows.append(("model", f"memmaps as badly aligned as {plan.memory_model} allows, see `align`"))
    rows += [("warning", text) for text in summary.warnings]
    return [title, "", *fields(rows)]


def _variants(summary: Summary) -> list[str]:
    """Who is compared: form as compiled, size, origin."""
    lines = ["contender              form    insns bytes  origin"]
    for name in ordered(row.contender for row in summary.cells):
        mine = [row for row in summary.cells if row.contender == name]
        variant = summary.variants[mine[0].variant]
        forms = "/".join(ordered(row.form for row in mine))
        probe = next(iter(variant.probes.values()))
        origin = " ".join(part for part in (variant.commit, variant.version) if part)
        line = f"{short(name):22} {forms:7} {probe.variant_instructions:5} {probe.variant_bytes:5}  "
        lines.append((line + origin)[:WIDTH])
    for name, variant in summary.variants.items():
        if variant.source:
            lines += textwrap.wrap(f"{name}: {variant.source}", WIDTH, subsequent_indent="  ")
    return lines


def _verdicts(summary: Summary) -> list[str]:
    """One sentence for each contender, counted from its cells."""
    return [
        line
        for text in verdicts(summary)
        for line in textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    ]


def _resolved(summary: Summary) -> list[str]:
    """What could be resolved where, and what not."""
    lines = []
    for probe in ordered(row.probe for row in summary.resolved):
        floors = [f"{LEVELS[r.level]} {significant(r.ns)}" for r in summary.resolved if r.probe == probe]
        lines += paragraph(f"{probe}: every difference was resolved down to, in ns: {', '.join(floors)}.")
    unresolved = summary.inconclusive
    if unresolved.count:
        where = ", ".join(f"{probe} in {LEVELS[level]}" for probe, level in unresolved.where)
        lines += paragraph(
            f"{unresolved.count} comparisons stay inconclusive ({where}): neither a difference "
            "nor its absence was shown; more --processes narrow them."
        )
    lines += _resolution(summary)
    small = summary.significant
    if small.comparisons:
        lines += paragraph(
            f"{small.below} of {small.comparisons} comparisons have p < {small.level:g} (t-test over "
            "processes, Holm-adjusted)."
        )
    return lines


def _resolution(summary: Summary) -> list[str]:
    """Whether what was asked to be resolved is."""
    found = summary.resolution
    if found is None:
        return []
    reached = found.comparisons - len(found.unresolved)
    lines = paragraph(
        f"{found.target} were asked for: {reached} of {found.comparisons} comparisons resolve that."
    )
    for one in found.unresolved:
        where = f"{one.probe}, {one.pattern}, order {one.order}, {format_size(one.footprint_bytes)}"
        now = "nothing" if one.resolvable is None else f"{significant(one.resolvable)} {found.target.unit}"
        wants = (
            "more processes do not help, a known zero is off by more"
            if one.processes_needed is None
            else f"wants {one.processes_needed} processes"
        )
        text = f"  {short(one.contender)} ({where}): {now} of {one.processes} processes; {wants}"
        lines += textwrap.wrap(text, WIDTH, subsequent_indent="    ", break_on_hyphens=False)
    if found.seconds_needed:
        lines += paragraph(
            f"What helps would take some {duration(found.seconds_needed)} more: go on with --resume."
        )
    return lines


def command_lines(command: str, width: int = WIDTH) -> list[str]:
    """A shell command, broken behind blanks and commas with backslashes."""
    if "'" in command:  # where a backslash is one
        return [f"  {command}"]
    lines = ["  "]
    for piece in re.findall(r"[^ ,]+[ ,]?", command):
        if len(lines[-1]) + len(piece) >= width:
            lines.append("    " if lines[-1].endswith(" ") else "")
            lines[-2] += "\\"
        lines[-1] += piece
    return lines


def render(summary: Summary) -> str:
    """The whole report, every line 75 columns or less."""
    legend = (
        f"* faster or slower, resolved, and p < {summary.significant.level:g} (t-test over processes, "
        "Holm-adjusted); "
        f"+ resolved, p above; = equivalent within {summary.margin_cycles:g} cycle; ? inconclusive. "
        "+- is half of a 95 % interval over processes. loop: the harness' loop without a lookup, not "
        "subtracted. ref: the reference; ord: folio order; mem: footprint in the memmap. A branch lets the "
        "CPU run ahead of the load that it tests; a select and arith wait for it."
    )
    lines = [
        *_header(summary),
        "",
        *_variants(summary),
        *fake_heads_table(summary),
        *series_tables(summary),
        *comparison_tables(summary),
        "",
        *paragraph(legend),
        *counts_table(summary),
        *side_by_side(summary.cells, summary.plan, summary.simulated),
        *simulated_block(summary.plan, summary.simulated, summary.explanation),
        *static_table(summary),
        *zap_table(summary),
        "",
        *_verdicts(summary),
        "",
        *_resolved(summary),
        "",
        *paragraph(summary.limits),
        "",
        "reproduce with:",
        *command_lines(summary.command),
    ]
    report = "\n".join(line.rstrip() for line in lines) + "\n"
    return report.encode("ascii", "replace").decode()
