"""Plans over a captured machine's folios: which window, which orders, which patterns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted_captures import HERE, capture_of

from pagebench import core
from pagebench.errors import PagebenchError
from pagebench.host import captures
from pagebench.memmap import patterns
from pagebench.memmap.memmaps import MappedMemmap
from pagebench.memmap.patterns import Pattern
from pagebench.names import FOLIO_KINDS
from pagebench.plan import groups, machine_folios, places
from pagebench.units import KIB, MIB

HVO_ON = HERE / "hvo-on.folios.gz"
SOME = [("anon", 0, 64), ("large", 2, 8), ("slab", 1, 16), ("hugetlb", 3, 4), ("buddy", 0, 64)]
Tiny = Callable[..., groups.Plan]


def written(tmp_path: Path, *args: Any) -> groups.MachineFolios:
    path = tmp_path / "some.folios"
    path.unlink(missing_ok=True)
    captures.write(capture_of(*args), path)
    return machine_folios.of(path)


def test_the_whole_of_a_capture(tmp_path: Path) -> None:
    source = written(tmp_path, SOME, 0)
    found = machine_folios.folio_map(source, 1 * MIB, 64)
    assert found.bytes == machine_folios.whole_bytes(source, 64) == 224 * 64
    assert [np.count_nonzero(found.orders == order) for order in range(4)] == [128, 16, 8, 4]
    assert machine_folios.largest_order(found) == machine_folios.largest_order(found, optimised=True) == 3
    assert found.kinds is not None and len(found.kinds) == len(found.pfns)


def test_the_window_with_the_most_tails(tmp_path: Path) -> None:
    source = written(tmp_path, SOME, 0)
    found = machine_folios.folio_map(source, 32 * 64, 64)
    # The huge pages: seven of eight pages are tails.
    assert found.orders.tolist() == [3, 3, 3, 3]
    assert found.optimised.all()


def test_without_a_huge_page_nothing_is_optimised(tmp_path: Path) -> None:
    found = machine_folios.folio_map(written(tmp_path, [("large", 2, 8)], 0), MIB, 64)
    assert (machine_folios.largest_order(found), machine_folios.largest_order(found, optimised=True)) == (
        2,
        0,
    )


def test_a_file_that_changed_is_refused(tmp_path: Path) -> None:
    source = written(tmp_path, SOME, 0)
    written(tmp_path, SOME[1:], 0)
    with pytest.raises(PagebenchError, match="is not the capture that this was planned for"):
        machine_folios.folio_map(source, MIB, 64)


def test_pages_of_some_kinds(tmp_path: Path) -> None:
    found = machine_folios.folio_map(written(tmp_path, SOME, 0), MIB, 64)
    pfns = patterns.draw(Pattern.parse("kind:slab+hugetlb"), found, MIB, 3000, np.random.default_rng(0))
    assert set(pfns.tolist()) == set(range(96, 128)) | set(range(128, 160))
    assert str(Pattern.parse("kind:slab+hugetlb")) == "kind:slab+hugetlb"
    with pytest.raises(PagebenchError, match="no page is of the pattern kind:pgtable"):
        patterns.draw(Pattern.parse("kind:pgtable"), found, MIB, 10, np.random.default_rng(0))


@pytest.mark.parametrize(("text", "said"), [("kind", "known: anon"), ("kind:slap", "did you mean 'slab'")])
def test_unknown_kinds(text: str, said: str) -> None:
    with pytest.raises(PagebenchError, match=said):
        Pattern.parse(text)


def test_what_a_process_mapped_in_its_order() -> None:
    source = machine_folios.of(HERE / "process.folios.gz")
    found = machine_folios.folio_map(source, 2 * MIB, 64)
    assert found.mapped is not None
    pfns = patterns.draw(Pattern("captured"), found, 2 * MIB, 3 * len(found.mapped), np.random.default_rng(3))
    at = int(np.flatnonzero(pfns == found.mapped[0])[0])
    assert pfns[at : at + len(found.mapped)].tolist() == found.mapped.tolist()


def test_a_capture_without_a_process_is_said_so() -> None:
    found = machine_folios.folio_map(machine_folios.of(HVO_ON), 2 * MIB, 64)
    with pytest.raises(PagebenchError, match="capture with --pid"):
        patterns.draw(Pattern("captured"), found, 2 * MIB, 10, np.random.default_rng(0))


@pytest.mark.parametrize("name", ["captured", "kind:anon"])
def test_they_want_a_capture(name: str, tiny: Tiny) -> None:
    with pytest.raises(PagebenchError, match=r"give a capture with --folios"):
        tiny(patterns=(name,))


def test_a_plan_over_them(tiny: Tiny) -> None:
    source = machine_folios.of(HVO_ON)
    contenders = ("fakehead@plain", "fakehead@hvo", "branchless@hvo-shared")
    plan = tiny(
        folios=source, orders=None, footprints=("256K", "1G"), contenders=contenders, probes=("lookup",)
    )
    asked = [group for group in plan.groups if group.purpose == "compare"]
    whole = machine_folios.whole_bytes(source, 64)
    assert [group.footprint_bytes for group in asked] == [256 * KIB, whole]
    # The huge page is in the larger window alone.
    assert [len([c for c in group.cells if c.role == "contender"]) for group in asked] == [1, 3]
    assert [group.order for group in asked] == [4, 9]
    assert places.memmap_bytes(plan, asked[1]) == places.folio_map(plan, asked[1]).bytes <= whole
    control = next(group for group in plan.groups if group.purpose == "control")
    assert set(places.folio_map(plan, control).orders.tolist()) == {2}


@pytest.mark.parametrize(
    ("asked", "what"), [({"orders": (2,)}, "--orders"), ({"memory_model": "flatmem"}, "--memory-model")]
)
def test_they_bring_what_others_would_set(asked: dict[str, Any], what: str, tiny: Tiny) -> None:
    with pytest.raises(PagebenchError, match=f"leave {what} out"):
        tiny(folios=machine_folios.of(HVO_ON), **{"orders": None, **asked})


def test_slabs_have_folios_of_their_own(tiny: Tiny) -> None:
    with pytest.raises(PagebenchError, match="the pattern slab has folios of its own"):
        tiny(folios=machine_folios.of(HVO_ON), orders=None, patterns=("slab",))


@pytest.mark.parametrize(
    ("name", "layout"), [("fakehead", "plain"), ("fakehead", "hvo"), ("branchless", "hvo-shared")]
)
def test_every_page_of_a_machine_is_found_in_every_layout(name: str, layout: str) -> None:
    found = machine_folios.folio_map(machine_folios.of(HVO_ON), 2 * MIB, 64)
    variant = core.built_in_variants()[name]
    with MappedMemmap(layout, found) as memmap:
        memmap.write(variant, True)
        run = variant.probes["chain"].run
        verified = core.verify(run, memmap.base, found.page_offsets, found.head_offsets)
    assert verified.wrong == 0


def test_kinds_are_the_captures() -> None:
    assert tuple(FOLIO_KINDS) == captures.KINDS
    assert core.FOLIO_DTYPE.names == ("head", "order", "pages")


def test_a_window_without_such_pages_has_no_cell(tiny: Tiny, tmp_path: Path) -> None:
    source = written(tmp_path, [("large", 2, 1024), ("slab", 0, 64)], 0)
    plan = tiny(folios=source, orders=None, footprints=("16K", "1M"), patterns=("kind:slab",))
    compared = {group.footprint_bytes for group in plan.groups if group.purpose == "compare"}
    assert compared == {machine_folios.whole_bytes(source, 64)}
    with pytest.raises(PagebenchError, match=r"nothing to measure .*no page is of the pattern kind:slab"):
        tiny(folios=source, orders=None, footprints=("16K",), patterns=("kind:slab",))
