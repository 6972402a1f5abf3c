"""Compile variants: the kernel's flags, as far as a compiler knows them.

Used by build.py for the built-in variants and at run time for others, so it
imports nothing outside the standard library.
"""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

# What the kernel's Makefile sets and what changes code: no aliasing or
# overflow assumptions, no vector registers, no unrolling, loops unaligned.
# -fPIC instead of -mcmodel=kernel: the loops run in user space.
COMMON = (
    "-O2",
    "-std=gnu11",
    "-fPIC",
    "-fvisibility=hidden",
    "-fno-strict-aliasing",
    "-fno-strict-overflow",
    "-fno-delete-null-pointer-checks",
    "-fno-common",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fno-unroll-loops",
    "-fno-tree-vectorize",
    "-fomit-frame-pointer",
)
# Left out where the compiler does not know them, as kbuild's cc-option does.
OPTIONAL = (
    "-fno-reorder-blocks-and-partition",
    "-fno-allow-store-data-races",
    "-falign-loops=1",
    "-falign-jumps=1",
    "-U_FORTIFY_SOURCE",
)
MACHINE = {
    "x86_64": ("-m64", "-mno-sse", "-mno-mmx", "-mno-80387", "-mtune=generic", "-fcf-protection=none"),
    "aarch64": ("-mgeneral-regs-only", "-mno-outline-atomics"),
}


class CompilerError(Exception):
    """A compiler that cannot be run, or did not accept a source."""


def run(argv: Sequence[str | os.PathLike[str]]) -> subprocess.CompletedProcess[str]:
    """Run a compiler without a shell.

    Raises CompilerError when it cannot be started.
    """
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise CompilerError(f"cannot run the compiler {os.fspath(argv[0])}: {error.strerror}") from error


def variant_cflags(cc: Sequence[str], machine: str | None = None) -> list[str]:
    """The flags that this compiler compiles variants with.

    ``machine`` is a ``uname -m``; the running one by default.  Raises
    CompilerError where pagebench has no probes for it.
    """
    machine = machine or platform.machine()
    if machine not in MACHINE:
        raise CompilerError(f"pagebench has probes for {' and '.join(MACHINE)}, not for {machine}")
    flags = [*COMMON, *MACHINE[machine]]
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "empty.c")
        source.write_text("int empty;\n")
        test: list[str | Path] = ["-Werror", "-c", source, "-o", Path(scratch, "empty.o")]
        flags += [flag for flag in OPTIONAL if not run([*cc, flag, *test]).returncode]
    return flags


def compile_object(cc: Sequence[str], flags: Sequence[str], source: Path, output: Path) -> None:
    """Compile one source to one object.

    Raises CompilerError with the compiler's first error.
    """
    done = run([*cc, *flags, "-c", source, "-o", output])
    if done.returncode:
        lines = done.stderr.splitlines()
        first = next((line for line in lines if "error" in line), lines[0] if lines else "no message")
        raise CompilerError(f"{shlex.join(cc)} cannot compile {source.name}: {first}")
