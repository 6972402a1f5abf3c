"""The C core under other compilers and checkers, driven by tests/core.c."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from compilers import skip_without

from pagebench import architecture
from pagebench.names import BUILT_IN_STRUCT_PAGES
from pagebench.variants import compiler

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"


@dataclass(frozen=True, slots=True)
class Build:
    """How tests/core.c is built, and what it is run by.

    ``packages``: what Debian calls that which may be missing.
    """

    cc: str
    packages: str
    target: str = platform.machine()
    flags: tuple[str, ...] = ()
    run_by: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


MEMCHECK = (
    "valgrind",
    "--quiet",
    "--error-exitcode=99",
    "--leak-check=full",
    "--errors-for-leak-kinds=all",
)
BUILDS = {
    "gcc": Build("gcc", "gcc"),
    "AddressSanitizer and UBSan": Build(
        "gcc",
        "gcc",
        flags=("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
        # The refusal of too much is ours to give.
        environment={"ASAN_OPTIONS": "allocator_may_return_null=1", "UBSAN_OPTIONS": "print_stacktrace=1"},
    ),
    "valgrind": Build("gcc", "gcc valgrind", run_by=MEMCHECK, environment={"CORE_WITHOUT_FAULTS": "1"}),
    "clang": Build("clang", "clang"),
    "aarch64": Build(
        "aarch64-linux-gnu-gcc",
        "gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user",
        target="aarch64",
        # gcc 12.2 for aarch64 makes 4, 4, 6, 6 of `f[i] = i / 8 * 8` in one arm of a vectorised loop.
        flags=("-static", "-fno-tree-vectorize"),
        run_by=() if platform.machine() == "aarch64" else ("qemu-aarch64",),
    ),
}


def settings() -> dict[str, Any]:
    """The extension's part of pyproject.toml."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        (extension,) = tomllib.load(file)["tool"]["setuptools"]["ext-modules"]
    return extension


def core_sources() -> list[Path]:
    """What the extension is built from beside the variants: see build.py."""
    run_time_only = {"kernel_tree.c"}  # over a kernel's headers
    return [source for source in sorted(CSRC.glob("*.c")) if source.name not in run_time_only]


class Drivers:
    """tests/core.c with the core by every compiler, each built once."""

    STRICT = ("-Wall", "-Wextra", "-Werror")

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch

    @cache  # noqa: B019  (as long-lived as the session)
    def variants(self, cc: str, target: str) -> tuple[list[str], list[Path]]:
        """The variants as build.py has them: their flags, their objects."""
        flags = compiler.variant_cflags([cc], target)
        objects = []
        for source in sorted((CSRC / "variants").glob("*.c")):
            for size in BUILT_IN_STRUCT_PAGES:
                objects.append(self.scratch / f"{source.stem}-{size}-{cc}.o")
                sized = [f"-DPB_STRUCT_PAGE={size}", f"-DPB_SUFFIX=_{size}"]
                compiler.compile_object([cc], [*flags, *self.STRICT, *sized], source, objects[-1])
        return flags, objects

    @cache  # noqa: B019
    def driver(self, cc: str, target: str, flags: tuple[str, ...]) -> Path:
        """The program; ``flags`` are for it and the core, never for the variants."""
        extension = settings()
        variant_flags, objects = self.variants(cc, target)
        program = self.scratch / "-".join(["core", cc, *(flag.strip("-") for flag in flags)])
        done = subprocess.run(
            [
                cc,
                *extension["extra-compile-args"],
                *self.STRICT,
                "-g",
                *flags,
                f"-DINSTRUCTION_ALIGNMENT={architecture.find(target).instruction_alignment}",
                f'-DPB_CFLAGS="{" ".join(variant_flags)}"',
                '-DPB_BUILT_COMMIT=""',
                f"-I{CSRC}",
                ROOT / "tests" / "core.c",
                *core_sources(),
                *objects,
                *extension["extra-link-args"],
                "-o",
                program,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert not done.returncode, done.stderr
        return program


@pytest.fixture(scope="session")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> Drivers:
    return Drivers(tmp_path_factory.mktemp("drivers"))


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
@pytest.mark.slow
def test_driver(build: Build, drivers: Drivers) -> None:
    skip_without([build.cc], build.packages, build.run_by)
    done = subprocess.run(
        [*build.run_by, drivers.driver(build.cc, build.target, build.flags)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | build.environment,
    )
    assert not done.returncode, done.stdout + done.stderr
    names = {f"{v.stem}/{size}" for v in (CSRC / "variants").glob("*.c") for size in BUILT_IN_STRUCT_PAGES}
    found = re.search(r"^(\d+) variants: (.*)$", done.stdout, re.MULTILINE)
    assert found
    assert (int(found[1]), set(found[2].split())) == (len(names), names)
    passed = re.fullmatch(r"(\d+) passed, 0 failed", done.stdout.splitlines()[-1])
    assert passed
    assert int(passed[1]) > 5 * len(names)
