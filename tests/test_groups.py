"""What a plan is made of: contenders, levels, groups, and JSON that says all of it."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest
import summaries
from conftest import LEVELS
from hypothesis import given
from hypothesis import strategies as st

from pagebench import names
from pagebench.errors import PagebenchError
from pagebench.plan.groups import Cell, Contender, Group, Levels, Plan, Target
from pagebench.units import GIB, KIB, MIB
from pagebench.variants import loaded

variant_names = st.from_regex(r"[a-z]{1,9}(-[a-z]{1,6})?", fullmatch=True)
contenders = st.builds(
    Contender, variant_names, st.sampled_from(["plain", "hvo"]), st.sampled_from(["2m", "4k", "memfd"])
)
cells = st.builds(
    Cell, contenders, st.sampled_from(["contender", "aa", "identity", "control"]), st.integers(0, 5)
)
groups = st.builds(
    Group,
    order=st.integers(0, 22),
    footprint_bytes=st.integers(KIB, 32 * GIB),
    pattern=st.sampled_from(["random", "mixed:0.25"]),
    probe=st.sampled_from(["chain", "get"]),
    level=st.sampled_from(names.LEVELS),
    shared=st.booleans(),
    cells=st.lists(cells, min_size=1, max_size=5).map(tuple),
    purpose=st.sampled_from(["compare", "control"]),
)
objects = st.builds(loaded.Loaded, variant_names, variant_names, st.text(max_size=9), st.text(max_size=9))
plans = st.builds(
    Plan,
    groups=st.lists(groups, min_size=1, max_size=4).map(tuple),
    reference=contenders.map(str),
    struct_page_bytes=st.sampled_from([56, 64, 96]),
    processes=st.integers(1, 100),
    rounds=st.integers(1, 1000),
    seed=st.integers(0, 2**70),
    cpu=st.integers(0, 500),
    levels=st.builds(Levels, *[st.integers(1, 1 << 53)] * 3),
    margin_cycles=st.floats(0.001, 10),
    preset=st.sampled_from([None, "series"]),
    memory_model=st.sampled_from([None, "sparsemem"]),
    objects=st.lists(objects, max_size=2).map(tuple),
)


@given(plans)
@pytest.mark.slow
def test_json_and_back_is_the_same_plan(made: Plan) -> None:
    assert msgspec.json.decode(msgspec.json.encode(made), type=Plan) == made


@pytest.mark.parametrize("spoil", ["groups", "levels", "seed"])
def test_json_of_something_else_is_refused(spoil: str) -> None:
    data = msgspec.to_builtins(summaries.plan_of([summaries.group_of(["pointer"])]))
    for bad in ({k: v for k, v in data.items() if k != spoil}, data | {spoil: "red"}, data | {spoil: -1}):
        with pytest.raises(msgspec.ValidationError, match=spoil):
            msgspec.convert(bad, Plan)


@pytest.mark.parametrize("changes", [{"layout": "hvo-next"}, {"backing": "1g"}])
def test_layouts_and_backings_that_are_not_known_are_refused(changes: dict[str, str]) -> None:
    """A file of a later version is not read as if it were of some layout that there is."""
    data = msgspec.json.decode(msgspec.json.encode(summaries.plan_of([summaries.group_of(["pointer"])])))
    data["groups"][0]["cells"][0]["contender"].update(changes)
    with pytest.raises(msgspec.ValidationError, match=r"unknown layout or backing: .*(hvo-next|1g)"):
        msgspec.convert(data, Plan)


def test_a_plan_counts_its_cells_and_names_its_variants() -> None:
    made = summaries.plan_of(
        [
            summaries.group_of(["pointer", "mask@plain:4k"]),
            summaries.group_of(["pointer", "branchless"], control=True),
        ]
    )
    assert sum(len(group.cells) for group in made.groups) == 4 + 6
    assert made.variant_names == ("pointer", "mask", "identity", "branchless", "control-reference", "control")


def test_a_group_is_called_by_what_its_cells_have_in_common() -> None:
    group = summaries.group_of(["pointer"], order=9, footprint=96 * MIB, pattern="tails", probe="gup")
    assert group.title == "gup, order 9, 96M, tails"


def test_a_level_is_the_first_that_holds_the_footprint() -> None:
    sizes = (1, 32 * KIB, 32 * KIB + 1, 512 * KIB, 8 * MIB, 8 * MIB + 1)
    assert [LEVELS.of(size) for size in sizes] == ["l1", "l1", "l2", "l2", "l3", "dram"]


@pytest.mark.parametrize("l3, shared", [(8 * MIB, 4 * MIB), (MIB, MIB), (0, MIB), (64 * MIB, 32 * MIB)])
def test_frames_are_shared_up_to_half_of_the_l3_that_is_there(l3: int, shared: int) -> None:
    assert dataclasses.replace(LEVELS, l3_bytes=l3).shared_bytes == shared


@pytest.mark.parametrize(
    "text", ["mask@plain", "fakehead@plain:4k", "mask@plain:memfd", "fakehead@hvo", "branchless@hvo-shared"]
)
def test_a_contender_is_called_what_was_parsed(text: str) -> None:
    assert str(Contender.parse(text)) == text


def test_what_a_contender_leaves_out() -> None:
    assert Contender.parse(" mask ") == Contender("mask", "plain", "2m")
    assert Contender.parse("mask@hvo") == Contender("mask", "hvo", "memfd")
    assert str(Contender.parse("mask@:2m")) == "mask@plain"


@pytest.mark.parametrize(
    "text, why",
    [
        ("mask@plian", "unknown layout 'plian': did you mean 'plain'"),
        ("mask@hvo_shared", "unknown layout 'hvo_shared': did you mean 'hvo-shared'"),
        ("mask@plain:2mb", "unknown backing '2mb': did you mean '2m'"),
        ("mask@hvo:2m", "mapped from a memfd, leave the backing out"),
    ],
)
def test_what_is_no_contender_is_refused(text: str, why: str) -> None:
    with pytest.raises(PagebenchError, match=why):
        Contender.parse(text)


@pytest.mark.parametrize(
    ("amount", "at_most", "target"),
    [
        ("0.02ns", "90s", Target(0.02, "ns", 90)),
        (" .5 % ", "10min", Target(0.5, "%", 600)),
        ("0.1cycles", "1.5h", Target(0.1, "cycles", 5400)),
        ("1cycle", "2 h", Target(1, "cycles", 7200)),
    ],
)
def test_targets_as_they_are_written(amount: str, at_most: str, target: Target) -> None:
    assert Target.parse(amount, at_most) == target


@pytest.mark.parametrize("amount", ["0.02", "ns", "0ns", "-1ns", "1e-3ns", "nan%", "0.1 us", ""])
def test_what_is_no_amount_is_refused(amount: str) -> None:
    with pytest.raises(PagebenchError, match=r"write it as 0\.02ns, 0\.5% or 0\.1cycles"):
        Target.parse(amount, "10min")


@pytest.mark.parametrize("at_most", ["10", "0s", "-1h", "1 day", "", "inf min"])
def test_what_is_no_time_is_refused(at_most: str) -> None:
    with pytest.raises(PagebenchError, match="write it as 90s, 10min or 2h"):
        Target.parse("1ns", at_most)
