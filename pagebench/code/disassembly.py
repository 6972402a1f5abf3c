"""Machine code as instructions: what each one reads, writes and goes on to.

For x86-64 and aarch64, by capstone; what it does not say is read from the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import capstone

from pagebench import architecture, core
from pagebench.architecture import ARCHITECTURES
from pagebench.errors import PagebenchError

# Every register of every architecture, under the name of the 64 bits it is part of.
WIDE = {part: wide for one in ARCHITECTURES.values() for part, wide in one.registers.items()}
REGISTER = re.compile(rf"\b(?:{'|'.join(WIDE)})\b")
JUMPS_IF = re.compile(r"j(?!mp).+|loop.*|bc?\..+|[ct]bn?z")
# An address, or a place for one, and no access.
_NO_ACCESS = {"lea", "nop", "clflush", "clflushopt"}
_NO_WAY_ON = {"jmp", "b", "br", "ret", "ud1", "ud2", "int3", "hlt", "brk", "udf"}
# Where UBSAN traps, clang puts its reason into an operand, which capstone 5 forgets.
_CLANG_TRAP = re.compile(rb"\x67\x0f\xb9\x40.", re.DOTALL)
# aarch64: what does not write its first operand, and what writes and reads flags.
_NO_RESULT = re.compile(r"cmp|cmn|tst|ccm[pn]|[ct]bn?z|b(l|r|lr|c?\..+)?|ret|st(l?u?r[bh]?|n?p)|prfu?m")
_SETS_FLAGS = re.compile(r"cmp|cmn|tst|ccm[pn]|(add|sub|and|bic|neg|adc|sbc)s")
_READS_FLAGS = re.compile(r"bc?\..+|ccm[pn]|cs.+|cinc|cinv|cneg|(adc|sbc|ngc)s?")


class Op(NamedTuple):
    """A decoded instruction."""

    offset: int
    size: int
    mnemonic: str
    operands: str
    name: str  # the mnemonic without prefixes
    args: list[str]
    sources: list[str]  # the operands but for what is only written
    reads: set[str]  # wide registers and "flags"
    writes: set[str]

    @property
    def memory(self) -> str:
        """The operand in memory that it loads or stores, as written; nothing where it has none."""
        if self.name in _NO_ACCESS or self.name.startswith(("prf", "nop")):
            return ""
        return next((arg for arg in self.args if "[" in arg), "")

    @property
    def jumps_if(self) -> bool:
        """Whether it is a conditional jump."""
        return bool(JUMPS_IF.fullmatch(self.name))

    @property
    def target(self) -> int | None:
        """Where a direct jump goes."""
        jumps = self.jumps_if or self.name in {"jmp", "b"}
        return parse_number(self.args[-1]) if jumps else None

    @property
    def successors(self) -> list[int]:
        """Where execution goes on, straight ahead first."""
        ahead = [] if self.name in _NO_WAY_ON else [self.offset + self.size]
        return ahead if self.target is None else [*ahead, self.target]

    @property
    def steps(self) -> str:
        """The register that it adds a constant to, or nothing."""
        if _writes_back(self.args):
            return next(iter(self.reads & self.writes), "")
        constant = self.name in {"add", "sub", "subs"} and parse_number(self.args[-1]) is not None
        adds = constant or self.name in {"inc", "dec", "lea"}
        return next(iter(self.reads)) if adds and self.reads == self.writes - {"flags"} else ""

    def __str__(self) -> str:
        return f"`{self.mnemonic} {self.operands}` at {self.offset:#x}"


def parse_number(text: str) -> int | None:
    """An immediate operand's value; None of anything else."""
    try:
        return int(text.lstrip("#"), 0)
    except ValueError:
        return None


def registers(text: str) -> set[str]:
    """The registers that a text names, each by its full width's name."""
    return {WIDE[name] for name in REGISTER.findall(text)}


def _writes_back(args: list[str]) -> bool:
    """Whether an aarch64 load or store steps its address too."""
    return any(arg.endswith("]!") for arg in args) or (len(args) > 2 and args[-2].endswith("]"))


_Access = tuple[list[str], set[str], set[str]]  # sources, reads, writes


def _access_x86(raw: Any, name: str, args: list[str]) -> _Access:
    reads, writes = ({WIDE.get(n, n) for n in map(raw.reg_name, numbers)} for numbers in raw.regs_access())
    if name == "lea":  # computes an address and reads nothing there
        return [] if "*" in args[1] else REGISTER.findall(args[1]), reads, writes
    if name.startswith("cmov"):
        reads |= writes  # capstone forgets that the destination may stay
    return args[1:] if re.match(r"c?mov|set", name) else args, reads, writes


def _access_aarch64(raw: Any, name: str, args: list[str]) -> _Access:
    # By the text, since capstone 5 has cmp write an operand and cbnz read flags.
    results = 0 if _NO_RESULT.fullmatch(name) else 2 if re.match(r"ldn?p|lda?xp", name) else 1
    writes = registers(" ".join(args[:results]))
    reads = registers(" ".join(args if name in {"movk", "bfi", "bfxil"} else args[results:]))
    if _writes_back(args):
        writes |= registers(next(arg for arg in args if arg.startswith("[")))
    writes |= {"flags"} if _SETS_FLAGS.fullmatch(name) else set()
    reads |= {"flags"} if _READS_FLAGS.fullmatch(name) else set()
    return args[results:], reads, writes


# What an instruction reads and writes, as far as capstone can be believed.
_ACCESS: dict[str, Callable[[Any, str, list[str]], _Access]] = {
    "x86_64": _access_x86,
    "aarch64": _access_aarch64,
}


def decode(probe: core.Probe, machine: str | None = None) -> dict[int, Op]:
    """The instructions of a probe by their offsets.

    ``machine`` is a ``uname -m``, the running one by default.  Raises PagebenchError for one that pagebench
    does not know, and for what is no code of it.
    """
    known = architecture.find(machine)
    access = _ACCESS[known.name]
    disassembler = capstone.Cs(*(getattr(capstone, name) for name in known.capstone))
    disassembler.detail = True
    ops: dict[int, Op] = {}
    begin, end = -1, 0
    while begin != end:
        begin = end
        for raw in disassembler.disasm(probe.code[begin:], begin):
            name = raw.mnemonic.split()[-1]
            args = re.split(r", (?![^\[]*\])", raw.op_str) if raw.op_str else []
            trap = _CLANG_TRAP.match(probe.code, raw.address) if name == "ud1" else None
            size = len(trap[0]) if trap else raw.size
            described = raw.address, size, raw.mnemonic, raw.op_str, name, args
            ops[raw.address] = Op(*described, *access(raw, name, args))
            end = raw.address + size
            if trap:
                break
    if end != len(probe.code):
        raise PagebenchError(f"the probe {probe.name}: no {known.name} instruction begins at {end:#x}")
    return ops
