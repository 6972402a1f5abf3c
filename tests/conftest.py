"""Shared fixtures: a run small enough to be measured in a test."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import summaries
from command_line import PLAN
from own_variants import POINTER
from planted import plant

from pagebench import core, names
from pagebench.host import machine, resources
from pagebench.measure import schedule
from pagebench.measure.group_memmaps import CellLoop, GroupMemmaps
from pagebench.measure.verification import verify
from pagebench.memmap import folios, layouts
from pagebench.memmap.folios import FolioMap
from pagebench.memmap.patterns import Pattern
from pagebench.plan import building, groups, options, places
from pagebench.results import result_file
from pagebench.units import KIB, MIB
from pagebench.variants import compiler
from pagebench.variants.kernel import compilation

# Tests share the machine with measurements: no example is too slow.
hypothesis.settings.register_profile("pagebench", deadline=None)
hypothesis.settings.register_profile("quick", deadline=None, max_examples=25)


def pytest_configure(config: pytest.Config) -> None:
    """Fewer examples where only what is quick was asked for."""
    quick = config.option.markexpr == "not slow"
    hypothesis.settings.load_profile("quick" if quick else "pagebench")


LEVELS = groups.Levels(32 * KIB, 512 * KIB, 8 * MIB)
TINY: dict[str, Any] = {
    "contenders": ("pointer-select", "mask-select"),
    "orders": (2,),
    "footprints": ("16K",),
    "patterns": ("random",),
    "probes": ("chain", "get"),
    "processes": 2,
    "rounds": 7,
    "seed": 5,
}


@dataclass(frozen=True)
class Placement:
    """A group with memory under it."""

    group: groups.Group
    folio_map: FolioMap
    regions: Mapping[places.Place, core.Reservation]
    memmaps: GroupMemmaps
    loops: list[CellLoop]

    def verify(self, seed: int = 0) -> None:
        """As a worker does before it times anything."""
        segments = [[self.loops[c] for c in segment] for segment in schedule.segments(self.group)]
        verify(self.memmaps, self.group, segments, np.random.default_rng(seed))


@pytest.fixture
def tiny() -> Callable[..., groups.Plan]:
    """Builds plans of a few milliseconds, on a CPU that this process may use."""

    def build(levels: groups.Levels = LEVELS, **changes: Any) -> groups.Plan:
        asked = {"cpu": machine.default_cpu(), **TINY, **changes}
        return building.build(options.Options(**asked), levels, 32 * MIB, None)

    return build


@pytest.fixture
def enough_mappings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a kernel comes, whatever this machine's limit is."""

    def check(mappings: int) -> None:
        real(mappings, plant(tmp_path, {"proc/sys/vm/max_map_count": "65530", "proc/self/maps": "a mapping"}))

    real = layouts.check_map_count
    monkeypatch.setattr(building, "check_map_count", check)


@pytest.fixture
def movable() -> Callable[[groups.Plan], dict[str, bool]]:
    """Of every loop of a plan: that it may be copied."""

    def every(the_plan: groups.Plan) -> dict[str, bool]:
        return {f"{name} {group.probe}": True for name in the_plan.variant_names for group in the_plan.groups}

    return every


@pytest.fixture
def unpinned() -> Iterator[None]:
    """Workers pin the process that they are in: give it its CPUs back."""
    allowed = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, allowed)


@pytest.fixture
def place() -> Iterator[Callable[..., Placement]]:
    """Gives a group memmaps and loops in this process, as a worker would."""
    with ExitStack() as stack:

        def placed(group: groups.Group, struct_page_bytes: int = 64, seed: int = 0) -> Placement:
            pattern = Pattern.parse(group.pattern)
            folio_map = pattern.folio_map(group.order, group.footprint_bytes, struct_page_bytes)
            regions = {}
            for at in places.places_of(group):
                if not names.BACKINGS[at.backing].by_frame:
                    size = folios.reserved_bytes(folio_map.bytes, at.backing)
                    alignment = max(names.BACKINGS[at.backing].page_bytes, folio_map.alignment)
                    regions[at] = stack.enter_context(core.Reservation(size, alignment, at.backing))
            memmaps = stack.enter_context(
                GroupMemmaps(group, folio_map, regions, np.random.default_rng(seed))
            )
            cells = []
            for cell in group.cells:
                variant = core.built_in_variants(struct_page_bytes)[cell.contender.variant]
                run = np.array([variant.probes[group.probe].run], np.uint64)
                cells.append(CellLoop(cell, variant, run, memmaps.base(cell)))
            return Placement(group, folio_map, regions, memmaps, cells)

        yield placed


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of compiled variants for a module: what one test compiled, the next finds."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile into that cache, by no compiler of the environment's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.delenv("CC", raising=False)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.c"
    file.write_text(POINTER)
    return file


@pytest.fixture
def counting_cc(tmp_path: Path) -> tuple[str, Path]:
    """A compiler that notes how it was called, and its notes."""
    script, notes = tmp_path / "counting cc", tmp_path / "calls"
    script.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$*\" >> '{notes}'\nexec {compiler.find()[0]} \"$@\"\n")
    script.chmod(0o755)
    return str(script), notes


@pytest.fixture
def no_kbuild(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The compiler is called directly, and nothing is found that kbuild made."""
    monkeypatch.setattr(compilation, "by_kbuild", lambda *arguments: "not in this test")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "direct"))


@pytest.fixture
def result_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with result files of every kind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(resources, "available_bytes", lambda *_: 8 << 30)
    summaries.file_of(Path("good.jsonl"), PLAN, summaries.made_up)
    good = Path("good.jsonl").read_bytes()
    Path("cut-header.jsonl").write_bytes(good[:100])
    Path("header-only.jsonl").write_bytes(good.splitlines(keepends=True)[0])
    lines = good.splitlines(keepends=True)
    Path("corrupt.jsonl").write_bytes(b"".join([*lines[:3], b"\0\0\0\0\n", *lines[4:]]))
    Path("foreign.jsonl").write_text("pid,ns\n1,2\n")
    header = summaries.header_of(PLAN, schema=result_file.SCHEMA + 1)
    summaries.write(Path("newer.jsonl"), [header])
    summaries.write(
        Path("elsewhere.jsonl"),
        [
            json.loads(lines[0]) | {"machine": summaries.MACHINE | {"model": "17"}},
            *map(json.loads, lines[1:]),
        ],
    )
    others = summaries.plan_of([summaries.group_of(["mask-select", "branchless"], 9, control=True)])
    summaries.file_of(Path("others.jsonl"), others, summaries.made_up)
    Path("empty.jsonl").write_bytes(b"")
    Path("directory").mkdir()
    return tmp_path
