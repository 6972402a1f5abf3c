"""What was timed: the machine code of a probe and the form of its tail test.

Everything is read from the bytes that run.  Values are followed through the
variant's instructions, from the load of the word at offset 8 of the page to the
first instruction that decides by its bit 0.  What cannot be followed is an
error, never a guess.
"""

from __future__ import annotations

import platform
import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import capstone

from pagebench import core
from pagebench.errors import PagebenchError

Form = Literal["branch", "select", "arith", "none"]


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of a probe; jumps name their target by its offset.

    ``offset`` and ``size`` are in bytes.  ``tail_test`` is set for the test of
    bit 0 of the word and for the instruction that consumes it, ``loop_control``
    for what steps, compares or tests the loop's index.
    """

    offset: int
    size: int
    mnemonic: str
    operands: str
    in_variant: bool
    tail_test: bool
    loop_control: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """A probe's machine code, taken apart.

    ``variant_bytes`` and ``bytes`` are the sizes of the variant's own
    instructions and of the whole probe; ``loop_instructions`` counts the loop
    with the variant in it.  ``harness`` is the loop without the variant, in the
    order of execution from the variant's end round to its beginning.
    ``immovable`` is empty where the code may be copied to another address, and
    says why it may not otherwise.
    """

    instructions: tuple[Instruction, ...]
    form: Form
    variant_instructions: int
    variant_bytes: int
    loop_instructions: int
    bytes: int
    harness: tuple[Instruction, ...]
    immovable: str


# Every general-purpose register, under the name of the 64 bits it is part of.
_WIDE = {
    **{part: f"r{x}x" for x in "abcd" for part in (f"r{x}x", f"e{x}x", f"{x}x", f"{x}l", f"{x}h")},
    **{part: f"r{x}" for x in ("si", "di", "bp", "sp") for part in (f"r{x}", f"e{x}", x, f"{x}l")},
    **{f"r{n}{part}": f"r{n}" for n in range(8, 16) for part in ("", "d", "w", "b")},
    **{f"{part}{n}": f"x{n}" for n in (*range(31), "zr") for part in "xw"},
    **{"fp": "x29", "lr": "x30", "sp": "sp", "wsp": "sp", "rip": "rip", "rflags": "flags"},
}
_REGISTER = re.compile(rf"\b(?:{'|'.join(_WIDE)})\b")
_JUMPS_IF = re.compile(r"j(?!mp).+|loop.*|bc?\..+|[ct]bn?z")
_NO_WAY_ON = {"jmp", "b", "br", "ret", "ud1", "ud2", "int3", "hlt", "brk", "udf"}
# Where UBSAN traps, clang puts its reason into an operand, which capstone 5 forgets.
_CLANG_TRAP = re.compile(rb"\x67\x0f\xb9\x40.", re.DOTALL)
# aarch64: what does not write its first operand, and what writes and reads flags.
_NO_RESULT = re.compile(r"cmp|cmn|tst|ccm[pn]|[ct]bn?z|b(l|r|lr|c?\..+)?|ret|st(l?u?r[bh]?|n?p)|prfu?m")
_SETS_FLAGS = re.compile(r"cmp|cmn|tst|ccm[pn]|(add|sub|and|bic|neg|adc|sbc)s")
_READS_FLAGS = re.compile(r"bc?\..+|ccm[pn]|cs.+|cinc|cinv|cneg|(adc|sbc|ngc)s?")


class _Op(NamedTuple):
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
    def target(self) -> int | None:
        """Where a direct jump goes."""
        jumps = _JUMPS_IF.fullmatch(self.name) or self.name in {"jmp", "b"}
        return _number(self.args[-1]) if jumps else None

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
        constant = self.name in {"add", "sub", "subs"} and _number(self.args[-1]) is not None
        adds = constant or self.name in {"inc", "dec", "lea"}
        return next(iter(self.reads)) if adds and self.reads == self.writes - {"flags"} else ""

    def __str__(self) -> str:
        return f"`{self.mnemonic} {self.operands}` at {self.offset:#x}"


def _number(text: str) -> int | None:
    try:
        return int(text.lstrip("#"), 0)
    except ValueError:
        return None


def _registers(text: str) -> set[str]:
    return {_WIDE[name] for name in _REGISTER.findall(text)}


def _writes_back(args: list[str]) -> bool:
    """Whether an aarch64 load or store steps its address too."""
    return any(arg.endswith("]!") for arg in args) or (len(args) > 2 and args[-2].endswith("]"))


_Access = tuple[list[str], set[str], set[str]]  # sources, reads, writes


def _access_x86(raw: Any, name: str, args: list[str]) -> _Access:
    reads, writes = ({_WIDE.get(n, n) for n in map(raw.reg_name, numbers)} for numbers in raw.regs_access())
    if name == "lea":  # computes an address and reads nothing there
        return [] if "*" in args[1] else _REGISTER.findall(args[1]), reads, writes
    if name.startswith("cmov"):
        reads |= writes  # capstone forgets that the destination may stay
    return args[1:] if re.match(r"c?mov|set", name) else args, reads, writes


def _access_aarch64(raw: Any, name: str, args: list[str]) -> _Access:
    # By the text, since capstone 5 has cmp write an operand and cbnz read flags.
    results = 0 if _NO_RESULT.fullmatch(name) else 2 if re.match(r"ldn?p|lda?xp", name) else 1
    writes = _registers(" ".join(args[:results]))
    reads = _registers(" ".join(args if name in {"movk", "bfi", "bfxil"} else args[results:]))
    if _writes_back(args):
        writes |= _registers(next(arg for arg in args if arg.startswith("[")))
    writes |= {"flags"} if _SETS_FLAGS.fullmatch(name) else set()
    reads |= {"flags"} if _READS_FLAGS.fullmatch(name) else set()
    return args[results:], reads, writes


_MACHINES: dict[str, tuple[int, int, Callable[[Any, str, list[str]], _Access]]] = {
    "x86_64": (capstone.CS_ARCH_X86, capstone.CS_MODE_64, _access_x86),
    "aarch64": (capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM, _access_aarch64),
}


def _decode(probe: core.Probe, machine: str) -> dict[int, _Op]:
    """The instructions of a probe by their offsets."""
    if machine not in _MACHINES:
        raise PagebenchError(f"pagebench disassembles {' and '.join(_MACHINES)}, not {machine}")
    architecture, mode, access = _MACHINES[machine]
    disassembler = capstone.Cs(architecture, mode)
    disassembler.detail = True
    ops: dict[int, _Op] = {}
    begin, end = -1, 0
    while begin != end:
        begin = end
        for raw in disassembler.disasm(probe.code[begin:], begin):
            name = raw.mnemonic.split()[-1]
            args = re.split(r", (?![^\[]*\])", raw.op_str) if raw.op_str else []
            trap = _CLANG_TRAP.match(probe.code, raw.address) if name == "ud1" else None
            size = len(trap[0]) if trap else raw.size
            described = raw.address, size, raw.mnemonic, raw.op_str, name, args
            ops[raw.address] = _Op(*described, *access(raw, name, args))
            end = raw.address + size
            if trap:
                break
    if end != len(probe.code):
        raise PagebenchError(f"the probe {probe.name}: no {machine} instruction begins at {end:#x}")
    return ops


def _reach(ops: Mapping[int, _Op], starts: Iterable[int], among: Collection[int]) -> dict[int, _Op]:
    """What control flow reaches from ``starts`` inside ``among``, in order of execution."""
    found: dict[int, _Op] = {}
    stack = list(starts)
    while stack:
        at = stack.pop()
        if at in among and at in ops and at not in found:
            found[at] = ops[at]
            stack.extend(reversed(ops[at].successors))
    return found


class _Value(NamedTuple):
    """What is known of a register, of the flags or of memory.

    ``entry``: as when the variant began, perhaps the page; ``word``: its bit 0
    tells that of the word; ``bit``: nothing but that bit, found by the
    instruction at offset ``test``; ``mixed``: depends on the word otherwise;
    ``other``: does not depend on it.
    """

    kind: Literal["entry", "word", "bit", "mixed", "other"]
    test: int = -1

    @property
    def of_word(self) -> bool:
        return self.kind in {"word", "bit", "mixed"}


_ENTRY, _WORD, _MIXED, _OTHER = _Value("entry"), _Value("word"), _Value("mixed"), _Value("other")
_State = Mapping[str, _Value]

_WORD_ADDRESS = re.compile(r"(?:\w+ ptr )?\[(?!rsp|sp|rip)(\w+)(?: \+ |, #)8\]")
_SELECTS = re.compile(r"cmov.+|csel|csinc|csinv|csneg|cinc|cinv|cneg")
_COPIES = re.compile(r"mov(zx|sxd?|abs)?|[us]xt[bhw]|ldu?r(s?[bhw])?|lda(p|pu)?r")
_ANDS = re.compile(r"ands?|test|tst")
# With a constant, bit 0 of the result tells bit 0 of the operand.
_LINEAR = re.compile(r"adds?|subs?|cmp|cmn|xor|eor|negs?|not|mvn|inc|dec|lea")
_SHIFTS = re.compile(r"sh[lr]|sa[lr]|lsl|lsr|asr")
_READ_ONLY = {"test", "cmp", "bt", "nop"}


def _value(text: str, state: _State) -> _Value:
    """What an operand holds."""
    if "[" not in text:
        value = state.get(_WIDE.get(text, text), _ENTRY)
        return _MIXED if value.of_word and re.fullmatch(r"[abcd]h", text) else value
    address = _WORD_ADDRESS.fullmatch(text)
    if address and _value(address[1], state) == _ENTRY:
        return _WORD
    return _MIXED if any(state.get(r, _ENTRY).of_word for r in {"memory"} | _registers(text)) else _OTHER


def _result(op: _Op, state: _State) -> _Value:
    """What an instruction computes."""
    if op.name.startswith(("stxr", "stlxr")):
        return _OTHER  # whether the store was exclusive: tells nothing of the word
    constants = [number for text in op.sources if (number := _number(text)) is not None]
    operands = {text for text in op.sources if _number(text) is None}
    if len(operands) == 1 and "flags" not in op.reads:
        (text,) = operands
        value = _value(text, state)
        simple = any(names.fullmatch(op.name) for names in (_ANDS, _LINEAR, _SHIFTS))
        if _COPIES.fullmatch(op.name) or (value.kind == "bit" and simple):
            return value
        if value.kind == "word" and len(op.sources) == 1 + len(constants):
            return _of_word(op, text, constants)
    inputs = [state.get(register, _ENTRY) for register in op.reads]
    inputs += [_value(text, state) for text in operands if "[" in text]
    if op.name in {"xor", "eor", "sub", "sbb"} and len(operands) == 1 and not constants:
        inputs = [state.get("flags", _ENTRY)] if op.name == "sbb" else []  # of a register with itself
    if inputs and all(value.kind == "bit" for value in inputs):
        return inputs[0]
    return _MIXED if any(value.of_word for value in inputs) else _OTHER


def _of_word(op: _Op, operand: str, constants: list[int]) -> _Value:
    """What an instruction computes from the word and constants."""
    bit = _Value("bit", op.offset)
    top = 31 if re.match(r"e|w|r\d+d", operand) else 63
    if _ANDS.fullmatch(op.name) and constants:
        return bit if constants[0] == 1 else _WORD if constants[0] & 1 else _MIXED
    if (op.name, *constants) in {("bt", 0), ("ubfx", 0, 1), ("sbfx", 0, 1), ("shl", top), ("lsl", top)}:
        return bit
    return _WORD if _LINEAR.fullmatch(op.name) else _MIXED


def _decides_by(op: _Op, state: _State) -> _Value:
    """What a conditional jump or a select goes by; _OTHER for everything else."""
    if op.name in {"tbz", "tbnz"}:
        value = _value(op.args[0], state)
        return _Value("bit", op.offset) if value.kind == "word" and _number(op.args[1]) == 0 else value
    if op.name in {"cbz", "cbnz", "jrcxz", "jecxz"}:
        return _value(next(iter(op.reads)), state)
    decides = _JUMPS_IF.fullmatch(op.name) or _SELECTS.fullmatch(op.name)
    return state.get("flags", _ENTRY) if decides else _OTHER


def _tail_test(probe: core.Probe, variant: Mapping[int, _Op]) -> tuple[Form, set[int]]:
    """The form of the tail test, and the offsets of its instructions."""
    form: Form = "none"
    test: set[int] = set()
    pending: deque[tuple[int, _State]] = deque([(probe.variant_code[0], {})])
    seen = set()
    while pending:
        at, state = pending.popleft()
        known = (at, frozenset(state.items()))
        if at not in variant or known in seen:
            continue
        seen.add(known)
        op = variant[at]
        value = _decides_by(op, state)
        if value.kind == "bit":
            return "branch" if _JUMPS_IF.fullmatch(op.name) else "select", {value.test, at}
        if value.of_word:
            raise PagebenchError(
                f"the probe {probe.name}: {op} decides by the word at offset 8 of the page, "
                "but not by a test of its bit 0 that pagebench knows"
            )
        result = _result(op, state)
        after = {**state, **dict.fromkeys(op.writes, result)}
        if result.of_word:
            form = "arith"
            if result.kind == "bit":
                test = test or {result.test}
            into_memory = "[" in "".join(op.args[:1]) and op.name not in _READ_ONLY
            if into_memory or op.name.startswith(("st", "push")):
                after["memory"] = _MIXED  # what is loaded from now on may be the word
        pending.extend((successor, after) for successor in op.successors)
    retried = {op.args[0] for op in variant.values() if op.name.startswith(("stxr", "stlxr"))}
    for op in variant.values():
        if op.name.startswith("cb") and op.args[0] in retried:
            continue  # an exclusive store that has to be tried again
        if form == "none" and (_JUMPS_IF.fullmatch(op.name) or _SELECTS.fullmatch(op.name)):
            raise PagebenchError(
                f"the probe {probe.name}: {op} decides, but the word at offset 8 is never read"
            )
    return form, test


def _immovable(ops: Iterable[_Op], size: int) -> str:
    """Why the code may not be copied to another address."""
    for op in ops:
        literal = op.name.startswith(("ldr", "prfm")) and op.args[1].startswith("#")
        if "rip" in _registers(op.operands) or op.name in {"adr", "adrp"} or literal:
            return f"{op} addresses memory relative to itself"
        if op.name in {"call", "bl"} and _number(op.args[0]) is not None:
            return f"{op} calls a function at a distance"
        if op.target is not None and not 0 <= op.target < size:
            return f"{op} jumps out of the probe"
    return ""


def _loop_control(loop: Mapping[int, _Op], variant: Collection[int]) -> set[int]:
    """The offsets of what steps, compares or tests the loop's index."""
    stepped = {op.steps for op in loop.values()} - {""}
    index = {r for r in stepped if all(op.steps == r for op in loop.values() if r in op.writes)}
    control = {
        at for at, op in loop.items() if op.writes and op.writes <= index | {"flags"} and op.reads & index
    }
    leaves = {
        at for at, op in loop.items() if _JUMPS_IF.fullmatch(op.name) and not loop.keys() >= {*op.successors}
    }
    return control | (leaves - {*variant})


def analyse(probe: core.Probe, machine: str | None = None) -> Listing:
    """Disassemble a probe and tell the variant's own code, its form and the harness apart.

    ``machine`` is a ``uname -m``, the running one by default.  An instruction in
    the variant's code that only steps or compares the loop's index is the
    harness's: compilers schedule those across the marks.  Raises PagebenchError
    for code that cannot be followed.
    """
    ops = _decode(probe, machine or platform.machine())
    begin, end = probe.variant_code
    region = _reach(ops, [begin], ops.keys() - {end})
    if begin != end and not any(end in op.successors for op in region.values()):
        raise PagebenchError(f"the probe {probe.name}: the variant's code never reaches its end at {end:#x}")
    ahead = _reach(ops, [begin], ops)
    loop = {at: op for at, op in ahead.items() if begin in _reach(ops, op.successors, ops)}
    control = _loop_control(loop, region)
    own = {at: op for at, op in region.items() if at not in control}
    form, test = _tail_test(probe, region)
    instructions = {
        at: Instruction(at, op.size, op.mnemonic, op.operands, at in own, at in test, at in control)
        for at, op in ops.items()
    }
    harness = [*_reach(ops, [end], loop.keys() - region.keys()), *(region.keys() & control)]
    return Listing(
        instructions=tuple(instructions.values()),
        form=form,
        variant_instructions=len(own),
        variant_bytes=sum(op.size for op in own.values()),
        loop_instructions=len(loop),
        bytes=len(probe.code),
        harness=tuple(instructions[at] for at in harness),
        immovable=_immovable(ops.values(), len(probe.code)),
    )


def harness_shape(listing: Listing) -> tuple[str, ...]:
    """The loop around a variant, for comparison with that around another one.

    In order of execution, registers and moves between them left out, then what
    controls the loop, sorted: equal for all variants of a probe by one compiler.
    """
    work: list[str] = []
    control: list[str] = []
    for instruction in listing.harness:
        name = instruction.mnemonic.split()[-1]
        text = _REGISTER.sub("r", f"{instruction.mnemonic} {instruction.operands}")
        if _JUMPS_IF.fullmatch(name):
            (control if instruction.loop_control else work).append("repeat")
        elif instruction.loop_control:
            control.append(re.sub(r" (r, )+", " ", text))
        elif stepping := re.fullmatch(r"(.*\]), (#\w+)", text):
            work.append(stepping[1])
            control.append(f"add {stepping[2]}")
        elif name not in {"jmp", "b"} and text != "mov r, r":
            work.append(text)
    return (*work, *sorted(control))
