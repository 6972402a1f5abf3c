"""Which caches and TLBs are simulated: this machine's, a named CPU's, or a file's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import msgspec

from pagebench import names
from pagebench.errors import PagebenchError
from pagebench.host.files import ROOT, read
from pagebench.host.machine import CPUS, Machine
from pagebench.names import LINE_BYTES
from pagebench.results.lines import check_printable
from pagebench.results.simulated import Cache, Geometry, Tlb, Tlbs
from pagebench.units import KIB, MIB

WAYS = 16  # of what says no more than its size
# No machine's comes near, and the simulator's memory is for as many.  In fewer sets tags of 32 bits do not
# tell the lines of all frames apart that are drawn: traces.Frames.
MIN_SETS, MAX_SETS, MAX_ENTRIES = 4, 1 << 24, 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Cpu:
    """A named core: data caches in bytes and ways, data TLBs, and by what /proc/cpuinfo has it.

    ``ids``: (vendor or implementer, family, models or parts).  ``l3``: of what one core can fill.
    """

    source: str
    l1: tuple[int, int]
    l2: tuple[int, int]
    l3: tuple[int, int]
    tlbs: Tlbs
    ids: tuple[tuple[str, str, frozenset[str]], ...]
    inclusive: bool = False
    way_predictor: bool = False
    adds_at_rename: bool = False

    @property
    def caches(self) -> tuple[Cache, ...]:
        """Its levels."""
        return tuple(of_size(*level) for level in (self.l1, self.l2, self.l3))


def of_size(size: int, ways: int) -> Cache:
    """A cache by its bytes; of more than 16 ways, which are not simulated, 16 and more sets."""
    ways = min(ways, WAYS)
    return Cache(max(1, size // (LINE_BYTES * ways)), ways)


def _all(entries: int) -> Tlb:
    """Fully associative."""
    return Tlb(entries, entries)


def _x86(vendor: str, family: str, *models: range | int) -> tuple[tuple[str, str, frozenset[str]], ...]:
    numbers = {str(n) for one in models for n in (one if isinstance(one, range) else (one,))}
    return ((vendor, family, frozenset(numbers)),)


def _arm(part: str) -> tuple[tuple[str, str, frozenset[str]], ...]:
    return (("0x41", "8", frozenset({part})),)


AMD, INTEL = "AuthenticAMD", "GenuineIntel"
OPTIMIZATION = "Software Optimization Guide"
MANUAL = "Intel 64 and IA-32 Architectures Optimization Reference Manual"
TRM = "Technical Reference Manual"

# Geometry as the sources have it.  What stands behind "unconfirmed" was not found in them, and is as it is
# commonly given.  The L3 is what one core can fill: a CCX's, or a core's slice times the cores of a part.
# Models are Linux's: arch/x86/kernel/cpu/amd.c, arch/x86/include/asm/intel-family.h.
CPUS_KNOWN: Mapping[str, Cpu] = {
    "zen2": Cpu(
        f"AMD 56305, {OPTIMIZATION}; Lipp et al., Take A Way (2020); unconfirmed: 16 ways of the L2 TLB",
        l1=(32 * KIB, 8),
        l2=(512 * KIB, 8),
        l3=(16 * MIB, 16),
        tlbs=Tlbs(_all(64), None, Tlb(2048, 16)),
        ids=_x86(AMD, "23", range(48, 80), range(96, 128), 144, 145, range(160, 176)),
        way_predictor=True,
    ),
    "zen3": Cpu(
        f"AMD 56665, {OPTIMIZATION}; unconfirmed: ways, TLBs",
        l1=(32 * KIB, 8),
        l2=(512 * KIB, 8),
        l3=(32 * MIB, 16),
        tlbs=Tlbs(_all(64), None, Tlb(2048, 16)),
        ids=_x86(AMD, "25", range(16), range(32, 96)),
        way_predictor=True,
    ),
    "zen4": Cpu(
        f"AMD 57647, {OPTIMIZATION}",
        l1=(32 * KIB, 8),
        l2=(1 * MIB, 8),
        l3=(32 * MIB, 16),
        tlbs=Tlbs(_all(72), None, Tlb(3072, 24)),
        ids=_x86(AMD, "25", range(16, 32), range(96, 176)),
        way_predictor=True,
    ),
    "zen5": Cpu(
        f"AMD 58455, {OPTIMIZATION}; Hot Chips 2024",
        l1=(48 * KIB, 12),
        l2=(1 * MIB, 16),
        l3=(32 * MIB, 16),
        tlbs=Tlbs(_all(96), None, Tlb(4096, 16), 7),
        ids=_x86(AMD, "26", range(16), range(32, 48), range(64, 80), range(112, 128)),
        way_predictor=True,
    ),
    "skylake": Cpu(
        f"{MANUAL}; four cores",
        l1=(32 * KIB, 8),
        l2=(256 * KIB, 4),
        l3=(8 * MIB, 16),
        tlbs=Tlbs(Tlb(64, 4), Tlb(32, 4), Tlb(1536, 12)),
        ids=_x86(INTEL, "6", 78, 94, 142, 158, 165, 166),
        inclusive=True,
    ),
    "skylake-sp": Cpu(
        f"{MANUAL}; sixteen cores; unconfirmed: ways of L2 and L3",
        l1=(32 * KIB, 8),
        l2=(1 * MIB, 16),
        l3=(22 * MIB, 11),
        tlbs=Tlbs(Tlb(64, 4), Tlb(32, 4), Tlb(1536, 12)),
        ids=_x86(INTEL, "6", 85),
    ),
    "icelake-sp": Cpu(
        f"{MANUAL}; sixteen cores; unconfirmed: ways of L2 and L3 (20 are simulated as 16), "
        "2M entries of the L2 TLB (1024 of its 2048)",
        l1=(48 * KIB, 12),
        l2=(1280 * KIB, 20),
        l3=(24 * MIB, 12),
        tlbs=Tlbs(Tlb(64, 4), Tlb(32, 4), Tlb(2048, 16)),
        ids=_x86(INTEL, "6", 106, 108),
    ),
    "sapphire-rapids": Cpu(
        f"{MANUAL}; sixteen cores; unconfirmed: ways of L2, L3 and L2 TLB, its 2M entries (1024 of 2048)",
        l1=(48 * KIB, 12),
        l2=(2 * MIB, 16),
        l3=(30 * MIB, 15),
        tlbs=Tlbs(Tlb(96, 6), Tlb(32, 4), Tlb(2048, 16), 7),
        ids=_x86(INTEL, "6", 143, 207),
        adds_at_rename=True,
    ),
    "neoverse-n1": Cpu(
        f"Arm Neoverse N1 {TRM} (100616); system cache of Altra Max",
        l1=(64 * KIB, 4),
        l2=(1 * MIB, 8),
        l3=(16 * MIB, 16),
        tlbs=Tlbs(_all(48), None, Tlb(1280, 5)),
        ids=_arm("0xd0c"),
    ),
    "neoverse-n2": Cpu(
        f"Arm Neoverse N2 {TRM} (102099); unconfirmed: ways, TLBs; the system cache is the vendor's",
        l1=(64 * KIB, 4),
        l2=(1 * MIB, 8),
        l3=(32 * MIB, 16),
        tlbs=Tlbs(_all(44), None, Tlb(1280, 5)),
        ids=_arm("0xd49"),
    ),
    "neoverse-v1": Cpu(
        f"Arm Neoverse V1 {TRM} (101427); system cache of Graviton3; unconfirmed: ways",
        l1=(64 * KIB, 4),
        l2=(1 * MIB, 8),
        l3=(32 * MIB, 16),
        tlbs=Tlbs(_all(40), None, Tlb(2048, 4)),
        ids=_arm("0xd40"),
    ),
    "neoverse-v2": Cpu(
        f"Arm Neoverse V2 {TRM} (102375); system cache of Graviton4",
        l1=(64 * KIB, 4),
        l2=(2 * MIB, 8),
        l3=(36 * MIB, 16),
        tlbs=Tlbs(_all(48), None, Tlb(2048, 8), 6),
        ids=_arm("0xd4f"),
    ),
}


def find(text: str) -> Geometry:
    """A geometry by the name of a CPU, or from a JSON file.  Raises PagebenchError."""
    if text in CPUS_KNOWN:
        cpu = CPUS_KNOWN[text]
        return Geometry(
            name=text,
            source=cpu.source,
            caches=cpu.caches,
            tlbs=cpu.tlbs,
            inclusive=cpu.inclusive,
            way_predictor=cpu.way_predictor,
            adds_at_rename=cpu.adds_at_rename,
        )
    path = Path(text)
    if not path.exists() and "/" not in text and not path.suffix:
        raise names.nearest(text, CPUS_KNOWN, "CPU")
    try:
        if not path.is_file():
            raise PagebenchError(f"{text} is no file: name a CPU ({', '.join(CPUS_KNOWN)}) or a JSON file")
        decoded = msgspec.json.decode(path.read_bytes(), type=Geometry)
        check_printable(msgspec.to_builtins(decoded))
        return check(decoded)
    except OSError as error:
        raise PagebenchError(f"cannot read {text}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise PagebenchError(f"{text} is no geometry ({error}): `cache --format json` has one") from error


def check(geometry: Geometry) -> Geometry:
    """Refuse what cannot be simulated.  Raises PagebenchError."""
    for cache in geometry.caches:
        if not MIN_SETS <= cache.sets <= MAX_SETS:
            raise PagebenchError(
                f"{geometry.name} has a cache of {cache.sets} sets: {MIN_SETS} to {MAX_SETS} can be simulated"
            )
        if geometry.policy == "plru" and cache.ways & (cache.ways - 1):
            raise PagebenchError(
                f"tree-PLRU wants a power of two of ways, and {geometry.name} has {cache.ways}: choose lru"
            )
    tlbs = geometry.tlbs
    for tlb in (tlbs.first, tlbs.first_2m, tlbs.second) if tlbs else ():
        if tlb is not None and (tlb.entries > MAX_ENTRIES or tlb.entries % tlb.ways):
            raise PagebenchError(
                f"{geometry.name} has a TLB of {tlb.entries} entries in {tlb.ways} ways: "
                f"a multiple of them, and {MAX_ENTRIES} at most"
            )
    return geometry


def here(
    described: Machine,
    l3_measured_bytes: int | None,
    root: Path = ROOT,
    huge_pages: names.HugePages | None = None,
) -> Geometry:
    """This machine's: caches by sysfs, the L3 as measured where it was, TLBs of the CPU if that is known."""
    return _of(described, "caches by sysfs", _caches(described.cpu, root), l3_measured_bytes, huge_pages)


def elsewhere(described: Machine, l3_measured_bytes: int | None) -> Geometry:
    """Another machine's: its CPU's, if that is known, or else the sizes that it said, of 16 ways each."""
    sizes = (described.caches.l1d_bytes, described.caches.l2_bytes, described.caches.l3_bytes)
    said = tuple(of_size(size, WAYS) for size in sizes if size)
    return _of(described, "sizes as it said", () if _known(described) else said, l3_measured_bytes, None)


def _of(
    described: Machine,
    by: str,
    said: tuple[Cache, ...],
    l3_measured_bytes: int | None,
    huge_pages: names.HugePages | None,
) -> Geometry:
    known = _known(described)
    caches = said or (known[1].caches if known else ())
    if not caches:
        raise PagebenchError("this machine does not say what caches it has: name a CPU with --geometry")
    source = [by if said or not known else f"caches of {known[0]}"]
    if l3_measured_bytes is not None and len(caches) == 3:
        caches = (*caches[:2], of_size(l3_measured_bytes, caches[2].ways))
        source.append("L3 as measured")
    if huge_pages is not None:
        source.append(f"2M pages as measured: {huge_pages}")
    source.append(f"TLBs of {known[0]}" if known else "no TLB, as this CPU's is not known")
    return Geometry(
        name=described.cpu_model,
        source=", ".join(source),
        caches=caches,
        tlbs=known[1].tlbs if known else None,
        inclusive=bool(known and known[1].inclusive),
        way_predictor=bool(known and known[1].way_predictor),
        huge_pages=huge_pages or "whole",
        adds_at_rename=bool(known and known[1].adds_at_rename),
    )


def _known(described: Machine) -> tuple[str, Cpu] | None:
    for name, cpu in CPUS_KNOWN.items():
        for vendor, family, models in cpu.ids:
            if (described.vendor, described.family) == (vendor, family) and described.model in models:
                return name, cpu
    return None


def _caches(cpu: int, root: Path) -> tuple[Cache, ...]:
    """Data and unified caches by level, as sysfs has them; none where it does not say sets and ways."""
    found = {}
    for index in sorted((root / CPUS / f"cpu{cpu}/cache").glob("index*")):
        if read(index / "type") not in ("Data", "Unified"):
            continue
        level, sets, ways = (
            read(index / name) or "" for name in ("level", "number_of_sets", "ways_of_associativity")
        )
        if level in ("1", "2", "3") and sets.isdecimal() and ways.isdecimal() and int(sets) and int(ways):
            found[level] = of_size(int(sets) * int(ways) * LINE_BYTES, int(ways))
    return tuple(found[level] for level in sorted(found))
