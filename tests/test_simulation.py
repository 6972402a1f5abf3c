"""Simulated cells: what is known of them beforehand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from planted_captures import HERE

from pagebench import core
from pagebench.cache import geometry, lookups, simulation, traces
from pagebench.cache.simulation import batches, contenders, simulate
from pagebench.errors import PagebenchError
from pagebench.plan import groups, machine_folios
from pagebench.results.simulated import Cache, Counts, Geometry, Simulated, Tlb, Tlbs, check_fits
from pagebench.units import KIB, MIB

pytestmark = pytest.mark.usefixtures("own_cache")
Build = Callable[..., groups.Plan]
# 4K, 16K and 64K, so that little memory goes far.
SMALL = Geometry(
    name="small",
    source="a test",
    caches=(Cache(8, 8), Cache(32, 8), Cache(64, 16)),
    tlbs=Tlbs(Tlb(4, 4), None, Tlb(16, 4)),
)
LEVELS = groups.Levels(4 * KIB, 16 * KIB, 64 * KIB)
ASKED: dict[str, Any] = {
    "contenders": ("pointer-select",),
    "orders": (0,),
    "footprints": ("16K",),
    "patterns": ("random",),
    "probes": ("chain",),
}


def counts_of(found: Simulated, plan: groups.Plan) -> Mapping[tuple[str, int, int], Counts]:
    """By contender, order and footprint."""
    return {
        (
            str(plan.groups[one.group].cells[one.cell].contender),
            plan.groups[one.group].order,
            plan.groups[one.group].footprint_bytes,
        ): one.counts
        for one in found.cells
    }


def only(found: Simulated) -> Counts:
    (cell,) = found.cells
    return cell.counts


@pytest.fixture
def run(tiny: Build) -> Callable[..., tuple[Simulated, groups.Plan]]:
    def simulated(
        its: Geometry = SMALL, levels: groups.Levels = LEVELS, **changes: Any
    ) -> tuple[Simulated, groups.Plan]:
        plan = tiny(levels, **{**ASKED, **changes})
        found = simulate(plan, its)
        check_fits(found, plan)
        return found, plan

    return simulated


Run = Callable[..., tuple[Simulated, groups.Plan]]


def test_every_contender_is_simulated_and_nothing_else(run: Run) -> None:
    found, plan = run(
        contenders=("pointer-select", "mask-select", "fakehead"), orders=(0, 2), probes=("chain", "get")
    )
    expected = {
        (index, number)
        for index, group in enumerate(plan.groups)
        if group.purpose == "compare"
        for number, cell in enumerate(group.cells)
        if cell.role == "contender"
    }
    assert {(one.group, one.cell) for one in found.cells} == expected
    assert len(expected) == 3 * 2 * 2
    assert found.cells == tuple(sorted(found.cells, key=lambda one: (one.group, one.cell)))
    assert (found.geometry, found.seed, found.refused) == (SMALL, plan.seed, {})


def test_a_footprint_inside_l1_has_no_misses(run: Run) -> None:
    found, _ = run(geometry.find("zen5"), groups.Levels(48 * KIB, MIB, 32 * MIB), orders=(0, 2))
    for one in found.cells:
        assert one.counts.misses == (0.0, 0.0, 0.0)
        assert one.counts.accesses == 1.0
        assert one.counts.tlb_misses == (0.0, 0.0)
        assert one.counts.lookups == lookups.COUNTED


@pytest.mark.parametrize("footprint", ["8K", "16K", "64K", "256K"])
def test_random_lines_miss_by_what_does_not_fit(footprint: str, run: Run) -> None:
    """1 - C/F, a little more where the caches' other contents, or the chance of sets, take room."""
    counts = only(run(footprints=(footprint,))[0])
    size = int(footprint[:-1]) * KIB
    for cache, misses in zip(SMALL.caches, counts.misses, strict=True):
        expected = max(0.0, 1 - cache.bytes / size)
        assert expected - 0.01 <= misses <= expected + 0.15, (cache, misses)
    assert counts.lines == size // 64
    assert counts.misses[0] >= counts.misses[1] >= counts.misses[2]


def test_few_large_sets_miss_by_just_that(run: Run) -> None:
    one = msgspec.structs.replace(SMALL, caches=(Cache(4, 16),), tlbs=None)
    counts = only(run(one, groups.Levels(4096, 4096, 4096), footprints=("16K",))[0])
    # Of 64 lines a set has 16, less the pattern's own: a line in sixteen lookups.
    assert counts.misses[0] == pytest.approx(1 - 16 / 64 * 16 / 17, abs=0.01)
    assert counts.tlb_misses == (0.0, 0.0)
    assert counts.other_misses[0] == pytest.approx(1 / 16, abs=0.01)


def test_pages_miss_the_tlb_by_what_does_not_fit(run: Run) -> None:
    """Of 64 pages a first level of four has few, the second a quarter; the pattern's page comes and goes."""
    counts = only(run(contenders=("pointer-select@plain:memfd",), footprints=("256K",))[0])
    assert counts.pages == 64
    assert 1 - 4 / 64 - 0.01 < counts.tlb_misses[0] < 1 - 2 / 64
    assert 0.7 < counts.tlb_misses[1] < 0.85
    assert sum(counts.walk_misses) > 0


def test_huge_pages_are_one_entry_or_as_the_host_splits_them(run: Run) -> None:
    whole = only(run(footprints=("256K",))[0])
    assert whole.tlb_misses == (0.0, 0.0)
    split = only(run(msgspec.structs.replace(SMALL, huge_pages="split"), footprints=("256K",))[0])
    assert split.tlb_misses[0] > 0.9


def test_without_tlbs_nothing_walks(run: Run) -> None:
    counts = only(run(msgspec.structs.replace(SMALL, tlbs=None), footprints=("256K",))[0])
    assert (counts.tlb_misses, counts.walk_misses) == ((0.0, 0.0), (0.0, 0.0, 0.0))


def test_heads_of_large_folios_collide_in_few_sets(run: Run) -> None:
    """Of order 9 they are 32K apart: all of them in one set of L1, and of an L2 by 32 sets as well."""
    found, plan = run(orders=(0, 9), footprints=("1M",), patterns=("heads",))
    counts = counts_of(found, plan)
    heads = counts["pointer-select@plain", 9, MIB]
    assert heads.lines == 32
    # As many lines would fit L1 twice over.
    assert SMALL.caches[0].bytes > 32 * 64
    assert heads.misses[0] > 0.7
    assert heads.heads_share == 1.0
    spread = only(run(orders=(0,), footprints=("2K",), patterns=("heads",))[0])
    assert (spread.lines, spread.misses[0]) == (32, 0.0)


def test_frames_that_are_shared_are_one_line(run: Run) -> None:
    """hvo-shared: a page for each of 32 folios, and one of tails for all of them."""
    found, plan = run(
        contenders=("mask-select@plain:memfd", "mask-select@hvo-shared"), orders=(9,), footprints=("1M",)
    )
    counts = counts_of(found, plan)
    plain, shared = counts["mask-select@plain:memfd", 9, MIB], counts["mask-select@hvo-shared", 9, MIB]
    # Not all of them were drawn.
    assert 0.97 * MIB // 64 < plain.lines < MIB // 64
    assert plain.pages == 256
    assert 0.97 * 33 * 64 < shared.lines <= 33 * 64
    assert shared.pages == 33
    # Seven of eight lookups go to those 4K, which fill L1 alone: but a line there is no miss in L2.
    assert shared.misses[1] < 0.2 < 0.9 < plain.misses[1]
    assert (plain.accesses, shared.accesses) == (1.0, 1.0)


def test_aliases_are_seen_by_a_way_predictor(run: Run) -> None:
    zen = msgspec.structs.replace(geometry.find("zen5"), tlbs=None)
    levels = groups.Levels(48 * KIB, MIB, 32 * MIB)
    asked: dict[str, Any] = {
        "contenders": ("mask-select@plain:memfd", "mask-select@hvo-shared"),
        "orders": (9,),
        "footprints": ("128K",),
    }
    found, plan = run(zen, levels, **asked)
    counts = counts_of(found, plan)
    assert counts["mask-select@plain:memfd", 9, 128 * KIB].aliases == 0.0
    # Seven pages of each of four folios are that one frame: its lines were last reached by another of them.
    assert counts["mask-select@hvo-shared", 9, 128 * KIB].aliases == pytest.approx(7 / 8 * 27 / 28, abs=0.01)
    blind = msgspec.structs.replace(zen, way_predictor=False)
    assert {one.counts.aliases for one in run(blind, levels, **asked)[0].cells} == {0.0}


def test_tails_of_order_two_are_mispredicted_three_times_in_ten(run: Run) -> None:
    """A two-bit counter over an outcome of three quarters: 0.3; nothing learns what is random."""
    found, plan = run(contenders=("pointer-branch", "pointer-select"), orders=(0, 2), footprints=("64K",))
    counts = counts_of(found, plan)
    branch = counts["pointer-branch@plain", 2, 64 * KIB].mispredictions
    assert branch["bimodal"] == pytest.approx(0.3, abs=0.01)
    assert branch["gshare"] == pytest.approx(0.3, abs=0.03)
    assert 0.24 < branch["tage"] < 0.32
    for key in (("pointer-branch@plain", 0), ("pointer-select@plain", 0), ("pointer-select@plain", 2)):
        assert max(counts[(*key, 64 * KIB)].mispredictions.values()) < 0.001
    assert counts["pointer-branch@plain", 2, 64 * KIB].branches == 2
    assert counts["pointer-select@plain", 2, 64 * KIB].branches == 1
    assert counts["pointer-branch@plain", 2, 64 * KIB].heads_share == pytest.approx(0.25, abs=0.01)


def test_chains_come_with_it(run: Run) -> None:
    found, plan = run(contenders=("pointer-select", "pointer-branch"), orders=(0, 2))
    loads = {key[:2]: counts.chain.loads for key, counts in counts_of(found, plan).items()}
    assert loads["pointer-select@plain", 0] == loads["pointer-select@plain", 2] == 1.0
    assert loads["pointer-branch@plain", 0] == 0.0
    assert loads["pointer-branch@plain", 2] == pytest.approx(0.75, abs=0.05)


def test_the_seed_decides(run: Run) -> None:
    asked: dict[str, Any] = {"contenders": ("pointer-select@plain:memfd",), "footprints": ("64K",)}
    first, again, other = (run(seed=seed, **asked)[0] for seed in (5, 5, 6))
    assert first == again
    assert first.cells != other.cells


def test_what_differs_in_contender_alone_is_over_the_same_pages(run: Run) -> None:
    """Two forms of one encoding touch the same lines in the same order: the same misses to the last one."""
    found, _ = run(contenders=("pointer-select", "branchless"), orders=(2,), footprints=("64K",))
    first, second = (one.counts for one in found.cells)
    assert first.misses == second.misses
    assert (first.lines, first.heads_share) == (second.lines, second.heads_share)


def test_prefetching_helps_a_scan(run: Run) -> None:
    asked: dict[str, Any] = {"patterns": ("scan",), "footprints": ("64K",)}
    plain = only(run(**asked)[0])
    ahead = only(run(msgspec.structs.replace(SMALL, prefetch="next-line"), **asked)[0])
    assert ahead.misses[0] < 0.6 * plain.misses[0]


@pytest.mark.parametrize("policy", ["plru", "random"])
def test_other_policies_miss_other_lines(policy: str, run: Run) -> None:
    lru = only(run()[0])
    other = only(run(msgspec.structs.replace(SMALL, policy=policy))[0])
    assert other.misses != lru.misses
    assert other.misses[0] == pytest.approx(lru.misses[0], abs=0.05)


def test_a_probe_that_writes_tails_touches_all_of_them(run: Run) -> None:
    found, _ = run(probes=("prep",), orders=(4,), patterns=("heads",), footprints=("64K",))
    counts = only(found)
    assert counts.accesses == 16  # the head's order, and fifteen tails
    assert counts.lines == 1024


def test_progress_ends_where_all_is_done(tiny: Build) -> None:
    seen: list[tuple[int, int]] = []
    plan = tiny(LEVELS, **{**ASKED, "footprints": ("4K", "16K", "64K")})
    simulate(plan, SMALL, lambda done, total: seen.append((done, total)))
    wanted = sum(group.purpose == "compare" for group in plan.groups)
    assert seen[0] == (0, wanted)
    assert seen[-1] == (wanted, wanted)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_the_largest_groups_begin_first(tiny: Build) -> None:
    plan = tiny(LEVELS, **{**ASKED, "footprints": ("4K", "16K", "64K"), "probes": ("chain", "get")})
    wanted = [index for index, group in enumerate(plan.groups) if group.purpose == "compare"]
    ordered = batches(plan, wanted)
    sizes = [max(plan.groups[index].footprint_bytes for index in batch) for batch in ordered]
    assert sizes == sorted(sizes, reverse=True)
    assert sorted(index for batch in ordered for index in batch) == wanted
    assert all({plan.groups[index].probe for index in batch} in ({"chain"}, {"get"}) for batch in ordered)
    assert [str(cell.contender) for cell in contenders(plan, wanted[0])] == ["pointer-select@plain"]


@pytest.mark.parametrize(("number", "why"), [(signal.SIGKILL, " (out of memory?)"), (signal.SIGTERM, "")])
def test_a_process_that_is_killed_is_a_line(
    number: int, why: str, tiny: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulation, "_simulate_group", lambda *_: os.kill(os.getpid(), number))
    with pytest.raises(PagebenchError) as error:
        simulate(tiny(LEVELS, **ASKED), SMALL)
    assert str(error.value) == f"a process that simulated was killed{why}"


FOR_EVER = """
import sys, time
from pathlib import Path
from pagebench import cli
from pagebench.cache import simulation

def never_ends(*_):
    Path(sys.argv[1]).touch()
    time.sleep(3600)

simulation._simulate_group = never_ends
sys.exit(cli.main(("cache", "--geometry", "zen2", "--footprints", "16K", "--orders", "0", "--no-plots")))
"""


def test_an_interrupt_does_not_wait_for_what_is_simulated(tmp_path: Path) -> None:
    """As a terminal sends it, to all of them."""
    begun = tmp_path / "begun"
    argv = [sys.executable, "-c", FOR_EVER, str(begun)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            while not begun.exists():
                assert process.poll() is None
                time.sleep(0.01)
            os.killpg(process.pid, signal.SIGINT)
            _, error = process.communicate(timeout=60)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, error) == (130, "pagebench: interrupted\n")


def test_one_loop_that_is_refused_leaves_the_others(tiny: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(sites: object, recorded: object, what: str) -> None:
        if "branchless" in what:
            raise traces.NotSimulatedError(f"{what} has an access over two lines: not simulated")

    monkeypatch.setattr(traces, "check_sites", refuse)
    plan = tiny(LEVELS, **{**ASKED, "contenders": ("branchless", "pointer-select")})
    found = simulate(plan, SMALL)
    assert {key[0] for key in counts_of(found, plan)} == {"pointer-select@plain"}
    assert list(found.refused) == ["branchless chain"]
    with pytest.raises(PagebenchError, match="over two lines"):
        simulate(tiny(LEVELS, **{**ASKED, "contenders": ("branchless",)}), SMALL)


def test_what_a_process_refuses_is_said(tiny: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PagebenchError("it is not to be")

    monkeypatch.setattr(simulation, "verify", refuse)
    with pytest.raises(PagebenchError, match=r"^it is not to be$"):
        simulate(tiny(LEVELS, **ASKED), SMALL)


def test_memory_that_is_not_there_is_an_oserror(tiny: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(12, "no memory")

    monkeypatch.setattr(core, "CacheSim", refuse)
    with pytest.raises(OSError, match="no memory"):
        simulate(tiny(LEVELS, **ASKED), SMALL)


def test_a_wrong_head_is_never_simulated(tiny: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verified through the recording loop, as runs are through the timed one."""
    monkeypatch.setattr(
        simulation.recorded,
        "verified_copy",
        lambda variant, loop, run: core.built_in_variants()["identity"],
    )
    wrong = np.array([core.built_in_variants()["identity"].probes["chain"].run], np.uint64)
    real = simulation.CellLoop
    monkeypatch.setattr(
        simulation,
        "CellLoop",
        lambda cell, variant, runs, base: real(cell, KNOWN[cell.contender.variant], wrong, base),
    )
    with pytest.raises(PagebenchError, match="finds wrong heads"):
        simulate(tiny(LEVELS, **{**ASKED, "orders": (2,)}), SMALL)


KNOWN = core.built_in_variants()


@pytest.mark.skipif(os.geteuid() != 0, reason="the kernel tells its frames to root alone")
@pytest.mark.parametrize("contender", ["branchless@plain:4k", "branchless@hvo-shared"])
def test_frames_of_this_kernel_miss_as_often_as_drawn_ones(contender: str, run: Run) -> None:
    asked: dict[str, Any] = {"contenders": (contender,), "orders": (9,), "footprints": ("256K",)}
    # A second level of more sets than a page has lines.
    many_sets = msgspec.structs.replace(SMALL, huge_pages="split", caches=(Cache(8, 8), Cache(1024, 2)))
    drawn, there = (
        only(run(msgspec.structs.replace(many_sets, frames=frames), **asked)[0])
        for frames in ("drawn", "pagemap")
    )
    assert (there.accesses, there.lines, there.pages) == (drawn.accesses, drawn.lines, drawn.pages)
    # What is in which set of L1 is known from the address; beyond it is chance.
    assert there.misses[0] == pytest.approx(drawn.misses[0], abs=0.02)
    assert there.misses != drawn.misses


def test_what_a_captured_process_walks(run: Run) -> None:
    """A machine's folios, in the order of a process' page tables: neighbours follow each other."""
    source = machine_folios.of(HERE / "process.folios.gz")
    axes: dict[str, Any] = {"orders": None, "footprints": ("2M",), "folios": source}
    split = msgspec.structs.replace(SMALL, huge_pages="split")
    walked, drawn = (only(run(split, patterns=(name,), **axes)[0]) for name in ("captured", "random"))
    folio_map = machine_folios.folio_map(source, 2 * MIB, 64)
    assert folio_map.mapped is not None
    assert walked.lines == len(np.unique(folio_map.mapped)) < drawn.lines
    assert walked.tlb_misses[0] < 0.9 * drawn.tlb_misses[0]
