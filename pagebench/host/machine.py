"""What the machine says about itself, and what of it threatens a result.

From Linux's own files under ``root``.  One that is not there is no error: what it would have said is None.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pagebench.host.files import ROOT, cpu_list, fields, read, size_bytes

CPUS = "sys/devices/system/cpu"
THP = "sys/kernel/mm/transparent_hugepage"
CLOCKS = "sys/devices/system/clocksource/clocksource0"

# DMI says this in a virtual machine, and nowhere else.
VIRTUAL = re.compile(
    r"QEMU|KVM|Amazon EC2(?!.*\bmetal)|Google Compute Engine|Microsoft Corporation Virtual Machine"
    r"|VMware|VirtualBox|Xen|HVM domU|Parallels|OpenStack|Bochs|Apple Virtualization"
)
GUEST_CLOCKS = {"kvm-clock": "KVM", "hyperv": "Hyper-V", "xen": "Xen"}  # clock sources of guests only
SLOW_CLOCKS = ("hpet", "acpi_pm", "jiffies", "refined-jiffies")  # what x86 takes when the TSC fails it
VULNERABLE = f"{CPUS}/vulnerabilities"
MITIGATED = ("retbleed", "spectre_v2", "spec_store_bypass")
ON: dict[str | None, bool] = {"1": True, "0": False}


@dataclass(frozen=True, slots=True)
class Caches:
    """What one CPU reaches, per instance and not summed over the machine."""

    l1d_bytes: int | None
    l2_bytes: int | None
    l3_bytes: int | None
    line_bytes: int | None


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine, its kernel, and ``cpu``, the one that workers are pinned to.

    CPU lists are written as the kernel does ("0-3,8"); ``family``, ``model`` and ``stepping`` as the
    vendor does, on arm64 the architecture, part and revision.  ``hypervisor`` is None where there is no
    sign of one and "unnamed" where it does not say its name; ``pmu`` is "none" where there is none.
    """

    cpu_model: str
    vendor: str
    family: str | None
    model: str | None
    stepping: str | None
    architecture: str
    online_cpus: str | None
    cpu: int
    thread_siblings: str | None
    smt_active: bool | None
    caches: Caches
    kernel_release: str
    kernel_version: str
    hypervisor: str | None
    base_page_bytes: int
    thp_enabled: str | None
    thp_defrag: str | None
    memory_bytes: int | None
    clocksource: str | None
    constant_tsc: bool | None
    nonstop_tsc: bool | None
    governor: str | None
    turbo: bool | None
    mitigations: Mapping[str, str]
    load_1min: float | None
    pmu: str | None


def _chosen(text: str | None) -> str | None:
    """``madvise`` of ``always [madvise] never``."""
    return next(iter(re.findall(r"\[([^]]+)]", text or "")), None)


def _cpuinfo(cpu: int, root: Path) -> dict[str, str]:
    blocks = [fields(block) for block in (read(root / "proc/cpuinfo") or "").split("\n\n")]
    return next((block for block in blocks if block.get("processor") == str(cpu)), blocks[0])


def _caches(cpu: int, root: Path) -> Caches:
    indexes = sorted((root / CPUS / f"cpu{cpu}/cache").glob("index*"))
    data = [index for index in indexes if read(index / "type") in ("Data", "Unified")]
    size = {read(index / "level"): size_bytes(read(index / "size")) for index in data}
    line = next((size_bytes(read(index / "coherency_line_size")) for index in data), None)
    return Caches(size.get("1"), size.get("2"), size.get("3"), line)


def _hypervisor(info: Mapping[str, str], root: Path) -> str | None:
    """x86 has a CPUID bit that decides; elsewhere DMI and the device tree have to."""
    vendor, product = (read(root / "sys/class/dmi/id" / key) or "" for key in ("sys_vendor", "product_name"))
    dmi = f"{vendor} {product}".strip()
    tree = (read(root / "proc/device-tree/hypervisor/compatible") or "").partition("\0")[0]
    named = read(root / "sys/hypervisor/type") or tree or None
    if "flags" not in info:
        return dmi if VIRTUAL.search(dmi) else named
    if "hypervisor" not in info["flags"].split():
        return None
    clocks = read(root / CLOCKS / "available_clocksource") or ""
    guest = (name for clock, name in GUEST_CLOCKS.items() if clock in clocks)
    return dmi or named or next(guest, "unnamed")


def _turbo(cpu: int, root: Path) -> bool | None:
    here = root / CPUS
    boost = read(here / "cpufreq/boost") or read(here / f"cpu{cpu}/cpufreq/boost")
    return {"0": True, "1": False}.get(read(here / "intel_pstate/no_turbo") or "", ON.get(boost))


def _pmu(root: Path) -> str | None:
    devices = root / "sys/bus/event_source/devices"
    pmus = sorted(path.name for kind in ("cpu*", "armv*", "apple_*") for path in devices.glob(kind))
    return (" ".join(pmus) or "none") if devices.is_dir() else None


def _load(root: Path) -> float | None:
    match = re.match(r"\d+\.\d+", read(root / "proc/loadavg") or "")
    return float(match[0]) if match else None


def describe(cpu: int, root: Path = ROOT) -> Machine:
    """Everything that a report says about the machine on which ``cpu`` measures."""
    info = _cpuinfo(cpu, root)
    flags = info["flags"].split() if "flags" in info else None
    maker, part = info.get("CPU implementer"), info.get("CPU part")  # arm64 has no names
    here = root / CPUS / f"cpu{cpu}"
    return Machine(
        cpu_model=info.get("model name") or (f"implementer {maker}, part {part}" if maker else "unknown"),
        vendor=info.get("vendor_id") or maker or "unknown",
        family=info.get("cpu family") or info.get("CPU architecture"),
        model=info.get("model") or part,
        stepping=info.get("stepping") or info.get("CPU revision"),
        architecture=read(root / "proc/sys/kernel/arch") or os.uname().machine,
        online_cpus=read(root / CPUS / "online"),
        cpu=cpu,
        thread_siblings=read(here / "topology/thread_siblings_list"),
        smt_active=ON.get(read(root / CPUS / "smt/active")),
        caches=_caches(cpu, root),
        kernel_release=read(root / "proc/sys/kernel/osrelease") or "unknown",
        kernel_version=read(root / "proc/sys/kernel/version") or "unknown",
        hypervisor=_hypervisor(info, root),
        base_page_bytes=os.sysconf("SC_PAGE_SIZE"),
        thp_enabled=_chosen(read(root / THP / "enabled")),
        thp_defrag=_chosen(read(root / THP / "defrag")),
        memory_bytes=size_bytes(fields(read(root / "proc/meminfo")).get("MemTotal")),
        clocksource=read(root / CLOCKS / "current_clocksource"),
        constant_tsc=None if flags is None else "constant_tsc" in flags,
        nonstop_tsc=None if flags is None else "nonstop_tsc" in flags,
        governor=read(here / "cpufreq/scaling_governor"),
        turbo=_turbo(cpu, root),
        mitigations={key: text for key in MITIGATED if (text := read(root / VULNERABLE / key))},
        load_1min=_load(root),
        pmu=_pmu(root),
    )


def steal_ticks(cpu: int, root: Path = ROOT) -> int:
    """Ticks (1 / SC_CLK_TCK s, since boot) of steal time on ``cpu``; 0 where the kernel does not count it."""
    times = fields(read(root / "proc/stat"), " ").get(f"cpu{cpu}", "").split()
    return int(times[7]) if len(times) > 7 else 0  # proc_stat(5): the eighth


def default_cpu(root: Path = ROOT) -> int:
    """The CPU to pin workers to: allowed, best isolated, neither CPU 0 (interrupts) nor its SMT sibling."""
    allowed = os.sched_getaffinity(0)
    candidates = allowed & cpu_list(read(root / CPUS / "isolated")) or allowed
    core_0 = cpu_list(read(root / CPUS / "cpu0/topology/thread_siblings_list"))
    return min(candidates, key=lambda cpu: (cpu == 0, cpu in core_0, cpu))


def warnings(machine: Machine) -> list[str]:
    """What threatens a result on this machine and what to do about it, a line each; nothing for unknowns."""
    lines = []
    if machine.governor not in (None, "performance"):
        lines += [f"governor is {machine.governor}: run `cpupower frequency-set -g performance`"]
    if machine.turbo:
        lines += ["turbo is on, ns follow temperature and neighbours: disable it, or compare in cycles"]
    for other in sorted(cpu_list(machine.thread_siblings) - {machine.cpu}):
        offline = f"echo 0 > /{CPUS}/cpu{other}/online"
        lines += [f"CPU {machine.cpu} shares its core with CPU {other}: keep that idle, or `{offline}`"]
    if machine.thp_enabled == "never":
        lines += [f"THP is off, memmaps get base pages, not 2 MiB ones: `echo madvise > /{THP}/enabled`"]
    if False in (machine.constant_tsc, machine.nonstop_tsc):
        lines += [
            "the TSC is not invariant: ns come from clock_gettime, whose reads cost more: lengthen batches"
        ]
    if machine.clocksource in SLOW_CLOCKS:
        lines += [f"clock source is {machine.clocksource}, a slow one: dmesg says what is wrong with the TSC"]
    if machine.hypervisor is not None:
        vm = f"virtual machine ({machine.hypervisor}): TLB misses walk two page tables, there is steal time"
        lines += [f"{vm}, absolute numbers are its own; prefer bare metal for them"]
    if machine.pmu == "none":
        lines += ["no PMU: cycles come from the add chain, and cache misses are simulated"]
    return lines
