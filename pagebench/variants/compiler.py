"""Compile variants: the kernel's flags, as far as a compiler knows them.

Used by build.py for the built-in variants and at run time for others, so it
imports nothing outside the standard library.  No shell sees a path.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pagebench import architecture
from pagebench.errors import PagebenchError

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

# Looked for at run time, in this order, where neither --cc nor $CC names one.
NAMES = ("cc", "gcc", "clang")


class CompilerError(PagebenchError):
    """A compiler that cannot be run, or did not accept a source."""


def find(cc: str | None = None) -> list[str]:
    """The words to call a compiler with, the first of them an absolute path.

    ``cc``: a name or path, or one with options, quoted as for a shell; $CC or the first there is of ``NAMES``
    by default.  Raises CompilerError where there is none.
    """
    asked = cc or os.environ.get("CC", "").strip()
    if not asked:
        path = next(filter(None, map(shutil.which, NAMES)), None)
        if not path:
            raise CompilerError(
                f"there is no C compiler ({', '.join(NAMES)}): install gcc or clang, or name one with $CC"
            )
        return [str(Path(path).absolute())]
    try:
        words = [asked] if shutil.which(asked) else shlex.split(asked)
    except ValueError:
        words = []
    path = shutil.which(words[0]) if words else None
    if not path:
        by = "--cc" if cc else "$CC"
        raise CompilerError(f"there is no compiler {asked!r} ({by}): install it or name another with --cc")
    return [str(Path(path).absolute()), *words[1:]]


def run(argv: Sequence[str | os.PathLike[str]]) -> subprocess.CompletedProcess[str]:
    """Run a compiler without a shell, its messages untranslated.

    Raises CompilerError when it cannot be started.
    """
    try:
        return subprocess.run(
            argv,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as error:
        raise CompilerError(f"cannot run the compiler {os.fspath(argv[0])}: {error.strerror}") from error


def version(cc: Sequence[str]) -> str:
    """All that the compiler says of itself.

    Raises CompilerError when it cannot be started.
    """
    return run([*cc, "--version"]).stdout


def variant_cflags(cc: Sequence[str], machine: str | None = None) -> list[str]:
    """The flags that this compiler compiles variants with.

    ``machine`` is a ``uname -m``; the running one by default.  Raises
    PagebenchError where pagebench has no probes for it.
    """
    flags = [*COMMON, *architecture.find(machine).variant_cflags]
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
    compile_logged([*cc, *flags, "-c", source, "-o", output], source.name)


def compile_logged(argv: Sequence[str | os.PathLike[str]], what: str, log: Path | None = None) -> None:
    """Run a compiler and keep its command line and its messages in ``log``.

    Raises CompilerError with the first error in compiling ``what``, and when it cannot be started.
    """
    done = run(argv)
    if log:
        command = shlex.join(os.fspath(word) for word in argv)
        log.write_text(f"{command}\n{done.stdout}{done.stderr}", encoding="utf-8", errors="surrogateescape")
    if done.returncode:
        name = Path(argv[0]).name
        raise CompilerError(f"{name} cannot compile {what}: {first_error(done.stderr or done.stdout)}")


def first_error(messages: str) -> str:
    """The line of a compiler's or linker's messages that says what is wrong."""
    lines = [line.strip() for line in messages.splitlines()]
    wrong = (line for line in lines if re.search(r"\berror: |undefined (reference|symbol)", line))
    return next(wrong, lines[0] if lines else "no message")


def sources() -> Path:
    """The directory of the C core's sources: beside the package in a checkout, inside once installed.

    Raises CompilerError where it is in neither place.
    """
    package = Path(__file__).resolve().parent.parent
    for directory in (package / "csrc", package.parent / "csrc"):
        if directory.is_dir():
            return directory
    raise CompilerError(f"the C core's sources are not beside {package}: install pagebench again")
