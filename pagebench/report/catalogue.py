"""What there is to measure: a line for each name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pagebench import names
from pagebench.names import LAYOUTS, Origin
from pagebench.plan.presets import PRESETS


def render(variants: Iterable[tuple[Origin, str]], cpus: Mapping[str, str]) -> str:
    """Variants with the forms their compiler gave them, layouts, patterns, probes; CPUs and their caches."""
    lines = []
    for variant, form in variants:
        origin = ", ".join(part for part in (variant.version, variant.commit) if part)
        lines.append(
            f"  {variant.name:15} {form:7} {variant.subject}" + (f"\n{'':26}{origin}" if origin else "")
        )
    sections: list[tuple[str, Mapping[str, str]]] = [
        ("layouts", {name: layout.meaning for name, layout in LAYOUTS.items()}),
        ("patterns", {name: pattern.meaning for name, pattern in names.PATTERNS.items()}),
        ("presets", {name: preset.meaning for name, preset in PRESETS.items()}),
        ("probes", names.PROBES),
        ("geometries (cache --geometry)", cpus),
    ]
    text = ["variants (as compiled here)", *lines]
    for title, table in sections:
        text += ["", title, *(f"  {name:15} {meaning}" for name, meaning in table.items())]
    return "\n".join(text) + "\n"
