"""The same machine code over the same bytes at the same addresses, recorded and under valgrind."""

from __future__ import annotations

import ctypes
import mmap
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pagebench import core
from pagebench.cache import recorded, traces
from pagebench.code.recording import BRANCH
from pagebench.memmap import patterns
from pagebench.memmap.folios import FolioMap

HERE = Path(__file__).resolve().parent
# As tests/cachegrind.c has them.
MEMMAP, OFFSETS, STACK_TOP, FLUSH = 0x800000000, 0x900000000, 0xB00000000 + (1 << 20), 0xC00000000
FIXED = 0x100000  # MAP_FIXED_NOREPLACE
RET = b"\xc3"


def at_address(address: int, size: int) -> mmap.mmap | None:
    """Memory at an address, for as long as the process lives."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | FIXED
    got = libc.mmap(address, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
    assert got == address, (got, ctypes.get_errno())
    return None


@contextmanager
def mapped(address: int, size: int) -> Iterator[int]:
    at_address(address, size)
    try:
        yield address
    finally:
        libc = ctypes.CDLL(None)
        libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        assert libc.munmap(address, size) == 0


@dataclass(frozen=True)
class Recording:
    """What a loop recorded over a memmap at MEMMAP, and the files for tests/cachegrind.c to do it again.

    ``accesses``: linear addresses, the stack where that program has it; ``kinds``: what each does.
    """

    accesses: npt.NDArray[np.uint64]
    kinds: npt.NDArray[np.str_]
    files: tuple[Path, Path, Path]
    run: int
    lookups: int


def record(
    scratch: Path, name: str, probe_name: str, pattern: str, order: int, footprint: int, lookups: int
) -> Recording:
    variant = core.built_in_variants()[name]
    probe = variant.probes[probe_name]
    ready = recorded.record({(name, probe_name): probe})
    run, sites = ready.runs[name, probe_name], ready.sites[name, probe_name]
    folio_map = FolioMap.uniform(order, footprint)
    rng = np.random.default_rng(1)
    pfns = patterns.draw(patterns.Pattern.parse(pattern), folio_map, footprint, lookups, rng)
    offsets = folio_map.offsets_of(pfns)
    files = scratch / "memmap", scratch / "offsets", scratch / "code"
    with mapped(MEMMAP, folio_map.bytes), mapped(OFFSETS, offsets.nbytes):
        core.populate(variant, MEMMAP, folio_map.folios)
        files[0].write_bytes(core.view(MEMMAP, folio_map.bytes).tobytes())
        there = core.view(OFFSETS, offsets.nbytes).view(np.uint32)
        there[:] = offsets
        files[1].write_bytes(offsets.tobytes())
        files[2].write_bytes(probe.code + RET)
        turns = 1 << order if probe.writes_tails else 1
        with core.Recorder(ready.loops, lookups * turns * (len(sites) + 1)) as recorder:
            records, _ = recorder.run(run, MEMMAP, there)
            records = records[records < np.uint64(BRANCH)].copy()
    addresses = records & traces.ADDRESS
    kinds = np.array([site.kind for site in sites])[(records >> np.uint64(48)).astype(np.int64)]
    # The last access is the return: where its stack is, the program's is as well.
    on_stack = addresses >= np.uint64(1 << 40)
    assert on_stack[-1]
    shift = STACK_TOP - 8 - int(addresses[-1])
    addresses = np.where(on_stack, addresses.astype(np.int64) + shift, addresses.astype(np.int64)).astype(
        np.uint64
    )
    return Recording(addresses, kinds, files, probe.run - probe.start, lookups)


def build(scratch: Path) -> Path:
    """tests/cachegrind.c, compiled."""
    program = scratch / "cachegrind"
    subprocess.run(["gcc", "-O1", "-o", program, HERE / "cachegrind.c"], check=True)
    return program


def cachegrind(program: Path, recording: Recording, l1: core.Cache, last: core.Cache) -> tuple[int, int]:
    """Misses of the first and the last level that the loop has under cachegrind."""
    with_loop = _misses(program, recording, recording.run, l1, last)
    # A lone ret, called in the same way.
    without = _misses(program, recording, recording.files[2].stat().st_size - 1, l1, last)
    return with_loop[0] - without[0], with_loop[1] - without[1]


def _misses(
    program: Path, recording: Recording, run: int, l1: core.Cache, last: core.Cache
) -> tuple[int, int]:
    def spelled(cache: core.Cache) -> str:
        return f"{cache.sets * cache.ways * 64},{cache.ways},64"

    flush = 2 * 64 * last.sets * last.ways
    output = recording.files[0].with_name("cachegrind.out")
    # Loads whose values nobody uses are dropped otherwise.
    tool = [
        "--tool=cachegrind",
        "--vex-iropt-level=0",
        "--cache-sim=yes",
        f"--D1={spelled(l1)}",
        f"--LL={spelled(last)}",
    ]
    done = subprocess.run(
        [
            "valgrind", *tool, f"--cachegrind-out-file={output}", program, *recording.files,
            f"{run:#010x}", f"{recording.lookups:#010x}", f"{flush:#012x}",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = output.read_text()
    events = re.search(r"^events: (.*)$", text, re.MULTILINE)[1].split()  # type: ignore[index]
    totals = dict(
        zip(events, map(int, re.search(r"^summary: (.*)$", text, re.MULTILINE)[1].split()), strict=True)
    )  # type: ignore[index]
    return totals["D1mr"] + totals["D1mw"], totals["DLmr"] + totals["DLmw"]


def simulated(recording: Recording, l1: core.Cache, last: core.Cache, simd: bool = True) -> tuple[int, int]:
    """Misses of the recording, from caches that hold what a call leaves there."""
    geometry = core.CacheGeometry((l1, last))
    call = np.array([STACK_TOP - 8], np.uint64)
    with core.CacheSim(geometry, simd) as caches:
        caches.run(call // np.uint64(64))
        before = caches.counts
        caches.run(recording.accesses // np.uint64(64))
        misses = (caches.counts - before).misses.sum(axis=1)
    return int(misses[0]), int(misses[1])


def lackey(program: Path, recording: Recording) -> list[tuple[str, int]]:
    """What valgrind's lackey sees of the loop and its return: kinds (L, S, M) and addresses, in order."""
    done = subprocess.run(
        [
            "valgrind", "--tool=lackey", "--vex-iropt-level=0", "--trace-mem=yes", program, *recording.files,
            f"{recording.run:#x}", str(recording.lookups), "0x10000",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    seen = [
        (kind, int(at, 16))
        for kind, at in re.findall(r"^ ([LSM]) ([0-9a-f]+),\d+$", done.stderr, re.MULTILINE)
    ]
    call = seen.index(("S", STACK_TOP - 8))
    end = next(i for i in range(call + 1, len(seen)) if seen[i][1] == FLUSH)
    return seen[call + 1 : end]


def as_lackey_sees(recording: Recording) -> list[tuple[str, int]]:
    """The recording as valgrind writes it down: an update is a load and a store of one place."""
    letters = {"load": ["L"], "store": ["S"], "update": ["L", "S"]}
    return [
        (letter, int(at))
        for kind, at in zip(recording.kinds.tolist(), recording.accesses.tolist(), strict=True)
        for letter in letters[kind]
    ]


def without_modifies(seen: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """M, a load and a store of one instruction, as two."""
    return [(letter, at) for kind, at in seen for letter in (["L", "S"] if kind == "M" else [kind])]
