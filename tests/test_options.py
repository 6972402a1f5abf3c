"""From what is asked for to the cells that are measured, or to a sentence why not."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from conftest import LEVELS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planted import plant

from pagebench import core, names
from pagebench.errors import PagebenchError
from pagebench.memmap import folios, layouts
from pagebench.memmap.layouts import exists_at
from pagebench.memmap.patterns import Pattern
from pagebench.plan import building, options, places, presets
from pagebench.plan.groups import Contender, Group, Plan
from pagebench.plan.options import Options
from pagebench.units import GIB, KIB, MIB

L3_REPORTED = 32 * MIB


@pytest.fixture(autouse=True)
def enough_mappings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a kernel comes, whatever this machine's limit is."""

    def check(mappings: int) -> None:
        real(mappings, plant(tmp_path, {"proc/sys/vm/max_map_count": "65530", "proc/self/maps": "a mapping"}))

    real = layouts.check_map_count
    monkeypatch.setattr(building, "check_map_count", check)


def build(available: int | None = None, **asked: object) -> Plan:
    return building.build(Options(**asked), LEVELS, L3_REPORTED, available)  # type: ignore[arg-type]


def compared(made: Plan) -> list[Group]:
    return [group for group in made.groups if group.purpose == "compare"]


def axes(made: Plan) -> set[tuple[int, int, str, str]]:
    return {(g.order, g.footprint_bytes, g.pattern, g.probe) for g in compared(made)}


def test_the_default_run() -> None:
    made = build()
    # 295 cells of plain memmaps, and 24 of layouts at order 9.
    assert (made.cell_count, len(made.groups), made.processes, made.rounds) == (319, 42, 24, 63)
    assert made.reference == "pointer-branch@plain"
    assert {group.purpose for group in made.groups} == {"compare"}
    assert {g.level for g in made.groups} == {"l1", "l2", "l3", "dram"}


def test_quick_is_a_part_of_the_default_run() -> None:
    made = build(extent="quick")
    assert (len(made.groups), made.processes) == (6, options.QUICK_PROCESSES)
    assert axes(made) <= axes(build())
    assert {g.level for g in made.groups} <= {"l1", "l2"}


def test_full_is_more_than_the_default_run() -> None:
    made = build(extent="full")
    assert axes(build()) < axes(made)
    assert {g.probe for g in made.groups} == set(names.PROBES)


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


def test_the_same_cell_is_planned_once() -> None:
    once = build(orders=(2,), footprints=("16K",), patterns=("mixed",), probes=("chain",))
    made = build(
        orders=(2, 2),
        footprints=("16K", "16384", "l1"),
        patterns=("mixed", "mixed:.5"),
        probes=("chain",) * 2,
    )
    assert made.groups == once.groups


@pytest.mark.parametrize("pattern", ["tails", "mixed"])
def test_patterns_of_tails_have_no_cell_at_order_0(pattern: str) -> None:
    made = build(orders=(0, 2), patterns=("random", pattern))
    assert {(g.order, g.pattern) for g in compared(made)} == {
        (0, "random"),
        (2, "random"),
        (2, str(Pattern.parse(pattern))),
    }
    with pytest.raises(PagebenchError, match=rf"nothing to measure \(chain over {pattern}.* at order 0"):
        build(orders=(0,), patterns=(pattern,))


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
        "probes": st.lists(st.sampled_from(sorted(names.PROBES)), min_size=1, max_size=4),
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


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(asked_for)
def test_json_and_back_is_the_same_plan(asked: dict[str, object]) -> None:
    made = build_or_none(asked)
    if made:
        assert Plan.from_json(json.loads(json.dumps(made.to_json()))) == made


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(asked_for)
def test_every_plan_keeps_the_laws(asked: dict[str, object]) -> None:
    made = build_or_none(asked)
    if not made:
        return
    controls = 0
    for group in made.groups:
        roles = Counter(cell.role for cell in group.cells)
        reference = group.cells[0]
        assert reference.role == "contender" and str(reference.contender) == made.reference
        assert roles["aa"] == roles["identity"] == 1
        (aa,) = [cell for cell in group.cells if cell.role == "aa"]
        assert (aa.contender, aa.encoding) == (reference.contender, reference.encoding)
        contenders = [cell.contender for cell in group.cells if cell.role == "contender"]
        assert len(set(contenders)) == len(contenders)
        assert group.level == LEVELS.of(group.footprint_bytes)
        size = made.struct_page_bytes
        if group.purpose == "compare":
            wanted = Options(**asked).contenders or presets.DEFAULT_CONTENDERS  # type: ignore[arg-type]
            every = [Contender.parse(text) for text in wanted]
            there = [c for c in every if exists_at(c.layout, group.order, size)]
            writes_tails = core.built_in_variants()[names.IDENTITY].probes[group.probe].writes_tails
            if writes_tails or made.memory_model:
                there = [c for c in there if c.layout == "plain"]
            assert contenders == there
            assert not writes_tails or group.pattern == "heads"
        if roles["control"]:
            controls += 1
            assert (group.probe, group.level) == ("chain", "l1")
            (control,) = [cell.contender for cell in group.cells if cell.role == "control"]
            twin = Contender(names.CONTROL_REFERENCE, control.layout, control.backing)
            assert twin in [cell.contender for cell in group.cells]
            assert control.layout == "plain"
        # One memmap for all encodings where they fit into what is shared.
        by_encoding = {cell.encoding for cell in group.cells}
        shared = places.memmap_bytes(made, group) <= LEVELS.shared_bytes
        assert group.shared == (shared or len(by_encoding) == 1)
    assert controls == 1
    assert len({(g.purpose, g.order, g.footprint_bytes, g.pattern, g.probe) for g in made.groups}) == len(
        made.groups
    )
    assert made.variant_names[0] == made.groups[0].cells[0].contender.variant


@settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(asked_for)
def test_regions_hold_every_memmap(asked: dict[str, object]) -> None:
    made = build_or_none(asked)
    if not made or made.memory_model:
        return
    sizes = places.region_sizes(made)
    every = {place for group in made.groups for place in places.places_of(group)}
    assert set(sizes) == {place for place in every if place[1] != "memfd"}
    for group in made.groups:
        needed = places.folio_map(made, group).bytes
        assert places.memmap_bytes(made, group) == needed
        for place in places.places_of(group):
            if place[1] != "memfd":
                assert sizes[place] >= needed
                assert sizes[place] % names.BACKING_BYTES[place[1]] == 0


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_presets_are_plans(preset: str) -> None:
    made = build(preset=preset)
    assert made.preset == preset
    named = {str(cell.contender) for group in made.groups for cell in group.cells if cell.role == "contender"}
    assert named <= {str(Contender.parse(text)) for text in presets.PRESETS[preset].contenders}
    assert axes(made) and len(axes(build(preset=preset, probes=("lookup",)))) < len(axes(made))


def test_layouts_stand_where_they_exist() -> None:
    made = build(orders=(2, 6, 7, 9))
    by_order = {
        group.order: [str(c.contender) for c in group.cells if c.contender.layout != "plain"]
        for group in compared(made)
    }
    both = ["fakehead@hvo", "branchless@hvo-shared"]
    assert by_order == {2: [], 6: [], 7: both, 9: both}
    with pytest.raises(PagebenchError, match=r"nothing to measure \(fakehead@hvo at order 2"):
        build(contenders=("fakehead@hvo",), orders=(2,))


def test_a_layout_of_more_mappings_than_the_kernel_allows_is_refused() -> None:
    with pytest.raises(
        PagebenchError, match=r"needs \d+ mappings and \d+ are free: sysctl vm.max_map_count="
    ):
        build(contenders=("fakehead@hvo",), orders=(9,), footprints=("1G",))


def test_a_control_has_a_group_of_its_own_where_no_l1_chain_was_asked_for() -> None:
    made = build(contenders=("pointer", "mask"), footprints=("2M",), probes=("lookup",))
    *_, control = made.groups
    assert (control.purpose, control.probe, control.level) == ("control", "chain", "l1")
    assert [cell.role for cell in control.cells] == [
        "contender",
        "aa",
        "identity",
        "control-reference",
        "control",
    ]


@pytest.mark.parametrize(
    "asked, why",
    [
        ({"contenders": ("pionter",)}, "unknown variant 'pionter': did you mean 'pointer'"),
        ({"contenders": ("mask@plian",)}, "unknown layout 'plian': did you mean 'plain'"),
        ({"contenders": ("mask@plain:2mb",)}, "unknown backing '2mb': did you mean '2m'"),
        ({"probes": ("chian",)}, "unknown probe 'chian': did you mean 'chain'"),
        ({"patterns": ("tail",)}, "unknown pattern 'tail': did you mean 'tails'"),
        ({"footprints": ("dramm",)}, "unknown footprint 'dramm': did you mean 'dram'"),
        ({"footprints": ("16X",)}, "'16X' is not a size"),
        ({"footprints": ("1023",)}, "too small: give 1K or more"),
        ({"footprints": ("0",)}, "too small"),
        ({"orders": (23,)}, "there is no order 23: .* 0 to 22"),
        ({"orders": (2, -1)}, "there is no order -1"),
        ({"contenders": ()}, "no contenders"),
        ({"orders": ()}, "nothing to measure"),
        ({"footprints": ()}, "nothing to measure"),
        ({"patterns": ()}, "nothing to measure"),
        ({"probes": ()}, "nothing to measure"),
        ({"contenders": ("mask", "mask@plain")}, "named twice"),
        ({"contenders": ("mask", "identity")}, "belongs to the harness"),
        ({"contenders": ("control",)}, "belongs to the harness"),
        ({"preset": "serie"}, "unknown preset 'serie': did you mean 'series'"),
        ({"memory_model": "sparsmem"}, "did you mean 'sparsemem'"),
        ({"orders": (3,), "probes": ("prep",)}, "nothing to measure .*prep over random at order 3"),
    ],
)
def test_what_does_not_exist_is_refused(asked: dict[str, object], why: str) -> None:
    with pytest.raises(PagebenchError, match=why):
        build(**asked)


@pytest.mark.parametrize("order", [0, 3, 9, 22])
@pytest.mark.parametrize("pattern", ["random", "slab"])
def test_more_than_memory_is_refused_with_both_numbers_before_it_is_allocated(
    pattern: str, order: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def allocate(*_: object) -> None:
        raise AssertionError("a memmap was made")

    if not Pattern.parse(pattern).exists_at(order):
        pytest.skip("slabs are of order 3")
    monkeypatch.setattr(folios.FolioMap, "__post_init__", allocate)
    with pytest.raises(PagebenchError, match=r"need \d[\d.]*G and 8G of memory are free"):
        build(8 * GIB, orders=(order,), footprints=("12G",), patterns=(pattern,))


@pytest.mark.parametrize("footprint", ["64G", "1000G", "99999999999999999999G"])
@pytest.mark.parametrize("available", [8 * GIB, None])
def test_a_memmap_that_offsets_do_not_reach_is_refused(footprint: str, available: int | None) -> None:
    with pytest.raises(PagebenchError, match=rf"a memmap of {footprint} is beyond 32G"):
        build(available, orders=(2,), footprints=(footprint,))


def test_memory_is_counted_for_every_memmap_and_the_worker_itself() -> None:
    asked = {"orders": (2,), "footprints": ("1G",), "probes": ("lookup",), "contenders": ("pointer", "mask")}
    memmaps = sum(places.region_sizes(build(**asked)).values())
    assert memmaps == 3 * GIB  # two encodings and the A/A copy
    with pytest.raises(PagebenchError):
        build(memmaps + GIB // 2, **asked)
    build(memmaps + 2 * GIB, **asked)


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
