"""Trees in which kernels are planted, and the kernel that runs these tests."""

from __future__ import annotations

import dataclasses
import gzip
import os
from pathlib import Path
from typing import Any

import pytest
from planted_kernels import (
    BTF,
    CONFIG,
    FLAT,
    GIB,
    MIB,
    RELEASE,
    SYSCTL,
    describe,
    machine_of,
    mask,
    now,
    plain,
    pool,
    types_of,
)
from test_btf import Types, needs_btf

from pagebench.host import running_kernel
from pagebench.host.running_kernel import Finding
from pagebench.plan.counterparts import counterparts, suggest


@pytest.fixture(autouse=True)
def base_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: 4096)


def test_a_pointer_kernel_with_hvo_off(tmp_path: Path) -> None:
    found = describe(tmp_path, plain())
    in_btf = f"/{BTF}"
    assert found.release == Finding(RELEASE, "/proc/sys/kernel/osrelease")
    assert found.compiler == Finding("gcc-15 (Debian) 15.2.0, GNU ld (GNU) 2.45", "/proc/version")
    assert found.config.how == "/proc/config.gz"
    assert found.config.value is not None
    assert (found.config.value["64BIT"], "KMSAN" in found.config.value) == ("y", False)
    assert found.struct_page.value is not None
    assert found.struct_page.value.size_bytes == 64
    assert found.encoding == Finding("pointer", f"compound_head in struct page: {in_btf}")
    assert found.memory_model == Finding("SPARSEMEM_VMEMMAP", "CONFIG_SPARSEMEM_VMEMMAP=y in /proc/config.gz")
    assert found.hvo == running_kernel.Hvo(
        Finding(True, "CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP=y in /proc/config.gz"),
        Finding("", "/proc/cmdline"),  # behind "--" it is init's
        Finding(False, f"0 in /{SYSCTL}"),
        Finding(False, "no huge pages that it could optimize"),
    )
    assert found.max_page_order == Finding(10, f"free_area in struct zone in {in_btf}")
    assert found.max_folio_order.value is None
    assert [pool.page_bytes for pool in found.pools] == [2 * MIB, GIB]
    assert list(found.pools[0].nodes) == ["node0", "node2", "node10"]
    assert now(found) == {"pointer-branch@plain": True, "fakehead@plain": False, "fakehead@hvo": False}


@pytest.mark.parametrize(
    ("value", "pages", "expected"),
    [
        ("1", 0, False),  # the key counts optimized pages, none is none
        ("0", 64, False),
        ("1", 64, True),
        (None, 64, None),
        (None, 0, False),
    ],
)
def test_hvo_in_use(tmp_path: Path, value: str | None, pages: int, expected: bool | None) -> None:
    files = plain() | pool(2 * MIB, pages, {})
    if value is None:
        del files[SYSCTL]
    else:
        files[SYSCTL] = value
    found = describe(tmp_path, files)
    assert found.hvo.in_use.value is expected
    assert now(found)["fakehead@hvo"] is expected
    assert now(found)["pointer-branch@plain"] is {True: False, False: True, None: None}[expected]


def test_small_huge_pages_and_odd_struct_pages_are_not_optimized(tmp_path: Path) -> None:
    small = plain() | {SYSCTL: "1"} | pool(256 << 10, 16, {})  # one page of struct pages
    assert describe(tmp_path / "a", small).hvo.in_use.value is False
    odd = plain() | {SYSCTL: "1", BTF: types_of(size=80)} | pool(2 * MIB, 16, {})
    found = describe(tmp_path / "b", odd)
    assert found.hvo.in_use.value is False
    run = suggest(found, machine_of(tmp_path)).commands[0]
    assert run == "run --struct-page 80 --contenders pointer-branch,fakehead,branchless --orders 0,9,18"


def test_without_hvo_the_pointer_is_all_there_is(tmp_path: Path) -> None:
    files = plain(config=CONFIG.replace("CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP=y", ""))
    del files[SYSCTL]
    found = describe(tmp_path, files | pool(2 * MIB, 64, {}))
    assert found.hvo.compiled_in.value is False
    assert found.hvo.on == found.hvo.in_use == Finding(False, "not compiled in")
    assert now(found) == {"pointer@plain": True}


def test_a_mask_kernel_by_its_members_alone(tmp_path: Path) -> None:
    files = mask() | {SYSCTL: "1\n"} | pool(2 * MIB, 4, {"node0": 4})
    found = describe(tmp_path, files)
    assert found.config.value is None
    assert found.config.how == (
        "not readable: /proc/config.gz: No such file or directory, "
        f"/boot/config-{RELEASE}: No such file or directory, "
        f"/lib/modules/{RELEASE}/config: No such file or directory"
    )
    assert found.encoding.value == "mask"
    assert found.word.value == "compound_info"
    assert found.hvo.compiled_in == Finding(True, f"/{SYSCTL} is there")
    assert found.max_folio_order.value == 22  # 16 GiB, from 16 orders of tails above 7
    assert now(found) == {"branchless@plain": True, "branchless@hvo-shared": True}


def test_whether_a_mask_kernel_has_hvo_its_zones_tell(tmp_path: Path) -> None:
    files = mask()
    del files[SYSCTL]
    found = describe(tmp_path, files)
    assert found.hvo.compiled_in == Finding(True, f"struct zone has vmemmap_tails in /{BTF}")
    assert found.hvo.on.value is None
    assert now(found) == {"branchless@plain": True, "branchless@hvo-shared": False}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tails": None}, "a mask where HVO is compiled in: struct zone has no vmemmap_tails"),
        ({"size": 80}, "80 bytes are no power of two"),
    ],
)
def test_compound_info_may_hold_a_pointer(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    files = mask(**changes)
    del files[SYSCTL]
    found = describe(tmp_path, files)
    assert found.encoding.value == "pointer"
    assert says in found.encoding.how
    assert now(found) == {"pointer@plain": True}


@pytest.mark.parametrize(
    ("path", "config", "model", "names"),
    [
        ("proc/config.gz", CONFIG, "SPARSEMEM_VMEMMAP", ["vmemmap"]),
        (f"boot/config-{RELEASE}", CONFIG, "SPARSEMEM_VMEMMAP", ["vmemmap"]),
        (f"lib/modules/{RELEASE}/config", FLAT, "FLATMEM", ["flatmem"]),
        ("proc/config.gz", "CONFIG_SPARSEMEM=y\n", "SPARSEMEM", ["sparsemem-boot", "sparsemem"]),
    ],
)
def test_the_memory_model_by_config(
    tmp_path: Path, path: str, config: str, model: str, names: list[str]
) -> None:
    found = describe(tmp_path, plain(path, config))
    assert found.memory_model == Finding(model, f"CONFIG_{model}=y in /{path}")
    assert suggest(found, machine_of(tmp_path)).memory_models == tuple(names)


@pytest.mark.parametrize("model", ["SPARSEMEM_VMEMMAP", "SPARSEMEM", "FLATMEM"])
def test_the_memory_model_by_members(tmp_path: Path, model: str) -> None:
    found = describe(tmp_path, {BTF: types_of(model=model)})
    assert found.memory_model.value == model
    assert found.memory_model.how.endswith(f" in /{BTF}")


def test_the_memory_model_by_what_depends_on_it(tmp_path: Path) -> None:
    block = {"sys/devices/system/memory/block_size_bytes": "8000000\n"}
    sectioned = describe(tmp_path, block).memory_model
    assert sectioned.value is None
    assert "SPARSEMEM, with or without VMEMMAP" in sectioned.how
    assert describe(tmp_path, {SYSCTL: "0"}).memory_model.value == "SPARSEMEM_VMEMMAP"


@pytest.mark.parametrize(
    ("line", "value", "on"),
    [
        ("hugetlb_free_vmemmap=on quiet", "on", True),
        ("hugetlb_free_vmemmap=on hugetlb_free_vmemmap=off", "off", False),
        ("quiet", "", None),
        ("xhugetlb_free_vmemmap=on", "", None),
    ],
)
def test_before_the_sysctl_the_command_line_decides(
    tmp_path: Path, line: str, value: str, on: bool | None
) -> None:
    old = CONFIG.replace("HUGETLB_PAGE_OPTIMIZE_VMEMMAP", "HUGETLB_PAGE_FREE_VMEMMAP")
    files = plain(config=old) | {"proc/cmdline": line}
    del files[SYSCTL]
    found = describe(tmp_path, files)
    assert found.hvo.compiled_in.value is True
    assert found.hvo.parameter.value == value
    assert found.hvo.on.value is on


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("proc/config.gz", b"CONFIG_64BIT=y", "/proc/config.gz: damaged"),
        ("proc/config.gz", gzip.compress(CONFIG.encode())[:-9], "/proc/config.gz: damaged"),
        ("proc/config.gz", gzip.compress(b""), "/proc/config.gz: no options in it"),
        (BTF, types_of()[:-5], f"/{BTF}: BTF is not BTF as this version reads it: it has"),
        (BTF, Types().data(), f"no struct page in /{BTF}"),
    ],
)
def test_what_is_damaged_is_unknown(tmp_path: Path, name: str, data: bytes, says: str) -> None:
    found = describe(tmp_path, plain() | {name: data})
    finding: Finding[Any] = found.struct_page if name == BTF else found.config
    assert finding.value is None
    assert says in finding.how


def test_of_an_empty_tree_nothing_is_known_and_each_says_why(tmp_path: Path) -> None:
    found = running_kernel.describe(tmp_path)
    findings = [getattr(found, field.name) for field in dataclasses.fields(found)]
    findings += [getattr(found.hvo, field.name) for field in dataclasses.fields(found.hvo)]
    unknown = [finding for finding in findings if isinstance(finding, Finding)]
    assert [finding.value for finding in unknown] == [None] * 14
    assert all("/" in finding.how for finding in unknown)


class TestThisKernel:
    """No tree: what is true of every Linux that runs this."""

    @pytest.fixture(autouse=True)
    def base_pages(self) -> None:
        """The real ones."""

    def test_it_is_described(self) -> None:
        found = running_kernel.describe()
        assert found.release.value == os.uname().release
        assert found.base_page_bytes == os.sysconf("SC_PAGE_SIZE")

    @needs_btf
    def test_its_struct_page_has_one_of_the_words(self) -> None:
        found = running_kernel.describe()
        assert found.word.value in ("compound_head", "compound_info")
        assert found.encoding.value in ("pointer", "mask")
        assert found.struct_page.value is not None
        assert found.struct_page.value.size_bytes in range(32, 257)
        assert counterparts(found)

    @needs_btf
    def test_config_and_members_agree(self, tmp_path: Path) -> None:
        by_config = running_kernel.describe()
        if by_config.config.value is None:
            pytest.skip(f"config {by_config.config.how}")
        by_members = describe(tmp_path, {BTF: Path("/", BTF).read_bytes()})
        assert by_members.memory_model.value == by_config.memory_model.value
        assert by_members.encoding.value == by_config.encoding.value
