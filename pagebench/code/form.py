"""What was timed: the machine code of a probe and the form of its tail test.

Everything is read from the bytes that run.  Values are followed through the
variant's instructions, from the load of the word at offset 8 of the page to the
first instruction that decides by its bit 0.  What cannot be followed is an
error, never a guess.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import Literal, NamedTuple

from pagebench import core
from pagebench.code.disassembly import JUMPS_IF, WIDE, Op, decode, parse_number, registers
from pagebench.code.listing import Form, Instruction, Listing
from pagebench.errors import PagebenchError


def _reach(ops: Mapping[int, Op], starts: Iterable[int], among: Collection[int]) -> dict[int, Op]:
    """What control flow reaches from ``starts`` inside ``among``, in order of execution."""
    reached: dict[int, Op] = {}
    stack = list(starts)
    while stack:
        at = stack.pop()
        if at in among and at in ops and at not in reached:
            reached[at] = ops[at]
            stack.extend(reversed(ops[at].successors))
    return reached


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
        value = state.get(WIDE.get(text, text), _ENTRY)
        return _MIXED if value.of_word and re.fullmatch(r"[abcd]h", text) else value
    address = _WORD_ADDRESS.fullmatch(text)
    if address and _value(address[1], state) == _ENTRY:
        return _WORD
    return _MIXED if any(state.get(r, _ENTRY).of_word for r in {"memory"} | registers(text)) else _OTHER


def _result(op: Op, state: _State) -> _Value:
    """What an instruction computes."""
    if op.name.startswith(("stxr", "stlxr")):
        return _OTHER  # whether the store was exclusive: tells nothing of the word
    constants = [number for text in op.sources if (number := parse_number(text)) is not None]
    operands = {text for text in op.sources if parse_number(text) is None}
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


def _of_word(op: Op, operand: str, constants: list[int]) -> _Value:
    """What an instruction computes from the word and constants."""
    bit = _Value("bit", op.offset)
    top = 31 if re.match(r"e|w|r\d+d", operand) else 63
    if _ANDS.fullmatch(op.name) and constants:
        return bit if constants[0] == 1 else _WORD if constants[0] & 1 else _MIXED
    if (op.name, *constants) in {("bt", 0), ("ubfx", 0, 1), ("sbfx", 0, 1), ("shl", top), ("lsl", top)}:
        return bit
    return _WORD if _LINEAR.fullmatch(op.name) else _MIXED


def _decides_by(op: Op, state: _State) -> _Value:
    """What a conditional jump or a select goes by; _OTHER for everything else."""
    if op.name in {"tbz", "tbnz"}:
        value = _value(op.args[0], state)
        return _Value("bit", op.offset) if value.kind == "word" and parse_number(op.args[1]) == 0 else value
    if op.name in {"cbz", "cbnz", "jrcxz", "jecxz"}:
        return _value(next(iter(op.reads)), state)
    decides = JUMPS_IF.fullmatch(op.name) or _SELECTS.fullmatch(op.name)
    return state.get("flags", _ENTRY) if decides else _OTHER


def _tail_test(probe: core.Probe, variant: Mapping[int, Op]) -> tuple[Form, set[int]]:
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
            return "branch" if JUMPS_IF.fullmatch(op.name) else "select", {value.test, at}
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
        if form == "none" and (JUMPS_IF.fullmatch(op.name) or _SELECTS.fullmatch(op.name)):
            raise PagebenchError(
                f"the probe {probe.name}: {op} decides, but the word at offset 8 is never read"
            )
    return form, test


def _immovable(ops: Iterable[Op], size: int) -> str:
    """Why the code may not be copied to another address."""
    for op in ops:
        literal = op.name.startswith(("ldr", "prfm")) and op.args[1].startswith("#")
        if "rip" in registers(op.operands) or op.name in {"adr", "adrp"} or literal:
            return f"{op} addresses memory relative to itself"
        if op.name in {"call", "bl"} and parse_number(op.args[0]) is not None:
            return f"{op} calls a function at a distance"
        if op.target is not None and not 0 <= op.target < size:
            return f"{op} jumps out of the probe"
    return ""


def _loop_control(loop: Mapping[int, Op], variant: Collection[int]) -> set[int]:
    """The offsets of what steps, compares or tests the loop's index."""
    stepped = {op.steps for op in loop.values()} - {""}
    index = {r for r in stepped if all(op.steps == r for op in loop.values() if r in op.writes)}
    control = {
        at for at, op in loop.items() if op.writes and op.writes <= index | {"flags"} and op.reads & index
    }
    leaves = {
        at for at, op in loop.items() if JUMPS_IF.fullmatch(op.name) and not loop.keys() >= {*op.successors}
    }
    return control | (leaves - {*variant})


def analyse(probe: core.Probe, machine: str | None = None) -> Listing:
    """Disassemble a probe and tell the variant's own code, its form and the harness apart.

    ``machine`` is a ``uname -m``, the running one by default.  An instruction in
    the variant's code that only steps or compares the loop's index is the
    harness's: compilers schedule those across the marks.  Raises PagebenchError
    for code that cannot be followed.
    """
    ops = decode(probe, machine)
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
        at: Instruction(
            at, op.size, op.mnemonic, op.operands, at in own, at in test, at in control, in_loop=at in loop
        )
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
