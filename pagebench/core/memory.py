"""Memory for memmaps: reserved or mapped, written and verified through a variant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pagebench.core.closing import Closing
from pagebench.core.extension import address, array, check, ffi, lib, pointer
from pagebench.core.variant import Variant

Offsets = npt.NDArray[np.uint32]

# Offsets that probes take count units of this many bytes.
OFFSET_UNIT = 8

# struct pb_folio
FOLIO_DTYPE = np.dtype([("head", np.uint32), ("order", np.uint32), ("pages", np.uint32)])
assert FOLIO_DTYPE.itemsize == ffi.sizeof("struct pb_folio")
# In an array of expected heads: the lookup is to return NULL.
NO_PAGE = np.uint32(lib.PB_NO_PAGE)


class Reservation(Closing):
    """Aligned memory, faulted in, for memmaps; a context manager.

    ``bytes`` are mapped from ``backing`` ("2m" or "4k") as far as the machine
    goes along: :func:`pagebench.host.resources.backing_obtained` reads back what came.
    Raises OSError when it cannot be had.
    """

    def __init__(self, size: int, alignment: int, backing: str) -> None:
        pages = {"4k": lib.PB_BACKING_4K, "2m": lib.PB_BACKING_2M}[backing]
        ret = ffi.new("void **")
        check(lib.pb_reserve(size, alignment, pages, ret), f"reserving {size} bytes aligned to {alignment}")
        self._base: Any = ret[0]
        self.base = address(ret[0])
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


def populate(variant: Variant, base: int, folios: npt.NDArray[Any]) -> None:
    """Write the memmap of ``folios`` (FOLIO_DTYPE) at ``base``, whole struct pages."""
    lib.pb_memmap_populate(variant.cdata, pointer(base), array("struct pb_folio[]", folios), len(folios))


def write_tails(variant: Variant, at: int, head: int, order: int, count: int, whole: bool) -> None:
    """Write ``count`` tails of the folio whose head is at ``head``, wherever they stand.

    ``whole`` struct pages, or only what ``set_compound_head()`` writes.
    """
    lib.pb_memmap_tails(variant.cdata, pointer(at), pointer(head), order, count, whole)


def encode(variant: Variant, base: int, folios: npt.NDArray[Any]) -> None:
    """Write only what ``set_compound_head()`` writes."""
    lib.pb_memmap_encode(variant.cdata, pointer(base), array("struct pb_folio[]", folios), len(folios))


def flush(base: int, size: int) -> None:
    """Have the lines of ``size`` bytes at ``base`` out of every cache, as if nobody had used them."""
    lib.pb_memmap_flush(pointer(base), size)


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
            self.base = address(base[0])
            flags = array("uint8_t[]", writable.astype(np.uint8))
            check(
                lib.pb_map_frames(base[0], fd[0], array("uint32_t[]", frames), flags, len(frames)),
                "mapping the frames of a memmap (sysctl vm.max_map_count limits how many mappings)",
            )
            check(lib.pb_map_all(fd[0], self._all_bytes, base), "mapping the frames of a memmap")
            self._mapped.append((base[0], self._all_bytes))
            self.all_frames = address(base[0])
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


def view(at: int, size: int) -> npt.NDArray[np.uint8]:
    """The ``size`` bytes at an address as an array, for as long as they live."""
    return np.frombuffer(ffi.buffer(pointer(at), size), np.uint8)


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
        pointer(base),
        array("uint32_t[]", offsets),
        array("uint32_t[]", heads),
        len(offsets),
        ret,
    )
    return Verification(ret.wrong, ret.first, ret.got)
