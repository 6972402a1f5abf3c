"""CPUs whose caches and TLBs are known: a row each, with where it is from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pagebench.names import LINE_BYTES
from pagebench.results.simulated import Cache, Tlb, Tlbs
from pagebench.units import KIB, MIB

WAYS = 16  # as many are simulated at most


@dataclass(frozen=True, slots=True)
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
    # And Emerald Rapids (207), whose cores are the same.
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
