"""The text report: 75 columns, ASCII, ready for a mail."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pagebench.architecture import ARCHITECTURES
from pagebench.report.tables import (
    LEVELS,
    SIGNIFICANT,
    WIDTH,
    comparison_tables,
    counts_table,
    fake_heads_table,
    ordered,
    paragraph,
    series_table,
    short,
    significant,
    zap_table,
)
from pagebench.units import format_size

CLOCKS = {
    **{("counter", one.name): one.counter for one in ARCHITECTURES.values()},
    **{("gettime", name): "clock_gettime" for name in ARCHITECTURES},
}


LIMITS = (
    "Not seen from user space: kernel mappings of the vmemmap, contention for "
    "_refcount between CPUs, NUMA (a shared tail may be remote), single lookups "
    "with code and branches cold and, in a VM, what nested paging adds to a TLB "
    "miss."
)


def _fields(rows: Iterable[tuple[str, str]]) -> list[str]:
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


def _machine(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    machine, clock, caches = summary["machine"], summary["clock"], summary["machine"]["caches"]
    measured = summary["calibration"]
    sizes = [
        f"{name} {format_size(caches[key])}"
        for name, key in (("L1d", "l1d_bytes"), ("L2", "l2_bytes"), ("L3", "l3_bytes"))
        if caches[key]
    ]
    if measured:
        sizes.append(f"of the L3 {format_size(measured['l3_measured_bytes'])} measured")
    ghz = clock["core_ghz"]
    backings = ordered(cell["backing"] for cell in summary["cells"])
    return [
        ("cpu", f"{machine['cpu_model']}, {machine['hypervisor'] or 'bare metal'}, CPU {machine['cpu']}"),
        ("caches", ", ".join(sizes)),
        ("kernel", f"{machine['kernel_release']} {machine['architecture']}, THP {machine['thp_enabled']}"),
        ("backing", f"memmaps on {' and '.join(backings)} pages, as obtained"),
        (
            "clock",
            f"{CLOCKS.get((clock['kind'], machine['architecture']), clock['kind'])}, "
            f"step {clock['granularity_ns']:.1f} ns, a read {clock['cost_ns']:.1f} ns; core "
            f"{ghz['median']:.2f} GHz ({ghz['low']:.2f} to {ghz['high']:.2f}), from a chain of adds",
        ),
        ("compiler", f"{summary['compiler']['name']} {summary['compiler']['cflags']}"),
    ]


def _control(summary: Mapping[str, Any]) -> str:
    control = summary["control"]
    if control is None or control["cycles"]["estimate"] is None:
        return "not finished: nothing here was checked against a known difference yet"
    cycles = control["cycles"]
    read = f"one dependent add reads {cycles['estimate']:.3f} cycles"
    if cycles["low"] is not None:
        read += f" [{cycles['low']:.3f}, {cycles['high']:.3f}]"
    if control["trusted"]:
        return f"{read}, expected {control['expected_cycles']:.2f} +- {control['tolerance_cycles']:.2f}: good"
    return (
        f"{read}, expected {control['expected_cycles']:.2f} +- {control['tolerance_cycles']:.2f}: "
        "THIS RUN IS NOT TO BE TRUSTED; run again on a quieter machine"
    )


def _noise(summary: Mapping[str, Any]) -> str:
    """|A/A| by cache level, over the probes."""
    parts = []
    for level, title in LEVELS.items():
        pairs = [abs(n["difference"]["ns"]["estimate"] or 0) for n in summary["noise"] if n["level"] == level]
        if pairs:
            parts.append(f"{title} {significant(max(pairs))}")
    return f"largest |A/A| in ns: {', '.join(parts)} ({len(summary['noise'])} pairs)"


def _header(summary: Mapping[str, Any]) -> list[str]:
    tool, plan, finished = summary["tool"], summary["plan"], summary["finished"]
    disturbed = summary["interference"]
    title = f"pagebench {tool['version']} ({tool['commit'] or 'unknown commit'}), {summary['created']}"
    rows = [
        *_machine(summary),
        ("control", _control(summary)),
        ("noise", _noise(summary)),
        (
            "sampled",
            f"{finished['processes']} processes x {plan['rounds']} rounds, seed {plan['seed']}; "
            f"{_percent(disturbed['samples_dropped'] / disturbed['samples'])} of the samples dropped, "
            f"{disturbed['context_switches']} context switches, "
            f"stolen time {_percent(disturbed['steal_share'])}",
        ),
    ]
    if finished["blocks"] < finished["planned"]:
        rows.append(
            (
                "partial",
                f"{finished['blocks']} of {finished['planned']} blocks are finished: go on with --resume",
            )
        )
    if plan["struct_page_bytes"] != 64:
        size = plan["struct_page_bytes"]
        falls = ": no power of two, so that masks fall back to the tagged pointer, as in the kernel"
        rows.append(("page", f"sizeof(struct page) is {size}{falls if size & (size - 1) else ''}"))
    if plan.get("memory_model"):
        rows.append(("model", f"memmaps as badly aligned as {plan['memory_model']} allows, see `align`"))
    rows += [("warning", text) for text in warnings(summary)]
    return [title, "", *_fields(rows)]


def warnings(summary: Mapping[str, Any]) -> list[str]:
    """What threatens this result, and what to do about it."""
    found = list(summary["warnings"])
    disturbed = summary["interference"]
    if disturbed["samples_dropped"] > 0.02 * disturbed["samples"]:
        found.append("more than 2 % of the samples were dropped: end other work on this machine")
    if (disturbed["steal_share"] or 0) > 0.01:
        found.append("the hypervisor stole more than 1 % of the CPU: intervals are wider for it")
    asked = {c["contender"]["backing"] for g in summary["plan"]["groups"] for c in g["cells"]}
    if asked == {"2m"} and any(cell["backing"] != "2m" for cell in summary["cells"]):
        found.append(
            "2m pages were asked for and not obtained everywhere: "
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"
        )
    if disturbed["immovable_loops"]:
        found.append("some loops could not be copied: their placement is one accident, not drawn anew")
    if summary["finished"]["processes"] < 10:
        found.append("with fewer than ten processes intervals are rough and p says little")
    return found


def _variants(summary: Mapping[str, Any]) -> list[str]:
    """Who is compared: form as compiled, size, origin."""
    lines = ["contender              form    insns bytes  origin"]
    for name in ordered(cell["contender"] for cell in summary["cells"]):
        mine = [cell for cell in summary["cells"] if cell["contender"] == name]
        variant = summary["variants"][mine[0]["variant"]]
        forms = "/".join(ordered(cell["form"] for cell in mine))
        probe = next(iter(variant["probes"].values()))
        origin = " ".join(part for part in (variant["commit"], variant["version"]) if part)
        line = f"{short(name):22} {forms:7} {probe['variant_instructions']:5} {probe['variant_bytes']:5}  "
        lines.append((line + origin)[:WIDTH])
    for name, variant in summary["variants"].items():
        if variant.get("source"):
            lines += textwrap.wrap(f"{name}: {variant['source']}", WIDTH, subsequent_indent="  ")
    return lines


def _span(values: Sequence[float]) -> str:
    low, high = min(values, key=abs), max(values, key=abs)
    if len(values) == 1:
        return f"by {significant(abs(low))} ns"
    return f"by {significant(abs(low))} to {significant(abs(high))} ns"


def _verdicts(summary: Mapping[str, Any]) -> list[str]:
    """One sentence for each contender, counted from its cells."""
    lines: list[str] = []
    reference = short(summary["plan"]["reference"])
    for name in ordered(c["contender"] for c in summary["cells"] if c["verdict"] != "reference"):
        cells = [c for c in summary["cells"] if c["contender"] == name]
        parts = []
        for verdict in ("faster", "slower", "equivalent", "inconclusive"):
            mine = [c for c in cells if c["verdict"] == verdict]
            if not mine:
                continue
            part = f"{verdict} in {len(mine)}"
            if verdict in ("faster", "slower"):
                part += f" ({_span([c['difference']['ns']['estimate'] for c in mine])})"
            parts.append(part)
        ratios = [c["ratio"]["estimate"] for c in cells if c["ratio"]["estimate"]]
        mean = f"{math.exp(sum(map(math.log, ratios)) / len(ratios)):.3f}" if ratios else "unknown"
        text = (
            f"{short(name)} against {reference}, {len(cells)} cells: {', '.join(parts)}; "
            f"geometric mean of ratios {mean}."
        )
        lines += textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    return lines


def _resolved(summary: Mapping[str, Any]) -> list[str]:
    """What could be resolved where, and what not."""
    lines = []
    for probe in ordered(c["probe"] for c in summary["cells"]):
        parts = []
        for level, title in LEVELS.items():
            values = [
                c["smallest_resolvable_ns"]
                for c in summary["cells"]
                if (c["probe"], c["level"]) == (probe, level) and c["smallest_resolvable_ns"] is not None
            ]
            if values:
                parts.append(f"{title} {significant(max(values))}")
        if parts:
            lines += paragraph(f"{probe}: every difference was resolved down to, in ns: {', '.join(parts)}.")
    open_cells = [c for c in summary["cells"] if c["verdict"] == "inconclusive"]
    if open_cells:
        where = ordered(f"{c['probe']} in {LEVELS[c['level']]}" for c in open_cells)
        lines += paragraph(
            f"{len(open_cells)} comparisons stay inconclusive ({', '.join(where)}): neither a difference "
            "nor its absence was shown; more --processes narrow them."
        )
    small = [c["p_adjusted"] for c in summary["cells"] if c["p_adjusted"] is not None]
    if small:
        below = sum(p < 0.05 for p in small)
        lines += paragraph(
            f"{below} of {len(small)} comparisons have p < 0.05 (t-test over processes, Holm-adjusted)."
        )
    return lines


def _command(command: str) -> list[str]:
    """A shell command, broken behind blanks and commas with backslashes."""
    if "'" in command:  # where a backslash is one
        return [f"  {command}"]
    lines = ["  "]
    for piece in re.findall(r"[^ ,]+[ ,]?", command):
        if len(lines[-1]) + len(piece) >= WIDTH:
            lines.append("    " if lines[-1].endswith(" ") else "")
            lines[-2] += "\\"
        lines[-1] += piece
    return lines


def render(summary: Mapping[str, Any]) -> str:
    """The whole report, every line 75 columns or less."""
    legend = (
        f"* faster or slower, resolved, and p < {SIGNIFICANT:g} (t-test over processes, Holm-adjusted); "
        f"+ resolved, p above; = equivalent within {summary['margin_cycles']:g} cycle; ? inconclusive. "
        "+- is half of a 95 % interval over processes. harn: the loop without a lookup, not subtracted. "
        "ref: the reference; ord: folio order; mem: footprint in the memmap. A branch lets the CPU run ahead "
        "of the load that it tests; a select and arith wait for it."
    )
    lines = [
        *_header(summary),
        "",
        *_variants(summary),
        *fake_heads_table(summary),
        *series_table(summary),
        *comparison_tables(summary),
        "",
        *paragraph(legend),
        *counts_table(summary),
        *zap_table(summary),
        "",
        *_verdicts(summary),
        "",
        *_resolved(summary),
        "",
        *paragraph(LIMITS),
        "",
        "reproduce with:",
        *_command(summary["command"]),
    ]
    report = "\n".join(line.rstrip() for line in lines) + "\n"
    return report.encode("ascii", "replace").decode()
