"""How numbers stand in the tables of the text report."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import reports
from hypothesis import given
from hypothesis import strategies as st

from pagebench.report.tables import fixed, ordered, short, significant, size_text
from pagebench.units import GIB, KIB, MIB


def test_the_numbers_in_the_table_are_those_of_the_summary() -> None:
    summary, report = reports.summary_of("untrusted"), reports.text_of("untrusted")
    (row,) = [line for line in report.splitlines() if line.startswith(" 2  16K")]
    cells = {cell["contender"]: cell for cell in summary["cells"]}
    shown = row.split()
    assert float(shown[3]) == pytest.approx(cells["pointer-branch@plain"]["ns"]["median"], abs=6e-4)
    for number, name in zip(
        shown[4:], ("pointer-select", "fakehead", "mask-select", "branchless"), strict=True
    ):
        estimate = cells[f"{name}@plain"]["difference"]["ns"]["estimate"]
        assert float(number.split("+-")[0]) == pytest.approx(estimate, abs=6e-4)


@pytest.mark.parametrize("name", reports.NAMES)
def test_every_mark_in_the_tables_is_one_of_the_json(name: str) -> None:
    decoded = reports.summary_of(name)
    report = reports.text_of(name)
    in_tables = re.findall(r"[+-][\d.]+\+-(?:[\d.]+|inf)([*+=?])(?=\s)", report)
    # The static key's questions have a table in their own preset alone.
    series = [row for row in decoded["series"] if not row["question"].startswith("key, ")]
    assert Counter(in_tables) == Counter(row["mark"] for row in (*decoded["cells"], *series) if row["mark"])


@pytest.mark.parametrize(
    ("value", "width", "text"),
    [
        (None, 6, "     -"),
        (1.23456, 6, " 1.235"),
        (12.3456, 6, " 12.35"),
        (123.456, 6, " 123.5"),
        (123.456, 4, " 123"),
        (0.0, 4, " 0.0"),
        (1234567.0, 4, " 1e6"),
    ],
)
def test_a_number_in_its_column(value: float | None, width: int, text: str) -> None:
    assert fixed(value, width) == text


@given(st.floats(0, 1e9), st.integers(4, 9))
def test_a_number_is_as_wide_as_its_column(value: float, width: int) -> None:
    assert len(fixed(value, width)) == width


@pytest.mark.parametrize(
    ("value", "text"), [(0.0123, "0.012"), (123.4, "120"), (0.000456, "0.0005"), (1.0, "1")]
)
def test_a_noise_floor_has_two_digits(value: float, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(16 * KIB, "16K"), (1000 * KIB, ".98M"), (96 * MIB, "96M"), (32 * GIB, "32G"), (1023 * MIB, ".99G")],
)
def test_a_footprint_in_its_column(size: int, text: str) -> None:
    assert size_text(size) == text


@given(st.integers(KIB, 32 * GIB))
def test_a_footprint_has_four_characters_at_most(size: int) -> None:
    assert 1 < len(size_text(size)) <= 4


def test_a_contender_on_plain_needs_no_layout() -> None:
    assert [short(name) for name in ("mask@plain", "mask@plain:4k", "mask@hvo-shared")] == [
        "mask",
        "mask@plain:4k",
        "mask@hvo-shared",
    ]


def test_each_value_once_in_the_order_of_its_first_coming() -> None:
    assert ordered([3, 1, 3, 2, 1]) == [3, 1, 2]
