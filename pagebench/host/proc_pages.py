"""The kernel's flags of every page, and which pages a process has mapped."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pagebench.errors import PagebenchError
from pagebench.host.files import ROOT, fields, size_bytes

KPAGEFLAGS = "proc/kpageflags"
WORD = 8  # bytes of an entry; reads of other multiples are refused: EINVAL
CHUNK = 1 << 20
# Of an entry of /proc/PID/pagemap: Documentation/admin-guide/mm/pagemap.rst.
PFN_MASK, PRESENT = np.uint64((1 << 55) - 1), np.uint64(63)
HUGETLB = ("Private_Hugetlb", "Shared_Hugetlb")

Words = npt.NDArray[np.uint64]


def _words(descriptor: int, first: int, count: int | None) -> Iterator[Words]:
    """Entries from number ``first`` on, in chunks, until the file ends or ``count`` were read."""
    while count is None or count > 0:
        size = CHUNK if count is None else min(CHUNK, count * WORD)
        data = os.pread(descriptor, size, first * WORD)
        words = np.frombuffer(data, np.uint64, len(data) // WORD)
        if not len(words):
            return
        yield words
        first += len(words)
        count = None if count is None else count - len(words)


def page_flags(first: int = 0, count: int | None = None, root: Path = ROOT) -> Iterator[Words]:
    """The entries of /proc/kpageflags from pfn ``first`` on, in chunks.

    Raises PagebenchError where they may not be read.
    """
    try:
        descriptor = os.open(root / KPAGEFLAGS, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield from _words(descriptor, first, count)
        finally:
            os.close(descriptor)
    except PermissionError as error:
        raise PagebenchError(
            f"/{KPAGEFLAGS}, which says of each page what it is, is for root alone: capture as root "
            "(`capture --summary` says what it can without)"
        ) from error
    except OSError as error:
        raise PagebenchError(f"cannot read /{KPAGEFLAGS}: {error.strerror}") from error


def _areas(process: Path) -> Iterator[tuple[int, int, int]]:
    """Mappings that have pages: the first page's number, the last's plus one, and how many are present."""
    text = (process / "smaps").read_text(errors="replace")
    for first, last, body in re.findall(
        r"^([0-9a-f]+)-([0-9a-f]+) .*\n((?:\w+:.*(?:\n|$))*)", text, re.MULTILINE
    ):
        sizes = {key: size_bytes(value) or 0 for key, value in fields(body).items()}
        present = sizes.get("Rss", 0) + sum(sizes.get(key, 0) for key in HUGETLB)  # Rss leaves hugetlb out
        if present:
            page = os.sysconf("SC_PAGESIZE")
            yield int(first, 16) // page, int(last, 16) // page, present // page


def _present(descriptor: int, first: int, last: int, pages: int) -> Iterator[npt.NDArray[np.int64]]:
    """The pfns of a mapping's pages; its end may be far behind the last of them."""
    for words in _words(descriptor, first, last - first):
        found = (words[(words >> PRESENT).astype(np.bool_)] & PFN_MASK).astype(np.int64)
        yield found
        pages -= len(found)
        if pages <= 0:
            return


def mapped_pfns(pid: int, root: Path = ROOT) -> npt.NDArray[np.int64]:
    """The pfns of the pages that a process has mapped, by virtual address; one mapped twice is there twice.

    Raises PagebenchError where there is no such process, or pfns are not shown: without CAP_SYS_ADMIN they
    read as 0, and it is no error.
    """
    process = root / "proc" / str(pid)
    try:
        descriptor = os.open(process / "pagemap", os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = [pfns for area in _areas(process) for pfns in _present(descriptor, *area)]
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise PagebenchError(f"there is no process {pid}") from None
    except OSError as error:
        raise PagebenchError(f"cannot read what process {pid} has mapped: {error.strerror}") from error
    pfns = np.concatenate(found) if found else np.zeros(0, np.int64)
    if not len(pfns):
        raise PagebenchError(f"process {pid} has nothing mapped: a kernel thread, or one that ended")
    if not pfns.any():
        raise PagebenchError(
            f"/proc/{pid}/pagemap hides pfns: every one reads 0 without CAP_SYS_ADMIN; capture as root"
        )
    return pfns


def own_frames(address: int, pages: int, root: Path = ROOT) -> npt.NDArray[np.int64]:
    """The pfns behind this process' pages from an address on, all of which are present.

    Raises PagebenchError where the kernel does not tell.
    """
    path = root / "proc/self/pagemap"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            words = np.concatenate([*_words(descriptor, address // os.sysconf("SC_PAGESIZE"), pages)])
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise PagebenchError(f"cannot read /proc/self/pagemap: {error}") from error
    frames = (words & PFN_MASK).astype(np.int64)
    # Without CAP_SYS_ADMIN there are no numbers, and no error.
    if len(frames) < pages or not frames.all():
        raise PagebenchError("the kernel tells no physical frames: --pagemap is for root alone")
    return frames
