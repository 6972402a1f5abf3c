"""The report on caches: text against tests/golden/, CSV and JSON against each other.

After a change of wording:  PAGEBENCH_UPDATE_GOLDEN=1 pytest tests/test_report_cache.py
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from functools import cache

import msgspec
import planted_counts
import pytest
import summaries
from hypothesis import given
from hypothesis import strategies as st
from planted_counts import GEOMETRY, counts, counts_of, world
from test_text import check_golden, misfits

from pagebench.plan.groups import Cell, Group
from pagebench.report import cache as report
from pagebench.report.cache import Behaviour
from pagebench.results.simulated import Counts
from pagebench.units import GIB, KIB


def simulated() -> Behaviour:
    """Two probes of the same numbers, a way predictor's aliases."""
    return planted_counts.behaviour(world(probes=("chain", "flags")))


def explained() -> Behaviour:
    """Beside a run: parameters, rests, and who runs ahead."""
    return planted_counts.behaviour(world(probes=("chain", "lookup")), explanation=True)


def refused() -> Behaviour:
    """Two levels, no TLB, one loop that cannot be recorded."""

    def of_two(group: Group, cell: Cell) -> Counts:
        found = counts(group, cell)
        return msgspec.structs.replace(
            found, misses=found.misses[:2], walk_misses=(0.0, 0.0), other_misses=(0.0, 0.0), aliases=0.0
        )

    geometry = msgspec.structs.replace(
        GEOMETRY, name="two levels", caches=GEOMETRY.caches[:2], tlbs=None, inclusive=True, prefetch="stride"
    )
    why = "the probe chain cannot be recorded: `call 0x105` at 0x4 goes elsewhere"
    plan = world(orders=(9,), footprints=(16 * KIB, 256 * KIB))
    return planted_counts.behaviour(plan, of_two, geometry=geometry, refused={"mine chain": why})


def wide() -> Behaviour:
    """Names, orders, footprints and numbers that are too long for their columns."""
    names = ["linux-6.12.38-with-a-long-name+key", "branchless@hvo-shared", "fakehead"]
    plan = summaries.plan_of(
        [
            summaries.group_of(names, order, footprint, "mixed:0.25", "try_get")
            for order in (0, 22)
            for footprint in (1000 * KIB, 32 * GIB)
        ]
    )

    def model(group: Group, cell: Cell) -> Counts:
        many = 1e3 if group.order else 0.0004
        misses = (many, many / 2, 0.9996)
        return counts_of(
            misses, accesses=123.456, tlb_misses=(9.994, 99.95), lines=group.footprint_bytes // 64
        )

    behaviour = planted_counts.behaviour(plan, model)
    return msgspec.structs.replace(
        behaviour,
        simulated=msgspec.structs.replace(
            behaviour.simulated,
            geometry=msgspec.structs.replace(GEOMETRY, name="Intel(R) Xeon(R) CPU " + "x" * 70),
        ),
    )


BEHAVIOURS: dict[str, Callable[[], Behaviour]] = {
    "cache": simulated,
    "cache-explained": explained,
    "cache-refused": refused,
    "cache-wide": wide,
}


@cache
def behaviour_of(name: str) -> Behaviour:
    return BEHAVIOURS[name]()


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_the_report_is_the_golden_one(name: str) -> None:
    check_golden(name, report.render(behaviour_of(name)), "tests/test_report_cache.py")


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_every_line_fits_a_mail(name: str) -> None:
    text = report.render(behaviour_of(name))
    assert misfits(text) == []
    assert text.endswith("\n") and not text.endswith("\n\n")


def test_probes_of_the_same_numbers_share_a_table() -> None:
    text = report.render(behaviour_of("cache"))
    assert "\nchain and flags, random\n" in text
    assert "\nchain, random\n" not in text
    # Two forms that miss alike share a row.
    assert any("+1" in line for line in text.splitlines())


def test_what_runs_ahead_and_what_is_no_chain_is_said_once() -> None:
    text = " ".join(report.render(behaviour_of("cache-explained")).split())
    assert text.count("runs ahead: lookups do not wait for memory") == 1
    assert text.count("not a chain: lookups overlap") == 1
    assert "! measured on another machine" in text


def test_what_was_refused_is_said_with_its_reason() -> None:
    text = " ".join(report.render(behaviour_of("cache-refused")).split())
    assert "mine chain: the probe chain cannot be recorded: `call 0x105` at 0x4 goes elsewhere" in text
    assert "; no TLB; inclusive; prefetch stride;" in text


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_csv_and_json_say_the_same(name: str) -> None:
    behaviour = behaviour_of(name)
    decoded = json.loads(report.to_json(behaviour), parse_constant=pytest.fail)
    assert msgspec.convert(decoded, Behaviour) == behaviour
    table = list(csv.DictReader(io.StringIO(report.to_csv(behaviour))))
    cells = decoded["simulated"]["cells"]
    assert len(table) == len(cells) > 0
    levels = len(decoded["simulated"]["geometry"]["caches"])
    for row, cell in zip(table, cells, strict=True):
        group = decoded["plan"]["groups"][cell["group"]]
        its = cell["counts"]
        assert {key: row[key] for key in ("pattern", "probe")} == {
            key: group[key] for key in ("pattern", "probe")
        }
        assert (int(row["order"]), int(row["footprint_bytes"])) == (group["order"], group["footprint_bytes"])
        assert row["contender"].startswith(group["cells"][cell["cell"]]["contender"]["variant"])
        for key in (
            "accesses",
            "aliases",
            "other_accesses",
            "branches",
            "lines",
            "pages",
            "heads_share",
            "lookups",
        ):
            assert float(row[key]) == its[key], key
        for what in ("misses", "walk_misses", "other_misses"):
            assert [float(row[f"l{level}_{what}"]) for level in range(1, levels + 1)] == its[what]
        assert [float(row[f"tlb{level}_misses"]) for level in (1, 2)] == its["tlb_misses"]
        for kind, share in its["mispredictions"].items():
            assert float(row[f"mispredictions_{kind}"]) == share


@given(st.floats(0, 9999.4))
def test_a_count_is_four_characters(value: float) -> None:
    text = report.per_lookup(value)
    assert 1 <= len(text) <= 4
    assert float(text) == pytest.approx(value, abs=max(0.0006, 0.006 * value))
    assert text != "0" or value == 0


def test_counts_are_short() -> None:
    values = (0, 0.0004, 0.826, 0.9994, 0.9996, 1.0, 1.034, 9.996, 14.0, 99.96, 512.3, 9999)
    expected = ["0", ".000", ".826", ".999", "1.00", "1.00", "1.03", "10.0", "14.0", "100", "512", "9999"]
    assert [report.per_lookup(value) for value in values] == expected


def test_a_report_of_a_run_has_the_table_and_how_good_it_explains() -> None:
    behaviour = behaviour_of("cache-explained")
    lines = report.simulated_block(behaviour.plan, behaviour.simulated, behaviour.explanation)
    text = " ".join(" ".join(lines).split())
    assert misfits("\n".join(lines) + "\n") == []
    assert "misses per lookup, simulated: planted (nowhere)" in text
    assert "cells that nothing was fitted to" in text
    assert report.simulated_block(behaviour.plan, None, None) == []
    assert "fitted" not in " ".join(report.simulated_block(behaviour.plan, behaviour.simulated, None))


def test_counted_and_simulated_stand_side_by_side() -> None:
    behaviour = behaviour_of("cache")
    plan = behaviour.plan
    rows = planted_counts.rows_of(plan, lambda group, cell: 10.0)
    assert report.side_by_side(rows, plan, behaviour.simulated) == []
    counted = [msgspec.structs.replace(rows[0], counts={"l1d_misses": 0.5, "branch_misses": None}), *rows[1:]]
    lines = report.side_by_side(counted, plan, behaviour.simulated)
    assert lines[-1].split()[-4:] == [".500", ".062", "-", "0"]
    assert report.side_by_side(counted, plan, None) == []
    assert misfits("\n".join(lines[2:])) == []


def test_what_stands_side_by_side_fits_a_mail() -> None:
    behaviour = behaviour_of("cache")
    rows = planted_counts.rows_of(behaviour.plan, lambda group, cell: 10.0)
    counted = [msgspec.structs.replace(rows[0], counts={"l1d_misses": 0.5, "branch_misses": 0.5})]
    lines = report.side_by_side(counted, behaviour.plan, behaviour.simulated)
    assert misfits("\n".join(lines)) == []
    assert lines[-2].split()[-4:] == ["L1D", "sim.", "branch", "sim."]
