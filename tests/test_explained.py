"""Measured times beside what explains them: tests/golden/cache-explained.txt has it whole."""

from __future__ import annotations

import re

import msgspec
import pytest
import summaries
from planted_counts import PLANTED, counts, rows_of, simulated_of, took, world

from pagebench.report import WIDTH
from pagebench.report.explained import PARAMETERS, explained_tables, how_good, parameters
from pagebench.results.explaining import explain
from pagebench.results.explanation import Explanation, HeldOut
from pagebench.units import KIB


def explanation_of(**axes: tuple[int, ...] | tuple[str, ...]) -> Explanation:
    plan = world(**axes)  # type: ignore[arg-type]
    found = explain(plan, rows_of(plan, took(PLANTED)), simulated_of(plan, counts), summaries.GHZ)
    assert found is not None
    return found


WHOLE = explanation_of()


def numbers(line: str) -> list[float]:
    return [float(word) for word in line[30:67].split()]


def test_every_row_adds_up() -> None:
    """What explains it and the rest are what was measured, to the last digit that is shown."""
    lines = [line for line in explained_tables(WHOLE) if re.match(r" {2}\d ", line)]
    assert len(lines) == sum(row.terms is not None for row in WHOLE.rows)
    for line in lines:
        measured, *terms, rest = numbers(line)
        assert sum(terms) + rest == pytest.approx(measured, abs=0.03)
        assert len(line) <= WIDTH


def test_cells_that_were_fitted_are_marked_and_have_no_share() -> None:
    modelled = [row for row in WHOLE.rows if row.terms is not None]
    shares = [line.split()[-1] for line in explained_tables(WHOLE) if re.match(r" {2}\d ", line)]
    assert [share == "fitted" for share in shares] == [row.fitted for row in modelled]


def test_parameters_are_said_with_their_cells() -> None:
    text = " ".join(" ".join(parameters(WHOLE)).split())
    forms = {f"form of {variant}": more for variant, more in PLANTED.forms.items()}
    assert {name for name, more in forms.items() if more} < WHOLE.parameters.keys()
    for name, more in forms.items():
        assert f"{name} {more:.1f} " in text
    for name in WHOLE.parameters.keys() - forms.keys() - {"form of pointer-select"}:
        assert f"{PARAMETERS[name]} {getattr(PLANTED, name.removesuffix(' in turns')):.1f} " in text
    assert "documented" in text
    assert max(map(len, parameters(WHOLE))) <= WIDTH


def test_what_no_cell_tells_is_a_dash() -> None:
    lines = parameters(explanation_of(orders=(2, 9)))
    assert "a hit of L1                   -  no cell of this run tells" in lines


def test_nothing_held_out_is_none() -> None:
    nothing = HeldOut(0, None, None, 0)
    text = " ".join(how_good(msgspec.structs.replace(WHOLE, inside=nothing, hvo=nothing, beyond=nothing)))
    assert "up to half of L2: none; of these HVO's: none; beyond: none" in " ".join(text.split())


def test_reasons_are_said_once_with_their_cells() -> None:
    text = " ".join(" ".join(explained_tables(explanation_of(footprints=(16 * KIB, 256 * KIB)))).split())
    assert text.count("no model: ") == 1
    assert "no model: pointer-branch at order 0 16K, order 0 256K: runs ahead" in text


def test_a_run_in_which_nothing_is_modelled_has_no_table() -> None:
    lines = explained_tables(explanation_of(orders=(2,)))
    assert not any(line.startswith("ord ") for line in lines)
    assert "no chase in L1 in this run" in " ".join(" ".join(lines).split())
