"""What the recording rewrite emits: an architecture's instructions that save an address or an outcome.

None of them changes a flag, or a register but its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal, Protocol

from pagebench.code.disassembly import Op, parse_number

# Of a record: see recording.py.
BRANCH = 1 << 63
SITE_SHIFT = 48
# Where a rewritten loop begins to write, and where it ended.
BEGIN, END = "pb_records_begin", "pb_records_end"

Kind = Literal["load", "store", "update", "branch"]


class Emitter(Protocol):
    """What the rewrite needs to know of an architecture."""

    syntax: str
    needs: int  # registers
    candidates: tuple[str, ...]

    def enter(self, symbol: str, own: tuple[str, ...]) -> list[str]:
        """The function around the loop: own registers saved, the buffer's beginning loaded."""

    def record_access(self, op: Op, own: tuple[str, ...], site: int, where: int) -> list[str]:
        """The address of an instruction's operand into the buffer; ``where`` the instruction is timed."""

    def record_branch(self, op: Op, own: tuple[str, ...], site: int) -> list[str]:
        """Whether a conditional jump is taken."""

    def jump(self, op: Op, label: str) -> str:
        """The same jump to a label."""

    def moved(self, op: Op, own: tuple[str, ...], where: int) -> str:
        """An instruction that goes by its own place, as it has to be elsewhere; nothing for all others."""

    def implied(self, op: Op) -> tuple[Kind, str] | None:
        """What an instruction without a memory operand does on the stack: a kind and an operand."""

    def bytes_of(self, op: Op) -> int:
        """How many bytes its operand in memory has."""

    def kind_of(self, op: Op) -> Kind:
        """What it does to them."""

    def refused(self, op: Op) -> bool:
        """Whether nobody knows what it does to memory, or where it goes on."""


_SET_IF = re.compile(r"j(n?[abgl]e?|n?[ceopsz]|p[eo])")


class _X86:
    syntax = ".intel_syntax noprefix"
    needs = 3
    # Arguments stay what they are, rsp too.
    candidates = ("rax", "rbx", "rcx", "rbp", *(f"r{n}" for n in range(8, 16)))
    LOW: Mapping[str, str] = {
        "rax": "al",
        "rbx": "bl",
        "rcx": "cl",
        "rbp": "bpl",
        **{f"r{n}": f"r{n}b" for n in range(8, 16)},
    }
    SIZES: Mapping[str, int] = {"byte": 1, "word": 2, "dword": 4, "qword": 8}

    def enter(self, symbol: str, own: tuple[str, ...]) -> list[str]:
        saved = [f"push {name}" for name in own]
        restored = [f"pop {name}" for name in reversed(own)]
        # The stack is aligned at the call as it was at the caller's.
        return [
            *saved,
            "sub rsp, 16",
            f"mov {own[0]}, qword ptr {BEGIN}[rip]",
            f"call {symbol}_loop",
            f"mov qword ptr {END}[rip], {own[0]}",
            "add rsp, 16",
            *restored,
            "ret",
        ]

    def record_access(self, op: Op, own: tuple[str, ...], site: int, where: int) -> list[str]:
        cursor, address, _ = own
        implied, beside = self.implied(op), self._beside(op, where)
        place = implied[1] if implied else re.sub(r"^\w+ ptr ", "", op.memory)
        take = f"lea {address}, {place}" if beside is None else f"movabs {address}, {beside:#x}"
        return [take, *self._keep(cursor, address, site)]

    @staticmethod
    def _beside(op: Op, where: int) -> int | None:
        """The address that an operand relative to the instruction's end has."""
        found = re.search(r"\[rip(?: ([+-]) (\w+))?\]", op.operands)
        return where + op.size + int((found[1] or "") + (found[2] or "0"), 0) if found else None

    def moved(self, op: Op, own: tuple[str, ...], where: int) -> str:
        beside = self._beside(op, where)
        if beside is None:
            return ""
        if op.name == "lea":
            return f"movabs {op.args[0]}, {beside:#x}"
        operands = re.sub(r"\[rip[^]]*\]", f"[{own[1]}]", op.operands)
        return f"{op.mnemonic} {operands}"

    def record_branch(self, op: Op, own: tuple[str, ...], site: int) -> list[str]:
        cursor, _, outcome = own
        return [
            f"set{op.name[1:]} {self.LOW[outcome]}",
            *self._keep(cursor, outcome, BRANCH >> SITE_SHIFT | site),
        ]

    @staticmethod
    def _keep(cursor: str, value: str, top: int) -> list[str]:
        return [
            f"mov qword ptr [{cursor}], {value}",
            f"mov word ptr [{cursor} + 6], {top}",
            f"lea {cursor}, [{cursor} + 8]",
        ]

    def jump(self, op: Op, label: str) -> str:
        return f"{op.name} {label}"

    def implied(self, op: Op) -> tuple[Kind, str] | None:
        return {"push": ("store", "[rsp - 8]"), "pop": ("load", "[rsp]"), "ret": ("load", "[rsp]")}.get(
            op.name
        )  # type: ignore[return-value]

    def bytes_of(self, op: Op) -> int:
        return 8 if self.implied(op) else self.SIZES.get(op.memory.split()[0], 0)

    def kind_of(self, op: Op) -> Kind:
        implied = self.implied(op)
        if implied:
            return implied[0]
        only_reads = {"cmp", "test", "bt", "mul", "imul", "div", "idiv"}
        if op.name in only_reads or op.args[0] != op.memory:
            return "update" if op.name in {"xchg", "xadd"} else "load"
        return "store" if re.match(r"mov|set", op.name) else "update"

    def refused(self, op: Op) -> bool:
        strings = re.match(r"rep|(movs|stos|lods|scas|cmps)[bwdq]$", op.mnemonic)
        jumps = op.jumps_if and not _SET_IF.fullmatch(op.name)
        elsewhere = op.name in {"call", "enter", "leave", "xlatb", "syscall", "pushfq", "popfq"} or (
            op.name == "jmp" and op.target is None
        )
        segment = re.search(r"\b[defgs]s:", op.operands)
        stack = op.name in {"push", "pop"} and op.memory
        unknown = op.memory and not self.bytes_of(op)
        return bool(strings or jumps or elsewhere or segment or stack or unknown)


class _Aarch64:
    syntax = ".arch armv8-a"
    needs = 2
    # Neither arguments nor what the ABI gives a meaning (x16 to x18, fp, lr).
    candidates = (*(f"x{n}" for n in range(3, 16)), *(f"x{n}" for n in range(19, 29)))

    def enter(self, symbol: str, own: tuple[str, ...]) -> list[str]:
        return [
            f"stp {own[0]}, {own[1]}, [sp, #-32]!",
            "str x30, [sp, #16]",
            f"adrp {own[0]}, {BEGIN}",
            f"ldr {own[0]}, [{own[0]}, #:lo12:{BEGIN}]",
            f"bl {symbol}_loop",
            f"adrp {own[1]}, {END}",
            f"str {own[0]}, [{own[1]}, #:lo12:{END}]",
            "ldr x30, [sp, #16]",
            f"ldp {own[0]}, {own[1]}, [sp], #32",
            "ret",
        ]

    def record_access(self, op: Op, own: tuple[str, ...], site: int, where: int) -> list[str]:
        return [*self._address(op.memory, own[1]), *self._keep(own, site)]

    def moved(self, op: Op, own: tuple[str, ...], where: int) -> str:
        return ""

    @staticmethod
    def _address(memory: str, to: str) -> list[str]:
        """Into a register; post-indexed ones, whose step stands behind, go by the base alone."""
        inside = memory.rstrip("!").strip("[]").split(", ")
        base, rest = inside[0], inside[1:]
        if not rest:
            return [f"mov {to}, {base}"]
        step = parse_number(rest[0])
        if step is None:
            return [f"add {to}, {base}, {', '.join(rest)}"]
        add = "sub" if step < 0 else "add"
        # An immediate has 12 bits here, or those above.
        high, low = divmod(abs(step), 1 << 12)
        whole = [f"{add} {to}, {base}, #{high}, lsl #12"] if high else []
        return [*whole, f"{add} {to}, {to if high else base}, #{low}"]

    def record_branch(self, op: Op, own: tuple[str, ...], site: int) -> list[str]:
        to, top = own[1], BRANCH >> SITE_SHIFT | site
        if op.name in {"cbz", "cbnz"}:
            # As many leading zeros as bits, and no flag touched.
            narrow = op.args[0].startswith("w")
            name = to.replace("x", "w") if narrow else to
            outcome = [f"clz {name}, {op.args[0]}", f"lsr {to}, {to}, #{5 if narrow else 6}"]
            outcome += [f"eor {to}, {to}, #1"] if op.name == "cbnz" else []
        elif op.name in {"tbz", "tbnz"}:
            wide = re.sub("^w", "x", op.args[0])
            outcome = [f"ubfx {to}, {wide}, {op.args[1]}, #1"]
            outcome += [f"eor {to}, {to}, #1"] if op.name == "tbz" else []
        else:
            outcome = [f"cset {to}, {op.name.split('.')[1]}"]
        return [*outcome, *self._keep(own, top)]

    @staticmethod
    def _keep(own: tuple[str, ...], top: int) -> list[str]:
        cursor, value = own
        return [f"movk {value}, #{top}, lsl #48", f"str {value}, [{cursor}], #8"]

    def jump(self, op: Op, label: str) -> str:
        return f"{op.name} {', '.join([*op.args[:-1], label])}"

    def implied(self, op: Op) -> tuple[Kind, str] | None:
        return None

    def bytes_of(self, op: Op) -> int:
        exclusive = op.name.startswith(("stxr", "stlxr", "stxp", "stlxp"))
        first = op.args[1 if exclusive else 0]
        whole = {"w": 4, "x": 8}.get(first[0], 0)
        each = 4 if op.name.endswith("sw") else {"b": 1, "h": 2}.get(op.name[-1], whole)
        return each * (2 if re.match(r"(ld|st)n?p|lda?xp|stl?xp|casp", op.name) else 1)

    def kind_of(self, op: Op) -> Kind:
        if re.match(r"(ld|st)(add|clr|set|eor|[su]m(ax|in))|swp|cas", op.name):
            return "update"
        return "store" if op.name.startswith("st") else "load"

    def refused(self, op: Op) -> bool:
        literal = op.name.startswith(("ldr", "prfm")) and op.args[1].startswith("#")
        elsewhere = op.name in {"bl", "blr", "br", "svc", "adr", "adrp", "dc"} or op.name.startswith("bc.")
        odd = op.memory and (not op.name.startswith(("ld", "st", "swp", "cas")) or not self.bytes_of(op))
        return bool(literal or elsewhere or odd)


EMITTERS: Mapping[str, Callable[[], Emitter]] = {"x86_64": _X86, "aarch64": _Aarch64}
