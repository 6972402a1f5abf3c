"""What a machine says about itself, read from trees like those of machines that we do not have."""

from __future__ import annotations

import dataclasses
import json
import mmap
import os
from pathlib import Path

import pytest
from planted import plant

from pagebench import names
from pagebench.host import machine, resources

MIB = 1 << 20
CPU = "sys/devices/system/cpu"
THP = "sys/kernel/mm/transparent_hugepage"
CLOCK = "sys/devices/system/clocksource/clocksource0"
PMUS = "sys/bus/event_source/devices"


def caches(cpu: int, *rows: tuple[int, str, str]) -> dict[str, str]:
    files = {}
    for i, (level, kind, size) in enumerate(rows):
        index = f"{CPU}/cpu{cpu}/cache/index{i}"
        row = {"level": f"{level}\n", "type": f"{kind}\n", "size": f"{size}\n", "coherency_line_size": "64\n"}
        files |= {f"{index}/{key}": text for key, text in row.items()}
    return files


AMD_BLOCK = """\
processor	: {cpu}
vendor_id	: AuthenticAMD
cpu family	: 25
model		: 1
model name	: AMD EPYC 7R13 Processor
stepping	: 1
cpu MHz		: 2445.404
flags		: fpu tsc msr constant_tsc rep_good nopl nonstop_tsc hypervisor topoext
"""
AMD_VM = {
    "proc/cpuinfo": AMD_BLOCK.format(cpu=0) + "\n" + AMD_BLOCK.format(cpu=1),
    "proc/meminfo": "MemTotal:        8000000 kB\nMemFree:         6000000 kB\nMemAvailable:    7000000 kB\n",
    "proc/loadavg": "0.16 0.09 0.04 1/82 4158\n",
    "proc/stat": "cpu  1 0 2 3 4 0 5 30 0 0\ncpu0 1 0 1 1 0 0 0 10 0 0\ncpu1 0 0 1 2 4 0 5 20 0 0\n"
    "ctxt 300380\n",
    "proc/sys/kernel/arch": "x86_64\n",
    "proc/sys/kernel/osrelease": "6.18.0\n",
    "proc/sys/kernel/version": "#1 SMP PREEMPT_DYNAMIC\n",
    f"{CPU}/online": "0-1\n",
    f"{CPU}/isolated": "\n",
    f"{CPU}/smt/active": "0\n",
    f"{CPU}/cpu0/topology/thread_siblings_list": "0\n",
    f"{CPU}/cpu1/topology/thread_siblings_list": "1\n",
    f"{CPU}/vulnerabilities/retbleed": "Not affected\n",
    f"{CPU}/vulnerabilities/spectre_v2": "Mitigation: Retpolines; STIBP: disabled\n",
    f"{THP}/enabled": "always [madvise] never\n",
    f"{THP}/defrag": "always defer [defer+madvise] madvise never\n",
    f"{CLOCK}/current_clocksource": "tsc\n",
    f"{CLOCK}/available_clocksource": "tsc kvm-clock \n",
    f"{PMUS}/software/type": "1\n",
    **caches(
        1, (1, "Data", "32K"), (1, "Instruction", "64K"), (2, "Unified", "512K"), (3, "Unified", "32768K")
    ),
}

INTEL_BARE = {
    "proc/cpuinfo": "processor\t: 2\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\n"
    "model name\t: Intel(R) Xeon(R) Platinum 8480+\nstepping\t: 8\n"
    "flags\t\t: fpu tsc constant_tsc nonstop_tsc\n",
    "proc/loadavg": "3.20 2.00 1.00 4/900 1234\n",
    "sys/class/dmi/id/sys_vendor": "Dell Inc.\n",
    "sys/class/dmi/id/product_name": "PowerEdge R760\n",
    f"{CPU}/smt/active": "1\n",
    f"{CPU}/cpu2/topology/thread_siblings_list": "2,58\n",
    f"{CPU}/cpu2/cpufreq/scaling_governor": "powersave\n",
    f"{CPU}/intel_pstate/no_turbo": "0\n",
    f"{THP}/enabled": "always madvise [never]\n",
    f"{CLOCK}/current_clocksource": "hpet\n",
    f"{PMUS}/cpu/type": "4\n",
    f"{PMUS}/uncore_imc_0/type": "14\n",
    **caches(
        2, (1, "Data", "48K"), (1, "Instruction", "32K"), (2, "Unified", "2048K"), (3, "Unified", "107520K")
    ),
}

ARM64 = {
    "proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 243.75\nFeatures\t: fp asimd atomics\n"
    "CPU implementer\t: 0x41\n"
    "CPU architecture: 8\nCPU variant\t: 0x3\nCPU part\t: 0xd0c\nCPU revision\t: 1\n",
    "proc/sys/kernel/arch": "aarch64\n",
    f"{CPU}/smt/active": "0\n",
    f"{CLOCK}/current_clocksource": "arch_sys_counter\n",
    f"{PMUS}/armv8_pmuv3_0/type": "8\n",
    f"{PMUS}/arm_spe_0/type": "9\n",
    **caches(0, (1, "Data", "64K"), (1, "Instruction", "64K"), (2, "Unified", "1024K")),
}


def test_an_amd_virtual_machine(tmp_path: Path) -> None:
    found = machine.describe(1, plant(tmp_path, AMD_VM))
    assert found == machine.Machine(
        cpu_model="AMD EPYC 7R13 Processor",
        vendor="AuthenticAMD",
        family="25",
        model="1",
        stepping="1",
        architecture="x86_64",
        online_cpus="0-1",
        cpu=1,
        thread_siblings="1",
        smt_active=False,
        caches=machine.Caches(32 << 10, 512 << 10, 32 * MIB, 64),
        kernel_release="6.18.0",
        kernel_version="#1 SMP PREEMPT_DYNAMIC",
        hypervisor="KVM",
        base_page_bytes=mmap.PAGESIZE,
        thp_enabled="madvise",
        thp_defrag="defer+madvise",
        memory_bytes=8_000_000 << 10,
        clocksource="tsc",
        constant_tsc=True,
        nonstop_tsc=True,
        governor=None,
        turbo=None,
        mitigations={"retbleed": "Not affected", "spectre_v2": "Mitigation: Retpolines; STIBP: disabled"},
        load_1min=0.16,
        pmu="none",
    )
    assert machine.warnings(found) == [
        "virtual machine (KVM): TLB misses walk two page tables, there is steal time, "
        "absolute numbers are its own; prefer bare metal for them",
        "no PMU: cycles come from the add chain, and cache misses are simulated",
    ]


def test_intel_on_bare_metal_with_everything_on(tmp_path: Path) -> None:
    found = machine.describe(2, plant(tmp_path, INTEL_BARE))
    assert found.caches == machine.Caches(48 << 10, 2 * MIB, 105 * MIB, 64)
    assert (found.hypervisor, found.turbo, found.smt_active, found.pmu) == (None, True, True, "cpu")
    assert machine.warnings(found) == [
        "governor is powersave: run `cpupower frequency-set -g performance`",
        "turbo is on, ns follow temperature and neighbours: disable it, or compare in cycles",
        "CPU 2 shares its core with CPU 58: keep that idle, or "
        "`echo 0 > /sys/devices/system/cpu/cpu58/online`",
        "THP is off, memmaps get base pages, not 2 MiB ones: "
        "`echo madvise > /sys/kernel/mm/transparent_hugepage/enabled`",
        "clock source is hpet, a slow one: dmesg says what is wrong with the TSC",
    ]


def test_a_tuned_machine_has_nothing_to_be_warned_of(tmp_path: Path) -> None:
    tuned = {
        "proc/loadavg": "0.02 0.00 0.00 1/900 1234\n",
        f"{CPU}/cpu2/topology/thread_siblings_list": "2\n",
        f"{CPU}/cpu2/cpufreq/scaling_governor": "performance\n",
        f"{CPU}/intel_pstate/no_turbo": "1\n",
        f"{THP}/enabled": "[always] madvise never\n",
        f"{CLOCK}/current_clocksource": "tsc\n",
    }
    assert machine.warnings(machine.describe(2, plant(tmp_path, INTEL_BARE | tuned))) == []


def test_arm64(tmp_path: Path) -> None:
    found = machine.describe(0, plant(tmp_path, ARM64))
    assert found.cpu_model == "implementer 0x41, part 0xd0c"
    assert (found.vendor, found.family, found.model, found.stepping) == ("0x41", "8", "0xd0c", "1")
    assert (found.architecture, found.constant_tsc, found.pmu) == ("aarch64", None, "armv8_pmuv3_0")
    assert found.caches == machine.Caches(64 << 10, MIB, None, 64)
    assert found.hypervisor is None
    assert machine.warnings(found) == []


def test_of_an_empty_tree_nothing_is_known_and_nothing_warned(tmp_path: Path) -> None:
    found = machine.describe(0, tmp_path)
    assert (found.cpu_model, found.kernel_release, found.mitigations) == ("unknown", "unknown", {})
    unknown = [field.name for field in dataclasses.fields(found) if getattr(found, field.name) is None]
    assert {"hypervisor", "governor", "turbo", "pmu", "load_1min", "thp_enabled", "memory_bytes"} <= set(
        unknown
    )
    assert found.caches == machine.Caches(None, None, None, None)
    assert machine.warnings(found) == []
    assert resources.available_bytes(tmp_path) is None
    assert machine.steal_ticks(0, tmp_path) == 0
    assert names.backing_name(resources.backing_obtained(0x1000, MIB, tmp_path)) == "unknown"


def test_a_machine_converts_to_json(tmp_path: Path) -> None:
    found = machine.describe(1, plant(tmp_path, AMD_VM))
    again = json.loads(json.dumps(dataclasses.asdict(found)))
    again["caches"] = machine.Caches(**again["caches"])
    assert machine.Machine(**again) == found


@pytest.mark.parametrize(
    ("cpuinfo", "files", "expected"),
    [
        ("flags : tsc hypervisor", {}, "unnamed"),
        ("flags : tsc hypervisor", {"sys/hypervisor/type": "xen\n"}, "xen"),
        ("flags : tsc", {"sys/class/dmi/id/sys_vendor": "Amazon EC2\n"}, None),
        (
            "flags : tsc hypervisor",
            {"sys/class/dmi/id/sys_vendor": "QEMU\n", "sys/class/dmi/id/product_name": "Standard PC\n"},
            "QEMU Standard PC",
        ),
        ("flags : hypervisor", {f"{CLOCK}/available_clocksource": "hyperv_clocksource_tsc_page"}, "Hyper-V"),
        ("Features : fp", {"proc/device-tree/hypervisor/compatible": "linux,kvm\0"}, "linux,kvm"),
        (
            "Features : fp",
            {"sys/class/dmi/id/sys_vendor": "Amazon EC2\n", "sys/class/dmi/id/product_name": "m6g.large\n"},
            "Amazon EC2 m6g.large",
        ),
        (
            "Features : fp",
            {"sys/class/dmi/id/sys_vendor": "Amazon EC2\n", "sys/class/dmi/id/product_name": "m6g.metal\n"},
            None,
        ),
        ("Features : fp", {"sys/class/dmi/id/sys_vendor": "Ampere(R)\n"}, None),
    ],
)
def test_hypervisors(tmp_path: Path, cpuinfo: str, files: dict[str, str], expected: str | None) -> None:
    root = plant(tmp_path, {"proc/cpuinfo": f"processor : 0\n{cpuinfo}\n", **files})
    assert machine.describe(0, root).hypervisor == expected


@pytest.mark.parametrize(("boost", "expected"), [("1", True), ("0", False)])
def test_boost_without_intel_pstate(tmp_path: Path, boost: str, expected: bool) -> None:
    assert machine.describe(0, plant(tmp_path, {f"{CPU}/cpufreq/boost": boost})).turbo is expected


def test_a_tsc_that_is_not_invariant_is_warned_of(tmp_path: Path) -> None:
    info = AMD_BLOCK.format(cpu=0).replace("nonstop_tsc", "").replace("hypervisor", "")
    (warning,) = machine.warnings(machine.describe(0, plant(tmp_path, {"proc/cpuinfo": info})))
    assert "TSC is not invariant" in warning


def test_steal(tmp_path: Path) -> None:
    root = plant(tmp_path, AMD_VM)
    assert [machine.steal_ticks(cpu, root) for cpu in (0, 1, 2)] == [10, 20, 0]


@pytest.mark.parametrize(
    ("allowed", "isolated", "siblings", "expected"),
    [
        ({0, 1}, "", "0", 1),
        ({0}, "", "0", 0),
        ({0, 1, 2, 3}, "", "0-1", 2),
        ({0, 2}, "", "0,2", 2),
        ({0, 1, 2, 3, 4, 5}, "3-5", "0", 3),
        ({0, 1}, "6-7", "0", 1),
        ({4, 5}, "", "0,4", 5),
    ],
)
def test_the_default_cpu(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    allowed: set[int],
    isolated: str,
    siblings: str,
    expected: int,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: allowed)
    files = {f"{CPU}/isolated": f"{isolated}\n", f"{CPU}/cpu0/topology/thread_siblings_list": f"{siblings}\n"}
    assert machine.default_cpu(plant(tmp_path, files)) == expected


class TestThisMachine:
    """No fixture: what is true of every Linux machine that runs this."""

    def test_it_is_described(self) -> None:
        cpu = machine.default_cpu()
        found = machine.describe(cpu)
        assert cpu in os.sched_getaffinity(0)
        assert found.kernel_release == os.uname().release
        assert found.architecture == os.uname().machine
        assert found.cpu_model != "unknown"
        assert found.memory_bytes is not None
        assert found.memory_bytes == pytest.approx(os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE, rel=0.01)
        assert 0 < (resources.available_bytes() or 0) <= found.memory_bytes
        assert found.caches.line_bytes in (None, 32, 64, 128, 256)
        sizes = [size for size in dataclasses.astuple(found.caches)[:3] if size is not None]
        assert sizes == sorted(sizes)
        json.dumps(dataclasses.asdict(found))
        assert all("\n" not in line for line in machine.warnings(found))

    def test_steal_time_only_grows(self) -> None:
        before, after = (machine.steal_ticks(machine.default_cpu()) for _ in range(2))
        assert after >= before >= 0
