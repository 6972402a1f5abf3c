"""What the machine says about itself, and what of it threatens a result.

From Linux's own files under ``root``.  One that is not there is no error: what it would have said is None.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
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
HUGETLB = ("Private_Hugetlb", "Shared_Hugetlb")
PMD_MAPPED = ("AnonHugePages", "ShmemPmdMapped", "FilePmdMapped")
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


def _read(path: Path) -> str | None:
    """A file's text without the white space around it; None if absent, unreadable or empty."""
    try:
        return path.read_text(errors="replace").strip("\0 \t\n") or None
    except OSError:
        return None


def _fields(text: str | None, separator: str = ":") -> dict[str, str]:
    """``key : value`` lines; of a repeated key the last."""
    lines = (line.partition(separator) for line in (text or "").splitlines())
    return {key.strip(): value.strip() for key, found, value in lines if found}


def _bytes(text: str | None) -> int | None:
    """``48K``, ``24684092 kB`` or a plain number, in bytes."""
    match = re.fullmatch(r"(\d+) ?([kKMG]?)B?", text or "")
    return int(match[1]) << {"": 0, "k": 10, "K": 10, "M": 20, "G": 30}[match[2]] if match else None


def _cpu_list(text: str | None) -> set[int]:
    """The kernel's ``0-3,8``."""
    ranges = re.findall(r"(\d+)(?:-(\d+))?", text or "")
    return {cpu for first, last in ranges for cpu in range(int(first), int(last or first) + 1)}


def _chosen(text: str | None) -> str | None:
    """``madvise`` of ``always [madvise] never``."""
    return next(iter(re.findall(r"\[([^]]+)]", text or "")), None)


def _cpuinfo(cpu: int, root: Path) -> dict[str, str]:
    blocks = [_fields(block) for block in (_read(root / "proc/cpuinfo") or "").split("\n\n")]
    return next((block for block in blocks if block.get("processor") == str(cpu)), blocks[0])


def _caches(cpu: int, root: Path) -> Caches:
    indexes = sorted((root / CPUS / f"cpu{cpu}/cache").glob("index*"))
    data = [index for index in indexes if _read(index / "type") in ("Data", "Unified")]
    size = {_read(index / "level"): _bytes(_read(index / "size")) for index in data}
    line = next((_bytes(_read(index / "coherency_line_size")) for index in data), None)
    return Caches(size.get("1"), size.get("2"), size.get("3"), line)


def _hypervisor(info: Mapping[str, str], root: Path) -> str | None:
    """x86 has a CPUID bit that decides; elsewhere DMI and the device tree have to."""
    vendor, product = (_read(root / "sys/class/dmi/id" / key) or "" for key in ("sys_vendor", "product_name"))
    dmi = f"{vendor} {product}".strip()
    tree = (_read(root / "proc/device-tree/hypervisor/compatible") or "").partition("\0")[0]
    named = _read(root / "sys/hypervisor/type") or tree or None
    if "flags" not in info:
        return dmi if VIRTUAL.search(dmi) else named
    if "hypervisor" not in info["flags"].split():
        return None
    clocks = _read(root / CLOCKS / "available_clocksource") or ""
    guest = (name for clock, name in GUEST_CLOCKS.items() if clock in clocks)
    return dmi or named or next(guest, "unnamed")


def _turbo(cpu: int, root: Path) -> bool | None:
    here = root / CPUS
    boost = _read(here / "cpufreq/boost") or _read(here / f"cpu{cpu}/cpufreq/boost")
    return {"0": True, "1": False}.get(_read(here / "intel_pstate/no_turbo") or "", ON.get(boost))


def _pmu(root: Path) -> str | None:
    devices = root / "sys/bus/event_source/devices"
    found = sorted(path.name for kind in ("cpu*", "armv*", "apple_*") for path in devices.glob(kind))
    return (" ".join(found) or "none") if devices.is_dir() else None


def _load(root: Path) -> float | None:
    match = re.match(r"\d+\.\d+", _read(root / "proc/loadavg") or "")
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
        architecture=_read(root / "proc/sys/kernel/arch") or os.uname().machine,
        online_cpus=_read(root / CPUS / "online"),
        cpu=cpu,
        thread_siblings=_read(here / "topology/thread_siblings_list"),
        smt_active=ON.get(_read(root / CPUS / "smt/active")),
        caches=_caches(cpu, root),
        kernel_release=_read(root / "proc/sys/kernel/osrelease") or "unknown",
        kernel_version=_read(root / "proc/sys/kernel/version") or "unknown",
        hypervisor=_hypervisor(info, root),
        base_page_bytes=os.sysconf("SC_PAGE_SIZE"),
        thp_enabled=_chosen(_read(root / THP / "enabled")),
        thp_defrag=_chosen(_read(root / THP / "defrag")),
        memory_bytes=_bytes(_fields(_read(root / "proc/meminfo")).get("MemTotal")),
        clocksource=_read(root / CLOCKS / "current_clocksource"),
        constant_tsc=None if flags is None else "constant_tsc" in flags,
        nonstop_tsc=None if flags is None else "nonstop_tsc" in flags,
        governor=_read(here / "cpufreq/scaling_governor"),
        turbo=_turbo(cpu, root),
        mitigations={key: text for key in MITIGATED if (text := _read(root / VULNERABLE / key))},
        load_1min=_load(root),
        pmu=_pmu(root),
    )


def _cgroup_room(root: Path) -> Iterator[int]:
    """Bytes left under each cgroup v2 limit above us; page cache that can be dropped counts as left."""
    entries = (_read(root / "proc/self/cgroup") or "").splitlines()
    group = next((Path(entry[4:]) for entry in entries if entry.startswith("0::/")), Path())
    mounts = (root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified")
    for folder in {mount / path for mount in mounts for path in (group, *group.parents)}:
        limit, used = _bytes(_read(folder / "memory.max")), _bytes(_read(folder / "memory.current"))
        if limit is not None and used is not None:
            cache = _bytes(_fields(_read(folder / "memory.stat"), " ").get("inactive_file")) or 0
            yield max(limit - used + cache, 0)


def available_bytes(root: Path = ROOT) -> int | None:
    """Bytes that can be had without swapping: MemAvailable, or less where a cgroup v2 allows less."""
    free = _bytes(_fields(_read(root / "proc/meminfo")).get("MemAvailable"))
    return min([*_cgroup_room(root), *([] if free is None else [free])], default=None)


def backing_obtained(base: int, size: int, root: Path = ROOT) -> dict[str, int]:
    """Resident bytes of [base, base + size) that are mapped by a huge page ("2m") and by base pages ("4k").

    From /proc/self/smaps, which knows whole mappings only: of one that reaches beyond the range, the same
    share is taken to be huge inside as outside.  "2m" is the PMD size, or larger with hugetlb.
    """
    huge = small = 0
    text = _read(root / "proc/self/smaps") or ""
    for bounds, body in re.findall(r"^([0-9a-f]+-[0-9a-f]+) .*\n((?:\w+:.*(?:\n|$))*)", text, re.MULTILINE):
        start, end = (int(bound, 16) for bound in bounds.split("-"))
        overlap = min(end, base + size) - max(start, base)
        if overlap > 0:
            fields = {key: _bytes(value) or 0 for key, value in _fields(body).items()}
            hugetlb, thp = (sum(fields.get(key, 0) for key in keys) for keys in (HUGETLB, PMD_MAPPED))
            resident = hugetlb + fields.get("Rss", 0)  # Rss leaves hugetlb out
            inside = min(resident, overlap)
            huge_inside = (hugetlb + thp) * inside // max(resident, 1)
            huge, small = huge + huge_inside, small + inside - huge_inside
    return {"4k": small, "2m": huge}


def backing_name(obtained: Mapping[str, int]) -> str:
    """``2m``, ``4k``, ``mixed (87 % 2m)``, or ``unknown`` where nothing is resident."""
    huge, small = obtained["2m"], obtained["4k"]
    if not huge:
        return "4k" if small else "unknown"
    percent = min(max(round(100 * huge / (huge + small)), 1), 99)
    return f"mixed ({percent} % 2m)" if small else "2m"


def steal_ticks(cpu: int, root: Path = ROOT) -> int:
    """Ticks (1 / SC_CLK_TCK s, since boot) for which the hypervisor kept ``cpu``; 0 where none are told."""
    times = _fields(_read(root / "proc/stat"), " ").get(f"cpu{cpu}", "").split()
    return int(times[7]) if len(times) > 7 else 0  # proc_stat(5): the eighth


def default_cpu(root: Path = ROOT) -> int:
    """The CPU to pin workers to: allowed, best isolated, neither CPU 0 (interrupts) nor its SMT sibling."""
    allowed = os.sched_getaffinity(0)
    candidates = allowed & _cpu_list(_read(root / CPUS / "isolated")) or allowed
    core_0 = _cpu_list(_read(root / CPUS / "cpu0/topology/thread_siblings_list"))
    return min(candidates, key=lambda cpu: (cpu == 0, cpu in core_0, cpu))


def warnings(machine: Machine) -> list[str]:
    """What threatens a result on this machine and what to do about it, a line each; nothing for unknowns."""
    found = []
    if machine.governor not in (None, "performance"):
        found += [f"governor is {machine.governor}: run `cpupower frequency-set -g performance`"]
    if machine.turbo:
        found += ["turbo is on, ns follow temperature and neighbours: disable it, or compare in cycles"]
    for other in sorted(_cpu_list(machine.thread_siblings) - {machine.cpu}):
        offline = f"echo 0 > /{CPUS}/cpu{other}/online"
        found += [f"CPU {machine.cpu} shares its core with CPU {other}: keep that idle, or `{offline}`"]
    if (machine.load_1min or 0) > 0.5:
        found += [f"load average is {machine.load_1min:.2f}: end what else is running, then run again"]
    if machine.thp_enabled == "never":
        found += [f"THP is off, memmaps get base pages, not 2 MiB ones: `echo madvise > /{THP}/enabled`"]
    if False in (machine.constant_tsc, machine.nonstop_tsc):
        found += ["the TSC is not invariant: ns come from clock_gettime, which is dearer; lengthen batches"]
    if machine.clocksource in SLOW_CLOCKS:
        found += [f"clock source is {machine.clocksource}, a slow one: dmesg says what is wrong with the TSC"]
    if machine.hypervisor is not None:
        vm = f"virtual machine ({machine.hypervisor}): TLB misses are dearer and neighbours steal time"
        found += [f"{vm}, absolute numbers are its own; prefer bare metal for them"]
    if machine.pmu == "none":
        found += ["no PMU: cycles come from the add chain, and there are no cache-miss counts"]
    return found
