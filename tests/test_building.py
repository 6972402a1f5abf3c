"""From what is asked for to the cells that are measured, or to a sentence why not."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from conftest import LEVELS
from hypothesis import HealthCheck, given, settings
from plans import asked_for, build, build_or_none, compared

from pagebench import core, names
from pagebench.errors import PagebenchError
from pagebench.memmap import folios
from pagebench.memmap.patterns import Pattern
from pagebench.plan import places, presets
from pagebench.plan.groups import Contender, Plan
from pagebench.plan.options import Options
from pagebench.units import GIB

pytestmark = pytest.mark.usefixtures("enough_mappings")


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


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(asked_for)
@pytest.mark.slow
def test_json_and_back_is_the_same_plan(asked: dict[str, object]) -> None:
    made = build_or_none(asked)
    if made:
        assert msgspec.json.decode(msgspec.json.encode(made), type=Plan) == made


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
        assert (aa.contender, aa.tail_words) == (reference.contender, reference.tail_words)
        contenders = [cell.contender for cell in group.cells if cell.role == "contender"]
        assert len(set(contenders)) == len(contenders)
        assert group.level == LEVELS.of(group.footprint_bytes)
        size = made.struct_page_bytes
        if group.purpose == "compare":
            wanted = Options(**asked).contenders or presets.DEFAULT_CONTENDERS  # type: ignore[arg-type]
            every = [Contender.parse(text) for text in wanted]
            there = [c for c in every if names.LAYOUTS[c.layout].exists_at(group.order, size)]
            writes_tails = core.built_in_variants()[names.IDENTITY].probes[group.probe].writes_tails
            if writes_tails or made.memory_model:
                there = [c for c in there if c.layout == "plain"]
            assert contenders == there
            assert not writes_tails or group.pattern == "heads"
        if roles["control"]:
            controls += 1
            assert (group.probe, group.level) == ("chain", "l1")
            (control,) = [cell.contender for cell in group.cells if cell.role == "control"]
            (known,) = [cell.contender for cell in group.cells if cell.role == "control-reference"]
            assert known == Contender(names.CONTROL_REFERENCE, control.layout, control.backing)
            assert control.layout == "plain"
        # One memmap for all encodings where they fit into what is shared.
        by_encoding = {cell.tail_words for cell in group.cells}
        shared = places.memmap_bytes(made, group) <= LEVELS.shared_bytes
        assert group.shared == (shared or len(by_encoding) == 1)
    assert controls == 1
    assert len({(g.purpose, g.order, g.footprint_bytes, g.pattern, g.probe) for g in made.groups}) == len(
        made.groups
    )
    assert made.variant_names[0] == made.groups[0].cells[0].contender.variant


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


def test_groups_that_compare_encodings_have_a_null_between_them() -> None:
    axes = {"footprints": ("16K",), "probes": ("chain",)}
    made = build(orders=(0, 2), contenders=("pointer", "branchless"), **axes)
    roles = {group.order: [cell.role for cell in group.cells] for group in made.groups}
    assert "null" not in roles[0]  # base pages have no tails, and so no encoding
    assert roles[2][-2:] == ["null-reference", "null"]
    reference, null = (cell.contender.variant for cell in made.groups[1].cells[-2:])
    assert (reference, null) == (names.NULL_REFERENCE, names.ENCODING_NULL)
    words = [cell.tail_words for cell in made.groups[1].cells]
    assert words[-1] not in words[:-1]
    # A contender serves as its reference.
    (group,) = build(orders=(2,), contenders=("pointer", "mask-select"), **axes).groups
    assert [cell.role for cell in group.cells].count("null-reference") == 0


@pytest.mark.parametrize(
    "asked",
    [{"contenders": ("pointer", "fakehead")}, {"memory_model": "sparsemem"}, {"struct_page_bytes": 56}],
)
def test_of_one_encoding_or_where_masks_may_be_misplaced_there_is_no_null(asked: dict[str, object]) -> None:
    made = build(orders=(2,), footprints=("16K",), probes=("chain",), **asked)
    assert "null" not in {cell.role for group in made.groups for cell in group.cells}
