"""What can be asked for: axes and sizes."""

from __future__ import annotations

import pytest
from conftest import LEVELS
from plans import L3_REPORTED, axes, build

from pagebench.plan import options
from pagebench.units import KIB, MIB

pytestmark = pytest.mark.usefixtures("enough_mappings")


def test_an_axis_that_is_named_replaces_the_prepared_one() -> None:
    made = build(orders=(3,))
    assert axes(made) == {
        (3, size, "random", probe)
        for size in (16 * KIB, 256 * KIB, 2 * MIB, 96 * MIB)
        for probe in ("chain", "lookup")
    }
    made = build(orders=(2, 9), footprints=("16K",), patterns=("heads", "mixed:0.25"), probes=("get",))
    assert axes(made) == {(order, 16 * KIB, p, "get") for order in (2, 9) for p in ("heads", "mixed:0.25")}
    made = build(extent="quick", patterns=("scan",))
    assert axes(made) == {
        (order, size, "scan", "chain") for order in (0, 2, 9) for size in (16 * KIB, 256 * KIB)
    }


@pytest.mark.parametrize(
    "text, size",
    [
        ("l1", 16 * KIB),
        ("l2", 256 * KIB),
        ("L3", 2 * MIB),
        ("dram", 128 * MIB),
        ("1K", KIB),
        ("48K", 48 * KIB),
        ("4096", 4096),
    ],
)
def test_footprints_by_size_and_by_name(text: str, size: int) -> None:
    assert options.footprint_bytes(text, LEVELS, L3_REPORTED) == size


def test_dram_is_beyond_the_l3_that_is_reported() -> None:
    assert options.footprint_bytes("dram", LEVELS, 256 * MIB) == 1024 * MIB
