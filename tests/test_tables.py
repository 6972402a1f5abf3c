"""How numbers stand in the tables of the text report."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from typing import Any

import msgspec
import pytest
import reports
import summaries
from hypothesis import given
from hypothesis import strategies as st

from pagebench.report import tables
from pagebench.report.tables import fixed, ordered, short, significant, size_text
from pagebench.results.summary import Estimate, SeriesRow, Summary
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


def rendered(name: str = "default", **changes: Any) -> Summary:
    """A made-up report's summary, some of its fields replaced."""
    return msgspec.structs.replace(summaries.typed(reports.summary_of(name)), **changes)


def at(row: SeriesRow, ns: Estimate, **changes: Any) -> SeriesRow:
    difference = msgspec.structs.replace(row.difference, ns=ns)
    return msgspec.structs.replace(row, difference=difference, **changes)


def test_trees_and_textbook_variants_have_tables_of_their_own() -> None:
    row = rendered().series[0]
    textbook = at(row, Estimate(1.0, 1.0, 1.0))
    trees = at(row, Estimate(-5.0, -5.0, -5.0), before="old", after="new", tree=True)
    report = "\n".join(tables.series_tables(rendered(series=(trees, textbook))))
    series, of_trees = report.split("what the later tree changes")
    assert "pointer-branch, then branchless" in " ".join(series.split()) and "+1.000" in series
    assert "old, then new" in of_trees and "-5.000" in of_trees and "-5.000" not in series


def test_what_stands_behind_the_estimate_is_half_of_the_interval() -> None:
    row = at(rendered().series[0], Estimate(1.0, 0.5, 2.1))
    assert "+1.000+-.800" in tables.series_tables(rendered(series=(row,)))[-1]


def test_the_table_of_2021_has_a_row_for_each_footprint() -> None:
    summary = rendered()
    row = next(row for row in summary.series if row.pattern == "random")
    series = [
        at(row, Estimate(ns, ns, ns), question=question, footprint_bytes=size)
        for question in ("key, branch", "key, select")
        for ns, size in ((1.0, 16 * KIB), (2.0, 2 * MIB))
    ]
    plan = dataclasses.replace(summary.plan, preset="fake-heads")
    several = tables.fake_heads_table(rendered(plan=plan, series=tuple(series)))
    assert [line.count("+1.000") for line in several[4:]] == [2, 0, 0, 0]
    assert [line.count("+2.000") for line in several[4:]] == [0, 0, 2, 0]
    assert [line.strip() for line in several[5::2]] == ["(order 0, 16K)", "(order 0, 2M)"]
    one = tables.fake_heads_table(rendered(plan=plan, series=tuple(series[::2])))
    assert len(one) == 5 and "(order" not in one[-1]


def test_no_footprint_of_an_operation_is_left_out() -> None:
    summary = rendered()
    operations = [
        msgspec.structs.replace(summary.operations[0], footprint_bytes=KIB << i, us=float(i + 1))
        for i in range(7)
    ]
    table = tables.zap_table(rendered(operations=tuple(operations)))
    assert [word for line in table for word in line.split() if re.fullmatch(r"\d+K", word)] == [
        f"{1 << i}K" for i in range(7)
    ]
    assert all(f"{i + 1}.00" in " ".join(table) for i in range(7)) and max(map(len, table)) <= 75


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
