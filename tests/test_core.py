"""The C core: driven by tests/core.c under other compilers and checkers, then through pagebench.core."""

from __future__ import annotations

import errno
import os
import platform
import re
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compilers import skip_without
from hypothesis import given
from hypothesis import strategies as st
from writable import is_writable

from pagebench import architecture, core
from pagebench.host import resources
from pagebench.names import BUILT_IN_STRUCT_PAGES
from pagebench.variants import compiler

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
MIB = 1 << 20
# Positive for the C library, yet beyond any address space: refused whatever vm.overcommit_memory says.
TOO_MUCH = 1 << 62


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
    "valgrind": Build("gcc", "gcc valgrind", run_by=MEMCHECK),
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


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def arena() -> Iterator[core.CodeArena]:
    with core.CodeArena(1 << 16) as arena:
        yield arena


@given(
    shift=st.integers(3, 24),
    size=st.integers(1, 4 * MIB),
    backing=st.sampled_from(["4k", "2m"]),
)
def test_reservations_are_aligned_and_zero(shift: int, size: int, backing: str) -> None:
    with core.Reservation(size, 1 << shift, backing) as memory:
        assert memory.base % (1 << shift) == 0
        assert memory.size == size
        for offset in (0, size - 1):
            assert memory.bytes_at(offset, 1) == b"\0"


def test_a_reservation_is_zero_even_where_one_was_before() -> None:
    for _ in range(3):
        with core.Reservation(MIB, 4096, "4k") as memory:
            assert not any(memory.bytes_at(0, MIB))
            core.ffi.memmove(core.ffi.cast("char *", memory.base), b"\xa5" * MIB, MIB)
            assert memory.bytes_at(MIB - 1, 1) == b"\xa5"


def test_a_backing_is_not_that_of_the_reservation_before() -> None:
    for alignment in (4096, 2 * MIB):
        core.Reservation(8 * MIB, alignment, "2m").close()
        with core.Reservation(8 * MIB, alignment, "4k") as memory:
            assert resources.backing_obtained(memory.base, memory.size) == {"4k": 8 * MIB, "2m": 0}


def test_a_reservation_is_resident_until_closed() -> None:
    before = resident_bytes()
    for backing in ("4k", "2m"):
        for _ in range(4):
            with core.Reservation(64 * MIB, 2 * MIB, backing):
                assert resident_bytes() - before > 63 * MIB
            assert resident_bytes() - before < 32 * MIB


def test_a_reservation_is_closed_once() -> None:
    memory = core.Reservation(4096, 4096, "4k")
    memory.close()
    memory.close()
    with memory:
        pass


def test_a_reservation_is_closed_on_the_way_out_of_an_error() -> None:
    before = resident_bytes()
    for _ in range(4):
        with pytest.raises(RuntimeError), core.Reservation(64 * MIB, 4096, "4k"):
            raise RuntimeError
    assert resident_bytes() - before < 32 * MIB


@pytest.mark.parametrize(
    ("offset", "size"), [(-1, 1), (0, 4097), (4096, 1), (4097, 0), (1, -1), (0, 1 << 70)]
)
def test_bytes_outside_a_reservation(offset: int, size: int) -> None:
    with core.Reservation(4096, 4096, "4k") as memory:
        assert memory.bytes_at(4096, 0) == b""
        with pytest.raises(IndexError, match="outside the 4096 bytes reserved"):
            memory.bytes_at(offset, size)


@pytest.mark.parametrize("backing", ["4k", "2m"])
def test_too_much_memory(backing: str) -> None:
    with pytest.raises(OSError, match=f"reserving {TOO_MUCH} bytes aligned to 4096: .*memory") as caught:
        core.Reservation(TOO_MUCH, 4096, backing)
    assert caught.value.errno == errno.ENOMEM


@pytest.mark.parametrize(("size", "alignment"), [(4096, 4097), (4096, 0), (0, 4096)])
def test_no_size_and_no_alignment(size: int, alignment: int) -> None:
    with pytest.raises(OSError, match=f"reserving {size} bytes aligned to {alignment}: Invalid") as caught:
        core.Reservation(size, alignment, "4k")
    assert caught.value.errno == errno.EINVAL


def test_too_much_code() -> None:
    with pytest.raises(OSError, match=f"reserving {TOO_MUCH} bytes for code: .*memory") as caught:
        core.CodeArena(TOO_MUCH)
    assert caught.value.errno == errno.ENOMEM


def test_an_arena_is_closed_once() -> None:
    arena = core.CodeArena(4096)
    arena.close()
    arena.close()


def test_code_outside_an_arena(arena: core.CodeArena) -> None:
    probe = core.built_in_variants()["pointer"].probes["lookup"]
    arena.copy(probe, arena.size - len(probe.code))
    for offset in (-1, arena.size - len(probe.code) + 1, 1 << 70):
        with pytest.raises(IndexError, match=f"outside the arena's {arena.size}"):
            arena.copy(probe, offset)


def test_copies_are_the_code_and_find_the_same(arena: core.CodeArena) -> None:
    step = architecture.find().instruction_alignment
    variant = core.built_in_variants()["pointer-branch"]
    probe = variant.probes["lookup"]
    runs = [arena.copy(probe, 1024 * i + i * step) for i in range(16)]
    assert all(arena.holds(probe, run) for run in runs)
    assert not arena.holds(probe, runs[3] + 1)
    arena.seal()
    with Memmap(variant, order=3, folios=8) as memmap:
        for run in runs:
            assert core.verify(run, memmap.base, memmap.offsets, memmap.heads) == core.Verification(0, 0, 0)


def test_frames_alias_and_are_unmapped_once() -> None:
    frames = core.FrameMapping(np.array([0, 0, 1], np.uint32), np.array([True, False, True]), 1 << 16)
    assert frames.base % (1 << 16) == 0
    assert is_writable(frames.base)
    assert not is_writable(frames.base + 4096)
    core.ffi.memmove(core.ffi.cast("char *", frames.base), b"head", 4)
    for alias in (frames.base + 4096, frames.all_frames):
        assert bytes(core.view(alias, 5)) == b"head\0"
    frames.close()
    frames.close()


class Memmap:
    """Folios of one order, populated, with a lookup for each of their pages."""

    def __init__(self, variant: core.Variant, order: int, folios: int) -> None:
        pages = folios << order
        unit = variant.struct_page_bytes // core.OFFSET_UNIT
        self.offsets = np.arange(pages, dtype=np.uint32) * np.uint32(unit)
        self.heads = self.offsets[np.arange(pages) >> order << order]
        self.memory = core.Reservation(pages * variant.struct_page_bytes, 1 << 20, "4k")
        self.base = self.memory.base
        rows = np.zeros(folios, core.FOLIO_DTYPE)
        rows["head"], rows["order"] = self.offsets[:: 1 << order], order
        core.populate(variant, self.base, rows)

    def write_word(self, lookup: int, word: int) -> None:
        """Give a page this compound_head or compound_info."""
        address = self.base + int(self.offsets[lookup]) * core.OFFSET_UNIT + 8
        core.ffi.cast("uint64_t *", address)[0] = word

    def __enter__(self) -> Memmap:
        return self

    def __exit__(self, *exception: object) -> None:
        self.memory.close()


LOOKING = sorted(set(core.built_in_variants()) - {"identity"})


@given(
    name=st.sampled_from(LOOKING),
    size=st.sampled_from(BUILT_IN_STRUCT_PAGES),
    probe=st.sampled_from(["lookup", "chain", "flags"]),
    order=st.integers(1, 9),
    data=st.data(),
)
def test_verification_finds_what_was_planted(
    name: str, size: int, probe: str, order: int, data: st.DataObject
) -> None:
    variant = core.built_in_variants(size)[name]
    run = variant.probes[probe].run
    with Memmap(variant, order, folios=4) as memmap:
        tails = [i for i in range(4 << order) if i % (1 << order)]
        planted = sorted(data.draw(st.sets(st.sampled_from(tails), max_size=5)))
        shuffle = np.array(data.draw(st.permutations(range(4 << order))) if order < 4 else [*tails, 0])
        for tail in planted:
            memmap.write_word(tail, 0)
        found = core.verify(run, memmap.base, memmap.offsets[shuffle], memmap.heads[shuffle])
        where = np.flatnonzero(np.isin(shuffle, planted))
        assert found.wrong == len(planted)
        if planted:
            assert found.first == where[0]
            assert found.got == memmap.offsets[shuffle[where[0]]] * core.OFFSET_UNIT


def test_verification_gives_what_was_got_on_either_side_of_the_base() -> None:
    variant = core.built_in_variants()["pointer"]
    with Memmap(variant, order=2, folios=2) as memmap:
        for distance in (-64, 1 << 40):
            memmap.write_word(5, (memmap.base + distance) | 1)
            run = variant.probes["lookup"].run
            found = core.verify(run, memmap.base, memmap.offsets, memmap.heads)
            assert found == core.Verification(wrong=1, first=5, got=distance)


def test_a_batch_of_nothing() -> None:
    samples = np.zeros(1, core.SAMPLE_DTYPE)
    samples["run"] = core.ADD_CHAIN
    with pytest.raises(OSError, match="a batch without lookups") as caught:
        core.run_samples(core.Clock(1_000_000), samples)
    assert caught.value.errno == errno.EINVAL


def test_clocks() -> None:
    assert core.Clock(1_000_000, "gettime").ticks_per_ns == 1
    assert core.Clock(1_000_000, "counter").kind == "counter"
    best = core.Clock(1_000_000)
    assert best.kind in core.Clock.KINDS
    assert best.granularity_ns > 0
    assert best.cost_ns >= 0


def test_pinning_to_no_cpu() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(OSError, match="pinning to CPU 4294967295") as caught:
        core.pin(2**32 - 1)
    assert caught.value.errno == errno.EINVAL
    assert os.sched_getaffinity(0) == before
