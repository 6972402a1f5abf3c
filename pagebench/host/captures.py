"""Captures of a machine's folios: the only reader and writer of their files.

Text that diffs: a header, then a run of equal folios a line, by pfn; then, of a process, which pages it has
mapped.  Neither addresses nor contents of memory are in it.
"""

from __future__ import annotations

import errno
import gzip
import os
import platform
import re
import stat
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from pagebench.errors import PagebenchError
from pagebench.names import FOLIO_KINDS, MAX_FOLIO_ORDER, MAX_PFNS, PAGE_SIZE
from pagebench.units import format_size

MAGIC, VERSION = "pagebench-folios", 1
KINDS = tuple(FOLIO_KINDS)
# Kinds of which there is no struct page to look up.
ABSENT = ("offline", "nopage")
# As core.RUN_DTYPE, which this room does not know.
RUN_DTYPE = np.dtype([("kind", np.uint32), ("order", np.uint32), ("count", np.uint64)])
STRETCH_DTYPE = np.dtype([("folio", np.int64), ("page", np.int64), ("count", np.int64)])
# What a file may unpack to.
MAX_TEXT_BYTES = 1 << 30

_HEADER = re.compile(
    rf"{MAGIC} {VERSION} (?P<architecture>\w+) page (?P<page_bytes>\d{{1,9}})"
    r" struct-page (?P<struct_page_bytes>\d{1,4}) first (?P<first>\d{1,18}) pfns (?P<pfns>\d{1,18})"
    r" pools (?P<pools>-|\d{1,2}:(?:\d{1,18}|\?)(?:,\d{1,2}:(?:\d{1,18}|\?))*) hvo (?P<hvo>on|off|unknown)"
    r" fake-heads (?P<fake_heads>\d{1,18}) unsure (?P<unsure>\d{1,18}) torn (?P<torn>\d{1,18})"
    r"(?: process (?P<mapped>\d{1,18}) outside (?P<outside>\d{1,18}))?"
)
_RUN = re.compile(rf"({'|'.join(KINDS)}) (0|[1-9]\d?) ([1-9]\d{{0,17}})")
_STRETCH = re.compile(r"at (0|[1-9]\d{0,17}) (0|[1-9]\d{0,17}) ([1-9]\d{0,17})")


@dataclass(frozen=True)
class Mapped:
    """What a process has mapped, by virtual address: stretches of pages that ascend by pfn.

    ``stretches`` (STRETCH_DTYPE): the first page's folio, by its number in the capture, the page's number in
    the folio, and how many pages.  ``outside``: pages mapped that are in no folio of the capture.
    """

    stretches: npt.NDArray[np.void]
    outside: int

    @property
    def pages(self) -> int:
        """How many pages, those mapped twice counted twice."""
        return int(self.stretches["count"].sum())


@dataclass(frozen=True)
class Capture:
    """Folios from pfn ``first`` on, without a gap: ``runs`` (RUN_DTYPE, ``kind`` an index into KINDS).

    ``pools``: huge pages by order, as the kernel counts them, None where it does not say.  ``hvo``: whether
    the switch was on.  ``fake_heads``: pages that looked like heads and are none, one for each page of the
    memmap that HVO gave back.  ``unsure``: folios that may be parts of larger ones, as fake heads of either
    look the same.  ``torn``: pages of folios that changed meanwhile.
    """

    architecture: str
    first: int
    runs: npt.NDArray[np.void] = field(repr=False)
    pools: Mapping[int, int | None] = field(default_factory=dict)
    hvo: str = "unknown"
    fake_heads: int = 0
    unsure: int = 0
    torn: int = 0
    process: Mapped | None = None
    page_bytes: int = PAGE_SIZE
    struct_page_bytes: int = 64

    @cached_property
    def run_pages(self) -> npt.NDArray[np.int64]:
        """Pages of each run."""
        return np.asarray(self.runs["count"].astype(np.int64) << self.runs["order"].astype(np.int64))

    @cached_property
    def run_pfns(self) -> npt.NDArray[np.int64]:
        """The first pfn of each run."""
        return np.asarray(self.first + np.cumsum(self.run_pages) - self.run_pages)

    @cached_property
    def run_folios(self) -> npt.NDArray[np.int64]:
        """The number of each run's first folio."""
        counts = self.runs["count"].astype(np.int64)
        return np.asarray(np.cumsum(counts) - counts)

    @property
    def pfns(self) -> int:
        """How many pfns there are."""
        return int(self.run_pages.sum())

    def is_kind(self, *kinds: str) -> npt.NDArray[np.bool_]:
        """Which runs are of these kinds."""
        return np.isin(self.runs["kind"], [KINDS.index(kind) for kind in kinds])

    def mapped(self, pfns: npt.NDArray[np.int64]) -> Mapped:
        """These pages, in this order, by their folios."""
        inside = (pfns >= self.first) & (pfns < self.first + self.pfns)
        inside[inside] = ~self.is_kind(*ABSENT)[self._run_of(pfns[inside])]
        pages = pfns[inside]
        starts = np.flatnonzero(np.diff(pages, prepend=-2) != 1)
        stretches = np.zeros(len(starts), STRETCH_DTYPE)
        run = self._run_of(pages[starts])
        order, within = self.runs["order"][run].astype(np.int64), pages[starts] - self.run_pfns[run]
        stretches["folio"] = self.run_folios[run] + (within >> order)
        stretches["page"] = within & ((1 << order) - 1)
        stretches["count"] = np.diff(starts, append=len(pages))
        return Mapped(stretches, int(np.count_nonzero(~inside)))

    def mapped_pfns(self) -> npt.NDArray[np.int64]:
        """The pfns that the process has mapped, by virtual address.  Raises PagebenchError without one."""
        if self.process is None:
            raise PagebenchError("the capture has no process in it: make one with `capture --pid PID`")
        stretches = self.process.stretches
        run = np.searchsorted(self.run_folios, stretches["folio"], side="right") - 1
        order = self.runs["order"][run].astype(np.int64)
        within = (stretches["folio"] - self.run_folios[run] << order) + stretches["page"]
        counts = stretches["count"]
        begins = np.cumsum(counts) - counts
        return np.asarray(
            np.repeat(self.run_pfns[run] + within - begins, counts) + np.arange(int(counts.sum()))
        )

    def _run_of(self, pfns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return np.asarray(np.searchsorted(self.run_pfns, pfns, side="right") - 1)


def joined(runs: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Runs with those joined that are alike and neighbours."""
    if not len(runs):
        return runs
    new = np.ones(len(runs), np.bool_)
    new[1:] = (runs["kind"][1:] != runs["kind"][:-1]) | (runs["order"][1:] != runs["order"][:-1])
    begins = np.flatnonzero(new)
    merged = runs[begins].copy()
    merged["count"] = np.add.reduceat(runs["count"], begins)
    return merged


def _lines(capture: Capture) -> Iterator[str]:
    pools = ",".join(
        f"{order}:{'?' if count is None else count}" for order, count in sorted(capture.pools.items())
    )
    process = capture.process
    yield (
        f"{MAGIC} {VERSION} {capture.architecture} page {capture.page_bytes} "
        f"struct-page {capture.struct_page_bytes} first {capture.first} pfns {capture.pfns} "
        f"pools {pools or '-'} hvo {capture.hvo} fake-heads {capture.fake_heads} "
        f"unsure {capture.unsure} torn {capture.torn}"
        + (f" process {process.pages} outside {process.outside}" if process else "")
    )
    for kind, order, count in capture.runs.tolist():
        yield f"{KINDS[kind]} {order} {count}"
    if process:
        for folio, page, count in process.stretches.tolist():
            yield f"at {folio} {page} {count}"


def write(capture: Capture, path: Path) -> int:
    """A new file, for its owner alone, compressed where it is called ``.gz``; how many bytes it has.

    Raises PagebenchError where there is one, or none can be.
    """
    data = "".join(f"{line}\n" for line in _lines(capture)).encode()
    if path.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise PagebenchError(f"{path} exists: name another file with -o") from None
    except OSError as error:
        raise PagebenchError(f"cannot write {path}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except BaseException as error:  # an interrupt, too, leaves no half of a file
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise PagebenchError(f"cannot write {path}: {error.strerror}") from error
        raise
    return len(data)


def check_new(path: Path) -> None:
    """Before the work: whether write() would refuse.  Raises PagebenchError."""
    if os.path.lexists(path):
        raise PagebenchError(f"{path} exists: name another file with -o")
    if not path.parent.is_dir():
        raise PagebenchError(f"{path.parent} is not a directory: name another file with -o")


def _open(path: Path) -> IO[bytes]:
    # A FIFO without a writer would keep us waiting.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        raise PagebenchError(f"{path} is no regular file: name a capture")
    return os.fdopen(descriptor, "rb")


def _text(path: Path) -> str:
    try:
        with _open(path) as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            stream: IO[bytes] = gzip.GzipFile(fileobj=file) if packed else file  # type: ignore[assignment]
            data = stream.read(len(MAGIC))
            if not MAGIC.encode().startswith(data):
                raise PagebenchError(f"{path} is no capture of folios: it does not begin with {MAGIC}")
            data += stream.read(MAX_TEXT_BYTES)
    except OSError as error:  # gzip.BadGzipFile too
        raise PagebenchError(f"cannot read {path}: {error.strerror or error}") from error
    except (EOFError, zlib.error) as error:
        raise PagebenchError(f"{path} is damaged or was cut off: {error}") from error
    if len(data) > MAX_TEXT_BYTES:
        raise PagebenchError(
            f"{path} unpacks to more than {format_size(MAX_TEXT_BYTES)}: no capture is so large"
        )
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise PagebenchError(f"{path} is damaged: it is not all ASCII") from None


def _header(path: Path, line: str) -> dict[str, str | None]:
    version = re.match(rf"{MAGIC} (\d{{1,9}}) ", line)
    if version and int(version[1]) != VERSION:
        raise PagebenchError(f"{path} has version {version[1]}, this pagebench reads {VERSION}")
    match = _HEADER.fullmatch(line)
    if not match:
        raise PagebenchError(f"{path}: line 1 is damaged: it is no header of version {VERSION}")
    return match.groupdict()


def _check_machine(path: Path, architecture: str, page_bytes: int, struct_page_bytes: int) -> None:
    if architecture != platform.machine():
        raise PagebenchError(
            f"{path} is of {architecture}, and this machine is {platform.machine()}: read it on one alike"
        )
    if page_bytes != PAGE_SIZE:
        raise PagebenchError(
            f"{path} is of {format_size(page_bytes)} pages: memmaps here are of {format_size(PAGE_SIZE)} ones"
        )
    if not 0 < struct_page_bytes <= PAGE_SIZE or struct_page_bytes % 8:
        raise PagebenchError(f"{path}: line 1 is damaged: no struct page has {struct_page_bytes} bytes")


def _pools(path: Path, text: str) -> dict[int, int | None]:
    pairs = [word.split(":") for word in text.split(",")] if text != "-" else []
    pools = {int(order): None if count == "?" else int(count) for order, count in pairs}
    if len(pools) < len(pairs) or any(order > MAX_FOLIO_ORDER for order in pools):
        raise PagebenchError(f"{path}: line 1 is damaged: there are no such pools: {text}")
    return pools


def _runs(path: Path, lines: list[str], first: int, pfns: int) -> tuple[npt.NDArray[np.void], int]:
    """The runs, and how many lines they are."""
    runs: list[tuple[int, int, int]] = []
    at, end = first, first + pfns
    for number, line in enumerate(lines, 2):
        if at == end:
            break
        match = _RUN.fullmatch(line)
        if not match:
            raise PagebenchError(f"{path}: line {number} is damaged: it is no run of folios")
        order, count = int(match[2]), int(match[3])
        if order > MAX_FOLIO_ORDER:
            raise PagebenchError(f"{path}: line {number}: orders go from 0 to {MAX_FOLIO_ORDER}")
        if at & ((1 << order) - 1):
            raise PagebenchError(f"{path}: line {number}: a folio of order {order} cannot begin at pfn {at}")
        if count << order > end - at:
            raise PagebenchError(f"{path}: line {number}: more pfns than the {pfns} of the header")
        runs.append((KINDS.index(match[1]), order, count))
        at += count << order
    if at < end:
        raise PagebenchError(f"{path} was cut off: it has {at - first} of {pfns} pfns")
    return np.array(runs, RUN_DTYPE), len(runs)


def _mapped(path: Path, lines: list[str], number: int, capture: Capture, pages: int, outside: int) -> Mapped:
    stretches, left = list[tuple[int, int, int]](), pages
    folios = int(capture.runs["count"].sum())
    for line in lines:
        match = _STRETCH.fullmatch(line)
        if not match:
            raise PagebenchError(f"{path}: line {number} is damaged: it is no stretch of mapped pages")
        stretch = int(match[1]), int(match[2]), int(match[3])
        left -= stretch[2]
        if stretch[0] >= folios or left < 0:
            raise PagebenchError(
                f"{path}: line {number}: more than the {folios} folios or {pages} mapped pages"
            )
        stretches.append(stretch)
        number += 1
    if left:
        raise PagebenchError(f"{path} was cut off: it has {pages - left} of {pages} mapped pages")
    mapped = Mapped(np.array(stretches, STRETCH_DTYPE), outside)
    if stretches:
        run = np.searchsorted(capture.run_folios, mapped.stretches["folio"], side="right") - 1
        order = capture.runs["order"][run].astype(np.int64)
        begin = capture.run_pfns[run] + (mapped.stretches["folio"] - capture.run_folios[run] << order)
        beyond = begin + mapped.stretches["page"] + mapped.stretches["count"] > capture.first + capture.pfns
        if np.any(beyond | (mapped.stretches["page"] >> order > 0)):
            raise PagebenchError(f"{path}: a page is mapped that is in no folio")
    return mapped


def read(path: Path) -> Capture:
    """A capture, checked: counts add up, folios are aligned.  Raises PagebenchError for all others."""
    lines = _text(path).split("\n")
    whole = lines.pop() == ""
    if not lines or (len(lines) == 1 and not whole):
        raise PagebenchError(f"{path} was cut off in its header: nothing can be read from it")
    head = _header(path, lines[0])
    number = {name: int(text) for name, text in head.items() if text is not None and text.isdecimal()}
    _check_machine(path, str(head["architecture"]), number["page_bytes"], number["struct_page_bytes"])
    first, pfns = number["first"], number["pfns"]
    if not pfns or first + pfns > MAX_PFNS:
        raise PagebenchError(f"{path}: line 1: no machine has {pfns} pfns from {first} on")
    if not whole:
        raise PagebenchError(f"{path} was cut off in line {len(lines) + 1}")
    runs, taken = _runs(path, lines[1:], first, pfns)
    rest = lines[1 + taken :]
    capture = Capture(
        architecture=str(head["architecture"]),
        first=first,
        runs=runs,
        pools=_pools(path, str(head["pools"])),
        hvo=str(head["hvo"]),
        fake_heads=number["fake_heads"],
        unsure=number["unsure"],
        torn=number["torn"],
        page_bytes=number["page_bytes"],
        struct_page_bytes=number["struct_page_bytes"],
    )
    if "mapped" not in number:
        if rest:
            raise PagebenchError(f"{path}: line {taken + 2}: more than the {pfns} pfns of the header")
        return capture
    return replace(
        capture, process=_mapped(path, rest, taken + 2, capture, number["mapped"], number["outside"])
    )


def with_process(capture: Capture, pfns: npt.NDArray[np.int64]) -> Capture:
    """The capture, and what a process has mapped of it: pfns by virtual address."""
    return replace(capture, process=capture.mapped(pfns))
