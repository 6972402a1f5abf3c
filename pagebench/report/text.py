"""The text report: 75 columns, ASCII, ready for a mail."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pagebench.units import format_size

WIDTH = 75
# Differences in a table beside its label, harness and reference columns.
COLUMNS = 4
CELL = 13
ZAP_LOOKUPS = 512
SIGNIFICANT = 0.05

MARKS = {"faster": "*", "slower": "*", "equivalent": "=", "inconclusive": "?"}
LEVELS = {"l1": "L1", "l2": "L2", "l3": "L3", "dram": "DRAM"}

CLOCKS = {
    ("counter", "x86_64"): "TSC",
    ("counter", "aarch64"): "CNTVCT",
    ("gettime", "x86_64"): "clock_gettime",
}

LIMITS = (
    "Not seen from user space: kernel mappings of the vmemmap, contention for "
    "_refcount between CPUs, NUMA (a shared tail may be remote), single lookups "
    "with code and branches cold and, in a VM, what nested paging adds to a TLB "
    "miss."
)

Cell = Mapping[str, Any]


def _decimals(ns: float) -> int:
    """Digits after the point that fit the column and the noise."""
    return 3 if abs(ns) < 10 else 2 if abs(ns) < 100 else 1


def _digits(value: float) -> str:
    """Two significant digits, for noise floors."""
    return f"{value:.1g}" if value < 0.001 else f"{float(f'{value:.2g}'):g}"


def _ns(value: float | None, width: int) -> str:
    if value is None:
        return "-".rjust(width)
    for decimals in range(min(_decimals(value), max(0, width - 3)), -1, -1):
        if len(text := f"{value:.{decimals}f}") <= width:
            return text.rjust(width)
    return f"{value:.0e}".replace("e+0", "e").rjust(width)


def _size(size: int) -> str:
    """A footprint in the four characters of its column."""
    text = format_size(size)
    if len(text) <= 4:
        return text
    number, unit = float(text[:-1]), text[-1]
    if number < 999.5:
        return f"{number:.0f}{unit}"
    return f"{min(number / 1024, 0.99):.2f}"[1:] + {"K": "M", "M": "G", "G": "T"}[unit]


def _difference(cell: Cell | None) -> str:
    """``+0.501+-.002*``: estimate, half of the interval, verdict."""
    if cell is None:
        return "-".rjust(CELL)
    ns = cell["difference"]["ns"]
    estimate, low, high = ns["estimate"], ns["low"], ns["high"]
    mark = MARKS[cell["verdict"]]
    if mark == "*" and (cell["p_adjusted"] is None or cell["p_adjusted"] >= SIGNIFICANT):
        mark = "+"
    if estimate is None:
        return "no data".rjust(CELL)
    half = math.inf if low is None or high is None else max(estimate - low, high - estimate)
    for decimals in range(_decimals(max(abs(estimate), half if half < math.inf else 0)), -1, -1):
        width = f"{half:.{decimals}f}"
        if width.startswith("0."):
            width = width[1:]
        if len(text := f"{estimate:+.{decimals}f}+-{width}{mark}") <= CELL:
            return text.rjust(CELL)
    return f"{estimate:+.0e}{mark}".rjust(CELL)


def _wrapped_name(name: str, width: int) -> list[str]:
    """A contender's name over several lines, broken behind - and before @ and +."""
    lines = [""]
    for part in re.findall(r"[@+]?[^-@+]+-?", name):
        if len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return [line[i : i + width] for line in lines for i in range(0, len(line), width)]


def _short(name: str) -> str:
    """Without @plain, where every kernel's vmemmap starts."""
    return name.removesuffix("@plain")


def _ordered(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _fields(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Label and text, wrapped under itself."""
    lines = []
    for label, text in rows:
        wrapped = textwrap.wrap(text, WIDTH - 11) or [""]
        lines += [f"{label if i == 0 else '':10} {line}" for i, line in enumerate(wrapped)]
    return lines


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, break_on_hyphens=False)


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
    backings = _ordered(cell["backing"] for cell in summary["cells"])
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
            parts.append(f"{title} {_digits(max(pairs))}")
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
            f"{_percent(disturbed['samples_dropped'] / disturbed['samples'])} of samples dropped, "
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
    for name in _ordered(cell["contender"] for cell in summary["cells"]):
        mine = [cell for cell in summary["cells"] if cell["contender"] == name]
        variant = summary["variants"][mine[0]["variant"]]
        forms = "/".join(_ordered(cell["form"] for cell in mine))
        probe = next(iter(variant["probes"].values()))
        origin = " ".join(part for part in (variant["commit"], variant["version"]) if part)
        line = f"{_short(name):22} {forms:7} {probe['variant_instructions']:5} {probe['variant_bytes']:5}  "
        lines.append((line + origin)[:WIDTH])
    for name, variant in summary["variants"].items():
        if variant.get("source"):
            lines += textwrap.wrap(f"{name}: {variant['source']}", WIDTH, subsequent_indent="  ")
    return lines


def _tables(summary: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for probe, pattern in _ordered((cell["probe"], cell["pattern"]) for cell in summary["cells"]):
        cells = [c for c in summary["cells"] if (c["probe"], c["pattern"]) == (probe, pattern)]
        others = _ordered(c["contender"] for c in cells if c["verdict"] != "reference")
        for i in range(0, max(1, len(others)), COLUMNS):
            shown = others[i : i + COLUMNS]
            lines += [
                "",
                *_table(summary, probe, pattern, cells, shown),
                *_touched(cells, shown, first=i == 0),
            ]
    return lines


QUESTIONS = {
    "key off": "pages that HVO does not touch, its static key off",
    "key on": "the same with the key on",
    "hugetlb": "HugeTLB pages that HVO treats",
}


def _series(summary: Mapping[str, Any]) -> list[str]:
    """What the series of v7.1 does, to pages that HVO touches and to others."""
    rows = summary["series"]
    asked = [question for question in QUESTIONS if any(row["question"] == question for row in rows)]
    if not asked:
        return []
    what = "the later tree" if rows[0]["tree"] else "the series of v7.1"
    lines = ["", f"what {what} changes, in ns per lookup (less is faster)"]
    for question in asked:
        one = next(row for row in rows if row["question"] == question)
        text = f"  {question}: {QUESTIONS[question]}: {_short(one['before'])}, then {_short(one['after'])}"
        lines += textwrap.wrap(text, WIDTH, subsequent_indent="    ", break_on_hyphens=False)
    lines.append(
        "probe   pattern          ord  mem" + "".join(question.rjust(CELL + 1) for question in asked)
    )
    keys = _ordered((r["probe"], r["pattern"], r["order"], r["footprint_bytes"]) for r in rows)
    for key in keys:
        mine = {
            r["question"]: r
            for r in rows
            if (r["probe"], r["pattern"], r["order"], r["footprint_bytes"]) == key
        }
        cells = "".join(" " + _difference(mine.get(question)) for question in asked)
        lines.append(f"{key[0]:7} {key[1][:15]:15} {key[2]:4} {_size(key[3]):>4}{cells}")
    return lines


# 31 Oct 2021, "Free the 2nd vmemmap page associated with each HugeTLB page", v7.
PUBLISHED = {
    "heads-aligned": ("head, aligned", "+40 %"),
    "heads-unaligned": ("head, unaligned", "+20 %"),
    "tails": ("tail", "0 %"),
    "random": ("non-compound", "-"),
}


def _fake_heads(summary: Mapping[str, Any]) -> list[str]:
    """What the static key costs, beside what was published for it."""
    if summary["plan"].get("preset") != "fake-heads":
        return []
    lines = [
        "",
        "the static key of HVO, off to on: published, and here for a tail test that",
        "is a branch and one that is a select (ratio and difference in ns)",
        f"{'page':16} {'probe':7} {'publ.':>6} {'branch':>8} {'ns':>13} {'select':>8} {'ns':>13}",
    ]
    for probe in _ordered(row["probe"] for row in summary["series"]):
        for pattern, (name, published) in PUBLISHED.items():
            line = f"{name:16} {probe:7} {published:>6}"
            for question in ("key, branch", "key, select"):
                rows = [
                    row
                    for row in summary["series"]
                    if (row["question"], row["probe"], row["pattern"]) == (question, probe, pattern)
                ]
                ratio = rows[0]["ratio"]["estimate"] if rows else None
                percent = "-" if ratio is None else f"{100 * (ratio - 1):+.0f} %"
                line += f" {percent:>8} {_difference(rows[0] if rows else None)}"
            lines.append(line)
    return lines


def _table(
    summary: Mapping[str, Any], probe: str, pattern: str, cells: Sequence[Cell], others: Sequence[str]
) -> list[str]:
    """One probe and pattern: a row per order and footprint, a column per contender."""
    reference = next(c["contender"] for c in cells if c["verdict"] == "reference")
    names = [["harn"], ["ref"], *(_wrapped_name(_short(o), CELL) for o in others)]
    widths = [4, 6, *[CELL] * len(others)]
    lines = _paragraph(f"{probe}, {pattern}: ns per lookup, and the difference to {_short(reference)}")
    for row in range(depth := max(map(len, names))):
        place = [name[row - depth + len(name)] if row - depth + len(name) >= 0 else "" for name in names]
        label = "ord mem" if row == depth - 1 else ""
        lines.append(
            (f"{label:7} " + " ".join(text.rjust(w) for text, w in zip(place, widths, strict=True))).rstrip()
        )
    for order, footprint in _ordered((c["order"], c["footprint_bytes"]) for c in cells):
        at = [c for c in cells if (c["order"], c["footprint_bytes"]) == (order, footprint)]
        mine = {c["contender"]: c for c in at}
        if others and not any(other in mine for other in others):
            continue
        harness = [
            h
            for h in summary["harness"]
            if (h["probe"], h["pattern"], h["order"], h["footprint_bytes"])
            == (probe, pattern, order, footprint)
        ]
        texts = [
            _ns(harness[0]["ns"]["median"] if harness else None, 4),
            _ns(mine[reference]["ns"]["median"] if reference in mine else None, 6),
            *(_difference(mine.get(other)) for other in others),
        ]
        lines.append(f"{order:2} {_size(footprint):>4} " + " ".join(texts))
    return lines


def _touched(cells: Sequence[Cell], others: Sequence[str], first: bool) -> list[str]:
    """What a table's contenders really touched, where that is not the footprint."""
    touched = _ordered(
        (c["order"], c["footprint_bytes"], c["layout"], c["touched_bytes"])
        for c in cells
        if c["touched_bytes"] != c["footprint_bytes"]
        and (c["contender"] in others or (first and c["verdict"] == "reference"))
    )
    text = "; ".join(f"order {o} {format_size(f)} {layout}: {format_size(t)}" for o, f, layout, t in touched)
    return textwrap.wrap(f"lines touched: {text}", WIDTH) if text else []


# Where a column of six characters takes no whole word.
EVENTS = {"instructions": "instr", "branch_misses": "br_misses"}


def _counts(summary: Mapping[str, Any]) -> list[str]:
    """What a PMU counted per lookup; one line that says so where there is none."""
    counted = [c for c in (*summary["cells"], *summary["harness"]) if c["counts"]]
    if not counted:
        return []
    events = _ordered(event for c in counted for event in c["counts"])
    lines = ["", "per lookup, counted by the PMU in rounds of their own"]
    heads = [_wrapped_name(EVENTS.get(event, event).replace("_", "-"), 6) for event in events]
    for row in range(depth := max(map(len, heads))):
        place = [head[row - depth + len(head)] if row - depth + len(head) >= 0 else "" for head in heads]
        lines.append((" " * 33 + "".join(text.rjust(7) for text in place)).rstrip())
    for c in counted:
        values = "".join(_ns(c["counts"].get(event), 7) for event in events)
        where = f"{c['probe']:7} {c['order']:2} {_size(c['footprint_bytes']):>4}"
        lines.append(f"{where} {_short(c['contender'])[:17]:17}{values}")
    return lines


def _zap(summary: Mapping[str, Any]) -> list[str]:
    """What a difference is at the scale of a kernel operation."""
    cells = [c for c in summary["cells"] if c["probe"] in ("lookup", "chain") and c["pattern"] == "random"]
    if not cells:
        return []
    order = 9 if any(c["order"] == 9 for c in cells) else max(c["order"] for c in cells)
    cells = [c for c in cells if c["order"] == order]
    footprints = _ordered(c["footprint_bytes"] for c in cells)[:5]
    title = f"{ZAP_LOOKUPS} lookups, as zapping 2 MiB does, in us (order {order}): reference, differences"
    lines = [
        "",
        *textwrap.wrap(title, WIDTH),
        f"{'':31}" + "".join(format_size(f).rjust(8) for f in footprints),
    ]
    for probe, name in _ordered((c["probe"], c["contender"]) for c in cells):
        row = {c["footprint_bytes"]: c for c in cells if (c["probe"], c["contender"]) == (probe, name)}
        texts = []
        for footprint in footprints:
            cell = row.get(footprint)
            if cell is None or cell["ns"]["median"] is None:
                texts.append("-")
            elif cell["verdict"] == "reference":
                texts.append(f"{cell['ns']['median'] * ZAP_LOOKUPS / 1000:.2f}")
            elif cell["verdict"] == "inconclusive":
                texts.append("?")
            else:
                texts.append(f"{cell['difference']['ns']['estimate'] * ZAP_LOOKUPS / 1000:+.2f}")
        lines.append(f"{probe:7} {_short(name)[:23]:23}" + "".join(text.rjust(8) for text in texts))
    return lines


def _span(values: Sequence[float]) -> str:
    low, high = min(values, key=abs), max(values, key=abs)
    if len(values) == 1:
        return f"by {_digits(abs(low))} ns"
    return f"by {_digits(abs(low))} to {_digits(abs(high))} ns"


def _verdicts(summary: Mapping[str, Any]) -> list[str]:
    """One sentence for each contender, counted from its cells."""
    lines: list[str] = []
    reference = _short(summary["plan"]["reference"])
    for name in _ordered(c["contender"] for c in summary["cells"] if c["verdict"] != "reference"):
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
            f"{_short(name)} against {reference}, {len(cells)} cells: {', '.join(parts)}; "
            f"geometric mean of ratios {mean}."
        )
        lines += textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    return lines


def _resolved(summary: Mapping[str, Any]) -> list[str]:
    """What could be resolved where, and what not."""
    lines = []
    for probe in _ordered(c["probe"] for c in summary["cells"]):
        parts = []
        for level, title in LEVELS.items():
            values = [
                c["smallest_resolvable_ns"]
                for c in summary["cells"]
                if (c["probe"], c["level"]) == (probe, level) and c["smallest_resolvable_ns"] is not None
            ]
            if values:
                parts.append(f"{title} {_digits(max(values))}")
        if parts:
            lines += _paragraph(f"{probe}: every difference was resolved down to, in ns: {', '.join(parts)}.")
    open_cells = [c for c in summary["cells"] if c["verdict"] == "inconclusive"]
    if open_cells:
        where = _ordered(f"{c['probe']} in {LEVELS[c['level']]}" for c in open_cells)
        lines += _paragraph(
            f"{len(open_cells)} comparisons stay inconclusive ({', '.join(where)}): neither a difference "
            "nor its absence was shown; more --processes narrow them."
        )
    small = [c["p_adjusted"] for c in summary["cells"] if c["p_adjusted"] is not None]
    if small:
        below = sum(p < 0.05 for p in small)
        lines += _paragraph(
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
        *_fake_heads(summary),
        *_series(summary),
        *_tables(summary),
        "",
        *_paragraph(legend),
        *_counts(summary),
        *_zap(summary),
        "",
        *_verdicts(summary),
        "",
        *_resolved(summary),
        "",
        *_paragraph(LIMITS),
        "",
        "reproduce with:",
        *_command(summary["command"]),
    ]
    report = "\n".join(line.rstrip() for line in lines) + "\n"
    return report.encode("ascii", "replace").decode()
