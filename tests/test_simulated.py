"""What was simulated, typed: what fits its plan, and what does not."""

from __future__ import annotations

from typing import Any

import msgspec
import planted_counts
import pytest
from planted_counts import GEOMETRY, counts, counts_of, simulated_of, world

from pagebench.results.simulated import (
    Cache,
    Counts,
    Geometry,
    Simulated,
    SimulatedCell,
    Tlb,
    Tlbs,
    check_fits,
)
from pagebench.units import KIB

PLAN = world(orders=(0, 9), footprints=(16 * KIB,))
WHOLE = simulated_of(PLAN, counts)


def test_it_fits_and_comes_back() -> None:
    check_fits(WHOLE, PLAN)
    assert msgspec.json.decode(msgspec.json.encode(WHOLE), type=Simulated) == WHOLE
    assert msgspec.json.decode(msgspec.json.encode(WHOLE))["kind"] == "simulated"


def with_counts(**changes: Any) -> Simulated:
    first = msgspec.structs.replace(WHOLE.cells[0], counts=counts_of(**changes))
    return msgspec.structs.replace(WHOLE, cells=(first, *WHOLE.cells[1:]))


@pytest.mark.parametrize(
    "cell", [SimulatedCell(len(PLAN.groups), 0, counts_of()), SimulatedCell(0, 40, counts_of())], ids=str
)
def test_a_cell_is_the_plans(cell: SimulatedCell) -> None:
    with pytest.raises(ValueError, match="none of the plan's"):
        check_fits(msgspec.structs.replace(WHOLE, cells=(cell,)), PLAN)


@pytest.mark.parametrize(
    "changes",
    [
        {"misses": (0.0, 0.0)},
        {"walk_misses": (0.0,) * 4},
        {"other_misses": ()},
        {"tlb_misses": (0.0,)},
        {"mispredictions": {}},
        {"mispredictions": {"bimodal": 0.0, "gshare": 0.0, "perceptron": 0.0}},
    ],
    ids=str,
)
def test_counts_are_of_its_caches(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="do not fit its caches"):
        check_fits(with_counts(**changes), PLAN)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lookups", 0),
        ("accesses", -1.0),
        ("misses", [-0.5, 0.0, 0.0]),
        ("lines", -1),
        ("heads_share", "many"),
        ("chain", {"cycles": -1, "loads": 0}),
        ("chain", None),
    ],
)
def test_counts_are_counts(field: str, value: object) -> None:
    decoded = msgspec.to_builtins(counts_of()) | {field: value}
    with pytest.raises(msgspec.ValidationError, match=field):
        msgspec.convert(decoded, Counts)


@pytest.mark.parametrize(
    "change",
    [
        {"caches": []},
        {"caches": [{"sets": 1, "ways": 1}] * 4},
        {"caches": [{"sets": 1, "ways": 17}]},
        {"caches": [{"sets": 0, "ways": 1}]},
        {"policy": "fifo"},
        {"prefetch": "all"},
        {"huge_pages": "some"},
        {"frames": "mine"},
    ],
    ids=str,
)
def test_a_geometry_has_what_can_be_simulated(change: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(msgspec.to_builtins(GEOMETRY) | change, Geometry)


def test_sizes_are_said() -> None:
    assert (str(Cache(64, 12)), Cache(64, 12).bytes) == ("48K/12", 48 * KIB)
    assert str(Tlbs(Tlb(64, 4), Tlb(32, 32), Tlb(1536, 12))) == "64/4+32, 1536/12"
    assert str(Tlbs(Tlb(64, 64), None, Tlb(2048, 16))) == "64, 2048/16"
    small = Geometry(name="x", source="y", caches=(Cache(1, 1),))
    assert str(small) == "64/1 (size/ways), lru; no TLB; frames drawn"
    assert planted_counts.GEOMETRY.tlbs is not None
