"""Plans as tests ask for them, and what a user could ask for."""

from __future__ import annotations

import re

from conftest import LEVELS
from hypothesis import strategies as st

from pagebench.errors import PagebenchError
from pagebench.names import PROBES
from pagebench.plan import building
from pagebench.plan.groups import Group, Plan
from pagebench.plan.options import Options
from pagebench.units import MIB

L3_REPORTED = 32 * MIB


def build(available: int | None = None, **asked: object) -> Plan:
    return building.build(Options(**asked), LEVELS, L3_REPORTED, available)  # type: ignore[arg-type]


def compared(made: Plan) -> list[Group]:
    return [group for group in made.groups if group.purpose == "compare"]


def axes(made: Plan) -> set[tuple[int, int, str, str]]:
    return {(g.order, g.footprint_bytes, g.pattern, g.probe) for g in compared(made)}


asked_for = st.fixed_dictionaries(
    {},
    optional={
        "contenders": st.lists(
            st.sampled_from(
                [
                    *("pointer", "fakehead", "mask", "branchless", "mask-select", "pointer@plain:4k"),
                    *("mask@plain:memfd", "fakehead@hvo", "branchless@hvo-shared"),
                ]
            ),
            min_size=1,
            max_size=8,
            unique=True,
        ),
        "orders": st.lists(st.integers(0, 11), min_size=1, max_size=4),
        "footprints": st.lists(
            st.sampled_from(["1K", "16K", "300K", "2M", "60M", "l1", "l2", "l3", "dram"]),
            min_size=1,
            max_size=3,
        ),
        "patterns": st.lists(
            st.sampled_from(["random", "heads", "scan", "mixed:0.125", "tails", "slab", "zap"]), min_size=1
        ),
        "probes": st.lists(st.sampled_from(sorted(PROBES)), min_size=1, max_size=4),
        "extent": st.sampled_from(["quick", "default"]),
        "memory_model": st.sampled_from([None, "sparsemem"]),
        "processes": st.integers(1, 100),
        "rounds": st.integers(1, 1000),
        "seed": st.integers(0, 2**64),
        "cpu": st.integers(0, 500),
        "struct_page_bytes": st.sampled_from([56, 64, 96]),
        "margin_cycles": st.floats(0.001, 10),
    },
)


def build_or_none(asked: dict[str, object]) -> Plan | None:
    try:
        return build(**asked)
    except PagebenchError as error:
        assert re.match(r"nothing to measure|the layout needs \d+ mappings", str(error)), error
        return None
