"""Geometries: this machine's, those of CPUs that are known, those of files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import summaries
from planted import plant
from test_cpuid import ZEN_3

from pagebench import core, names
from pagebench.cache import geometry, simulation, traces
from pagebench.cache.cpus import CPUS_KNOWN, WAYS, of_size
from pagebench.cache.geometry import check, find, here
from pagebench.errors import PagebenchError
from pagebench.host.machine import Machine
from pagebench.results.simulated import Cache, Geometry, Tlb
from pagebench.units import KIB, MIB

ZEN5 = {"vendor": "AuthenticAMD", "family": "26", "model": "2"}


def machine_of(**changes: Any) -> Machine:
    return msgspec.convert(summaries.MACHINE | changes, Machine)


def sysfs(root: Path, rows: list[tuple[str, str, str, str]], cpu: int = 1) -> Path:
    """Caches of a CPU: type, level, sets, ways."""
    files = {}
    for index, row in enumerate(rows):
        for name, value in zip(
            ("type", "level", "number_of_sets", "ways_of_associativity"), row, strict=True
        ):
            files[f"sys/devices/system/cpu/cpu{cpu}/cache/index{index}/{name}"] = f"{value}\n"
    return plant(root, files)


USUAL = [
    ("Data", "1", "64", "12"),
    ("Instruction", "1", "64", "8"),
    ("Unified", "2", "1024", "16"),
    ("Unified", "3", "32768", "16"),
]


class TestHere:
    @pytest.fixture(autouse=True)
    def _silent_cpuid(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(geometry.core, "cpuid", lambda leaf, subleaf=0: None)

    def test_caches_are_sysfs_and_tlbs_the_cpus(self, tmp_path: Path) -> None:
        found = here(machine_of(**ZEN5), None, sysfs(tmp_path, USUAL))
        assert found.caches == (Cache(64, 12), Cache(1024, 16), Cache(32768, 16))
        assert found.name == summaries.MACHINE["cpu_model"]
        assert found.source == "caches by sysfs, TLBs of zen5"
        assert found.tlbs == CPUS_KNOWN["zen5"].tlbs
        assert found.way_predictor and not found.inclusive and not found.adds_at_rename

    def test_the_l3_is_what_was_measured(self, tmp_path: Path) -> None:
        found = here(machine_of(**ZEN5), 6 * MIB, sysfs(tmp_path, USUAL))
        assert [cache.bytes for cache in found.caches] == [48 * KIB, MIB, 6 * MIB]
        assert found.caches[2].ways == 16
        assert "L3 as measured" in found.source

    @pytest.mark.parametrize(
        ("measured", "taken", "said"),
        [
            (None, "whole", ""),
            ("whole", "whole", "as measured: whole"),
            ("split", "split", "measured: split"),
        ],
    )
    def test_pages_of_2m_are_as_measured(
        self, measured: names.HugePages | None, taken: str, said: str, tmp_path: Path
    ) -> None:
        found = here(machine_of(**ZEN5), None, sysfs(tmp_path, USUAL), measured)
        assert found.huge_pages == taken
        assert said in found.source and ("2M" in found.source) == bool(said)

    def test_without_an_l3_nothing_is_measured(self, tmp_path: Path) -> None:
        found = here(machine_of(**ZEN5), 6 * MIB, sysfs(tmp_path, USUAL[:3]))
        assert found.caches == (Cache(64, 12), Cache(1024, 16))
        assert "measured" not in found.source

    def test_more_than_sixteen_ways_keep_their_size(self, tmp_path: Path) -> None:
        found = here(machine_of(), None, sysfs(tmp_path, [*USUAL[:2], ("Unified", "2", "1024", "20")]))
        assert found.caches[1] == Cache(1280, 16)
        assert found.caches[1].bytes == 1280 * KIB

    def test_an_unknown_cpu_has_no_tlb(self, tmp_path: Path) -> None:
        found = here(machine_of(vendor="Other", family="1"), None, sysfs(tmp_path, USUAL))
        assert found.tlbs is None and not found.way_predictor
        assert found.source == "caches by sysfs, no TLB, as this CPU's is not known"

    @pytest.mark.parametrize(
        "rows",
        [
            [],
            [("Data", "1", "0", "12")],
            [("Data", "1", "64", "0")],
            [("Data", "1", "", "")],
            [("Data", "1", "many", "-1")],
            [("Data", "4", "64", "8")],
            [("Instruction", "1", "64", "8")],
        ],
    )
    def test_without_sysfs_the_cpu_is_taken_or_asked_for(
        self, rows: list[tuple[str, str, str, str]], tmp_path: Path
    ) -> None:
        root = sysfs(tmp_path, rows)
        assert here(machine_of(**ZEN5), None, root).caches == CPUS_KNOWN["zen5"].caches
        with pytest.raises(PagebenchError, match="name a CPU with --geometry"):
            here(machine_of(vendor="Other"), None, root)

    def test_where_sysfs_says_nothing_the_source_does_not_name_it(self, tmp_path: Path) -> None:
        assert "sysfs" not in here(machine_of(**ZEN5), None, tmp_path).source


class TestKnown:
    @pytest.mark.parametrize("name", CPUS_KNOWN)
    def test_each_can_be_simulated(self, name: str) -> None:
        found = find(name)
        assert (found.name, found.caches) == (name, CPUS_KNOWN[name].caches)
        assert [cache.bytes for cache in found.caches] == [
            size for size, _ in (CPUS_KNOWN[name].l1, CPUS_KNOWN[name].l2, CPUS_KNOWN[name].l3)
        ]
        with core.CacheSim(simulation._in_core(found)) as sim:
            assert sim.simd
        assert found.tlbs is not None
        for tlb in filter(None, (found.tlbs.first, found.tlbs.first_2m, found.tlbs.second)):
            assert tlb.entries % tlb.ways == 0
        assert str(found).isascii() and found.source.isascii()

    def test_no_two_are_the_same_core(self) -> None:
        seen = [
            (vendor, family, model)
            for cpu in CPUS_KNOWN.values()
            for vendor, family, models in cpu.ids
            for model in models
        ]
        assert len(seen) == len(set(seen))

    @pytest.mark.parametrize(
        ("family", "model", "name"),
        [
            ("23", "49", "zen2"),
            ("25", "1", "zen3"),
            ("25", "17", "zen4"),
            ("26", "2", "zen5"),
        ],
    )
    def test_a_machine_is_found(self, family: str, model: str, name: str, tmp_path: Path) -> None:
        described = machine_of(vendor="AuthenticAMD", family=family, model=model)
        assert f"TLBs of {name}" in here(described, None, sysfs(tmp_path, USUAL)).source

    @pytest.mark.parametrize(
        ("text", "near"), [("zen6", "zen5"), ("skylake-x", "skylake"), ("neoverse", "neoverse")]
    )
    def test_an_unknown_name_is_told_the_nearest(self, text: str, near: str) -> None:
        with pytest.raises(PagebenchError, match=rf"unknown CPU '{text}': did you mean '{near}"):
            find(text)

    def test_nothing_near_is_told_all(self) -> None:
        with pytest.raises(PagebenchError, match=r"unknown CPU 'pentium': known: .*zen5"):
            find("pentium")


def refused(path: Path | str) -> str:
    with pytest.raises(PagebenchError) as raised:
        find(str(path))
    message = str(raised.value)
    assert "\n" not in message and message.isprintable()
    return message


def tlbs_of(entries: int, ways: int) -> dict[str, Any]:
    usual = {"entries": 64, "ways": 4}
    return {"first": usual, "first_2m": {"entries": entries, "ways": ways}, "second": usual}


class TestFiles:
    @pytest.mark.parametrize("name", ["zen5", "skylake", "neoverse-n1"])
    def test_what_is_written_is_read(self, name: str, tmp_path: Path) -> None:
        file = tmp_path / "geometry.json"
        file.write_bytes(msgspec.json.encode(find(name)))
        assert find(str(file)) == find(name)

    def test_what_is_left_out_is_usual(self, tmp_path: Path) -> None:
        file = tmp_path / "small.json"
        file.write_text('{"name": "mine", "source": "me", "caches": [{"sets": 64, "ways": 8}]}')
        assert find(str(file)) == Geometry(name="mine", source="me", caches=(Cache(64, 8),))

    @pytest.mark.parametrize(
        "change",
        [
            {"caches": []},
            {"caches": [{"sets": 64, "ways": 8}] * 4},
            {"caches": [{"sets": 0, "ways": 8}]},
            {"caches": [{"sets": 64, "ways": 17}]},
            {"caches": [{"sets": 3, "ways": 16}]},
            {"caches": [{"sets": 64, "ways": "8"}]},
            {"caches": [{"sets": 99999999999999, "ways": 8}]},
            {"policy": "fifo"},
            {"policy": "plru", "caches": [{"sets": 64, "ways": 12}]},
            {"tlbs": {"first": {"entries": 64, "ways": 4}}},
            {"tlbs": tlbs_of(10, 16)},
            {"tlbs": tlbs_of(1 << 40, 1)},
            {"tlbs": tlbs_of(0, 1)},
            {"prefetch": "psychic"},
            {"name": 7},
            {"name": "two\nlines"},
            {"source": "\x1b[31mred"},
        ],
        ids=str,
    )
    def test_what_cannot_be_is_refused(self, change: dict[str, Any], tmp_path: Path) -> None:
        file = tmp_path / "damaged.json"
        file.write_text(json.dumps(msgspec.to_builtins(find("zen5")) | change))
        refused(file)

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b"null", b"1" * 5000])
    def test_what_is_no_json_is_refused(self, content: bytes, tmp_path: Path) -> None:
        file = tmp_path / "damaged.json"
        file.write_bytes(content)
        assert "`cache --format json` has one" in refused(file)

    def test_what_is_no_file(self, tmp_path: Path) -> None:
        assert "is no file" in refused(tmp_path)
        assert "is no file" in refused(tmp_path / "missing.json")
        assert "is no file" in refused("missing/zen5")
        os.mkfifo(tmp_path / "fifo")
        assert "is no file" in refused(tmp_path / "fifo")  # and nobody waits for a writer


def test_trees_want_powers_of_two() -> None:
    with pytest.raises(PagebenchError, match=r"zen5 has 12: choose lru"):
        check(msgspec.structs.replace(find("zen5"), policy="plru"))
    check(msgspec.structs.replace(find("zen4"), policy="plru"))
    check(msgspec.structs.replace(find("zen5"), policy="random"))


def test_the_fewest_sets_tell_all_frames_apart() -> None:
    last = (traces.SMALL_FRAMES + traces.LARGE_FRAMES + traces.TABLES) // 64 - 1
    with core.CacheSim(core.CacheGeometry((core.Cache(geometry.MIN_SETS, 16),))) as sim:
        sim.run(np.array([last], np.uint64))


def test_of_size() -> None:
    assert of_size(48 * KIB, 12) == Cache(64, 12)
    assert of_size(30 * MIB, 15) == Cache(32768, 15)
    assert of_size(100, 8) == Cache(1, 8)
    # What was measured is no power of two.
    assert of_size(7_654_321, 16) == Cache(7474, 16)


def test_it_is_said_in_a_line() -> None:
    assert str(find("zen5")) == (
        "48K/12, 1M/16, 32M/16 (size/ways), lru; TLB entries 96, 4096/16; way predictor; frames drawn"
    )
    assert str(find("skylake")) == (
        "32K/8, 256K/4, 8M/16 (size/ways), lru; TLB entries 64/4+32/4, 1536/12; inclusive; frames drawn"
    )
    split = msgspec.structs.replace(find("zen5"), huge_pages="split", frames="pagemap", prefetch="stride")
    assert str(split).endswith(
        "; prefetch stride; way predictor; 2M pages split by the host; frames as in /proc/self/pagemap"
    )
    assert str(Tlb(64, 64)) == "64"
    assert WAYS == 16


def test_tlbs_by_cpuid_where_no_table_has_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(geometry.core, "cpuid", lambda leaf, subleaf=0: ZEN_3.get((leaf, subleaf)))
    found = here(machine_of(family="99"), None, sysfs(tmp_path, USUAL))
    assert found.tlbs is not None and found.tlbs.second == Tlb(2048, 8)
    assert found.source == "caches by sysfs, TLBs by CPUID"
