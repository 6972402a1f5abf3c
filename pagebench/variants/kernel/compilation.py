"""Compile a source against a kernel tree: by its kbuild, or by the compiler directly.

kbuild runs shells, so it gets plain paths only; the compiler is called without one.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pagebench.variants import compiler
from pagebench.variants.kernel import flags
from pagebench.variants.kernel.flags import OPTIONAL, OURS

# What a shell, make and kbuild all take for nothing but a path.
PLAIN = re.compile(r"[A-Za-z0-9_./+-]+")
SECONDS = 300
# Of the environment, what would make another build of it.
MEANT_FOR_MAKE = re.compile(r"(GNU)?MAKE|KBUILD|KC|ARCH$|CROSS_COMPILE$|LLVM|CFLAGS|[OMVWC]$")

SOURCE, OBJECT = "kernel_tree.c", "kernel_tree.o"

# Tracing prologues are kept out, by the names that kbuild knows since v5.8 and before; so are return thunks.
# What UBSAN checks stays checked, as with CONFIG_UBSAN_TRAP, but nobody could report it here.
KBUILD = """\
obj-m := probe.o kernel_tree.o
ccflags-remove-y := $(CC_FLAGS_FTRACE)
CFLAGS_REMOVE_probe.o := $(CC_FLAGS_FTRACE)
CFLAGS_REMOVE_kernel_tree.o := $(CC_FLAGS_FTRACE)
ccflags-y := {optional} {flags}
"""

# Without a path, a warning or a definition in them: flags that can change code.
CHANGES_CODE = re.compile(r"-(?:[fmO]|std=)(?!.*prefix-map=)")


@dataclass(frozen=True, slots=True)
class Compilation:
    """A way to compile against a tree: a command that lacks source and output, and where it runs.

    ``how`` is "kbuild" or "direct", ``why`` what kept kbuild from it.
    """

    how: str
    why: str
    command: tuple[str, ...]
    cwd: Path

    @property
    def cflags(self) -> str:
        """The flags that can change code."""
        return " ".join(word for word in self.command[1:] if CHANGES_CODE.match(word))


class Log:
    """Every command with what it said, in one file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def run(self, argv: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a program without a shell, its messages untranslated.

        Raises CompilerError when it cannot be started or does not end.
        """
        environment = {k: v for k, v in os.environ.items() if not MEANT_FOR_MAKE.match(k)}
        try:
            done = subprocess.run(
                argv,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                check=False,
                timeout=SECONDS,
                env={**environment, "LC_ALL": "C"},
            )
        except OSError as error:
            raise compiler.CompilerError(f"cannot run {argv[0]}: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            raise compiler.CompilerError(f"{argv[0]} did not end in {SECONDS} s") from error
        with self._path.open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(f"{shlex.join(argv)}\n{done.stdout}{done.stderr}\n")
        return done


def by_kbuild(source: Path, tree: Path, cc: Sequence[str], scratch: Path, log: Log) -> Compilation | str:
    """How the tree's kbuild compiles ``probe.c`` in ``scratch``; a string where it does not."""
    if odd := next(
        (word for word in map(str, (source, tree, scratch, *cc)) if not PLAIN.fullmatch(word)), ""
    ):
        return f"kbuild does not take the path {odd!r}"
    scratch.joinpath("Kbuild").write_text(_kbuild(OURS))
    try:
        message = make(source, tree, cc, scratch, log, "probe.o")
    except compiler.CompilerError as error:
        message = str(error)
    if message:
        return message
    words = _command(scratch / ".probe.o.cmd")
    if not words:
        return "kbuild left no command"
    return Compilation("kbuild", "", tuple(words), tree)


def _kbuild(flags: Sequence[str]) -> str:
    """The Kbuild file that compiles our sources with these flags."""
    return KBUILD.format(
        optional=" ".join(map("$(call cc-option,{})".format, OPTIONAL)), flags=" ".join(flags)
    )


def make(source: Path, tree: Path, cc: Sequence[str], scratch: Path, log: Log, target: str) -> str:
    """Have kbuild make one object in ``scratch``; what was wrong, or nothing."""
    argv = ["make", "-C", str(source), f"M={scratch}", f"CC={' '.join(cc)}", "V=1", target]
    # For an O= directory kbuild has to be told: its own Makefile may name a place it was moved from.
    if source != tree:
        argv.insert(3, f"O={tree}")
    done = log.run(argv, scratch)
    if done.returncode == 0 and scratch.joinpath(target).exists():
        return ""
    return _first_error(done.stderr)


def _first_error(messages: str) -> str:
    """The compiler's first error; where there is none, what was said before make gave up."""
    lines = re.split(r"^make.*\*\*\*", messages, flags=re.MULTILINE)[0].strip().splitlines()
    return compiler.first_error(messages) if ": error: " in messages or not lines else lines[-1]


def _command(file: Path) -> list[str]:
    """The compiler's words in a .cmd file, without source, output and dependency file."""
    try:
        first = file.read_text().splitlines()[0]
        words = shlex.split(first.split(":=", 1)[1].replace("$$", "$").replace(r"\#", "#"))
    except (OSError, ValueError, IndexError):
        return []
    ends = [i for i, word in enumerate(words) if word == ";" or word.endswith(";")]
    words = words[: ends[0] + 1] if ends else words
    words[-1] = words[-1].rstrip(";")
    return (
        [word for word in words[: words.index("-c")] if not word.startswith("-Wp,")] if "-c" in words else []
    )


def directly(
    source: Path, tree: Path, arch: str, config: frozenset[str], cc: Sequence[str], log: Log, why: str
) -> Compilation:
    """The command that calls the compiler with the tree's include paths and flags.

    ``arch`` is the directory under arch/, ``config`` the options that are =y.  Raises CompilerError where the
    flags for an architecture are not known.
    """
    if arch not in flags.DIRECT:
        known = ", ".join(flags.DIRECT)
        raise compiler.CompilerError(
            f"kbuild does not compile for {arch} here ({why}), and without it pagebench knows {known} only"
        )
    tree_flags = _known(flags.flags(arch, config), cc, log, tree)
    paths = [
        path
        for shared, generated in (
            (f"arch/{arch}/include", f"arch/{arch}/include/generated"),
            ("include", "include"),
            (f"arch/{arch}/include/uapi", f"arch/{arch}/include/generated/uapi"),
            ("include/uapi", "include/generated/uapi"),
        )
        for path in (source / shared, tree / generated)
    ]
    words = [*cc, "-nostdinc"]
    if not (source / "include/linux/stdarg.h").exists():  # v5.15 and before
        words += ["-isystem", log.run([*cc, "-print-file-name=include"], tree).stdout.strip()]
    for path in paths:
        words += ["-I", str(path)]
    for header in ("compiler-version.h", "kconfig.h", "compiler_types.h"):
        if (source / "include/linux" / header).exists():
            words += ["-include", str(source / "include/linux" / header)]
    words += ["-D__KERNEL__", "-DMODULE", '-DKBUILD_MODNAME="kernel_tree"', '-DKBUILD_BASENAME="kernel_tree"']
    return Compilation("direct", why, (*words, *tree_flags), tree)


def _known(flags: Sequence[str], cc: Sequence[str], log: Log, cwd: Path) -> list[str]:
    """Those of the flags that the compiler knows: without those that it complains of."""
    test = ["-Werror", "-S", "-x", "c", os.devnull, "-o", os.devnull]
    known = list(flags)
    while (done := log.run([*cc, *known, *test], cwd)).returncode:
        named = set(re.findall(r"[\w=.+-]+", done.stderr))
        refused = re.findall(r"unsupported argument '(.*?)' to option '-?(.*?)'", done.stderr)
        named |= {f"-{option}{argument}" for argument, option in refused}
        if not named.intersection(known):
            error = compiler.first_error(done.stderr)
            raise compiler.CompilerError(f"{Path(cc[0]).name} does not take the kernel's flags: {error}")
        known = [flag for flag in known if flag not in named]
    return known


def choose(
    source: Path,
    tree: Path,
    arch: str,
    config: frozenset[str],
    cc: Sequence[str],
    scratch: Path,
    log: Log,
    why: str = "",
) -> Compilation:
    """By kbuild where it compiles a file that includes <linux/mm.h>, else, or given a reason, directly.

    Raises CompilerError with the first error where that does not compile either way.
    """
    probe = scratch / "probe.c"
    probe.write_text("#include <linux/mm.h>\n#include <generated/utsrelease.h>\nint pb_probe;\n")
    compilation = why or by_kbuild(source, tree, cc, scratch, log)
    if isinstance(compilation, str):
        compilation = directly(source, tree, arch, config, cc, log, compilation)
        done = log.run([*compilation.command, "-fsyntax-only", str(probe)], compilation.cwd)
        if done.returncode:
            error = compiler.first_error(done.stderr)
            raise compiler.CompilerError(
                f"{Path(cc[0]).name} cannot compile the tree's <linux/mm.h>: {error}"
            )
    return compilation


# Found by trying, not by version: each line the body of a function, with what it says of the tree.
TRIALS = (
    ("PB_TREE_SET_THREE", "set_compound_head(page, page, order);"),
    ("PB_TREE_SET_TWO", "set_compound_head(page, page);"),
    ("PB_TREE_IS_FAKE", "order = page_is_fake_head(page);"),
    ("PB_TREE_FIXED", "order = page_fixed_fake_head(page) != page;"),
)


def compile_tree(
    how: Compilation, source: Path, tree: Path, cc: Sequence[str], scratch: Path, log: Log
) -> Compilation:
    """Compile kernel_tree.c in ``scratch`` to ``OBJECT``; returns how it was done in full.

    Raises CompilerError with the first error.
    """
    defines: list[str] = []
    for define, body in TRIALS:
        if (define, *defines[-1:]) in {
            ("PB_TREE_SET_TWO", "-DPB_TREE_SET_THREE"),
            ("PB_TREE_FIXED", "-DPB_TREE_IS_FAKE"),
        }:
            continue
        trial = scratch / "trial.c"
        trial.write_text(
            "#include <linux/mm.h>\nvoid pb_try(struct page *page, unsigned int order);\n"
            f"void pb_try(struct page *page, unsigned int order)\n{{\n\t{body}\n}}\n"
        )
        argv = [*how.command, *OURS, "-fsyntax-only", str(trial)]
        if not log.run(argv, how.cwd).returncode:
            defines.append(f"-D{define}")
    if how.how == "kbuild":
        scratch.joinpath("Kbuild").write_text(_kbuild([*OURS, *defines]))
        if message := make(source, tree, cc, scratch, log, OBJECT):
            raise compiler.CompilerError(f"kbuild cannot compile kernel_tree.c: {message}")
        return replace(how, command=tuple(_command(scratch / f".{OBJECT}.cmd")))
    argv = [*how.command, *defines, "-c", str(scratch / SOURCE), "-o", str(scratch / OBJECT)]
    done = log.run(argv, how.cwd)
    if done.returncode:
        error = compiler.first_error(done.stderr)
        raise compiler.CompilerError(f"{Path(cc[0]).name} cannot compile kernel_tree.c: {error}")
    return how
