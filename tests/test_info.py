"""The report on the running kernel."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted import plant
from planted_kernels import BTF, MIB, SYSCTL, describe, every_kernel, machine_of, plain, pool

from pagebench import cli, tool
from pagebench.host import machine, running_kernel
from pagebench.plan.counterparts import counterparts, suggest
from pagebench.report import WIDTH, info

FULL = plain() | pool(2 * MIB, 3, {"node0": 3})


@pytest.fixture(autouse=True)
def base_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", lambda name: 4096)


def info_of(running: running_kernel.RunningKernel, where: machine.Machine) -> info.Info:
    return info.Info(tool.identity(), where, running, counterparts(running), suggest(running, where))


def check_report(root: Path) -> None:
    found, where = running_kernel.describe(root), machine_of(root)
    text = info.render(info_of(found, where))
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= WIDTH
    again = json.loads(json.dumps(info.to_json(info_of(found, where))))
    assert list(again) == ["tool", "machine", "kernel", "counterparts", "options"]
    assert list(again["kernel"]) == [field.name for field in dataclasses.fields(found)]


def test_of_an_empty_tree_the_report_says_why_nothing_is_known(tmp_path: Path) -> None:
    found = running_kernel.describe(tmp_path)
    text = info.render(info_of(found, machine_of(tmp_path)))
    words = " ".join(text.split())
    assert f"compiled in unknown (no /{SYSCTL}; config not readable: /proc/config.gz: No such file" in words
    assert f"struct page unknown (not readable: /{BTF}: No such file or directory)" in words
    assert "huge pages none in /sys/kernel/mm/hugepages" in words
    assert suggest(found, machine_of(tmp_path)).commands == ()


@given(missing=st.sets(st.sampled_from(sorted(FULL))), damaged=st.sets(st.sampled_from(sorted(FULL))))
@pytest.mark.slow
def test_whatever_is_missing_or_damaged_there_is_a_report(
    tmp_path_factory: pytest.TempPathFactory, missing: set[str], damaged: set[str]
) -> None:
    files = FULL | dict.fromkeys(damaged, b"\xff\0(\n) (1")
    root = tmp_path_factory.mktemp("root")
    check_report(plant(root, {name: text for name, text in files.items() if name not in missing}))


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
  pointer-branch@plain   now      pages that HVO left alone, key off
  fakehead@plain         not now  pages that HVO left alone, key on
  fakehead@hvo           not now  HugeTLB pages that HVO optimized

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
    assert info.render(info_of(found, machine_of(tmp_path))) == WHOLE


def test_json_has_the_findings_and_how_they_were_found(tmp_path: Path) -> None:
    found = json.loads(json.dumps(info.to_json(info_of(describe(tmp_path, FULL), machine_of(tmp_path)))))
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
        "pages": "pages that HVO left alone, key off",
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


@pytest.mark.parametrize("name", every_kernel())
def test_every_kernel_has_a_report(tmp_path: Path, name: str) -> None:
    check_report(plant(tmp_path, every_kernel()[name]))


def test_this_kernel_has_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # of the base page
    check_report(Path("/"))


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_command(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", "--format", form]) == 0
    out, err = capsys.readouterr()
    assert os.uname().release in out
    assert err == ""
    if form == "json":
        assert json.loads(out)["machine"]["kernel_release"] == os.uname().release
