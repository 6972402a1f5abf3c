"""What a result file says of the code that is timed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from pagebench import core
from pagebench.code import form
from pagebench.measure.timed_code import movable_loops, timed_code
from pagebench.plan.groups import Plan
from pagebench.variants import registry

pytestmark = pytest.mark.usefixtures("own_cache")
Build = Callable[..., Plan]


def test_every_loop_that_is_timed_is_there_with_its_bytes(tiny: Build) -> None:
    plan = tiny()
    codes = timed_code(plan)
    assert tuple(codes) == plan.variant_names
    for name, code in codes.items():
        variant = core.built_in_variants()[name]
        assert (code.commit, code.subject, code.version) == (variant.commit, variant.subject, variant.version)
        assert (code.source, code.cflags, code.struct_page_bytes) == ("", "", 64)
        assert set(code.probes) == {"chain", "get"}
        for probe, loop in code.probes.items():
            assert bytes.fromhex(loop.code) == variant.probes[probe].code
            listing = form.analyse(variant.probes[probe])
            assert (loop.form, loop.variant_bytes) == (listing.form, listing.variant_bytes)


def test_the_struct_page_is_the_plans(tiny: Build) -> None:
    codes = timed_code(tiny(struct_page_bytes=96))
    assert {code.struct_page_bytes for code in codes.values()} == {96}


def test_a_variant_from_outside_comes_with_source_and_flags(tiny: Build, mine: Path) -> None:
    own = registry.users_own("mine", mine, 64)
    code = timed_code(tiny(contenders=("pointer-select", "mine"), objects=(own,)))["mine"]
    assert (code.source, code.cflags) == (own.source, own.cflags)
    assert code.source.startswith("mine.c, ") and code.cflags
    assert code.subject == "user's own, mine.c"


def test_what_may_not_be_copied_stays(tiny: Build) -> None:
    codes = timed_code(tiny())
    assert movable_loops(codes) == {f"{name} {probe}": True for name in codes for probe in ("chain", "get")}
    code = codes["mask-select"]
    stays = msgspec.structs.replace(code.probes["chain"], immovable="it calls")
    codes["mask-select"] = msgspec.structs.replace(code, probes={**code.probes, "chain": stays})
    movable = movable_loops(codes)
    assert [loop for loop, may in movable.items() if not may] == ["mask-select chain"]
