"""Many machines in one report: a row a CPU model, 75 columns."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence

from pagebench.report.markdown import escaped, table
from pagebench.report.tables import CELL, WIDTH, cut, difference, ordered, paragraph, short, size_text
from pagebench.results.joining import Effect, Joined, JoinedMachine, Sign, Size
from pagebench.results.judgement import mark
from pagebench.units import format_size

COLUMNS = 4
NAME = WIDTH - COLUMNS * (CELL + 1)
SIGNS: Mapping[Sign, str] = {
    "slower": "slower wherever it is resolved",
    "faster": "faster wherever it is resolved",
    "both": "slower on some machines and faster on others",
    "equivalent": "equivalent where anything is shown",
    "unresolved": "resolved nowhere",
}


def _label(machines: Sequence[JoinedMachine], i: int) -> str:
    return f"{i + 1} {machines[i].cpu.split(',')[0]}"


def render(joined: Joined) -> str:
    """The text report."""
    lines = [_extent(joined), ""]
    lines += [line for text in _conclusions(joined) for line in _wrapped(text)]
    lines += [""]
    for i, machine in enumerate(joined.machines):
        lines += _wrapped(f"{i + 1}  {_described(machine)}", "   ")
    lines += [line for text in joined.warnings for line in _wrapped(f"warning: {text}")]
    for asked in ordered(_asked(effect) for effect in joined.effects):
        lines += _block(joined, [effect for effect in joined.effects if _asked(effect) == asked])
    lines += [
        "",
        *paragraph(
            "In ns per lookup, after less before (below zero is faster), with half of a 95 % interval: * "
            "resolved; = equivalent within the run's margin; ? inconclusive; ! of a run whose control is "
            "off. Of several runs of a model: the median, the interval that encloses theirs, and a verdict "
            "where all agree. best, worst: the machine, by its number, among those that resolve it."
        ),
    ]
    return "\n".join(line.rstrip() for line in lines).encode("ascii", "replace").decode() + "\n"


def _extent(joined: Joined) -> str:
    machines, effects = len(joined.machines), len(joined.effects)
    return f"{machines} CPU model{'s' * (machines != 1)}, {effects} effect{'s' * (effects != 1)}"


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def _described(machine: JoinedMachine) -> str:
    ghz = "unknown" if machine.core_ghz is None else f"{machine.core_ghz:.2f} GHz"
    l3 = (
        ""
        if machine.l3_measured_bytes is None
        else f", L3 {format_size(machine.l3_measured_bytes)} as measured"
    )
    return (
        f"{machine.cpu}: core {ghz}{l3}, {', '.join(machine.hypervisors)}, Linux "
        f"{', '.join(machine.kernels)}, {', '.join(machine.compilers)}; {', '.join(machine.runs)}"
    )


def _asked(effect: Effect) -> tuple[str, str, str]:
    return effect.question, effect.before, effect.after


def _title(effect: Effect) -> str:
    asked = f"{short(effect.after)} against {short(effect.before)}"
    return f"{effect.question}: {asked}" if effect.question else asked


def _conclusions(joined: Joined) -> list[str]:
    """What machines agree on, question by question."""
    lines = []
    for asked in ordered(_asked(effect) for effect in joined.effects):
        mine = [effect for effect in joined.effects if _asked(effect) == asked]
        counts = Counter(effect.sign for effect in mine)
        parts = [f"{counts[sign]} {words}" for sign, words in SIGNS.items() if counts[sign]]
        lines.append(f"{_title(mine[0])}, {len(mine)} cells: {', '.join(parts)}.")
        torn = [effect for effect in mine if effect.sign == "both"]
        if torn:
            places = "; ".join(_place(effect) for effect in torn[:6])
            lines.append(f"  signs differ at: {places}{'; …' if len(torn) > 6 else ''}".replace("…", "..."))
    return lines


def _place(effect: Effect) -> str:
    return f"{effect.probe}, {effect.pattern}, order {effect.order}, {format_size(effect.footprint_bytes)}"


def _block(joined: Joined, effects: Sequence[Effect]) -> list[str]:
    """A question: a table a probe and pattern, four columns at a time."""
    lines: list[str] = []
    for probe, pattern in ordered((effect.probe, effect.pattern) for effect in effects):
        mine = [effect for effect in effects if (effect.probe, effect.pattern) == (probe, pattern)]
        lines += ["", *_wrapped(f"{_title(mine[0])}: {probe}, {pattern}")]
        for start in range(0, len(mine), COLUMNS):
            lines += _columns(joined, mine[start : start + COLUMNS])
    return lines


def _columns(joined: Joined, effects: Sequence[Effect]) -> list[str]:
    heads = (f"ord {effect.order}, {size_text(effect.footprint_bytes)}" for effect in effects)
    lines = [" " * NAME + "".join(head.rjust(CELL + 1) for head in heads)]
    for i, machine in enumerate(joined.machines):
        if any(effect.sizes[i] is not None for effect in effects):
            shown = "".join(" " + _cell(effect.sizes[i], machine.trusted).rjust(CELL) for effect in effects)
            lines.append(f"{cut(_label(joined.machines, i), NAME):{NAME}}{shown}")
    for what in ("best", "worst"):
        ends = [getattr(effect, what) for effect in effects]
        if len(joined.machines) > 1 and any(end is not None for end in ends):
            shown = "".join(("-" if end is None else str(end + 1)).rjust(CELL + 1) for end in ends)
            lines.append(f"{'  ' + what:{NAME}}{shown}")
    return lines


def _cell(size: Size | None, trusted: bool) -> str:
    if size is None:
        return "-"
    return difference(size.ns, mark(size.verdict, 0.0) if trusted else "!").strip()


def to_markdown(joined: Joined) -> str:
    """A table a question, a row a machine and kind of cell."""
    lines = [f"### {_extent(joined)}", ""]
    lines += [f"- {escaped(text)}" for text in _conclusions(joined)]
    lines += [f"- warning: {escaped(text)}" for text in joined.warnings] + [""]
    lines += [f"{i + 1}. {escaped(_described(machine))}" for i, machine in enumerate(joined.machines)] + [""]
    for asked in ordered(_asked(effect) for effect in joined.effects):
        mine = [effect for effect in joined.effects if _asked(effect) == asked]
        heads = [
            "cell, ns per lookup",
            *(escaped(_label(joined.machines, i)) for i in range(len(joined.machines))),
        ]
        rows = (
            [
                escaped(_place(effect)),
                *(
                    escaped(_cell(size, machine.trusted)).replace("+-", " ±")
                    for size, machine in zip(effect.sizes, joined.machines, strict=True)
                ),
                "-" if effect.best is None else str(effect.best + 1),
                "-" if effect.worst is None else str(effect.worst + 1),
            ]
            for effect in mine
        )
        lines += [f"**{escaped(_title(mine[0]))}**", "", *table([*heads, "best", "worst"], rows), ""]
    return "\n".join(lines)
