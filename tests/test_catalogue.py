"""What `list` prints."""

from __future__ import annotations

import pytest

from pagebench import names
from pagebench.names import Origin
from pagebench.plan.presets import PRESETS
from pagebench.report import catalogue

ORIGINS = [
    (Origin("mask-select", "8c846c879e22", "mm: rework compound_head()", "v7.1", 64), "select"),
    (Origin("identity", "", "the page itself", "", 64), "none"),
]
TEXT = catalogue.render(ORIGINS, {"zen5": "48K/12, 1M/16"})


def test_variants_come_with_their_form_and_where_they_are_from() -> None:
    assert TEXT.splitlines()[:5] == [
        "variants (as compiled here)",
        "  mask-select     select  mm: rework compound_head()",
        "                          v7.1, 8c846c879e22",
        "  identity        none    the page itself",
        "",
    ]


@pytest.mark.parametrize(
    ("title", "meanings"),
    [
        ("layouts", {name: layout.meaning for name, layout in names.LAYOUTS.items()}),
        ("patterns", {name: pattern.meaning for name, pattern in names.PATTERNS.items()}),
        ("presets", {name: preset.meaning for name, preset in PRESETS.items()}),
        ("probes", names.PROBES),
    ],
)
def test_every_name_has_a_line_under_its_title(title: str, meanings: dict[str, str]) -> None:
    section = next(part for part in TEXT.split("\n\n") if part.startswith(f"{title}\n"))
    assert section.splitlines()[1:] == [f"  {name:15} {meaning}" for name, meaning in meanings.items()]


def test_cpus_whose_caches_are_known() -> None:
    assert "geometries (cache --geometry)\n  zen5            48K/12, 1M/16\n" in TEXT
