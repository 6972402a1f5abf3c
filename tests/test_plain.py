"""Machine code of a result file as text, of any machine."""

from __future__ import annotations

import platform

from pagebench import core
from pagebench.code import form
from pagebench.code.plain import disassemble


def test_what_was_timed_reads_as_it_does_to_the_analysis() -> None:
    probe = core.built_in_variants()["branchless"].probes["chain"]
    lines = disassemble(platform.machine(), probe.code)
    assert len(lines) == len(form.analyse(probe).instructions)
    for line, instruction in zip(lines, form.analyse(probe).instructions, strict=True):
        assert line.split()[:2] == [f"{instruction.offset:x}", instruction.mnemonic.split()[0]]


def test_code_of_another_machine() -> None:
    assert disassemble("aarch64", bytes.fromhex("c0035fd6")) == ["    0  ret"]
    assert disassemble("x86_64", bytes.fromhex("c3")) == ["    0  ret"]
    assert disassemble("riscv64", bytes.fromhex("8280")) == ["    0  .byte 82 80"]


def test_bytes_that_are_no_instruction_are_shown() -> None:
    assert disassemble("x86_64", bytes.fromhex("c30f")) == ["    0  ret", "    1  .byte 0f"]
    assert disassemble("x86_64", b"") == []
