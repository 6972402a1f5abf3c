"""The architectures: Python's half held to C's, and jumps to the disassembler."""

from __future__ import annotations

import dataclasses
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagebench import architecture, core
from pagebench.architecture import ARCHITECTURES, StaticBranch
from pagebench.code import disassembly
from pagebench.errors import PagebenchError

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
BRANCHES = [(one.name, branch) for one in ARCHITECTURES.values() for branch in one.static_branches]


def decoded(code: bytes, machine: str) -> disassembly.Op:
    """The one instruction that these bytes are."""
    probe = core.built_in_variants()["identity"].probes["lookup"]
    (op,) = disassembly.decode(dataclasses.replace(probe, code=code), machine).values()
    return op


def test_each_has_a_header_that_the_dispatcher_includes() -> None:
    assert ARCHITECTURES.keys() == {header.stem for header in (CSRC / "arch").glob("*.h")}
    dispatcher = (CSRC / "arch.h").read_text()
    included = re.findall(r'defined\(__(\w+)__\)\n#include "arch/(\w+)\.h"', dispatcher)
    assert dict(included) == {name: name for name in ARCHITECTURES}


def test_nothing_else_in_c_asks_for_an_architecture() -> None:
    files = [*CSRC.rglob("*.[ch]"), *(ROOT / "tests").glob("*.c")]
    asking = [file.name for file in files if re.search(r"__(x86_64|aarch64|arm\w*|i386)__", file.read_text())]
    assert asking == ["arch.h"]


def test_the_running_one_is_the_default() -> None:
    assert architecture.find() is ARCHITECTURES[platform.machine()]
    assert all(architecture.find(name).name == name for name in ARCHITECTURES)
    with pytest.raises(PagebenchError, match=r"probes for x86_64 and aarch64, not for riscv64"):
        architecture.find("riscv64")


def test_the_disassembler_knows_every_one_and_its_registers() -> None:
    for one in ARCHITECTURES.values():
        code = b"".join(branch.nop for branch in one.static_branches[:1])
        assert decoded(code, one.name).size == len(code)
        assert set(one.registers.values()) <= set(disassembly.WIDE.values())


@pytest.mark.parametrize(("machine", "branch"), BRANCHES)
@given(data=st.data())
def test_a_jump_goes_where_it_should(machine: str, branch: StaticBranch, data: st.DataObject) -> None:
    reach = branch.unit << branch.bits - 1
    count = data.draw(st.integers(-reach // branch.unit, reach // branch.unit - 1))
    distance = count * branch.unit + len(branch.nop) * branch.from_end
    jump = branch.jump(distance)
    assert jump is not None and len(jump) == len(branch.nop)
    target = decoded(jump, machine).target
    assert target is not None and (target - distance) % (1 << 64) == 0
    assert decoded(branch.nop, machine).target is None


@pytest.mark.parametrize(("machine", "branch"), BRANCHES)
def test_a_jump_that_does_not_reach_is_none(machine: str, branch: StaticBranch) -> None:
    reach, end = branch.unit << branch.bits - 1, len(branch.nop) * branch.from_end
    assert branch.jump(end + reach) is branch.jump(end - reach - branch.unit) is None
    assert branch.jump(end + reach - branch.unit) and branch.jump(end - reach)
    assert branch.unit == 1 or branch.jump(end + 1) is None


def test_what_build_py_imports_needs_the_standard_library_alone() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import pagebench.variants.compiler"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, ROOT], capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr
