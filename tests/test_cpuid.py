"""TLBs by CPUID, from what CPUs were seen to say."""

from __future__ import annotations

import platform
from collections.abc import Mapping

import pytest

from pagebench import core
from pagebench.cache import cpuid
from pagebench.results.simulated import Tlb, Tlbs

Said = Mapping[tuple[int, int], tuple[int, int, int, int]]


def by(said: Said) -> cpuid.Cpuid:
    return lambda leaf, subleaf: said.get((leaf, subleaf))


def translations(*rows: tuple[int, int, int, int, int, bool]) -> Said:
    """Intel's leaf, of (kind, level, sizes, ways, sets, fully associative)."""
    return {
        (0x18, subleaf): (
            len(rows) - 1 if not subleaf else 0,
            ways << 16 | sizes,
            sets,
            kind | level << 5 | fully << 8,
        )
        for subleaf, (kind, level, sizes, ways, sets, fully) in enumerate(rows)
    }


# Sunny Cove: loads of 4K, of 2M, of 1G, stores; and the second level in two parts.
SUNNY_COVE = translations(
    (0, 0, 0, 0, 0, False),
    (2, 1, 1, 8, 16, False),
    (4, 1, 1, 4, 16, False),
    (4, 1, 6, 4, 8, False),
    (4, 1, 8, 8, 1, True),
    (5, 1, 15, 16, 1, True),
    (3, 2, 7, 8, 128, False),
    (3, 2, 9, 8, 128, False),
)
ZEN_3: Said = {
    (0x8000_0005, 0): (0xFF40FF40, 0xFF40FF40, 0x20080140, 0x20080140),
    (0x8000_0006, 0): (0x48002200, 0x68004200, 0x02006140, 0x01009140),
}


def test_intels() -> None:
    assert cpuid.tlbs(by(SUNNY_COVE)) == Tlbs(Tlb(64, 4), Tlb(32, 4), Tlb(2048, 16))


def test_amds() -> None:
    assert cpuid.tlbs(by(ZEN_3)) == Tlbs(Tlb(64, 64), None, Tlb(2048, 8))


def test_one_of_two_sizes_is_one() -> None:
    said = translations((1, 1, 3, 6, 16, False), (3, 2, 3, 16, 128, False))
    assert cpuid.tlbs(by(said)) == Tlbs(Tlb(96, 6), None, Tlb(2048, 16))


@pytest.mark.parametrize(
    "said",
    [
        {},
        {(0x18, 0): (0, 0, 0, 0)},
        translations((4, 1, 1, 4, 16, False)),  # no second level
        {**ZEN_3, (0x8000_0005, 0): (0, 0, 0x20080140, 0x20080140)},
        {**ZEN_3, (0x8000_0006, 0): (0, 0, 0x02006140, 0)},  # as KVM may say
        {**ZEN_3, (0x8000_0006, 0): (0, 0x98004200, 0, 0)},  # "see leaf 8000_001Dh"
    ],
    ids=["nothing", "null", "half", "no first", "no second", "elsewhere"],
)
def test_too_little_is_none(said: Said) -> None:
    assert cpuid.tlbs(by(said)) is None


@pytest.mark.skipif(platform.machine() != "x86_64", reason="CPUID is x86's")
def test_this_cpu_is_asked() -> None:
    vendor = core.cpuid(0)
    assert vendor is not None
    name = b"".join(register.to_bytes(4, "little") for register in (vendor[1], vendor[3], vendor[2]))
    assert name.isascii()
    assert core.cpuid(0x4FFF_FFFF) is None
