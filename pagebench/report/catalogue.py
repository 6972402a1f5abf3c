"""What there is to measure: a line for each name."""

from __future__ import annotations

from collections.abc import Mapping

from pagebench import core, names
from pagebench.code import form
from pagebench.names import LAYOUTS
from pagebench.plan.presets import PRESETS


def render() -> str:
    """Variants with the forms their compiler gave them, layouts, patterns, probes."""
    lines = []
    for variant in core.built_in_variants().values():
        chain = form.analyse(variant.probes["chain"]).form
        origin = ", ".join(part for part in (variant.version, variant.commit) if part)
        lines.append(
            f"  {variant.name:15} {chain:7} {variant.subject}" + (f"\n{'':26}{origin}" if origin else "")
        )
    sections: list[tuple[str, Mapping[str, str]]] = [
        ("layouts", LAYOUTS),
        ("patterns", names.PATTERNS),
        ("presets", {name: preset.meaning for name, preset in PRESETS.items()}),
        ("probes", names.PROBES),
    ]
    text = ["variants (as compiled here)", *lines]
    for title, table in sections:
        text += ["", title, *(f"  {name:15} {meaning}" for name, meaning in table.items())]
    return "\n".join(text) + "\n"
