"""From what was asked to what is simulated."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import planted_counts
import pytest
import summaries
from planted_counts import GEOMETRY, Latencies, simulated_of, timed, world

from pagebench import core
from pagebench.cache import asking, geometry
from pagebench.errors import PagebenchError
from pagebench.host import machine
from pagebench.measure import calibration
from pagebench.measure.contenders import Outside
from pagebench.measure.timed_code import timed_code
from pagebench.plan.groups import Levels, Plan
from pagebench.results import lines, result_file
from pagebench.results.simulated import Cache, Simulated
from pagebench.units import KIB, MIB

pytestmark = pytest.mark.usefixtures("own_cache")
ASKED: dict[str, Any] = {
    "extent": "cache",
    "contenders": ("pointer-select", "mask-select"),
    "orders": (2,),
    "footprints": ("16K",),
    "patterns": ("random",),
    "probes": ("chain",),
}


def describe(**changes: Any) -> dict[str, Any]:
    """This machine's description."""
    return msgspec.to_builtins(machine.describe(machine.default_cpu())) | changes  # type: ignore[no-any-return]


def file_of(path: Path, plan: Plan, simulated: Simulated | None = None, **changes: Any) -> Path:
    """A run of planted times and of this build's machine code, on this machine."""
    codes = {name: msgspec.to_builtins(code) for name, code in timed_code(plan).items()}
    header = summaries.header_of(plan, **{"variants": codes, "machine": describe(), **changes})
    summaries.file_of(path, plan, timed(Latencies()), header)
    if simulated is not None:
        summaries.append(path, simulated)
    return path


def calibration_of(l3_bytes: int) -> dict[str, Any]:
    found = lines.Calibration(l3_bytes, ((MIB, 9.0), (2 * MIB, 12.5)))
    return msgspec.to_builtins(found)  # type: ignore[no-any-return]


PLAN = world(orders=(0, 2), footprints=(16 * KIB,))


class TestBehaviour:
    def test_a_named_cpu_is_simulated_and_nothing_is_measured(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(calibration, "measure_l3", lambda *_: pytest.fail("measured"))
        monkeypatch.setattr(calibration, "huge_pages_reach", lambda *_: pytest.fail("measured"))
        found = asking.behaviour({**ASKED, "footprints": ("16K", "l3")}, Outside(), "skylake", {})
        assert found.simulated.geometry == geometry.find("skylake")
        assert found.plan.levels == Levels(32 * KIB, 256 * KIB, 8 * MIB)
        assert found.explanation is None and found.warnings == ()
        assert set(found.forms) == {"pointer-select", "mask-select"}
        assert found.forms["pointer-select"]["chain"] == "select"

    def test_the_seed_is_nobodys_choice_but_the_users(self) -> None:
        first, again, other = (
            asking.behaviour(ASKED | seed, Outside(), "zen2", {}) for seed in ({}, {}, {"seed": 1})
        )
        assert first.simulated == again.simulated
        assert (first.plan.seed, other.plan.seed) == (0, 1)

    def test_this_machines_geometry_otherwise(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(calibration, "huge_pages_reach", lambda *_: False)
        found = asking.behaviour(ASKED, Outside(), None, {})
        assert found.simulated.geometry.huge_pages == "split"
        assert found.simulated.geometry.name == found.machine.cpu_model

    def test_what_the_user_sets_is_changed(self) -> None:
        changes = {"policy": "random", "prefetch": "stride", "inclusive": True}
        found = asking.behaviour(ASKED, Outside(), "zen2", changes).simulated.geometry
        assert (found.policy, found.prefetch, found.inclusive) == ("random", "stride", True)
        assert found.caches == geometry.find("zen2").caches

    def test_what_cannot_be_is_refused(self) -> None:
        with pytest.raises(PagebenchError, match="tree-PLRU wants a power of two"):
            asking.behaviour(ASKED, Outside(), "zen5", {"policy": "plru"})
        with pytest.raises(PagebenchError, match="unknown CPU 'zen55': did you mean 'zen5'"):
            asking.behaviour(ASKED, Outside(), "zen55", {})

    def test_what_runs_out_of_memory_is_a_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise OSError(12, "Cannot allocate memory")

        monkeypatch.setattr(core, "CacheSim", refuse)
        with pytest.raises(PagebenchError, match=r"^cannot simulate: Cannot allocate memory$"):
            asking.behaviour(ASKED, Outside(), "zen2", {})


class TestBeside:
    def test_what_the_file_has_is_taken_as_it_is(self, tmp_path: Path) -> None:
        planted = simulated_of(PLAN, planted_counts.counts)
        found = asking.beside(file_of(tmp_path / "r.jsonl", PLAN, planted), None, {})
        assert found.simulated == planted
        assert found.explanation is not None and found.warnings == ()
        assert found.explanation.parameters["load"].cycles == pytest.approx(4.0, abs=0.01)

    def test_a_geometry_that_was_named_is_simulated_anew(self, tmp_path: Path) -> None:
        path = file_of(tmp_path / "r.jsonl", PLAN, simulated_of(PLAN, planted_counts.counts))
        before = path.read_bytes()
        named = asking.beside(path, "zen2", {})
        assert named.simulated.geometry == geometry.find("zen2")
        assert named.warnings == ("the caches are of zen2, the times another CPU's: the rest says nothing",)
        changed = asking.beside(path, "zen2", {"policy": "random"}).simulated
        assert changed.geometry.policy == "random"
        assert path.read_bytes() == before

    def test_a_file_without_is_simulated(self, tmp_path: Path) -> None:
        found = asking.beside(file_of(tmp_path / "r.jsonl", PLAN), "zen2", {})
        assert len(found.simulated.cells) == 6
        assert found.explanation is not None

    def test_other_machine_code_is_refused(self, tmp_path: Path) -> None:
        path = summaries.file_of(tmp_path / "r.jsonl", PLAN, timed(Latencies()))
        with pytest.raises(PagebenchError, match=r"was measured with other machine code \(rebuilt since\?\)"):
            asking.beside(path, "zen2", {})

    def test_but_what_the_file_has_needs_no_machine_code(self, tmp_path: Path) -> None:
        planted = simulated_of(PLAN, planted_counts.counts)
        path = summaries.file_of(tmp_path / "r.jsonl", PLAN, timed(Latencies()))
        summaries.append(path, planted)
        assert asking.beside(path, None, {}).simulated == planted

    def test_another_machines_is_said(self, tmp_path: Path) -> None:
        planted = simulated_of(PLAN, planted_counts.counts)
        path = file_of(tmp_path / "r.jsonl", PLAN, planted, machine=describe(cpu_model="Another CPU"))
        (warning,) = asking.beside(path, None, {}).warnings
        assert warning == "measured on another machine (Another CPU), whose caches are simulated"

    def test_another_machines_caches_are_not_this_ones(self, tmp_path: Path) -> None:
        other = describe(cpu_model="Neoverse-N1", vendor="0x41", family="8", model="0xd0c")
        path = file_of(tmp_path / "r.jsonl", PLAN, machine=other)
        found = asking.beside(path, None, {}).simulated.geometry
        assert found.caches[:2] == geometry.find("neoverse-n1").caches[:2]

    def test_an_l3_that_moved_is_said(self, tmp_path: Path) -> None:
        planted = simulated_of(PLAN, planted_counts.counts)
        for ended, said in ((7 * MIB, ()), (3 * MIB, ("the L3 went from 8M to 3M in this run: ",))):
            path = file_of(tmp_path / "r.jsonl", PLAN, planted, calibration=calibration_of(8 * MIB))
            summaries.append(path, {"kind": "recalibration", "calibration": calibration_of(ended)})
            warnings = asking.beside(path, None, {}).warnings
            assert [warning[:34] for warning in warnings] == [one[:34] for one in said]

    def test_nothing_finished_is_nothing_to_explain(self, tmp_path: Path) -> None:
        path = tmp_path / "r.jsonl"
        summaries.write(path, [summaries.header_of(PLAN)])
        with pytest.raises(PagebenchError, match=r"holds no finished group yet: go on with `run --resume"):
            asking.beside(path, None, {})


class TestIntoFile:
    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(calibration, "huge_pages_reach", lambda *_: True)

    def test_it_is_appended_once(self, tmp_path: Path) -> None:
        path = file_of(tmp_path / "r.jsonl", PLAN)
        before = path.read_bytes()
        asking.into_file(path)
        after = path.read_bytes()
        assert after.startswith(before) and after.count(b"\n") == before.count(b"\n") + 1
        run = result_file.read(path)
        assert run.simulated is not None
        assert len(run.simulated.cells) == 6
        assert [samples.key for samples in run.samples] == [
            samples.key for samples in result_file.read(file_of(tmp_path / "again.jsonl", PLAN)).samples
        ]
        asking.into_file(path)
        assert path.read_bytes() == after

    def test_a_line_that_was_cut_is_dropped_first(self, tmp_path: Path) -> None:
        path = file_of(tmp_path / "r.jsonl", PLAN)
        whole = path.read_bytes()
        path.write_bytes(whole[:-50])
        asking.into_file(path)
        run = result_file.read(path)
        assert run.simulated is not None
        assert len(run.samples) == whole.count(b"\n") - 2

    def test_a_run_that_has_nothing_has_nothing_simulated(self, tmp_path: Path) -> None:
        path = summaries.write(tmp_path / "r.jsonl", [summaries.header_of(PLAN)])
        before = path.read_bytes()
        asking.into_file(path)
        assert path.read_bytes() == before

    def test_what_was_measured_stays_where_nothing_can_be_simulated(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise PagebenchError("not this one")

        monkeypatch.setattr(asking.simulation, "simulate", refuse)
        path = file_of(tmp_path / "r.jsonl", PLAN)
        before = path.read_bytes()
        with pytest.raises(PagebenchError, match="not this one"):
            asking.into_file(path)
        assert path.read_bytes() == before

    def test_the_l3_is_the_runs(self, tmp_path: Path) -> None:
        """Measured when it began and when it ended: the smaller, so much there was."""
        for began, ended in ((3 * MIB, None), (3 * MIB, 2 * MIB), (2 * MIB, 3 * MIB), (2 * MIB, 512 * MIB)):
            path = file_of(tmp_path / "r.jsonl", PLAN, calibration=calibration_of(began))
            if ended is not None:
                summaries.append(path, {"kind": "recalibration", "calibration": calibration_of(ended)})
            asking.into_file(path)
            found = result_file.read(path).simulated
            assert found is not None
            if len(found.geometry.caches) == 3:
                assert found.geometry.caches[2].bytes == min(began, ended or began)

    def test_an_l3_that_hides_is_no_larger_than_it_is_reported(self, tmp_path: Path) -> None:
        path = file_of(tmp_path / "r.jsonl", PLAN, calibration=calibration_of(1 << 40))
        asking.into_file(path)
        found = result_file.read(path).simulated
        assert found is not None
        assert found.geometry.caches[-1].bytes < 1 << 40


def test_levels_are_the_geometrys(tiny: Callable[..., Plan]) -> None:
    assert asking.levels_of(GEOMETRY) == Levels(32 * KIB, 512 * KIB, 8 * MIB)
    two = msgspec.structs.replace(GEOMETRY, caches=GEOMETRY.caches[:2])
    assert asking.levels_of(two) == Levels(32 * KIB, 512 * KIB, 512 * KIB)
    one = msgspec.structs.replace(GEOMETRY, caches=(Cache(64, 8),))
    assert asking.levels_of(one) == Levels(32 * KIB, 32 * KIB, 32 * KIB)
    assert dataclasses.replace(tiny(), levels=asking.levels_of(one)).levels.of(16 * KIB) == "l1"
