"""Data TLBs by CPUID, for a CPU that no table has.

Intel's leaf 18h (Software Developer's Manual, volume 2A) and AMD's 8000_0005h and 8000_0006h (Architecture
Programmer's Manual, volume 3).  Hypervisors often leave them out, or say something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from pagebench.results.simulated import Tlb, Tlbs

Cpuid = Callable[[int, int], tuple[int, int, int, int] | None]

# Intel: what a translation cache is for, and its page sizes.
_DATA, _UNIFIED, _LOADS = 1, 3, 4
_SMALL, _HUGE = 1, 2
# AMD's codes of associativity in leaf 8000_0006h; 15 is full.
_WAYS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 16, 10: 32, 11: 48, 12: 64, 13: 96, 14: 128}
_FULLY = 15


class _Translations(NamedTuple):
    level: int
    sizes: int
    tlb: Tlb


def tlbs(cpuid: Cpuid) -> Tlbs | None:
    """Both levels; None where CPUID says too little of them."""
    return _by_intel(cpuid) or _by_amd(cpuid)


def _by_intel(cpuid: Cpuid) -> Tlbs | None:
    found = list(_translations(cpuid))

    def largest(level: int, sizes: int) -> Tlb | None:
        fitting = [one.tlb for one in found if one.level == level and one.sizes & sizes]
        return max(fitting, key=lambda tlb: tlb.entries, default=None)

    first, huge, second = largest(1, _SMALL), largest(1, _HUGE), largest(2, _SMALL)
    if first is None or second is None:
        return None
    # What has entries of 4K in several parts has all of them.
    parts = [one.tlb for one in found if one.level == 2 and one.sizes & _SMALL]
    whole = Tlb(sum(tlb.entries for tlb in parts), sum(tlb.ways for tlb in parts))
    return Tlbs(first, None if huge == first else huge, whole)


def _translations(cpuid: Cpuid) -> Iterator[_Translations]:
    head = cpuid(0x18, 0)
    for subleaf in range(1 + (head[0] if head else -1)):
        _, ebx, sets, edx = cpuid(0x18, subleaf) or (0, 0, 0, 0)
        if edx & 31 in (_DATA, _UNIFIED, _LOADS):
            ways = ebx >> 16
            entries = ways * sets
            if entries:
                yield _Translations(edx >> 5 & 7, ebx & 15, Tlb(entries, entries if edx & 256 else ways))


def _by_amd(cpuid: Cpuid) -> Tlbs | None:
    first, second = cpuid(0x8000_0005, 0), cpuid(0x8000_0006, 0)
    if first is None or second is None:
        return None
    small, huge = (_first_level(register) for register in (first[1], first[0]))
    ways, entries = second[1] >> 28, second[1] >> 16 & 0xFFF
    if small is None or not entries or ways not in (*_WAYS, _FULLY):
        return None
    return Tlbs(small, None if huge in (small, None) else huge, Tlb(entries, _WAYS.get(ways, entries)))


def _first_level(register: int) -> Tlb | None:
    """The data half: how many ways, 255 for all, and entries."""
    ways, entries = register >> 24, register >> 16 & 0xFF
    if not ways or not entries:
        return None
    return Tlb(entries, entries if ways == 0xFF else ways)
