"""The architectures: what differs between them, one description each; C's half is csrc/arch/NAME.h."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass

from pagebench.errors import PagebenchError


@dataclass(frozen=True, slots=True)
class StaticBranch:
    """What stands where a kernel's code goes by a static key: a nop, or a jump of the same size.

    A jump is a little-endian word: ``opcode``, and over ``bits`` bits from bit ``shift`` on its displacement
    in units of ``unit`` bytes, from the jump's end where ``from_end``, otherwise from its beginning.
    """

    nop: bytes
    opcode: int
    shift: int
    bits: int
    unit: int
    from_end: bool

    def jump(self, distance: int) -> bytes | None:
        """The jump to what is ``distance`` bytes from its own beginning; None where it does not reach."""
        count, rest = divmod(distance - len(self.nop) * self.from_end, self.unit)
        if rest or not -(1 << self.bits - 1) <= count < 1 << self.bits - 1:
            return None
        word = self.opcode | (count & (1 << self.bits) - 1) << self.shift
        return word.to_bytes(len(self.nop), "little")


@dataclass(frozen=True, slots=True)
class Architecture:
    """What pagebench has to know of one.

    ``name`` is a ``uname -m`` and ``counter`` what the counter of csrc/arch is called.  ``variant_cflags``
    are the kernel's flags that change code, for variants; ``kernel_cflags`` all of them, for a tree whose
    kbuild does not run, empty where they are not known.  ``kconfig`` is its option in Kconfig, ``directory``
    its place under arch/.  ``registers`` has every register under the name of the 64 bits that it is part
    of; ``instruction_alignment`` is in bytes.  ``capstone``: that library's names for architecture and mode.
    """

    name: str
    counter: str
    variant_cflags: tuple[str, ...]
    kernel_cflags: str
    kconfig: str
    directory: str
    static_branches: tuple[StaticBranch, ...]
    registers: Mapping[str, str]
    instruction_alignment: int
    capstone: tuple[str, str]


X86_64 = Architecture(
    name="x86_64",
    counter="TSC",
    variant_cflags=("-m64", "-mno-sse", "-mno-mmx", "-mno-80387", "-mtune=generic", "-fcf-protection=none"),
    # What arch/x86/Makefile and Makefile set and what changes code.
    kernel_cflags=(
        "-m64 -fno-PIE -mno-sse -mno-mmx -mno-sse2 -mno-3dnow -mno-avx -mno-sse4a -mno-80387 "
        "-mno-fp-ret-in-387 -falign-jumps=1 -falign-loops=1 -mpreferred-stack-boundary=3 "
        "-mstack-alignment=8 -mskip-rax-setup -mno-red-zone -mcmodel=kernel "
        "-fno-asynchronous-unwind-tables -fcf-protection=none -fshort-wchar -funsigned-char -fno-common "
        "-fno-strict-aliasing -fno-strict-overflow -fms-extensions -fno-delete-null-pointer-checks "
        "-fno-allow-store-data-races -fno-stack-protector -fno-stack-check -fno-jump-tables "
        "-fconserve-stack -fomit-frame-pointer"
    ),
    kconfig="X86_64",
    directory="x86",
    static_branches=(  # arch/x86/include/asm/nops.h, v4.4 and later; objtool writes the short one
        StaticBranch(bytes.fromhex("6690"), 0xEB, shift=8, bits=8, unit=1, from_end=True),
        StaticBranch(bytes.fromhex("0f1f440000"), 0xE9, shift=8, bits=32, unit=1, from_end=True),
    ),
    registers={
        **{p: f"r{x}x" for x in "abcd" for p in (f"r{x}x", f"e{x}x", f"{x}x", f"{x}l", f"{x}h")},
        **{p: f"r{x}" for x in ("si", "di", "bp", "sp") for p in (f"r{x}", f"e{x}", x, f"{x}l")},
        **{f"r{n}{p}": f"r{n}" for n in range(8, 16) for p in ("", "d", "w", "b")},
        **{"rip": "rip", "rflags": "flags"},
    },
    instruction_alignment=1,
    capstone=("CS_ARCH_X86", "CS_MODE_64"),
)

AARCH64 = Architecture(
    name="aarch64",
    counter="CNTVCT",
    variant_cflags=("-mgeneral-regs-only", "-mno-outline-atomics"),
    kernel_cflags="",
    kconfig="ARM64",
    directory="arm64",
    static_branches=(  # arch/arm64/include/asm/jump_label.h: nop, or b
        StaticBranch(bytes.fromhex("1f2003d5"), 0x14000000, shift=0, bits=26, unit=4, from_end=False),
    ),
    registers={
        **{f"{p}{n}": f"x{n}" for n in (*range(31), "zr") for p in "xw"},
        **{"fp": "x29", "lr": "x30", "sp": "sp", "wsp": "sp"},
    },
    instruction_alignment=4,
    capstone=("CS_ARCH_ARM64", "CS_MODE_ARM"),
)

# By `uname -m`.
ARCHITECTURES: Mapping[str, Architecture] = {one.name: one for one in (X86_64, AARCH64)}


def find(name: str | None = None) -> Architecture:
    """The architecture of a ``uname -m``, the running one by default.  Raises PagebenchError for others."""
    name = name or platform.machine()
    if name not in ARCHITECTURES:
        raise PagebenchError(f"pagebench has probes for {' and '.join(ARCHITECTURES)}, not for {name}")
    return ARCHITECTURES[name]
