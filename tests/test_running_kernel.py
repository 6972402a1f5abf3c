"""What a kernel is, read from trees like those of kernels that we do not run, and what `info` says of it."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted import plant
from test_btf import Types, needs_btf

from pagebench import cli
from pagebench.host import machine, running_kernel
from pagebench.host.running_kernel import Finding
from pagebench.plan import building, options
from pagebench.plan.groups import Contender, Levels
from pagebench.report import info
from pagebench.variants import registry

MIB, GIB = 1 << 20, 1 << 30
BTF = "sys/kernel/btf/vmlinux"
SYSCTL = "proc/sys/vm/hugetlb_optimize_vmemmap"
RELEASE = "6.18.0-test"
CONFIG = """\
#
# Linux/x86 6.18.0 Kernel Configuration
#
CONFIG_64BIT=y
CONFIG_SPARSEMEM=y
CONFIG_SPARSEMEM_VMEMMAP=y
# CONFIG_KMSAN is not set
CONFIG_HUGETLB_PAGE=y
CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP=y
# CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP_DEFAULT_ON is not set
"""
FLAT = "CONFIG_64BIT=y\nCONFIG_FLATMEM=y\n"

Files = dict[str, str | bytes]


@pytest.fixture(autouse=True)
def base_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: 4096)


def types_of(
    word: str = "compound_head", size: int = 64, tails: int | None = None, model: str = "SPARSEMEM_VMEMMAP"
) -> bytes:
    types = Types()
    long = types.int("long unsigned int", 8)
    pointer = types.pointer()
    lru = types.struct("", 16, [("lru", types.array(pointer, 2), 0)])
    tail = types.struct("", 8, [(word, long, 0)])
    either = types.union("", 16, [("", lru, 0), ("", tail, 0)])
    types.struct("page", size, [("flags", long, 0), ("", either, 8), ("_refcount", types.int("int", 4), 52)])
    area = types.struct("free_area", 16, [("nr_free", long, 0)])
    zone = [("free_area", types.array(area, 11), 0)]
    if tails is not None:
        zone.append(("vmemmap_tails", types.array(pointer, tails), 176))
    types.struct("zone", 512, zone)
    node = [("node_zones", types.array(types.count, 4), 0)]
    if model == "FLATMEM":
        node.append(("node_mem_map", pointer, 2048))
    else:
        usage = [("rcu", lru, 0)]
        if model == "SPARSEMEM_VMEMMAP":
            usage.append(("subsection_map", types.array(long, 1), 16))
        types.struct("mem_section_usage", 24, usage)
    types.struct("pglist_data", 4096, node)
    return types.data()


def pool(size: int, pages: int, nodes: Mapping[str, int]) -> Files:
    here = f"sys/kernel/mm/hugepages/hugepages-{size >> 10}kB"
    counts = {"nr": pages, "free": pages, "resv": 0, "surplus": 0, "nr_overcommit": 0}
    files: Files = {f"{here}/{name}_hugepages": f"{count}\n" for name, count in counts.items()}
    for node, count in nodes.items():
        files[f"sys/devices/system/node/{node}/{here[14:]}/nr_hugepages"] = f"{count}\n"
    return files


def plain(order: str = "proc/config.gz", config: str = CONFIG) -> Files:
    """v6.18 with HVO compiled in and off."""
    return {
        "proc/sys/kernel/osrelease": f"{RELEASE}\n",
        "proc/sys/kernel/version": "#1 SMP PREEMPT_DYNAMIC\n",
        "proc/version": f"Linux version {RELEASE} (me@here) (gcc-15 (Debian) 15.2.0, GNU ld (GNU) 2.45) #1\n",
        "proc/cmdline": "root=/dev/sda1 quiet -- hugetlb_free_vmemmap=on\n",
        order: gzip.compress(config.encode()) if order.endswith(".gz") else config,
        BTF: types_of(),
        SYSCTL: "0\n",
        **pool(2 * MIB, 0, {"node0": 0, "node10": 0, "node2": 0}),
        **pool(GIB, 0, {"node0": 0}),
    }


def mask(**changes: Any) -> Files:
    """v7.1 on a machine whose config cannot be read."""
    files = plain() | {BTF: types_of("compound_info", **({"tails": 16} | changes))}
    return {name: text for name, text in files.items() if "config" not in name}


def describe(root: Path, files: Files) -> running_kernel.RunningKernel:
    return running_kernel.describe(plant(root, files))


def now(found: running_kernel.RunningKernel) -> dict[str, bool | None]:
    return {counterpart.contender: counterpart.now for counterpart in info.counterparts(found)}


def machine_of(root: Path) -> machine.Machine:
    found = machine.describe(0, root)
    caches = machine.Caches(32 << 10, MIB, 32 * MIB, 64)
    return dataclasses.replace(
        found, cpu_model="Zen", architecture="x86_64", online_cpus="0-1", caches=caches, memory_bytes=8 * GIB
    )


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


def test_a_pointer_kernel_with_hvo_in_use(tmp_path: Path) -> None:
    files = plain() | {SYSCTL: "1\n"} | pool(2 * MIB, 64, {"node0": 64})
    found = describe(tmp_path, files)
    assert (found.hvo.on.value, found.hvo.in_use.value) == (True, True)
    assert now(found) == {"fakehead@plain": True, "fakehead@hvo": True, "pointer-branch@plain": False}
    # The reference of the run to try is what most of this kernel's pages have.
    run = info.options(found, machine_of(tmp_path))["commands"][0]
    assert " --contenders fakehead,fakehead@hvo,pointer-branch,branchless," in run


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
    run = info.options(found, machine_of(tmp_path))["commands"][0]
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
    assert info.options(found, machine_of(tmp_path))["memory_models"] == names


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


def test_other_architectures_promise_less_than_x86(tmp_path: Path) -> None:
    arm = dataclasses.replace(machine_of(tmp_path), architecture="aarch64")
    assert info.options(describe(tmp_path, plain()), arm)["memory_models"] == ["vmemmap-pmd"]
    assert info.options(describe(tmp_path, mask()), arm)["memory_models"] == ["vmemmap"]


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


def test_of_an_empty_tree_nothing_is_known_and_each_says_why(tmp_path: Path) -> None:
    found = running_kernel.describe(tmp_path)
    findings = [getattr(found, field.name) for field in dataclasses.fields(found)]
    findings += [getattr(found.hvo, field.name) for field in dataclasses.fields(found.hvo)]
    unknown = [finding for finding in findings if isinstance(finding, Finding)]
    assert [finding.value for finding in unknown] == [None] * 14
    assert all("/" in finding.how for finding in unknown)
    text = info.render(found, machine_of(tmp_path))
    words = " ".join(text.split())
    assert f"compiled in unknown (no /{SYSCTL}; config not readable: /proc/config.gz: No such file" in words
    assert f"struct page unknown (not readable: /{BTF}: No such file or directory)" in words
    assert "huge pages none in /sys/kernel/mm/hugepages" in words
    assert info.options(found, machine_of(tmp_path))["commands"] == []


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


def check_report(root: Path) -> None:
    found, where = running_kernel.describe(root), machine_of(root)
    text = info.render(found, where)
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= info.COLUMNS
    again = json.loads(json.dumps(info.to_json(found, where)))
    assert list(again) == ["tool", "machine", "kernel", "counterparts", "options"]
    assert list(again["kernel"]) == [field.name for field in dataclasses.fields(found)]


FULL = plain() | pool(2 * MIB, 3, {"node0": 3})


@given(missing=st.sets(st.sampled_from(sorted(FULL))), damaged=st.sets(st.sampled_from(sorted(FULL))))
def test_whatever_is_missing_or_damaged_there_is_a_report(
    tmp_path_factory: pytest.TempPathFactory, missing: set[str], damaged: set[str]
) -> None:
    files = FULL | dict.fromkeys(damaged, b"\xff\0(\n) (1")
    root = tmp_path_factory.mktemp("root")
    check_report(plant(root, {name: text for name, text in files.items() if name not in missing}))


def every_kernel() -> dict[str, Files]:
    without = CONFIG.replace("CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP=y", "")
    return {
        "hvo off": plain(),
        "hvo on": plain() | {SYSCTL: "1"} | pool(2 * MIB, 4, {}),
        "no hvo": {name: text for name, text in plain(config=without).items() if name != SYSCTL},
        "80 bytes": plain() | {BTF: types_of(size=80)},
        "mask": mask(),
        "mask, no hvo": {name: t for name, t in mask(tails=None).items() if name != SYSCTL},
    }


@pytest.mark.parametrize("name", every_kernel())
def test_what_it_proposes_the_tool_takes(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = describe(tmp_path, every_kernel()[name])
    check_report(tmp_path)
    monkeypatch.undo()  # of the base page
    for counterpart in info.counterparts(found):
        assert Contender.parse(counterpart.contender).variant in registry.known()
    proposed = info.options(found, machine_of(tmp_path))
    commands = [cli.parser().parse_args(shlex.split(command)) for command in proposed["commands"]]
    assert commands
    for args in commands:
        assert args.command in ("run", "align")
        if args.command == "run" and args.struct_page_bytes == 64:  # another size has to be compiled
            asked = options.Options(contenders=args.contenders, orders=args.orders)
            assert building.build(asked, Levels(32 << 10, MIB, 32 * MIB), 32 * MIB, None).groups


WHOLE = """\
machine
  cpu             Zen, x86_64, CPUs 0-1
  caches          L1d 32K, L2 1M, L3 32M
  memory          8G, THP unknown
  hypervisor      no sign of one

kernel
  release         6.18.0-test #1 SMP PREEMPT_DYNAMIC
  compiler        gcc-15 (Debian) 15.2.0, GNU ld (GNU) 2.45 (/proc/version)
  config          64BIT=y, SPARSEMEM=y, SPARSEMEM_VMEMMAP=y,
                  HUGETLB_PAGE=y, HUGETLB_PAGE_OPTIMIZE_VMEMMAP=y; not set:
                  PAGE_SHIFT, FLATMEM, MEMORY_HOTPLUG, MEMCG, KMSAN,
                  TRANSPARENT_HUGEPAGE,
                  HUGETLB_PAGE_OPTIMIZE_VMEMMAP_DEFAULT_ON
                  (/proc/config.gz)
  memory model    SPARSEMEM_VMEMMAP (CONFIG_SPARSEMEM_VMEMMAP=y in
                  /proc/config.gz)
  base page       4K
  MAX_PAGE_ORDER  10 (free_area in struct zone in /sys/kernel/btf/vmlinux)
  MAX_FOLIO_ORDER unknown (no vmemmap_tails in struct zone in
                  /sys/kernel/btf/vmlinux)

huge pages
  2M pages        3 of order 9 (3 free, 0 reserved, 0 surplus of at most
                  0); node0 3, node2 0, node10 0
  1G pages        0 of order 18 (0 free, 0 reserved, 0 surplus of at most
                  0); node0 0

HVO, the HugeTLB vmemmap optimization
  compiled in     yes (CONFIG_HUGETLB_PAGE_OPTIMIZE_VMEMMAP=y in
                  /proc/config.gz)
  boot option     hugetlb_free_vmemmap not given (/proc/cmdline)
  on              no (0 in /proc/sys/vm/hugetlb_optimize_vmemmap)
  in use          no (there are huge pages; wrong if any was allocated
                  while it was on)

compound_head()
  encoding        pointer (compound_head in struct page:
                  /sys/kernel/btf/vmlinux)
  struct page     64 bytes (/sys/kernel/btf/vmlinux)
      0           flags
      8           lru, compound_head
     52           _refcount

what this kernel runs, as contenders
  pointer-branch@plain   now      every page, HVO's static key off
  fakehead@plain         not now  pages that HVO did not touch, key on
  fakehead@hvo           not now  huge pages that HVO optimized, key on

  --struct-page   64
  --base-page     4K
  --orders        0,9,18
  --max-order     18
  --memory-model  vmemmap

  python -m pagebench run --struct-page 64 --contenders \\
    pointer-branch,fakehead,fakehead@hvo,branchless,branchless@hvo-shared \\
    --orders 0,9,18

  python -m pagebench align --base-page 4K --struct-page 64
"""


def test_the_whole_report(tmp_path: Path) -> None:
    found = describe(tmp_path, FULL)
    assert info.render(found, machine_of(tmp_path)) == WHOLE


def test_json_has_the_findings_and_how_they_were_found(tmp_path: Path) -> None:
    found = info.to_json(describe(tmp_path, FULL), machine_of(tmp_path))
    assert found["kernel"]["encoding"] == {
        "value": "pointer",
        "how": f"compound_head in struct page: /{BTF}",
    }
    assert found["kernel"]["struct_page"] == {
        "value": {
            "size_bytes": 64,
            "members": [
                {"name": "flags", "offset_bytes": 0, "size_bytes": 8},
                {"name": "lru", "offset_bytes": 8, "size_bytes": 16},
                {"name": "compound_head", "offset_bytes": 8, "size_bytes": 8},
                {"name": "_refcount", "offset_bytes": 52, "size_bytes": 4},
            ],
        },
        "how": f"/{BTF}",
    }
    assert found["kernel"]["config"]["value"]["KMSAN"] is None
    assert found["kernel"]["pools"][0] == {
        "page_bytes": 2 * MIB,
        "counts": {"nr": 3, "free": 3, "resv": 0, "surplus": 0, "nr_overcommit": 0},
        "nodes": {"node0": 3, "node2": 0, "node10": 0},
        "order": 9,
    }
    assert found["counterparts"][0] == {
        "contender": "pointer-branch@plain",
        "pages": "every page, HVO's static key off",
        "now": True,
    }
    assert found["options"] == {
        "struct_page_bytes": 64,
        "base_page_bytes": 4096,
        "orders": [0, 9, 18],
        "max_order": 18,
        "memory_models": ["vmemmap"],
        "commands": [
            "run --struct-page 64 --contenders pointer-branch,fakehead,fakehead@hvo,branchless,"
            "branchless@hvo-shared --orders 0,9,18",
            "align --base-page 4K --struct-page 64",
        ],
    }


class TestThisKernel:
    """No tree: what is true of every Linux that runs this."""

    @pytest.fixture(autouse=True)
    def base_pages(self) -> None:
        """The real ones."""

    def test_it_is_described(self) -> None:
        found = running_kernel.describe()
        assert found.release.value == os.uname().release
        assert found.base_page_bytes == os.sysconf("SC_PAGE_SIZE")
        check_report(Path("/"))

    @needs_btf
    def test_its_struct_page_has_one_of_the_words(self) -> None:
        found = running_kernel.describe()
        assert found.word.value in ("compound_head", "compound_info")
        assert found.encoding.value in ("pointer", "mask")
        assert found.struct_page.value is not None
        assert found.struct_page.value.size_bytes in range(32, 257)
        assert info.counterparts(found)

    @needs_btf
    def test_config_and_members_agree(self, tmp_path: Path) -> None:
        by_config = running_kernel.describe()
        if by_config.config.value is None:
            pytest.skip(f"config {by_config.config.how}")
        by_members = describe(tmp_path, {BTF: Path("/", BTF).read_bytes()})
        assert by_members.memory_model.value == by_config.memory_model.value
        assert by_members.encoding.value == by_config.encoding.value

    @pytest.mark.parametrize("form", ["text", "json"])
    def test_the_command(self, form: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["info", "--format", form]) == 0
        out, err = capsys.readouterr()
        assert os.uname().release in out
        assert err == ""
        if form == "json":
            assert json.loads(out)["machine"]["kernel_release"] == os.uname().release
