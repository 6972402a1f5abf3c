"""The C core, with lifetimes and exceptions.

The only importer of the extension.  Addresses are plain integers: what may be
done with them is C's business, how long they live is this module's.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pagebench.closing import Closing
from pagebench.errors import PagebenchError

try:
    from pagebench._core import ffi as _ffi
    from pagebench._core import lib as _lib
except ImportError as _error:
    raise PagebenchError(
        "this copy of pagebench has no compiled core: install it with `pip install -e .` at its root, "
        f"or leave that directory ({_error})"
    ) from _error

ffi: Any = _ffi
lib: Any = _lib

Offsets = npt.NDArray[np.uint32]

# Offsets that probes take count units of this many bytes.
OFFSET_UNIT = 8

# struct pb_folio, struct pb_sample
FOLIO_DTYPE = np.dtype([("head", np.uint32), ("order", np.uint32), ("pages", np.uint32)])
# In an array of expected heads: the lookup is to return NULL.
NO_PAGE = np.uint32(lib.PB_NO_PAGE)
SAMPLE_DTYPE = np.dtype(
    [
        ("run", np.uint64),
        ("base", np.uint64),
        ("offsets", np.uint64),
        ("lead_in", np.uint32),
        ("lookups", np.uint32),
        ("ticks", np.uint64),
        ("last", np.uint64),
        ("switches", np.uint64),
    ]
)
assert SAMPLE_DTYPE.itemsize == ffi.sizeof("struct pb_sample")
assert FOLIO_DTYPE.itemsize == ffi.sizeof("struct pb_folio")


def _address(cdata: Any) -> int:
    return int(ffi.cast("uintptr_t", cdata))


def _text(cdata: Any) -> str:
    return str(ffi.string(cdata).decode())


def check(result: int, doing: str) -> None:
    """Turn a -errno into an OSError that says what was being done."""
    if result:
        raise OSError(-result, f"{doing}: {os.strerror(-result)}")


@dataclass(frozen=True, slots=True)
class Probe:
    """One timed loop of one variant.

    ``variant_code`` is where, in bytes from ``start``, the variant's own
    instructions begin and end (``(begin, end)``, the marks of variant.h).
    """

    name: str
    run: int
    start: int
    code: bytes
    variant_code: tuple[int, int]
    cdata: Any


@dataclass(frozen=True, slots=True)
class Variant:
    """A ``struct pb_variant``: a compound_head() with its probes."""

    name: str
    commit: str
    subject: str
    version: str
    struct_page_bytes: int
    mapcount_at: int
    refcount_at: int
    probes: Mapping[str, Probe]
    cdata: Any


def _probe(variant: Any, row: Any) -> Probe:
    start, end = _address(row.start), _address(row.end)
    marks: dict[int, int] = {}
    for i in range(variant.marks_end - variant.marks):
        mark = variant.marks[i]
        where = _address(variant.marks + i) + mark.where
        if start <= where <= end:
            if mark.kind in marks:
                raise PagebenchError(
                    f"the compiler duplicated the loop {_text(row.name)} of {_text(variant.name)}: "
                    "what is the variant's and what is the harness cannot be told apart"
                )
            marks[mark.kind] = where - start
    return Probe(
        name=_text(row.name),
        run=_address(row.run),
        start=start,
        code=bytes(ffi.buffer(row.start, end - start)),
        variant_code=(marks[0], marks[1]),
        cdata=ffi.addressof(row),
    )


def wrap_variant(cdata: Any) -> Variant:
    """A Variant over a ``const struct pb_variant *``, which has to outlive it."""
    probes = [_probe(cdata, cdata.probes[i]) for i in range(cdata.probe_count)]
    return Variant(
        name=_text(cdata.name),
        commit=_text(cdata.commit),
        subject=_text(cdata.subject),
        version=_text(cdata.version),
        struct_page_bytes=cdata.struct_page_bytes,
        mapcount_at=cdata.mapcount_at,
        refcount_at=cdata.refcount_at,
        probes={probe.name: probe for probe in probes},
        cdata=cdata,
    )


@cache
def built_in_variants(struct_page_bytes: int = 64) -> Mapping[str, Variant]:
    """The variants of the core over struct pages of that size, by name."""
    table = ffi.new("const struct pb_variant *const **")
    count = lib.pb_variants(table)
    found = [
        wrap_variant(table[0][i]) for i in range(count) if table[0][i].struct_page_bytes == struct_page_bytes
    ]
    return {variant.name: variant for variant in sorted(found, key=lambda v: v.name)}


def built_in_struct_pages() -> list[int]:
    """The sizes of struct pages, in bytes, that there are built-in variants for."""
    table = ffi.new("const struct pb_variant *const **")
    return sorted({int(table[0][i].struct_page_bytes) for i in range(lib.pb_variants(table))})


def layout() -> list[tuple[str, int]]:
    """How structs of variants are laid out in this core: C expressions with their values."""
    rows = []
    for struct in ("struct pb_variant", "struct pb_probe", "struct pb_mark"):
        rows.append((f"sizeof({struct})", int(ffi.sizeof(struct))))
        rows += [(f"offsetof({struct}, {name})", field.offset) for name, field in ffi.typeof(struct).fields]
    return rows


@cache
def _load(path: Path) -> ctypes.CDLL:
    """A shared object that pagebench.compiled made, loaded until the process ends.  Raises PagebenchError."""
    try:
        loaded = ctypes.CDLL(str(path), mode=os.RTLD_NOW | os.RTLD_LOCAL)
    except OSError as error:
        raise PagebenchError(f"cannot load variants: {error}") from error
    try:
        found = _text(_pointer_to(loaded, "pb_layout", "char *"))
    except ValueError:
        raise PagebenchError(f"{path} holds no variants: compile them with pagebench") from None
    if found != repr(layout()):
        raise PagebenchError(f"{path} was compiled for another build of pagebench: compile it again")
    return loaded


def _pointer_to(loaded: ctypes.CDLL, symbol: str, ctype: str) -> Any:
    """A symbol's address.  Raises ValueError where there is none."""
    return ffi.cast(ctype, ctypes.addressof(ctypes.c_char.in_dll(loaded, symbol)))


def load_variants(path: Path) -> dict[str, Variant]:
    """The variants of a shared object that :mod:`pagebench.compiled` made, by name.

    It stays loaded, out of sight of every other one, until the process ends.  Raises PagebenchError for a
    file that cannot be loaded or is none of pagebench's.
    """
    loaded = _load(path.resolve())
    table = ffi.new("const struct pb_variant *const **")
    count = _pointer_to(loaded, "pb_variants", "size_t (*)(const struct pb_variant *const **)")(table)
    found = [wrap_variant(table[0][i]) for i in range(count)]
    return {variant.name: variant for variant in sorted(found, key=lambda v: v.name)}


def _say(symbol: str, path: Path | None) -> str:
    if path is None:
        return _text(getattr(lib, symbol)())
    return _text(_pointer_to(_load(path.resolve()), symbol, "const char *(*)(void)")())


def compiler(path: Path | None = None) -> str:
    """The compiler that the core, or a shared object of variants, was built with."""
    return _say("pb_compiler", path)


def variant_cflags(path: Path | None = None) -> str:
    """The flags that the variants of the core, or of a shared object, were compiled with."""
    return _say("pb_variant_cflags", path)


def built_commit() -> str:
    """The commit that the core was built from; empty outside a checkout."""
    return _text(lib.pb_built_commit())


class Reservation(Closing):
    """Aligned memory, faulted in, for memmaps; a context manager.

    ``bytes`` are mapped from ``backing`` ("2m" or "4k") as far as the machine
    goes along: :func:`pagebench.machine.backing_obtained` reads back what came.
    Raises OSError when it cannot be had.
    """

    def __init__(self, size: int, alignment: int, backing: str) -> None:
        pages = {"4k": lib.PB_BACKING_4K, "2m": lib.PB_BACKING_2M}[backing]
        ret = ffi.new("void **")
        check(lib.pb_reserve(size, alignment, pages, ret), f"reserving {size} bytes aligned to {alignment}")
        self._base: Any = ret[0]
        self.base = _address(ret[0])
        self.size = size
        self.backing = backing

    def bytes_at(self, offset: int, size: int) -> bytes:
        """A copy of ``size`` bytes at ``offset``."""
        if not 0 <= offset <= offset + size <= self.size:
            raise IndexError(f"{size} bytes at {offset} are outside the {self.size} bytes reserved")
        return bytes(ffi.buffer(self._base + offset, size))

    def close(self) -> None:
        """Give the memory back.  A second call does nothing."""
        if self._base is not None:
            lib.pb_unreserve(self._base)
            self._base = None


def array(ctype: str, values: npt.NDArray[Any]) -> Any:
    """An array as C takes it, for as long as it lives."""
    return ffi.from_buffer(ctype, values)


def _pointer(address: int) -> Any:
    return ffi.cast("void *", address)


def populate(variant: Variant, base: int, folios: npt.NDArray[Any]) -> None:
    """Write the memmap of ``folios`` (FOLIO_DTYPE) at ``base``, whole struct pages."""
    lib.pb_memmap_populate(variant.cdata, _pointer(base), array("struct pb_folio[]", folios), len(folios))


def write_tails(variant: Variant, at: int, head: int, order: int, count: int, whole: bool) -> None:
    """Write ``count`` tails of the folio whose head is at ``head``, wherever they stand.

    ``whole`` struct pages, or only what ``set_compound_head()`` writes.
    """
    lib.pb_memmap_tails(variant.cdata, _pointer(at), _pointer(head), order, count, whole)


def encode(variant: Variant, base: int, folios: npt.NDArray[Any]) -> None:
    """Write only what ``set_compound_head()`` writes."""
    lib.pb_memmap_encode(variant.cdata, _pointer(base), array("struct pb_folio[]", folios), len(folios))


class FrameMapping(Closing):
    """A memmap mapped page by page from frames of a memfd; a context manager.

    Page i of 4 KiB is frame ``frames[i]`` (uint32), writable or read-only:
    frames that stand there twice are aliases.  Raises OSError.
    """

    def __init__(
        self, frames: npt.NDArray[np.uint32], writable: npt.NDArray[np.bool_], alignment: int
    ) -> None:
        self.size = len(frames) * 4096
        self._all_bytes = (int(frames.max()) + 1) * 4096
        self._fd: int | None = None
        self._mapped: list[tuple[Any, int]] = []
        fd, base = ffi.new("int32_t *"), ffi.new("void **")
        try:
            check(lib.pb_frames_create(self._all_bytes, fd), f"a memfd of {self._all_bytes} bytes")
            self._fd = fd[0]
            check(lib.pb_map_reserve(self.size, alignment, base), f"reserving {self.size} bytes")
            self._mapped.append((base[0], self.size))
            self.base = _address(base[0])
            flags = array("uint8_t[]", writable.astype(np.uint8))
            check(
                lib.pb_map_frames(base[0], fd[0], array("uint32_t[]", frames), flags, len(frames)),
                "mapping the frames of a memmap (sysctl vm.max_map_count limits how many mappings)",
            )
            check(lib.pb_map_all(fd[0], self._all_bytes, base), "mapping the frames of a memmap")
            self._mapped.append((base[0], self._all_bytes))
            self.all_frames = _address(base[0])
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Unmap everything.  A second call does nothing."""
        for base, size in self._mapped:
            lib.pb_unmap(base, size)
        self._mapped = []
        if self._fd is not None:
            lib.pb_frames_destroy(self._fd)
            self._fd = None


def try_write(at: int) -> None:
    """Write back the byte at an address.  Raises OSError (EFAULT) where it is read-only."""
    check(lib.pb_try_write(_pointer(at)), "writing to a struct page that is mapped read-only")


def view(at: int, size: int) -> npt.NDArray[np.uint8]:
    """The ``size`` bytes at an address as an array, for as long as they live."""
    return np.frombuffer(ffi.buffer(_pointer(at), size), np.uint8)


@dataclass(frozen=True, slots=True)
class Verification:
    """How many lookups went wrong; the first one's index, and its result.

    ``got`` is the result's distance from the base in bytes.
    """

    wrong: int
    first: int
    got: int


def verify(run: int, base: int, offsets: Offsets, heads: Offsets) -> Verification:
    """Look every page up through the loop at ``run``, one at a time.

    ``offsets`` and ``heads`` have one entry a lookup, in units of 8 bytes.
    """
    ret = ffi.new("struct pb_verification *")
    lib.pb_memmap_verify(
        ffi.cast("pb_probe_fn *", run),
        _pointer(base),
        array("uint32_t[]", offsets),
        array("uint32_t[]", heads),
        len(offsets),
        ret,
    )
    return Verification(ret.wrong, ret.first, ret.got)


class CodeArena(Closing):
    """Executable memory for copies of probes; a context manager.

    ``place`` is asked, for a probe and the bytes already used, at which byte
    the next copy starts.  Raises OSError where a mapping may not be made
    executable.
    """

    def __init__(self, size: int) -> None:
        ret = ffi.new("void **")
        check(lib.pb_code_reserve(size, ret), f"reserving {size} bytes for code")
        self._code: Any = ret[0]
        self.size = size
        self.base = _address(ret[0])

    def copy(self, probe: Probe, offset: int) -> int:
        """Copy a probe to ``offset`` and return the address of its function."""
        if not 0 <= offset <= self.size - len(probe.code):
            raise IndexError(
                f"{len(probe.code)} bytes of code at {offset} are outside the arena's {self.size}"
            )
        lib.pb_code_copy(self._code + offset, probe.cdata)
        return self.base + offset + probe.run - probe.start

    def seal(self) -> None:
        """Make the arena executable, and read-only from then on."""
        check(lib.pb_code_seal(self._code, self.size), "making copies of the timed loops executable")

    def holds(self, probe: Probe, run: int) -> bool:
        """Whether the copy whose function is at ``run`` is the probe's code, byte by byte."""
        offset = run - (probe.run - probe.start) - self.base
        return bytes(ffi.buffer(self._code + offset, len(probe.code))) == probe.code

    def close(self) -> None:
        """Unmap.  A second call does nothing."""
        if self._code is not None:
            lib.pb_code_unreserve(self._code, self.size)
            self._code = None


class Clock:
    """The machine's cheapest trustworthy clock, calibrated by spinning.

    ``kind`` is "counter" (the TSC, where invariant, or CNTVCT) or "gettime"
    (CLOCK_MONOTONIC_RAW); the best there is by default.
    """

    KINDS = ("counter", "gettime")

    def __init__(self, calibrate_ns: int = 100_000_000, kind: str | None = None) -> None:
        self.cdata = ffi.new("struct pb_clock *")
        number = lib.pb_clock_best() if kind is None else self.KINDS.index(kind)
        check(lib.pb_clock_init(number, calibrate_ns, self.cdata), "calibrating the clock")
        self.kind = self.KINDS[number]
        self.ticks_per_ns: float = self.cdata.ticks_per_ns
        self.granularity_ns: float = self.cdata.granularity_ns
        self.cost_ns: float = self.cdata.cost_ticks / self.ticks_per_ns


# The address of a probe that takes one core cycle per "lookup".
CORE_CYCLES: int = _address(ffi.addressof(lib, "pb_core_cycles"))


def run_samples(clock: Clock, samples: npt.NDArray[Any]) -> None:
    """Run a schedule (SAMPLE_DTYPE) and write ticks, last results and context switches into it.

    Every address in it has to be alive.  Raises OSError for a batch of no lookups.
    """
    check(
        lib.pb_sampler_run(clock.cdata, array("struct pb_sample[]", samples), len(samples)),
        "a batch without lookups",
    )


def pin(cpu: int) -> None:
    """Keep this thread on one CPU.  Raises OSError where that is not allowed."""
    check(lib.pb_pin(cpu), f"pinning to CPU {cpu}")
