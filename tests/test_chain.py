"""Chains of loops whose chains are known."""

from __future__ import annotations

import pytest
from compilers import skip_without
from hand_made import assembled, loop, probe

from pagebench import core
from pagebench.code.chain import chain, path_of
from pagebench.code.disassembly import Op, decode


def turn(text: str) -> list[Op]:
    return list(decode(loop(text), "x86_64").values())


# A turn: cycles in registers and loads, and the cycles where adding a constant takes none, if they differ.
CHAINS = {
    "mov rax, [rax]": (0, 1),
    "mov rax, [rax]; mov rax, [rax]": (0, 2),
    "mov rax, [rdi]": (0, 0),
    "add rax, rcx": (1, 0),
    "add rax, rcx; xor rax, rdx; or rax, rcx": (3, 0),
    "mov rax, [rax + 8]; and rax, rcx; not rax": (2, 1),
    "mov rcx, [rax + 8]; and rcx, rdx": (0, 0),
    "imul rax, rcx": (3, 0),
    "mov rcx, rax; mov rax, rcx": (0, 0),
    # However late it is what nobody waits for.
    "imul rax, rcx; mov rdx, [rsi]; add rsi, 4": (3, 0),
    # Two ways from rax to rax: the longer one.
    "mov rcx, rax; not rcx; not rcx; add rax, rcx": (3, 0),
    # By the flags, and by the value that stays.
    "test dl, 1; cmovne rax, rcx": (1, 0),
    "test al, 1; cmovne rax, rcx": (2, 0),
    "mov rdx, [rax + 8]; lea rcx, [rdx - 1]; test dl, 1; cmovne rax, rcx": (2, 1),
    # Conditional jumps are foreseen.
    "mov rdx, [rax + 8]; test dl, 1; jne . + 2": (0, 0),
    # Zero, whatever it was; a product with zero is not seen to be one.
    "xor eax, eax; add rax, rcx": (0, 0),
    "sub eax, eax; add rax, rcx": (0, 0),
    "and eax, 0; add rax, rcx": (2, 0),
    # The harness' own link: page after page through the head.
    "mov eax, [rsi]; lea rax, [rdi + rax*8]; add rax, rcx; mov rcx, rax; and ecx, 0; add rsi, 4": (2, 0, 2),
    # What is stored on the stack is forwarded; elsewhere nobody knows whether it is the same place.
    "mov [rsp - 8], rax; mov rax, [rsp - 8]": (0, 1),
    "mov [rsp - 8], rax; mov rax, [rsp - 16]": (0, 0),
    "mov [rsp - 8], rax; mov rcx, [rsp - 8]": (0, 0),
    "mov [rdi], rax; mov rax, [rdi]": (0, 0),
    "inc dword ptr [rsp - 8]": (1, 1),
    # To compare is not to store.
    "cmp qword ptr [rsp - 8], 1": (0, 0),
    "test byte ptr [rsp - 8], 1; setne al": (0, 0),
    "add rax, 8": (1, 0, 0),
    "sub rax, 1; inc rax; dec rax": (3, 0, 0),
    "lea rax, [rax + 8]": (1, 0, 0),
    "lea rax, [rax - 1]": (1, 0, 0),
    "lea rax, [rax + rcx]": (1, 0, 1),
    "lea rax, [rax + rcx*8 + 8]": (1, 0, 1),
    "add rax, [rdi + 8]": (1, 0, 1),
    "mov rax, [rax + 8]; add rax, 1": (1, 1, 0),
}


@pytest.mark.parametrize("text", CHAINS)
def test_what_a_turn_waits_for(text: str) -> None:
    cycles, loads, *renamed = CHAINS[text]
    assert chain(turn(text), False) == pytest.approx((cycles, loads))
    assert chain(turn(text), True) == pytest.approx((renamed[0] if renamed else cycles, loads))


AARCH64 = {
    "ldr x3, [x3, #8]": (0, 1),
    "add x3, x3, #8": (1, 0),
    "and x3, x3, xzr": (1, 0),
    "ldr x4, [x3, #8]; sub x5, x4, #1; tst x4, #1; csel x3, x5, x3, ne": (2, 1),
    "madd x3, x4, x5, x3": (3, 0),
    "eor x3, x3, x3": (1, 0),
    "ldr x4, [x3, #8]; tbnz w4, #0, . + 4": (0, 0),
    "str x3, [sp, #8]; ldr x3, [sp, #8]": (0, 1),
    "str x3, [sp, #8]; ldr x3, [sp, #16]": (0, 0),
    "str x3, [x0]; ldr x3, [x0]": (0, 0),
}


@pytest.mark.parametrize("text", AARCH64)
def test_what_a_turn_waits_for_on_aarch64(text: str) -> None:
    cc = "aarch64-linux-gnu-gcc"
    skip_without([cc], "gcc-aarch64-linux-gnu libc6-dev-arm64-cross")
    (code,) = assembled([text], "aarch64", (cc,))
    ops = list(decode(probe(code, (0, 0)), "aarch64").values())
    assert chain(ops, False) == pytest.approx(AARCH64[text])


LOOP = """\
1: mov eax, [rsi]
test al, 1
jne 3f
2: add rsi, 4
cmp rdx, rsi
jne 1b
ret
3: test al, 2
je 2b
dec rax
jmp 2b"""


def named(path: list[Op]) -> str:
    return " ".join(op.name for op in path)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([False, True], "mov test jne add cmp jne"),
        ([True, True, True], "mov test jne test je add cmp jne"),
        ([True, False, True], "mov test jne test je dec jmp add cmp jne"),
    ],
)
def test_a_path_is_as_told(outcomes: list[bool], expected: str) -> None:
    ops = decode(loop(LOOP), "x86_64")
    assert named(path_of(ops, 0, outcomes)) == expected


def test_a_path_may_begin_anywhere_in_its_turn() -> None:
    ops = decode(loop(LOOP), "x86_64")
    begin = next(op.offset for op in ops.values() if op.name == "cmp")
    path = path_of(ops, begin, [True, True, True])
    assert named(path) == "cmp jne mov test jne test je add"
    assert chain(path, False) == pytest.approx(chain([*path[2:], *path[:2]], False))


@pytest.mark.parametrize(
    ("variant", "probe_name", "loads"),
    [
        ("pointer-select", "chain", 1),
        ("pointer-branch", "chain", 0),
        ("identity", "chain", 0),
        ("mask", "flags", 2),
    ],
)
def test_built_in_loops(variant: str, probe_name: str, loads: int) -> None:
    """Of a tail: the head's flags are behind its own word; a branch is foreseen."""
    one = core.built_in_variants()[variant].probes[probe_name]
    ops = decode(one)
    begin = next(op.offset for op in ops.values() if op.memory)
    back = [op for op in ops.values() if op.jumps_if]
    outcomes = [op.target is not None and op.target < op.offset for op in back]
    cycles, found = chain(path_of(ops, begin, outcomes), False)
    assert found == pytest.approx(loads)
    assert 0 < cycles < 10
