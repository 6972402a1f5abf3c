"""Instructions by hand: what each reads and writes, and where execution goes on."""

from __future__ import annotations

import pytest
from test_form import probe

from pagebench.code.disassembly import Op, decode, parse_number, registers
from pagebench.errors import PagebenchError


def one(code: str, machine: str) -> Op:
    (op,) = decode(probe(code, (0, 0)), machine).values()
    return op


ACCESSES = {
    "mov rax, [rdi+8]": ("x86_64", "488b4708", {"rdi"}, {"rax"}),
    "mov eax, [rdi]": ("x86_64", "8b07", {"rdi"}, {"rax"}),
    "cmove rax, rcx": ("x86_64", "480f44c1", {"rax", "rcx", "flags"}, {"rax"}),
    "lea rax, [rdx-1]": ("x86_64", "488d42ff", {"rdx"}, {"rax"}),
    "test dl, 1": ("x86_64", "f6c201", {"rdx"}, {"flags"}),
    "add rsi, 4": ("x86_64", "4883c604", {"rsi"}, {"rsi", "flags"}),
    "jne": ("x86_64", "7502", {"flags"}, set()),
    "ldr x0, [x1], #8": ("aarch64", "208440f8", {"x1"}, {"x0", "x1"}),
    "str x0, [x1]": ("aarch64", "200000f9", {"x0", "x1"}, set()),
    "ldp x0, x2, [x1]": ("aarch64", "200840a9", {"x1"}, {"x0", "x2"}),
    "csel x0, x1, x2, ne": ("aarch64", "2010829a", {"x1", "x2", "flags"}, {"x0"}),
    "cmp x0, #0": ("aarch64", "1f0000f1", {"x0"}, {"flags"}),
    "cbz x0": ("aarch64", "400000b4", {"x0"}, set()),
}


@pytest.mark.parametrize("name", ACCESSES)
def test_what_is_read_and_written(name: str) -> None:
    machine, code, reads, writes = ACCESSES[name]
    op = one(code, machine)
    assert op.mnemonic == name.split()[0]
    assert (op.reads, op.writes) == (reads, writes)


@pytest.mark.parametrize(
    ("machine", "code", "target", "successors"),
    [
        ("x86_64", "90", None, [1]),
        ("x86_64", "7502", 4, [2, 4]),
        ("x86_64", "eb02", 4, [4]),
        ("x86_64", "c3", None, []),
        ("aarch64", "1f2003d5", None, [4]),
        ("aarch64", "400000b4", 8, [4, 8]),
        ("aarch64", "40000037", 8, [4, 8]),  # tbnz w0, #0
        ("aarch64", "41000054", 8, [4, 8]),  # b.ne
        ("aarch64", "02000014", 8, [8]),
        ("aarch64", "c0035fd6", None, []),
    ],
)
def test_where_it_goes_on(machine: str, code: str, target: int | None, successors: list[int]) -> None:
    op = one(code, machine)
    assert (op.target, op.successors) == (target, successors)


@pytest.mark.parametrize(
    ("machine", "code", "register"),
    [
        ("x86_64", "4883c604", "rsi"),  # add rsi, 4
        ("x86_64", "48ffc6", "rsi"),  # inc rsi
        ("x86_64", "488d7604", "rsi"),  # lea rsi, [rsi+4]
        ("x86_64", "488d4604", ""),  # lea rax, [rsi+4]
        ("x86_64", "4801c6", ""),  # add rsi, rax
        ("aarch64", "208440f8", "x1"),  # ldr x0, [x1], #8
        ("aarch64", "21100091", "x1"),  # add x1, x1, #4
        ("aarch64", "20100091", ""),  # add x0, x1, #4
    ],
)
def test_what_steps_a_register(machine: str, code: str, register: str) -> None:
    assert one(code, machine).steps == register


def test_clangs_trap_is_one_instruction_with_its_reason() -> None:
    ops = decode(probe("670fb94002 c3", (0, 0)), "x86_64")
    assert [(op.offset, op.size, op.name) for op in ops.values()] == [(0, 5, "ud1"), (5, 1, "ret")]
    assert ops[0].successors == []


def test_what_is_no_code_is_refused_with_its_place() -> None:
    with pytest.raises(PagebenchError, match="no aarch64 instruction begins at 0x4"):
        decode(probe("1f2003d5 ffff", (0, 0)), "aarch64")


def test_numbers_and_registers_in_operands() -> None:
    assert [parse_number(text) for text in ("#8", "0x10", "-1", "rax")] == [8, 16, -1, None]
    assert registers("dword ptr [ecx + r8d*4]") == {"rcx", "r8"}
    assert registers("w3, [x4, #8]") == {"x3", "x4"}
